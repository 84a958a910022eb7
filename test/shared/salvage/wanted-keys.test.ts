/**
 * Which keys 00-salvage looks for, and what it takes as proof: made-up clusters that know one key, several,
 * or none.
 */
import "reflect-metadata";
import { expect, setDefaultTimeout, test } from "bun:test";
import { createPublicKey } from "node:crypto";
import { rmSync } from "node:fs";
import * as x509 from "@peculiar/x509";
import { readEvidence } from "../../../shared/facts/evidence.ts";
import { certInfo } from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueLeaf } from "../../../shared/pki/issue.ts";
import { serviceAccountKeyId } from "../../../shared/pki/sa-keys.ts";
import {
  isIrreplaceable,
  labelOf,
  sayLost,
  type WantedKey,
  wantedKeys,
} from "../../../shared/salvage/wanted-keys.ts";
import { FACTS, healthyCp, type Objects, otherCa, write } from "../../pretend/cluster.ts";
import { NODE, pretendData } from "../../pretend/control-plane-node.ts";
import { ecKey, POD_UID, podRecord, rsaKey } from "../../pretend/memory.ts";
import { sandbox } from "../../pretend/sandbox.ts";

setDefaultTimeout(300_000);

const { ca } = await healthyCp();
const DIR = "/etc/kubernetes/pki";

function configMap(name: string, data: Record<string, string>) {
  return { apiVersion: "v1", kind: "ConfigMap", metadata: { name }, data };
}

/** What is wanted on a wiped control plane node: of each key its generations, by who names them. */
async function wanted(change: (objects: Objects) => void) {
  const evidence = readEvidence({ data: await pretendData(change), node: NODE, certificatesDir: DIR });
  const generations = Object.fromEntries(
    wantedKeys(evidence, { certificatesDir: DIR }).map((key) => [key.name, key.generations]),
  );
  return { known: evidence, generations };
}

function hashOf(pem: string): string {
  return certInfo(pem).publicKeyHash;
}

/** In form only: which key signed it is not looked at before one is found. */
function token(kid: string, alg: string, claims: object): string {
  const parts = [
    { alg, kid },
    { sub: "system:serviceaccount:kube-system:a", ...claims },
  ];
  return [...parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")), "c2ln"].join(".");
}

function tokenSecret(data: Record<string, string>) {
  const base64 = Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString("base64")]),
  );
  return {
    apiVersion: "v1",
    kind: "Secret",
    type: "kubernetes.io/service-account-token",
    metadata: { name: "t" },
    data: base64,
  };
}

test("each place that names a certificate is a proof, and where they differ, the cluster's own copy counts", async () => {
  using box = sandbox();
  const [older, frontProxy] = [await otherCa(), await otherCa()];
  podRecord(box.dir, "kube-system", "kube-proxy-x", POD_UID);
  write(`${box.dir}/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/api/ca.crt`, ca.cert);
  write(`${box.dir}${DIR}/ca.crt`, older.cert);
  const { generations } = await wanted((objects) => {
    objects["configmaps/kube-system/extension-apiserver-authentication"] = configMap(
      "extension-apiserver-authentication",
      {
        "client-ca-file": ca.cert,
        "requestheader-client-ca-file": frontProxy.cert,
      },
    );
    objects["secrets/kube-system/t"] = tokenSecret({ "ca.crt": older.cert });
  });
  expect(generations.ca!.map(({ hash, from }) => [hash, from])).toEqual([
    [
      hashOf(ca.cert),
      ["kube-root-ca.crt", "extension-apiserver-authentication", "kube-system's pods on this node"],
    ],
    [hashOf(older.cert), ["kube-system's token Secrets", "the kubelet's client CA", "pki/ca.crt"]],
  ]);
  expect(generations["front-proxy-ca"]!.map(({ hash }) => hash)).toEqual([hashOf(frontProxy.cert)]);
  expect(generations["etcd/ca"]).toEqual([]);
});

test("of a bundle with two CAs the one that more places name comes first, though it is the second", async () => {
  using _ = sandbox();
  const next = await otherCa();
  const { generations } = await wanted((objects) => {
    objects["configmaps/kube-system/kube-root-ca.crt"] = configMap("kube-root-ca.crt", {
      "ca.crt": next.cert + ca.cert,
    });
    objects["configmaps/kube-system/extension-apiserver-authentication"] = configMap("e", {
      "client-ca-file": ca.cert,
    });
  });
  expect(generations.ca!.map(({ hash }) => hash)).toEqual([hashOf(ca.cert), hashOf(next.cert)]);
});

