/**
 * Random damages of a healthy control plane node: what 00-assess says of each, held against what was done;
 * and that the repair, by the code of parts 1 and 2, repairs all of it or refuses, keeps every sound key, and
 * throws nothing away. 200 of them, ten in a sample; DAMAGES=N takes so many, SEED=N other ones.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { assess } from "../../shared/assess/assess.ts";
import { assessmentAsJson } from "../../shared/assess/assessment.ts";
import { lookHere } from "../../shared/assess/look-here.ts";
import { hasFailed } from "../../shared/checks/check.ts";
import { readControlPlaneNode } from "../../shared/facts/control-plane-node.ts";
import type { ControlPlaneNode } from "../../shared/facts/node-facts.ts";
import { Fail } from "../../shared/fail.ts";
import { copyTree } from "../../shared/files/file-tree.ts";
import { setRoot } from "../../shared/files/files.ts";
import { ensureControlPlaneKubelet } from "../../shared/node/control-plane-kubelet.ts";
import { rescuedEtcd } from "../../shared/node/rescue-folder.ts";
import type { NewCas } from "../../shared/pki/actions.ts";
import { CERTS } from "../../shared/pki/certs.ts";
import { ensureMany } from "../../shared/pki/ensure.ts";
import { kubeconfigRows } from "../../shared/pki/kubeconfigs.ts";
import { restoreManifests } from "../../shared/static-pods/restore.ts";
import { optionsForEnsure } from "../../shared/static-pods/work.ts";
import { healthyCp, makeControlPlane } from "../pretend/cluster.ts";
import {
  chooseDamage,
  type Damage,
  expectedOf,
  isInternal,
  listed,
  type Place,
  random,
  soundKeys,
  wrongIn,
} from "../pretend/damage.ts";
import { POD_UID, podRecord } from "../pretend/memory.ts";
import { leaveNode } from "../pretend/no-node.ts";
import { pretendNode } from "../pretend/node.ts";
import { tokenBy } from "../pretend/old-keys.ts";
import { quietly } from "../pretend/quietly.ts";
import { IS_SAMPLE } from "./sample.ts";

setDefaultTimeout(900_000);

const COUNT = Number(process.env.DAMAGES || (IS_SAMPLE ? 10 : 200));
const SEED = Number(process.env.SEED || 20261124);

const { root: healthy } = await healthyCp();
const foreign = (
  await makeControlPlane({
    now: new Date(Date.now() - 2 * 8760 * 3600_000),
    facts: { nodeName: "m2", advertiseAddress: "10.1.1.1" },
  })
).root;
const node = await pretendNode({ kind: "healthy control plane node" });
const path = process.env.PATH;
Object.assign(process.env, node.env);
afterAll(() => {
  process.env.PATH = path;
  leaveNode();
  node[Symbol.dispose]();
});

const at = (file: string) => node.root + file;
const original = (file: string) => readFileSync(healthy + file, "utf8");
const now = (file: string) => (existsSync(at(file)) ? readFileSync(at(file), "utf8") : undefined);

const PLACE: Place = {
  client: "/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem",
  original,
  foreign: (file) => readFileSync(foreign + file, "utf8"),
  namesFrontProxy: false,
};

function restore() {
  for (const folder of ["etc", "var/lib/kubelet"]) {
    rmSync(`${node.root}/${folder}`, { recursive: true, force: true });
    cpSync(`${healthy}/${folder}`, `${node.root}/${folder}`, {
      recursive: true,
      preserveTimestamps: true,
      verbatimSymlinks: true,
    });
  }
  rmSync(`${node.root}/root`, { recursive: true, force: true });
  mkdirSync(`${node.root}/root`);
  const pair = { key: original("/etc/kubernetes/pki/sa.key"), pub: original("/etc/kubernetes/pki/sa.pub") };
  podRecord(node.root, "kube-system", "kube-proxy-x", POD_UID);
  const volume = `${node.root}/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/api`;
  mkdirSync(volume, { recursive: true });
  writeFileSync(
    `${volume}/token`,
    tokenBy(pair, { alg: "ES256", of: "kube-system:kube-proxy", issuedAt: 1000 }),
  );
}

/** By the code of parts 1 and 2, in their order. */
async function repair(newCas: NewCas | undefined): Promise<ControlPlaneNode> {
  const cp = await readControlPlaneNode("/var/lib/etcd");
  const { facts, asideDir } = cp;
  const kubeconfigs = kubeconfigRows(facts, { superAdmin: false }).filter((row) => row.name !== "kubelet");
  await ensureMany(
    { certs: CERTS, kubeconfigs, serviceAccountKey: true },
    facts,
    optionsForEnsure(cp, newCas),
  );
  // part 1 has copied it before: a new CA without that copy would be somebody else's
  copyTree(cp.etcd.dir, rescuedEtcd(cp.rescue));
  await ensureControlPlaneKubelet(cp.node, facts, asideDir);
  restoreManifests(cp, ["etcd"]);
  restoreManifests(cp);
  return cp;
}

/** Every text below the node's root. */
function texts(): Set<string> {
  const files = readdirSync(node.root, { recursive: true, encoding: "utf8" }).map((name) =>
    join(node.root, name),
  );
  return new Set(
    files
      .filter((file) => !file.includes("/etcd/member") && lstatSync(file).isFile())
      .map((file) => readFileSync(file, "utf8")),
  );
}

async function check(damage: Damage) {
  const wanted = expectedOf(damage, PLACE);
  expect(wrongIn(assessmentAsJson(await assess(await lookHere("/var/lib/etcd"))), wanted)).toEqual([]);
  if (wanted.foreigners.includes("ca")) return;
  const irreplaceable = wanted.lost.filter((name) => !isInternal(name));
  const before = new Map(soundKeys(wanted).map((file) => [file, now(file)]));
  const replaced = [...damage]
    .filter(
      ([file, { kind }]) => kind !== "gone" && kind !== "mode" && file !== "/etc/kubernetes/kubelet.conf",
    )
    .map(([file]) => now(file)!);
  if (wanted.lost.length > 0) {
    const refused = await repair(undefined).catch((err: unknown) => err);
    expect(refused).toBeInstanceOf(Fail);
    expect((refused as Fail).message).toContain("is needed and cannot be used");
    expect(existsSync(at("/root")) && readdirSync(at("/root"))).toEqual([]);
  }
  await repair(irreplaceable.length > 0 ? "all" : wanted.lost.length > 0 ? "internal" : undefined);
  for (const [file, text] of before) expect([file, now(file) === text]).toEqual([file, true]);
  const kept = texts();
  for (const text of replaced) expect(kept.has(text)).toBe(true);
  const after = await assess(await lookHere("/var/lib/etcd"));
  expect(after.damage.filter(hasFailed)).toEqual([]);
}

test(`${COUNT} random damages: each is reported, then repaired with every sound key kept, or refused (SEED=${SEED})`, async () => {
  setRoot(node.root);
  const pick = random(SEED);
  const wrong: string[] = [];
  for (let i = 0; i < COUNT; i++) {
    restore();
    const damage = await chooseDamage(PLACE, pick);
    for (const [file, { act }] of damage) act(at(file));
    try {
      await quietly(() => check(damage));
    } catch (err) {
      wrong.push(
        `${i + 1} (SEED=${SEED}): ${listed(damage)}: ${(err as Error).message.replace(/\s+/g, " ").slice(0, 400)}`,
      );
    }
  }
  console.log(`${COUNT - wrong.length} of ${COUNT} damages right`);
  expect(wrong).toEqual([]);
});
