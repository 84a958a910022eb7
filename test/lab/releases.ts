#!/usr/bin/env bun
/**
 * `npm run releases`: rehearses the three most frequent disasters on every release of Kubernetes that go can build, and writes the figures
 * into CONTRIBUTING.md. What is done is kept beside the cache of builds, so the next call goes on where this one stopped.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { Fail } from "../../shared/fail.ts";
import { run } from "../../shared/run.ts";
import { buildGo, CACHE, serves, versionsOf } from "./machine/go-build.ts";
import { KUBERNETES_PROGRAMS, kubernetesBuild } from "./machine/pins.ts";
import { patchesAfter, patchesByMinor, type ReleaseRecord, releaseTable, withTable } from "./report/release-table.ts";

const USAGE = `Usage: npm run releases [-- options]

  --only VERSION   only this release, such as v1.36.3, or this minor release, such as 1.36
  --limit N        at most N rehearsals in this call (default: all)
  --again          rehearse also what is green already
  --table          rehearse nothing: write the table of what is there

Each release is built once (about 6 minutes on two cores) and rehearsed three times. Stop it when you like: the next call goes on.
A red rehearsal is repeated by the next call.

Exit codes: 0 all that was rehearsed recovered · 1 not so, or stopped (see hint)`;

const OPTIONS = {
  only: { type: "string" },
  limit: { type: "string", default: "999" },
  again: { type: "boolean" },
  table: { type: "boolean" },
  help: { type: "boolean" },
} as const;

const SCENARIOS = ["all-lost", "pki-lost-alive", "expired"];
const MODULE = "k8s.io/kubernetes";
const OLDEST = 29;
const HOME = resolve(import.meta.dir, "../..");
const PAGE = join(HOME, "CONTRIBUTING.md");
/** A file for each rehearsal: v1.37.2-all-lost.json. */
const RECORDS = join(CACHE, "releases");

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) return console.log(USAGE);
  mkdirSync(RECORDS, { recursive: true });
  let left = values.table ? 0 : Number(values.limit);
  const red: string[] = [];
  for (const patches of left > 0 ? await releases(values.only) : []) {
    const version = left > 0 ? await newestThatBuilds(patches) : undefined;
    for (const scenario of version ? SCENARIOS : []) {
      if (left === 0 || (!values.again && readRecord(version!, scenario)?.recovered)) continue;
      left--;
      if (!(await rehearse(version!, scenario))) red.push(`${scenario} on ${version}`);
      writeTable();
    }
  }
  writeTable();
  if (red.length > 0) throw new Fail(`Not recovered: ${red.join(", ")}`, { hint: `the records are in ${RECORDS}` });
}

/** The patches of each minor release that the module proxy serves, newest release first. */
async function releases(only: string | undefined): Promise<string[][]> {
  if (only?.startsWith("v") && (await serves(MODULE, only))) return [[only]];
  const meant = (await versionsOf(MODULE)).filter((version) => !only || version.startsWith(`v${only}.`));
  const listed = patchesByMinor(meant, OLDEST).toReversed();
  if (listed.length === 0) throw new Fail(`The module proxy serves no release ${only}`, { hint: `go list -m -versions ${MODULE}` });
  return await Promise.all(listed.map(async (patches) => [...(await unlisted(patches[0]!)), ...patches]));
}

/** Newer patches that the proxy's list does not name yet, the newest first. Few releases have had more than 16. */
async function unlisted(newest: string): Promise<string[]> {
  const found: string[] = [];
  for (const version of patchesAfter(newest, 12)) if (await serves(MODULE, version)) found.unshift(version);
  return found;
}

/** Not each patch has all its modules there. Errors: Fail of the newest, where none builds. */
async function newestThatBuilds(patches: readonly string[]): Promise<string> {
  let first: Fail | undefined;
  for (const version of patches) {
    try {
      await buildGo(kubernetesBuild(version, KUBERNETES_PROGRAMS));
      return version;
    } catch (err) {
      if (!(err instanceof Fail)) throw err;
      console.error(`  ${version} cannot be built: ${err.message}`);
      first ??= err;
    }
  }
  throw first!;
}

/** In a process of its own: a lab has one release. Returns whether the cluster recovered. */
async function rehearse(version: string, scenario: string): Promise<boolean> {
  const place = recordPath(version, scenario);
  const [json, html] = [`${place}.new`, place.replace(/json$/, "html")];
  const child = Bun.spawn(
    [process.execPath, join(import.meta.dir, "rehearse.ts"), "--scenario", scenario, "--json", json, "--html", html],
    {
      env: { ...process.env, KUBERNETES: version },
      stdio: ["ignore", "inherit", "inherit"],
    },
  );
  await child.exited;
  if (!existsSync(json)) throw new Fail(`${scenario} on ${version} ended without a record`, { hint: "read what it printed above" });
  renameSync(json, place);
  return readRecord(version, scenario)!.recovered;
}

function recordPath(version: string, scenario: string): string {
  return join(RECORDS, `${version}-${scenario}.json`);
}

function readRecord(version: string, scenario: string): ReleaseRecord | undefined {
  const place = recordPath(version, scenario);
  return existsSync(place) ? (JSON.parse(readFileSync(place, "utf8")) as ReleaseRecord) : undefined;
}

function writeTable() {
  const records = readdirSync(RECORDS)
    .filter((file) => file.endsWith(".json"))
    .map((file) => JSON.parse(readFileSync(join(RECORDS, file), "utf8")) as ReleaseRecord);
  const table = releaseTable(records, SCENARIOS);
  writeFileSync(PAGE, withTable(readFileSync(PAGE, "utf8"), table));
}

if (import.meta.main) await run(main);
