/** A snapshot of etcd that is kept: whether it would bring this cluster back is said before it is needed. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { snapshotState } from "../../../shared/drill/kept-snapshot.ts";
import { readSnapshotData } from "../../../shared/etcd-data/data.ts";
import { readCluster } from "../../../shared/facts/cluster.ts";
import { clusterObjects, healthyCp, otherCa } from "../../pretend/cluster.ts";
import { MEMBER } from "../../pretend/node.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { snapshotOf } from "../../pretend/write-db.ts";

setDefaultTimeout(300_000);

const { ca } = await healthyCp();

const putsOf = (cert: string) =>
  Object.entries(clusterObjects(cert)).map(([key, object]): [string, string] => [
    `/registry/${key}`,
    JSON.stringify(object),
  ]);
const WHOLE = snapshotOf({ members: [MEMBER], puts: putsOf(ca.cert) });

/** With its sum made anew: etcd itself has written the damage down. */
function summed(change: (db: Buffer) => unknown): Buffer {
  const db = Buffer.from(WHOLE.subarray(0, -32));
  change(db);
  return Buffer.concat([db, createHash("sha256").update(db).digest()]);
}

async function stateOf(bytes: Uint8Array) {
  using box = sandbox();
  writeFileSync(`${box.dir}/here.db`, WHOLE);
  writeFileSync(`${box.dir}/night.db`, bytes);
  using data = readSnapshotData(`${box.dir}/here.db`);
  return await snapshotState("/night.db", readCluster(data));
}

test("a whole one of this cluster: as of when, and that each value is whole", async () => {
  const { fits, says, command } = await stateOf(WHOLE);
  expect({ fits, command }).toEqual({ fits: true, command: "" });
  expect(says).toMatch(/^as of .* UTC, revision \d+: its SHA-256 is right, each of \d+ values is whole$/);
  expect((await stateOf(WHOLE.subarray(0, -32))).says).toContain(": without a SHA-256, each of ");
});

const PACK = "./bunw scripts/hand-over.ts pack --with-etcd";

test.each<[string, () => Uint8Array | Promise<Uint8Array>, RegExp, RegExp | string]>([
  [
    "a letter is another",
    () => WHOLE.map((byte, i) => (i === 20_000 ? byte ^ 1 : byte)),
    /^The SHA-256 at the end of "\/night.db" is not that of its content/,
    /copy the snapshot here once more/,
  ],
  [
    "a page was zeros when it was taken",
    () => summed((db) => db.fill(0, 4 * 4096, 5 * 4096)),
    /is damaged: page /,
    PACK,
  ],
  [
    "a value was",
    () => summed((db) => db.fill(0, db.indexOf('{"apiVersion"') + 40, db.indexOf('{"apiVersion"') + 80)),
    /is damaged: 1 value\(s\) are damaged, and nothing has them whole: \/registry\//,
    PACK,
  ],
  ["it is compressed", () => gzipSync(WHOLE), /is compressed \(gzip\)$/, /gunzip < \/night\.db/],
  [
    "it is of another cluster",
    async () => snapshotOf({ members: [MEMBER], puts: putsOf((await otherCa()).cert) }),
    /is of another cluster, or of one with other CAs: it names sha256:/,
    PACK,
  ],
])("none that would help (%s): said with what to do now", async (_, made, why, todo) => {
  const { fits, says, command } = await stateOf(await made());
  expect(fits).toBe(false);
  expect(says).toMatch(why);
  expect(command).toMatch(todo);
});
