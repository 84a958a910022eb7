/** The db's newest revision, and the log's entries up to the db's index: what fits, and what was never on the disk. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { Bbolt } from "../../../shared/etcd-data/bbolt.ts";
import { checkFitsLog, type Newest, newestIn } from "../../../shared/etcd-data/fits-log.ts";
import { Mvcc } from "../../../shared/etcd-data/mvcc.ts";
import { Replay } from "../../../shared/etcd-data/replay.ts";
import { bytesField, intField } from "../../../shared/restore/new-member.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { dbFile } from "../../pretend/write-db.ts";

const message = (...parts: Buffer[]) => Buffer.concat(parts);
const putOf = (key: string, value: string, lease = 0) =>
  message(bytesField(1, key), bytesField(2, value), ...(lease ? [intField(3, lease)] : []));
const put = (key: string, value: string, lease = 0) => bytesField(4, putOf(key, value, lease));
const remove = (key: string, end = "") => bytesField(5, message(bytesField(1, key), bytesField(2, end)));
/** As kube-apiserver writes: put, where the key is still of this revision. */
const update = (key: string, value: string, modRevision: number) => {
  const compare = message(intField(1, 0), intField(2, 2), bytesField(3, key), intField(6, modRevision));
  return bytesField(6, message(bytesField(1, compare), bytesField(2, bytesField(2, putOf(key, value)))));
};
const compact = (revision: number) => bytesField(7, intField(1, revision));
const grant = (id: number) => bytesField(8, message(intField(1, 60), intField(2, id)));
const revoke = (id: number) => bytesField(9, intField(1, id));
const raised = (type: number) => bytesField(10, message(intField(1, 1), intField(2, 7), intField(3, type)));
const [alarm, corrupt] = [raised(1), raised(2)];
const asUser = (name: string, request: Buffer) => message(bytesField(100, bytesField(2, name)), request);
/** etcdserverpb.Request of etcd up to 3.5, which writes all of its fields, also those that are empty. */
const ofV2 = (method: string) =>
  message(
    ...[intField(1, 7), bytesField(2, method), bytesField(3, "/0/version"), bytesField(4, "3.5.0")],
    ...[intField(5, 0), bytesField(6, "")],
    ...[7, 9, 10, 11, 12, 13, 14, 15, 16].map((number) => intField(number, 0)),
  );

const text = (value: string) => new Uint8Array(Buffer.from(value));
const B: Newest = { main: 3, sub: 0, isTombstone: false, key: "b", value: text("new") };
const DELETED: Newest = { main: 4, sub: 0, isTombstone: true, key: "c", value: text("") };

/** Keys: "a" of revision 2, "b" of 3 with lease 5. */
function check(requests: Buffer[], newest: Newest | undefined = B) {
  const mvcc = new Mvcc();
  const replay = new Replay(mvcc);
  for (const request of [put("a", "1"), grant(5), put("b", "new", 5)]) replay.apply(request);
  const entries = requests.map((data, i) => ({
    type: 0,
    term: 2,
    index: 10 + i,
    data: new Uint8Array(data),
  }));
  checkFitsLog(entries, newest, replay);
}

const FITS: [string, Buffer[], Newest?][] = [
  ["no entry is there", []],
  ["the last entry has written it", [put("b", "new")]],
  ["a transaction has", [update("b", "new", 2)]],
  [
    "a branch inside another has",
    [bytesField(6, bytesField(3, bytesField(4, bytesField(2, bytesField(2, putOf("b", "new"))))))],
  ],
  ["a deletion of a range has", [remove("b", "d")], DELETED],
  ["a deletion of all behind a key has", [remove("b", "\0")], DELETED],
  ["a lease has ended", [revoke(9)], DELETED],
  [
    "what is refused comes after it",
    [put("b", "new"), update("a", "2", 1), update("x", "2", 7), put("x", "1", 77), grant(8)],
  ],
  ["what finds nothing comes after it", [put("b", "new"), remove("x"), remove("x", "y"), revoke(77)]],
  ["what changes nothing comes before all that is known", [update("a", "2", 1)]],
  ["before it was written, others were", [put("z", "1"), put("b", "new")]],
  ["a compaction has taken away what was newer", [put("z", "1"), remove("z"), compact(5)]],
  ["before an alarm, and while it lasts, writes were refused", [put("z", "1"), alarm]],
  ["a user of etcd may lack the right", [put("b", "new"), asUser("bob", put("z", "1"))]],
];
for (const [what, requests, newest] of FITS)
  test(`fits: ${what}`, () => {
    expect(() => check(requests, newest)).not.toThrow();
  });

