/**
 * What texts name is there: scripts, their words and options, in pages, --help and hints; sections and steps
 * of RUNBOOK.md; links.
 */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Glob } from "bun";
import packageJson from "../../package.json" with { type: "json" };
import { SAVED_OPTION_NAMES, type SavedOptionName } from "../../shared/node/words.ts";
import { readRunbook } from "../../shared/plan/runbook.ts";
import { helpOf, PACKER, SCRIPTS } from "./help.ts";
import { lineOf, type Source } from "./sources.ts";

const HOME = join(import.meta.dir, "../..");
const PAGES = [
  "README.md",
  "RUNBOOK.md",
  "RUNBOOK-MORE.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  "shared/README.md",
];
const files = [
  ...PAGES,
  "bunw",
  ...["scripts/*", "shared/**/*.ts", "tools/**/*.ts"].flatMap((glob) =>
    [...new Glob(glob).scanSync(HOME)].sort(),
  ),
];
const sources: Source[] = await Promise.all(
  files.map(async (path) => ({ path, text: await Bun.file(join(HOME, path)).text() })),
);
const runbook = sources.find(({ path }) => path === "RUNBOOK.md")!.text;

const HELP = new Map(
  await Promise.all(
    [...SCRIPTS, PACKER].map(async (script) => [basename(script, ".ts"), await helpOf(script)] as const),
  ),
);

/**
 * A script's name, as texts have it, and what stands behind it up to the end of the command. In code:
 * command("…") and `${command("…")} …`.
 */
