/** Rung 2: searches the memory of the control plane's processes for the lost keys. */
import type { KeyObject } from "node:crypto";
import type { EtcdData } from "../etcd-data/data.ts";
import { knownHere } from "../evidence/owners.ts";
import { leaderHost } from "../facts/leaders.ts";
import { Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { type Container, containers } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { say } from "../run.ts";
import { Budget } from "./budget.ts";
import type { FoundKeys } from "./found-keys.ts";
import { type Holders, holders, type Process } from "./memory/processes.ts";
import { searchProcess } from "./memory/search-process.ts";
import { isIrreplaceable } from "./wanted-keys.ts";

/** For each process. A control plane of thousands of nodes takes some tens of GB. */
const LIMITS = { seconds: 300, bytes: 256e9 };

/**
 * The control plane's processes on this node, by the runtime's containers, or by the kubelet's records where
 * no runtime answers.
 */
export async function processesHere(node: Node | undefined): Promise<Holders> {
  return holders(knownHere(node ? await containersOf(node) : []));
}

async function containersOf({ runtimeEndpoint }: Node): Promise<Container[]> {
  try {
    return await containers(runtimeEndpoint);
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    say(`${err.message}: using the kubelet's records to tell processes apart`);
    return [];
  }
}

/**
 * Process after process, those that hold the most first, until nothing is missing. Reads only. Returns those that
 * run, and were not read to their end: what is in them nobody knows.
 */
export async function searchMemory(
  foundKeys: FoundKeys,
  {
    data,
    processes,
    stop,
  }: { data: EtcdData | undefined; processes: Holders; stop?: AbortSignal | undefined },
): Promise<Process[]> {
  const leader = leaderHost(data);
  if (leader)
    say(
      `the last leader of the controller-managers was on ${leader}: only that process holds ca.key in memory`,
    );
  for (const { pid, comm, owner } of processes.others)
    say(
      `${comm} (pid ${pid}): not searched: it only has this name, and is ${owner.is}. If you know that it is yours: --pid ${pid}`,
    );
  if (processes.own.length === 0) {
    say("no process of the control plane runs on this node: nothing can be read from memory here");
    return [];
  }
  say(`reading each process for at most ${LIMITS.seconds} s and ${LIMITS.bytes / 1e9} GB`);
  const unread: Process[] = [];
  for (const process of processes.own) {
    if (foundKeys.targets().length === 0) return [];
    if (stop?.aborted || !(await searchOne(foundKeys, process, stop))) unread.push(process);
  }
  return unread.filter(({ pid }) => exists(`/proc/${pid}/maps`));
}

/**
 * Those of these that may hold one of these shared keys: only a controller-manager holds ca.key; an API server holds
 * sa.key as well, and beside a lost ca.key that alone is not waited for.
 */
export function mayHold(unread: readonly Process[], keys: readonly string[]): Process[] {
  const holders = ["kube-controller-manager", ...(keys.includes("ca") ? [] : ["kube-apiserver"])];
  return keys.some((name) => isIrreplaceable({ name }))
    ? unread.filter(({ name }) => holders.includes(name))
    : [];
}

/** A found key counts at once, whatever ends the search. Returns whether that came to the process's end. */
async function searchOne(
  foundKeys: FoundKeys,
  process: Process,
  stop: AbortSignal | undefined,
): Promise<boolean> {
  const where = `${process.name} (pid ${process.pid})`;
  const budget = new Budget({
    ...LIMITS,
    what: where,
    stop,
    hint: "run it again when this node is less busy",
  });
  let found = 0;
  const onKey = (key: KeyObject) => {
    if (foundKeys.accept(key, `the memory of ${where}`)) found++;
  };
  try {
    const { megabytes, seconds } = await searchProcess(process, foundKeys.targets(), { budget, onKey });
    say(
      `${where}: ${Math.round(megabytes)} MB in ${seconds.toFixed(1)} s, ${found === 0 ? "no lost key" : `${found} found`}`,
    );
    return true;
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    say(`${where}: not read to its end: ${err.message}; ${err.hint}`);
    return false;
  }
}
