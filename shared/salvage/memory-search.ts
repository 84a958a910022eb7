/** Rung 2: what the memory of the control plane's processes brings to a haul. */
import type { KeyObject } from "node:crypto";
import type { EtcdData } from "../etcd-data/data.ts";
import { leaderIn } from "../facts/evidence.ts";
import { Fail } from "../fail.ts";
import { type Container, containers } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { say } from "../run.ts";
import { knownHere } from "../trust/process-owner.ts";
import { Budget } from "./budget.ts";
import type { Haul } from "./haul.ts";
import { searchProcess } from "./memory/memory.ts";
import { type Holders, holders, type Process } from "./memory/processes.ts";

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

export interface MemoryPlace {
  data: EtcdData | undefined;
  processes: Holders;
  stop?: AbortSignal | undefined;
}

/** Process after process, those that hold the most first, until nothing is missing. Reads only. */
export async function searchMemory(haul: Haul, { data, processes, stop }: MemoryPlace) {
  const leader = leaderIn(data);
  if (leader) say(`the controller-manager that leads, and alone holds ca.key, is the one on ${leader}`);
  for (const { pid, name, owner } of processes.others)
    say(`${name} (pid ${pid}): not searched: it is only called so, and is ${owner.is}; if it is yours: --pid ${pid}`);
  if (processes.own.length === 0) return say("no process of the control plane runs here any more");
  say(`each process is read for ${LIMITS.seconds} s and ${LIMITS.bytes / 1e9} GB at most`);
  for (const process of processes.own) {
    if (haul.targets().length === 0 || stop?.aborted) return;
    await searchOne(haul, process, stop);
  }
}

/** What is found counts at once, whatever becomes of the rest. */
async function searchOne(haul: Haul, process: Process, stop: AbortSignal | undefined) {
  const where = `${process.name} (pid ${process.pid})`;
  const budget = new Budget({ ...LIMITS, what: where, stop, hint: "run it again when the machine is less busy" });
  let found = 0;
  const onKey = (key: KeyObject) => {
    if (haul.accept(key, `the memory of ${where}`)) found++;
  };
  try {
    const { megabytes, seconds } = await searchProcess(process, haul.targets(), { budget, onKey });
    say(`${where}: ${Math.round(megabytes)} MB in ${seconds.toFixed(1)} s, ${found === 0 ? "none of them" : `${found} found`}`);
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    say(`${where}: not read${found > 0 ? " to its end" : ""}: ${err.message}; ${err.hint}`);
  }
}
