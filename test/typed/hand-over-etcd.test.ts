/** hand-over pack --with-etcd: the backup that new machines need, and how it comes back. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { packTar } from "../../shared/hand-over/bundle.ts";
import { type Lock, seal } from "../../shared/hand-over/sealed.ts";
import { certInfo, hashIn } from "../../shared/pki/certificate.ts";
import { bundleOf, sharedFiles } from "../pretend/bundles.ts";
import { clusterObjects, healthyCp } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { MEMBER, pretendNode } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";
import { snapshotOf, streamed } from "../pretend/write-db.ts";

setDefaultTimeout(300_000);

const identity = await generateX25519Identity();
const recipient = await identityToRecipient(identity);
const PACK = `hand-over pack --to ${recipient} --out keys.age`;
const { ca } = await healthyCp();
const OURS = certInfo(ca.cert).publicKeyHash;
const OPEN = `hand-over snapshot keys.etcd.age --identity id --ca-hash ${OURS} --out back.db`;

/** Of a cluster with these CAs, and of some pieces, as etcd sends them. */
const snapshotWith = (...cas: string[]) =>
  snapshotOf({
    members: [MEMBER],
    puts: [
      ...Object.entries(clusterObjects(cas.join(""))).map(
        ([key, object]) => [`/registry/${key}`, JSON.stringify(object)] as const,
      ),
      ...Array.from({ length: 400 }, (_, i) => [`/registry/k/${i}`, "v".repeat(500)] as const),
    ],
  });

const SNAPSHOT = snapshotWith(ca.cert);

async function wellNode() {
  const node = here(await pretendNode({ kind: "healthy control plane node" }));
  writeFileSync(`${node.root}/root/id`, `${identity}\n`, { mode: 0o600 });
  return node;
}

const serving = ({ root, stored }: Awaited<ReturnType<typeof wellNode>>, snapshot: string) =>
  serveEtcd(root, { ...sameEtcd(stored), snapshot });

test("keys and etcd's snapshot are locked by the same, and the snapshot comes back byte for byte", async () => {
  using node = await wellNode();
  using _etcd = serving(node, streamed(SNAPSHOT));
  const { exitCode, stderr } = await node.run(`${PACK} --with-etcd`);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  const locked = readFileSync(`${node.root}/root/keys.etcd.age`);
  expect(locked.includes("/registry/k/1")).toBe(false);
  const mark = JSON.parse(node.read("/etc/kubernetes/.kube-pki-repair-backup"));
  expect(mark).toMatchObject({ bundle: "keys.age", etcd: { file: "keys.etcd.age" } });
  const opened = await node.run(OPEN);
  expect(opened).toMatchObject({ exitCode: 0 });
  expect(opened.stderr).toContain("unencrypted: remove it after the restore");
  expect(opened.stderr).toMatch(
    /\ndone\. {2}next: \.\/bunw scripts\/restore\.ts --as NODE --ca-hash sha256:\S+ back\.db\n$/,
  );
  expect(readFileSync(`${node.root}/root/back.db`).equals(SNAPSHOT)).toBe(true);
  expect((await node.run(OPEN)).stderr).toContain('"back.db" is there already');
  await node.run(`${PACK} --force`);
  expect(JSON.parse(node.read("/etc/kubernetes/.kube-pki-repair-backup")).etcd).toEqual(mark.etcd);
});

const sent = streamed(SNAPSHOT);
const lines = sent.trim().split("\n");

test.each<[string, string, string]>([
  ["is cut off", `${lines.slice(0, -1).join("\n")}\n`, "was cut off, or changed on its way"],
  [
    "is changed",
    `${[lines[1], lines[0], ...lines.slice(2)].join("\n")}\n`,
    "was cut off, or changed on its way",
  ],
  ["etcd ends", `${lines[0]}\n{"error":{"message":"disk"}}\n`, "stopped its snapshot: disk"],
])(
  "a snapshot that %s is none: nothing of it is left, and no mark says that there is one",
  async (_, stream, said) => {
    using node = await wellNode();
    using _etcd = serving(node, stream);
    const { exitCode, stderr } = await node.run(`${PACK} --with-etcd`);
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
    expect(stderr).toContain(said);
    expect(readdirSync(`${node.root}/root`).filter((name) => name.includes("etcd"))).toEqual([]);
    expect(JSON.parse(node.read("/etc/kubernetes/.kube-pki-repair-backup")).etcd).toBeUndefined();
  },
);

test("a snapshot is whole without a line break behind its last piece", async () => {
  using node = await wellNode();
  using _etcd = serving(node, sent.trimEnd());
  expect(await node.run(`${PACK} --with-etcd`)).toMatchObject({ exitCode: 0 });
  expect(await node.run(OPEN)).toMatchObject({ exitCode: 0 });
  expect(readFileSync(`${node.root}/root/back.db`).equals(SNAPSHOT)).toBe(true);
});

test("a locked snapshot that was cut off, or is another's, is not opened", async () => {
  using node = await wellNode();
  using _etcd = serving(node, sent);
  await node.run(`${PACK} --with-etcd`);
  const path = `${node.root}/root/keys.etcd.age`;
  const whole = readFileSync(path);
  writeFileSync(path, whole.subarray(0, -5000));
  expect((await node.run(OPEN)).stderr).toContain("error: The file is damaged");
  writeFileSync(path, whole);
  writeFileSync(`${node.root}/root/id`, `${await generateX25519Identity()}\n`, { mode: 0o600 });
  expect((await node.run(OPEN)).stderr).toContain("None of these identities opens this file");
  expect(node.exists("/root/back.db")).toBe(false);
});

