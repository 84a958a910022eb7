/** Part 4 is named as next under a CA that had expired, until etcd's data proves that no pod of its is left. */
import { expect, test } from "bun:test";
import { trustSeen } from "../../../shared/facts/sa-key.ts";
import { healthyCp, type Objects, write } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { olderOf } from "../../pretend/renewed.ts";
import { oldPod } from "../../pretend/running.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const { root, ca } = await healthyCp();
const ended = await olderOf(root, "ca", -1);
const PKI = "/etc/kubernetes/pki";
const MADE = "2026-01-01T00:00:00Z";
const [PUBLISHED, LATER] = ["2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"];

const map = (namespace: string, text = ca.cert) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: {
    ...{ name: "kube-root-ca.crt", namespace, creationTimestamp: MADE },
    managedFields: [{ time: PUBLISHED, fieldsV1: { "f:data": {} } }],
  },
  data: { "ca.crt": text },
});

function pod(
  namespace: string,
  name: string,
  started: string,
  more: { owner?: string; secret?: string } = {},
) {
  const { metadata, spec, status } = oldPod(name, { kind: more.owner ?? "ReplicaSet", name });
  const volumes = more.secret ? [{ name: "token", secret: { secretName: more.secret } }] : spec.volumes;
  return {
    ...{ apiVersion: "v1", kind: "Pod" },
    metadata: { ...metadata, namespace, creationTimestamp: started },
    spec: { ...spec, volumes, containers: [] },
    status: { ...status, containerStatuses: [{ state: { running: { startedAt: started } } }] },
  };
}

/** Etcd's data has kube-root-ca.crt of kube-system and shop as it is today; `dataFrom`: where it was read. */
async function caEnded(objects: Objects, { aside = ended, dataFrom = "/var/lib/etcd" } = {}) {
  using box = sandbox();
  write(`${box.dir}${PKI}/ca.crt`, ca.cert);
  write(`${box.dir}${PKI}/ca.key`, ca.key);
  write(`${box.dir}/root/kube-pki-repair-20260101T000000/aside${PKI}/ca.crt`, aside);
  const data = await pretendData((all) => {
    for (const key of Object.keys(all)) if (/^pods\/(?!kube-system)/.test(key)) delete all[key];
    for (const namespace of ["kube-system", "shop"])
      all[`configmaps/${namespace}/kube-root-ca.crt`] = map(namespace);
    Object.assign(all, objects);
  });
  return trustSeen({ ...controlPlaneOf(data), dataFrom }).caEnded;
}

const SHOP = "pods/shop/till";

const tokenSecret = (day: string) => ({
  apiVersion: "v1",
  kind: "Secret",
  type: "kubernetes.io/service-account-token",
  metadata: {
    ...{ name: "till", namespace: "shop", creationTimestamp: MADE },
    managedFields: [{ time: `${day}T00:00:00Z`, fieldsV1: { "f:data": {} } }],
  },
  data: { "ca.crt": Buffer.from(ca.cert).toString("base64") },
});

test("no pod of before is left: part 4 is done, whatever lies in a rescue folder", async () => {
  expect(await caEnded({ [SHOP]: pod("shop", "till", LATER) })).toBe(false);
  expect(await caEnded({ [SHOP]: pod("shop", "till", MADE) }, { aside: ca.cert })).toBe(false);
  const withToken = { [SHOP]: pod("shop", "till", LATER, { secret: "till" }) };
  expect(await caEnded({ ...withToken, "secrets/shop/till": tokenSecret("2026-11-01") })).toBe(false);
});

test.each<[string, Objects]>([
  ["a pod of before", { [SHOP]: pod("shop", "till", MADE) }],
  [
    "a namespace that has the expired one still",
    { [SHOP]: pod("shop", "till", LATER), "configmaps/shop/kube-root-ca.crt": map("shop", ended) },
  ],
  [
    "a pod that has started before its token's CA was written",
    {
      [SHOP]: pod("shop", "till", LATER, { secret: "till" }),
      "secrets/shop/till": tokenSecret("2026-11-03"),
    },
  ],
  ["a pod that cannot be read", { [SHOP]: "k8s:enc:secretbox:v1:key1:sealed" }],
  [
    "a pod whose Secret cannot be read",
    {
      [SHOP]: pod("shop", "till", LATER, { secret: "till" }),
      "secrets/shop/till": "k8s:enc:secretbox:v1:key1:sealed",
    },
  ],
])("%s: it is open", async (_, objects) => {
  expect(await caEnded(objects)).toBe(true);
});

test("a Job's pod of before is not part 4's, nor one of a Node that is gone", async () => {
  const job = pod("shop", "till", MADE);
  job.metadata.ownerReferences = [
    { apiVersion: "batch/v1", kind: "Job", name: "till", uid: "1", controller: true },
  ];
  expect(await caEnded({ [SHOP]: job })).toBe(false);
  const lost = pod("shop", "till", MADE);
  lost.spec.nodeName = "w9";
  expect(await caEnded({ [SHOP]: lost })).toBe(false);
});

test("a copy of etcd's data from before proves nothing", async () => {
  expect(
    await caEnded(
      { [SHOP]: pod("shop", "till", LATER) },
      { dataFrom: "/root/kube-pki-repair-20260101T000000/etcd" },
    ),
  ).toBe(true);
});
