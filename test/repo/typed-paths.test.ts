/**
 * Every path that an operator can type, of every script: in a folder where others write, such as /tmp, nobody else chooses what is read there,
 * or where something is written. A new option with a value has to say here, or in its script, whether it is one.
 */
import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { Glob } from "bun";
import type { PathUse } from "../../shared/files/operator-files.ts";

const HOME = join(import.meta.dir, "../..");
const SCRIPTS = [...new Glob("*.ts").scanSync(`${HOME}/scripts`)].sort();

/** Options with a value that is no path. */
const NO_PATH = ["endpoint", "user", "kid", "pid", "server", "to", "ca-hash", "address", "kubernetes", "arch"];
const NO_PATH_IN: Record<string, string[]> = { "00-salvage.ts": ["from"], "join-again.ts": ["lost"] };

/** What has to stand before the word that is a path. */
const BEFORE_WORD: Record<string, string> = { "00-assess.ts": "--plan" };

type Option = { type: string; of?: string[] } & Partial<Record<"path" | "file", PathUse | Record<string, PathUse>>>;

interface TypedPath {
  /** "hand-over pack --out" */
  line: string;
  use: PathUse;
}

async function optionsOf(script: string): Promise<{ options: Record<string, Option>; file: string | undefined }> {
  const text = await Bun.file(`${HOME}/scripts/${script}`).text();
  const [, block] = /\nconst OPTIONS = (\{[\s\S]+?\n\}) as const;/.exec(text)!;
  const known = { DISK_MINUTES: 1, PLACES: ["memory"], packageJson: { version: "1" }, DEFAULT_ARCHS: ["x64"] };
  const options = new Function(...Object.keys(known), `return ${block}`)(...Object.values(known));
  return { options, file: /\bfile: (\{[^}]+\}|"\w+")/.exec(text.replace(block!, ""))?.[1] };
}

const tables = await Promise.all(SCRIPTS.map(async (script) => ({ script, ...(await optionsOf(script)) })));

function usesOf(uses: PathUse | Record<string, PathUse>, of: readonly string[] = [""]): [command: string, use: PathUse][] {
  return typeof uses === "string" ? of.slice(0, 1).map((command) => [command, uses]) : Object.entries(uses);
}

const PATHS = tables.flatMap(({ script, options, file }): TypedPath[] => {
  const line = (words: string[], use: PathUse) => ({ line: [script.replace(".ts", ""), ...words].filter(Boolean).join(" "), use });
  const byOption = Object.entries(options).flatMap(([name, { of, path, file }]) =>
    (path ?? file) ? usesOf((path ?? file)!, of).map(([command, use]) => line([command, `--${name}`], use)) : [],
  );
  const byWord =
    file === undefined
      ? []
      : usesOf(new Function(`return ${file}`)()).map(([command, use]) => line([command || BEFORE_WORD[script]!], use));
  return [...byOption, ...byWord];
});

test.each(tables)("$script: an option with a value says whether it is a path, and for what", ({ script, options }) => {
  const unsaid = Object.entries(options).filter(
    ([, option]) => option.type === "string" && !["number", "oneOf", "list", "path", "file"].some((key) => key in option),
  );
  const named = [...NO_PATH, ...(NO_PATH_IN[script] ?? [])];
  expect(unsaid.map(([name]) => name).filter((name) => !named.includes(name))).toEqual([]);
});

test("the paths are found: an output, a secret, a folder, a word after the command", () => {
  const lines = PATHS.map(({ line, use }) => `${line}: ${use}`);
  for (const known of [
    "03-workers open --token-file: written",
    "05-verify --metrics: public",
    "hand-over unpack --identity: secret",
    "00-salvage --backup: trusted",
    "hand-over identity: written",
    "00-assess --plan: written",
    "05-verify --etcd-data: proved",
  ])
    expect(lines).toContain(known);
});

/** A stranger has made a link in root's /tmp; it leads to a key of root's. */
function laidTrap(): { root: string } & Disposable {
  const root = fs.mkdtempSync("/tmp/typed-paths-");
  for (const folder of ["etc", "tmp"]) fs.mkdirSync(`${root}/${folder}`);
  fs.chmodSync(`${root}/tmp`, 0o1777);
  fs.writeFileSync(`${root}/etc/ca.key`, "key", { mode: 0o600 });
  fs.symlinkSync("/etc/ca.key", `${root}/tmp/out.html.prom`);
  fs.lchownSync(`${root}/tmp/out.html.prom`, 1234, 1234);
  return { root, [Symbol.dispose]: () => fs.rmSync(root, { recursive: true }) };
}

test.skipIf(process.getuid?.() !== 0)("no typed path is followed where somebody else has made a link, and nothing is changed", async () => {
  const wrong: string[] = [];
  const play = async ({ line }: TypedPath) => {
    using trap = laidTrap();
    const before = stateOf(trap.root);
    const [script, ...words] = line.split(" ");
    const run = Bun.spawn(["./bunw", `scripts/${script}.ts`, ...words, "/tmp/out.html.prom"], {
      ...{ cwd: HOME, stdout: "ignore", stderr: "pipe", env: { ...process.env, KUBE_PKI_REPAIR_ROOT: trap.root } },
    });
    const said = await new Response(run.stderr).text();
    const isSaid = said.includes('"/tmp/out.html.prom": it is a link of user 1234 to "/etc/ca.key"\n');
    if ((await run.exited) !== 3 || !isSaid) wrong.push(`${line}: ${run.exitCode}: ${said.split("\n")[0]}`);
    if (stateOf(trap.root) !== before) wrong.push(`${line}: something was changed`);
  };
  for (let at = 0; at < PATHS.length; at += 4) await Promise.all(PATHS.slice(at, at + 4).map(play));
  expect(wrong).toEqual([]);
});

/** Every path below with its owner, mode and content. */
function stateOf(root: string): string {
  const paths = fs.readdirSync(root, { recursive: true, encoding: "utf8" }).sort();
  return paths
    .map((path) => {
      const info = fs.lstatSync(join(root, path));
      return [path, info.uid, info.mode, info.isFile() ? fs.readFileSync(join(root, path)) : ""].join(" ");
    })
    .join("\n");
}
