/**
 * Damages of a control plane node, file by file, and what 00-assess has to say about each: computed from the
 * damage, not from the disk. The pretend nodes of soak/random-damages.test.ts and the lab's real one
 * (scenarios/random-damages.ts) use this same table.
 */
import { chmodSync, rmSync, writeFileSync } from "node:fs";
import type { AssessmentJson } from "../../shared/assess/assessment.ts";
import { hasFailed } from "../../shared/checks/check.ts";
import { CERTS } from "../../shared/pki/certs.ts";
import { KUBECONFIGS } from "../../shared/pki/kubeconfigs.ts";
import { agedText } from "./expired.ts";

const E = "/etc/kubernetes";
const P = `${E}/pki`;
const PODS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
const CONFIGS = ["admin", "controller-manager", "scheduler"];
const CAS = CERTS.filter((row) => !row.ca);
const LEAVES = CERTS.filter((row) => row.ca);

/** The node that is damaged. */
export interface Place {
  /** The kubelet's client certificate itself, not the link to it. */
  client: string;
  /** A file's text before the damage, and that of another cluster's control plane node. */
  original(file: string): string;
  foreign(file: string): string;
  /** etcd's data has the ConfigMap extension-apiserver-authentication, which names the front proxy's CA. */
  namesFrontProxy: boolean;
}

export type Kind = "gone" | "cut" | "foreign" | "expired" | "mode";

/** Damages the file at `path`. */
type Act = (path: string) => void;

/** How a file is damaged; undefined: this file cannot have this kind of damage. */
const KINDS: Record<Kind, (file: string, place: Place) => Promise<Act | undefined> | Act | undefined> = {
  gone: () => (path) => rmSync(path),
  cut: (file, { original }) => writes(original(file).slice(0, Math.floor(original(file).length / 2))),
  foreign: (file, { original, foreign }) =>
    foreign(file) === original(file) ? undefined : writes(foreign(file)),
  expired: async (file, place) => {
    const ca = signerOf(file, place);
    const text = ca && (await agedText(place.original(file), place.original(`${P}/${ca}.key`)));
    return text ? writes(text) : undefined;
  },
  mode: () => (path) => chmodSync(path, 0o644),
};

function writes(text: string): Act {
  return (path) => writeFileSync(path, text);
}

/** The CA of a file whose certificate expires before the CAs do. */
function signerOf(file: string, { client }: Place): string | undefined {
  const leaf = LEAVES.find((row) => file === `${P}/${row.file}.crt`);
  if (leaf) return CAS.find(({ name }) => name === leaf.ca)!.file;
  return file === client || KUBECONFIGS.some(({ path, name }) => path === file && name !== "kubelet")
    ? "ca"
    : undefined;
}

function filesOf({ client }: Place): string[] {
  return [
    ...CERTS.flatMap(({ file }) => [`${P}/${file}.crt`, `${P}/${file}.key`]),
    ...[`${P}/sa.key`, `${P}/sa.pub`, `${E}/kubelet.conf`, client],
    ...CONFIGS.map((name) => `${E}/${name}.conf`),
    ...PODS.map((name) => `${E}/manifests/${name}.yaml`),
  ];
}

/** File → its damage. */
export type Damage = Map<string, { kind: Kind; act: Act }>;