test("the service-account key is the one that signed last what pods hold; a Secret comes after, and no other algorithm", async () => {
  using box = sandbox();
  const kids = [ecKey(), ecKey("P-384"), rsaKey(), ecKey()].map((key) =>
    serviceAccountKeyId(String(createPublicKey(key).export({ type: "spki", format: "pem" }))),
  );
  const pods = `${box.dir}/var/lib/kubelet/pods`;
  const uids = ["a", "b", "c"].map((letter) => POD_UID.replace(/^./, letter));
  for (const uid of uids) podRecord(box.dir, "kube-system", "coredns-x", uid);
  write(
    `${pods}/${uids[0]}/volumes/kubernetes.io~projected/api/token`,
    token(kids[0]!, "ES256", { iat: 100 }),
  );
  write(
    `${pods}/${uids[1]}/volumes/kubernetes.io~projected/api/token`,
    token(kids[1]!, "ES384", { iat: 200 }),
  );
  write(`${pods}/${uids[2]}/volumes/kubernetes.io~projected/api/token`, "no token at all");
  const { generations } = await wanted((objects) => {
    objects["secrets/kube-system/t"] = tokenSecret({ token: token(kids[2]!, "RS256", { iat: 300 }) });
    objects["secrets/kube-system/u"] = tokenSecret({ token: token(kids[3]!, "PS256", {}) });
  });
  const hash = (kid: string) => `sha256:${Buffer.from(kid, "base64url").toString("hex")}`;
  expect(generations.sa!.map(({ hash, kind, from }) => [hash, kind, from.join()])).toEqual([
    [hash(kids[1]!), "P-384", "kube-system's pods on this node"],
    [hash(kids[0]!), "P-256", "kube-system's pods on this node"],
    [hash(kids[2]!), "RSA", "kube-system's token Secrets"],
  ]);
});

test("Secrets that are encrypted at rest are reported as unread, and the rest is known all the same", async () => {
  using _ = sandbox();
  const { known: evidence, generations } = await wanted((objects) => {
    objects["secrets/kube-system/t"] = "k8s:enc:aescbc:v1:key1:\u0001\u0002";
  });
  expect(evidence.unread.map((line) => line.split(":")[0])).toEqual([
    "kube-system's token Secrets",
    "kube-system's token Secrets",
  ]);
  expect(generations.ca!.map(({ hash }) => hash)).toEqual([hashOf(ca.cert)]);
});

test("a certificate whose key alone is lost proves that key, and a key that is there is not looked for", () => {
  using box = sandbox();
  write(`${box.dir}${DIR}/ca.crt`, ca.cert);
  const evidence = readEvidence({ data: undefined, node: undefined, certificatesDir: DIR });
  const names = () =>
    wantedKeys(evidence, { certificatesDir: DIR }).map(
      ({ name, generations }) => `${name} ${generations.length}`,
    );
  expect(names()).toEqual(["ca 1", "front-proxy-ca 0", "etcd/ca 0", "sa 0"]);
  write(`${box.dir}${DIR}/ca.key`, ca.key);
  expect(names()).toEqual(["front-proxy-ca 0", "etcd/ca 0", "sa 0"]);
});

test.each<[string, (first: string, second: string) => { from?: string; kid?: string }, number | string]>([
  ["its fingerprint", (_, second) => ({ from: second }), 1],
  ["its fingerprint, the first's", (first) => ({ from: first }), 0],
  ["who names it", () => ({ from: "the kubelet's client CA" }), 1],
  ["a name that several have", () => ({ from: "pki/ca.crt" }), 1],
  ["what nobody has", () => ({ from: "kubelet.conf" }), '"kubelet.conf" names none of the known ca keys'],
  ["nothing", () => ({}), 0],
  [
    "a token's kid, which is the service-account key's",
    () => ({ kid: "abc" }),
    '"abc" names none of the known sa keys',
  ],
])("the operator chooses a CA by %s", async (_, choice, expected) => {
  using box = sandbox();
  const older = await otherCa();
  write(`${box.dir}${DIR}/ca.crt`, older.cert);
  const evidence = readEvidence({ data: await pretendData(), node: NODE, certificatesDir: DIR });
  const hashes = [ca.cert, older.cert].map(hashOf);
  const all = () =>
    wantedKeys(evidence, { certificatesDir: DIR, ...choice(hashes[0]!, hashes[1]!) }).find(
      ({ name }) => name === "ca",
    )!;
  if (typeof expected === "string") expect(all).toThrow(expected);
  else {
    const { generations, candidates } = all();
    expect(generations.map(({ hash }) => hash)).toEqual(expected === 0 ? hashes : hashes.toReversed());
    expect(candidates).toBe(1);
  }
});

