/** Rung 2: what the memory of the control plane's processes brings to a haul. */
import type { KeyObject } from "node:crypto";
import type { EtcdData } from "../etcd-data/data.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { leaderIn, readEvidence } from "../facts/evidence.ts";
import { Fail } from "../fail.ts";
import { type Container, containers } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import type { Finding } from "../pki/examine.ts";
import { say } from "../run.ts";
import { knownHere } from "../trust/process-owner.ts";
import { Budget } from "./budget.ts";
import { FoundKeys } from "./found-keys.ts";
import { searchProcess } from "./memory/memory.ts";
import { type Holders, holders, type Process } from "./memory/processes.ts";
import { isDear, wantedKeys } from "./wanted-keys.ts";

/** For each process. A control plane of thousands of nodes takes some tens of GB. */
const LIMITS = { seconds: 300, bytes: 256e9 };

/** The control plane's processes on this node: told by the runtime's containers, and by the kubelet's records where it does not answer. */
export async function processesHere(node: Node | undefined): Promise<Holders> {
  return holders(knownHere(node ? await containersOf(node) : []));
}

async function containersOf({ runtimeEndpoint }: Node): Promise<Container[]> {
  try {
    return await containers(runtimeEndpoint);
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    say(`${err.message}: processes are told by the kubelet's records`);
    return [];
  }
}

interface MemoryPlace {
  data: EtcdData | undefined;
  processes: Holders;
  stop?: AbortSignal | undefined;
}

/** Process after process, those that hold the most first, until nothing is missing. Reads only. */
export async function searchMemory(foundKeys: FoundKeys, { data, processes, stop }: MemoryPlace) {
  const leader = leaderIn(data);
  if (leader) say(`the controller-manager that leads, and alone holds ca.key, is the one on ${leader}`);
  for (const { pid, name, owner } of processes.others)
    say(`${name} (pid ${pid}): not searched: it is only called so, and is ${owner.is}; if it is yours: --pid ${pid}`);
  if (processes.own.length === 0) return say("no process of the control plane runs here any more");
  say(`each process is read for ${LIMITS.seconds} s and ${LIMITS.bytes / 1e9} GB at most`);
  for (const process of processes.own) {
    if (foundKeys.targets().length === 0 || stop?.aborted) return;
    await searchOne(foundKeys, process, stop);
  }
}

/** What is found counts at once, whatever becomes of the rest. */
async function searchOne(foundKeys: FoundKeys, process: Process, stop: AbortSignal | undefined) {
  const where = `${process.name} (pid ${process.pid})`;
  const budget = new Budget({ ...LIMITS, what: where, stop, hint: "run it again when the machine is less busy" });
  let found = 0;
  const onKey = (key: KeyObject) => {
    if (foundKeys.accept(key, `the memory of ${where}`)) found++;
  };
  try {
    const { megabytes, seconds } = await searchProcess(process, foundKeys.targets(), { budget, onKey });
    say(`${where}: ${Math.round(megabytes)} MB in ${seconds.toFixed(1)} s, ${found === 0 ? "none of them" : `${found} found`}`);
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    say(`${where}: not read${found > 0 ? " to its end" : ""}: ${err.message}; ${err.hint}`);
  }
}

/**
 * Part 1 stops what still runs of the old control plane, and its memory is gone then. Errors: Fail where it holds one of these keys. Only where
 * ca.key is gone for good, sa.key alone does not stop it: an API server that is ending holds that for a minute, and pods restart anyway.
 */
export async function refuseWhereMemoryHasThem(made: readonly Finding[], cp: ControlPlaneNode) {
  // One that has ended is of no use, wherever it is.
  const lost = made.filter(({ name, state }) => isDear({ name }) && state !== "expired").map(({ name }) => name);
  if (lost.length === 0) return;
  const known = readEvidence({ data: cp.data, node: cp.node, certificatesDir: cp.facts.certificatesDir });
  const wanted = wantedKeys(known, { certificatesDir: cp.facts.certificatesDir }).filter(({ name }) => lost.includes(name));
  const foundKeys = new FoundKeys(wanted, { stash: false });
  await searchMemory(foundKeys, { data: cp.data, processes: await processesHere(cp.node) });
  // any generation: which one is in use is for 00-salvage to say, not for whoever ends the process
  const found = wanted.flatMap((one) => foundKeys.foundOf(one).slice(0, 1));
  if (found.length === 0) return;
  if (lost.includes("ca") && !found.some(({ wanted: { name } }) => name === "ca"))
    return say(
      "ca.key is lost, so that all goes on by a new CA (to keep old tokens valid, too: ./bunw scripts/00-salvage.ts memory before this)",
    );
  throw new Fail(`${found.map(({ wanted, from }) => `${wanted.keyFile} is still in ${from}`).join(", ")}: no new one is needed`, {
    hint: "./bunw scripts/00-salvage.ts memory puts back what is found; then ./bunw scripts/00-assess.ts says how to go on",
  });
}
