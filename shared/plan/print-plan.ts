/** `00-assess --plan`: the plan on the terminal, or in a file that the operator names. Writes nothing else. */
import { join } from "node:path";
import type { Assessment } from "../assess/assessment.ts";
import { command } from "../facts/todo.ts";
import { Fail, Refused } from "../fail.ts";
import { writeTyped } from "../files/operator-files.ts";
import { answer } from "../run.ts";
import { makePlan, type Plan } from "./make-plan.ts";
import { planAsMarkdown } from "./markdown.ts";
import type { PlanFacts } from "./plan-facts.ts";
import { planAsPage } from "./plan-page.ts";

/** By the ending of the file's name. */
const FORMS: Record<string, (plan: Plan) => string> = { md: planAsMarkdown, html: planAsPage };

/** `file`: as typed; unset: the terminal. Errors: Fail where no plan can be made, or not written. */
export async function printPlan(assessed: Assessment, facts: PlanFacts, file: string | undefined) {
  const form = formOf(file);
  if (assessed.role !== "control plane")
    throw new Refused(`"${assessed.node}" is no control plane node: ${assessed.verdict}`, {
      hint: `print the plan on a control plane node: ${command("00-assess --plan")}`,
    });
  const plan = makePlan(assessed, facts, await runbookHere());
  if (file === undefined) answer(form(plan));
  else writeTyped(file, `${form(plan)}\n`, { mode: 0o600 });
}

/** Errors: Fail where the name has an ending of which no plan can be made. */
function formOf(file: string | undefined): (plan: Plan) => string {
  const form = FORMS[/\.(\w+)$/.exec(file ?? ".md")?.[1] ?? ""];
  if (form) return form;
  throw new Fail(`"${file}" is no name for a plan`, {
    hint: `it ends in ${Object.keys(FORMS)
      .map((ending) => `.${ending}`)
      .join(" or ")}`,
  });
}

/** The RUNBOOK.md that came with this kit. */
async function runbookHere(): Promise<string> {
  const file = Bun.file(join(import.meta.dir, "../../RUNBOOK.md"));
  if (await file.exists()) return await file.text();
  throw new Fail("RUNBOOK.md is not in the kit's folder: a plan is made of it", { hint: "unpack the kit again: npm run pack packs it" });
}
