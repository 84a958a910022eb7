/** A name lives where its users need it: who imports one name does not have to read twelve files for it. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { dearImports } from "./leaf-names.ts";
import { filesOf } from "./reach.ts";

/** The type of all that a node knows: a file that takes it whole has what its fields are made of behind it. */
const WHOLE_NODE = "it takes the whole node; finished facts (issue 60) give it less";
const WHOLE_PLAN = "it takes all facts of a plan: which of them, its lines decide one by one";

/** Import → the reason why it is left. The list only gets shorter. */
const LEFT: Record<string, string> = {
  "shared/drill/compared.ts ← shared/facts/node-facts.ts": WHOLE_NODE,
  "shared/static-pods/take-up.ts ← shared/facts/node-facts.ts": WHOLE_NODE,
  "shared/etcd/peers.ts ← shared/facts/node-facts.ts": WHOLE_NODE,
  "shared/etcd/identity.ts ← shared/facts/node-facts.ts": WHOLE_NODE,
  "shared/renew/ca-readers.ts ← shared/facts/node-facts.ts": WHOLE_NODE,
  "shared/facts/ca-copies.ts ← shared/facts/node-facts.ts": WHOLE_NODE,
  "shared/plan/workers-pods.ts ← shared/plan/note.ts": WHOLE_PLAN,
  "shared/plan/note.ts ← shared/plan/plan-facts.ts": WHOLE_PLAN,
  "shared/plan/step-order.ts ← shared/plan/plan-facts.ts": WHOLE_PLAN,
  "shared/assess/assessment.ts ← shared/assess/look-here.ts": "the ids of refusals are the rows of its table",
  "shared/workers/own-pods.ts ← shared/facts/node-facts.ts": WHOLE_NODE,
  "shared/plan/plan-data.ts ← shared/plan/make-plan.ts": "the plan itself, which it prints as data",
  "shared/plan/undo-here.ts ← shared/etcd-location/etcd-home.ts":
    "the place of etcd is a result of that file, with a living etcd in it",
  "shared/plan/effort-here.ts ← shared/etcd-location/etcd-home.ts":
    "the place of etcd is a result of that file, with a living etcd in it",
  "shared/salvage/folders-beside.ts ← shared/salvage/found-keys.ts":
    "a class that keeps what it finds: its users call it",
  "shared/salvage/disk-search.ts ← shared/salvage/found-keys.ts": "the same class",
  "shared/salvage/keys-in-copies.ts ← shared/salvage/found-keys.ts": "the same class",
  "shared/moved/pairs.ts ← shared/moved/this-machine.ts":
    "a node, etcd's data and the cluster in one: all three are read",
  "shared/salvage/memory-search.ts ← shared/facts/leaders.ts": "a Lease in etcd's data is decoded for it",
  "shared/salvage/disk/assembler.ts ← shared/salvage/disk/encryption-config.ts":
    "it parses a text that may be an encryption configuration, and proves it by etcd's rows",
  "scripts/restore.ts ← shared/restore/new-place.ts": "two steps of that script, called by name",
  "shared/salvage/memory/processes.ts ← shared/evidence/owners.ts": "who owns a process is proved there",
  "shared/etcd-location/static-pod-here.ts ← shared/evidence/owners.ts": "who owns a process is proved there",
  "shared/restore/several-members.ts ← shared/restore/lost-members-data.ts":
    "it reads each member's data by it",
  "shared/salvage/put-back.ts ← shared/hand-over/place-keys.ts": "keys are placed there, and nowhere else",
  "shared/assess/data-rows.ts ← shared/assess/worker.ts": "rows that a worker has, too",
  "shared/drill/rehearsed-repair.ts ← shared/drill/kept-snapshot.ts": "a snapshot is judged there",
};

test("an import of one name that brings twelve files is found; what the name needs itself does not count", () => {
  const source = (path: string, text: string) => [path, { path, text }] as const;
  const twelve = Array.from({ length: 12 }, (_, i) =>
    source(`shared/${i}.ts`, `export const n${i} = ${i};\n`),
  );
  const all = twelve.map((_, i) => `import { n${i} } from "./${i}.ts";\n`).join("");
  const b = `${all}export const LEAF = 1;\nexport const sum = () => n0 + n11;\n${twelve.map((_, i) => `export const m${i} = n${i};\n`).join("")}`;
  const files = (names: string) =>
    new Map([
      source("shared/a.ts", `import { ${names} } from "./b.ts";\n`),
      source("shared/b.ts", b),
      ...twelve,
    ]);
  expect(dearImports(files("LEAF"))).toEqual([
    { edge: "shared/a.ts ← shared/b.ts", names: ["LEAF"], brings: 12 },
  ]);
  expect(dearImports(files("sum"))).toEqual([]);
  expect(dearImports(files("LEAF, sum, m1"))).toEqual([]);
});

test("no import of one or two names brings twelve files, but those that are left, each with its reason", async () => {
  const found = dearImports(await filesOf(join(import.meta.dir, "../..")));
  const fresh = found.filter(({ edge }) => !(edge in LEFT));
  expect(
    fresh.map(({ edge, names, brings }) => `${edge} for ${names.join(", ")}: ${brings} files`),
    "move each name into a leaf file, or say in LEFT why it stays",
  ).toEqual([]);
  const gone = Object.keys(LEFT).filter((edge) => !found.some((one) => one.edge === edge));
  expect(gone, "these are dear no more: take them out of LEFT").toEqual([]);
});