/** Numbers below n, the same for the same seed: mulberry32 by Tommy Ettinger (public domain). */
export function random(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

/** Chooses a damage of one to ten files. Nothing is damaged yet. */
export async function chooseDamage(place: Place, pick: (n: number) => number): Promise<Damage> {
  const damage: Damage = new Map();
  const files = filesOf(place);
  const count = [1, 1, 2, 3, 5, 10][pick(6)]!;
  for (let i = 0; i < count; i++) {
    const file = files[pick(files.length)]!;
    const kind = (Object.keys(KINDS) as Kind[])[pick(5)]!;
    const act = damage.has(file) ? undefined : await KINDS[kind](file, place);
    if (act) damage.set(file, { kind, act });
  }
  return damage;
}

export function listed(damage: Damage): string {
  return [...damage].map(([file, { kind }]) => `${kind} ${file}`).join(", ");
}

/** What 00-assess has to say about a damage. */
export interface Expected {
  /** Shared keys, by name, that have to be reported as damaged. */
  rows: Set<string>;
  /** Those among them that cannot be recovered from this node's files. */
  lost: string[];
  /** Complete pairs of another cluster. */
  foreigners: string[];
  /** CAs of control plane nodes whose key alone is gone: nothing needs it before one of its certificates expires. */
  offline: string[];
  /** admin.conf, where it alone is gone: nothing on the node reads it, and security teams store it elsewhere. */
  adminElsewhere: boolean;
  /** Other files. */
  others: string[];
}

const ADMIN = `${E}/admin.conf`;

export function expectedOf(damage: Damage, place: Place): Expected {
  const broken = (file: string) => {
    const kind = damage.get(file)?.kind;
    return kind === "mode" ? undefined : kind;
  };
  const found: Expected = {
    rows: new Set(),
    lost: [],
    foreigners: [],
    offline: [],
    adminElsewhere: false,
    others: [],
  };
  const { rows, lost, foreigners } = found;
  for (const { name, file } of CAS) {
    const [cert, key] = [broken(`${P}/${file}.crt`), broken(`${P}/${file}.key`)];
    const ofLeaves = LEAVES.filter(({ ca }) => ca === name).flatMap((leaf) =>
      ["crt", "key"].map((end) => broken(`${P}/${leaf.file}.${end}`)),
    );
    if (isInternal(name) && key === "gone" && !cert && ofLeaves.every((kind) => !kind)) {
      found.offline.push(name);
      continue;
    }
    if (cert === "foreign" && key === "foreign") foreigners.push(name);
    else if (cert || key) rows.add(name);
    const leaves = LEAVES.filter(({ ca }) => ca === name).map(
      (leaf) => broken(`${P}/${leaf.file}.crt`) ?? "own",
    );
    if (
      isLost({
        cert,
        key,
        leaves,
        named: name === "ca" || (name === "front-proxy-ca" && place.namesFrontProxy),
      })
    )
      lost.push(name);
  }
  const [saKey, saPub] = [broken(`${P}/sa.key`), broken(`${P}/sa.pub`)];
  if (saKey === "foreign" && saPub === "foreign") foreigners.push("sa");
  else if (saKey || saPub) rows.add("sa");
  if (saKey && !(saKey === "foreign" && saPub === "foreign")) lost.push("sa");
  found.others = filesOf(place).filter(
    (file) => broken(file) && !/\/pki\/(ca|front-proxy-ca|etcd\/ca|sa)\./.test(file),
  );
  if (rows.size + foreigners.length === 0 && found.others.length === 1 && broken(ADMIN) === "gone") {
    found.adminElsewhere = true;
    found.others = [];
  }
  return found;
}

type Broken = Kind | undefined;

/**
 * Whether a CA's key has to come from somewhere else. `named`: etcd's data has the CA's certificate;
 * otherwise only what it signed shows which it is.
 */
function isLost({
  cert,
  key,
  leaves,
  named,
}: {
  cert: Broken;
  key: Broken;
  leaves: (Kind | "own")[];
  named: boolean;
}): boolean {
  if (key === "gone" || key === "cut") return true;
  if (named) return key === "foreign" && cert !== "foreign";
  const signers = new Set(
    leaves
      .map((leaf) => (leaf === "expired" ? "own" : leaf))
      .filter((leaf) => leaf === "own" || leaf === "foreign"),
  );
  const holder = key === "foreign" ? "foreign" : "own";
  if (cert && cert !== key && signers.size > 0 && !signers.has(holder)) return true;
  if (key === "foreign" && !cert && !signers.has("foreign")) return true;
  return cert === "foreign" && key !== "foreign" && signers.size === 0;
}

const KEY_FILES = new Map([...CAS.map(({ name, file }): [string, string] => [name, file]), ["sa", "sa"]]);

export function isInternal(name: string): boolean {
  return name === "etcd-ca" || name === "front-proxy-ca";
}

/** "/etc/kubernetes/pki/etcd/ca.key" of "etcd-ca". */
function keyFileOf(name: string): string {
  return `${P}/${KEY_FILES.get(name)}.key`;
}

/** Files that their owner stores elsewhere: nothing repairs what is no damage. */
export function elsewhereOf({ offline, adminElsewhere }: Expected): string[] {
  return [...offline.map(keyFileOf), ...(adminElsewhere ? [ADMIN] : [])];
}

/** The shared keys that a repair has to keep byte for byte. */
export function soundKeys({ lost, foreigners, offline }: Expected): string[] {
  return [...KEY_FILES]
    .filter(([name]) => ![...lost, ...foreigners, ...offline].includes(name))
    .map(([, file]) => `${P}/${file}.key`);
}

/** What 00-assess says wrongly about a damage, a phrase each. */
export function wrongIn(
  said: Pick<AssessmentJson, "damaged" | "checks" | "rung" | "next">,
  { rows, lost, foreigners, others }: Expected,
): string[] {
  const bad = said.checks.filter(hasFailed);
  const wrong: string[] = [];
  const hold = (what: string, is: unknown, should: unknown) =>
    is !== should && wrong.push(`${what}: ${is}, should be ${should}`);
  const damaged = rows.size + others.length > 0 || foreigners.includes("ca");
  if (damaged || foreigners.length === 0) hold("damaged", said.damaged, damaged);
  for (const name of rows)
    hold(
      `shows ${name}`,
      bad.some(({ what }) => what.includes(`pki/${KEY_FILES.get(name)}.key`)),
      true,
    );
  if (foreigners.includes("ca")) {
    hold(
      "foreign",
      bad.some(({ state }) => state === "foreign"),
      true,
    );
    return wrong;
  }
  const dear = lost.filter((name) => !isInternal(name));
  hold("rung", said.rung, !said.damaged || dear.length > 0 ? undefined : 0);
  hold(
    "--new-internal-cas",
    said.next.some((line) => line.includes("--new-internal-cas")),
    dear.length === 0 && lost.length > 0,
  );
  return wrong;
}