const LACKS: [string, Buffer[], number][] = [
  ["a put", [put("b", "new"), put("z", "1")], 11],
  ["a put of the same key", [put("b", "new"), put("b", "newer")], 11],
  ["an update", [put("b", "new"), grant(8), update("a", "2", 2), update("a", "3", 4)], 12],
  ["a creation", [put("b", "new"), update("x", "1", 0)], 11],
  ["a deletion", [put("b", "new"), remove("a")], 11],
  ["a lease that ended with its keys", [put("b", "new"), revoke(5)], 11],
  ["all that is known of the log", [put("y", "1")], 10],
  ...["PUT", "POST", "DELETE", "GET", "QGET", "SYNC"].map((method): [string, Buffer[], number] => [
    `a request of v2, ${method}, touches no key and hides nothing`,
    [put("b", "new"), put("z", "1"), ofV2(method)],
    11,
  ]),
  ["a compaction to before it hides nothing", [put("b", "new"), put("z", "1"), compact(2)], 11],
];
for (const [what, requests, index] of LACKS)
  test(`was never on the disk: ${what}`, () => {
    const lacks = `the db does not have what entry ${index} of the log wrote: it ends at revision 3`;
    expect(() => check(requests)).toThrow(lacks);
  });

/** etcd refuses all writes of members that differ; one whose space has run out still deletes. */
test.each<[string, Buffer, Buffer, boolean]>([
  ["a put, where members differ", corrupt, put("z", "1"), true],
  ["a deletion, where members differ", corrupt, remove("a"), true],
  ["the end of a lease with keys, where members differ", corrupt, revoke(5), true],
  ["a put, where space has run out", alarm, put("z", "1"), true],
  ["a deletion, where space has run out", alarm, remove("a"), false],
])("an alarm that the db has: %s", (_, before, request, fits) => {
  const replay = new Replay(new Mvcc());
  for (const one of [put("a", "1"), grant(5), put("b", "new", 5), before]) replay.apply(one);
  const entry = { type: 0, term: 2, index: 10, data: new Uint8Array(request) };
  const look = () => checkFitsLog([entry], B, replay);
  if (fits) expect(look).not.toThrow();
  else expect(look).toThrow("the db does not have what entry 10 of the log wrote");
});

test("a db without any key lacks the first one", () => {
  const entry = { type: 0, term: 2, index: 4, data: new Uint8Array(put("a", "1")) };
  const lacks = "the db does not have what entry 4 of the log wrote: it ends at revision 1";
  expect(() => checkFitsLog([entry], undefined, new Replay(new Mvcc()))).toThrow(lacks);
});

test("a transaction is refused whole if one of its puts names a lease that does not exist", () => {
  const mvcc = new Mvcc();
  const replay = new Replay(mvcc);
  const puts = [putOf("x", "1"), putOf("y", "1", 77)].map((one) => bytesField(2, bytesField(2, one)));
  replay.apply(bytesField(6, message(...puts)));
  expect([...mvcc.everyKey()]).toEqual([]);
  for (const request of [grant(77), bytesField(6, message(...puts))]) replay.apply(request);
  expect([...mvcc.everyKey()]).toEqual(["x", "y"]);
});

test("an entry that is no request, as a member's, is passed over", () => {
  const replay = new Replay(new Mvcc());
  const entry = { type: 1, term: 2, index: 4, data: new Uint8Array(put("a", "1")) };
  expect(() => checkFitsLog([entry], undefined, replay)).not.toThrow();
});

test("a db that has just been made has no newest revision: its bucket is one empty leaf", () => {
  const empty = dbFile({ pageSize: 4096, perLeaf: 20, txid: 8n }, { key: {}, meta: {} });
  using box = sandbox();
  writeFileSync(`${box.dir}/db`, empty);
  using db = new Bbolt(`${box.dir}/db`);
  expect(db.stable(newestIn)).toBeUndefined();
});

const [INSERT, DELETE] = [bytesField(2, putOf("x", "1")), bytesField(3, bytesField(1, "a"))];

/** Nothing is compared: the first branch is taken. */
test.each([
  ["a put", [INSERT], [], ["a"]],
  ["a put in the branch that is not taken", [DELETE], [INSERT], ["a"]],
  ["no put", [DELETE], [], []],
])("where space has run out, a transaction with %s leaves the keys so", (_, then, otherwise, keys) => {
  const mvcc = new Mvcc();
  const replay = new Replay(mvcc);
  const txn = message(
    ...then.map((one) => bytesField(2, one)),
    ...otherwise.map((one) => bytesField(3, one)),
  );
  for (const request of [put("a", "1"), alarm, bytesField(6, txn)]) replay.apply(request);
  expect(["a", "x"].filter((key) => mvcc.has(key))).toEqual(keys);
});
