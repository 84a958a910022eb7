/**
 * Random damages of a healthy master: what 00-assess says of each, held against what was done; and that the repair, by the code of parts 1
 * and 2, mends all of it or refuses, keeps every sound key, and throws nothing away. 30 of them; `DAMAGES=200 ./bunw test test/damages.test.ts`
 * takes more, `SEED=N` the same ones again.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, cpSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { assess } from "../shared/assess/assess.ts";
import { isDamage } from "../shared/assess/rows.ts";
import { Fail } from "../shared/fail.ts";
import { setRoot } from "../shared/files/files.ts";
import { ensureOptions, type Master, readMaster } from "../shared/master.ts";
import { ensureMasterKubelet } from "../shared/nodes/kubelet.ts";
import { publicPem, serviceAccountKeyId } from "../shared/pki/certificate.ts";
import { CERTS } from "../shared/pki/certs.ts";
import { ensureMany, type NewCas, refuseLostKeys } from "../shared/pki/ensure-pki.ts";
import { issueClient, issueLeaf, type Pair } from "../shared/pki/issue.ts";
import { KUBECONFIGS, kubeconfigRows, kubeconfigText } from "../shared/pki/kubeconfigs.ts";
import { restoreManifests } from "../shared/static-pods/static-pods.ts";
import { FACTS, healthyMaster, makeMaster } from "./pretend-cluster.ts";
import { pretendNode } from "./pretend-node.ts";

setDefaultTimeout(900_000);

const COUNT = Number(process.env.DAMAGES || 30);
const SEED = Number(process.env.SEED || 20261124);

const { root: healthy } = await healthyMaster();
const foreign = (
  await makeMaster({ now: new Date(Date.now() - 2 * 8760 * 3600_000), facts: { nodeName: "m2", advertiseAddress: "10.1.1.1" } })
).root;
const node = await pretendNode({ kind: "healthy master" });
const path = process.env.PATH;
Object.assign(process.env, { PATH: node.programs, FAKE: dirname(node.programs) });
afterAll(() => {
  process.env.PATH = path;
  setRoot("/");
  node[Symbol.dispose]();
});

const E = "/etc/kubernetes";
const P = `${E}/pki`;
const CLIENT = "/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem";
const PODS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
const CONFIGS = ["admin", "controller-manager", "scheduler"];
const AUTHORITIES = CERTS.filter((row) => !row.ca);
const LEAVES = CERTS.filter((row) => row.ca);
const FILES = [
  ...CERTS.flatMap(({ file }) => [`${P}/${file}.crt`, `${P}/${file}.key`]),
  ...[`${P}/sa.key`, `${P}/sa.pub`, `${E}/kubelet.conf`, CLIENT],
  ...CONFIGS.map((name) => `${E}/${name}.conf`),
  ...PODS.map((name) => `${E}/manifests/${name}.yaml`),
];

type Kind = "gone" | "cut" | "foreign" | "expired" | "mode";

/** What is done to a file; a kind that a file cannot have does nothing to it. */
const KINDS: Record<Kind, (file: string) => Promise<boolean> | boolean> = {
  gone(file) {
    rmSync(at(file));
    return true;
  },
  cut: (file) => put(file, original(file).slice(0, Math.floor(original(file).length / 2))),
  foreign: (file) => put(file, readFileSync(foreign + file, "utf8")),
  expired: async (file) => {
    const text = await expired(file);
    return text !== undefined && put(file, text);
  },
  mode(file) {
    chmodSync(at(file), 0o644);
    return true;
  },
};

const at = (file: string) => node.root + file;
const original = (file: string) => readFileSync(healthy + file, "utf8");
const now = (file: string) => (existsSync(at(file)) ? readFileSync(at(file), "utf8") : undefined);

function put(file: string, text: string): boolean {
  writeFileSync(at(file), text);
  return text !== original(file);
}

