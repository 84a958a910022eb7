/**
 * The wrapper modules in which the lab's programs are compiled, and what the lab needs of the machine:
 * without compiling anything.
 */
import { expect, test } from "bun:test";
import { libraryLines, memoryFor, replaceLines } from "../machine/go-build.ts";
import { type Disk, type Machine, refuseMachine } from "../machine/preflight.ts";

test("a wrapper module repeats the replace lines of the module, but those that lead to a folder", () => {
  const goMod = `module x
replace (
	example.com/api => ./api
	example.com/old => example.com/new v1.2.0
	example.com/b v1.0.0 => example.com/b v1.0.1
)
replace k8s.io/api => ./staging/src/k8s.io/api
`;
  expect(replaceLines(goMod, {})).toEqual([]);
  expect(replaceLines(goMod, { stagingVersion: "v0.34.4" })).toEqual([
    "replace k8s.io/api => k8s.io/api v0.34.4",
  ]);
  expect(replaceLines(goMod, { replaces: { "example.com/api": "v0.9.0" } })).toEqual([
    "replace example.com/old => example.com/new v1.2.0",
    "replace example.com/b v1.0.0 => example.com/b v1.0.1",
    "replace example.com/api => example.com/api v0.9.0",
  ]);
});

test("a program is compiled with the libraries of Kubernetes, but for those that it keeps", () => {
  const goMod = `module k8s.io/kubernetes
go 1.24.0
godebug default=go1.24
require (
	google.golang.org/grpc v1.72.1
	go.etcd.io/etcd/api/v3 v3.6.4 // indirect
	go.etcd.io/bbolt v1.4.2
	k8s.io/api v0.0.0
	k8s.io/utils v0.0.0-20250604170112-4c0f3b243397
)
require example.com/one v1.0.0
replace k8s.io/api => ./staging/src/k8s.io/api
`;
  expect(libraryLines(goMod, "v0.34.4", ["go.etcd.io/etcd"])).toEqual([
    "replace google.golang.org/grpc => google.golang.org/grpc v1.72.1",
    "replace go.etcd.io/bbolt => go.etcd.io/bbolt v1.4.2",
    "replace k8s.io/api => k8s.io/api v0.34.4",
    "replace k8s.io/utils => k8s.io/utils v0.0.0-20250604170112-4c0f3b243397",
    "replace example.com/one => example.com/one v1.0.0",
  ]);
});

test("the compilers take more memory only where there is some", () => {
  expect(memoryFor(4e9)).toEqual({});
  expect(memoryFor(16e9)).toEqual({ GOGC: "400" });
});

const disk = (free: number): Disk => ({ folder: "/cache", free, first: 9, later: 3 });
const READY: Machine = { isRoot: true, refusal: "", isBuilt: false, goMinor: 21, disks: [disk(100)] };
const LACKS: [string, Partial<Machine>, RegExp | undefined][] = [
  ["all is there", {}, undefined],
  ["no root", { isRoot: false, goMinor: undefined, disks: [disk(0)] }, /needs root/],
  ["root in a plain container", { refusal: "unshare: Operation not permitted" }, /refuses root: unshare/],
  ["no Go, nothing built", { goMinor: undefined }, /go is missing/],
  ["the Go of Debian 12", { goMinor: 19 }, /go 1\.19 is too old/],
  ["no Go, but programs", { goMinor: undefined, isBuilt: true }, undefined],
  ["little room for the first run", { disks: [disk(5)] }, /needs 9 GB, and "\/cache" has 5.0 GB free/],
  ["little room on the second disk", { disks: [disk(9), disk(8)] }, /has 8.0 GB free/],
  ["room enough for a later run", { disks: [disk(5)], isBuilt: true }, undefined],
];

test.each(LACKS)("before anything is fetched: %s", (_, machine, says) => {
  const look = () => refuseMachine({ ...READY, ...machine });
  if (says) expect(look).toThrow(says);
  else expect(look).not.toThrow();
});
