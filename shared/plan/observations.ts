/** Steps of a plan that are done already, as far as it was seen when the plan was made. */
import type { Assessment } from "../assess/assessment.ts";
import type { LostNodes, Task } from "../facts/course.ts";
import { CERTS } from "../pki/certs.ts";
import { listed } from "../plain.ts";
import { KIT } from "./effort.ts";
import {
  type AnsweredNode,
  heldAt,
  isSearched,
  kindsOf,
  type NodeAnswers,
  type Observation,
} from "./node-answers.ts";
import type { PlanStep } from "./step-order.ts";

type Observations = Partial<Record<Task | "kit", readonly Observation[]>>;

interface Around {
  answers: Pick<NodeAnswers, "nodes">;
  lost: Pick<LostNodes, "controlPlanes">;
  made: { backup: boolean; report: boolean };
}

export function observationsOf(here: Assessment, { answers, lost, made }: Around, at: Date): Observations {
  const others = answers.nodes.filter(({ name }) => name !== here.node);
  const held = [heldAt(here, here.node, at), ...others.map(({ held }) => held)];
  const makesKeys = here.course?.some((task) => task === "new-cas" || task === "new-internal-cas");
  const newCa = here.ca.copies.find(({ is }) => is === "new in this repair")?.hash;
  const well = others.filter(
    ({ damaged, trusts }) => !makesKeys && !damaged && (newCa === undefined || trusts.includes(newCa)),
  );
  const sight = (what: string) => (node: Pick<AnsweredNode, "name" | "made">) => ({
    on: node.name,
    at: node.made,
    what,
    isWhole: true,
  });
  const own = here.damaged ? [] : [{ name: here.node, made: at }];
  const kept = (is: boolean, what: string) => (is ? own.map(sight(what)) : []);
  const done = [...own, ...well.filter(({ controlPlane }) => controlPlane)].map(
    sight("nothing is damaged there"),
  );
  return {
    hold: held.flatMap((one) => one ?? []),
    kit: others.map(sight("the kit is there")),
    "old-cas": done,
    unpack: done,
    "etcd-there": done,
    // it takes lost members out
    "control-plane": lost.controlPlanes.length > 0 ? [] : done,
    report: kept(made.report, "report.html is there"),
    backup: kept(made.backup, "a backup of these keys was made"),
    join: newCa ? well.map(sight("its kubelet trusts the new CA")) : [],
  };
}

export function withSights<S extends PlanStep>(steps: readonly S[], sights: Observations) {
  return steps.map((step) => {
    const task = step.does === KIT.does ? "kit" : step.task;
    return { ...step, observations: (task && sights[task])?.filter(({ on }) => step.on.includes(on)) ?? [] };
  });
}

/** A box is ticked where all of it was seen. */
export function isSeenDone({
  on,
  observations,
}: {
  on: readonly string[];
  observations: readonly Observation[];
}): boolean {
  return (
    on.length > 0 && on.every((name) => observations.some((sight) => sight.on === name && sight.isWhole))
  );
}

/** "Seen at 01:20 UTC on cp1, cp2: the kubelet is stopped". */
export function inSentences(observations: readonly Observation[]): string[] {
  const same = Map.groupBy(observations, ({ at, what }) => `${inUtc(at)} ${what}`);
  return [...same.values()].map(
    (all) => `Seen at ${inUtc(all[0]!.at)} on ${listed(all.map(({ on }) => on))}: ${all[0]!.what}`,
  );
}

/** "01:20 UTC". */
export function inUtc(at: Date): string {
  return `${at.toISOString().slice(11, 16)} UTC`;
}

/** Empty if nobody has searched for the keys. */
export function lostKeys(deep: Assessment["deep"]): string[] {
  return (deep?.keys ?? []).flatMap(({ name, places }) => (places.some(({ found }) => found) ? [] : [name]));
}

export function keyFiles(names: readonly string[]): string {
  return names.map((name) => `${CERTS.find((row) => row.name === name)?.file ?? name}.key`).join(", ");
}

/** A node's words about itself, in ours. This one was looked at now. */
export function saidBy(name: string, { nodes, silent }: NodeAnswers, here: Assessment): { said?: string } {
  if (name === here.node) return { said: damageHere(here).join("; ") };
  if (silent.includes(name)) return { said: "Asked, and no answer" };
  const node = nodes.find((one) => one.name === name);
  return node ? { said: `At ${inUtc(node.made)}: ${damageOf(node).join("; ")}` } : {};
}

function damageHere({ damaged, damage, deep, lostFiles = [] }: Assessment): string[] {
  if (!damaged) return ["nothing is damaged"];
  const lost = lostKeys(deep);
  const files = lostFiles.map(({ path }) => path);
  return [...(lost.length > 0 ? [`lost: ${keyFiles(lost)}`] : []), ...inKinds(kindsOf(damage), files)];
}

function inKinds(kinds: readonly string[], files: readonly string[]): string[] {
  return [
    ...(kinds.length > 0 ? [`damaged: ${kinds.join(", ")}`] : []),
    ...(files.length > 0 ? [`lost, and no script makes it: ${listed(files)}`] : []),
  ];
}

function damageOf(node: AnsweredNode): string[] {
  if (!node.damaged) return ["nothing is damaged"];
  const { controlPlane, lacks, lostData, held } = node;
  const words: string[] = [];
  if (lostData) words.push("no data of etcd is found");
  else if (controlPlane && !isSearched(node)) words.push("its memory was not searched to its end");
  else if (controlPlane) words.push(lacks?.length ? `lost: ${keyFiles(lacks)}` : "no key is lost");
  if (node.otherKeys) words.push("other keys are in the way");
  if (!controlPlane) words.push(node.joins ? "has to join again" : "damaged, and need not join");
  if (held) words.push(held.what);
  return [...words, ...inKinds(node.kinds, node.lostFiles)];
}
