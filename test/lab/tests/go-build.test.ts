/**
 * The wrapper modules in which the lab's programs are compiled, and what the lab needs of the machine:
 * without compiling anything.
 */
import { expect, test } from "bun:test";
import { libraryLines, replaceLines } from "../machine/go-build.ts";
import { type Machine, refuseMachine } from "../machine/preflight.ts";

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

const READY: Machine = { isRoot: true, isBuilt: false, hasGo: true, free: 100 };
const LACKS: [string, Partial<Machine>, RegExp | undefined][] = [
  ["all is there", {}, undefined],
  ["no root", { isRoot: false, hasGo: false, free: 0 }, /needs root/],
  ["no Go, nothing built", { hasGo: false }, /go is missing/],
  ["no Go, but programs", { hasGo: false, isBuilt: true }, undefined],
  ["little room for the first run", { free: 5 }, /needs 9 GB, and ".+" has 5.0 GB free/],
  ["room enough for a later run", { free: 5, isBuilt: true }, undefined],
];

test.each(LACKS)("before anything is fetched: %s", (_, machine, says) => {
  const look = () => refuseMachine({ ...READY, ...machine });
  if (says) expect(look).toThrow(says);
  else expect(look).not.toThrow();
});
