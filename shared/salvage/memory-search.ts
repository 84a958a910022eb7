/** Rung 2: what the memory of the control plane's processes brings to a haul. */
import type { EtcdData } from "../etcd/data.ts";
import { Fail } from "../fail.ts";
import { say } from "../run.ts";
import type { Haul } from "./haul.ts";
import { leaderIn } from "./known.ts";
import { searchProcess } from "./memory/memory.ts";
import { holders } from "./memory/processes.ts";

/** Process after process, those that hold the most first, until nothing is missing. Reads only. */
export async function searchMemory(haul: Haul, data: EtcdData | undefined) {
  const processes = holders();
  const leader = leaderIn(data);
  if (leader) say(`the controller-manager that leads, and alone holds ca.key, is the one on ${leader}`);
  if (processes.length === 0) return say("no process of the control plane runs here any more");
  for (const process of processes) {
    const targets = haul.targets();
    if (targets.length === 0) return;
    const where = `${process.name} (pid ${process.pid})`;
    try {
      const { keys, megabytes, seconds } = await searchProcess(process, targets);
      say(`${where}: ${Math.round(megabytes)} MB in ${seconds.toFixed(1)} s, ${keys.size === 0 ? "none of them" : `${keys.size} found`}`);
      for (const key of keys.values()) haul.accept(key, `the memory of ${where}`);
    } catch (err) {
      if (!(err instanceof Fail)) throw err;
      say(`${where}: not read: ${err.message}; ${err.hint}`);
    }
  }
}
