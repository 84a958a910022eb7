#!/usr/bin/env bun
/**
 * `npm run rehearse`: builds a real cluster, damages it, repairs it with the commands of RUNBOOK.md, and
 * draws what happened.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Fail } from "../../shared/fail.ts";
import { run } from "../../shared/run.ts";
import { packTarball } from "../../tools/pack/pack-kit.ts";
import { OWN_ARCH } from "../kit/own-arch.ts";
import { keepingRow, LAST_RUNS, rehearsalName } from "../rehearsed.ts";
import { binaries } from "./machine/binaries.ts";
import { Cluster } from "./machine/cluster.ts";
import { installPackages } from "./machine/packages.ts";
import { refuseMachine } from "./machine/preflight.ts";
import { page } from "./report/html.ts";
import type { Rehearsal } from "./report/rehearsal.ts";
import { nodeCount, timeline } from "./report/terminal.ts";
import { judge } from "./report/verdict.ts";
import { allLost } from "./scenarios/all-lost.ts";
import { article } from "./scenarios/article.ts";
import { busy } from "./scenarios/busy.ts";
import { byKubeadm } from "./scenarios/by-kubeadm.ts";
import {
  byRelease,
  byRepair,
  byRepairAndPassword,
  byRepairAndSudo,
  byRepairCut,
  byRepairHere,
  byRepairHereWorker,
  byRepairOne,
} from "./scenarios/by-repair.ts";
import { caEnded, caEndedNewCas, haCaEnded, haCaEndedNewCas } from "./scenarios/ca-ended.ts";
import { caEndsSoon, caHalfRenewed, haCaEndsSoon } from "./scenarios/ca-ends-soon.ts";
import { caOneByOne } from "./scenarios/ca-one-by-one.ts";
import { colleaguesKubeadm } from "./scenarios/colleagues-kubeadm.ts";
import { companyCa, companyCaEnded } from "./scenarios/company-ca.ts";
import { cutPoints } from "./scenarios/cut-points.ts";
import { damaged, damagedAsOf, damagedLog, damagedSnapshot, damagedSurvivor } from "./scenarios/damaged.ts";
import { endsSoon } from "./scenarios/ends-soon.ts";
import { etcdLinked } from "./scenarios/etcd-linked.ts";
import { expired, expiredHalfRenewed, haExpired } from "./scenarios/expired.ts";
import { externalExpired, externalLost, haExternal } from "./scenarios/external.ts";
import { externalCa } from "./scenarios/external-ca.ts";
import { fieldScenarios } from "./scenarios/field.ts";
import { fleet } from "./scenarios/fleet.ts";
import { haOneDestroyed } from "./scenarios/ha-one-destroyed.ts";
import { haSameMachineBack } from "./scenarios/ha-same-machine-back.ts";
import { halfRepaired } from "./scenarios/half-repaired.ts";
import { hardenedScenarios } from "./scenarios/hardened.ts";
import {
  hostileAlive,
  hostileAllLost,
  hostileExternal,
  hostileFleet,
  hostileKubespray,
  hostileUndelete,
} from "./scenarios/hostile.ts";
import { hostileRestored } from "./scenarios/hostile-restored.ts";
import { interrupted } from "./scenarios/interrupted.ts";
import { ipv6Scenarios } from "./scenarios/ipv6.ts";
import { joinCutOff } from "./scenarios/join-cut-off.ts";
import { allLostKubeletStopped, pkiLostAlive } from "./scenarios/keys-in-memory.ts";
import { kmsAllLost } from "./scenarios/kms.ts";
import { kubekey4Expired, kubekey4Lost } from "./scenarios/kubekey4.ts";
import {
  fleetKubespray,
  haKubespray,
  haKubesprayEtcdPkiLost,
  haKubesprayNewCas,
  kubekeyExpired,
  kubekeyLost,
  kubesprayAllWiped,
  kubesprayEtcdPkiLost,
  kubesprayExpired,
  kubesprayLost,
  kubesprayNewCas,
  kubesprayOneEtcdPkiLost,
  kubesprayOneWiped,
  kubesprayOnlyEtcdPkiLost,
  kubesprayRestarted,
  kubesprayWorkerLost,
} from "./scenarios/kubespray.ts";
import { mirrorPodsGone } from "./scenarios/mirror-pods-gone.ts";
import {
  calicoMoved,
  endpointPutIn,
  endpointRenamed,
  hostRenamed,
  moved,
  movedAll,
  movedEndpoint,
  movedLost,
  movedOne,
  movedTwo,
  movedVip,
  swapped,
} from "./scenarios/moved.ts";
import { oldTokens } from "./scenarios/old-tokens.ts";
import { phoneCall, phoneCallByRepair } from "./scenarios/phone-call.ts";
import { randomDamages } from "./scenarios/random-damages.ts";
import { repairedTwice } from "./scenarios/repaired-twice.ts";
import {
  haRestored,
  haRestoredNewCas,
  restored,
  restoredDisk,
  restoredNewCas,
  restoredSpare,
} from "./scenarios/restored.ts";
import { saLost } from "./scenarios/sa-lost.ts";
import { secondDisaster } from "./scenarios/second-disaster.ts";
import { haAllLost, haPowerCycle, oneWiped } from "./scenarios/several-control-planes.ts";
import { smallDamages } from "./scenarios/small-damages.ts";
import { survivor } from "./scenarios/survivor.ts";
import { thirdAway } from "./scenarios/third-away.ts";
import { undelete } from "./scenarios/undelete.ts";
import { watched, watchedByPackage } from "./scenarios/watched.ts";
import { wrongNode } from "./scenarios/wrong-node.ts";
import { play } from "./scene/play.ts";
import { GUIDES, type Guide, openScene, type Scenario } from "./scene/scene.ts";

const USAGE = `Usage: npm run rehearse -- [options]

  --scenario NAME   the incident (default all-lost)
  --list            list the scenarios
  --compare NAME    rehearse this scenario, too, on a second cluster, and show both side by side
  --follow GUIDE    what the operator follows where the scenario leaves it open: repair, one command and numbers (default),
                    or runbook
  --workers N       use N workers instead of the scenario's number
  --json FILE       the record (default rehearsal.json)
  --html FILE       the record as a page, in one file (default rehearsal.html); FILE-report.html is
                    the page that report made of it
  --keep            leave the last cluster up, and print how to enter a node

  npm run rehearse
  npm run rehearse -- --scenario all-lost --compare article

Exit codes: 0 recovered · 1 not recovered, or stopped (see hint)`;

const OPTIONS = {
  scenario: { type: "string", default: "all-lost" },
  compare: { type: "string" },
  follow: { type: "string", default: "repair" },
  workers: { type: "string" },
  json: { type: "string", default: "rehearsal.json" },
  html: { type: "string", default: "rehearsal.html" },
  list: { type: "boolean" },
  keep: { type: "boolean" },
  help: { type: "boolean" },
} as const;

export const SCENARIOS: Scenario[] = [
  allLost,
  repairedTwice,
  interrupted,
  secondDisaster,
  article,
  haAllLost,
  haPowerCycle,
  oneWiped,
  mirrorPodsGone,
  fleet,
  byRelease,
  byRepairOne,
  byRepair,
  byRepairAndSudo,
  byRepairAndPassword,
  byRepairCut,
  byRepairHere,
  byRepairHereWorker,
  wrongNode,
  haOneDestroyed,
  haSameMachineBack,
  phoneCall,
  phoneCallByRepair,
  byKubeadm,
  busy,
  cutPoints,
  pkiLostAlive,
  allLostKubeletStopped,
  halfRepaired,
  oldTokens,
  undelete,
  expired,
  haExpired,
  expiredHalfRenewed,
  endsSoon,
  caEnded,
  caEndedNewCas,
  haCaEnded,
  haCaEndedNewCas,
  caEndsSoon,
  haCaEndsSoon,
  caHalfRenewed,
  caOneByOne,
  externalCa,
  saLost,
  watched,
  watchedByPackage,
  smallDamages,
  randomDamages,
  hostileAllLost,
  hostileAlive,
  hostileUndelete,
  hostileFleet,
  hostileRestored,
  hostileExternal,
  hostileKubespray,
  ...hardenedScenarios,
  ...fieldScenarios,
  ...ipv6Scenarios,
  kmsAllLost,
  externalLost,
  fleetKubespray,
  kubesprayEtcdPkiLost,
  externalExpired,
  haExternal,
  kubesprayExpired,
  kubesprayLost,
  kubesprayNewCas,
  haKubespray,
  haKubesprayEtcdPkiLost,
  haKubesprayNewCas,
  kubesprayOneEtcdPkiLost,
  kubesprayOnlyEtcdPkiLost,
  kubesprayOneWiped,
  kubesprayWorkerLost,
  kubesprayRestarted,
  kubesprayAllWiped,
  colleaguesKubeadm,
  kubekeyExpired,
  kubekeyLost,
  kubekey4Expired,
  kubekey4Lost,
  joinCutOff,
  companyCa,
  moved,
  movedOne,
  movedTwo,
  movedVip,
  calicoMoved,
  swapped,
  movedAll,
  movedEndpoint,
  endpointPutIn,
  endpointRenamed,
  hostRenamed,
  movedLost,
  restored,
  restoredDisk,
  restoredSpare,
  restoredNewCas,
  haRestored,
  haRestoredNewCas,
  survivor,
  damaged,
  damagedAsOf,
  damagedLog,
  damagedSnapshot,
  damagedSurvivor,
  companyCaEnded,
  etcdLinked,
  thirdAway,
];

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) return console.log(USAGE);
  if (values.list) return console.log(listed());
  const workers = values.workers ? { workers: Number(values.workers) } : {};
  const scenario = { ...find(values.scenario), ...workers };
  const other = values.compare ? { ...find(values.compare), ...workers } : undefined;
  const guide = guideCalled(values.follow);
  const save = (record: Rehearsal) => {
    writeFileSync(values.json, `${JSON.stringify(record, null, 2)}\n`);
    writeFileSync(values.html, page(record));
  };
  const report = values.html.replace(/(\.html)?$/, "-report.html");
  refuseMachine();
  const record = await withKit((kit) =>
    rehearseBoth(other ? [scenario, other] : [scenario], {
      kit,
      guide,
      keep: values.keep ?? false,
      report,
      save,
      // the night's own row: with other numbers of nodes, or another Kubernetes, it is another rehearsal
      row: values.workers || process.env.KUBERNETES ? undefined : rehearsalName(scenario.name, guide),
    }),
  );
  console.log(`\n${timeline(record)}\n report: ${values.html}   ${values.json}`);
  process.exit(record.recovered ? 0 : 1);
}

/**
 * Packs the kit once, as an operator does, and removes it afterwards. What the lab is made of is fetched and
 * compiled meanwhile, so that no other lab waits for it.
 */
