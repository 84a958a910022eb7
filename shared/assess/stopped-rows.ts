/** Processes of this node's pods that a signal has stopped: their rows, and the line that continues them. */

import { inLines } from "../again.ts";
import type { StoppedProcess } from "../evidence/owners.ts";
import { shell } from "../shell-line.ts";
import { type Assessment, isDamage, type Row } from "./assessment.ts";

/** What was stopped by a signal, and is not to be, is continued before all else. */
export function withStopped(assessed: Assessment, stopped: readonly StoppedProcess[]): Assessment {
  const rows = stoppedRows(
    stopped,
    assessed.damage.find(({ id }) => id === "kubelet"),
  );
  const pids = stopped.flatMap(({ pid }, i) => (isDamage(rows[i]!) ? [String(pid)] : []));
  const all = { ...assessed, damage: [...assessed.damage, ...rows] };
  if (pids.length === 0) return all;
  const next = inLines([{ command: shell`kill -CONT ${pids}`, note: "processes of kube-system that a signal has stopped" }]);
  const verdict = assessed.damaged
    ? assessed.verdict
    : `a signal has stopped what must run: ${rows
        .filter(isDamage)
        .map(({ what }) => what)
        .join(", ")}`;
  return { ...all, damaged: true, verdict, next: [...next, ...(assessed.damaged ? assessed.next : [])] };
}

/** Part 0 pauses the controller-manager of a node whose kubelet it stops: that is no damage. */
function stoppedRows(stopped: readonly StoppedProcess[], kubelet: Row | undefined): Row[] {
  return stopped.map(({ pid, comm, of, isManager, inKubeSystem }) => {
    const isMeant = isManager && kubelet?.state !== "ok";
    const undo = shell`kill -CONT ${String(pid)}`;
    const detail = isMeant ? `paused, as part 0 does: part 1 or 2 ends it. Undo: ${undo}` : `of ${of}, stopped by a signal: ${undo}`;
    const state = isMeant || !inKubeSystem ? "known" : "!STOPPED!";
    return { id: "stopped-process", what: `${isManager ? "kube-controller-manager" : comm} (pid ${pid})`, state, detail };
  });
}
