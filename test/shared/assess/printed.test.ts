/** What 00-assess has found out about lost keys is printed whole: a row for each place. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { assess } from "../../../shared/assess/assess.ts";
import { lookHere } from "../../../shared/assess/look-here.ts";
import { printAssessment } from "../../../shared/assess/printed.ts";
import { deepAsked } from "../../../shared/assess/survivors.ts";
import { healthyCp, type Objects, write } from "../../pretend/cluster.ts";
import { agedText, YEAR_MS } from "../../pretend/expired.ts";
import { lookAt, type PretendNode } from "../../pretend/in-process.ts";
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

/** After the search of a node that has all its files, changed so. */
async function keyRows(on: Omit<Parameters<typeof lookAt>[0], "kind">) {
  const { deep } = await lookAt({ kind: "healthy control plane node", ...on }, async () =>
    assess(await lookHere(undefined), { deep: deepAsked({ deep: true, "no-disk": true }) }),
  );
  return deep!.keys.map(({ file, detail }) => `${file} ${detail.replace(/\d.*/, "DATE")}`);
}

test("an expired CA that has signed nothing here has one row after the search: its key is here, and no place has to be searched", async () => {
  const change = async ({ root }: PretendNode) => {
    const pki = `${root}/etc/kubernetes/pki`;
    const [cert, key] = ["crt", "key"].map((end) => readFileSync(`${pki}/etcd/ca.${end}`, "utf8"));
    write(`${pki}/front-proxy-ca.crt`, (await agedText(cert!, key!, 11 * YEAR_MS))!, 0o644);
    write(`${pki}/front-proxy-ca.key`, key!);
  };
  expect(await keyRows({ change })).toEqual(["front-proxy-ca.key here, but it was valid until DATE"]);
});

test("a CA that is valid is no foreign one where etcd's data shows none", async () => {
  const etcd = (objects: Objects) => {
    const map = objects["configmaps/kube-system/kube-root-ca.crt"] as { data: object };
    map.data = { "ca.crt": "no certificate" };
  };
  const { damage } = await lookAt({ kind: "healthy control plane node", etcd }, async () =>
    assess(await lookHere(undefined)),
  );
  expect(JSON.stringify(damage)).not.toContain("another CA");
});
