/**
 * A rehearsal while it goes on: the cluster, the clock, what was typed and what it said. Scenarios are
 * written with these verbs.
 */

import { Fail } from "../../../shared/fail.ts";
import { redact } from "../../../shared/plain.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import { KIT_FOLDER, UNPACK } from "../../../tools/pack/pack-kit.ts";
import { LAB_BUN } from "../machine/disk.ts";
import { kubectl, type Lab, type Machine, sh } from "../machine/machine.ts";
import type { Needed } from "../machine/packages.ts";
import type { Profile } from "../machine/profile.ts";
import { everyPodAnswers, introducePods } from "../report/pings.ts";
import { type Trust, trustOfWorkers } from "../report/questions.ts";
import type { Check, Moment, Step } from "../report/rehearsal.ts";
import { list, type Snapshot, takeSnapshot } from "../report/snapshot.ts";
import { containersAt, type Sample, watch } from "../report/watch.ts";

/**
 * The kit's folder on a node, as the runbook says: in memory, so that no key touches the disk and nothing is
 * overwritten there.
 */
export const KIT = KIT_FOLDER;

export interface Scenario {
  name: string;
  title: string;
  controlPlanes: number;
  workers: number;
  /** The first control plane node's /etc/kubernetes is a file system of its own. */
  ownDisk?: boolean;
  /** The operator follows our runbook, so our promises must hold. */
  byRunbook: boolean;
  /**
   * The old CA and service-account keys come back: no workload restarts, every old token stays valid, nothing
   * changes for the workers.
   */
  oldKeys?: boolean;
  /** In the end nothing of the kit is left on the nodes, nor are the transcripts of its runs. */
  cleansUp?: boolean;
  /**
   * Machines lose power or are destroyed: containers end and calls fail whatever a repair does. They are
   * counted, not judged.
   */
  machinesFail?: boolean;
  /**
   * Kubelets restart while the API answers, whoever restarts them: a pod with a readiness probe may be not Ready
   * until its next probe (kubernetes#100277). Services without endpoints are counted, not judged; failed calls are.
   */
  kubeletsRestart?: boolean;
  /** etcd goes back to a snapshot: pods that it does not know end, and those of then start. Counted, not judged. */
  goesBack?: boolean;
  /** Commands that fail are part of the scenario: it goes on after them. */
  commandsMayFail?: boolean;
  /** Another cluster than the usual one. */
  profile?: () => Profile | Promise<Profile>;
  /** Debian packages that only this scenario needs. */
  packages?: Needed;
  /** The incident, line by line. */
  lines: { title: string; run(scene: Scene): Promise<unknown> }[];
}

/** What the operator follows, where a scenario leaves it open. */
export const GUIDES = ["repair", "runbook"] as const;
export type Guide = (typeof GUIDES)[number];

export interface Scene {
  lab: Lab;
  guide: Guide;
  /** The kit's tarball, for a node that loses its memory. */
  kit: string;
  /** Milliseconds: when the damage was done. All times of the record count from here. */
  zero: number;
  before: Snapshot;
  /** trustOfWorkers() before the damage. */
  trustWas: Trust;
  oldTokens: string[];
  steps: Step[];
  moments: Moment[];
  leaks: string[];
  /** Answers to the scenario's own questions. */
  checks: Check[];
  /** Names of nodes that were replaced by a new machine: they cannot be as before. */
  replaced: string[];
  /** Names of nodes that were switched off before the damage: the repair does not wait for them. */
  away: string[];
  watchers: { machine: Machine; watcher: ReturnType<typeof watch> }[];
  /** Where the cluster has pods that ask each other. */
  pings?: ReturnType<typeof introducePods>;
  /** The page that `report` has made of this repair. */
  report?: string;
  /** Why the repair has failed; undefined while it may still succeed. */
  failed?: string;
  say(line: string): void;
}

