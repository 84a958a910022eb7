import { expect, test } from "bun:test";
import { readEtcdData } from "../../../shared/etcd-data/data.ts";
import {
  keepLostNode,
  type NodeObject,
  putBackCommands,
  putManifest,
} from "../../../shared/static-pods/lost-nodes.ts";
import { clusterObjects, healthyCp, write } from "../../pretend/cluster.ts";
import { fakeMirror } from "../../pretend/hostile-pods.ts";
import { M2, withM2 } from "../../pretend/lost-cp.ts";
import { CLUSTER_ID, MEMBER } from "../../pretend/node.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { writeEtcdData } from "../../pretend/write-wal.ts";

const LINE = /^kubectl --kubeconfig \/etc\/kubernetes\/admin\.conf (.*)$/;
const FOLDER = "/root/lost-nodes/m2";
const lines = (was: NodeObject, is?: NodeObject) =>
  putBackCommands({ name: "m2", object: was, folder: FOLDER }, is);
const commands = (was: NodeObject, is?: NodeObject) => lines(was, is).map((line) => LINE.exec(line)![1]!);
const node = (
  labels: Record<string, string>,
  taints: { key: string; value?: string; effect: string }[] = [],
): NodeObject => ({
  metadata: { labels },
  spec: { taints },
});

test("a Node that is as it was needs no command; what the kubelet and the node's health write counts for nothing", () => {
  const now = structuredClone(M2);
  now.metadata.labels["kubernetes.io/hostname"] = "another";
  now.metadata.annotations["node.alpha.kubernetes.io/ttl"] = "15";
  now.spec.taints.pop();
  expect(commands(M2, now)).toEqual([]);
});

test("what kubeadm gives and the old Node did not have is taken away", () => {
  expect(commands(node({}))).toEqual([
    "label --overwrite node m2 node-role.kubernetes.io/control-plane- node.kubernetes.io/exclude-from-external-load-balancers-",
    "taint --overwrite node m2 node-role.kubernetes.io/control-plane:NoSchedule-",
  ]);
});

test("another value of a label or a taint is set back, not added", () => {
  const taint = { key: "storage", effect: "NoSchedule" };
  const [was, is] = [
    node({ disk: "nvme" }, [{ ...taint, value: "only" }]),
    node({ disk: "hdd" }, [{ ...taint, value: "too" }]),
  ];
  expect(commands(was, is)).toEqual([
    "label --overwrite node m2 disk=nvme",
    "taint --overwrite node m2 storage=only:NoSchedule",
  ]);
});

test("what an annotation says stands in a file, and in no command", () => {
  using box = sandbox();
  const object = {
    metadata: { annotations: { "example.org/a": "a; rm -rf '/' $(id)", "example.org/a_b": "s3cret" } },
  };
  for (const name of ["example.org_a", "example.org_a__b"])
    write(`${box.dir}${FOLDER}/annotation-${name}.json`, "{}");
  expect(commands(object, { metadata: { labels: {} } })).toEqual([
    `patch --type merge --patch-file ${FOLDER}/annotation-example.org_a.json node m2`,
    `patch --type merge --patch-file ${FOLDER}/annotation-example.org_a__b.json node m2`,
  ]);
});

test("a static pod that was taken away before its node was lost is not kept: its lines would bring it back", async () => {
  const objects = clusterObjects((await healthyCp()).ca.cert);
  withM2(objects);
  const balancer = fakeMirror("kube-system", "kube-vip", { node: "m2", suffix: "m2" });
  const puts = Object.entries({ ...objects, ...balancer }).map(([key, object]): [string, string] => [
    `/registry/${key}`,
    JSON.stringify(object),
  ]);
  const kept = (...deleted: string[]) => {
    using box = sandbox();
    const gone = deleted.map((key): [string, undefined] => [`/registry/${key}`, undefined]);
    writeEtcdData(box.dir, { clusterId: CLUSTER_ID, members: [MEMBER], puts: [...puts, ...gone] });
    const rescue = { dir: "/root/kube-pki-repair-20260101T000000", made: new Date("2026-01-01") };
    return keepLostNode("m2", { data: readEtcdData(box.dir), rescue })!.pods.map(({ name }) => name);
  };
  const servers = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
  expect(kept().sort()).toEqual([...servers, "kube-vip"]);
  expect(kept(...Object.keys(balancer)).sort()).toEqual(servers);
});

test("a manifest with another address has it in its place alone: no other one that begins or ends like it", () => {
  using box = sandbox();
  const file = `${box.dir}/etcd.yaml`;
  const printed = (old: string, now: string, text: string) => {
    write(file, text);
    const node = { kubelet: { staticPodPath: "/m" } } as Parameters<typeof putManifest>[2]["node"];
    const [edit] = putManifest(file, "m2", { node }, new Map([[old, now]])).split(" | ssh");
    return Bun.spawnSync(["sh", "-c", edit!]).stdout.toString();
  };
  expect(
    printed("10.0.0.1", "10.0.9.1", "a=https://10.0.0.1:2380,b=https://110.0.0.1:2380,10.0.0.11\n"),
  ).toBe("a=https://10.0.9.1:2380,b=https://110.0.0.1:2380,10.0.0.11\n");
  const six = (own: string) =>
    `- --a=${own}\n- --b=m1=https://[fd00::1:2]:2380,m2=https://[${own}]:2380,m3=https://[2001:fd00::1]:2380\n`;
  expect(printed("fd00::1", "fd00::9", six("fd00::1"))).toBe(six("fd00::9"));
  expect(printed("fd00::a", "fd00::9", six("FD00::A"))).toBe(six("fd00::9"));
});
