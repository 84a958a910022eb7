/**
 * A drill before the disaster, and its prediction held against the outcome: on each control plane node, file
 * by file and field by field. What a file says after the repair is read by a second drill, which reads the
 * disk; which files there are is read from the disk itself.
 */
import type { ComparedFile, Drill } from "../../../shared/drill/drill-report.ts";
import { type Fields, fieldDifferences } from "../../../shared/drill/file-fields.ts";
import { Fail } from "../../../shared/fail.ts";
import { redact } from "../../../shared/redact.ts";
import type { Machine } from "../machine/machine.ts";
import { changedFiles, filesOf } from "../report/footprint.ts";
import { list } from "../report/snapshot.ts";
import { KIT, note, type Scenario, type Scene } from "./scene.ts";

type Line = Scenario["lines"][number];

/** The two lines that a scenario puts around its disaster and its repair. */
export function drilled(): Record<"before" | "outcome", Line> {
  const foretold = new Map<Machine, Drill>();
  let pods = new Map<string, string>();
  return {
    before: {
      title: "On a quiet afternoon: a drill on each control plane node",
      async run(scene) {
        for (const node of scene.lab.controlPlanes) foretold.set(node, await drillOn(scene, node));
        pods = await uidsOf(scene);
      },
    },
    outcome: {
      title: "What the drill has foretold, beside what the repair has made",
      async run(scene) {
        for (const [node, drill] of foretold)
          compareWith(scene, node, { drill, now: await drillOn(scene, node) });
        const now = await uidsOf(scene);
        // What was on a machine that was off has started with it.
        const wasOff = await podsOn(scene, scene.away);
        const restarted = [...pods].flatMap(([name, uid]) =>
          now.get(name) === uid || wasOff.has(name) ? [] : [name],
        );
        for (const [node, drill] of foretold) compareRestarts(scene, node, { drill, restarted, wasOff });
      },
    },
  };
}

const COMMAND = "./bunw scripts/drill.ts --json";

/**
 * Not a step: what an operator types counts from the damage on. Errors: Fail where the drill does not end as
 * it may.
 */
async function drillOn(scene: Scene, node: Machine): Promise<Drill> {
  const before = filesOf(node);
  const began = Date.now();
  const { stdout, stderr, exitCode } = await node.run(["env", "HOME=/root", "bash", "-c", COMMAND], {
    cwd: KIT,
    env: scene.lab.profile.shell,
  });
  const { what } = redact(stdout + stderr);
  if (what) scene.leaks.push(`${what}: ${COMMAND} on ${node.name}`);
  if (exitCode !== 0 && exitCode !== 2)
    throw new Fail(
      `The drill on ${node.name} exited ${exitCode}: ${stderr.trim().split("\n").slice(-2).join(" ")}`,
      {
        hint: `${COMMAND} there, with --keep`,
      },
    );
  const changed = changedFiles(before, filesOf(node));
  ask(scene, `the drill changes no file on ${node.name}`, changed);
  const drill = JSON.parse(stdout) as Drill;
  note(
    scene,
    `drill on ${node.name}`,
    `${((Date.now() - began) / 1000).toFixed(1)} s, ${drill.allBack ? "all" : "not all"} would come back`,
  );
  for (const line of drill.todo) scene.say(`  ${line.replaceAll("\n", " | ")}`);
  return drill;
}

function compareWith(scene: Scene, node: Machine, { drill, now }: { drill: Drill; now: Drill }) {
  const made = drill.files.filter(({ back }) => back);
  const fields = made.reduce((sum, { back }) => sum + Object.values(back!).flat().length, 0);
  const wrong = made.flatMap((file) => wrongIn(file, now.files.find(({ path }) => path === file.path)?.here));
  ask(
    scene,
    `${node.name}: what the drill foretold is what the repair made`,
    wrong,
    `${made.length} files, ${fields} fields`,
  );
  const there = [...filesOf(node).keys()].filter(
    (path) => path.startsWith("/etc/kubernetes/") && !path.includes("/.kube-pki-repair-"),
  );
  const known = new Set([...made, ...drill.lost].map(({ path }) => path));
  const isLost = (path: string) => drill.lost.some((file) => path.startsWith(`${file.path}/`));
  const unforetold = there.filter((path) => !known.has(path) && !isLost(path));
  ask(
    scene,
    `${node.name}: no file is there that the drill did not foretell`,
    unforetold,
    `${there.length} files`,
  );
  const late = drill.others.filter((path) => there.includes(path));
  ask(
    scene,
    `${node.name}: what the drill called not rebuilt did not come back`,
    late,
    `${drill.others.length} files`,
  );
}

/**
 * `namespace/name` → UID of every pod that stays: one that was told to end may take half a minute. A mirror
 * pod's UID changes with its static pod, and no part restarts one as a pod.
 */
async function uidsOf({ lab }: Scene): Promise<Map<string, string>> {
  const isMirror = ({ annotations }: { annotations?: Record<string, string> }) =>
    annotations?.["kubernetes.io/config.mirror"];
  const pods = (await list(lab, "pods")).filter(
    ({ metadata }) => !isMirror(metadata) && !metadata.deletionTimestamp,
  );
  return new Map(pods.map(({ metadata }) => [`${metadata.namespace}/${metadata.name}`, metadata.uid]));
}

/** `namespace/name` of the pods on these nodes. */
async function podsOn({ lab }: Scene, nodes: readonly string[]): Promise<Set<string>> {
  const pods = (await list(lab, "pods")).filter(({ spec }) => nodes.includes(spec?.nodeName));
  return new Set(pods.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`));
}

/** What is left to people, they may have restarted. */
function compareRestarts(
  scene: Scene,
  node: Machine,
  { drill, restarted, wasOff }: { drill: Drill; restarted: string[]; wasOff: ReadonlySet<string> },
) {
  const { unknown, workloads, left } = drill.restarts;
  const podsIn = (all: typeof workloads) =>
    all.flatMap(({ workload, pods }) => pods.map((pod) => `${workload.split("/")[0]}/${pod}`));
  const [meant, mayBe] = [podsIn(workloads), podsIn(left)];
  const stayed = meant
    .filter((name) => !restarted.includes(name) && !wasOff.has(name))
    .map((name) => `${name} did not restart`);
  const more = restarted
    .filter((name) => ![...meant, ...mayBe].includes(name))
    .map((name) => `${name} restarted`);
  const wrong = unknown === undefined ? [...stayed, ...more] : [unknown];
  ask(
    scene,
    `${node.name}: these pods restarted, as the drill foretold`,
    wrong,
    `${meant.length} pods, ${mayBe.length} left to people`,
  );
}

/** A field that says something else than foretold. */
function wrongIn({ path, back }: ComparedFile, here: Fields | undefined): string[] {
  if (!here) return [`${path}: missing`];
  return fieldDifferences(withoutHidden(back!), withoutHidden(here)).map(
    (difference) => `${path}: ${difference}`,
  );
}

/** What may be a secret looks different in each run. */
function withoutHidden(fields: Fields): Fields {
  return JSON.parse(JSON.stringify(fields).replaceAll(/\(hidden, \w+\)/g, "(hidden)")) as Fields;
}

/** A check whose list of differences should be empty. */
function ask(scene: Scene, name: string, differences: readonly string[], counted = "") {
  scene.checks.push({
    name,
    ok: differences.length === 0,
    detail: differences.slice(0, 20).join("; ") || counted,
  });
}
