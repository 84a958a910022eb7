/** From a scene that is over to the record of it. */
import { cpus, release } from "node:os";
import { Fail } from "../../../shared/fail.ts";
import { VERSION } from "../../../shared/run.ts";
import { undefinedOnTimeout } from "../../../shared/wait-for.ts";
import { kubectl, type Lab } from "../machine/machine.ts";
import { nodesOn } from "../scene/power.ts";
import { controlPlaneSamples, type Scenario, type Scene } from "../scene/scene.ts";
import { diskChecks } from "./disk-writes.ts";
import { disturbedIn, restartedIn, restartsByRuns } from "./disturbed.ts";
import { measure, type Phase } from "./heartbeat.ts";
import { readHeartbeats, SERVICE_CALLER, waitForBeats } from "./heartbeat-files.ts";
import { transcriptChecks } from "./left-by-runs.ts";
import { measurePings, readPings } from "./pings.ts";
import { API_ANSWERS, keptChecks, liveChecks, recordedChecks, trustOfWorkers } from "./questions.ts";
import type { Check, Lane, Rehearsal, Step } from "./rehearsal.ts";
import { compare, type Snapshot, snapshotOfDisks, takeSnapshot } from "./snapshot.ts";
import { away, endpointsLost, podsReadySince, renewals, type Sample } from "./watch.ts";

/** Ends the scene: asks the live cluster, stops the watchers, and writes the record. */
export async function judge(scene: Scene, scenario: Scenario, freshSeconds: number): Promise<Rehearsal> {
  const live = await liveChecks(scene);
  const isSilent = live.some(({ name, ok }) => name === API_ANSWERS && !ok);
  const changes = compare(
    scene.before,
    isSilent ? snapshotOfDisks(scene.lab) : await snapshotNow(scene.lab, live),
    scene.replaced,
  );
  const oldTokensValid = isSilent ? 0 : await countValid(scene.lab, scene.oldTokens);
  const trustIs = scenario.oldKeys ? await trustOfWorkers(scene.lab) : [];
  const transcripts =
    scenario.byRunbook && !scenario.cleansUp && !isSilent ? await transcriptChecks(scene) : [];
  await stopWatchers(scene);

  await waitForBeats(scene);
  const times = timesOf(scene);
  const seen = whatWasSeen(scene, times);
  const restarted = [...seen.restarted, ...seen.restartedInPart4];
  const checks = [
    ...live,
    ...scene.checks,
    ...transcripts,
    ...(scenario.byRunbook ? diskChecks(scene, times.first) : []),
    ...(scenario.oldKeys ? keptChecks(scene, { trustIs, restarted, oldTokensValid }) : []),
    ...recordedChecks(scene, {
      ...seen,
      changes,
      byRunbook: scenario.byRunbook,
      machinesFail: scenario.machinesFail ?? false,
      kubeletsRestart: scenario.kubeletsRestart ?? false,
      goesBack: scenario.goesBack ?? false,
    }),
  ];
  const seconds = secondsOf(scene.zero, times, seen.podsReady, seen.heartbeats);
  return {
    scenario: scenario.name,
    title: scenario.title,
    tool: VERSION,
    date: new Date(scene.zero).toISOString(),
    kubernetes: scene.before.kubernetes,
    machine: `${cpus().length} cores, Linux ${release()}`,
    nodes: scene.lab.nodes.map(({ name }) => ({ name, role: roleIn(scene.lab, name) })),
    recovered: checks.every((check) => check.ok),
    checks,
    seconds,
    freshInitAndJoinSeconds: freshSeconds,
    ratio: seconds.repairCommands === null ? null : seconds.repairCommands / freshSeconds,
    workloadContainersRestarted: seen.restarted.length,
    workloadContainersRestartedInPart4: seen.restartedInPart4.length,
    podsEvicted: seen.evicted.length,
    endpointsLostSeconds: seen.endpointsLost.seconds,
    dataPlaneFailures: seen.dataPlaneFailures,
    dataPlaneFailuresInPart4: seen.dataPlaneFailuresInPart4,
    secretsLost: changes.secretsLost,
    configMapsChanged: changes.configMapsChanged,
    oldTokens: scene.oldTokens.length,
    oldTokensValid,
    filesNotRestored: changes.filesNotRestored,
    differences: [
      ...changes.manifestsChanged,
      ...changes.namesLost,
      ...changes.kubeletFilesChanged,
      ...changes.uidsChanged,
    ],
    moments: scene.moments,
    lanes: lanesOf(scene, times.api),
    steps: scene.steps,
    heartbeats: seen.heartbeats,
    pings: seen.pings.rows,
    newPods: seen.pings.newPods,
    dnsLostSeconds: seen.dnsLostSeconds,
  };
}

