/** What some static pod reads of kubeadm's files, and by which CAs the API server knows clients. */
import { expect, test } from "bun:test";
import { casOfApiServer, otherCas, unreadCertRows } from "../../../shared/facts/read-by-pods.ts";
import { writeFile } from "../../../shared/files/files.ts";
import { manifestText } from "../../../shared/manifests/on-disk.ts";
import type { Manifest } from "../../../shared/objects/objects.ts";
import { healthyCp, manifest, mirrorPod, type Objects, otherCa } from "../../pretend/cluster.ts";
import { NODE, pretendData } from "../../pretend/control-plane-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const FRONT_PROXY = ["front-proxy-client", "front-proxy-ca"];
const M1 = { nodes: [{ name: "m1", controlPlane: true }] };
const SERVERS = ["kube-apiserver", "kube-controller-manager"];

function without<T extends Manifest>(pod: T, flags = /^--(requestheader-|proxy-client-)/): T {
  const [container] = pod.spec.containers;
  container!.command = container!.command!.filter((word) => !flags.test(word));
  return pod;
}

const off = (objects: Objects) => {
  for (const name of SERVERS) objects[`pods/kube-system/${name}-m1`] = without(mirrorPod(name));
};

const clientCertAlone = (objects: Objects) => {
  off(objects);
  objects["pods/kube-system/kube-apiserver-m1"] = without(mirrorPod("kube-apiserver"), /^--requestheader-/);
};

const lost = (objects: Objects) => {
  for (const name of SERVERS) delete objects[`pods/kube-system/${name}-m1`];
};

const managerLost = (objects: Objects) => {
  off(objects);
  delete objects["pods/kube-system/kube-controller-manager-m1"];
};

const readByAnother = (objects: Objects) => {
  off(objects);
  const exporter = structuredClone(mirrorPod("kube-scheduler")) as Manifest;
  exporter.metadata.name = "exporter-m1";
  exporter.spec.containers[0]!.command!.push("--ca=/etc/kubernetes/pki/front-proxy-ca.crt");
  objects["pods/kube-system/exporter-m1"] = exporter;
};

test.each<[string, (objects: Objects) => void, readonly string[]]>([
  ["kubeadm's own pods", () => undefined, []],
  ["no aggregation layer", off, FRONT_PROXY],
  ["the API server's client certificate for it alone, whose CA signs it", clientCertAlone, []],
  ["no mirror pods, and no manifests: kubeadm's defaults count", lost, []],
  ["a controller-manager that nobody knows any more", managerLost, []],
  ["another static pod that reads the CA", readByAnother, ["front-proxy-client"]],
])("with %s", async (_, change, unread) => {
  using _box = sandbox();
  expect(unreadCertRows(await pretendData(change), M1)).toEqual(unread);
});

test("the manifests on disk count beside the mirror pods, and alone where etcd's data is elsewhere", async () => {
  using _box = sandbox();
  const put = (name: string, pod: Manifest) =>
    writeFile(`/etc/kubernetes/manifests/${name}.yaml`, manifestText(pod));
  for (const name of SERVERS) put(name, without(manifest(name)));
  expect(unreadCertRows(undefined, undefined, NODE)).toEqual(FRONT_PROXY);
  expect(unreadCertRows(await pretendData(), M1, NODE)).toEqual([]);
  put("kube-apiserver", manifest("kube-apiserver"));
  expect(unreadCertRows(await pretendData(off), M1, NODE)).toEqual([]);
});

test("one control plane node with an aggregation layer is enough: the CA is shared", async () => {
  using _box = sandbox();
  const data = await pretendData((objects) => {
    off(objects);
    const pod = mirrorPod("kube-apiserver");
    pod.metadata.name = "kube-apiserver-m2";
    pod.spec.nodeName = "m2";
    objects["pods/kube-system/kube-apiserver-m2"] = pod;
  });
  const m2 = { name: "m2", controlPlane: true };
  expect(unreadCertRows(data, M1)).toEqual(FRONT_PROXY);
  expect(unreadCertRows(data, { nodes: [...M1.nodes, m2] })).toEqual([]);
});

test("clients' CAs are those of the API server's file, without the cluster's own of before", async () => {
  using _box = sandbox();
  const [{ ca }, kubelets] = [await healthyCp(), await otherCa("kubelet-ca")];
  const file = "/etc/kubernetes/pki/clients.crt";
  const data = await pretendData((objects) => {
    const pod = without(mirrorPod("kube-apiserver"), /^--client-ca-file=/);
    pod.spec.containers[0]!.command!.push(`--client-ca-file=${file}`);
    objects["pods/kube-system/kube-apiserver-m1"] = pod;
  });
  expect(casOfApiServer(NODE, "clients", data)).toBe("");
  writeFile(file, ca.cert + kubelets.cert);
  const before = { data, oldCaPem: ca.cert };
  expect(otherCas(NODE, "clients", before).trim()).toBe(kubelets.cert.trim());
  expect(otherCas(NODE, "kubelets", before)).toBe("");
});
