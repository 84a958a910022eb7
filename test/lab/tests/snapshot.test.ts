import { expect, test } from "bun:test";
import { compare, flatten, type Snapshot } from "../report/snapshot.ts";

const snapshot = (
  change: Partial<Snapshot["nodes"][string]> = {},
  more: Partial<Snapshot> = {},
): Snapshot => ({
  nodes: {
    cp1: {
      files: ["admin.conf", "audit.yaml"],
      others: { "audit.yaml": "cc" },
      kubelet: { "config.yaml": "aa" },
      manifests: {},
      apiServerNames: ["DNS:x"],
      ...change,
    },
  },
  kubernetes: "v1",
  nodeUids: { cp1: "1" },
  configMaps: { "a/b": "1" },
  secrets: { "a/s": "1", "a/t": "1" },
  ...more,
});

test("compare() finds nothing between equals", () => {
  expect(Object.values(compare(snapshot(), snapshot())).flat()).toEqual([]);
});

test("compare() names what was lost and what was changed", () => {
  const manifests = { "manifests/etcd.yaml": ["--a=1", "--b=2"] };
  const changed = { files: ["admin.conf"], kubelet: { "config.yaml": "bb" }, apiServerNames: [] };
  const after = snapshot(
    { ...changed, manifests: { "manifests/etcd.yaml": ["--a=1"] } },
    { secrets: { "a/s": "2" }, nodeUids: { cp1: "2" } },
  );
  expect(compare(snapshot({ manifests }), after)).toEqual({
    secretsLost: ["a/s", "a/t"],
    configMapsChanged: [],
    filesNotRestored: ["cp1: /etc/kubernetes/audit.yaml"],
    kubeletFilesChanged: ["cp1: config.yaml"],
    manifestsChanged: ["cp1: manifests/etcd.yaml lost --b=2"],
    namesLost: ["cp1: DNS:x"],
    uidsChanged: ["cp1"],
  });
});

test("compare() names a changed file as changed, not as lost", () => {
  const after = snapshot({ others: { "audit.yaml": "a stand-in" } });
  expect(compare(snapshot(), after).filesNotRestored).toEqual(["cp1: /etc/kubernetes/audit.yaml (changed)"]);
});

test("flatten() does not care for order, nulls and empty values", () => {
  const one = {
    metadata: { creationTimestamp: null },
    spec: { containers: [{ name: "a", command: ["k", "--x=1", "--y=2"] }] },
    status: {},
  };
  const two = { spec: { containers: [{ command: ["k", "--y=2", "--x=1"], name: "a" }] } };
  expect(flatten(one)).toEqual(flatten(two as never));
  expect(flatten(two)).toContain(".spec.containers[a].command[--x]=--x=1");
});
