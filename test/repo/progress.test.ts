/**
 * Progress has one form, verb first: "stopped X", "will stop X", "would stop X", "unchanged X". `did` and `act` of run.ts
 * make the first three.
 */
import { expect, test } from "bun:test";
import { callsOf, kitSources, type Source } from "./sources.ts";

const sources = await kitSources();

// biome-ignore format: a list
const DONE = [
  "added", "approved", "changed", "continued", "copied", "created", "denied", "evicted", "given back", "kept", "left alone", "left as (?:it is|they are)",
  "made", "moved", "not copied", "not restarted", "not told", "points to", "removed", "renamed", "replaced", "restarted", "revoked", "running, not",
  "saved", "started", "stays", "stopped", "taken (?:on|out)", "unchanged", "updated", "was missing", "written", "wrote",
];
const OLD = new RegExp(`^[^:]*: (?:${DONE.join("|")})\\b|\\bwould: |\\bstays? (?:as|where) it is|\\bkept$`);

/** Of a template the text, with "…" for each value. */
const shown = (text: string) =>
  text.replace(/\$\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}/g, "…").replace(/^["'`]|["'`,]+$/g, "");

/** What these calls of run.ts and progress.ts are given, as in the source, where it has an old form. */
function oldForms(source: Source): string[] {
  const said = [...callsOf(source, "say("), ...callsOf(source, "act(")];
  return said.flatMap(({ at, args }) =>
    args
      .slice(0, 2)
      .map(shown)
      .flatMap((text) => (OLD.test(text) ? [`${at}: ${text.slice(0, 70)}`] : [])),
  );
}

test("the old forms are seen, and the new ones are not", () => {
  const text = `
    say(\`\${path}: kept\`);
    await act(\`\${one.name}: stopped\`, stop);
    say("would: write it");
    progress.say(\`\${name}: approved for \${whom}\`);
    say("kubelet: stays as it is");
    say(\`unchanged \${path}\`);
    await act("stop", \`\${one.name}\`, stop);
    say(\`would wait for: \${what}\`);
    say(\`\${name}: ready\`);\n`;
  expect(oldForms({ path: "a.ts", text }).map((line) => line.split(": ")[0]!)).toEqual([
    "a.ts:2",
    "a.ts:4",
    "a.ts:5",
    "a.ts:6",
    "a.ts:3",
  ]);
});

test("each line of progress has its verb in front", () => {
  expect(sources.flatMap((source) => callsOf(source, "say(")).length).toBeGreaterThan(250);
  expect(sources.flatMap(oldForms)).toEqual([]);
});

test("each change is said by a verb that has its past", () => {
  const acts = sources.flatMap((source) => callsOf(source, "act(")).filter(({ args }) => args.length === 3);
  const verbs = new Set(acts.flatMap(({ args }) => /^"([a-z]+)"$/.exec(args[0]!)?.[1] ?? []));
  expect([...verbs].sort()).toEqual([
    "add",
    "continue",
    "point",
    "remove",
    "revoke",
    "save",
    "start",
    "stop",
    "update",
    "write",
  ]);
});
