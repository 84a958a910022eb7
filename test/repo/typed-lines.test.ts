/** Lines that an operator types: every name and path in one goes through `shell` (shared/shell-line.ts), whoever has chosen it. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Glob } from "bun";
import { type Source, type Template, templatesOf } from "./sources.ts";

const home = join(import.meta.dir, "../..");
const paths = [...new Glob("{scripts,shared}/**/*.ts").scanSync(home)].sort();
const sources: Source[] = await Promise.all(paths.map(async (path) => ({ path, text: await Bun.file(`${home}/${path}`).text() })));

const PROGRAMS =
  "KUBECTL|chmod|chown|cp|crictl|df|diff|etcdctl|findmnt|install|journalctl|kubeadm|kubectl|ls|mkdir|mount|mv|namei|openssl|rm|rmdir|scp|shred|ssh|systemctl|tar|umount|\\./bunw";

/** A program with its words: up to the end of a sentence or of a line, or to a comment. */
const LINE = new RegExp(`(?<![\\w/.-])(?:${PROGRAMS})(?= )(?:(?![.;:,)"\\\\]+(?: |$)| #| \\(|\\n).)*`, "gs");

/** What quotes by itself, and constants of ours. */
const SAFE = /^(?:(?:shell|shellWord|command|retyped|onOther|optionOf|keyOption|newCasOption|asRoot)[`(]|[A-Z][A-Z_]*$)/;

/** Files with other values in their lines, and why no shell can take one for something else. */
const MAY_BE_BARE: Record<string, string> = {
  "shared/plan/paste.ts": "users, addresses and the nodes' names are checked (login.ts, plan-nodes.ts); all else is RUNBOOK.md's",
  "shared/plan/markdown.ts": "a sentence about ssh",
  "shared/drill/time-needed.ts": "looks a line of RUNBOOK.md up",
  "shared/drill/compared-files.ts": "a sentence about kubeadm's version",
  "shared/salvage/disk/device.ts": "a sentence about findmnt",
  "shared/retyped.ts": "scripts of this kit; all else is `shown`",
  "shared/facts/todo.ts": "a line of RUNBOOK.md",
};

/** "path:line: VALUE" for each value that a shell would read as it is. The words of `command` are a line of this kit's. */
function bare({ at, tag, call, texts, values }: Template): string[] {
  if (tag !== "") return [];
  if (call === "command") return values.filter((value) => !SAFE.test(value)).map((value) => `${at}: ${value}`);
  const names = values.map((value) => (/^[A-Z_]+$/.test(value) ? value : "\u0001"));
  const isBare = (index: number) => !SAFE.test(values[index]!);
  let [line, found] = ["", [] as string[]];
  const ends = texts.map((text, index) => {
    line += text;
    const end = line.length;
    line += names[index] ?? "";
    return end;
  });
  for (const match of line.matchAll(LINE))
    for (const [index, value] of values.entries())
      if (ends[index]! >= match.index && ends[index]! < match.index + match[0].length && isBare(index)) found.push(`${at}: ${value}`);
  return found;
}

const bareIn = (source: Source) => templatesOf(source).flatMap(bare);

// biome-ignore-start lint/suspicious/noTemplateCurlyInString: it is code
test("a bare name in a line is found, also in a list and inside of another template; a quoted one, and a sentence, are not", () => {
  const found = (text: string) => bareIn({ path: "a.ts", text });
  expect(found("const a = `see: rm -r ${path}`; // `rm ${b}`")).toEqual(["a.ts:1: path"]);
  expect(found('const a = { hint: `${b ? `; scp ${from.map((one) => `"${one}"`)} root@${host}:` : ""}` };')).toHaveLength(2);
  expect(found("return `${KUBECTL} delete node ${name}`")).toEqual(["a.ts:1: name"]);
  expect(found("return command(`01-etcd --lost-on ${name} ${shellWord(b)}`)")).toEqual(["a.ts:1: name"]);
  expect(found("return shell`rm ${path}`; return `${shell`rm ${path}`} and ${words}`; return `rm ${shellWord(path)} ${FILE}`")).toEqual([]);
  expect(found("return `kubectl does not answer: ${why}`; return `rm -r x   # ${why}`; $`rm ${path}`; /`rm ${path}/.test(a)")).toEqual([]);
});
// biome-ignore-end lint/suspicious/noTemplateCurlyInString: it is code

test("no line that an operator types has a bare name or path in it", () => {
  expect(sources.filter(({ path }) => !(path in MAY_BE_BARE)).flatMap(bareIn)).toEqual([]);
});

test("no file may have bare words without a reason that is still there", () => {
  expect(Object.keys(MAY_BE_BARE).filter((path) => !sources.some((one) => one.path === path && bareIn(one).length > 0))).toEqual([]);
});
