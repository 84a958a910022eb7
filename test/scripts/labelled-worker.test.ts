/**
 * Wrong hands: root on a worker, with the network plugin's token. He has given his Node the label of a
 * control plane node, and his kubelet has made a mirror pod of an API server in kube-system. etcd knows no
 * member of him.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { readCluster } from "../../shared/facts/cluster.ts";
import { originOf } from "../../shared/hand-over/place-keys.ts";
import { manifestFromPeer } from "../../shared/static-pods/wanted-manifests.ts";
import { identitiesOf, nameObjection } from "../../shared/workers/identities.ts";
import { mirrorPod, type Objects } from "../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../pretend/control-plane-node.ts";
import { dns, ip } from "../pretend/csrs.ts";
import { MEMBER, pretendNode } from "../pretend/node.ts";
import { pasted, plan, reachable } from "../pretend/plan.ts";
import { sandbox } from "../pretend/sandbox.ts";
import { expectRefusal } from "../pretend/wrong-hands.ts";

setDefaultTimeout(300_000);

const SERVICE_IP = "10.97.0.1";

function his(objects: Objects) {
  Object.assign((objects["minions/w1"] as { metadata: object }).metadata, {
    labels: { "node-role.kubernetes.io/control-plane": "" },
  });
  const pod = mirrorPod("kube-apiserver");
  const annotations = {
    ...pod.metadata.annotations,
    "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": `${SERVICE_IP}:6443`,
  };
  const containers = pod.spec.containers.map((container) => ({ ...container, image: "his/image" }));
  objects["pods/kube-system/kube-apiserver-w1"] = {
    ...pod,
    metadata: { ...pod.metadata, name: "kube-apiserver-w1", annotations },
    spec: { ...pod.spec, nodeName: "w1", containers },
  };
}

const HIS = {
  etcd(objects: Objects) {
    reachable(objects);
    his(objects);
  },
  members: [MEMBER],
};

test("the plan stops for the operator's word: it would carry keys", async () => {
  using node = await pretendNode(HIS);
  const what = /^w1: by the label of the Node a control plane node, and etcd knows no member of it$/;
  const ways = /A worker: \.\/bunw scripts\/plan\.ts --worker w1\. .*: \.\/bunw scripts\/plan\.ts --lost w1$/;
  await expectRefusal(node, "plan", what, ways, 3);
});

test("with that word it is a worker: no key is carried to it, and part 1 and 2 are not typed there", async () => {
  const { stdout } = await plan({ ...HIS, args: "--worker w1" });
  const lines = pasted(stdout).filter((line) => line.includes("10.77.0.21"));
  expect(lines.length).toBeGreaterThan(0);
  expect(lines.filter((line) => /hand-over|shared-keys|passphrase|01-etcd|02-control/.test(line))).toEqual(
    [],
  );
});

test("00-assess names it, and counts it among the workers", async () => {
  using node = await pretendNode({ ...HIS, kind: "healthy control plane node" });
  const { stdout } = await node.run("00-assess --all");
  expect(stdout).toMatch(
    /^ {2}w1 +note +its label says that it is a control plane node, and etcd knows no member of it/m,
  );
  expect(stdout).toContain("1 control plane (m1), 2 workers");
});

test("nothing of it is believed: no address of a Service, no manifest, no place among those that keys are for", async () => {
  const data = await pretendData(
    (objects) => {
      his(objects);
      delete objects["pods/kube-system/kube-apiserver-m1"];
    },
    [MEMBER],
  );
  using _box = sandbox();
  const cluster = readCluster(data);
  const nodesByName = identitiesOf({ cluster, data });
  for (const san of [ip(SERVICE_IP), dns("kubernetes.default.svc"), dns("kubernetes")])
    expect(nameObjection(san, "w1", nodesByName)).toContain("belongs to a Service");
  expect(nodesByName.proved.get("w1")).toEqual([]);
  const whole = await pretendData(his, [MEMBER]);
  expect(manifestFromPeer("kube-apiserver", { ...controlPlaneOf(whole), data, cluster })).toBeUndefined();
  expect(
    originOf({ cluster, certificatesDir: "/etc/kubernetes/pki", asideDir: "/root" })?.controlPlanes,
  ).toEqual(["m1"]);
});
