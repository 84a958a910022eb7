#!/usr/bin/env bun
/** `npm run rehearse`: a real cluster is built, wrecked and repaired by the commands of RUNBOOK.md, and what happened is drawn. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { packTarball } from "../../scripts/pack-kit.ts";
import { Fail } from "../../shared/fail.ts";
import { OWN_ARCH } from "../../shared/kit/nodes-bun.ts";
import { run } from "../../shared/run.ts";
import { Cluster } from "./machine/cluster.ts";
import { page } from "./report/html.ts";
import type { Rehearsal } from "./report/rehearsal.ts";
import { timeline } from "./report/terminal.ts";
import { judge } from "./report/verdict.ts";
import { again } from "./scenarios/again.ts";
import { allLost } from "./scenarios/all-lost.ts";
import { article } from "./scenarios/article.ts";
import { byKubeadm } from "./scenarios/by-kubeadm.ts";
import { controlPlaneDestroyed } from "./scenarios/control-plane-destroyed.ts";
import { cutPoints } from "./scenarios/cut-points.ts";
import { expired } from "./scenarios/expired.ts";
import { externalCa } from "./scenarios/external-ca.ts";
import { fleet } from "./scenarios/fleet.ts";
import { halfFinished } from "./scenarios/half-finished.ts";
import { hostileAlive, hostileAllLost, hostileFleet, hostileUndelete } from "./scenarios/hostile.ts";
import { interrupted } from "./scenarios/interrupted.ts";
import { mirrorPodsGone } from "./scenarios/mirror-pods-gone.ts";
import { oldTokens } from "./scenarios/old-tokens.ts";
import { randomDamages } from "./scenarios/random-damages.ts";
import { saLost } from "./scenarios/sa-lost.ts";
import { allLostKubeletStopped, pkiLostAlive } from "./scenarios/salvage.ts";
import { secondDisaster } from "./scenarios/second-disaster.ts";
import { haAllLost, haPowerCycle, oneWiped } from "./scenarios/several-control-planes.ts";
import { smallDamages } from "./scenarios/small-damages.ts";
import { undelete } from "./scenarios/undelete.ts";
import { openScene, type Scenario, type Scene } from "./scene/scene.ts";

const USAGE = `Usage: npm run rehearse -- [options]

  --scenario NAME   what happens to the cluster (default all-lost)
  --list            show the scenarios
  --compare NAME    rehearse this scenario too, on a cluster of its own, and lay the two side by side
  --workers N       so many workers instead of the scenario's own
  --json FILE       the record (default rehearsal.json)
  --html FILE       the record as a page, in one file (default rehearsal.html)
  --keep            leave the last cluster up, and say how to enter a node

  npm run rehearse
  npm run rehearse -- --scenario all-lost --compare article

Exit codes: 0 recovered · 1 not recovered, or stopped (see hint)`;

const OPTIONS = {
  scenario: { type: "string", default: "all-lost" },
  compare: { type: "string" },
  workers: { type: "string" },
  json: { type: "string", default: "rehearsal.json" },
  html: { type: "string", default: "rehearsal.html" },
  list: { type: "boolean" },
  keep: { type: "boolean" },
  help: { type: "boolean" },
} as const;

const SCENARIOS: Scenario[] = [
  allLost,
  again,
  interrupted,
  secondDisaster,
  article,
  haAllLost,
  haPowerCycle,
  oneWiped,
  mirrorPodsGone,
  fleet,
  controlPlaneDestroyed,
  byKubeadm,
  cutPoints,
  pkiLostAlive,
  allLostKubeletStopped,
  halfFinished,
  oldTokens,
  undelete,
  expired,
  externalCa,
  saLost,
  smallDamages,
  randomDamages,
  hostileAllLost,
  hostileAlive,
  hostileUndelete,
  hostileFleet,
];

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) return console.log(USAGE);
  if (values.list) return console.log(SCENARIOS.map(({ name, title }) => `${name.padEnd(16)} ${title}`).join("\n"));
  const workers = values.workers ? { workers: Number(values.workers) } : {};
  const scenario = { ...find(values.scenario), ...workers };
  const other = values.compare ? { ...find(values.compare), ...workers } : undefined;
  const save = (record: Rehearsal) => {
    writeFileSync(values.json, `${JSON.stringify(record, null, 2)}\n`);
    writeFileSync(values.html, page(record));
  };
  const record = await withKit((kit) => rehearseBoth(other ? [scenario, other] : [scenario], { kit, keep: values.keep ?? false, save }));
  console.log(`\n${timeline(record)}\n report: ${values.html}   ${values.json}`);
  process.exit(record.recovered ? 0 : 1);
}

/** The kit is packed once, as an operator packs it, and gone afterwards. */
async function withKit<T>(use: (kit: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "kit-"));
  try {
    await packTarball(join(folder, "kit.tar.gz"), [OWN_ARCH]);
    return await use(join(folder, "kit.tar.gz"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The first record is saved before the second rehearsal begins, which may stop. */
async function rehearseBoth(
  [scenario, other]: [Scenario, Scenario?],
  options: { kit: string; keep: boolean; save(record: Rehearsal): void },
) {
  const record = await rehearse(scenario, { ...options, keep: options.keep && !other });
  options.save(record);
  if (!other) return record;
  record.article = await rehearse(other, options);
  options.save(record);
  return record;
}

function find(name: string): Scenario {
  const scenario = SCENARIOS.find((known) => known.name === name);
  if (!scenario) throw new Fail(`There is no scenario "${name}"`, { hint: `one of: ${SCENARIOS.map((known) => known.name).join(", ")}` });
  return scenario;
}

async function rehearse(scenario: Scenario, options: { kit: string; keep: boolean }): Promise<Rehearsal> {
  const began = Date.now();
  const say = (line: string) => console.error(`${((Date.now() - began) / 1000).toFixed(1).padStart(7)} s  ${line}`);
  say(`scenario ${scenario.name}: ${scenario.controlPlanes} control plane(s) and ${scenario.workers} worker(s) are built`);
  const lab = await Cluster.up({ ...scenario, onProgress: say });
  try {
    const scene = await openScene(lab, { kit: options.kit, say });
    await play(scenario, scene);
    say("== Look at what came back");
    const record = await judge(scene, scenario, lab.seconds.joined! - lab.seconds.booted!);
    if (!record.recovered) await lab.saveLogs();
    return record;
  } catch (err) {
    await lab.saveLogs();
    throw err;
  } finally {
    if (options.keep) say("the cluster is kept: ./bunw test/lab/enter.ts cp1    ./bunw test/lab/down.ts");
    else await lab.down();
  }
}

/** What stops a scenario before its end is a result, like any other: it goes into the record. */
async function play(scenario: Scenario, scene: Scene) {
  for (const line of scenario.lines) {
    scene.say(`== ${line.title}`);
    try {
      await line.run(scene);
    } catch (err) {
      if (!(err instanceof Fail)) throw err;
      scene.checks.push({ name: line.title, ok: false, detail: err.message });
      return scene.say(`stopped: ${err.message}; ${err.hint}`);
    }
  }
}

if (import.meta.main) await run(main);
