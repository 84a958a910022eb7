/**
 * Each reader that parses what others may have made in any number asks its budget between two parses, and stops: the search of
 * the disk and of memory, etcd's rows, old folders, copies, answers of nodes. By work, not by time. What reads etcd's rows and
 * asks no budget has its reason in `ROWS`.
 */
import { expect, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Budget } from "../../../shared/budget.ts";
import type { EtcdData } from "../../../shared/etcd-data/data.ts";
import { kubeSystemUids } from "../../../shared/evidence/owners.ts";
import { stalePods } from "../../../shared/facts/repair.ts";
import { failOf } from "../../../shared/fail.ts";
import { ANSWER_SCHEMA } from "../../../shared/json-answer.ts";
import { findMirrorPods, findStaticPods, mirrorPodsOf } from "../../../shared/manifests/mirror-pods.ts";
import type { Manifest } from "../../../shared/objects/objects.ts";
import { readObjects } from "../../../shared/objects/stored.ts";
import { collectTokens } from "../../../shared/old-sa-key/old-tokens.ts";
import { publicKeyHash } from "../../../shared/pki/certificate.ts";
import { readSeen } from "../../../shared/plan/node-answers.ts";
import { Disk } from "../../../shared/salvage/disk/disk.ts";
import { chooseConfig } from "../../../shared/salvage/disk/encryption-config.ts";
import { carve } from "../../../shared/salvage/disk-search.ts";
import { searchBeside } from "../../../shared/salvage/folders-beside.ts";
import { FoundKeys } from "../../../shared/salvage/found-keys.ts";
import { searchFolder, searchSecrets } from "../../../shared/salvage/keys-in-copies.ts";
import { searchProcess } from "../../../shared/salvage/memory-search.ts";
import type { WantedKey } from "../../../shared/salvage/wanted-keys.ts";
import { write } from "../../pretend/cluster.ts";
import { pretendData } from "../../pretend/control-plane-node.ts";
import { fakeMirror } from "../../pretend/hostile-pods.ts";
import { noise } from "../../pretend/lost-disk.ts";
import { pretendProcess } from "../../pretend/memory.ts";
import { newKeyOf } from "../../pretend/old-keys.ts";
import { caught, quietly } from "../../pretend/quietly.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { encryptionConfig, sealed } from "../../pretend/sealed.ts";

const MANY = 20;
const KEYS = Array.from({ length: MANY }, () => newKeyOf("ECDSA-P256").key);
/** The key that is lost is the last one. */
const LOST = KEYS.at(-1)!;
const target = { hash: publicKeyHash(createPrivateKey(LOST)), kind: "P-256" as const };

function lost(): FoundKeys {
  const generation = { ...target, from: ["the test"], tokens: [] };
  const wanted = {
    name: "ca",
    keyFile: "ca.key",
    publicFile: "ca.crt",
    shared: true,
    generations: [generation],
  };
  return new FoundKeys([wanted as unknown as WantedKey], { stash: false });
}

/** etcd's data with a Secret for each key. */
function secrets(): EtcdData {
  const rows = KEYS.map((key, i) => {
    const secret = { apiVersion: "v1", kind: "Secret", type: "Opaque", data: { "tls.key": btoa(key) } };
    return { key: `/registry/secrets/shop/s${i}`, value: Buffer.from(JSON.stringify(secret)) };
  });
  const namespace = "/registry/namespaces/kube-system";
  return {
    keys: (prefix: string) =>
      [namespace, ...rows.map(({ key }) => key)].filter((key) => key.startsWith(prefix)),
    get: (key: string) => rows.find((row) => row.key === key),
    list: (prefix: string) => rows.filter(({ key }) => key.startsWith(prefix)).values(),
  } as unknown as EtcdData;
}

/** etcd's data with mirror pods that a stranger has made: of this node by their names. */
function mirrors(namespace: string): Promise<EtcdData> {
  return pretendData((objects) => {
    for (const i of KEYS.keys()) Object.assign(objects, fakeMirror(namespace, `zz${i}`));
  });
}

