/** The pages of docs/ and README's first table as Markdown, from the table of symptoms. */
import { COSTS, README_ROWS, SYMPTOMS, type Symptom, type SymptomName, WAYS } from "./symptoms.ts";

/** The verdict of 00-assess on a node in that damage, and its next commands. */
interface AssessSays {
  verdict: string;
  next: readonly string[];
}

/** `titles`: scenario of the lab → its title; `proofs`: scenario → its checks on the tried releases, where they are known. */
interface LabProof {
  titles: ReadonlyMap<string, string>;
  proofs: ReadonlyMap<string, string>;
}

const SAYS_IT = "On a node, this line only looks, and finds this:";

/** A page of docs/, for a name of the table. */
export function pageOf(name: SymptomName, output: AssessSays, lab: LabProof): string {
  const symptom: Symptom = SYMPTOMS[name];
  const way = WAYS[symptom.type];
  const blocks = [
    `# ${symptom.title}`,
    ...(symptom.also.length > 0
      ? [`Also: ${symptom.also.map((text) => `\`${text}\``).join(", ")}.`]
      : []),
    "## What it means",
    symptom.means.join("\n"),
    "## What to type",
    way.before,
    fence("sh", way.lines),
    "NODE is a control plane node. How to get the kit, and what you need: [README](../README.md#one-command).",
    SAYS_IT,
    fence("sh", ["./bunw scripts/00-assess.ts"]),
    fence("text", [
      `verdict: ${output.verdict}`,
      "",
      "next",
      ...output.next.map((line) => `  ${line}`),
    ]),
    "## What it costs",
    COSTS[symptom.costs],
    "## The proof",
    "The lab does this to a real cluster, and repairs it:",
    [
      ...symptom.scenarios.map((scenario) => proofOf(scenario, lab)),
      ...(symptom.rows ?? []).map((row) => `- \`small-damages\`: ${row}`),
    ].join("\n"),
    ...(symptom.threads.length > 0
      ? [`People have asked in ${symptom.threads.map(linkOf).join(", ")}.`]
      : []),
  ];
  return `${MADE}\n\n${blocks.join("\n\n")}\n`;
}

const MADE = "<!-- npm run docs writes this page from tools/docs/symptoms.ts -->";

function fence(language: string, lines: readonly string[]): string {
  return [`\`\`\`${language}`, ...lines, "```"].join("\n");
}

function proofOf(scenario: string, { titles, proofs }: LabProof): string {
  const proof = proofs.get(scenario);
  return `- \`${scenario}\`: ${titles.get(scenario)}.${proof ? ` ${proof}.` : ""}`;
}

function linkOf(thread: string): string {
  const [repository, number] = thread.split("#");
  return `[${thread}](https://github.com/${repository}/issues/${number})`;
}

/** README's first table. */
export function tableOfReadme(): string {
  const cell = (text: string) =>
    text.replace(
      /\{([\w-]+)\}/g,
      (_, name: SymptomName) => `[\`${SYMPTOMS[name].short}\`](docs/${name}.md)`,
    );
  return [
    "| What you see | What to do |",
    "|---|---|",
    ...README_ROWS.map(({ see, todo }) => `| ${cell(see)} | ${todo} |`),
  ].join("\n");
}