/** Where the repair has failed a node may be off, and its watcher with it: what it saw is on the disk. */
async function stopWatchers({ watchers, pings, failed }: Scene) {
  pings?.stop();
  const stopped = watchers.map(({ watcher }) => watcher.stop());
  await Promise.all(failed === undefined ? stopped : stopped.map(undefinedOnTimeout));
}

/** The cluster's own, by the name that its clients have. */
const DNS = "kube-system/kube-dns";

function whatWasSeen(scene: Scene, times: Times) {
  const { zero, lab } = scene;
  const end = Date.now();
  const heartbeats = readHeartbeats(lab).map((file) =>
    measure(file.beats, { ...file, zero, end, phases: phasesOf(zero, times) }),
  );
  const services = heartbeats
    .filter(({ name }) => name.startsWith(`${SERVICE_CALLER} `))
    .flatMap(({ phases }) => phases);
  const failures = (...names: string[]) =>
    services.filter(({ name }) => names.includes(name)).reduce((sum, { failed }) => sum + failed, 0);
  const before = disturbedIn(scene, zero, times.part4);
  const inAll = restartedIn(scene, zero, Number.POSITIVE_INFINITY);
  const cp = controlPlaneSamples(scene)[0]!;
  return {
    heartbeats,
    ...before,
    restartedInPart4: inAll.filter((name) => !before.restarted.includes(name)),
    dnsLostSeconds: endpointsLost(cp, zero, Number.POSITIVE_INFINITY, DNS).seconds,
    pings: scene.pings
      ? measurePings(readPings(lab.nodes), scene.pings.pods(), zero)
      : { rows: [], newPods: [] },
    dataPlaneFailures: failures(REPAIR),
    dataPlaneFailuresInPart4: failures(PART_4, AFTER),
    podsReady: podsReadySince(cp),
  };
}

function secondsOf(
  zero: number,
  times: Times,
  podsReady: number | undefined,
  heartbeats: Rehearsal["heartbeats"],
): Rehearsal["seconds"] {
  const since = (at: number | undefined) => (at === undefined ? null : (at - zero) / 1000);
  const well = workloadsOk(heartbeats, since(podsReady));
  return {
    damageToEtcd: since(times.etcd),
    damageToApi: since(times.api),
    damageToNodesReady: since(times.nodesReady),
    damageToWorkloadsOk: well,
    repairCommands: times.nodesReady && times.first ? (times.nodesReady - times.first) / 1000 : null,
    commandsToWorkloadsOk:
      well === null || !times.first ? null : Math.max(0, well - (times.first - zero) / 1000),
  };
}

/** Without an API everything in it counts as lost, and a check says why. */
async function snapshotNow(lab: Lab, checks: Check[]): Promise<Snapshot> {
  try {
    return await takeSnapshot(lab);
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    checks.unshift({ name: API_ANSWERS, ok: false, detail: err.message });
    return snapshotOfDisks(lab);
  }
}

const REPAIR = "damage and repair, until part 4";
const PART_4 = "part 4";
const AFTER = "after";

/** Moments in milliseconds; undefined is "never". */
interface Times {
  first: number | undefined;
  part4: number;
  part4End: number;
  etcd: number | undefined;
  api: number | undefined;
  nodesReady: number | undefined;
}

/** In milliseconds; undefined as long as a node has not renewed its Lease since the API is back. */
export function nodesReadyAt(scene: Scene): number | undefined {
  return timesOf(scene).nodesReady;
}

