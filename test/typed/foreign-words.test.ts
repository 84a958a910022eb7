/** A sample of test/soak/foreign-words.test.ts: a foreign word is one short line, whoever has written it. */
import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { quoteUntrusted } from "../../shared/plain.ts";
import { show } from "../../shared/run.ts";
import { expectOneLine, FORMS, faults, type Scene, writtenByOthers } from "../pretend/foreign-words.ts";

setDefaultTimeout(300_000);

const written = await writtenByOthers();

/** Of each scene the lines that repeat most of others' words. */
const LINES: [Scene, string[]][] = [
  [
    "well",
    [
      "05-verify --all --json",
      "05-verify --output short",
      "05-verify --metrics /var/lib/prometheus/a.prom",
      "plan /root/plan.html",
    ],
  ],
  ["lost", ["00-assess", "plan", "plan --json"]],
  ["after part 2", ["03-workers open", "03-workers approve", "04-sa-tokens", "report /root/report.html"]],
];
const WRITERS = ["a kubelet", "a network plugin", "a tenant"] as const;
const ROWS = LINES.flatMap(([scene, lines]) => WRITERS.map((who) => [who, scene, lines] as const));

test.each(ROWS)("each way to end a line, by %s, in a cluster that is %s", (who, scene, lines) => {
  const keys = written.filter((one) => one.who === who).map(({ key }) => key);
  return expectOneLine({ keys, form: "ALL", where: "all but names" }, scene, lines);
});

test("a mebibyte of a kubelet's is not repeated", () => {
  const row = { keys: ["minions/w1"], form: "1 MiB", where: ["status", "conditions", "0", "status"] };
  return expectOneLine(row, "well", ["05-verify --json", "05-verify"]);
});

/** In a hint alone it ends a line. */
const hasNoLine = FORMS["a sentence"]!;

test("each form is found where it is printed as it came", () => {
  const notFound = Object.entries(FORMS).filter(
    ([, text]) => faults(`  failed   nodes: Ready is ${text}\n`).length === 0,
  );
  expect(notFound.map(([, text]) => text)).toEqual([hasNoLine]);
});

test("a sentence of another's in a hint is no alternative of ours, whatever quotes are in it", () => {
  const said: string[] = [];
  const ear = spyOn(console, "error").mockImplementation((line: string) => void said.push(line));
  try {
    show("It said no", `ask "${quoteUntrusted(hasNoLine)}" again. If it says no again: stop`);
  } finally {
    ear.mockRestore();
  }
  const begins = said.flatMap((text) => text.split("\n").map((line) => /\w+/.exec(line)?.[0]));
  expect(begins).toEqual([undefined, "error", "hint", "If"]);
});
