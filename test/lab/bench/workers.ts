/**
 * How long a repair takes with more workers: the same damage with 1, 2, 4 and 8 real kubelets, one cluster
 * after the other.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import type { Rehearsal } from "../report/rehearsal.ts";

const WORKERS = [1, 2, 4, 8];

export async function workersLines(): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), "bench-workers-"));
  try {
    const records: Rehearsal[] = [];
    for (const workers of WORKERS) records.push(await rehearse(workers, join(folder, `${workers}.json`)));
    return records.map(line);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** In a process of its own, as an operator starts it. */
async function rehearse(workers: number, json: string): Promise<Rehearsal> {
  const command = [
    process.execPath,
    join(import.meta.dir, "../rehearse.ts"),
    "--workers",
    `${workers}`,
    "--json",
    json,
    "--html",
    `${json}.html`,
  ];
  const exitCode = await Bun.spawn(command, { stdout: "ignore", stderr: "inherit" }).exited;
  if (exitCode !== 0)
    throw new Fail(`The rehearsal with ${workers} workers did not recover`, {
      hint: `npm run rehearse -- --workers ${workers}`,
    });
  return JSON.parse(readFileSync(json, "utf8")) as Rehearsal;
}

function line({ nodes, seconds, freshInitAndJoinSeconds, ratio }: Rehearsal): string {
  const [ready, well] = [seconds.repairCommands, seconds.commandsToWorkloadsOk].map(
    (value) => value?.toFixed(1) ?? "-",
  );
  return `${nodes.length - 1} workers: all nodes back ${ready} s after the first command, all clients and pods well ${well} s; fresh init + join ${freshInitAndJoinSeconds.toFixed(1)} s, ratio ${ratio?.toFixed(2) ?? "-"}`;
}