/** Of everybody who knows the recipient. */
const FOR_US: Lock = { recipients: [recipient] };
const BY_WORD: Lock = { passphrase: "a long passphrase" };

const [hisFiles, ourFiles] = [await sharedFiles(), await sharedFiles()];
const HIS = hashIn(hisFiles.get("ca.crt")!.toString());
ourFiles.set("ca.crt", Buffer.from(ca.cert)).set("ca.key", Buffer.from(ca.key));
const his = hisFiles.get("ca.crt")!.toString();

/** A new machine on which nothing is but what lay with the backups: a locked snapshot, and a locked bundle. */
async function newMachine(cas: string[], files: typeof hisFiles, lock: Lock) {
  const node = here(await pretendNode({ kind: "no node" }));
  writeFileSync(`${node.root}/root/id`, `${identity}\n`, { mode: 0o600 });
  writeFileSync(`${node.root}/root/word`, "a long passphrase\n", { mode: 0o600 });
  const fast = { scryptLogN: 10 };
  writeFileSync(`${node.root}/root/keys.etcd.age`, await seal(snapshotWith(...cas), lock, fast));
  const cluster = { name: "kubernetes", kubeSystemUid: "uid-of-kube-system" };
  const bundle = packTar(bundleOf(files, { cluster }));
  writeFileSync(`${node.root}/root/keys.age`, await seal(bundle, lock, fast));
  const ends = async (line: string, exitCode: number, said: string | RegExp) => {
    const before = filesOf(node);
    const run = await node.run(line);
    expect({ line, exitCode: run.exitCode, stderr: run.stderr }).toMatchObject({ exitCode });
    expect(run.stderr).toMatch(said);
    if (exitCode !== 0) expect(filesOf(node)).toEqual(before);
    return run.stderr;
  };
  return Object.assign(node, { ends });
}

/** A snapshot is written beside its place before it is looked at: the folder's time may change. */
const filesOf = (node: { fingerprint(): string[] }) =>
  node.fingerprint().filter((line) => !/^\S+ 4\d{4} /.test(line));

const SNAP = "hand-over snapshot keys.etcd.age --identity id";
const UNPACK = "hand-over unpack keys.age --identity id";

test("a stranger's snapshot and bundle for recipients prove nothing, and not each other", async () => {
  using node = await newMachine([his], hisFiles, FOR_US);
  const asked = await node.ends(SNAP, 3, "everybody who knows a recipient can lock such a file");
  expect(asked).toContain(
    `${SNAP} --ca-hash sha256:HASH, with the CA's fingerprint that pack printed`.replace(
      "hand-over",
      "./bunw scripts/hand-over.ts",
    ),
  );
  expect(asked).not.toContain(HIS);
  await node.ends(`${SNAP} --ca-hash ${OURS}`, 3, /The CA that the data names is sha256:\S+, not sha256:/);
  // by other means: age itself
  writeFileSync(`${node.root}/root/snapshot.db`, snapshotWith(his));
  await node.ends(`restore snapshot.db --as m1 --ca-hash ${OURS}`, 3, "The CA that the data names is");
  await node.ends("restore snapshot.db --as m1", 0, /its CA: sha256:\S+\. Compare it with the fingerprint/);
  await node.ends(
    UNPACK,
    1,
    /Nothing proves that the bundle .* which restore\.ts has made of a snapshot\. Nothing was changed\n/,
  );
  await node.ends(`${UNPACK} --ca-hash ${OURS}`, 1, "The bundle's CA is ");
});

test("a snapshot that names a stranger's CA beside the right one brings his keys no further", async () => {
  using node = await newMachine([ca.cert, his], hisFiles, FOR_US);
  await node.ends(`${SNAP} --ca-hash ${OURS}`, 0, "wrote snapshot.db");
  await node.ends(`restore snapshot.db --as m1 --ca-hash ${OURS}`, 0, "done.");
  await node.ends(UNPACK, 1, "Nothing proves that the bundle is from this cluster");
});

test.each([
  ["said once, when the snapshot is opened and as its next line has it", ` --ca-hash ${OURS}`, ""],
  ["said to unpack alone", "", ` --ca-hash ${OURS}`],
])("the operator's own for recipients come back, the fingerprint %s", async (_, toRestore, toUnpack) => {
  using node = await newMachine([ca.cert], ourFiles, FOR_US);
  await node.ends(`${SNAP} --ca-hash ${OURS}`, 0, "wrote snapshot.db");
  await node.ends(`restore snapshot.db --as m1${toRestore}`, 0, "done.");
  if (toUnpack) await node.ends(UNPACK, 1, "Nothing proves that the bundle");
  await node.ends(`${UNPACK}${toUnpack} --dry-run`, 0, "its CA is the one that etcd's data names");
  expect(node.exists("/etc/kubernetes/pki/ca.key")).toBe(false);
  await node.ends(`${UNPACK}${toUnpack}`, 0, "its CA is the one that etcd's data names");
  expect(node.read("/etc/kubernetes/pki/ca.key")).toBe(ca.key);
});

test("with a passphrase both come back as before", async () => {
  using node = await newMachine([ca.cert], ourFiles, BY_WORD);
  await node.ends("hand-over snapshot keys.etcd.age --passphrase-file word", 0, "wrote snapshot.db");
  await node.ends("restore snapshot.db --as m1", 0, "done.");
  await node.ends("hand-over unpack keys.age --passphrase-file word", 0, "its CA is the one that");
});