/** etcd's data with one pod that is deleted, and had so many versions that were another node's. */
async function versions(): Promise<EtcdData> {
  const data = await mirrors("kube-system");
  const [name] = Object.keys(fakeMirror("kube-system", "zz0")) as [string];
  const stored = data.get(`/registry/${name}`)!;
  const elsewhere = Buffer.from(Buffer.from(stored.value).toString().replaceAll('"m1"', '"w1"'));
  const older = KEYS.map(() => ({ ...stored, value: elsewhere, deleted: false, modRevision: 2 }));
  return Object.assign(Object.create(data) as EtcdData, {
    get: (key: string) => (key === stored.key ? undefined : data.get(key)),
    keys: () => ["/registry/namespaces/kube-system"],
    deletedKeys: () => [stored.key],
    history: () => [...older, { ...stored, deleted: false }],
  });
}

const SECRET = '{"kind":"Secret"}';

interface Reader {
  what: string;
  /** Returns how many it has found; all ends with the lost key. */
  read: (budget: Budget, root: string) => Promise<number> | number;
}

const READERS: Reader[] = [
  {
    what: "keys on the disk",
    read: async (budget) => {
      const dir = mkdtempSync(join(tmpdir(), "asks-"));
      // more than the words of a piece that was read which are looked at when the time is over
      const keys = Array.from({ length: 300 }, () => newKeyOf("ECDSA-P256").key);
      const blocks = keys.map((key) => Buffer.concat([Buffer.from(key), Buffer.alloc(4096 - key.length)]));
      writeFileSync(join(dir, "disk.img"), Buffer.concat([noise(4096), ...blocks]));
      let found = 0;
      try {
        using disk = new Disk(join(dir, "disk.img"));
        for await (const _ of carve(disk, { budget })) found++;
        return found;
      } finally {
        rmSync(dir, { recursive: true });
      }
    },
  },
  {
    what: "keys in two pieces on the disk",
    read: async (budget) => {
      const dir = mkdtempSync(join(tmpdir(), "asks-"));
      const key = newKeyOf("RSA-2048").key;
      const blank = () => Buffer.alloc(1024);
      const heads = [Buffer.from(key.slice(0, 1024)), blank()];
      // each looks like its second piece
      const ends = Array.from({ length: MANY }, () => {
        const block = Buffer.alloc(2048);
        block.write(key.slice(1024).replace(/^\w/, (letter) => (letter === "A" ? "B" : "A")));
        return block;
      });
      const last = Buffer.alloc(2048);
      last.write(key.slice(1024));
      writeFileSync(join(dir, "disk.img"), Buffer.concat([...heads, ...ends, last]));
      let found = 0;
      try {
        using disk = new Disk(join(dir, "disk.img"));
        for await (const find of carve(disk, { budget })) if (find.kind === "private key") found += MANY;
        return found;
      } finally {
        rmSync(dir, { recursive: true });
      }
    },
  },
  {
    what: "keys in the memory of a process",
    read: async (budget, root) => {
      pretendProcess(root, { pid: 31, comm: "kube-apiserver", holds: KEYS.map((key) => Buffer.from(key)) });
      const process = { pid: 31, name: "kube-apiserver" };
      return (await searchProcess(process, [target], { budget })).keys.size * MANY;
    },
  },
  {
    what: "keys in etcd's Secrets",
    read: async (budget) => {
      const found = lost();
      await searchSecrets(found, secrets(), { budget });
      return found.missing().length === 0 ? MANY : 0;
    },
  },
  {
    what: "tokens in etcd's Secrets",
    read: (budget) => collectTokens(secrets(), "/pods", undefined, budget).found.length + MANY,
  },
  {
    what: "objects below a place in etcd",
    read: async (budget) => readObjects(await mirrors("kube-system"), "pods/", budget).toArray().length,
  },
  {
    what: "mirror pods of a node",
    read: async (budget) => findMirrorPods(await mirrors("kube-system"), "m1", budget).length,
  },
  {
    what: "versions of a mirror pod",
    read: async (budget) => findMirrorPods(await versions(), "m1", budget).length * MANY,
  },
  {
    what: "mirror pods of many nodes",
    read: async (budget) => mirrorPodsOf(await mirrors("kube-system"), ["m1"], budget).get("m1")?.length ?? 0,
  },
  {
    what: "UIDs of kube-system's pods",
    read: async (budget) => {
      const data = await pretendData((objects) => {
        for (const i of KEYS.keys()) {
          const change = ({ metadata }: Manifest) => (metadata.uid = `u${i}`);
          Object.assign(objects, fakeMirror("kube-system", `zz${i}`, { change }));
        }
      });
      return kubeSystemUids(data, budget).size;
    },
  },
  {
    what: "pods that a repair would restart",
    read: async (budget) => {
      const cutOff = { rootCa: () => new Date(0), token: () => undefined };
      return stalePods(await mirrors("kube-system"), new Set(["m1"]), cutOff, "pods/", budget) ? 0 : MANY;
    },
  },
  {
    what: "encryption configurations of the disk",
    read: async (budget) => {
      const own = Buffer.alloc(32, "a");
      const value = sealed("secretbox", Buffer.from(SECRET), own, "/registry/secrets/default/s");
      const data = await pretendData((objects) => Object.assign(objects, { "secrets/default/s": value }));
      const finds = [...KEYS.map((_, i) => Buffer.alloc(32, `b${i}`)), own].map((key) => ({
        ...{ kind: "config" as const, offset: 0 },
        text: encryptionConfig("secretbox", key.toString("latin1") === own.toString("latin1") ? own : key),
      }));
      return chooseConfig(finds, data, budget).proved === undefined ? 0 : MANY;
    },
  },
  {
    what: "a folder of copies",
    read: async (budget, root) => {
      for (const [i, key] of KEYS.entries()) write(`${root}/mnt/${String(i).padStart(2, "0")}.key`, key);
      const found = lost();
      await searchFolder(found, "/mnt", { budget });
      return found.missing().length === 0 ? MANY : 0;
    },
  },
  {
    what: "old folders beside",
    read: async (budget, root) => {
      for (const [i, key] of KEYS.entries())
        write(`${root}/etc/kubernetes/pki/old.${String(i).padStart(2, "0")}/ca.key`, key);
      const found = lost();
      await searchBeside(found, { certificatesDir: "/etc/kubernetes/pki" }, budget);
      return found.missing().length === 0 ? MANY : 0;
    },
  },
  {
    what: "answers of nodes",
    read: (budget, root) => {
      const names = KEYS.map((_, i) => `w${String(i).padStart(2, "0")}`);
      for (const node of names) {
        const said = {
          schemaVersion: ANSWER_SCHEMA,
          ended: "ok",
          node,
          role: "worker",
          made: new Date(),
          ca: { hashes: ["h"] },
          damage: [],
        };
        write(`${root}/seen/${node}.json`, JSON.stringify(said));
      }
      const nodes = names.map((name) => ({ name, controlPlane: false }));
      return readSeen("/seen", { nodes, hashes: ["h"], now: new Date() }, budget).nodes.length;
    },
  },
];