async function withKit<T>(use: (kit: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "kit-"));
  try {
    const pack = packTarball(join(folder, "kit.tar.gz"), [OWN_ARCH]);
    await Promise.all([pack, binaries(), installPackages()]);
    return await use(join(folder, "kit.tar.gz"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Saves the first record before the second rehearsal begins, which may stop. */
async function rehearseBoth(
  [scenario, other]: [Scenario, Scenario?],
  { row, ...options }: Options & { save(record: Rehearsal): void; row: string | undefined },
) {
  const first = () => rehearse(scenario, { ...options, keep: options.keep && !other });
  const record = row
    ? await keepingRow({ name: row, file: LAST_RUNS, home: import.meta.dir }, first)
    : await first();
  options.save(record);
  if (!other) return record;
  record.article = await rehearse(other, options);
  options.save(record);
  return record;
}

/** The scenario of this name. Errors: Fail where there is none. */
export function find(name: string): Scenario {
  const scenario = SCENARIOS.find((known) => known.name === name);
  if (!scenario) throw new Fail(`There is no scenario "${name}"`, { hint: "npm run rehearse -- --list" });
  return scenario;
}

function guideCalled(name: string): Guide {
  const guide = GUIDES.find((known) => known === name);
  if (guide) return guide;
  throw new Fail(`There is no guide "${name}"`, { hint: `--follow ${GUIDES.join(", or --follow ")}` });
}

function listed(): string {
  const width = Math.max(...SCENARIOS.map(({ name }) => name.length));
  return SCENARIOS.map(({ name, title }) => `${name.padEnd(width)}  ${title}`).join("\n");
}

interface Options {
  kit: string;
  guide: Guide;
  keep: boolean;
  report: string;
}

async function rehearse(scenario: Scenario, options: Options): Promise<Rehearsal> {
  const began = Date.now();
  const say = (line: string) =>
    console.error(`${((Date.now() - began) / 1000).toFixed(1).padStart(7)} s  ${line}`);
  say(
    `scenario ${scenario.name}: builds a cluster of ${nodeCount(scenario.controlPlanes, scenario.workers)}`,
  );
  const lab = await Cluster.up({ ...scenario, onProgress: say });
  try {
    const scene = await openScene(lab, { kit: options.kit, guide: options.guide, say });
    await play(scenario, scene);
    say("== What came back?");
    const record = await judge(scene, scenario, lab.seconds.joined! - lab.seconds.booted!);
    if (scene.report) writeFileSync(options.report, scene.report);
    if (!record.recovered) await lab.saveLogs();
    return record;
  } catch (err) {
    await lab.saveLogs();
    throw err;
  } finally {
    if (options.keep) say("the cluster stays up: ./bunw test/lab/enter.ts cp1    ./bunw test/lab/down.ts");
    else await lab.down();
  }
}

if (import.meta.main) await run(main);
