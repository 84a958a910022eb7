/**
 * Clusters that are well and differ from the usual one in one thing, and what holds for each of them. A row
 * of unlike-*.ts changes the usual cluster before it is served; stays-healthy.ts runs every script on every
 * row, as an operator would.
 */
import { X509Certificate } from "node:crypto";
import {
  cpSync,
  existsSync,
  globSync,
  lstatSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename } from "node:path";
import { parse } from "yaml";
import { certificatesIn, infoOf } from "../../shared/pki/certificate.ts";
import { CERTS, certRow, SHARED_FILES } from "../../shared/pki/certs.ts";
import { KUBECONFIGS, parseKubeconfig } from "../../shared/pki/kubeconfigs.ts";
import { sameEtcd, serveEtcd, serveUnit } from "./etcd.ts";
import { agedText } from "./expired.ts";
import type { Run, RunResult } from "./many-runs.ts";
import { pretendNode } from "./node.ts";
import { type Place, serveUnlike, usualCluster } from "./unlike-cluster.ts";
import { PKI } from "./unlike-edits.ts";

/** What is done on a control plane node, in the runbook's order. */
export const SCRIPTS = [
  "00-assess",
  "01-etcd",
  "02-control-plane",
  "03-workers open",
  "03-workers close",
  "04-sa-tokens",
  "05-verify",
] as const;
export type Script = (typeof SCRIPTS)[number];

/** The row in which nothing differs. */
export const USUAL = "nothing is different";

export interface Unlike {
  /** What is different, as a sentence about the cluster: "the endpoint in kubeadm-config is out of date". */
  name: string;
  /** Who has it in the field. */
  who: string;
  change: (place: Place) => Promise<void> | void;
  /**
   * Scripts that end otherwise than with 0 and as typed without options: what is typed, and how it ends.
   * Nothing changes all the same.
   */
  ends?: Partial<Record<Script, End>>;
  /** What 00-assess says of the difference. */
  says?: RegExp;
  /** Files outside of /etc/kubernetes that each disaster takes, too. */
  alsoLost?: readonly string[];
  /** With all of /etc/kubernetes lost on m1. Default: it comes back with all that it had. */
  lost?: Lost;
  /** After other disasters, where something else holds than with all lost. */
  plays?: Partial<Record<Play, Lost>>;
}

export interface End {
  /** Default: the script alone. */
  typed?: string;
  /** Default: 3, it refuses. */
  code?: number;
  /** What it says. */
  names: RegExp;
}

export interface Lost {
  /** The script that ends before anything is touched, and what it names. */
  refuses?: [script: "01-etcd --new-cas" | "01-etcd" | "02-control-plane", names: RegExp];
  /** Its exit code; default: 3. */
  code?: number;
  /** What does not come back as it was, by the names of `belongings`. */
  without?: RegExp;
  /** What the operator types behind both parts; of `lost`, in both plays that lose. */
  adds?: string;
}

/** What a run did, in words; none for a run that left all as it was. */
export interface Seen extends RunResult {
  changed: string[];
}

/** A process for runs, or this one. */
export interface Runner {
  run: (run: Run) => Promise<RunResult>;
}

/** Waits in vain are short, and an answer of a pretend server has the time that it needs. */
const IN_VAIN = "0.02";
const BRINGS_BACK = "0.2";

