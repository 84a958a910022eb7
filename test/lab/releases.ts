#!/usr/bin/env bun
/**
 * `npm run releases`: rehearses the five most frequent disasters on every release of Kubernetes that go can
 * build, and writes the figures into CONTRIBUTING.md. What its table says is green is not run again, so the
 * next call goes on where this one stopped, on any machine.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { Fail } from "../../shared/fail.ts";
import { run } from "../../shared/run.ts";
import { buildGo, CACHE, serves, versionsOf } from "./machine/go-build.ts";
import { KUBERNETES_PROGRAMS, kubernetesBuild } from "./machine/pins.ts";
import { refuseMachine } from "./machine/preflight.ts";
import {
  cameBack,
  newestByMinor,
  patchesFrom,
  type ReleaseRecord,
  SCENARIOS,
  withRecord,
} from "./report/release-table.ts";

const USAGE = `Usage: npm run releases [-- options]

  --only VERSION   only this release, such as v1.36.3, or this minor release, such as 1.36
  --limit N        at most N rehearsals in this call (default: all)
  --since DAY      rehearse also what was green before this day, such as 2026-11-30

Each release is built once (about 6 minutes on two cores) and rehearsed five times. Stop it when you like: the next call goes on
from the table in CONTRIBUTING.md. A red rehearsal is repeated by the next call.

Exit codes: 0 all that was rehearsed recovered · 1 not so, or stopped (see hint)`;

const OPTIONS = {
  only: { type: "string" },
  limit: { type: "string", default: "999" },
  since: { type: "string" },
  help: { type: "boolean" },
} as const;

const MODULE = "k8s.io/kubernetes";
const OLDEST = 29;
const HOME = resolve(import.meta.dir, "../..");
const PAGE = join(HOME, "CONTRIBUTING.md");
/** A file for each rehearsal: v1.37.2-all-lost.json. */
const RECORDS = join(CACHE, "releases");

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) return console.log(USAGE);
  refuseMachine();
  mkdirSync(RECORDS, { recursive: true });
  let left = Number(values.limit);
  const red: string[] = [];
  for (const patches of await releases(values.only)) {
    if (left === 0) break;
    const version = await newestThatBuilds(patches, values.since);
    for (const scenario of SCENARIOS) {
      if (left === 0 || isDone(version, scenario, values.since)) continue;
      left--;
      if (!(await rehearse(version, scenario))) red.push(`${scenario} on ${version}`);
    }
    console.error(
      `  ${version}: ${SCENARIOS.map((name) => `${name} ${isDone(version, name, values.since) ? "green" : "not yet"}`).join(", ")}`,
    );
  }
  if (red.length > 0)
    throw new Fail(`Not recovered: ${red.join(", ")}`, { hint: `the records are in ${RECORDS}` });
}

/**
 * The patches of each minor release that may be there, the newest first. The module proxy's list ends before
 * its newest patch, and has gaps: each is asked for by name when it is its turn.
 */
async function releases(only: string | undefined): Promise<string[][]> {
  if (only?.startsWith("v") && (await serves(MODULE, only))) return [[only]];
  const meant = (await versionsOf(MODULE)).filter((version) => !only || version.startsWith(`v${only}.`));
  const newest = newestByMinor(meant, OLDEST).toReversed();
  if (newest.length === 0)
    throw new Fail(`The module proxy serves no release ${only}`, { hint: `go list -m -versions ${MODULE}` });
  return newest.map((version) => patchesFrom(version, 12));
}

function isDone(version: string, scenario: string, since?: string): boolean {
  return cameBack(readFileSync(PAGE, "utf8"), version, scenario, since);
}

/**
 * Not each patch has all its modules there; one that is done needs no build. Errors: Fail of the newest,
 * where none builds.
 */
async function newestThatBuilds(patches: readonly string[], since?: string): Promise<string> {
  let first: Fail | undefined;
  for (const version of patches) {
    if (SCENARIOS.every((scenario) => isDone(version, scenario, since))) return version;
    if (!(await serves(MODULE, version))) continue;
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

/**
 * In a process of its own: a lab has one release. Its record goes into the table. Returns whether the cluster
 * recovered.
 */
async function rehearse(version: string, scenario: string): Promise<boolean> {
  const [json, html] = ["json", "html"].map((kind) => join(RECORDS, `${version}-${scenario}.${kind}`)) as [
    string,
    string,
  ];
  rmSync(json, { force: true });
  const child = Bun.spawn(
    [
      process.execPath,
      join(import.meta.dir, "rehearse.ts"),
      "--scenario",
      scenario,
      "--json",
      json,
      "--html",
      html,
    ],
    {
      env: { ...process.env, KUBERNETES: version },
      stdio: ["ignore", "inherit", "inherit"],
    },
  );
  await child.exited;
  if (!existsSync(json))
    throw new Fail(`${scenario} on ${version} ended without a record`, {
      hint: "read what it printed above",
    });
  const record = JSON.parse(readFileSync(json, "utf8")) as ReleaseRecord;
  writeFileSync(PAGE, withRecord(readFileSync(PAGE, "utf8"), record));
  return record.recovered;
}

if (import.meta.main) await run(main);
