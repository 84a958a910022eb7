/** What is left for people: objects and files that name an old address, whatever their format. */
import { expect, test } from "bun:test";
import { mkdirSync, symlinkSync } from "node:fs";
import { namedInData, namedInFiles, sayStillNamed } from "../../../shared/moved/tell-cluster.ts";
import { write } from "../../pretend/cluster.ts";
import { pretendData } from "../../pretend/control-plane-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const MOVED = new Map([
  ["10.66.0.1", "10.66.1.1"],
  ["fd00::66", "fd00::67"],
  ["api.old.example", "api.example"],
]);

/** As the API server stores it: a string behind its length. */
const inProtobuf = (text: string) =>
  Buffer.from(`k8s\0\x0a${String.fromCharCode(text.length)}${text}\x1a\0`, "latin1");

test("objects that name one, in text and in protobuf, IPv6 in any form; none of those that are rewritten anyway", async () => {
  const data = await pretendData((objects) => {
    Object.assign(objects, {
      "configmaps/shop/a": { data: { url: "https://10.66.0.1:8443/x" } },
      "configmaps/shop/longer": { data: { url: "https://10.66.0.11:8443" } },
      "configmaps/shop/six": { data: { url: "tcp://[FD00:0:0:0:0:0:0:66]:80" } },
      "configmaps/shop/two": { data: { a: "10.66.0.1", b: "API.old.example:6443" } },
      "validatingwebhookconfigurations/guard": inProtobuf("10.66.0.1"),
      "leases/kube-system/x": { spec: { holderIdentity: "10.66.0.1" } },
      "endpointslices/default/kubernetes": { endpoints: [{ addresses: ["10.66.0.1"] }] },
    });
  });
  expect(namedInData(data, MOVED)).toEqual([
    { where: "configmaps/shop/a", addresses: ["10.66.0.1"] },
    { where: "configmaps/shop/six", addresses: ["fd00::66"] },
    { where: "configmaps/shop/two", addresses: ["10.66.0.1", "api.old.example"] },
    { where: "validatingwebhookconfigurations/guard", addresses: ["10.66.0.1"] },
  ]);
});

test("files of the node and of its people; what kubeadm keeps of before is left out, links are not followed", () => {
  using box = sandbox();
  const put = (path: string, text: string) => write(`${box.dir}${path}`, text);
  put("/etc/haproxy/haproxy.cfg", "server cp1 10.66.0.1:6443 check\n");
  put("/home/ann/.kube/config", "server: https://api.old.example:6443\n");
  put("/root/.kube/config", "server: https://api.example:6443\n");
  put("/etc/kubernetes/tmp/kubeadm-backup-1/etcd.yaml", "10.66.0.1\n");
  symlinkSync("/etc/haproxy/haproxy.cfg", `${box.dir}/etc/linked.cfg`);
  expect(namedInFiles(MOVED)).toEqual([
    { where: "/etc/haproxy/haproxy.cfg", addresses: ["10.66.0.1"] },
    { where: "/home/ann/.kube/config", addresses: ["api.old.example"] },
  ]);
});

test("a home of which not all is seen ends nothing: it is named, and so is what is seen of it", () => {
  using box = sandbox();
  write(`${box.dir}/home/ann/.kube/config`, "10.66.0.1");
  mkdirSync(`${box.dir}/home/ann/.kube/1/2/3/4/5`, { recursive: true });
  const say = () => sayStillNamed(namedInFiles(MOVED), "no file names one", "on this node");
  say();
  write(`${box.dir}/home/ann/.kube/config`, "10.66.0.2");
  say();
  const unseen = "not seen, or not all of it: /home/ann/.kube (more than 5 folders below each other)";
  expect(box.said).toEqual([
    "for whoever made them: is it meant? on this node: /home/ann/.kube/config (10.66.0.1)",
    unseen,
    "no file names one",
    unseen,
  ]);
});

test("an endpoint that was put in: whoever still goes to the one machine", async () => {
  const server = "https://10.66.0.1:6443";
  const data = await pretendData((objects) => {
    objects["configmaps/shop/ci"] = { data: { url: `${server}/api` } };
    objects["configmaps/shop/other"] = { data: { url: "https://10.66.0.1:64430" } };
  });
  expect(namedInData(data, new Map([[server, "https://api.example:6443"]]))).toEqual([
    { where: "configmaps/shop/ci", addresses: [server] },
  ]);
});