/** Read with a signal that counts how often it is asked, and that ends the search then. */
async function readUntil({ read }: Reader, stopAt = Number.POSITIVE_INFINITY) {
  using box = sandbox();
  let asked = 0;
  const stop = {
    get aborted() {
      return ++asked >= stopAt;
    },
  } as AbortSignal;
  const budget = new Budget({ what: "it", seconds: 3600, bytes: 1e12, stop, hint: "give it more" });
  let found = 0;
  const said = await failOf(() => quietly(async () => (found = await read(budget, box.dir))));
  return { asked, found, said: said?.message };
}

test.each(READERS.map((reader) => [reader.what, reader] as const))(
  "%s: the budget is asked between two parses, and ends the reading",
  async (_, reader) => {
    const whole = await readUntil(reader);
    expect(whole.said).toBeUndefined();
    expect(whole.found).toBeGreaterThanOrEqual(MANY);
    expect(whole.asked).toBeGreaterThanOrEqual(MANY);
    const half = await readUntil(reader, Math.floor(whole.asked / 2));
    expect(half.found).toBeLessThan(whole.found);
    expect(half.asked - Math.floor(whole.asked / 2)).toBeLessThanOrEqual(Math.max(MANY + 4, 2 * 256));
  },
);

/** What reads many of etcd's rows: in a test above, by its name; or why nobody can make it slow. */
const ROWS: Record<string, { readers?: string[]; reason?: string }> = {
  "etcd-location/etcd-folders.ts": {
    reason: "the same, with values opened one at a time, as its readers ask for them",
  },
  "etcd-location/reach-etcd.ts": { reason: "names alone; of values only whether three keys have any" },
  "etcd/identity.ts": { reason: "names and leases alone" },
  "evidence/owners.ts": { readers: ["UIDs of kube-system's pods"] },
  "facts/cluster.ts": { reason: "whether there is a first one" },
  "manifests/mirror-pods.ts": {
    readers: ["mirror pods of a node", "mirror pods of many nodes", "versions of a mirror pod"],
  },
  "objects/stored.ts": { readers: ["objects below a place in etcd", "pods that a repair would restart"] },
  "old-sa-key/old-tokens.ts": { readers: ["tokens in etcd's Secrets"] },
  "plan/make-plan.ts": { reason: "names alone" },
  "restore/content.ts": { reason: "names alone" },
  "restore/left-out.ts": { reason: "the same data without some of its keys" },
  "restore/several-members.ts": { reason: "bytes are compared: each value is read once, and not parsed" },
  "restore/value-witnesses.ts": {
    reason: "each value that is copied is looked at once: parsers.test.ts holds its price",
  },
  "restore/whole-log.ts": { reason: "bytes are compared: each value is read once, and not parsed" },
  "salvage/disk/encryption-config.ts": { readers: ["encryption configurations of the disk"] },
  "salvage/keys-in-copies.ts": { readers: ["keys in etcd's Secrets"] },
  "workers/identities.ts": { reason: "names alone; webhooks are read as objects below a place" },
};

