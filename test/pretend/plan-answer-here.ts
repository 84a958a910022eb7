/** The answer of `plan --json` on a pretend node, as `repair` follows it, with an address for each node. */
import type { PlanData } from "../../shared/plan/plan-answer.ts";
import { lookAt } from "./in-process.ts";
import { ASKED } from "./plan.ts";
import { typeHere } from "./typed-here.ts";

/** `words`: options of the line, with a blank before. */
export async function planOf(words: string): Promise<PlanData> {
  const plan = await lookAt(
    ASKED,
    async () => JSON.parse((await typeHere(`plan --json${words}`)).stdout) as PlanData,
  );
  for (const [index, node] of plan.nodes.entries())
    Object.assign(node, { address: `10.0.0.${11 + index}`, why: undefined });
  return plan;
}
