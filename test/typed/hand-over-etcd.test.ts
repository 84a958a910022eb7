/** hand-over pack --with-etcd: the backup that new machines need, and how it comes back. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { MEMBER, pretendNode } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";
import { snapshotOf } from "../pretend/write-db.ts";

setDefaultTimeout(300_000);

const identity = await generateX25519Identity();
const recipient = await identityToRecipient(identity);
const PACK = `hand-over pack --to ${recipient} --out keys.age`;
const OPEN = "hand-over snapshot keys.etcd.age --identity id --out back.db";

/** Of some pieces, as etcd sends them. */
const SNAPSHOT = snapshotOf({
  members: [MEMBER],
  puts: Array.from({ length: 400 }, (_, i) => [`/registry/k/${i}`, "v".repeat(500)] as const),
});

function streamed(bytes: Uint8Array): string {
  const pieces = Array.from({ length: Math.ceil(bytes.length / 32_768) }, (_, i) =>
    bytes.subarray(i * 32_768, (i + 1) * 32_768),
  );
  const line = (piece: Uint8Array) =>
    JSON.stringify({ result: { blob: Buffer.from(piece).toString("base64") } });
  return pieces.map((piece) => `${line(piece)}\n`).join("");
}

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
  expect(opened.stderr).toContain("readable: remove it when it is restored");
  expect(opened.stderr).toEndWith("\ndone.  next: ./bunw scripts/restore.ts --as NODE back.db\n");
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
  ["etcd ends", `${lines[0]}\n{"error":{"message":"disk"}}\n`, "ended its snapshot: disk"],
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
