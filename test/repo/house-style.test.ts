/** The rules of the house that a machine can check. */
import { expect, test } from "bun:test";
import { basename, join } from "node:path";
import { $, Glob } from "bun";
import { helpOf, PACKER } from "./help.ts";
import { blank, callsOf, exportsOf, importsOf, matches, type Source } from "./sources.ts";

const home = join(import.meta.dir, "../..");
const paths = ["scripts", "shared", "tools", "test"]
  .flatMap((folder) => [...new Glob(`${folder}/**/*.ts`).scanSync(home)])
  .sort();
const sources: Source[] = await Promise.all(
  paths.map(async (path) => ({ path, text: await Bun.file(`${home}/${path}`).text() })),
);
const shipped = sources.filter(({ path }) => !path.startsWith("test/"));

test("callsOf() reads calls over several lines, with brackets and commas in strings", () => {
  const text = `a(new Fail(\`x \${f(1, "(")}, y\`, {\n  hint: "b, c", // )\n}));\n// new Fail("in a comment")\n`;
  expect(callsOf({ path: "p.ts", text }, "new Fail(")).toEqual([
    { at: "p.ts:1", args: [`\`x \${f(1, "(")}, y\``, `{\n  hint: "b, c",     \n}`] },
  ]);
});

test("every Fail has a hint, and no full stop at the end of its message", () => {
  const fails = sources.flatMap((source) => callsOf(source, "new Fail("));
  expect(fails.filter(({ args }) => !/\bhint\b/.test(args[1] ?? "")).map(({ at }) => at)).toEqual([]);
  expect(fails.filter(({ args }) => /\.["'`]$/.test(args[0]!)).map(({ at }) => at)).toEqual([]);
});

test("no error is swallowed", () => {
  const empty = sources.flatMap((source) => [
    ...matches(source, /\bcatch\s*(\([^)]*\))?\s*\{\s*\}/g),
    ...matches(source, /\.catch\(\s*(\(\w*\)|\w+)\s*=>\s*(\{\s*\}|undefined|null)\s*\)/g),
    ...matches(source, /\.catch\(\s*console\.\w+\s*\)/g),
  ]);
  expect(empty).toEqual([]);
});

/** Files that wait for time itself. Each entry has its reason, so that a reader can judge it again. */
const MAY_SLEEP: Record<string, string> = {
  "shared/wait-for.ts": "waitFor's interval between two probes; every other wait uses waitFor",
  "shared/etcd-data/directory.ts":
    "etcd is just writing the file; it is read again a moment later, a few times at most",
  "test/fixtures/etcd/make.ts":
    "makes the fixtures by hand, outside of the tests; waits until its etcd answers",
  "test/lab/report/watch-node.ts":
    "the watcher's interval; the lab copies the file into the node, and it imports nothing",
  "test/lab/machine/node.ts":
    "waits for the end of a process that is not our child; the kernel reports it to nobody else",
  "test/lab/machine/state.ts": "waits for the end of another lab, which holds the lock until then",
  "test/lab/machine/empty-cgroups.ts": "waits until cgroups are empty; the kernel reports that to nobody",
  "shared/follow/leash.ts": "the limit of a node's silence",
  "shared/follow/meet.ts": "an older ssh keeps its stderr open: no end of it can be awaited",
  "test/lab/scene/cut-repair.ts": "the random moment of a cut, and how long the network is dead",
  "test/lab/scenarios/cut-points.ts": "the random moment of a power cut",
};

test("nobody waits for time to pass where a condition can be awaited", () => {
  const sleepers = sources.filter(({ path }) => !(path in MAY_SLEEP));
  expect(sleepers.flatMap((source) => matches(source, /\bsleep(Sync)?\(|\bsetTimeout\(/g))).toEqual([]);
});

/** A limit below the five minutes of test/all.ts, for a file or behind the body of one test. */
const SHORT_LIMIT =
  /setDefaultTimeout\((?!(?:300|900|3_600)_000\))|^ *\},\s*(?:\{ ?timeout|[A-Z][A-Z_]+|\d[\d_]{3,}),?\s*\)(?=;$)/gm;

test("no test has a limit of its own: five minutes, for a machine that is busy with labs", () => {
  const tests = sources.filter(({ path }) => path.endsWith(".test.ts"));
  expect(tests.flatMap((source) => matches(source, SHORT_LIMIT))).toEqual([]);
  const red = ["setDefaultTimeout(60_000);", "  },\n  SLOW,\n);", "}, 20_000);"];
  expect(red.flatMap((text) => matches({ path: "a", text }, SHORT_LIMIT))).toHaveLength(3);
});

test("of zx only its core is loaded: the rest takes a script as long as its own code", () => {
  expect(shipped.flatMap((source) => matches(source, /from "zx"/g))).toEqual([]);
});

test("answers go to stdout and narration to stderr; console has no other use", () => {
  expect(shipped.flatMap((source) => matches(source, /console\.(?!log\b|error\b)\w+\(/g))).toEqual([]);
});

/** These files make text plain first, or print no text of others. */
const SPEAK = ["shared/run.ts", "shared/progress.ts", "shared/follow/lanes.ts"];

test("only run.ts writes to the terminal: it removes control characters", () => {
  const speakers = shipped.filter(({ path }) => !SPEAK.includes(path));
  expect(
    speakers.flatMap((source) => matches(source, /console\.\w+\(|process\.std(out|err)\.write\(/g)),
  ).toEqual([]);
});

test("only options.ts reads a command line: it knows what was meant, and its error has a hint", () => {
  const others = shipped.filter(({ path }) => path !== "shared/options.ts");
  expect(others.flatMap((source) => matches(source, /\bparseArgs\b/g))).toEqual([]);
});

test("only the look at a server's certificate talks to a server that it does not verify", () => {
  const others = shipped.filter(({ path }) => path !== "shared/pki/served.ts");
  expect(
    others.flatMap((source) => matches(source, /rejectUnauthorized|checkServerIdentity|NODE_TLS_/g)),
  ).toEqual([]);
});

test("every request goes to the server itself, whatever proxy the environment names", () => {
  const others = shipped.filter(({ path }) => path !== "shared/pki/served.ts");
  expect(others.flatMap((source) => matches(source, /(?<!#)\bfetch\(/g))).toEqual([]);
});

test("no shared file imports a script, nothing that a node gets a tool, and nothing of the house a test", () => {
  const wrong = shipped.filter(
    ({ path, text }) =>
      /from "[./]*\/test\//.test(text) ||
      (path.startsWith("shared/") && /from "[./]*scripts\//.test(text)) ||
      (!path.startsWith("tools/") && /from "[./]*tools\//.test(text)),
  );
  expect(wrong.map(({ path }) => path)).toEqual([]);
});

/**
 * The rooms of shared/, from the ground up; "" is shared/ itself. A room imports lower floors only.
 * shared/README.md describes each.
 */
const FLOORS: readonly (readonly string[])[] = [
  [""],
  ["files"],
  ["pki", "etcd-data"],
  ["objects", "api", "node"],
  ["evidence"],
  ["manifests"],
  ["etcd-location"],
  ["facts"],
  ["static-pods", "etcd", "hand-over", "old-sa-key", "workers"],
  ["salvage", "workloads", "checks", "restore"],
  ["moved", "renew"],
  ["assess", "verify"],
  ["plan", "report"],
  ["drill", "follow"],
];

const roomOf = (path: string) => /^shared\/(?:([^/]+)\/)?/.exec(path)?.[1] ?? "";
const floorOf = (path: string) => FLOORS.findIndex((rooms) => rooms.includes(roomOf(path)));

/** Imports of another room that is not lower. */
function wrongArrows(files: readonly Source[]): string[] {
  return files.flatMap((source) =>
    importsOf(source)
      .filter(
        (to) =>
          to.startsWith("shared/") &&
          roomOf(to) !== roomOf(source.path) &&
          floorOf(to) >= floorOf(source.path),
      )
      .map((to) => `${source.path} imports ${to}`),
  );
}

/** Files that import each other, round in a circle, also if only types: each circle once. */
function circles(files: readonly Source[]): string[] {
  const imports = new Map(
    files.map((source) => [
      source.path,
      importsOf(source).filter((to) => files.some(({ path }) => path === to)),
    ]),
  );
  const through = new Set<string>();
  const found: string[] = [];
  const walk = (path: string, way: string[]) => {
    if (way.includes(path)) found.push([...way.slice(way.indexOf(path)), path].join(" → "));
    else if (!through.has(path)) for (const to of imports.get(path)!) walk(to, [...way, path]);
    through.add(path);
  };
  for (const { path } of files) walk(path, []);
  return found;
}

/** Names that several files have, each with its files. */
function twins(files: readonly Source[], namesOf: (source: Source) => string[]): string[] {
  const holders = Map.groupBy(
    files.flatMap((source) => namesOf(source).map((name) => ({ name, path: source.path }))),
    ({ name }) => name,
  );
  return [...holders]
    .filter(([, all]) => all.length > 1)
    .map(([name, all]) => `${name}: ${all.map(({ path }) => path).join(", ")}`);
}

/** Exported names that no other file says outside of comments and strings, each with its file. */
function idleExports(files: readonly Source[], users: readonly Source[]): string[] {
  const words = users.map(({ path, text }) => ({
    path,
    said: new Set(blank(text, { strings: true }).match(/\w+/g)),
  }));
  return files.flatMap((source) =>
    exportsOf(source)
      .filter((name) => !words.some(({ path, said }) => path !== source.path && said.has(name)))
      .map((name) => `${source.path} exports ${name}`),
  );
}

const shared = sources.filter(({ path }) => path.startsWith("shared/"));
const named = sources.filter(({ path }) => /^(shared|tools)\//.test(path));

test("an import that runs up, one between rooms of a floor, and a twin name are found", () => {
  const up = {
    path: "shared/pki/a.ts",
    text: 'import type {\n  ControlPlaneNode,\n} from "../facts/control-plane-node.ts";\nexport const a = 1;\n',
  };
  const across = {
    path: "shared/objects/a.ts",
    text: 'export { b } from "../api/kube-api.ts";\nexport function a() {}\n',
  };
  const late = { path: "shared/run.ts", text: 'const files = await import("./files/files.ts");\n' };
  const down = {
    path: "shared/assess/b.ts",
    text: 'import { a } from "../pki/a.ts";\nimport { run } from "../run.ts";\nimport "./report.ts";\n',
  };
  expect(wrongArrows([up, across, late, down])).toEqual([
    "shared/pki/a.ts imports shared/facts/control-plane-node.ts",
    "shared/objects/a.ts imports shared/api/kube-api.ts",
    "shared/run.ts imports shared/files/files.ts",
  ]);
  expect(twins([up, across, down], ({ path }) => [basename(path)])).toEqual([
    "a.ts: shared/pki/a.ts, shared/objects/a.ts",
  ]);
  expect(twins([up, across, down], exportsOf)).toEqual(["a: shared/pki/a.ts, shared/objects/a.ts"]);
});

test("rooms import only lower floors, and every room has its floor and its sentence", async () => {
  expect([...new Set(shared.map(({ path }) => roomOf(path)))].sort()).toEqual(FLOORS.flat().sort());
  expect(wrongArrows(shared)).toEqual([]);
  const rows = (await Bun.file(`${home}/shared/README.md`).text()).matchAll(
    /^\| (\d+) \| (?:`([\w-]+)\/`|\(no folder\)) \| .{20,} \|$/gm,
  );
  const described = [...rows].map(([, floor, room = ""]) => `${floor} ${room}`);
  expect(described.sort()).toEqual(
    FLOORS.flatMap((rooms, floor) => rooms.map((room) => `${floor} ${room}`)).sort(),
  );
});

test("no files import each other, and a circle is found", () => {
  const file = (name: string, to: string) => ({
    path: `shared/${name}.ts`,
    text: `import type { A } from "./${to}.ts";\n`,
  });
  expect(circles([file("a", "b"), file("b", "c"), file("c", "b")])).toEqual([
    "shared/b.ts → shared/c.ts → shared/b.ts",
  ]);
  expect(circles(shipped)).toEqual([]);
});

test("no two files of shared/ and tools/ have one name, and no exported word has two meanings", () => {
  expect(twins(named, ({ path }) => [basename(path)])).toEqual([]);
  expect(twins(named, exportsOf)).toEqual([]);
});

test("an exported word that nobody else uses is seen", () => {
  const source = {
    path: "shared/pki/a.ts",
    text: "export const used = 1;\nexport interface Idle {}\nexport type Own = Idle;\n",
  };
  const user = {
    path: "scripts/b.ts",
    text: 'import { used } from "../shared/pki/a.ts";\n// Own\nconst text = "Idle";\n',
  };
  expect(idleExports([source], [source, user])).toEqual([
    "shared/pki/a.ts exports Idle",
    "shared/pki/a.ts exports Own",
  ]);
});

test("what shared/ and tools/ export is used by another file; a test counts", () => {
  expect(idleExports(named, sources)).toEqual([]);
});

test("there is no key and no token in the repository", async () => {
  const files = (await $`git ls-files --cached --others --exclude-standard`.cwd(home).text())
    .trim()
    .split("\n");
  const secret =
    /-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}|\beyJ[\w-]{20,}\.eyJ[\w-]{20,}\.[\w-]{20,}/;
  const texts = await Promise.all(
    files.map(
      async (file) =>
        [
          file,
          (await Bun.file(`${home}/${file}`).exists()) ? await Bun.file(`${home}/${file}`).text() : "",
        ] as const,
    ),
  );
  expect(texts.filter(([, text]) => secret.test(text)).map(([file]) => file)).toEqual([]);
});

const scripts = sources.filter(({ path }) => path.startsWith("scripts/") || path === PACKER);

/** What is wrong with a script's first screen and with its last line. */
function untidy({ path, text }: Source): string[] {
  const lines = text.trimEnd().split("\n");
  const main = lines.findIndex((line) => /^(export )?async function main\(/.test(line)) + 1;
  const head = lines[main - 2] === " */" ? lines.lastIndexOf("/**", main - 2) + 1 : main;
  return [
    ...lines.flatMap((line, index) =>
      [...line].length > 100 ? [`${path}:${index + 1}: over 100 columns`] : [],
    ),
    ...(text.startsWith("#!/usr/bin/env bun\n/**") ? [] : [`${path}: does not begin with what it is for`]),
    ...(main > 0 && head <= 40 ? [] : [`${path}: main is in line ${head}`]),
    ...(!/\/\d\d-/.test(path) || head < main
      ? []
      : [`${path}: main has no head that says the whole process`]),
    ...(lines.at(-1) === "if (import.meta.main) await run(main);"
      ? []
      : [`${path}: run(main) is not the last line`]),
  ];
}

test("a script's first screen says what it is for and has its main, its last line runs it, and no line is over 100 columns", () => {
  const bad = `${"\n".repeat(40)}async function main() {}\nif (import.meta.main) await run(main);\n// ${"–".repeat(98)}\n`;
  expect(untidy({ path: "s.ts", text: bad })).toEqual([
    "s.ts:43: over 100 columns",
    "s.ts: does not begin with what it is for",
    "s.ts: main is in line 41",
    "s.ts: run(main) is not the last line",
  ]);
  const headless =
    "#!/usr/bin/env bun\n/** For. */\nasync function main() {}\nif (import.meta.main) await run(main);\n";
  expect(untidy({ path: "scripts/09-s.ts", text: headless })).toEqual([
    "scripts/09-s.ts: main has no head that says the whole process",
  ]);
  expect(scripts.length).toBeGreaterThan(8);
  expect(scripts.flatMap(untidy)).toEqual([]);
});

/** A script that is run, and not only asked for its --help. */
const RUNS_A_SCRIPT =
  /\b(run|start)\(\s*["'`](0\d-|hand-over|join-again|drill|plan|report)|\b(laid-out-kit|many-runs)\.ts"/g;

/** In test/typed/ `run` is one in this process: the node was given to here(). */
const HAS_A_PROCESS =
  /(?<!\bhere\(\s*await )\b(pretendNode|after\w+)\(|\.(runAlone|start)\(|\b(laid-out-kit|many-runs)\.ts"/g;

test("the tests of `npm run ok` run in process: those of whole scripts and kits are in test/scripts/, test/kit/ or test/soak/", () => {
  const found = [
    'node.run("01-etcd --new-cas")',
    "node.start(`hand-over pack`)",
    'from "../pretend/many-runs.ts"',
  ];
  for (const text of found) expect(text.match(RUNS_A_SCRIPT)).toHaveLength(1);
  for (const text of ["node = await pretendNode({})", "node.runAlone(line)"])
    expect(text.match(HAS_A_PROCESS)).toHaveLength(1);
  expect("here(await pretendNode({}))".match(HAS_A_PROCESS)).toBeNull();
  const inProcess = sources.filter(
    ({ path }) =>
      /^test\/(?!scripts|kit|soak).*\.test\.ts$/.test(path) && !path.endsWith("house-style.test.ts"),
  );
  expect(inProcess.length).toBeGreaterThan(100);
  const running = inProcess.flatMap(({ path, text }) => {
    const sign = path.startsWith("test/typed/") ? HAS_A_PROCESS : RUNS_A_SCRIPT;
    return [...blank(text, { strings: false }).matchAll(sign)].map(([what]) => `${path}: ${what}`);
  });
  expect(running).toEqual([]);
});

test("each file that tests stand on has its place in test/pretend/README.md, once", async () => {
  const named = (await Bun.file(`${home}/test/pretend/README.md`).text()).matchAll(/`([\w-]+\.ts)`/g);
  const there = paths.filter((path) => /^test\/pretend\/(?!.*\.test\.ts$)/.test(path));
  expect([...named].map(([, name]) => name).sort()).toEqual(there.map((path) => basename(path)).sort());
});

/** Budgets are for the reader's sake and are told, not enforced: now and then one topic needs its length. */
test("sizes are told where they pass the budget", () => {
  const budget = (path: string) =>
    path.startsWith("scripts/") ? 250 : /^(shared|tools)\//.test(path) ? 200 : 250;
  const long = sources
    .map(({ path, text }) => ({ path, lines: text.split("\n").length }))
    .filter(({ path, lines }) => lines > budget(path));
  for (const { path, lines } of long) console.log(`  ${path}: ${lines} lines, the budget is ${budget(path)}`);
  expect(sources.length).toBeGreaterThan(0);
});

/**
 * What --help describes and the script does not take, or the other way round: "--name". A value is described
 * where one is taken.
 */
function helpFaults({ path, text }: Pick<Source, "path" | "text">): string[] {
  const heads =
    (/^Options:\n([\s\S]*?)\n\n/m.exec(text)?.[1] ?? "").match(
      /^ {4}--[\w-]+(?: [A-Z]{2}[^\s,]*)?(?:, --[\w-]+(?: [A-Z]{2}\S*)?)?/gm,
    ) ?? [];
  const told = new Map(
    heads.flatMap((head) =>
      head.split(", ").map((one) => [/--([\w-]+)/.exec(one)![1]!, / [A-Z]/.test(one)] as const),
    ),
  );
  const table = /^const OPTIONS = \{\n([\s\S]*?)^\} as const;/m.exec(text)?.[1] ?? "";
  const taken = new Map(
    table.split(/^ {2}(?=["\w])/m).flatMap((row) => {
      const name = /^"?([\w-]+)"?: \{/.exec(row)?.[1];
      return name ? [[name, row.includes('"string"')] as const] : [];
    }),
  ).set("help", false); // each script takes it
  const names = [...new Set([...told.keys(), ...taken.keys()])];
  return names.filter((name) => told.get(name) !== taken.get(name)).map((name) => `${path}: --${name}`);
}

test("--help describes the options that a script takes, each of them and no other", async () => {
  const wrong = `Options:\n    --help      x\n    --a         x\n    --b FILE    x\n    --gone      x\n\n\`;\nconst OPTIONS = {\n  a: { type: "string" },\n  b: { type: "string" },\n  c: { type: "boolean" },\n} as const;\n`;
  expect(helpFaults({ path: "s.ts", text: wrong })).toEqual(["s.ts: --a", "s.ts: --gone", "s.ts: --c"]);
  const printed = scripts.map(async ({ path, text }) => ({ path, text: (await helpOf(path)) + text }));
  const described = (await Promise.all(printed)).filter(({ text }) => text.includes("\nOptions:\n"));
  expect(described.length).toBeGreaterThan(9);
  expect(described.flatMap(helpFaults)).toEqual([]);
});

test("each option that --help describes has its place in RUNBOOK.md, RUNBOOK-MORE.md or README.md", async () => {
  const pages = await Promise.all(
    ["RUNBOOK.md", "RUNBOOK-MORE.md", "README.md"].map((page) => Bun.file(join(home, page)).text()),
  );
  const named = new Set(pages.join("\n").match(/(?<![\w-])--[a-z][a-z-]*/g));
  const options = (help: string) =>
    help
      .split("\nOptions:\n")[1]
      ?.match(/^ {4}--[a-z][a-z-]*/gm)
      ?.map((word) => word.trim()) ?? [];
  expect(options("Usage\n\nOptions:\n    --a FILE  x\n             --b is y\n")).toEqual(["--a"]);
  const all = await Promise.all(
    scripts.map(async ({ path }) => options(await helpOf(path)).map((option) => [path, option] as const)),
  );
  expect(all.flat().length).toBeGreaterThan(60);
  expect(all.flat().flatMap(([path, option]) => (named.has(option) ? [] : [`${path}: ${option}`]))).toEqual(
    [],
  );
});