/** The minute before the damage: unpacks the kit on every node, starts the watchers, takes the snapshot. */
export async function openScene(
  lab: Lab,
  options: { kit: string; guide: Guide; say: (line: string) => void },
): Promise<Scene> {
  for (const node of lab.nodes) await unpackKit(node, options.kit);
  const scene: Scene = {
    ...{
      ...options,
      lab,
      zero: Date.now(),
      steps: [],
      moments: [],
      leaks: [],
      checks: [],
      replaced: [],
      away: [],
    },
    watchers: lab.nodes.map((machine) => ({ machine, watcher: watch(machine, roleIn(lab, machine)) })),
    before: await takeSnapshot(lab),
    trustWas: await trustOfWorkers(lab),
    oldTokens: await tokensOf(lab),
    ...(lab.profile.pings ? { pings: introducePods(lab.nodes) } : {}),
  };
  const haveLooked = () =>
    scene.watchers.every(({ machine, watcher }) =>
      watcher.samples().some((s) => s.containers && (s.pods || roleIn(lab, machine).role === "worker")),
    );
  await sayAndWait(scene, "the first look of each watcher", haveLooked, {
    seconds: 180,
    hint: "look at /var/log/rehearsal in the nodes with --keep",
  });
  if (scene.pings)
    await sayAndWait(scene, "every pod to answer every other one", () => everyPodAnswers(lab.nodes), {
      seconds: 60,
      hint: "see /var/log/pings in the nodes",
    });
  return scene;
}

/**
 * Says what it waits for, then waits. When the repair has failed nothing more can come: then it asks once.
 * Errors: Fail where it is not so.
 */
export async function sayAndWait<T>(
  scene: Pick<Scene, "say" | "failed">,
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  options: { seconds: number; hint: string },
): Promise<T | undefined> {
  if (scene.failed === undefined) {
    scene.say(`  waits for ${what}, at most ${options.seconds} s (${options.hint})`);
    return waitFor(what, probe, options);
  }
  const answer = await probe();
  if (answer === undefined || answer === false) throw new Fail(`${what}: not so`, { hint: options.hint });
  return answer;
}

export function roleIn(lab: Lab, machine: Machine) {
  return {
    role: lab.controlPlanes.includes(machine) ? ("control-plane" as const) : ("worker" as const),
    bun: LAB_BUN,
  };
}

/** Uses the lines that `pack` prints. */
export async function unpackKit(node: Machine, kit: string) {
  const { exitCode, stdout, stderr } = await node.run(["sh", "-c", UNPACK], {
    input: await Bun.file(kit).bytes(),
  });
  if (exitCode !== 0)
    throw new Fail(`Cannot unpack the kit on ${node.name}: ${(stdout + stderr).trim()}`, {
      hint: "npm run pack, and look into its tarball",
    });
}

/** Tokens signed with today's sa.key: those in Secrets, and a fresh one. */
export async function tokensOf(lab: Lab): Promise<string[]> {
  const secrets = (await list(lab, "secrets")).filter(
    (secret) => secret.type === "kubernetes.io/service-account-token",
  );
  const fresh = await kubectl(lab, ["create", "token", "default", "--duration=24h"]);
  return [
    ...secrets.map((secret) => Buffer.from(secret.data?.token ?? "", "base64").toString()),
    fresh.stdout.trim(),
  ].filter(Boolean);
}

/** Now is zero. What was typed and noted before keeps its moment: it counts as before the damage. */
export function startClock(scene: Pick<Scene, "zero" | "steps" | "moments">) {
  const now = Date.now();
  const later = (now - scene.zero) / 1000;
  for (const step of scene.steps) step.start -= later;
  for (const moment of scene.moments) moment.at -= later;
  scene.zero = now;
}

/** Runs a damage, a line of shell, on these nodes at the same time, and starts the clock. */
export async function damage(scene: Scene, nodes: Machine[], line: string) {
  startClock(scene);
  await Promise.all(nodes.map((node) => sh(node, line)));
  note(scene, `${line} on ${nodes.map((node) => node.name).join(" and ")}`, "", scene.zero);
}

export function deleteKubernetes(scene: Scene, nodes: Machine[]) {
  return damage(scene, nodes, "rm -rf /etc/kubernetes");
}

/** Waits until neither the API server nor etcd of any control plane node answers. */
export async function controlPlaneGone(scene: Scene) {
  const gone = () =>
    controlPlaneSamples(scene).every(
      (samples) => samples.at(-1)?.api === false && samples.at(-1)?.etcd === false,
    );
  await sayAndWait(scene, "the control plane to stop", gone, {
    seconds: 120,
    hint: "systemctl status kubelet: the kubelet stops the static pods",
  });
}

