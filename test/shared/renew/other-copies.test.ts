/** The finder: every certificate of a CA's key that is not today's, however it is written down. */
import { expect, test } from "bun:test";
import { symlinkSync } from "node:fs";
import { certInfo } from "../../../shared/pki/certificate.ts";
import { kubeletKubeconfig } from "../../../shared/pki/kubeconfigs.ts";
import { renewCa } from "../../../shared/pki/renew.ts";
import { copiesInData, copiesOnNode } from "../../../shared/renew/older-elsewhere.ts";
import { healthyCp, otherCa, write } from "../../pretend/cluster.ts";
import { pretendData } from "../../pretend/control-plane-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const { ca } = await healthyCp();
const stranger = await otherCa();
const renewed = renewCa(ca.cert, ca.key, { hours: 87_600, signed: [] });
const { publicKeyHash: hash, notAfter: end } = certInfo(renewed);
const CAS = { ca: { hash, end }, "etcd-ca": undefined, "front-proxy-ca": undefined };
const until = certInfo(ca.cert).notAfter;
const config = (pem: string) => kubeletKubeconfig({ server: "https://127.77.0.11:6443", ca: pem });

const object = (kind: string, data: object) => ({ apiVersion: "v1", kind, metadata: {}, ...data });

/** As the API server stores it: raw bytes behind a length, here one that is no line break. */
const inProtobuf = Buffer.concat([
  Buffer.from("k8s\0\x0a\x04\x12\x7c", "latin1"),
  Buffer.from(ca.cert),
  Buffer.from("\x1a\0"),
]);

test("in stored objects: as it is, in a kubeconfig, in base64, behind a length; today's and strangers' are not named", async () => {
  const data = await pretendData((objects) => {
    for (const key of Object.keys(objects)) if (/kube-root-ca|cluster-info/.test(key)) delete objects[key];
    Object.assign(objects, {
      "configmaps/shop/trust": object("ConfigMap", {
        data: { "ca.pem": `# ours\n${stranger.cert}${ca.cert}` },
      }),
      "configmaps/shop/new": object("ConfigMap", { data: { "ca.crt": renewed } }),
      "configmaps/shop/strange": object("ConfigMap", { data: { "ca.crt": stranger.cert } }),
      "secrets/ci/deployer": object("Secret", { data: { kubeconfig: config(ca.cert) } }),
      "example.org/widgets/shop/one": object("Widget", {
        spec: { caBundle: Buffer.from(ca.cert).toString("base64") },
      }),
      "validatingwebhookconfigurations/guard": inProtobuf,
      "configmaps/shop/both": object("ConfigMap", { data: { a: renewed, b: ca.cert } }),
      "secrets/shop/sealed": `k8s:enc:kms:v2:vault:${ca.cert}`,
      // the API servers' own: they add and remove
      "configmaps/kube-system/extension-apiserver-authentication": object("ConfigMap", {
        data: { "client-ca-file": ca.cert + renewed },
      }),
      "configmaps/shop/broken": object("ConfigMap", {
        data: { a: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" },
      }),
    });
  });
  const { copies, sealed } = copiesInData(data, CAS);
  expect(copies).toEqual(
    [
      "configmaps/shop/both",
      "configmaps/shop/trust",
      "example.org/widgets/shop/one",
      "secrets/ci/deployer",
      "validatingwebhookconfigurations/guard",
    ].map((where) => ({ where, ca: "ca", until })),
  );
  expect(sealed).toBe(1);
});

test("in files of the node: programs', people's; not what a link leads to, and not pods' volumes", () => {
  using box = sandbox();
  const put = (path: string, text: string) => write(`${box.dir}${path}`, text);
  put("/etc/kubernetes/pki/ca.crt", renewed);
  put("/etc/prometheus/etcd-ca.pem", ca.cert);
  put("/home/eve/.kube/config", config(ca.cert));
  put("/root/.kube/config", config(ca.cert));
  put("/root/kube-pki-repair-20260101T000000/aside/etc/kubernetes/pki/ca.crt", ca.cert);
  put("/var/lib/kubelet/pods/1/volumes/ca.crt", ca.cert);
  put("/var/lib/kubelet/trust.pem", ca.cert);
  symlinkSync("/etc/prometheus/etcd-ca.pem", `${box.dir}/etc/link.pem`);
  expect(copiesOnNode(CAS)).toEqual({
    unseen: [],
    copies: [
      "/etc/prometheus/etcd-ca.pem",
      "/var/lib/kubelet/trust.pem",
      "/root/.kube/config",
      "/home/eve/.kube/config",
    ].map((where) => ({ where, ca: "ca", until })),
  });
});
