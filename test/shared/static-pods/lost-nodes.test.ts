import { expect, test } from "bun:test";
import { type NodeObject, putBackCommands } from "../../../shared/static-pods/lost-nodes.ts";
import { write } from "../../pretend/cluster.ts";
import { M2 } from "../../pretend/lost-cp.ts";
import { sandbox } from "../../pretend/sandbox.ts";

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

test("of a folder that an earlier kit has made, the line shows it", () => {
  using _box = sandbox();
  expect(lines({ metadata: { annotations: { a: "s3cret" } } }, { metadata: {} })).toEqual([
    `cat ${FOLDER}/node.json`,
  ]);
});
