/** The kit does not grow by itself: bytes and files of each room, which an operator copies and a stranger reads. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { filesAt, filesOf } from "./reach.ts";
import type { Source } from "./sources.ts";

const HOME = join(import.meta.dir, "../..");
const SELF = "test/repo/weight.test.ts";

/**
 * At most so many kB (1,000 bytes) of TypeScript, and so many files. A figure only goes down: who takes
 * something away lowers it. One that goes up has the issue and the new ability behind it, as a comment.
 */
// biome-ignore format: a table
const BUDGETS: Record<string, [kB: number, files: number]> = {
  scripts: [149.7, 18], // join-again takes a kubelet's configuration in any place (issue 43: its review); a control plane node that was off is named, if etcd is on other machines (issue 44); part 1 proves an etcd that it leaves alone; a bundle brings a kubelet's configuration (issue 44); what a drill prints and the metrics came from drill/ and checks/ (issue 43: folded)
  shared: [75.4, 12], // lines that find copies and old addresses came from renew/ and moved/ (issue 43: lighter); what most scripts have in their help came from scripts/ (issue 43: lighter); a limit of searches came from salvage/ (issue 43: folded)
  "shared/api": [71.7, 9], // a kubelet and a leader renew their Leases as often as these say
  "shared/assess": [98, 10], // the unit of etcd has its rows on a node that the parts repair (issue 44); its CA and the API server's pair have their rows (issue 44)
  "shared/checks": [39.1, 3], // the certificates of an etcd on other machines, and the pair for it, expire, too (issue 44)
  "shared/drill": [23.6, 3], // an etcd that kubeadm did not make is not compared; the kubelet's files that come back are no lost ones (issue 44)
  "shared/etcd": [93.9, 9], // what --lost and join-again mean where etcd is on other machines (issue 44); the client of etcd's API went to etcd-location/; files of an etcd that is a unit are made (issue 44); lost certificates of a unit are issued, by the old CA or a new one (issue 44)
  "shared/etcd-data": [128, 13], // older trees of a damaged database, and what proves them; 8 GB of them in 300 MB of memory (issue 45)
  "shared/etcd-location": [99.6, 9], // a worker that hosts a member is one, a repair knows from its copy where etcd is (issue 44); one source of etcd's facts: static pod, unit, elsewhere; members by their nodes; the data of an etcd on other machines, by its API, whose client came from etcd/ (issue 44); which files of a unit are lost, and the CA that can issue them (issue 44)
  "shared/evidence": [25.2, 3],
  "shared/facts": [187.6, 20], // who was off, beside an etcd on other machines (issue 44); a repair beside an etcd that runs on is known; lost kubeconfigs keep their server (issue 44); who is a control plane node came from evidence/, who is left out, and the end of an API server, from etcd/ (issue 43: folded)
  "shared/files": [62.4, 6], // how a script begins came from scripts/, how files are replaced from moved/ and renew/ (issue 43, 3)
  "shared/hand-over": [51.4, 6], // three shared keys where etcd's CA is its maker's; the kubelet's configuration, if an installer wrote it (issue 44); a machine's facts came from scripts/ (issue 43: folded); etcd's CA goes along, to where etcd has it (issue 44)
  "shared/manifests": [54.1, 5], // an installer's own names of manifests, and its link, come back (issue 44); how two manifests differ came from static-pods/ (issue 43: folded); what makes a manifest wait came from static-pods/ (issue 43)
  "shared/moved": [27.3, 3], // refused beside an etcd that kubeadm did not make (issue 44)
  "shared/node": [114.8, 11], // the kubelet's lost files come back: from its process, its journal, what was kept of its configuration; each file that it needs is looked for (issue 44)
  "shared/objects": [44, 4],
  "shared/old-sa-key": [28, 3], // tokens of a worker, where the only control plane node has none (issue 41: a trial)
  "shared/pki": [134.1, 13], // a mistyped endpoint is refused; no certificates of an etcd that kubeadm did not make, but a leaf of it is renewed with its own key (issue 44); etcd's CA in a place of its own (issue 44)
  "shared/plan": [149.4, 16], // a line for another machine can be copied (issue 44); a plan after part 4 has what is left of the old key, and the line for tokens of a worker (issue 41: a trial); a lost configuration of the kubelet is asked of all nodes, and nothing is fetched from who has lost it, too (issue 44); a step keeps its letter in every plan, a note has its line as it is pasted, and who is on again gets no old keys (issue 41, items 3, 5 and 6)
  "shared/renew": [52.3, 6],
  "shared/report": [64.6, 10],
  "shared/restore": [64.6, 8], // an external etcd is refused before names are asked (issue 44); the locked snapshot came from hand-over/ and etcd/, the new machine's place from scripts/ (issue 43: folded); damaged data of lost members has ways back, and is written anew (issue 45)
  "shared/salvage": [122.6, 15], // files of etcd's that part 1 makes are not lost (issue 44)
  "shared/static-pods": [128.7, 12], // the scheduler's configuration has a replacement; etcd is no static pod; an installer's link comes back (issue 44); the making of shared keys came from scripts/ (issue 43: folded); the API server starts again where its files for a unit of etcd were made (issue 44)
  "shared/verify": [56.3, 5], // what has expired on etcd's own machines is said of who is silent; no manifest of an etcd that kubeadm did not make (issue 44); the lines for who comes back with old keys (issue 41, item 5)
  "shared/workers": [116.3, 12], // a wiped worker gets its kubelet's files, and its own balancer as server (issue 44)
  "shared/workloads": [122.5, 12], // what rescue folders hold came from node/ (issue 43)
  "tools/pack": [20.5, 2], // what packs a kit came from scripts/ and shared/kit/: it does not travel to the nodes (issue 43)
};

