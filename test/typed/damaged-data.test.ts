/** etcd's data on this node is damaged: each script that reads it names that, and what is left to do. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { purgedEtcd } from "../pretend/busy-etcd.ts";
import { writeDamaged } from "../pretend/damaged-etcd.ts";
import { pretendNode } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";
import { makeRoom } from "../pretend/write-wal.ts";

setDefaultTimeout(300_000);

/** The entry with which the busy member's log begins: no tree that "truncate" and "lost-write-3" leave whole is so new. */
const PURGED = 3606;

/** What is in the place of `member`. */
const DAMAGES: Record<string, (member: string) => void> = {
  "a db of zeros": (member) => {
    writeFileSync(`${member}/snap/db`, Buffer.alloc(32768));
    for (const name of readdirSync(`${member}/wal`)) makeRoom(`${member}/wal/${name}`);
  },
  "a db that is cut off": (member) => {
    rmSync(`${member}/wal`, { recursive: true });
    writeDamaged(member.replace(/\/member$/, ""), "truncate", { seed: 1, source: purgedEtcd(PURGED) });
  },
  "a db whose last writes were not on the disk": (member) => {
    writeDamaged(member.replace(/\/member$/, ""), "lost-write-3", { seed: 2, source: purgedEtcd(PURGED) });
  },
  "a log whose last file is empty": (member) => {
    for (const name of readdirSync(`${member}/wal`)) truncateSync(`${member}/wal/${name}`, 0);
  },
};

async function damaged(damage: string) {
  const node = here(await pretendNode());
  DAMAGES[damage]!(`${node.root}/var/lib/etcd/member`);
  return node;
}

const CHAPTER = 'RUNBOOK-MORE "If etcd\'s data is damaged"';
const LINES = [
  ...["01-etcd", "01-etcd --new-cas --dry-run", "02-control-plane", "03-workers open", "03-workers close"],
  ...["04-sa-tokens", "05-verify", "00-token-key", "move", "renew-ca", "drill"],
];
const RESTORE = "restore --from /var/lib/etcd --as m1 --etcd-data /var/lib/other";

test.each(Object.keys(DAMAGES))("%s: every script refuses it, with what is left to do", async (damage) => {
  using node = await damaged(damage);
  const before = node.fingerprint();
  for (const line of [...LINES, ...(damage === "a db of zeros" ? [] : [RESTORE])]) {
    const { exitCode, stderr } = await node.run(line);
    expect([1, 3], line).toContain(exitCode);
    expect(stderr, line).toContain('error: etcd\'s data in "ROOT/var/lib/etcd" is damaged: ');
    expect(stderr.split("\nhint: ")[1], line).toContain(CHAPTER);
    expect(stderr, line).not.toMatch(/^ +at /m);
    expect(node.fingerprint(), line).toEqual(before);
  }
});

const LOG = "/var/lib/etcd/member/wal";

