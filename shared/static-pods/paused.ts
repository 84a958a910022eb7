/** What part 0 has paused, and what the line of an older kit has paused beside it. */
import { $ } from "zx/core";
import { knownHere, stoppedProcesses } from "../evidence/owners.ts";
import type { Container } from "../node/containers.ts";
import { act, say } from "../run.ts";
import { COMM, shell } from "../shell-line.ts";

/** Whether this node's controller-manager is: nothing but a restart wakes it. */
export function managerIsPaused(all: readonly Container[]): boolean {
  return stoppedProcesses(knownHere(all)).some(({ isManager }) => isManager);
}

/**
 * Continues what has the controller-manager's name and is not this node's own: an older kit paused all of that name, and nothing else
 * continues it. What is called otherwise somebody else has stopped: it is named.
 */
export async function continueOthers(all: readonly Container[]) {
  for (const { pid, comm, of, isManager } of stoppedProcesses(knownHere(all))) {
    const [what, line] = [`${comm} (pid ${pid}) of ${of}`, shell`kill -CONT ${String(pid)}`];
    if (comm === MANAGERS && !isManager)
      // the program: a shell has a kill of its own
      await act(`${what}: continued; the line of an older kit pauses all of this name`, () => $({ quiet: true })`env kill -CONT ${pid}`);
    else if (!isManager) say(`${what} is stopped, and not by this kit. To continue it: ${line}`);
  }
}

const MANAGERS = "kube-controller-manager".slice(0, COMM);
