/** Pods that have read a CA's certificate from before it was renewed: by when kube-root-ca.crt got today's. */
import { expect, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { found } from "../../../shared/checks/check.ts";
import { certInfo } from "../../../shared/pki/certificate.ts";
import { renewCa } from "../../../shared/pki/renew.ts";
import { olderInPods, podsWithOlderCa } from "../../../shared/renew/pods-with-older-ca.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";
import { healthyCp, write } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { knewCa } from "../../pretend/running.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const { ca } = await healthyCp();
const renewed = renewCa(ca.cert, ca.key, { hours: 87_600, signed: [] });
const { publicKeyHash: hash, notAfter: end } = certInfo(renewed);
const TODAY = { hash, end, olderEnd: certInfo(ca.cert).notAfter };

/** kube-root-ca.crt was written at its namespace's beginning, and again when the CA was renewed. */
const [MADE, RENEWED] = ["2026-01-01T00:00:00Z", "2026-10-01T12:00:00Z"];
const map = (text: string, ...times: string[]) => ({
  metadata: {
    creationTimestamp: MADE,
    managedFields: times.map((time) => ({ time, fieldsV1: { "f:data": {} } })),
  },
  data: { "ca.crt": text },
});

function pod(created: string, started = created, volume: object = {}) {
  const usual = { projected: { sources: [{ serviceAccountToken: {} }] } };
  return {
    metadata: { creationTimestamp: created },
    spec: { nodeName: "w1", volumes: [{ name: "a", ...usual, ...volume }] },
    status: { phase: "Running", containerStatuses: [{ state: { running: { startedAt: started } } }] },
  };
}

async function oldOf(objects: Record<string, object>) {
  using server = pretendApi({ objects });
  return await podsWithOlderCa(new KubeApi({ server: server.url, ca: NO_TLS }), TODAY);
}

const POD = (name: string) => `/api/v1/namespaces/shop/pods/${name}`;
const MAP = "/api/v1/namespaces/shop/configmaps/kube-root-ca.crt";
const [EARLIER, JUST_AFTER, LATER] = ["2026-09-01T00:00:00Z", "2026-10-01T12:01:00Z", "2026-10-02T00:00:00Z"];
const PODS = {
  [POD("old")]: pod(EARLIER),
  [POD("old-restarted-since")]: pod(EARLIER, LATER),
  [POD("old-restarted-too-early")]: pod(EARLIER, JUST_AFTER),
  [POD("new")]: pod(LATER),
  [POD("without-token")]: pod(EARLIER, EARLIER, { projected: { sources: [] } }),
};

test("those that started before their namespace had the renewed CA, or before the kubelet had written it", async () => {
  expect(await oldOf({ [MAP]: map(renewed, MADE, RENEWED), ...PODS })).toEqual([
    "shop/old",
    "shop/old-restarted-too-early",
  ]);
});

test("as long as the namespace has the older one, all that mount it", async () => {
  expect(await oldOf({ [MAP]: map(ca.cert, MADE), ...PODS })).toHaveLength(4);
});

test("a namespace that never had another: none", async () => {
  expect(await oldOf({ [MAP]: map(renewed, MADE), ...PODS })).toEqual([]);
});

test("a token's Secret, by its own ca.crt", async () => {
  const secret = (text: string) => ({
    ...map(text, MADE),
    type: "kubernetes.io/service-account-token",
    data: { "ca.crt": Buffer.from(text).toString("base64") },
  });
  const of = async (text: string) =>
    await oldOf({
      "/api/v1/namespaces/shop/secrets/ci": secret(text),
      [POD("ci")]: pod(EARLIER, EARLIER, { projected: undefined, secret: { secretName: "ci" } }),
    });
  expect(await of(ca.cert)).toEqual(["shop/ci"]);
  expect(await of(renewed)).toEqual([]);
});

/** `before`: the CA's certificate in a rescue folder. */
async function look(before?: string, now?: Date) {
  using box = sandbox();
  write(`${box.dir}/etc/kubernetes/pki/ca.crt`, renewed);
  if (before)
    write(`${box.dir}/root/kube-pki-repair-20260101T000000/aside/etc/kubernetes/pki/ca.crt`, before);
  using server = pretendApi({ objects: { [MAP]: map(renewed, MADE, RENEWED), ...PODS } });
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  const { rows, holders } = await olderInPods(controlPlaneOf(await pretendData(knewCa(renewed))), api, now);
  return {
    rows: rows.map(({ look, ...row }) => found(row, look() as string).detail),
    holders,
    asked: server.requests.length > 0,
  };
}

test("a CA that nobody has renewed: nobody is asked; one whose old certificate has expired: neither", async () => {
  const none = { rows: [], holders: [], asked: false };
  expect(await look()).toEqual(none);
  expect(await look(ca.cert, new Date(TODAY.olderEnd.getTime() + 1000))).toEqual(none);
});

test("renewed: its pods are named, with the day by which each has to restart", async () => {
  const { rows, holders } = await look(ca.cert);
  const names = ["shop/old", "shop/old-restarted-too-early"];
  expect(rows).toEqual([
    expect.stringMatching(/^2 not yet: until \d{4}-\d\d-\d\d each has to restart once: /),
  ]);
  expect(holders).toEqual(names.map((name) => ({ kind: "pod", name, until: TODAY.olderEnd })));
});
