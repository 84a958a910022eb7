/**
 * A hint is read alone, at 3 a.m., out of a log: it begins with a verb or is one command, asks nothing, and never sends
 * back to "this". That nothing was changed is a fact, and stands in the message: `unchanged` of fail.ts.
 */
import { expect, test } from "bun:test";
import { blank, kitSources, lineOf, type Source } from "./sources.ts";

const sources = await kitSources();

// biome-ignore format: a list
const VERBS = [
  "add", "ask", "bring", "change", "check", "choose", "close", "compare", "continue", "copy", "correct", "delete", "do", "end", "find", "finish",
  "follow", "give", "go", "install", "join", "leave", "let", "log", "look", "make", "mend", "move", "name", "open", "pack", "paste",
  "print", "put", "read", "remove", "renew", "repair", "restart", "restore", "run", "say", "see", "send", "set", "start", "stop", "take", "type",
  "unpack", "use", "wait", "write",
];
const PROGRAMS =
  /^(?:\.\/bunw |npm |kubectl |kubeadm |systemctl |journalctl |crictl |age-keygen |openssl |ls |rm |mv |findmnt |pgrep |scp |chmod |microk8s )/;

interface Hint {
  at: string;
  /** As in the source, from its first quote on. */
  text: string;
}

/** Each literal that follows `hint:` or `hint =`, also by a constant of the same file. */
function hintsOf({ path, text }: Source): Hint[] {
  const code = blank(text, { strings: true });
  const shown = blank(text, { strings: false });
  return [...code.matchAll(/\bhint(?::|\s*=(?![=>]))\s*/g)].flatMap((match) => {
    const start = match.index + match[0].length;
    const rest = shown.slice(start, endOf(code, start)).trim();
    const [, name] = /^(?:\(\) => )?([A-Z][A-Z_]+)$/.exec(rest) ?? [];
    const constant = name && new RegExp(`const ${name} =\\s*([\\s\\S]*?);\\n`).exec(shown)?.[1];
    const [literal] =
      /["'`][\s\S]*/.exec((constant ?? rest).replace(/^(?:\(\) => |shell|withSelinux\()*(?=["'`])/, "")) ??
      [];
    const isLiteral = /^(?:\(\) => )?(?:shell|withSelinux\()?["'`]/.test(constant ?? rest);
    return literal && isLiteral ? [{ at: `${path}:${lineOf(text, match.index)}`, text: literal }] : [];
  });
}

function endOf(code: string, start: number): number {
  let depth = 0;
  for (let index = start; index < code.length; index++) {
    const letter = code[index]!;
    if ("([{".includes(letter)) depth++;
    else if (")]}".includes(letter) && depth-- === 0) return index;
    else if (";,".includes(letter) && depth === 0) return index;
  }
  return code.length;
}

/** Its words alone: what is put in between is made elsewhere. */
function wordsOf(text: string): string {
  const inner = /\$\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}/g;
  return text
    .slice(1)
    .replace(inner, "…")
    .replace(/\$\{[\s\S]*$/, "…")
    .replace(/\?verbose|https?:\S+/g, "");
}

function wrong({ at, text }: Hint): string[] {
  const words = wordsOf(text);
  const [first = ""] = /^[A-Za-z]+/.exec(words) ?? [];
  const begins = words.startsWith("…") || PROGRAMS.test(words) || VERBS.includes(first.toLowerCase());
  const why = [
    ...(begins ? [] : ["begins with no verb"]),
    ...(/\b(?:this|the) (?:script )?again\b(?! (?:with|in))/.test(words) && !/same line again/.test(words)
      ? ["says this again"]
      : []),
    ...(/\?/.test(words) ? ["asks"] : []),
    ...(/^nothing was/i.test(words) ? ["begins with what is a fact"] : []),
    ...(linesOf(words).some((line) => ANOTHER.test(line)) ? ["two alternatives on a line"] : []),
  ];
  return why.map((reason) => `${at}: ${reason}: ${words.slice(0, 60)}`);
}

/** As `show` of run.ts prints it: what begins a sentence so has a line. Without what is quoted, and brackets. */
function linesOf(words: string): string[] {
  return words.replace(/"[^"]*"|\([^()]*\)/g, "…").split(/\. (?=(?:If|Or|Where)\b)/);
}

/** Another way to go on the line that has one already. */
const ANOTHER = /[;.] (?:or|if|only if|else|those that)\b/i;

test("a hint that asks, that is no command, and that says this again is seen", () => {
  const text = `
    throw new Fail("x", { hint: "is it here? ls" });
    throw new Fail("x", { hint: \`wait; then this again\` });
    throw new Fail("x", { hint: "nothing was changed. Wait" });
    const LOOK = "its nodes: a";
    throw new Fail("x", { hint: LOOK });
    throw new Fail("x", { hint: shell\`ls -l \${path}\` });
    throw new Fail("x", { hint: \`\${again({})} shows it\` });
    throw new Fail("x", { hint: "run the same line again" });
    throw new Fail("x", { hint: "look there; or here" });
    throw new Fail("x", { hint: "look there. If it is gone: ls; only if it is lost: rm" });
    throw new Fail("x", { hint: "look there. If it is gone: ls. Or (ls; or rm) here" });\n`;
  expect(
    hintsOf({ path: "a.ts", text })
      .flatMap(wrong)
      .map((line) => line.split(": ").slice(0, 2).join(" ")),
  ).toEqual([
    "a.ts:2 begins with no verb",
    "a.ts:2 asks",
    "a.ts:3 says this again",
    "a.ts:4 begins with no verb",
    "a.ts:4 begins with what is a fact",
    "a.ts:6 begins with no verb",
    "a.ts:10 two alternatives on a line",
    "a.ts:11 two alternatives on a line",
  ]);
});

test("each hint begins with a verb or is one command, asks nothing, and never says this again", () => {
  const hints = sources.flatMap(hintsOf);
  expect(hints.length).toBeGreaterThan(250);
  expect(hints.flatMap(wrong)).toEqual([]);
});
