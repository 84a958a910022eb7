#!/usr/bin/env bun
/**
 * YAML as Kubernetes' own library reads it: words that we read as it does, and texts that we write and that
 * it reads back as they were. Thousands of words of the letters that mean something to YAML, the same ones
 * every time.
 */
import { run } from "../../../shared/run.ts";
import { readYaml, yamlText } from "../../../shared/yaml.ts";
import { ownProgram } from "../machine/binaries.ts";

const LETTERS = [
  ..."yYnNtToOfFx0123456789_-+.eEbB:~ \t\n\r#'\"\\<=>[]{},&*!|%@`?\u0085\u2028\u2029\ufeff\u007fé😀",
];
const KNOWN = [
  "yes",
  "on",
  "1_000",
  "0o7",
  "12:30:45",
  "~",
  "",
  "null",
  "017",
  "09",
  "1e999",
  ".5_0",
  "<<",
  "2026-01-01",
  "---",
  "...",
  ".inf",
];

let failures = 0;

async function main() {
  const words = [...KNOWN, ...randomWords(20_000)];
  const plain = words.filter((word) => /^[\w+.~<=-]+$/.test(word) && !/^(-+|\.\.\.)$/.test(word));
  const theirs = await asKubernetesReads(plain.map((word) => `a: ${word}\n`));
  const misread = plain.filter(
    (word, i) => theirs[i] !== null && JSON.stringify(readYaml(`a: ${word}\n`)) !== JSON.stringify(theirs[i]),
  );
  check(
    `${plain.length} plain words are read as Kubernetes reads them${some(misread)}`,
    misread.length === 0,
  );

  const documents = words.map((word) => ({
    command: [`--a=${word}`, word],
    env: [{ name: "A", value: word }],
    [`k${word}`]: { [word]: word },
  }));
  const back = await asKubernetesReads(documents.map(yamlText));
  const changed = words.filter(
    (_, i) => JSON.stringify(sorted(documents[i])) !== JSON.stringify(sorted(back[i])),
  );
  check(`${words.length} words come back as they were written${some(changed)}`, changed.length === 0);
  process.exitCode = failures === 0 ? 0 : 1;
}

/** Words of one to six letters; a generator by Park and Miller, so that a red run can be repeated. */
function randomWords(count: number): string[] {
  let seed = 7;
  const next = (below: number) => {
    seed = (seed * 48271) % 2147483647;
    return seed % below;
  };
  return Array.from({ length: count }, () =>
    Array.from({ length: 1 + next(6) }, () => LETTERS[next(LETTERS.length)]).join(""),
  );
}

/** Each document as JSON; null where Kubernetes' library refuses it. */
async function asKubernetesReads(documents: readonly string[]): Promise<unknown[]> {
  const child = Bun.spawn([await ownProgram("yamltojson")], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  child.stdin.write(documents.map((text) => `${JSON.stringify(text)}\n`).join(""));
  child.stdin.end();
  const lines = (await new Response(child.stdout).text()).trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line) as unknown);
}

/** Keys in one order: JSON has none. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.entries(value)
    .map(([key, child]) => [key, sorted(child)])
    .sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));
}

function some(words: readonly string[]): string {
  return words.length === 0 ? "" : `, except ${words.length}: ${JSON.stringify(words.slice(0, 10))}`;
}

function check(what: string, ok: boolean) {
  console.log(`${ok ? "ok" : "not ok"}: ${what}`);
  if (!ok) failures++;
}

if (import.meta.main) await run(main);