const READS_MANY = /\b(?:data|copy|log)\??\.(?:list|keys|history|deletedKeys)\(|look: lookAtValue/;

test("whoever reads many of etcd's rows asks a budget, or has a reason", () => {
  const shared = join(import.meta.dir, "../../../shared");
  const files = globSync("**/*.ts", { cwd: shared }).filter((path) =>
    READS_MANY.test(readFileSync(join(shared, path), "utf8")),
  );
  expect(Object.keys(ROWS).toSorted()).toEqual(files.toSorted());
  const tested = new Set(READERS.map(({ what }) => what));
  const named = Object.values(ROWS).flatMap(({ readers = [] }) => readers);
  expect(named.filter((what) => !tested.has(what))).toEqual([]);
});

test("a tenant's mirror pods without number hide none of kube-system's: the rest of theirs is not read, and that is said", async () => {
  using _box = sandbox();
  const data = await mirrors("shop");
  const whole = findStaticPods(data, "m1");
  const ask = async (stopAt: number) => {
    let asked = 0;
    const stop = {
      get aborted() {
        return ++asked > stopAt;
      },
    } as AbortSignal;
    const budget = new Budget({ what: "pods", seconds: 3600, bytes: 1e12, stop, hint: "give it more" });
    const { value, stderr } = await caught(async () => findStaticPods(data, "m1", budget));
    return { ...value, asked, stderr };
  };
  const all = await ask(Number.POSITIVE_INFINITY);
  expect([all.unproved.length, all.stderr]).toEqual([MANY, "\n"]);
  const few = await ask(all.asked - MANY / 2);
  expect(few.proved).toEqual(whole.proved);
  expect(few.unproved).toHaveLength(MANY / 2);
  expect(few.stderr).toContain("warning: ");
});
