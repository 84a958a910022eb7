/** Where the lab's workloads leave their heartbeats. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { type Beat, readBeats } from "./heartbeat.ts";
import type { Lab } from "./machine.ts";

/** The hostPath folder of the workloads; a file NAME.jsonl for each caller. */
export const FOLDER = "/var/log/heartbeat";

/** What each caller does, by the beginning of its file's name. */
const CALLERS: Record<string, string> = {
  service: "a pod calls a Service by its IP every 200 ms",
  "asker-cached": "a pod asks the API with the token it read at its start",
  asker: "a pod asks the API and reads its token anew each time",
};

export function readHeartbeats(lab: Lab): { name: string; what: string; beats: Beat[] }[] {
  const beats = new Map<string, Beat[]>();
  for (const node of lab.nodes) {
    const folder = node.path(FOLDER);
    for (const file of existsSync(folder) ? readdirSync(folder).sort() : []) {
      const name = Object.keys(CALLERS).find((caller) => file.startsWith(caller)) ?? file;
      beats.set(name, [...(beats.get(name) ?? []), ...readBeats(readFileSync(`${folder}/${file}`, "utf8"))]);
    }
  }
  return [...beats].map(([name, all]) => ({ name, what: CALLERS[name] ?? "", beats: all.sort((a, b) => a.t - b.t) }));
}