const COMMAND =
  /(scripts\/|command\(["`]|(?<![\w./-]))(0\d-[a-z][\w-]*|hand-over|join-again|pack-kit|(?<=scripts\/|command\(["`])(?:drill|plan|report)|(?:drill|plan|report)(?=\.ts))(?:\.ts)?(?![\w-])((?:"\)\}|[^;:,"`#|()&<>→\n])*)/g;

/**
 * Commands that no script knows: an unknown script, a first word where it takes none, an option that its
 * --help does not list.
 */
function wrongCommands({ path, text }: Source): string[] {
  return [...text.matchAll(COMMAND)].flatMap(({ 0: all, 1: before, 2: script, 3: tail, index }) => {
    const help = HELP.get(script!);
    const wrong = help === undefined ? [script] : wrongWords(before!, tail!, help);
    return wrong.length > 0 ? [`${path}:${lineOf(text, index)}: ${wrong.join(", ")}: ${all.trim()}`] : [];
  });
}

function wrongWords(before: string, tail: string, help: string): string[] {
  const options = tail.match(/(?<=\s)--(?!help|version\b)[a-z][a-z-]*/g) ?? [];
  const word = before.startsWith("command(") ? /^ ([a-z]+)(?![\w/])/.exec(tail)?.[1] : undefined;
  const known = (name: string) => new RegExp(`(?<![\\w-])${name}(?![\\w-])`).test(help);
  return [...options.filter((option) => !known(option)), ...(word && !known(word) ? [word] : [])];
}

/** Commands that begin with a script's sub-command: `close --wait MINUTES`. */
function wrongSpans({ path, text }: Source): string[] {
  return [...text.matchAll(/`([a-z]+)((?: [^`\n]*)? --[^`\n]+)`/g)].flatMap(
    ({ 0: all, 1: word, 2: tail, index }) => {
      const helps = [...HELP]
        .filter(([script, help]) => help.includes(`${script}.ts ${word}`))
        .map(([, help]) => help);
      const wrong = helps.length > 0 && helps.every((help) => wrongWords("", tail!, help).length > 0);
      return wrong ? [`${path}:${lineOf(text, index)}: ${all}`] : [];
    },
  );
}

test("an unknown script, word or option is seen, in a page and in code", () => {
  const page =
    "`./bunw scripts/09-none.ts`, 01-etcd --no-such → 02-control-plane --new-cas, `hand-over.ts pack --to X`.\n`close --waits 3`";
  const code =
    'hint: `{command("01-etcd")} --images-later, or {command("hand-over fold")}; 05-verify --out`\n';
  const wrong = ["09-none", "--no-such", "--new-cas", "fold", "--out"];
  expect(
    [page, code].flatMap((text) => wrongCommands({ path: "a", text })).map((line) => line.split(": ")[1]!),
  ).toEqual(wrong);
  expect(wrongSpans({ path: "a", text: page })).toEqual(["a:2: `close --waits 3`"]);
});

test("each script, with its words and options, that a page, a hint or a --help names is there", () => {
  expect(sources.flatMap(wrongCommands)).toEqual([]);
  expect(sources.filter(({ path }) => path.endsWith(".md")).flatMap(wrongSpans)).toEqual([]);
});

/** By the word: the scripts that take it. They keep words, but for those of NOT_KEPT. */
const SAID_ON: Record<SavedOptionName, string> = {
  without: "01-etcd 02-control-plane 03-join 03-workers 04-sa-tokens 05-verify move plan repair",
  lost: "02-control-plane 03-join 03-workers 04-sa-tokens join-again plan repair restore",
  "lost-on": "01-etcd 02-control-plane plan repair restore",
  worker: "plan repair",
  "control-plane": "00-assess",
  "start-without": "01-etcd 02-control-plane plan repair",
  endpoint: "01-etcd 02-control-plane 03-workers plan repair",
  "etcd-data":
    "00-assess 00-salvage 00-token-key 01-etcd 02-control-plane 03-join 03-workers 04-sa-tokens 05-verify drill hand-over join-again move plan renew-ca repair report restore",
};

/** On a worker, or on a new machine, whose cluster is not known; on the operator's machine, where a plan of a node keeps them; and those that look at, or carry, what is in one folder. */
const NOT_KEPT = [
  "00-salvage",
  "00-token-key",
  "03-join",
  "drill",
  "hand-over",
  "join-again",
  "renew-ca",
  "repair",
  "report",
  "restore",
];

test("each word of the operator is an option of the scripts that hear it, and these keep words", async () => {
  for (const option of SAVED_OPTION_NAMES) {
    const takes = [...HELP].filter(([, help]) =>
      new RegExp(`^ {4}(--\\S+ \\S+, )?--${option} `, "m").test(help),
    );
    expect([
      option,
      takes
        .map(([script]) => script)
        .sort()
        .join(" "),
    ]).toEqual([option, SAID_ON[option]]);
  }
  for (const script of new Set(Object.values(SAID_ON).flatMap((scripts) => scripts.split(" ")))) {
    const text = sources.find(({ path }) => path === `scripts/${script}.ts`)!.text;
    // part 4's look is in restart-order.ts; retire's here
    expect([script, /\bsaveOptions\(/.test(text)]).toEqual([script, !NOT_KEPT.includes(script)]);
  }
});

/** Headings, and what a paragraph or a cell of a table begins with in bold. */
const titlesOf = (text: string) =>
  [...text.matchAll(/^#+ (?:\d\S* )?(.+)$|(?:^|\| )\*\*([^*\n]+?)[.:?]?\*\*/gm)].map(
    ([, heading, bold]) => (heading ?? bold)!,
  );
const pages = sources.filter(({ path }) => path.endsWith(".md"));
const titles = new Set(pages.flatMap(({ text }) => titlesOf(text)));
/** Of the page that is named before it; of any page, where none is. */
const isTitle = (name: string, page?: string) =>
  page ? titlesOf(pages.find(({ path }) => path === `${page}.md`)!.text).includes(name) : titles.has(name);
const steps = new Set(
  readRunbook(runbook).parts.flatMap((part) => part.steps.map((step) => step.split(" ")[0]!)),
);

/** Pages of kubernetes.io and etcd.io. */
const ELSEWHERE = ["Manual Rotation of CA Certificates", "Disaster recovery"];

/** Sections and steps that are named and not there. In code: after the word RUNBOOK, or after "step". */
function wrongPlaces({ path, text }: Source): string[] {
  const page = path.endsWith(".md");
  const prose = page
    ? text.replace(/^```[\s\S]*?^```|`[^`\n]*`/gm, (span) => span.replace(/[^\n]/g, " "))
    : text;
  const inCode =
    /(RUNBOOK(?:-MORE)?)(?:\.md)?(?: \d(?:\.\d)?)?,? \\?"([^"$\n\\]+)\\?"|(RUNBOOK(?:-MORE)?)(?:\.md)?,? (?!"|\d|part)([A-Z][\w' ]+)/g;
  const named = [...prose.matchAll(page ? /(?<=[\s(])()"([A-Z][^"\n]* [^"\n]*)"/g : inCode)].map((match) => ({
    index: match.index,
    of: match[1] || match[3],
    name: (match[2] ?? match[4])!,
  }));
  const numbered = [
    ...prose.matchAll(
      page ? /(?<![\w.-])([0-5]\.\d)(?![\w.]| s\b)/g : /\b(?:RUNBOOK(?:\.md)?|steps?) ([0-5]\.\d)\b/g,
    ),
  ];
  return [
    ...named.filter(({ name, of }) => !isTitle(name, of) && !ELSEWHERE.includes(name)),
    ...numbered.map(({ 1: name, index }) => ({ name: name!, index })).filter(({ name }) => !steps.has(name)),
  ].map(({ index, name }) => `${path}:${lineOf(text, index)}: ${name}`);
}

test("a section and a step that are not there are seen, in a page and in code", () => {
  const page =
    'See "Clean up", "On many moons" and 4.9; 0.2 s later v1.30.\n```sh\n"No such place" 5.9\n```\n';
  expect(wrongPlaces({ path: "a.md", text: page })).toEqual(["a.md:1: On many moons", "a.md:1: 4.9"]);
  const code =
    'hint: \'RUNBOOK-MORE "If etcd is gone"\', mend: "RUNBOOK Clean out" or "RUNBOOK Clean up"; // as in step 3.9\n';
  expect(wrongPlaces({ path: "a.ts", text: code })).toEqual([
    "a.ts:1: If etcd is gone",
    "a.ts:1: Clean out",
    "a.ts:1: 3.9",
  ]);
  // on the other page
  expect(
    wrongPlaces({ path: "a.ts", text: 'RUNBOOK "If etcd is external"; RUNBOOK-MORE Clean up' }),
  ).toHaveLength(2);
});

test("each section and step of RUNBOOK.md that a page, a hint or a --help names is there", () => {
  expect(sources.flatMap(wrongPlaces)).toEqual([]);
});

/** As GitHub makes it of a heading. */
function anchorOf(title: string): string {
  const words = title.toLowerCase().replace(/[^\w -]/g, "");
  return `#${words.replaceAll(" ", "-")}`;
}

/** Files and folders of the checkout, npm's scripts, and links that a page names and that are not there. */
function wrongFiles({ path, text }: Source): string[] {
  const files = [...text.matchAll(/`(?:\.\/bunw )?((?:scripts|shared|test)\/[\w./-]+)/g)].map(
    ([, file]) => file!,
  );
  const links = [...text.matchAll(/\]\((?!https?:)([^)#]*)(#[^)]*)?\)/g)].flatMap(([, file, anchor]) => {
    const page = file ? pages.find((one) => one.path === join(dirname(path), file))?.text : text;
    const isThere = [...(page ?? "").matchAll(/^#+ (.+)$/gm)].some(
      ([, title]) => anchorOf(title!) === anchor,
    );
    if (anchor) return isThere ? [] : [`${file}${anchor}`];
    return [join(dirname(path), file!)];
  });
  const lost = [...files, ...links].filter((file) => !existsSync(join(HOME, file)));
  const npm = [...text.matchAll(/\bnpm run ([\w-]+)/g)]
    .map(([, script]) => script!)
    .filter((script) => !Object.hasOwn(packageJson.scripts, script));
  return [...lost, ...npm].map((name) => `${path}: ${name}`);
}

/** Variables of the environment that no code reads, and of the playbook that it does not know. */
function wrongVariables({ path, text }: Source): string[] {
  const code = sources
    .filter((source) => !source.path.endsWith(".md") && source.path !== "scripts/fleet.yaml")
    .map((source) => source.text);
  const playbook = sources.find((source) => source.path === "scripts/fleet.yaml")!.text.replace(/^#.*/gm, "");
  const named = text.matchAll(/\b(KUBE_PKI_REPAIR_[A-Z_]+)|-e ([a-z_]+)=/g);
  const lost = [...named].filter(([, own, extra]) =>
    own ? !code.some((one) => one.includes(own)) : !playbook.includes(extra!),
  );
  return lost.map(([name]) => `${path}: ${name}`);
}

test("each variable of the environment and of the playbook that a page names is read", () => {
  expect(
    wrongVariables({
      path: "a.md",
      text: "KUBE_PKI_REPAIR_PATIENCE=3, KUBE_PKI_REPAIR_HASTE=3, -e new_cas=true -e old_cas=true",
    }),
  ).toEqual(["a.md: KUBE_PKI_REPAIR_HASTE", "a.md: -e old_cas="]);
  expect(sources.filter(({ path }) => /\.(md|yaml)$/.test(path)).flatMap(wrongVariables)).toEqual([]);
});

test("each file, folder, link and npm script that a page names is there", () => {
  const page =
    "`test/none.ts`, `./bunw shared/none.ts x`, [a](shared/README.md), [b](none.md), [c](#none), [d](#as-it-is), [e](RUNBOOK-MORE.md#files), [f](RUNBOOK-MORE.md#none)\n## As it is!\n `npm run none`, `npm run pack`";
  expect(wrongFiles({ path: "a.md", text: page })).toEqual(
    ["test/none.ts", "shared/none.ts", "none.md", "#none", "RUNBOOK-MORE.md#none", "none"].map(
      (name) => `a.md: ${name}`,
    ),
  );
  expect(sources.filter(({ path }) => path.endsWith(".md")).flatMap(wrongFiles)).toEqual([]);
});
