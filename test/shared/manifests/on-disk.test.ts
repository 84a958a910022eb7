/** Malformed manifests on disk: each is refused by name or ignored, and none stops a script. */
import { expect, test } from "bun:test";
import { writeFile } from "../../../shared/files/files.ts";
import { manifestPath, readManifest, secondManifests } from "../../../shared/manifests/on-disk.ts";
import { NODE } from "../../pretend/control-plane-node.ts";
import { KUBESPRAY_KUBELET } from "../../pretend/etcd-as-unit.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const BOMB = `a: &a [x, x, x, x, x, x, x, x, x]\n${["b a", "c b", "d c", "e d", "f e", "g f"]
  .map((pair) => {
    const [to, from] = pair.split(" ");
    return `${to}: &${to} [${Array(9).fill(`*${from}`).join(", ")}]`;
  })
  .join("\n")}\n`;

test.each([
  ["volumes that are a map", "spec: {volumes: {a: b}}", "spec.volumes is no list"],
  ["volumes without a name", "spec: {volumes: [{}]}", "spec.volumes[0].name is missing"],
  [
    "a command that is text",
    "spec: {containers: [{command: kube-apiserver}]}",
    "spec.containers[0].command is no list",
  ],
  [
    "numbers among the arguments",
    "spec: {containers: [{command: [kube-apiserver, 5]}]}",
    "spec.containers[0].command[1] is no string",
  ],
  ["a list", "- a", "it is no map"],
  ["one word", "garbage", "it is no map"],
  ["annotations that are text", "metadata: {annotations: constructor}", "metadata.annotations is no map"],
  [
    "a number among the annotations",
    "metadata: {annotations: {a: b, c: 1}}",
    "metadata.annotations is no map of strings",
  ],
  ["aliases without end", BOMB, "The aliases stand for more than 10000 values"],
  ["lists in lists without end", "[".repeat(2_000_000), "More than 100 levels of lists"],
  ["lists in lists on a line", "- ".repeat(100_000), "More than 100 levels of lists"],
  ["items behind a key", `a: ${"- ".repeat(1000)}`, "Unexpected block-seq-ind on same line with key"],
  ["keys in keys", "? ".repeat(40), "A key is a list or a mapping"],
])("a manifest on disk stops nothing: %s", (_, text, why) => {
  using _box = sandbox();
  const path = "/etc/kubernetes/manifests/kube-apiserver.yaml";
  writeFile(path, text);
  expect(() => readManifest(path)).toThrow(`"${path}" is no manifest: ${why}`);
  expect(secondManifests({ node: NODE }, "kube-scheduler")).toEqual([]);
});

test("null in a manifest counts as missing, and __proto__ and constructor are names like others", () => {
  using _box = sandbox();
  const path = "/etc/kubernetes/manifests/kube-vip.yaml";
  writeFile(
    path,
    "metadata: {name: kube-vip, annotations: {__proto__: x, constructor: z}}\nspec: {containers: null, volumes: null}\n",
  );
  const read = readManifest(path)!;
  expect([read.spec.containers, read.spec.volumes]).toEqual([[], undefined]);
  expect(Object.keys(read.metadata.annotations!)).toEqual(["__proto__", "constructor"]);
  writeFile(path, "status: {}\n");
  expect(readManifest(path)).toMatchObject({ metadata: { name: "" }, spec: { containers: [] } });
});

test.each([
  ["kube-vip", "kube-vip.yml"],
  ["nginx-proxy", "nginx-proxy.yml"],
  ["haproxy", "haproxy.yml"],
  ["keepalived", "keepalived.yaml"],
  ["kube-apiserver", "kube-apiserver.yaml"],
])("the lost manifest of %s is called %s on a node of kubespray's, and NAME.yaml elsewhere", (name, file) => {
  using _box = sandbox();
  const at = () => manifestPath({ node: NODE }, name).split("/").at(-1);
  expect(at()).toBe(`${name}.yaml`);
  writeFile("/etc/systemd/system/kubelet.service", KUBESPRAY_KUBELET);
  expect(at()).toBe(file);
  // what is there stays where it is
  writeFile(`/etc/kubernetes/manifests/${name}.yaml`, `metadata: {name: ${name}}\n`);
  expect(at()).toBe(`${name}.yaml`);
});
