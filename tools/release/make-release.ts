#!/usr/bin/env bun
/**
 * Makes all files of a release in one folder: a kit for each architecture, one for both, what they are made of, and the
 * sums. The same commit gives the same bytes, on any machine, as all that compresses is the pinned Bun.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Fail } from "../../shared/fail.ts";
import { parseOptions, writeTyped } from "../../shared/files/operator-files.ts";
import { sha256Of } from "../../shared/files/sha256.ts";
import { endOnSignal, run, say, start } from "../../shared/run.ts";
import { shell } from "../../shared/shell-line.ts";
import { kitFiles } from "../pack/pack-kit.ts";
import { ourCache, SUMS, writeKitTarball } from "../pack/write-kit.ts";
import { type DebArch, debOf } from "./deb.ts";
import { billOfMaterials } from "./sbom.ts";
import {
  announcedVersion,
  headOf,
  type Release,
  releasesIn,
  sourcesSum,
  versionOf,
} from "./version.ts";

const HOME = resolve(import.meta.dir, "../..");

/** Word in the file's name → what the kit runs on. */
const KITS: Record<string, DebArch[]> = { x64: ["x64"], arm64: ["arm64"], all: ["x64", "arm64"] };

async function main() {
  const { values } = parseOptions({ options: OPTIONS, usage: USAGE });
  start("make-release");
  if (values.record && values["no-zst"])
    throw new Fail("A record has the sums of all files", { hint: "leave out --no-zst" });
  const version = values.record ? announcedVersion(HOME) : versionOf(HOME);
  const folder = resolve(values.out ?? `kube-pki-repair-${version}`);
  refuseFilled(folder);
  endOnSignal();
  const files = await makeFiles(folder, version, values["no-zst"] === true);
  say(`${folder}: ${files.size} files of ${version}`);
  if (values.record) return record(version, files);
  compareWithRecord(version, files);
}

function refuseFilled(folder: string) {
  if (!existsSync(folder) || readdirSync(folder).length === 0) return;
  throw new Fail(`The folder "${folder}" is not empty`, {
    hint: "name another folder with --out, or empty this one",
  });
}

/** Name → SHA256, in the order in which SHA256SUMS has them. */
async function makeFiles(folder: string, version: string, noZst: boolean) {
  mkdirSync(folder, { recursive: true });
  const name = `kube-pki-repair-${version}`;
  for (const [word, archs] of Object.entries(KITS)) {
    const file = join(folder, `${name}-${word}.tar.gz`);
    const kit = await kitFiles(archs, version);
    await writeKitTarball(file, kit);
    const [arch, ...others] = archs;
    if (!arch || others.length > 0) continue;
    writeTyped(join(folder, `${name}-${arch}.deb`), debOf(kit, { arch, version }), { mode: 0o644 });
    if (!noZst) writeSmaller(file);
  }
  const bill = billOfMaterials(HOME, version, KITS.all!);
  writeTyped(join(folder, `${name}.cdx.json`), bill, { mode: 0o644 });
  const names = readdirSync(folder).sort();
  const sums = new Map(names.map((file) => [file, sha256Of(readFileSync(join(folder, file)))]));
  const lines = [...sums].map(([file, sum]) => `${sum}  ${file}\n`).join("");
  writeTyped(join(folder, SUMS), lines, { mode: 0o644 });
  return sums.set(SUMS, sha256Of(Buffer.from(lines)));
}

/** The same tar file, four fifths of the size, for whoever has zstd. */
function writeSmaller(file: string) {
  const smaller = file.replace(/\.gz$/, ".zst");
  say(`compressing ${smaller}: a minute`);
  const tar = Bun.gunzipSync(readFileSync(file));
  writeTyped(smaller, Bun.zstdCompressSync(tar, { level: 19 }), { mode: 0o644 });
}

function record(version: string, files: ReadonlyMap<string, string>) {
  const release: Release = {
    ...{ version, day: new Date().toISOString().slice(0, 10), commit: headOf(HOME)! },
    ...{ sources: sourcesSum(HOME), files: Object.fromEntries(files), rehearsed: rehearsed() },
  };
  const path = `releases/${version}.json`;
  writeTyped(join(HOME, path), `${JSON.stringify(release, null, 2)}\n`, { mode: 0o644 });
  say(
    `next: git add ${path}; git commit -m "Release ${version}"; then CONTRIBUTING.md, "A release"`,
  );
}

/** The rows of the lab, as each rehearsal on this machine has left its own (test/rehearsed.ts). */
function rehearsed(): Release["rehearsed"] {
  const file = join(ourCache(), "last-runs.json");
  if (!existsSync(file)) return {};
  const rows = JSON.parse(readFileSync(file, "utf8")) as Release["rehearsed"];
  return Object.fromEntries(
    Object.entries(rows)
      .filter(([name]) => name.startsWith("lab: rehearse "))
      .map(([name, { at, commit, passed, failed }]) => [name, { at, commit, passed, failed }])
      .sort(([a], [b]) => (String(a) < String(b) ? -1 : 1)),
  );
}

/** Errors: Fail where the record of this release has other sums. */
function compareWithRecord(version: string, files: ReadonlyMap<string, string>) {
  const release = releasesIn(HOME).find((release) => release.version === version);
  if (!release) return say("this is no release: no record in releases/ has these sources");
  // without the smaller files the list of sums is shorter
  const isWhole = [...files.keys()].some((name) => name.endsWith(".zst"));
  const compared = [...files].filter(([name]) => isWhole || name !== SUMS);
  const others = compared.filter(([name, sum]) => release.files[name] !== sum);
  if (others.length > 0)
    throw new Fail(
      `Not as releases/${version}.json has them: ${others.map(([name]) => name).join(", ")}`,
      { hint: shell`make them again in a clean clone: git clone ${HOME} FOLDER` },
    );
  say(`${compared.length} files are as releases/${version}.json has them`);
}

const USAGE = `Usage: npm run release -- [--out FOLDER] [--record]

  --out FOLDER  Writes the files of the release there; new or empty
                (default kube-pki-repair-VERSION)
  --record      Makes this commit the release that package.json announces, and writes its record,
                releases/VERSION.json, with the sums of all files. Without it the files are
                compared with the record, if these are the sources of a release.
  --no-zst      Leaves out the smaller files, which take a minute each.

Exit codes: 0 made, 1 stopped (see the hint), 3 refused: others decide what is at FOLDER,
            64 a word of the command line is wrong, 130 ended by a signal`;

const OPTIONS = {
  out: { type: "string", file: "written" },
  record: { type: "boolean" },
  "no-zst": { type: "boolean" },
} as const;

if (import.meta.main) await run(main);
