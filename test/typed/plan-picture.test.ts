/** docs/plan.svg shows the screen of `repair` for a cluster whose certificates have expired. UPDATE_TRANSCRIPTS=1 draws it anew. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ENDS, repairAll } from "../../shared/follow/follow-plan.ts";
import type { PlanData } from "../../shared/plan/plan-answer.ts";
import { pictureOf } from "../../tools/docs/picture.ts";
import { PretendNodes, PretendPerson, pretendSession } from "../pretend/follow.ts";
import { lookAt } from "../pretend/in-process.ts";
import { reachable } from "../pretend/plan.ts";
import { caught } from "../pretend/quietly.ts";
import { assessedIn, expiredNode } from "../pretend/symptoms.ts";
import { typeHere } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const FILE = join(import.meta.dir, "../../docs/plan.svg");

/** Its two workers have been asked, too: their certificates have expired. */
async function planOfExpired(): Promise<PlanData> {
  const worker = await assessedIn("bootstrap-kubelet-conf");
  return await lookAt({ ...expiredNode, etcd: reachable }, async ({ root }) => {
    mkdirSync(`${root}/root/seen`, { recursive: true });
    for (const node of ["w1", "w2"])
      writeFileSync(`${root}/root/seen/${node}.json`, JSON.stringify({ ...worker, node }));
    return JSON.parse((await typeHere("plan --json --seen /root/seen")).stdout) as PlanData;
  });
}

test("the picture is the screen that a person reads before anything begins", async () => {
  const plan = await planOfExpired();
  for (const [index, node] of plan.nodes.entries())
    Object.assign(node, { address: `10.0.0.${11 + index}`, why: undefined });
  const transport = new PretendNodes((_, command) =>
    command.includes("scripts/plan.ts --json") ? { stdout: JSON.stringify(plan), exitCode: 2 } : undefined,
  );
  const person = new PretendPerson([/^End here/]);
  const { session } = pretendSession({ transport, person, more: {} });
  const { value, stdout } = await caught(() => repairAll(session));
  expect(value).not.toBe(ENDS.repaired);
  expect(person.asked).toEqual([expect.stringMatching(/^Begin\?/)]);
  // the time of the look
  const shown = stdout
    .replaceAll(/At \d\d:\d\d UTC/g, "At 04:12 UTC")
    .trim()
    .split("\n");
  expect(shown[0]).toMatch(/^kubernetes, Kubernetes v[\d.]+: 1 control plane node, 2 workers$/);
  const ways = person.asked[0]!.split(" | ").map((way, i) => (i === 0 ? way : `  ${i}  ${way}`));
  const picture = pictureOf("The screen of repair before it begins", [
    "$ npm run repair -- root@10.0.0.11",
    "",
    ...shown,
    "",
    ...ways,
    "",
  ]);
  if (process.env.UPDATE_TRANSCRIPTS) writeFileSync(FILE, picture);
  expect(readFileSync(FILE, "utf8")).toBe(picture);
});

test("a line that is too long for the picture is wrapped between words, and signs of XML are text", () => {
  const rows = [
    ...pictureOf("a", [`  1a  ${"word ".repeat(30)}`, 'x < "y" & z']).matchAll(/preserve">(.*)<\/text>/g),
  ];
  expect(rows.map(([, text]) => text!.length <= 110)).toEqual([true, true, true]);
  expect(rows.map(([, text]) => text!.slice(0, 10))).toEqual(["  1a  word", "      word", "x &lt; &qu"]);
});
