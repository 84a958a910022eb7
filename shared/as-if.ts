/**
 * The programs as a dry run leaves them: a later look in the same process sees a container or a unit stopped that the run
 * would have stopped. files/root.ts remembers its files in the same way.
 */
import { mode } from "./run.ts";

type State = "runs" | "stopped";

/** The key is a container's id, or a unit's name. */
const states = new Map<string, State>();

/** Does nothing in a run that writes: the machine itself says it there. */
export function noteState(what: string, state: State) {
  if (mode.dryRun) states.set(what, state);
}

/** Undefined: the dry run has not touched it. */
export function stateAsIf(what: string): State | undefined {
  return states.get(what);
}

/** Whatever is noted from here on is forgotten when the returned function is called. */
export function rememberStates(): () => void {
  const before = [...states];
  return () => {
    states.clear();
    for (const [what, state] of before) states.set(what, state);
  };
}

export function forgetStates() {
  states.clear();
}