test("a key that is here is looked for all the same where the cluster uses another one, and the operator asks for others", async () => {
  using box = sandbox();
  const older = await otherCa();
  write(`${box.dir}${DIR}/ca.crt`, older.cert);
  write(`${box.dir}${DIR}/ca.key`, older.key);
  const evidence = readEvidence({ data: await pretendData(), node: NODE, certificatesDir: DIR });
  const isWanted = (others: boolean) =>
    wantedKeys(evidence, { certificatesDir: DIR, others }).some(({ name }) => name === "ca");
  expect([isWanted(false), isWanted(true)]).toEqual([false, true]);
  write(`${box.dir}${DIR}/ca.crt`, ca.cert);
  write(`${box.dir}${DIR}/ca.key`, ca.key);
  expect(isWanted(true)).toBe(false);
});

async function ed25519(): Promise<string> {
  const keys = (await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"])) as CryptoKeyPair;
  const cert = await x509.X509CertificateGenerator.createSelfSigned({ name: "CN=kube-apiserver", keys });
  return `${cert.toString("pem")}\n`;
}

test("the key of a leaf is wanted where its certificate is here alone; one that can be made anew is not irreplaceable", async () => {
  using box = sandbox();
  const leaf = await issueLeaf(certRow("apiserver"), ca, FACTS);
  const names = () =>
    wantedKeys(readEvidence({ data: undefined, node: undefined, certificatesDir: DIR }), {
      certificatesDir: DIR,
    })
      .filter(({ shared }) => !shared)
      .map(({ name, publicFile, keyFile, candidates }) => [name, publicFile, keyFile, candidates]);
  expect(names()).toEqual([]);
  write(`${box.dir}${DIR}/apiserver.crt`, leaf.cert);
  expect(names()).toEqual([["apiserver", "apiserver.crt", "apiserver.key", 1]]);
  write(`${box.dir}${DIR}/apiserver.key`, leaf.key);
  expect(names()).toEqual([]);
  // a company's own, of a kind that no search knows: it is no reason not to search for the others
  write(`${box.dir}${DIR}/apiserver.crt`, await ed25519());
  rmSync(`${box.dir}${DIR}/apiserver.key`);
  expect(names()).toEqual([]);
  expect(["ca", "sa", "etcd/ca", "apiserver"].map((name) => isIrreplaceable({ name }))).toEqual([
    true,
    true,
    false,
    false,
  ]);
});

test("of a lost key the one in use is said, and each other one", () => {
  using box = sandbox();
  const of = (from: string) => ({ hash: `sha256:${from}`, kind: "RSA" as const, from: [from], tokens: [] });
  const key = { keyFile: "ca.key", candidates: 2 } as WantedKey;
  sayLost({ ...key, generations: [] });
  sayLost({ ...key, generations: [of("a"), of("b"), of("c")] });
  expect(box.said).toEqual([
    "ca.key: lost; nothing here shows which key it was",
    "ca.key: lost; sha256:a, RSA, named by a",
    "or sha256:b, RSA, named by b",
    "or an earlier one, sha256:c, RSA, named by c",
  ]);
});

test("a generation is told from others by its key, the day of its certificate, and who names it; a token's by its kid", () => {
  const of = (text: string | undefined, tokens: string[] = []) =>
    labelOf({ hash: `sha256:${"00".repeat(32)}`, kind: "RSA", from: ["a", "b"], text, tokens });
  const [hash, kid] = [`sha256:${"00".repeat(32)}`, "A".repeat(43)];
  const day = certInfo(ca.cert).notBefore.toISOString().slice(0, 10);
  const pub = createPublicKey(ca.key).export({ type: "spki", format: "pem" }).toString();
  expect([of(ca.cert), of(pub), of(undefined), of(pub, ["x"])]).toEqual([
    `${hash}, made on ${day}, named by a, b`,
    `${hash}, named by a, b`,
    `${hash}, named by a, b`,
    `kid ${kid}, named by a, b`,
  ]);
});
