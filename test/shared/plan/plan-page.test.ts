/** The plan's page: what it makes of names that are long, many, or parts of one another. */
import { expect, test } from "bun:test";
import type { Plan } from "../../../shared/plan/make-plan.ts";
import { planAsPage } from "../../../shared/plan/plan-page.ts";

type PlanNode = Plan["nodes"][number];

const PLAN = {
  ...{ node: "cp1", cluster: "prod", kubernetes: undefined, made: new Date(0), user: "root", verdict: "v" },
  ...{
    nodes: [],
    lost: [],
    away: [],
    aim: undefined,
    looked: [],
    elsewhere: undefined,
    first: [],
    parts: [],
  },
  ...{ anew: [], seconds: [1, 2] },
} as unknown as Plan;

const nodeOf = (name: string, role: string) => ({ name, role, address: "10.0.0.1" }) as PlanNode;
const listOf = (html: string) => /<ul class="nodes">(.*?)<\/ul>/s.exec(html)![1]!;

test("lines whose machine has a long name stand below it, all others beside it", () => {
  const classOf = (...names: string[]) => {
    const anew = names.map((at) => ({ at, text: "true" }));
    return /<div id="anew">.*?<div class="([^"]+)"/s.exec(planAsPage({ ...PLAN, anew }))![1];
  };
  expect(classOf("cp1", "n".repeat(24))).toBe("lines");
  expect(classOf("cp1", "n".repeat(25))).toBe("lines long");
});

test("a node's name is one word wherever it stands, and no part of a longer one is", () => {
  const nodes = [nodeOf("w1", "worker"), nodeOf("w1.example", "worker")];
  const verdict = "w1.example and w1, not w10 or w1-a, in logs.d/w1.example.tar";
  const html = planAsPage({ ...PLAN, nodes, verdict });
  const name = (text: string) => `<span class="name">${text}</span>`;
  expect(html).toContain(
    `${name("w1.example")} and ${name("w1")}, not w10 or w1-a, in logs.d/${name("w1.example.tar")}`,
  );
});

test("of many nodes the workers are counted, but those whose address is missing", () => {
  const workers = Array.from({ length: 200 }, (_, index) => nodeOf(`w${index}`, "worker"));
  const nodes = [
    nodeOf("cp1", "control plane"),
    ...workers,
    { ...nodeOf("odd", "worker"), why: "It has none" },
  ];
  const shown = listOf(planAsPage({ ...PLAN, nodes }));
  expect([...shown.matchAll(/<b>(?:<[^>]+>)?(\w+)/g)].map(([, name]) => name)).toEqual(["cp1", "odd"]);
  expect(shown).toContain("<li>and 200 workers</li>");
  expect(listOf(planAsPage({ ...PLAN, nodes: nodes.slice(0, 3) }))).not.toContain("and ");
});

test("the page has an estimate only where its steps lead to the proof", () => {
  const part = {
    number: 5,
    title: "Prove it",
    undo: "",
    steps: [],
    notes: [],
  } as unknown as Plan["parts"][number];
  const estimateIn = (plan: Plan) => /data-estimate="(.*?)"/.exec(planAsPage(plan))![1];
  expect(estimateIn({ ...PLAN, seconds: [60, 120], parts: [part] })).toBe("1 to 2 minutes");
  expect(estimateIn({ ...PLAN, seconds: [60, 120], parts: [{ ...part, number: 2 }] })).toBe("");
});

test("a step's exit code is said where it may be another one than 0", () => {
  const codesOf = (...exit: number[]) => {
    const step = {
      number: "1a",
      does: "d",
      way: "on",
      on: ["cp1"],
      observations: [],
      lines: [],
      makesVoid: [],
    };
    const steps = [{ ...step, costs: "nothing", seconds: [0, 1], exit }];
    const part = { number: 1, title: "etcd", undo: "", notes: [], steps };
    const html = planAsPage({ ...PLAN, parts: [part] } as unknown as Plan);
    return /<b>Exit code<\/b> (.*?)\./.exec(html)?.[1];
  };
  expect([codesOf(0), codesOf(0, 2), codesOf(2)]).toEqual([undefined, "0 or 2", "2"]);
});

test("all of the page that is no head and no foot is in its main part, for those who hear it", () => {
  const first = [{ text: "Look first", commands: [{ at: "cp1", text: "true" }] }];
  const html = planAsPage({
    ...PLAN,
    first,
    anew: first[0]!.commands,
    nodes: [nodeOf("w1", "worker")],
  } as never);
  const [, before, main] = /<\/header>([\s\S]*?)<main>([\s\S]*?)<\/main>/.exec(html)!;
  expect(before!.trim()).toBe("");
  for (const part of ['class="nodes"', 'id="anew"', 'class="note"', 'id="progress"'])
    expect(main).toContain(part);
});