/** Waits until the mirror pod shows the change of a manifest on the first control plane node. */
export async function mirrorPodFollows(scene: Scene, name: string, isSo: (spec: string) => boolean) {
  const { lab } = scene;
  const follows = async () => {
    const pod = (await list(lab, "pods")).find(
      ({ metadata }) => metadata.name === `${name}-${lab.controlPlanes[0]!.nodeName}`,
    );
    return pod !== undefined && isSo(JSON.stringify(pod.spec));
  };
  await sayAndWait(scene, `the mirror pod of ${name} to follow its manifest`, follows, {
    seconds: 120,
    hint: "journalctl -u kubelet on the control plane node, with --keep",
  });
}

export function controlPlaneSamples(scene: Scene): Sample[][] {
  const controlPlanes = new Set(scene.lab.controlPlanes.map((node) => node.name));
  return scene.watchers
    .filter(({ machine }) => controlPlanes.has(machine.name))
    .map(({ watcher }) => watcher.samples());
}

export function note(scene: Scene, what: string, detail = "", at = Date.now()) {
  scene.moments.push({ at: (at - scene.zero) / 1000, what, detail });
  scene.say(`${what}${detail ? `: ${detail}` : ""}`);
}

/** Types a command on a node as an operator would; kills it after `seconds`. */
export async function type(
  scene: Scene,
  node: Machine,
  command: string,
  options: {
    part?: number | undefined;
    exit?: number[];
    seconds?: number;
    cwd?: string;
    mayHoldToken?: boolean;
  } = {},
): Promise<Step & { raw: string }> {
  const { part, exit = [0], seconds = 600, cwd = KIT } = options;
  scene.say(`${node.name}# ${redact(command).text}`);
  const start = Date.now();
  // nobody watches a rehearsal in silence: what a script waits for is said when it says it
  const heard = (line: string) => line.includes("still waiting for ") && scene.say(redact(line).text);
  const output = await node.run(
    ["timeout", "--kill-after=5", `${seconds}`, "env", "HOME=/root", "bash", "-c", command],
    {
      cwd,
      heard,
      env: scene.lab.profile.shell,
    },
  );
  const [stdout, stderr, typed] = [redact(output.stdout), redact(output.stderr), redact(command)];
  const secret = stdout.what ?? stderr.what ?? typed.what;
  if (secret && !options.mayHoldToken) scene.leaks.push(`${secret}: ${typed.text} on ${node.name}`);
  const took = (Date.now() - start) / 1000;
  const step: Step = {
    ...{
      part,
      node: node.name,
      command: typed.text,
      start: (start - scene.zero) / 1000,
      seconds: took,
      exitCode: output.exitCode,
    },
    ...{
      ok: exit.includes(output.exitCode),
      hung: !exit.includes(output.exitCode) && [124, 137].includes(output.exitCode),
      stdout: stdout.text,
      stderr: stderr.text,
    },
  };
  scene.steps.push(step);
  scene.say(`  exit ${step.exitCode} after ${took.toFixed(1)} s${step.ok ? "" : `: ${reasonIn(step)}`}`);
  return { ...step, raw: output.stdout };
}

/** Why a command failed: our scripts' error and hint, otherwise its last line. */
export function reasonIn({ exitCode, stdout, stderr }: Pick<Step, "exitCode" | "stdout" | "stderr">): string {
  const [, error, hint] = /^error: (.*)\nhint: (.*(?:\n {2}.*)*)/m.exec(stderr) ?? [];
  if (error) return `${error} (hint: ${hint!.replaceAll("\n  ", ". ")})`;
  return (stderr.trim() || stdout.trim()).split("\n").at(-1) || `exit ${exitCode}, without a reason`;
}

/** "11 of 11 workload containers still run", by the watchers' last look. */
export function workloadsLeft(scene: Scene) {
  const count = (at: number) =>
    scene.watchers.reduce((sum, { watcher }) => sum + containersAt(watcher.samples(), at), 0);
  return `${count(Date.now())} of ${count(scene.zero)} workload containers still run`;
}
