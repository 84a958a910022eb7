/** What 00-assess has found out about lost keys is printed whole: a row for each place. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { assess } from "../../../shared/assess/assess.ts";
import { lookHere } from "../../../shared/assess/look-here.ts";
import { printAssessment } from "../../../shared/assess/printed.ts";
import { deepAsked } from "../../../shared/assess/survivors.ts";
import { healthyCp } from "../../pretend/cluster.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { withM2 } from "../../pretend/lost-cp.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

await healthyCp();

/** A node that has lost all, as it is printed; each line with one space between its cells. */
async function printed(how?: Parameters<typeof assess>[1]) {
  return await lookAt({ etcd: withM2 }, async (_, said) => {
    const assessment = await assess(await lookHere(undefined), how);
    const from = said.length;
    printAssessment(assessment);
    const lines = said.slice(from).flatMap((text) => text.split("\n"));
    return { assessment, lines: lines.map((line) => line.trim().replaceAll(/ +/g, " ")) };
  });
}

test("each place where old keys may be has a row: with its hope, and with what to do", async () => {
  const { assessment, lines } = await printed();
  const rows = assessment.survivors.map(({ where, hope, detail }) => `${where} ${hope} ${detail}`);
  expect(rows.length).toBeGreaterThan(1);
  expect(lines).toEqual(expect.arrayContaining(rows));
});

test("after the search each lost key has a row: with its first place, and with what tells which key it was", async () => {
  const { assessment, lines } = await printed({ deep: deepAsked({ deep: true, "no-disk": true }) });
  const rows = assessment.deep!.keys.map(
    ({ file, places, detail }) => `${file} ${places[0]?.where} ${detail}`,
  );
  expect(rows).toContain("ca.key maybe on m2 known by kube-root-ca.crt");
  expect(lines).toEqual(expect.arrayContaining(rows));
});