/** "scripts", "shared" for the files that stand in no room, "shared/etcd", "tools/pack". */
function roomOf(path: string): string {
  return path.split("/").slice(0, -1).slice(0, 2).join("/");
}

/** Room → its files, path → bytes. */
function roomsOf(files: Iterable<Source>): Map<string, Map<string, number>> {
  const rooms = Map.groupBy(files, ({ path }) => roomOf(path));
  return new Map(
    [...rooms].map(([room, sources]) => [
      room,
      new Map(sources.map(({ path, text }) => [path, Buffer.byteLength(text)])),
    ]),
  );
}

const NONE: ReadonlyMap<string, number> = new Map();

function bytesIn(room: ReadonlyMap<string, number>): number {
  return [...room.values()].reduce((sum, bytes) => sum + bytes, 0);
}

interface Weight {
  room: string;
  budget: [kB: number, files: number];
  /** Path → bytes: now, and where the budgets were last agreed on. */
  now: ReadonlyMap<string, number>;
  before: ReadonlyMap<string, number>;
}

/** What to do where a room is over its budget; undefined where it is not. */
function tooHeavy({ room, budget: [kB, files], now, before }: Weight): string | undefined {
  if (bytesIn(now) <= 1000 * kB && now.size <= files) return undefined;
  const grown = [...now]
    .map(([path, bytes]) => ({ path, more: bytes - (before.get(path) ?? 0) }))
    .filter(({ more }) => more > 0)
    .sort((a, b) => b.more - a.more);
  return [
    `${room}/: ${bytesIn(now)} bytes in ${now.size} files, the budget is ${1000 * kB} in ${files}. Since the budgets were last changed it has ${signed(bytesIn(now) - bytesIn(before))} bytes and ${signed(now.size - before.size)} files:`,
    ...grown
      .slice(0, 10)
      .map(({ path, more }) => `  ${path}: ${signed(more)}${before.has(path) ? "" : ", new"}`),
    `A budget only goes down. Take away as much in this room: what nobody uses, what is asked twice, a function that is called once. Only a new ability that an issue names`,
    `raises the figure in ${SELF}, and the comment behind it names both.`,
  ].join("\n");
}

function signed(number: number): string {
  return number < 0 ? String(number) : `+${number}`;
}

test("a room that is too heavy is told what has grown by how much, and what to do", () => {
  const weight: Weight = {
    room: "shared/etcd",
    budget: [1, 2],
    now: new Map(Object.entries({ "shared/etcd/a.ts": 600, "shared/etcd/b.ts": 400 })),
    before: new Map(Object.entries({ "shared/etcd/a.ts": 500, "shared/etcd/c.ts": 450 })),
  };
  expect(tooHeavy(weight)).toBeUndefined();
  expect(tooHeavy({ ...weight, budget: [0.9, 2] })).toMatch(
    /^shared\/etcd\/: 1000 bytes in 2 files, the budget is 900 in 2\. .* \+50 bytes and \+0 files:\n {2}shared\/etcd\/b\.ts: \+400, new\n {2}shared\/etcd\/a\.ts: \+100\nA budget only goes down\./,
  );
  expect(tooHeavy({ ...weight, budget: [2, 1] })).toContain("in 2 files, the budget is 2000 in 1.");
});

test("bytes count, not letters, and a folder in a room is the room's", () => {
  const source = (path: string, text: string) => ({ path, text });
  const rooms = roomsOf([
    source("scripts/a.ts", "√"),
    source("shared/b.ts", "b"),
    source("shared/c/d/e.ts", "e"),
  ]);
  expect([...rooms].map(([room, files]) => [room, bytesIn(files)])).toEqual([
    ["scripts", 3],
    ["shared", 1],
    ["shared/c", 1],
  ]);
});

test("no room has more bytes or files than its budget", async () => {
  const rooms = roomsOf((await filesOf(HOME)).values());
  expect(Object.keys(BUDGETS).sort(), "each room has its row in BUDGETS").toEqual([...rooms.keys()].sort());
  const isOver = (room: string) =>
    tooHeavy({ room, budget: BUDGETS[room]!, now: rooms.get(room)!, before: NONE });
  const over = Object.keys(BUDGETS).filter(isOver);
  const before = over.length > 0 ? roomsOf((await filesAt(HOME, SELF)).values()) : new Map();
  const found = over.map((room) =>
    tooHeavy({ room, budget: BUDGETS[room]!, now: rooms.get(room)!, before: before.get(room) ?? NONE }),
  );
  if (found.length > 0) throw new Error(found.join("\n\n"));
  for (const [room, [kB, files]] of Object.entries(BUDGETS)) {
    const now = rooms.get(room)!;
    const [spare, fewer] = [kB - bytesIn(now) / 1000, files - now.size];
    if (spare >= 1 || fewer > 0)
      console.log(
        `  ${room}/ is lighter than its budget, which can go down to ${Math.ceil(bytesIn(now) / 500) / 2} kB and ${now.size} files`,
      );
  }
});
