/**
 * Lines that an operator types: every name and path in one goes through `shell` (shared/shell-line.ts),
 * whoever has chosen it.
 */
import { expect, test } from "bun:test";
import { shell } from "../../shared/shell-line.ts";
import { blank, kitSources, type Source, type Template, templatesOf } from "./sources.ts";

const sources = await kitSources();

const PROGRAMS =
  "KUBECTL|chmod|chown|cp|crictl|df|diff|etcdctl|findmnt|install|journalctl|kubeadm|kubectl|ls|mkdir|mount|mv|namei|openssl|rm|rmdir|scp|shred|ssh|systemctl|tar|umount|\\./bunw";

/** A program with its words: up to the end of a sentence or of a line, or to a comment. */
const LINE = new RegExp(`(?<![\\w/.-])(?:${PROGRAMS})(?= )(?:(?![.;:,)"\\\\]+(?: |$)| #| \\(|\\n).)*`, "gs");

/** What quotes by itself, and constants of ours. */
const SAFE = /^(?:(?:shell|command|again|onOther|newCasOption|asRoot)[`(]|[A-Z][A-Z_]*$)/;

/** Files with other values in their lines, and why no shell can take one for something else. */
const MAY_BE_BARE: Record<string, string> = {
  "shared/plan/by-hand.ts":
    "users are checked in login.ts, addresses and the nodes' names in plan-node.ts; all else is RUNBOOK.md's",
  "shared/drill/compared.ts": "a sentence about kubeadm's version",
  "shared/salvage/disk/disk.ts": "a sentence about findmnt",
};

/**
 * "path:line: VALUE" for each value that a shell would read as it is. The words of `command` are a line of
 * this kit's.
 */
function bare({ at, tag, call, texts, values }: Template): string[] {
  if (tag !== "") return [];
  if (call === "command")
    return values.filter((value) => !SAFE.test(value)).map((value) => `${at}: ${value}`);
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
      if (ends[index]! >= match.index && ends[index]! < match.index + match[0].length && isBare(index))
        found.push(`${at}: ${value}`);
  return found;
}

const bareIn = (source: Source) => templatesOf(source).flatMap(bare);

// biome-ignore-start lint/suspicious/noTemplateCurlyInString: it is code
test("a bare name in a line is found, also in a list and inside of another template; a quoted one, and a sentence, are not", () => {
  const found = (text: string) => bareIn({ path: "a.ts", text });
  expect(found("const a = `see: rm -r ${path}`; // `rm ${b}`")).toEqual(["a.ts:1: path"]);
  expect(
    found('const a = { hint: `${b ? `; scp ${from.map((one) => `"${one}"`)} root@${host}:` : ""}` };'),
  ).toHaveLength(2);
  expect(found("return `${KUBECTL} delete node ${name}`")).toEqual(["a.ts:1: name"]);
  expect(found("return command(`01-etcd --lost-on ${name} ${shell`${b}`}`)")).toEqual(["a.ts:1: name"]);
  expect(
    found(
      "return shell`rm ${path}`; return `${shell`rm ${path}`} and ${words}`; return `rm ${shell`${path}`} ${FILE}`",
    ),
  ).toEqual([]);
  expect(
    found(
      "return `kubectl does not answer: ${why}`; return `rm -r x   # ${why}`; $`rm ${path}`; /`rm ${path}/.test(a)",
    ),
  ).toEqual([]);
});
// biome-ignore-end lint/suspicious/noTemplateCurlyInString: it is code

test("no line that an operator types has a bare name or path in it", () => {
  expect(sources.filter(({ path }) => !(path in MAY_BE_BARE)).flatMap(bareIn)).toEqual([]);
});

test("no file may have bare words without a reason that is still there", () => {
  expect(
    Object.keys(MAY_BE_BARE).filter(
      (path) => !sources.some((one) => one.path === path && bareIn(one).length > 0),
    ),
  ).toEqual([]);
});

/** Options in our lines whose value is the next word, or follows "=". */
const TAKES_VALUE =
  /^--(address|as|backup|ca-hash|cacert|cert|client-certificate|client-key|config|csr|device|endpoints?|etcd-data|image|key|kubeconfig|kubernetes|limit|lost|lost-on|mode|name|passphrase-file|patch|patch-file|seen|selector|server|skip|tls-cert-file|token-file|user|without|worker|OURS)=|^-[mnT](?=-)/;

const NAME = "-NAME";

/**
 * Why a program would take a name that begins with "-" for an option, or a word behind "--" for a name;
 * undefined where it would not.
 */
function mistaken(line: string): string | undefined {
  for (const one of line.split(/[;&|#()\n]/)) {
    const words = one.split(/\s+/).filter(Boolean);
    const end = words.indexOf("--");
    const [before, behind] = end < 0 ? [words, []] : [words.slice(0, end), words.slice(end + 1)];
    const wrong =
      before.find(
        (word) => word.startsWith(NAME) || (/^--?[\w-]+=?-NAME/.test(word) && !TAKES_VALUE.test(word)),
      ) ?? behind.find((word) => word.startsWith("-") && !word.startsWith(NAME));
    if (wrong) return `"${wrong}" of "${one.trim()}"`;
  }
  return undefined;
}

/** The words that are ours, whatever they are called. */
const OURS = /^([A-Z][A-Z_]*|option|verb)$/;

/** The lines of a template with one name that begins with "-", and with all. */
function mistakenIn({ at, tag, texts, values }: Template): string[] {
  if (tag !== "shell") return [];
  const all = values.map((value) => (OURS.test(value) ? "OURS" : NAME));
  const some = [all, ...all.map((_, one) => all.map((name, index) => (index === one ? name : "OURS")))];
  const cooked = texts.map((text) => text.replace(/\\(.)/g, "$1"));
  const why = some
    .map((names) => mistaken(shell(Object.assign(cooked, { raw: cooked }), ...names)))
    .find(Boolean);
  return why ? [`${at}: ${why}`] : [];
}

test("a name that begins with - is an option to no program, in any line", () => {
  expect(mistaken("kubectl get csr -NAME")).toBe('"-NAME" of "kubectl get csr -NAME"');
  expect(mistaken("rm -rf -NAME")).toBeDefined();
  expect(mistaken("kubectl delete pod -- -NAME -n x")).toBe('"-n" of "kubectl delete pod -- -NAME -n x"');
  expect(mistaken("kubectl delete --ignore-not-found=-NAME; rm -- -NAME")).toBeDefined();
  expect(
    mistaken("kubectl -n-NAME get pods -- -NAME; ./bunw a.ts --lost=-NAME x -- -NAME/y root@-NAME"),
  ).toBeUndefined();
  expect(sources.flatMap((source) => templatesOf(source).flatMap(mistakenIn))).toEqual([]);
});

/** What `command` makes of words that are put together elsewhere nobody sees here. */
const SEEN = /^["`]|^shell`/;

test("the words of command are there to be seen, as a text or as a line of shell", () => {
  const unseen = ({ path, text }: Source) =>
    [...blank(text, { strings: false }).matchAll(/(?<!function |\w)command\(\s*(.{1,6})/g)].flatMap(
      ([, first = ""]) => (SEEN.test(first) ? [] : [`${path}: command(${first}`]),
    );
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is code
  const text = 'command("a", out); `${command([a, b].join())}`; command(shell`a ${b}`); command(words)';
  expect(unseen({ path: "a.ts", text })).toHaveLength(2);
  expect(sources.filter(({ path }) => path !== "shared/again.ts").flatMap(unseen)).toEqual([]);
});
