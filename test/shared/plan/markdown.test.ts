/** A plan as Markdown: what any reader of it takes for a paragraph, a heading, a block. */
import { expect, test } from "bun:test";
import type { Plan, SeenStep } from "../../../shared/plan/make-plan.ts";
import { planAsMarkdown } from "../../../shared/plan/markdown.ts";

const STEP = {
  ...{ part: 1, way: "on", on: ["cp1"], sideBySide: false, costs: "nothing", seconds: [1, 2], exit: [0] },
  ...{ lines: [{ at: "cp1", text: "true" }], observations: [], makesVoid: [] },
} as unknown as SeenStep;

const PLAN = {
  ...{ node: "cp1", cluster: "prod", kubernetes: undefined, made: new Date(0), user: "root", verdict: "v" },
  ...{ nodes: [], lost: [], away: [], aim: undefined, looked: [], first: [], anew: [], seconds: [1, 2] },
} as unknown as Plan;

test("a note, its lines, each step, how to undo the part, and to go on where it stops, stand apart", () => {
  const steps = ["1a", "1b"].map((number) => ({ ...STEP, number, does: `Do ${number}` }) as SeenStep);
  const parts = [
    {
      number: 1,
      title: "Begin",
      notes: [{ text: "Look.", commands: [{ at: "cp1", text: "ls" }] }],
      steps,
      undo: "Go back.",
    },
  ] as unknown as Plan["parts"];
  const text = planAsMarkdown({ ...PLAN, parts });
  const blocks = text.slice(text.indexOf("## 1 Begin")).trim().split("\n\n");
  const ofStep = (number: string) =>
    `### [ ] ${number}: Do ${number}, on cp1\n\`\`\`sh\n# on cp1:\ntrue\n\`\`\`\nCosts: nothing. Takes about 1 to 2 s.`;
  expect(blocks).toEqual([
    "## 1 Begin",
    "> Look.",
    "```sh\n# on cp1:\nls\n```",
    ofStep("1a"),
    ofStep("1b"),
    "**Undo.** Go back.",
  ]);
  const stops = planAsMarkdown({ ...PLAN, parts: parts.map((part) => ({ ...part, hasTable: true })) });
  expect(stops).toContain(
    "**Undo.** Go back. **A step stops?** Its hint says what to do; RUNBOOK.md 1 lists causes.",
  );
});

test("each role is named once, with all its nodes", () => {
  const nodes = [
    { role: "control plane node", name: "m2", address: "10.0.0.2" },
    { role: "worker", name: "w1", address: "10.0.0.4" },
    { role: "control plane node", name: "m3", address: "10.0.0.3" },
  ] as unknown as Plan["nodes"];
  expect(planAsMarkdown({ ...PLAN, nodes, parts: [] })).toContain(
    "\n- control plane nodes: m2 (10.0.0.2), m3 (10.0.0.3)\n- worker: w1 (10.0.0.4)\n",
  );
});
