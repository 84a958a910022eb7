import { expect, test } from "bun:test";
import { manifestDifferences } from "../../../shared/manifests/differences.ts";
import type { Manifest } from "../../../shared/manifests/from-mirror-pod.ts";
import { reduced } from "../../../shared/manifests/reduced-controllers.ts";
import { manifest } from "../../pretend/cluster.ts";

function edited(name: string, edit: (pod: Manifest) => void): Manifest {
  const pod = manifest(name);
  edit(pod);
  return pod;
}

const API = manifest("kube-apiserver");

test.each<[string, (pod: Manifest) => void, string[]]>([
  ["a flag", ({ spec }) => spec.containers[0]!.command!.push("--event-ttl=2h"), ["---event-ttl=2h"]],
  ["a variable", ({ spec }) => spec.containers[0]!.env!.push({ name: "TZ", value: "UTC" }), ["-env[TZ].value=UTC"]],
  ["a volume", ({ spec }) => spec.volumes!.push({ name: "x", hostPath: { path: "/x" } }), ["-volumes[x].hostPath.path=/x"]],
  ["a label", ({ metadata }) => Object.assign(metadata.labels!, { team: "a" }), ["-labels.team=a"]],
  ["the order of the flags", ({ spec }) => spec.containers[0]!.command!.reverse(), []],
])("a hand edit that is gone is named, whatever it was: %s", (_, edit, differences) => {
  expect(manifestDifferences(API, edited("kube-apiserver", edit))).toEqual(differences);
});

test("what a repair changes for a time, and etcd's first members, are no differences", () => {
  const manager = manifest("kube-controller-manager");
  expect(manifestDifferences(reduced(manager, "v1.34.4"), manager)).toEqual([]);
  const first = edited("etcd", ({ spec }) =>
    spec.containers[0]!.command!.push("--initial-cluster-state=existing", "--initial-cluster=m1=x,m2=y"),
  );
  expect(manifestDifferences(first, manifest("etcd"))).toEqual([]);
});
