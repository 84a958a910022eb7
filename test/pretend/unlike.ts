/**
 * Clusters that are well and differ from the usual one in one thing, and what holds for each of them. A row
 * of unlike-*.ts changes the usual cluster before it is served; stays-healthy.ts runs every script on every
 * row, as an operator would.
 */
import { X509Certificate } from "node:crypto";
import { cpSync, existsSync, globSync, readFileSync, rmSync } from "node:fs";
import { basename } from "node:path";
import { parse } from "yaml";
import { CERTS } from "../../shared/pki/certs.ts";
import { KUBECONFIGS, parseKubeconfig } from "../../shared/pki/kubeconfigs.ts";
import { sameEtcd, serveEtcd } from "./etcd.ts";
import type { Run, RunResult } from "./many-runs.ts";
import { pretendNode } from "./node.ts";
import { type Place, serveUnlike, usualCluster } from "./unlike-cluster.ts";

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
  /** With all of /etc/kubernetes lost on m1. Default: it comes back with all that it had. */
  lost?: Lost;
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
  refuses?: [script: "01-etcd --new-cas" | "02-control-plane", names: RegExp];
  /** What does not come back as it was, by the names of `belongings`. */
  without?: RegExp;
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
async function nodeOf(row: Unlike, isLost: boolean) {
  const place = await usualCluster();
  await row.change(place);
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
  if (isLost) rmSync(`${node.root}/etc/kubernetes`, { recursive: true });
  const env = (patience: string) => ({
    ...node.env,
    PWD: "/root",
    KUBE_PKI_REPAIR_ROOT: node.root,
    KUBE_PKI_REPAIR_PATIENCE: patience,
    ...place.env,
  });
  return { place, node, env };
}

/** The cluster of a row, well and served. `run` says what a script did there. */
export async function unlike(row: Unlike, runs: Runner) {
  const { place, node, env } = await nodeOf(row, false);
  const etcd = serveEtcd(node.root, etcdOf(place, node));
  const api = serveUnlike(place, node.root);
  return {
    node,
    async run(line: string): Promise<Seen> {
      const before = { files: node.fingerprint(), calls: node.calls().length, objects: api.changes().length };
      const result = await runs.run({ line, env: env(IN_VAIN) });
      const changed = [
        ...changedFiles(before.files, node.fingerprint()),
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

function etcdOf({ node: { members } }: Place, { stored }: { stored: Map<string, string> }) {
  const state = sameEtcd(stored);
  return { ...state, members: members ?? state.members };
}

/** All but what only asks. */
export function doesHarm(call: string): boolean {
  return !/^(systemctl (cat|show|is-active|is-enabled)|crictl( --\S+ \S+)* (ps|inspect|inspecti|images|version|info|pods)|uname|ip|timedatectl|findmnt|flock) /.test(
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

/** Parts 1 and 2 on m1 with all of /etc/kubernetes lost, up to the first that does not end well. */
export async function bringBack(row: Unlike, runs: Runner) {
  const { place, node, env } = await nodeOf(row, true);
  // the others trust the old CA until they join
  place.away.push(
    ...Object.keys(place.objects).flatMap((key) => /^minions\/(?!m1$)(.*)/.exec(key)?.[1] ?? []),
  );
  using open = new DisposableStack();
  for (const one of [node, ...place.others]) open.use(one);
  const untouched = node.fingerprint();
  const belongings = belongingsOf(place.root);
  const seen = async (script: string, result: RunResult): Promise<Seen & { script: string }> => {
    const changed = [...changedFiles(untouched, node.fingerprint()), ...node.calls().filter(doesHarm)];
    return { ...result, script, changed };
  };
  const end = async (last: Seen & { script: string }) => ({
    last,
    before: belongings,
    after: belongingsOf(node.root),
  });

  const part1 = runs.run({ line: "01-etcd --new-cas", env: env(BRINGS_BACK) });
  await Promise.race([node.called("systemctl restart kubelet"), part1]);
  if (existsSync(`${node.root}/etc/kubernetes/pki/etcd/server.crt`))
    open.use(serveEtcd(node.root, etcdOf(place, node)));
  const first = await seen("01-etcd --new-cas", await part1);
  if (first.exitCode !== 0) return end(first);
  const part2 = runs.run({ line: "02-control-plane", env: env(BRINGS_BACK) });
  await Promise.race([node.written(`${place.manifests}/kube-apiserver.yaml`), part2]);
  if (existsSync(`${node.root}/etc/kubernetes/pki/apiserver.crt`)) open.use(serveUnlike(place, node.root));
  return end(await seen("02-control-plane", await part2));
}

/**
 * What the files of a control plane node mean, by name: all of this a repair has to bring back, whatever the
 * CA.
 */
export function belongingsOf(root: string): Map<string, string> {
  const all = new Map<string, string>();
  for (const path of KUBECONFIGS.map((row) => root + row.path).filter((path) => existsSync(path))) {
    const text = readFileSync(path, "utf8");
    all.set(`${basename(path)}: server`, parseKubeconfig(text, path).server);
  }
  for (const path of globSync(`${root}/etc/kubernetes/manifests/*.yaml`)) {
    const { metadata, spec } = parse(readFileSync(path, "utf8"));
    for (const container of spec.containers) {
      const { command = [], args = [], name, ...rest } = container;
      for (const word of [...command, ...args]) all.set(`${metadata.name}: ${word}`, "");
      all.set(`${metadata.name}/${name}`, sorted(rest));
    }
    all.set(`${metadata.name}: pod`, sorted({ ...spec, containers: spec.containers.length }));
  }
  for (const { file } of CERTS) {
    const path = `${root}/etc/kubernetes/pki/${file}.crt`;
    if (!existsSync(path)) continue;
    const { subject, subjectAltName = "", publicKey } = new X509Certificate(readFileSync(path));
    all.set(
      `${file}.crt`,
      [subject, ...subjectAltName.split(", ").sort(), publicKey.asymmetricKeyType].join(" "),
    );
  }
  return all;
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
