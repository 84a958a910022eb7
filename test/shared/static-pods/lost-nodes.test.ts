import { expect, test } from "bun:test";
import { type NodeObject, putBackCommands } from "../../../shared/static-pods/lost-nodes.ts";
import { M2 } from "../../pretend/lost-cp.ts";

const LINE = /^kubectl --kubeconfig \/etc\/kubernetes\/admin\.conf (.*)$/;
const commands = (was: NodeObject, is?: NodeObject) => putBackCommands("m2", was, is).map((line) => LINE.exec(line)![1]!);
const node = (labels: Record<string, string>, taints: { key: string; value?: string; effect: string }[] = []): NodeObject => ({
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
  const [was, is] = [node({ disk: "nvme" }, [{ ...taint, value: "only" }]), node({ disk: "hdd" }, [{ ...taint, value: "too" }])];
  expect(commands(was, is)).toEqual(["label --overwrite node m2 disk=nvme", "taint --overwrite node m2 storage=only:NoSchedule"]);
});

test("an annotation is one word for a shell, whatever somebody wrote into it", () => {
  const was = { metadata: { labels: {}, annotations: { note: "a; rm -rf '/' $(id) `id`" } } };
  const [line] = putBackCommands("m2", was, { metadata: { labels: {} } });
  const words = Bun.spawnSync(["bash", "-c", `kubectl() { printf '%s\\n' "\${@: -1}"; }; ${line}`]).stdout.toString();
  expect(words).toBe("note=a; rm -rf '/' $(id) `id`\n");
});