/** The same certificate of the same key, issued three years ago for one year. */
async function expired(file: string): Promise<string | undefined> {
  const then = new Date(Date.now() - 3 * 8760 * 3600_000);
  const pair = (name: string): Pair => ({ cert: original(`${P}/${name}.crt`), key: original(`${P}/${name}.key`) });
  const leaf = LEAVES.find((row) => file === `${P}/${row.file}.crt`);
  if (leaf) {
    const key = original(file.replace(/crt$/, "key"));
    const ca = pair(AUTHORITIES.find(({ name }) => name === leaf.ca)!.file);
    return (await issueLeaf(leaf, ca, FACTS, { now: then, key: { key, pub: publicPem(key) } })).cert;
  }
  if (file === CLIENT) {
    const { cert, key } = await issueClient({ cn: "system:node:m1", o: "system:nodes" }, pair("ca"), FACTS, { now: then });
    return cert + key;
  }
  const config = KUBECONFIGS.find((row) => row.path === file && row.name !== "kubelet");
  if (!config) return undefined;
  const cn = typeof config.cn === "string" ? config.cn : config.cn(FACTS);
  const o = config.o?.(34);
  const user = await issueClient({ cn, ...(o && { o }) }, pair("ca"), FACTS, { now: then });
  return kubeconfigText(config, FACTS, { ca: pair("ca").cert, user });
}

type Damage = Map<string, Kind>;