function timesOf(scene: Scene): Times {
  const { zero } = scene;
  const meant = nodesOn(scene);
  // a repair before this damage is another repair
  const steps = scene.steps.filter(({ start }) => start >= 0);
  const started = (step: Step | undefined) => step && zero + step.start * 1000;
  const ended = (step: Step | undefined) => step && zero + (step.start + step.seconds) * 1000;
  const ofPart4 = steps.filter(({ part }) => part === 4);
  const byRuns = restartsByRuns(scene.lab, zero);
  // a machine that was replaced, or cleaned up, has no transcript
  const begins = [byRuns?.from, started(ofPart4[0])].filter((at) => at !== undefined);
  const ends = [byRuns?.to, ended(ofPart4.at(-1))].filter((at) => at !== undefined);
  const api = firstReturn(controlPlaneSamples(scene), "api", zero);
  const renewed = renewals(
    controlPlaneSamples(scene).flat(),
    lastSilenceOfApi(controlPlaneSamples(scene).flat(), api),
  );
  return {
    first: started(steps[0]),
    part4: Math.min(Number.POSITIVE_INFINITY, ...begins),
    part4End: ends.length > 0 ? Math.max(...ends) : Number.POSITIVE_INFINITY,
    etcd: firstReturn(controlPlaneSamples(scene), "etcd", zero),
    api,
    nodesReady: meant.every(({ nodeName }) => renewed.has(nodeName))
      ? Math.max(...meant.map(({ nodeName }) => renewed.get(nodeName)!))
      : undefined,
  };
}

/** The last look before the API was back: any later renewal went through the new API. */
function lastSilenceOfApi(samples: Sample[], api: number | undefined): number {
  if (api === undefined) return Number.POSITIVE_INFINITY;
  return Math.max(
    ...samples.filter((sample) => sample.api === false && sample.t < api).map((sample) => sample.t),
  );
}

function firstReturn(controlPlanes: Sample[][], what: "etcd" | "api", zero: number): number | undefined {
  const returns = controlPlanes.flatMap((samples) => away(samples, what, zero)[0]?.to ?? []);
  return returns.length ? zero + Math.min(...returns) * 1000 : undefined;
}

function phasesOf(zero: number, { part4, part4End }: Times): Phase[] {
  return [
    { name: "before the damage", from: 0, to: zero },
    { name: REPAIR, from: zero, to: part4 },
    { name: PART_4, from: part4, to: part4End },
    { name: AFTER, from: part4End, to: Number.POSITIVE_INFINITY },
  ];
}

/** The workloads are well when no heartbeat has a gap any more and every pod is Ready. */
function workloadsOk(heartbeats: Rehearsal["heartbeats"], podsReady: number | null): number | null {
  const ends = heartbeats.flatMap(({ gaps }) => gaps.map((gap) => gap.to));
  if (podsReady === null || ends.includes(null)) return null;
  return Math.max(0, podsReady, ...(ends as number[]));
}

function lanesOf(scene: Scene, api: number | undefined): Lane[] {
  const { zero, lab } = scene;
  const controlPlanes = controlPlaneSamples(scene);
  const called = (what: string, index: number) =>
    controlPlanes.length > 1 ? `${what} ${lab.controlPlanes[index]!.name}` : what;
  const answering = (what: "etcd" | "api", name: string) =>
    controlPlanes.map((samples, index) => ({
      name: called(name, index),
      away: away(samples, what, zero),
      note: "",
    }));
  const renewed = renewals(controlPlanes.flat(), lastSilenceOfApi(controlPlanes.flat(), api));
  const names = new Set(
    controlPlanes.flat().flatMap((sample) => sample.nodes?.map((node) => node.name) ?? []),
  );
  const lost = away(controlPlanes[0]!, "api", zero)[0]?.from ?? 0;
  const nodes = [...names].map((name) => {
    const back = renewed.get(name);
    return {
      name: `node ${name}`,
      away: [{ from: lost, to: back === undefined ? null : (back - zero) / 1000 }],
      note: "until its Lease is renewed",
    };
  });
  return [...answering("etcd", "etcd"), ...answering("api", "API"), ...nodes];
}

/** How many of these tokens the API accepts. */
export async function countValid(lab: Lab, tokens: string[]): Promise<number> {
  const reviews = await Promise.all(
    tokens.map((token) => {
      const review = {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenReview",
        metadata: {},
        spec: { token },
      };
      return kubectl(
        lab,
        ["create", "-o", "jsonpath={.status.authenticated}", "-f", "-"],
        JSON.stringify(review),
      );
    }),
  );
  return reviews.filter(({ stdout }) => stdout.trim() === "true").length;
}

function roleIn(lab: Lab, name: string): "control-plane" | "worker" {
  return lab.controlPlanes.some((node) => node.name === name) ? "control-plane" : "worker";
}