/** The log is read to its damage, as etcd itself would not. */
test.each(["healthy", "wiped"] as const)(
  "one bit near the log's end of a %s node: 00-assess says that it is damage, and part 1 starts no etcd on it",
  async (kind) => {
    using node = here(await pretendNode({ kind: `${kind} control plane node` }));
    const path = `${node.root}${LOG}/${readdirSync(node.root + LOG)
      .sort()
      .at(-1)!}`;
    const bytes = readFileSync(path);
    bytes[bytes.findLastIndex((byte) => byte !== 0) - 40]! ^= 1;
    writeFileSync(path, bytes);
    const { exitCode, stdout } = await node.run("00-assess --json");
    const { damage, verdict, next } = JSON.parse(stdout);
    expect(damage).toContainEqual(expect.objectContaining({ id: "etcd-damage", state: "!DAMAGED!" }));
    expect(verdict).toMatch(/^the repair cannot begin: etcd's data in .* is damaged: Checksum mismatch in /);
    expect(next.join("\n")).toContain(CHAPTER);
    expect(exitCode).toBe(2);
    expect((await node.run("00-assess")).stdout).not.toContain("nothing is damaged");
    const before = node.fingerprint();
    const part1 = await node.run("01-etcd");
    expect(part1.stderr).toMatch(/^error: etcd's data in .* is damaged: Checksum mismatch in /m);
    expect([part1.exitCode, node.fingerprint()]).toEqual([1, before]);
  },
);

/** What is missing, in numbers. */
const REFUSED: Record<string, RegExp> = {
  "a db that is cut off":
    /db is cut off: 770048 bytes of at least 1155072\. No exact way leads back: 1 older tree\(s\), of entry 3327, do not fit the log \(the newest: the log does not tell which entry has made its newest revision\); the log alone: entry 1 is not in the log; the log has entries 3606 to 3774\. Nothing was changed$/m,
  "a db whose last writes were not on the disk":
    /No exact way leads back: 3 older tree\(s\), of entry 3327 to 3718, do not fit the log \(the newest: revision 2067 is there, and was compacted away by 2801\); the log alone: entry 1 is not in the log; the log has entries 3606 to 3774\. Nothing was changed$/m,
  "a log whose last file is empty":
    /No exact way leads back: no older tree is whole; the log is damaged, too: .*\.wal does not begin with the ids of cluster and member\. Nothing was changed$/m,
};

test.each(Object.keys(REFUSED))("%s: restore refuses it in numbers, and writes nothing", async (damage) => {
  using node = await damaged(damage);
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(RESTORE);
  expect(stderr).toMatch(REFUSED[damage]!);
  expect([exitCode, node.exists("/var/lib/other")]).toEqual([3, false]);
  expect(node.fingerprint()).toEqual(before);
});

test("a db of zeros, and a log from its first entry on: restore says first that this is exact, and writes it", async () => {
  using node = await damaged("a db of zeros");
  const { exitCode, stderr } = await node.run(RESTORE);
  expect(stderr).toMatch(
    /Looks for an older tree that is whole\n +exact: the log from its first entry on has all keys up to entry \d+, the last one on this disk; each of \d+ values and its key has a second witness\n/,
  );
  expect([exitCode, readdirSync(`${node.root}/var/lib/other`)]).toEqual([0, ["member"]]);
});

/** With the folder of before moved aside. */
test.each([
  [
    "etcd's data alone",
    "healthy",
    /^\.\/bunw scripts\/00-assess\.ts, then, .* systemctl start kubelet and part 5, /,
    0,
  ],
  [
    "/etc/kubernetes, too,",
    "wiped",
    /^systemctl enable kubelet, then \.\/bunw scripts\/hand-over\.ts unpack /,
    2,
  ],
] as const)("where %s was lost, restore's next line leads to its repair", async (_, kind, line, damaged) => {
  using node = here(await pretendNode({ kind: `${kind} control plane node` }));
  DAMAGES["a db of zeros"]!(`${node.root}/var/lib/etcd/member`);
  renameSync(`${node.root}/var/lib/etcd`, `${node.root}/var/lib/etcd.before`);
  const { exitCode, stderr } = await node.run("restore --from /var/lib/etcd.before --as m1");
  expect([exitCode, stderr.split("done.  next: ")[1]]).toEqual([0, expect.stringMatching(line)]);
  expect((await node.run("00-assess")).exitCode).toBe(damaged);
});

test.each(Object.keys(DAMAGES))(
  "%s: 00-assess and the plan call it a damage of its own kind",
  async (damage) => {
    using node = await damaged(damage);
    const found = await node.run("00-assess --json");
    const { damage: rows, next } = JSON.parse(found.stdout);
    expect(found.exitCode).toBe(2);
    expect(rows).toContainEqual(expect.objectContaining({ id: "etcd-damage", state: "!DAMAGED!" }));
    expect(next.join("\n")).toContain("./bunw scripts/02-control-plane.ts --lost m1");
    expect(next.join("\n")).toContain("./bunw scripts/restore.ts --from DIR --as m1 --dry-run");
    expect(next.join("\n")).toMatch(/of this folder (it tries older trees of|alone they are not)/);
    expect(next.join("\n")).toContain(CHAPTER);
    const plan = await node.run("plan");
    for (const step of next) expect(plan.stdout).toContain(step);
    expect(plan.stdout).toContain("**the repair cannot begin: etcd's data in");
    expect(plan.stdout).toContain(CHAPTER);
    // with the keys found it would be refused, too
    const salvaged = await node.run("00-salvage memory");
    expect(salvaged.stdout + salvaged.stderr).not.toContain("--new-cas");
  },
);
