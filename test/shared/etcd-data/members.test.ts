/** Who of etcd's members has a vote, as raft counts: from the db of etcd 3.5 and 3.6, and from the log. */
import { expect, test } from "bun:test";
import { Members } from "../../../shared/etcd-data/members.ts";
import { addition } from "../../pretend/write-wal.ts";

const [VOTER, JOINED] = ["a1b2c3d4e5f60718", "f1b2c3d4e5f60718"];
const stored = (id: string, more: object = {}) => ({
  id,
  value: { id: 1, peerURLs: [`https://${id}:2380`], ...more },
});

/** The buckets `members` and `meta` of a db. */
function dbWith(members: { id: string; value: object }[], confState?: string) {
  const leaf = { value: () => Buffer.from(confState ?? "") };
  return {
    *items() {
      for (const { id, value } of members)
        yield { key: Buffer.from(id), value: Buffer.from(JSON.stringify(value)) };
    },
    find: <T>(_bucket: string, _key: Buffer, read: (leaf: never, i: number) => T) =>
      confState === undefined ? undefined : read(leaf as never, 0),
  };
}

const confState = (voters: string[], learners: string[]) => {
  const ids = (of: string[]) => of.map((id) => BigInt(`0x${id}`)).join(",");
  return `{"voters":[${ids(voters)}],${learners.length > 0 ? `"learners":[${ids(learners)}],` : ""}"auto_leave":false}`;
};

function learners(members: Members) {
  return members.list().flatMap(({ id, isLearner }) => (isLearner ? [id] : []));
}

test.each([
  ["a learner", confState([VOTER], [JOINED]), [JOINED]],
  ["one that etcd 3.5 has promoted: its bucket is never told", confState([VOTER, JOINED], []), []],
  ["a learner, before etcd kept a ConfState", undefined, [JOINED]],
])("of the db's bucket: %s", (_what, conf, expected) => {
  expect(learners(new Members(dbWith([stored(VOTER), stored(JOINED, { isLearner: true })], conf)))).toEqual(
    expected,
  );
});

function apply(members: Members, ...changes: Uint8Array[]) {
  for (const [i, data] of changes.entries())
    members.applyConfChange({ type: 1, term: 2, index: i + 1, data });
  return members;
}

const at = (id: string, isLearner = false) => ({ id, peerURLs: [`https://${id}:2380`], isLearner });

test("of the log: a learner is added, and promoted, and keeps its URLs", () => {
  const members = apply(new Members(), addition(at(VOTER)), addition(at(JOINED, true)));
  expect(learners(members)).toEqual([JOINED]);
  apply(members, addition({ id: JOINED, peerURLs: [] }, { isPromote: true }));
  expect(learners(members)).toEqual([]);
  expect(members.list().map(({ peerURLs }) => peerURLs)).toEqual(
    [VOTER, JOINED].map((id) => [`https://${id}:2380`]),
  );
});

test("of the log: what etcd refuses to add, as its id or its URL is there, changes nothing", () => {
  const members = apply(new Members(), addition(at(VOTER)), addition(at(VOTER, true)));
  apply(members, addition({ ...at(VOTER, true), id: JOINED }));
  expect(members.list()).toEqual([
    { id: VOTER, name: "", peerURLs: [`https://${VOTER}:2380`], clientURLs: [], isLearner: false },
  ]);
});

/** raftpb.ConfChange of type 2, as `etcdctl member update` makes it. */
function update(id: string, peerURL: string): Uint8Array {
  const bytes = addition({ id, peerURLs: [peerURL], isLearner: false });
  bytes[1] = 2;
  return bytes;
}

const MOVED = "https://10.66.0.111:2380";
const urlsOf = (members: Members) =>
  Object.fromEntries(members.list().map(({ id, peerURLs }) => [id, peerURLs]));
const OTHERS_URLS = { [JOINED]: [`https://${JOINED}:2380`] };

test("other peerURLs, which the bucket of etcd 3.5 never gets: of the log, also where it was applied; nothing else of that", () => {
  const members = new Members(dbWith([stored(VOTER), stored(JOINED)]));
  const applied = (data: Uint8Array) => members.applyUpdate({ type: 1, term: 2, index: 7, data });
  applied(update(VOTER, MOVED));
  expect(urlsOf(members)).toEqual({ ...OTHERS_URLS, [VOTER]: [MOVED] });
  // added, and removed since
  applied(addition(at("b1b2c3d4e5f60718")));
  applied(update("c1b2c3d4e5f60718", MOVED));
  expect(Object.keys(urlsOf(members)).sort()).toEqual([VOTER, JOINED]);
});

test("other peerURLs of a .snap, where the log does not reach back as far", () => {
  const members = new Members(dbWith([stored(VOTER), stored(JOINED)]));
  const leaf = (value: object) => ({ Value: JSON.stringify(value) });
  const node = {
    Children: {
      raftAttributes: leaf({ peerURLs: [MOVED] }),
      attributes: leaf({ name: "cp1", clientURLs: [] }),
    },
  };
  const store = { Root: { Children: { "0": { Children: { members: { Children: { [VOTER]: node } } } } } } };
  members.readStore(Buffer.from(JSON.stringify(store)));
  expect(urlsOf(members)).toEqual({ ...OTHERS_URLS, [VOTER]: [MOVED] });
});
