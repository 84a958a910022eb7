/**
 * The pages for operators are read at 3 a.m., on a terminal too: short sentences and paragraphs, 100 columns,
 * each part of RUNBOOK.md with the same labels, and limits in words.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { readRunbook } from "../../shared/plan/runbook.ts";
import { tooLong as longSentences, wordsOf } from "./sentences.ts";

const HOME = join(import.meta.dir, "../..");
const textOf = (page: string) => Bun.file(join(HOME, page)).text();

const PAGES = ["README.md", "RUNBOOK.md", "RUNBOOK-MORE.md"];
const [PARAGRAPH, COLUMNS] = [60, 100];

/** Without fences, tables and headings: a list's item is a paragraph. */
function paragraphsOf(page: string): string[] {
  const prose = page
    .replace(/^ *```[\s\S]*?^ *```$/gm, "\n")
    .replace(/^(?:\||#).*$/gm, "\n")
    .replace(/^ *(?:- |\d+\. )/gm, "\n\n");
  return prose
    .split(/\n\s*\n/)
    .map((paragraph) => paragraph.replace(/\s+/g, " ").trim())
    .filter(Boolean);
}

function tooLong(page: string): string[] {
  return paragraphsOf(page).flatMap((paragraph) => [
    ...(wordsOf(paragraph) > PARAGRAPH ? [`${wordsOf(paragraph)} words: ${paragraph.slice(0, 70)}`] : []),
    ...longSentences([{ at: "paragraph", text: paragraph }]),
  ]);
}

/** A line of prose; code that has more letters than the line stands as it is. */
function tooWide(page: string): string[] {
  return page
    .replace(/^ *```[\s\S]*?^ *```$/gm, "")
    .split("\n")
    .filter((line) => line.length > COLUMNS && !/^[|#]/.test(line) && !/`[^`]{80,}`/.test(line));
}

test("a long sentence, a long paragraph and a wide line are seen, and code and tables are not", () => {
  const words = (count: number) => Array(count).fill("word").join(" ");
  expect(tooLong(`A ${words(30)}.\n\n- B ${words(20)}.\n- C ${words(20)}.\n`)).toHaveLength(1);
  expect(tooLong(`${`Now ${words(19)}. `.repeat(4)}\n`)).toHaveLength(1);
  expect(tooLong(`Type \`${words(30)}\`.\n\`\`\`sh\n${words(70)}\n\`\`\`\n| ${words(70)} |\n`)).toEqual([]);
  expect(
    tooWide(`${words(21)}\n| ${words(30)} |\n\`\`\`sh\n${words(30)}\n\`\`\`\n\`${words(30)}\`\n`),
  ).toEqual([words(21)]);
});

test.each(PAGES)("%s has short sentences and paragraphs, within 100 columns", async (page) => {
  const text = await textOf(page);
  expect(tooLong(text)).toEqual([]);
  expect(tooWide(text)).toEqual([]);
});

const LABELS = ["Needs", "Stops", "Type", "You should see", "If not", "Undo"];

test("each part of RUNBOOK.md says in this order: needs, stops, type, you should see, if not, undo", async () => {
  const { parts } = readRunbook(await textOf("RUNBOOK.md"));
  const labels = parts.map(({ text }) => [
    ...new Set([...text.matchAll(/\*\*([A-Z][\w ]+)\.\*\*/g)].map(([, label]) => label!)),
  ]);
  expect(labels.map((own) => own.filter((label) => LABELS.includes(label)))).toEqual(parts.map(() => LABELS));
});

test("RUNBOOK-MORE.md begins with all its chapters, in their order", async () => {
  const text = await textOf("RUNBOOK-MORE.md");
  const chapters = [...text.matchAll(/^###? (.+)$/gm)].map(([, title]) => title!);
  const [contents] = text.split("\n## ") as [string];
  expect([...contents.matchAll(/\[([^\]]+)\]\(#/g)].map(([, title]) => title!)).toEqual(chapters);
});

test("no page names a chapter without a link to it, but in tables and undo lines, which a plan prints too", async () => {
  const named = ["README.md", "RUNBOOK.md"].map(async (page) =>
    paragraphsOf(await textOf(page)).filter(
      (text) => /RUNBOOK-MORE(?:\.md)?,? "/.test(text) && !text.startsWith("**Undo.**"),
    ),
  );
  expect((await Promise.all(named)).flat()).toEqual([]);
});

test("the seconds of README.md are the least and the most of the lab's runs by repair", async () => {
  const [, table = ""] =
    /^### By `repair`\n([\s\S]*?)\n\n[^|]*\n## /m.exec(await textOf("CONTRIBUTING.md")) ?? [];
  const rows = [...table.matchAll(/^\| `[\w-]+`, \d\+\d \| (\d+) s \| (\d+) s \|/gm)];
  expect(rows.length).toBeGreaterThan(10);
  const [all, away] = [1, 2].map((cell) => rows.map((row) => Number(row[cell])));
  const span = (seconds: number[]) => `${Math.min(...seconds)} to ${Math.max(...seconds)} seconds`;
  expect(await textOf("README.md")).toContain(
    `[${span(all!)}](CONTRIBUTING.md#by-repair), and the API was unavailable for ${span(away!)} of it`,
  );
});
