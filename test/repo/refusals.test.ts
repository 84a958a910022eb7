/**
 * The plan prints no line that would be refused for a reason that can be known before: each refusal of parts 0 to 4 has
 * a place in it, or a reason why it cannot be known (issue 41, item 3).
 */
import { expect, test } from "bun:test";
import { reached, refuses, WHERE } from "./refusals.ts";
import { kitSources } from "./sources.ts";

const sources = await kitSources();

/** They say what comes next, and so name every script. */
const STOP = /shared\/(again|run|facts\/next)\.ts$/;

/** What each part does before it changes anything. */
const LOOKS = [
  ...["look", "newCasOf", "main"].map((name) => `01-etcd.ts ${name}`),
  ...["02-control-plane.ts checkEtcd", "02-control-plane.ts main"],
  ...["onControlPlane", "makeTokens"].map((name) => `03-workers.ts ${name}`),
  ...["look", "retire"].map((name) => `04-sa-tokens.ts ${name}`),
  ...["kept-run.ts lockNode", "wait.ts watchNodesReturn", "hand-over.ts unpack", "00-salvage.ts main"],
];

const found = [...reached(sources, LOOKS, STOP)].flatMap(([name, piece]) => (refuses(piece) ? [name] : []));

const listed = WHERE.flatMap(({ of }) =>
  of.split("; ").flatMap((one) => {
    const [file, ...names] = one.split(" ");
    return names.map((name) => `${file} ${name}`);
  }),
);

test("each refusal of parts 0 to 4 is shown by the plan, or has a reason why it cannot be known", () => {
  expect(found.filter((name) => !listed.includes(name)).sort()).toEqual([]);
});

test("none is listed twice, and none that is gone", () => {
  expect(listed.filter((name, index) => listed.indexOf(name) !== index)).toEqual([]);
  expect(listed.filter((name) => !found.includes(name)).sort()).toEqual([]);
});

test("what shows them is behind the plan", () => {
  const plan = reached(sources, ["plan.ts main"], STOP);
  expect(WHERE.flatMap(({ shownBy }) => (shownBy && !plan.has(shownBy) ? [shownBy] : []))).toEqual([]);
});

test("a refusal that nobody has listed is found", () => {
  const more = {
    path: "shared/x/new.ts",
    text: 'export function refuseMoon() {\n  throw new Refused("full", { hint: "wait" });\n}\n',
  };
  const look = { path: "scripts/01-etcd.ts", text: "async function look() {\n  refuseMoon();\n}\n" };
  const names = [...reached([more, look], ["01-etcd.ts look"], STOP)];
  expect(names.flatMap(([name, piece]) => (refuses(piece) ? [name] : []))).toEqual(["new.ts refuseMoon"]);
});