/** A pretend node with the row's files and content of etcd, and what its cluster serves. */
async function nodeOf(row: Unlike, disaster?: (root: string, place: Place) => Promise<void> | void) {
  const place = await usualCluster();
  using failed = new DisposableStack();
  failed.defer(() => place.others.forEach((one) => void one[Symbol.dispose]()));
  await row.change(place);
  failed.move();
  const node = await pretendNode({
    kind: "healthy control plane node",
    etcd: (objects) => {
      for (const key of Object.keys(objects)) delete objects[key];
      Object.assign(objects, place.objects);
    },
    ...place.node,
  });
  for (const folder of ["etc", "var/lib/kubelet"]) rmSync(`${node.root}/${folder}`, { recursive: true });
  cpSync(place.root, node.root, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  if (place.etcd?.at) rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
  await disaster?.(node.root, place);
  const env = (patience: string) => ({
    ...node.env,
    PWD: "/root",
    KUBE_PKI_REPAIR_ROOT: node.root,
    KUBE_PKI_REPAIR_PATIENCE: patience,
    ...place.env,
  });
  return { place, node, env };
}

/** The cluster of a row, well and served; lost: nothing of it runs. `run` says what a script did there. */
export async function unlike(row: Unlike, runs: Runner, isLost = false) {
  const { place, node, env } = await nodeOf(row, isLost ? PLAYS["all lost"].disaster : undefined);
  const state = etcdOf(place, node);
  const etcd = isLost
    ? NONE
    : place.etcd
      ? serveUnit(place.etcd, state, place.etcd.at)
      : serveEtcd(node.root, state);
  const api = isLost ? NONE : serveUnlike(place, node.root);
  return {
    node,
    async run(line: string): Promise<Seen> {
      const before = { files: node.fingerprint(), calls: node.calls().length, objects: api.changes().length };
      const result = await runs.run({ line, env: env(IN_VAIN) });
      const changed = [
        ...changedFiles(before.files, node.fingerprint()).filter((path) => path !== WORDS),
        ...node.calls().slice(before.calls).filter(doesHarm),
        ...api.changes().slice(before.objects).filter(isChange),
      ];
      return { ...result, changed };
    },
    [Symbol.dispose]() {
      for (const one of [...place.others, api, etcd, node]) one[Symbol.dispose]();
    },
  };
}

/** What the operator has typed is kept in memory: it changes no cluster. */
const WORDS = "run/kube-pki-repair-words.json";

const NONE = { changes: () => [] as string[], [Symbol.dispose]: () => undefined };

function etcdOf({ node: { members } }: Place, { stored }: { stored: Map<string, string> }) {
  const state = sameEtcd(stored);
  return { ...state, members: members ?? state.members };
}

/** All but what only asks. */
export function doesHarm(call: string): boolean {
  return !/^(systemctl (cat|show|is-active|is-enabled)|crictl( --\S+ \S+)* (ps|inspect|inspecti|images|version|info|pods)|journalctl -u|uname|ip|timedatectl|findmnt|flock) /.test(
    `${call} `,
  );
}

/** A token that is made to be reviewed is kept nowhere. */
function isChange(change: string): boolean {
  return !/\/token$|\/tokenreviews$|\/subjectaccessreviews$|dryRun=All$/.test(change);
}

export function changedFiles(before: string[], after: string[]): string[] {
  const [old, now] = [new Set(before), new Set(after)];
  return [
    ...new Set(
      [...before.filter((line) => !now.has(line)), ...after.filter((line) => !old.has(line))].map(
        (line) => line.split(" ")[0]!,
      ),
    ),
  ];
}

/** What happens to m1, and with what parts 1 and 2 are typed then. */
export const PLAYS = {
  "all lost": { disaster: lose, part1: "01-etcd --new-cas" },
  "lost, and the old keys found": { disaster: loseAllButKeys, part1: "01-etcd" },
  "all expired": { disaster: (root: string) => expire(root, false), part1: "01-etcd" },
  "the CAs have ended": { disaster: (root: string) => expire(root, true), part1: "01-etcd" },
} as const;
export type Play = keyof typeof PLAYS;

/** kubespray's folder, to which pki is a link or a copy; else kubeadm's. */
function keysFolder(root: string): string {
  const kubesprays = "/etc/kubernetes/ssl";
  return existsSync(`${root}${kubesprays}/ca.crt`) ? kubesprays : PKI;
}

function lose(root: string) {
  rmSync(`${root}/etc/kubernetes`, { recursive: true });
}

function loseAllButKeys(root: string, place: Place) {
  lose(root);
  const folder = keysFolder(place.root);
  for (const file of SHARED_FILES.filter((one) => existsSync(`${place.root}${folder}/${one}`)))
    cpSync(`${place.root}${folder}/${file}`, `${root}${folder}/${file}`, { preserveTimestamps: true });
}

/** All certificates that m1's own CAs have signed end a day ago; `ended`: the CAs, too. Their keys stay. */
async function expire(root: string, ended: boolean) {
  const read = (path: string) => (existsSync(root + path) ? readFileSync(root + path, "utf8") : undefined);
  const pki = keysFolder(root);
  const keyOf = (ca: string) => read(`${pki}/${certRow(ca).file}.key`);
  const certs = CERTS.filter((row) => row.ca || ended).map((row): [string, string | undefined] => [
    `${pki}/${row.file}.crt`,
    keyOf(row.ca ?? row.name),
  ]);
  const configs = KUBECONFIGS.map(({ path }): [string, string | undefined] => [path, keyOf("ca")]);
  const all = [...certs, ...configs, [CLIENT_PEM, keyOf("ca")] as const];
  for (const [path, key] of all) {
    const text = read(path);
    const after = text && key && (await agedText(text, key, ageOf(text)));
    if (after) writeFileSync(root + path, after);
  }
}

const CLIENT_PEM = "/var/lib/kubelet/pki/kubelet-client-current.pem";
const DAY_MS = 24 * 3600_000;

/** So that the first certificate in it ends a day ago. */
function ageOf(text: string): number {
  const data = /client-certificate-data: (\S+)/.exec(text)?.[1];
  const info = infoOf(data ? Buffer.from(data, "base64").toString() : text);
  return info ? info.notAfter.getTime() - Date.now() + DAY_MS : 0;
}

/** Parts 1 and 2 on m1 after a disaster, up to the first that does not end well. */
export async function bringBack(row: Unlike, runs: Runner, play: Play = "all lost") {
  const { disaster, part1 } = PLAYS[play];
  // where /etc/kubernetes is lost, only the operator still knows it
  const adds = row.plays?.[play]?.adds ?? (/lost/.test(play) ? row.lost?.adds : undefined);
  const typed = (line: string) => [line, ...(adds ? [adds] : [])].join(" ");
  const { place, node, env } = await nodeOf(row, disaster);
  for (const path of row.alsoLost ?? []) rmSync(node.root + path);
  // the others trust the old CA until they join
  place.away.push(
    ...Object.keys(place.objects).flatMap((key) => /^minions\/(?!m1$)(.*)/.exec(key)?.[1] ?? []),
  );
  using open = new DisposableStack();
  for (const one of [node, ...place.others]) open.use(one);
  const untouched = node.fingerprint();
  const belongings = belongingsOf(place.root);
  const seen = async (script: string, result: RunResult): Promise<Seen & { script: string }> => {
    const files = changedFiles(untouched, node.fingerprint()).filter((path) => path !== WORDS);
    const changed = [...files, ...node.calls().filter(doesHarm)];
    return { ...result, script, changed };
  };
  const end = async (last: Seen & { script: string }) => ({
    last,
    before: belongings,
    after: belongingsOf(node.root),
  });
  const issued = (file: string) => {
    const path = () => `${node.root}${keysFolder(node.root)}/${file}.crt`;
    const text = () => (existsSync(path()) ? readFileSync(path(), "utf8") : undefined);
    const before = text();
    return () => text() !== before;
  };

  // what no disaster has reached lives: a certificate whose CA's key is kept elsewhere cannot be aged
  const server = `${PKI}/etcd/server.crt`;
  const text = (root: string) =>
    existsSync(root + server) ? readFileSync(root + server, "utf8") : undefined;
  if (place.etcd) open.use(serveUnit(place.etcd, etcdOf(place, node), place.etcd.at));
  else if (text(node.root) === text(place.root)) open.use(serveEtcd(node.root, etcdOf(place, node)));
  const etcdIssued = issued("etcd/server");
  const run1 = runs.run({ line: typed(part1), env: env(BRINGS_BACK) });
  await Promise.race([node.called("systemctl restart kubelet"), run1]);
  if (etcdIssued()) open.use(serveEtcd(node.root, etcdOf(place, node)));
  const first = await seen(part1, await run1);
  if (first.exitCode !== 0) return end(first);
  const apiIssued = issued("apiserver");
  const run2 = runs.run({ line: typed("02-control-plane"), env: env(BRINGS_BACK) });
  const isReady = () => apiIssued() && existsSync(`${node.root}${place.manifests}/kube-apiserver.yaml`);
  await Promise.race([node.until("the API server's new certificate", isReady), run2]);
  if (existsSync(`${node.root}${PKI}/apiserver.crt`)) open.use(serveUnlike(place, node.root));
  return end(await seen("02-control-plane", await run2));
}

/**
 * What the files of a control plane node mean, by name: all of this a repair has to bring back, whatever the
 * CA.
 */
export function belongingsOf(root: string): Map<string, string> {
  const all = new Map<string, string>();
  for (const path of KUBECONFIGS.map((row) => root + row.path).filter((path) => existsSync(path))) {
    const text = readFileSync(path, "utf8");
    const { server, tlsServerName } = parseKubeconfig(text, path);
    all.set(`${basename(path)}: server`, server);
    if (tlsServerName) all.set(`${basename(path)}: tls-server-name`, tlsServerName);
  }
  for (const path of globSync(`${root}/etc/kubernetes/manifests/*.{yaml,yml}`)) {
    const { metadata, spec } = parse(readFileSync(path, "utf8"));
    all.set(`${metadata.name}: file`, basename(path));
    for (const container of spec.containers) {
      const { command = [], args = [], name, ...rest } = container;
      for (const word of [...command, ...args]) all.set(`${metadata.name}: ${word}`, "");
      all.set(`${metadata.name}/${name}`, sorted(rest));
    }
    all.set(`${metadata.name}: pod`, sorted({ ...spec, containers: spec.containers.length }));
  }
  const config = `${root}/etc/kubernetes/kubelet-config.yaml`;
  if (existsSync(config)) all.set("the kubelet's configuration", sorted(parse(readFileSync(config, "utf8"))));
  const usual = lstatSync(root + PKI, { throwIfNoEntry: false });
  if (usual?.isSymbolicLink()) all.set("pki: link", readlinkSync(root + PKI));
  for (const { file } of CERTS) {
    const path = `${root}/etc/kubernetes/pki/${file}.crt`;
    if (!existsSync(path)) continue;
    const { subject, subjectAltName = "", publicKey } = new X509Certificate(readFileSync(path));
    all.set(
      `${file}.crt`,
      [subject, ...subjectAltName.split(", ").sort(), publicKey.asymmetricKeyType].join(" "),
    );
  }
  const known = CERTS.map(({ file }) => `${file}.crt`);
  for (const name of globSync("*.crt", { cwd: `${root}/etc/kubernetes/pki` }).filter(
    (one) => !known.includes(one),
  ))
    all.set(name, subjectsIn(readFileSync(`${root}/etc/kubernetes/pki/${name}`, "utf8")));
  return all;
}

/** Of a bundle of others, whatever its CAs' keys: each subject once. */
function subjectsIn(pem: string): string {
  return [...new Set(certificatesIn(pem).map((one) => new X509Certificate(one).subject))].sort().join(", ");
}

function sorted(value: unknown): string {
  return JSON.stringify(value, (_, part) =>
    part && typeof part === "object" && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort())
      : part,
  );
}

/** What is not as it was. A reduced controller-manager is full again after part 3. */
export function notBack(before: Map<string, string>, after: Map<string, string>, without = /^$/): string[] {
  const wrong: string[] = [];
  for (const [name, value] of before)
    if (!without.test(name) && after.get(name) !== value)
      wrong.push(`${name}: ${after.has(name) ? `${value} → ${after.get(name)}` : "gone"}`);
  return wrong.filter((line) => !line.startsWith("kube-controller-manager: --controllers="));
}
