#!/usr/bin/env bun
/**
 * Packs the kit that is copied to the nodes: this Bun, the scripts as they are, the packages they need, RUNBOOK.md, and the sums.
 * Needs no network. Same sources, same Bun: same bytes.
 */
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { $ } from "zx";
import packageJson from "../package.json" with { type: "json" };
import { Fail } from "../shared/fail.ts";
import { run, say, start } from "../shared/run.ts";

/**
 * Unpacks the kit from stdin on a node, as root, also over an earlier one. Everybody may write to /dev/shm, so what is there must be ours: the
 * folder is made with mode 0700, or was made so by root; anything else is shown and refused.
 */
export const UNPACK = `D=/dev/shm/kube-pki-repair
  mkdir -m 700 $D 2>/dev/null || [ "$(stat -c "%u %a %F" $D)" = "0 700 directory" ] || { ls -ld $D; exit 1; }
  cd $D && rm -rf scripts shared node_modules && tar -xzf - && sha256sum --quiet -c SHA256SUMS`;

const USAGE = `Usage: npm run pack -- [--out FILE.tar.gz | --out FOLDER]

  --out PLACE   a tarball if it ends in .tar.gz or .tgz, otherwise a folder (new or empty)
                (default kube-pki-repair-${packageJson.version}.tar.gz)

Copy it to a node:  ssh root@NODE '${UNPACK}' < FILE.tar.gz
Exit codes: 0 packed · 1 stopped, see hint`;

const OPTIONS = {
  out: { type: "string", default: `kube-pki-repair-${packageJson.version}.tar.gz` },
  help: { type: "boolean" },
} as const;

const HOME = resolve(import.meta.dir, "..");

/**
 * What an operator gets, as it is in the checkout. tsconfig.json is among it: without one, Bun takes
 * that of a folder above, and everybody may write above a kit.
 */
const CONTENTS = [
  ...["bunw", "bunfig.toml", "tsconfig.json", "package.json", "scripts", "shared"],
  ...["RUNBOOK.md", "README.md", "CHANGELOG.md", "LICENSE"],
];

const START_HERE = `sha256sum --quiet -c SHA256SUMS             # is the kit whole?
./bunw scripts/00-assess.ts                 # reads only: what is damaged, what survives, which commands come next
less RUNBOOK.md                             # the recovery, part by part
`;

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) return console.log(USAGE);
  start("pack-kit");
  const out = resolve(values.out);
  if (/\.(tar\.gz|tgz)$/.test(out)) await packTarball(out);
  else await packFolder(out);
  say(`${values.out}: ${size(out)} MB`);
}

export async function packTarball(out: string) {
  const folder = mkdtempSync(join(tmpdir(), "kit-"));
  try {
    await packFolder(folder);
    const same = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"];
    await $({
      quiet: true,
    })`set -o pipefail; tar -C ${folder} ${same} -cf - . | gzip -n -6 > ${out}`;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export async function packFolder(out: string) {
  mkdirSync(out, { recursive: true });
  if (readdirSync(out).length > 0)
    throw new Fail(`The folder ${out} is not empty`, {
      hint: "name another folder with --out, or empty this one",
    });
  for (const item of CONTENTS.filter((item) => existsSync(join(HOME, item))))
    cpSync(join(HOME, item), join(out, item), { recursive: true });
  for (const name of runtimePackages(Object.keys(packageJson.dependencies))) copyPackage(name, out);
  cpSync(process.execPath, join(out, "bun"));
  writeFileSync(join(out, "START-HERE.txt"), START_HERE);
  for (const path of pathsBelow(out))
    chmodSync(
      join(out, path),
      isFile(join(out, path)) && !["bun", "bunw"].includes(path) ? 0o644 : 0o755,
    );
  chmodSync(out, 0o700);
  const sums = filesBelow(out).map((file) => `${sha256(join(out, file))}  ${file}\n`);
  writeFileSync(join(out, "SHA256SUMS"), sums.join(""), { mode: 0o644 });
}

/** These packages, and all packages that they need. */
function runtimePackages(names: string[], seen = new Set<string>()): Set<string> {
  for (const name of names.filter((name) => !seen.has(name))) {
    const file = join(HOME, "node_modules", name, "package.json");
    if (!existsSync(file))
      throw new Fail(`The package ${name} is not installed`, {
        hint: "./bunw install --frozen-lockfile",
      });
    seen.add(name);
    const manifest = JSON.parse(readFileSync(file, "utf8")) as {
      dependencies?: Record<string, string>;
    };
    runtimePackages(Object.keys(manifest.dependencies ?? {}), seen);
  }
  return seen;
}

/** Types and source maps stay at home: nothing on a node reads them. */
function copyPackage(name: string, out: string) {
  const from = join(HOME, "node_modules", name);
  const to = join(out, "node_modules", name);
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to, {
    recursive: true,
    dereference: true,
    filter: (path) => !/\.(d\.[cm]?ts|map)$/.test(path),
  });
}

function pathsBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).sort();
}

function filesBelow(folder: string): string[] {
  return pathsBelow(folder).filter((path) => isFile(join(folder, path)));
}

function isFile(path: string) {
  return statSync(path).isFile();
}

function sha256(file: string) {
  return createHash("sha256").update(readFileSync(file)).digest("hex");
}

function size(path: string) {
  const files = statSync(path).isFile() ? [path] : filesBelow(path).map((file) => join(path, file));
  return Math.round(files.reduce((total, file) => total + statSync(file).size, 0) / 1e6);
}

if (import.meta.main) await run(main);
