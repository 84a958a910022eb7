/**
 * The pages of docs/ and README's first table are made of one table, tools/docs/symptoms.ts, and say what 00-assess says of
 * a node in that damage. `npm run docs` writes them anew: read the difference.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pageOf, tableOfReadme } from "../../tools/docs/render.ts";
import { SYMPTOMS, type Symptom, type SymptomName } from "../../tools/docs/symptoms.ts";
import { SCENARIOS } from "../lab/rehearse.ts";
import { checksOnReleases } from "../lab/report/release-table.ts";
import { assessedIn } from "../pretend/symptoms.ts";

setDefaultTimeout(300_000);

const HOME = join(import.meta.dir, "../..");
const textOf = (page: string) => (existsSync(join(HOME, page)) ? readFileSync(join(HOME, page), "utf8") : "");
const names = Object.keys(SYMPTOMS) as SymptomName[];

/** Errors: the page has other text, and is not to be written anew. */
function hold(page: string, text: string) {
  if (process.env.UPDATE_TRANSCRIPTS) writeFileSync(join(HOME, page), text);
  expect(textOf(page)).toBe(text);
}

const LAB = {
  titles: new Map(SCENARIOS.map(({ name, title }) => [name, title])),
  proofs: checksOnReleases(textOf("CONTRIBUTING.md")),
};

test.each(names)("docs/%s.md says what 00-assess says of a node in that damage", async (name) => {
  const { finds }: Symptom = SYMPTOMS[name];
  const { verdict, next, damage } = await assessedIn(name);
  const found = damage.filter(
    ({ what, state }) => what.includes(finds.what) && state.toUpperCase().includes(finds.state),
  );
  expect(found.length, `${finds.state} ${finds.what}`).toBeGreaterThan(0);
  hold(`docs/${name}.md`, pageOf(name, { verdict, next }, LAB));
});

test("docs/ has no other page, and each names scenarios and rows that the lab has", () => {
  expect(
    readdirSync(join(HOME, "docs"))
      .filter((file) => file.endsWith(".md"))
      .sort(),
  ).toEqual(names.map((name) => `${name}.md`).sort());
  const symptoms: Symptom[] = Object.values(SYMPTOMS);
  expect(symptoms.flatMap(({ scenarios }) => scenarios).filter((name) => !LAB.titles.has(name))).toEqual([]);
  const rows = textOf("test/lab/scenarios/small-damages.ts");
  expect(
    symptoms.flatMap(({ rows = [] }) => rows).filter((row) => !rows.includes(`title: "${row}"`)),
  ).toEqual([]);
});

const [BEGIN, END] = ["<!-- symptoms: npm run docs writes this table -->", "<!-- symptoms: end -->"];

test("README.md begins with the table of symptoms, and each page is linked there once", () => {
  const page = textOf("README.md");
  const [before, , after] = page.split(new RegExp(`(?:${BEGIN}\n\n|\n\n${END})`)) as [string, string, string];
  expect(before.split("\n").length).toBeLessThan(30);
  hold("README.md", `${before}${BEGIN}\n\n${tableOfReadme()}\n\n${END}${after}`);
  const links = [...tableOfReadme().matchAll(/\(docs\/([\w-]+)\.md\)/g)].map(([, name]) => name!);
  expect(links.toSorted()).toEqual(names.toSorted());
});
