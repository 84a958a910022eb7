/**
 * A drill before the disaster, and its prediction held against the outcome: on each control plane node, file
 * by file and field by field. What a file says after the repair is read by a second drill, which reads the
 * disk; which files there are is read from the disk itself.
 */
import { type ComparedFile, type Fields, fieldDifferences } from "../../../shared/drill/compared.ts";
import type { Drill } from "../../../shared/drill/drill.ts";
import { Fail } from "../../../shared/fail.ts";
import { redact } from "../../../shared/plain.ts";
import type { Machine } from "../machine/machine.ts";
import { changedFiles, filesOf } from "../report/footprint.ts";
import { KIT, note, type Scenario, type Scene } from "./scene.ts";

type Line = Scenario["lines"][number];

/** The two lines that a scenario puts around its disaster and its repair. */
export function drilled(): Record<"before" | "outcome", Line> {
  const foretold = new Map<Machine, Drill>();
  return {
    before: {
      title: "On a quiet afternoon: a drill on each control plane node",
      async run(scene) {
        for (const node of scene.lab.controlPlanes) foretold.set(node, await drillOn(scene, node));
      },
    },
    outcome: {
      title: "What the drill has foretold, beside what the repair has made",
      async run(scene) {
        for (const [node, drill] of foretold)
          compareWith(scene, node, { drill, now: await drillOn(scene, node) });
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