/** Numbers below n, the same for the same seed: mulberry32 by Tommy Ettinger (public domain), in our own words. */
function random(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

async function wreck(pick: (n: number) => number): Promise<Damage> {
  restore();
  const damage: Damage = new Map();
  const count = [1, 1, 2, 3, 5, 10][pick(6)]!;
  for (let i = 0; i < count; i++) {
    const file = FILES[pick(FILES.length)]!;
    const kind = (Object.keys(KINDS) as Kind[])[pick(5)]!;
    if (!damage.has(file) && (await KINDS[kind](file))) damage.set(file, kind);
  }
  return damage;
}

function restore() {
  for (const folder of ["etc", "var/lib/kubelet"]) {
    rmSync(`${node.root}/${folder}`, { recursive: true, force: true });
    cpSync(`${healthy}/${folder}`, `${node.root}/${folder}`, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  }
  rmSync(`${node.root}/root`, { recursive: true, force: true });
  mkdirSync(`${node.root}/root`);
  const kid = serviceAccountKeyId(original(`${P}/sa.pub`));
  const token = [{ alg: "ES256", kid }, { iat: 1000 }].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  const volume = `${node.root}/var/lib/kubelet/pods/uid/volumes/kubernetes.io~projected/api`;
  mkdirSync(volume, { recursive: true });
  writeFileSync(`${volume}/token`, `${token}.c2ln`);
}

/** What has to be said of a damage, worked out from what was done, not from what is on disk. */
function expected(damage: Damage) {
  const broken = (file: string) => {
    const kind = damage.get(file);
    return kind === undefined || kind === "mode" ? undefined : kind;
  };
  const rows = new Set<string>();
  const lost: string[] = [];
  const foreigners: string[] = [];
  for (const { name, file } of AUTHORITIES) {
    const [cert, key] = [broken(`${P}/${file}.crt`), broken(`${P}/${file}.key`)];
    if (cert === "foreign" && key === "foreign") foreigners.push(name);
    else if (cert || key) rows.add(name);
    const leaves = LEAVES.filter(({ ca }) => ca === name).map((leaf) => broken(`${P}/${leaf.file}.crt`) ?? "own");
    const signers = new Set(
      leaves.map((leaf) => (leaf === "expired" ? "own" : leaf)).filter((leaf) => leaf === "own" || leaf === "foreign"),
    );
    const holder = key === "foreign" ? "foreign" : "own";
    if (key === "gone" || key === "cut") lost.push(name);
    else if (name === "ca") {
      if (key === "foreign" && cert !== "foreign") lost.push(name);
    } else if (cert && cert !== key && signers.size > 0 && !signers.has(holder)) lost.push(name);
    else if (key === "foreign" && !cert && !signers.has("foreign")) lost.push(name);
    else if (cert === "foreign" && key !== "foreign" && signers.size === 0) lost.push(name);
  }
  const [saKey, saPub] = [broken(`${P}/sa.key`), broken(`${P}/sa.pub`)];
  if (saKey === "foreign" && saPub === "foreign") foreigners.push("sa");
  else if (saKey || saPub) rows.add("sa");
  if (saKey && !(saKey === "foreign" && saPub === "foreign")) lost.push("sa");
  return { rows, lost, foreigners, others: FILES.filter((file) => broken(file) && !/\/pki\/(ca|front-proxy-ca|etcd\/ca|sa)\./.test(file)) };
}

const isInternal = (name: string) => name === "etcd-ca" || name === "front-proxy-ca";

/** By the code of parts 1 and 2, in their order. */
async function repair(newCas: NewCas | undefined): Promise<Master> {
  const master = await readMaster("/var/lib/etcd");
  const { facts, asideDir } = master;
  refuseLostKeys(facts, ensureOptions(master, newCas));
  const kubeconfigs = kubeconfigRows(facts, { superAdmin: false }).filter((row) => row.name !== "kubelet");
  await ensureMany({ certs: CERTS, kubeconfigs, serviceAccountKey: true }, facts, ensureOptions(master, newCas));
  await ensureMasterKubelet(master.node, facts, asideDir);
  restoreManifests(master, ["etcd"]);
  restoreManifests(master);
  return master;
}

/** Every text below the node's root. */
function texts(): Set<string> {
  const files = readdirSync(node.root, { recursive: true, encoding: "utf8" }).map((name) => join(node.root, name));
  return new Set(
    files.filter((file) => !file.includes("/etcd/member") && lstatSync(file).isFile()).map((file) => readFileSync(file, "utf8")),
  );
}

const PUBLIC_HALVES = new Map([...AUTHORITIES.map(({ name, file }): [string, string] => [name, file]), ["sa", "sa"]]);

/** Where the last said is of no use: 00-assess and the repair narrate on stderr. */
async function quietly<T>(action: () => Promise<T>): Promise<T> {
  const spoken = console.error;
  console.error = () => undefined;
  try {
    return await action();
  } finally {
    console.error = spoken;
  }
}

async function check(damage: Damage) {
  const wanted = expected(damage);
  const said = await assess("/var/lib/etcd");
  const bad = said.damage.filter(isDamage);
  const damaged = wanted.rows.size + wanted.others.length > 0 || wanted.foreigners.some((name) => name === "ca");
  const mayShow = wanted.foreigners.length > 0;
  if (!mayShow) expect(said.damaged).toBe(damaged);
  else if (damaged) expect(said.damaged).toBe(true);
  const shows = (name: string) => bad.some(({ what }) => what.includes(name));
  for (const name of wanted.rows) expect([name, shows(`pki/${PUBLIC_HALVES.get(name)}.key`)]).toEqual([name, true]);
  if (wanted.foreigners.includes("ca")) {
    expect(bad.map(({ state }) => state)).toContain("!FOREIGN!");
    return;
  }
  const dear = wanted.lost.filter((name) => !isInternal(name));
  const rung = !said.damaged || dear.length > 0 ? undefined : 0;
  expect(said.rung).toBe(rung);
  expect(said.next.some((line) => line.includes("--new-internal-cas"))).toBe(dear.length === 0 && wanted.lost.length > 0);

  const keys = [...PUBLIC_HALVES].filter(([name]) => !wanted.lost.includes(name)).map(([, file]) => `${P}/${file}.key`);
  const before = new Map(keys.map((file) => [file, now(file)]));
  const replaced = [...damage]
    .filter(([file, kind]) => kind !== "gone" && kind !== "mode" && file !== `${E}/kubelet.conf`)
    .map(([file]) => now(file)!);
  if (wanted.lost.length > 0) {
    const refused = await repair(undefined).catch((err: unknown) => err);
    expect(refused).toBeInstanceOf(Fail);
    expect((refused as Fail).message).toContain("is needed and cannot be used");
    expect(existsSync(at("/root")) && readdirSync(at("/root"))).toEqual([]);
  }
  await repair(dear.length > 0 ? "all" : wanted.lost.length > 0 ? "internal" : undefined);
  for (const [file, text] of before) expect([file, now(file) === text]).toEqual([file, true]);
  const kept = texts();
  for (const text of replaced) expect(kept.has(text)).toBe(true);
  const after = await assess("/var/lib/etcd");
  expect(after.damage.filter(isDamage)).toEqual([]);
}

test(`${COUNT} random damages: each is told, and mended with what is sound kept, or refused (SEED=${SEED})`, async () => {
  setRoot(node.root);
  const pick = random(SEED);
  const wrong: string[] = [];
  for (let i = 0; i < COUNT; i++) {
    const damage = await wreck(pick);
    const list = [...damage].map(([file, kind]) => `${kind} ${file}`).join(", ");
    try {
      await quietly(() => check(damage));
    } catch (err) {
      wrong.push(`${i + 1} (SEED=${SEED}): ${list}: ${(err as Error).message.replace(/\s+/g, " ").slice(0, 400)}`);
    }
  }
  if (process.env.DAMAGES) console.log(`${COUNT - wrong.length} of ${COUNT} damages right`);
  expect(wrong).toEqual([]);
});
