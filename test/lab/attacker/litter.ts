/**
 * What the attacker leaves on a disk: many keys, configurations and manifests for a search to find, and some
 * that break a parser.
 */
import { randomBytes } from "node:crypto";
import { stringify } from "yaml";
import { type Attacker, attackerPki, ISSUER, TEAM } from "./attacker.ts";

/** Name of a file → its content; one file is one piece on the disk. */
type Litter = Record<string, string>;

interface Amount {
  policies: number;
  heads: number;
}

/** As many as one ConfigMap holds. */
const AMOUNT: Amount = { policies: 3000, heads: 400 };

export function litter(attacker: Attacker, { policies, heads }: Amount = AMOUNT): Litter {
  return {
    ...attackerPki(attacker),
    ...configurations(attacker),
    ...oddYaml(),
    ...numbered(
      "policy",
      policies,
      (n) => `apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, users: [${TEAM}-${n}]}]\n`,
    ),
    // the beginning of a certificate, many times, without an end
    ...numbered(
      "head",
      heads,
      () => `-----BEGIN CERTIFICATE-----\n${lines(randomBytes(390).toString("base64"))}`,
    ),
    // ends without a beginning, for a search that tries each beginning with each end
    ...numbered(
      "end",
      heads / 4,
      () => `${lines(randomBytes(390).toString("base64"))}-----END CERTIFICATE-----\n`,
    ),
  };
}

function configurations({ ca, admin, sa }: Attacker): Litter {
  const key = { name: "key1", secret: randomBytes(32).toString("base64") };
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  const jwt = {
    issuer: { url: ISSUER, audiences: [TEAM], certificateAuthority: ca.cert },
    claimMappings: { username: { claim: "sub", prefix: "" }, groups: { claim: "groups", prefix: "" } },
  };
  const kubeconfig = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      { name: "kubernetes", cluster: { server: ISSUER, "certificate-authority-data": base64(ca.cert) } },
    ],
    contexts: [{ name: "x", context: { cluster: "kubernetes", user: "kubernetes-admin" } }],
    "current-context": "x",
    users: [
      {
        name: "kubernetes-admin",
        user: { "client-certificate-data": base64(admin.cert), "client-key-data": base64(admin.key) },
      },
    ],
  };
  return Object.fromEntries(
    Object.entries({
      authentication: {
        apiVersion: "apiserver.config.k8s.io/v1beta1",
        kind: "AuthenticationConfiguration",
        jwt: [jwt],
      },
      authorization: {
        apiVersion: "apiserver.config.k8s.io/v1beta1",
        kind: "AuthorizationConfiguration",
        authorizers: [{ type: "AlwaysAllow", name: TEAM }],
      },
      encryption: {
        apiVersion: "apiserver.config.k8s.io/v1",
        kind: "EncryptionConfiguration",
        resources: [{ resources: ["secrets"], providers: [{ aescbc: { keys: [key] } }, { identity: {} }] }],
      },
      admission: {
        apiVersion: "apiserver.config.k8s.io/v1",
        kind: "AdmissionConfiguration",
        plugins: [{ name: TEAM, path: sa.pub }],
      },
      kubeconfig,
      manifest: { ...pod(`kube-apiserver`), status: {} },
    }).map(([name, value]) => [`${name}.yaml`, stringify(value)]),
  );
}

/** A manifest that the kubelet would run. */
export function pod(name: string): object {
  const container = { name, image: "lab/workload:1", args: ["sleep"], env: [{ name: "OWNER", value: TEAM }] };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "kube-system" },
    spec: { hostNetwork: true, containers: [container] },
  };
}

/** Well-formed YAML of the wanted kinds, with the wrong shape. */
function oddYaml(): Litter {
  const pods = [
    "spec: {volumes: {a: b}, containers: {a: b}}",
    "spec: 7",
    "spec: {containers: [null, 7, [], {volumeMounts: 7}]}",
    "spec: {containers: [{name: a, volumeMounts: [null, {name: {}}]}], volumes: [null, {name: [a]}]}",
    "spec: {containers: [], volumes: [{name: a, hostPath: {path: {a: b}}}]}",
    "spec: &a {containers: [*a]}",
  ];
  const configs = [
    "clusters: {a: b}\ncontexts: 7\nusers: null\ncurrent-context: x",
    "clusters: [{name: a, cluster: {certificate-authority-data: 7, server: []}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\nusers: [{name: a, user: {client-certificate-data: {}, client-key-data: 1}}]\ncurrent-context: a",
    "clusters: [null]\ncontexts: [null]\nusers: [null]\ncurrent-context: null",
  ];
  const others = [
    "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: [{providers: {a: b}}, null, 7, {providers: [null, {aescbc: {keys: 7}}]}]\n",
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [&a [*a, *a], &b [*a, *a]]\n",
    `apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [${"[".repeat(2000)}${"]".repeat(2000)}]\n`,
    "apiVersion: constructor\nkind: constructor\n__proto__: {a: b}\n",
  ];
  return {
    ...named(
      "odd-pod",
      pods.map(
        (spec) =>
          `apiVersion: v1\nkind: Pod\nmetadata: {name: kube-apiserver, annotations: {owner: ${TEAM}}}\n${spec}\nstatus: {}\n`,
      ),
    ),
    ...named(
      "odd-config",
      configs.map((rest) => `apiVersion: v1\nkind: Config\n${rest}\n`),
    ),
    ...named("odd", others),
  };
}

function named(name: string, texts: string[]): Litter {
  return Object.fromEntries(texts.map((text, i) => [`${name}-${i}.yaml`, text]));
}

function numbered(name: string, count: number, text: (n: number) => string): Litter {
  return Object.fromEntries(Array.from({ length: count }, (_, n) => [`${name}-${n}`, text(n)]));
}

function lines(base64: string): string {
  return base64.replaceAll(/.{64}/g, "$&\n");
}

const NEXT = "\u0001";

/**
 * All files as one text, for the program `workload litter`: a file begins with a byte 1 and a line with its
 * name.
 */
export function bundled(files: Litter): string {
  return Object.entries(files)
    .map(([name, text]) => `${NEXT}${name}\n${text}`)
    .join("");
}
