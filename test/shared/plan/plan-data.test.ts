/** `plan.ts --json`: the same plan as data, also a refusal; what is irreversible stands at the task that does it. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { IRREVERSIBLE_AT } from "../../../shared/plan/effort.ts";
import { effortHere } from "../../../shared/plan/effort-here.ts";
import type { PlanData } from "../../../shared/plan/plan-answer.ts";
import { IRREVERSIBLE } from "../../../shared/run.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { ASKED } from "../../pretend/plan.ts";
import { typeHere } from "../../pretend/typed-here.ts";

setDefaultTimeout(300_000);

async function planOfThree(line = "plan --json") {
  return await lookAt(ASKED, async () => await typeHere(line));
}

const data = JSON.parse((await planOfThree()).stdout) as PlanData;
const steps = data.parts.flatMap((part) => part.steps);
const step = (number: string) => steps.find((one) => one.number === number)!;

test("each step has its nodes, its acts, and what it makes void; nodes are names of the plan", () => {
  const names = [...data.nodes.map(({ name }) => name), "your machine"];
  expect(steps.length).toBeGreaterThan(15);
  expect(steps.flatMap(({ on }) => on).filter((name) => !names.includes(name))).toEqual([]);
  expect(steps.filter(({ acts }) => acts.length === 0)).toEqual([]);
  const pack = steps.find(({ task, acts }) => task === "hand-over" && acts[0]?.do === "type")!;
  expect(pack.acts.map((act) => "keeps" in act)).toEqual([false, true]);
  expect(pack.makesVoid.map((number) => step(number).does)).toEqual([
    "Carry shared-keys.age and passphrase",
    "Unpack the shared keys",
  ]);
  const unpack = steps.find(({ task }) => task === "unpack")!;
  expect(unpack.acts).toEqual([
    {
      ...{ do: "type-printed", on: ["m2", "m3"], keptBy: pack.number },
      ...{ sideBySide: true, moveAside: [], mayBeNone: false },
    },
  ]);
  const token = steps.find(({ acts }) =>
    acts.some((act) => act.do === "carry" && act.files[0]!.includes("NODE")),
  )!;
  expect(token.acts[0]).toMatchObject({ from: "m1", to: ["w1", "w2"], secret: true });
});

test("the API's outage is from the first step that stops a control plane to the one that brings it back", () => {
  expect(data.apiAway).toMatchObject({
    from: steps.find(({ task }) => task === "end-etcd")!.number,
    until: steps.find(({ task }) => task === "control-plane")!.number,
  });
});

test("new keys are a decision: a backup stands before them, and what cannot be taken back", () => {
  const decision = data.decisions.find(({ id }) => id === "new-keys")!;
  // this pretend node's disk cannot be searched
  expect(decision.ways.map(({ bundle, newKeys }) => [bundle, newKeys])).toEqual([
    [true, undefined],
    [undefined, true],
  ]);
  expect(decision.ways.at(-1)!.irreversible).toContain("what the old ones signed is rejected");
});

const NONE_LOST = { names: [], away: [], controlPlanes: [], silent: [] };
const EVERYTHING = {
  lost: { ...NONE_LOST, names: ["m3"], controlPlanes: ["m3"], away: ["w2"] },
  newKeys: ["ca", "sa"],
  bundles: ["shared-keys.age"],
};

test.each(Object.keys(IRREVERSIBLE) as (keyof typeof IRREVERSIBLE)[])(
  "%s, which a script announces as irreversible, stands at its task of a plan where it is so",
  (act) => {
    const [sentence] = IRREVERSIBLE[act].what
      .split(/\b(?:NODE|KEYS|FILE)\b/)
      .toSorted((a, b) => b.length - a.length);
    for (const task of IRREVERSIBLE_AT[act])
      expect(effortHere(task, EVERYTHING, ["m1"]).irreversible?.join(" ")).toContain(sentence!.trim());
  },
);

test("what is not so here is not announced: no node is away, none is lost, no key is made", () => {
  const here = { lost: NONE_LOST, bundles: [] };
  const tasks = ["new-cas", "hand-over", "control-plane", "close"] as const;
  expect(tasks.flatMap((task) => effortHere(task, here, ["m1"]).irreversible ?? [])).toEqual([]);
});

test.each<[string, [string, number][], string]>([
  [
    "two nodes",
    [
      ["m1", 3],
      ["m2", 4],
    ],
    "no container is restarted; 7 containers run on without a kubelet (m1 3, m2 4)",
  ],
  [
    "one that has none left",
    [
      ["m1", 0],
      ["m2", 4],
    ],
    "no container is restarted; 4 containers run on without a kubelet (m2 4); no workload runs now on m1",
  ],
  [
    "one that was not looked at",
    [["m1", 2]],
    "no container is restarted; 2 containers run on without a kubelet (m1 2); not looked at: m2",
  ],
])("what a stopped kubelet costs is counted: %s", (_, workloads, costs) => {
  const here = { lost: NONE_LOST, bundles: [], workloads: new Map(workloads) };
  expect(effortHere("hold", here, ["m1", "m2"]).costs).toBe(costs);
});

test("where etcd is a unit of systemd it is proved, and nothing starts it", () => {
  const here = { lost: NONE_LOST, bundles: [], etcdRuns: "unit" as const };
  expect(effortHere("etcd-there", here, ["m2"]).does).toContain("runs as a unit");
  expect(effortHere("etcd-there", { ...here, etcdRuns: "static pod" }, ["m2"]).does).toContain("Start etcd");
});

test("a refusal is data, too: the reason, the next command, and the exit code stays", async () => {
  const { exitCode, stdout } = await planOfThree("plan --json --lost no-such-node");
  const refusal = JSON.parse(stdout);
  expect([exitCode, refusal.ended]).toEqual([3, "refused"]);
  expect(refusal.message).toContain("no-such-node");
  expect(refusal.hint).not.toBe("");
});
