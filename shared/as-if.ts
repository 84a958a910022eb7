/**
 * The programs as a dry run leaves them: a later look in the same process sees a container or a unit stopped that the run
 * would have stopped. files/root.ts remembers its files in the same way.
 */
import { mode } from "./run.ts";

type State = "runs" | "stopped";

/** The key is a container's id, or a unit's name. */
const states = new Map<string, State>();

/** Names of the containers and units that were stopped, in their order. */
const stops: string[] = [];

/** Does nothing in a run that writes: the machine itself says it there. */
export function noteState(what: string, state: State) {
  if (mode.dryRun) states.set(what, state);
}

/** Notes that it ends. `name`: in words for the operator. */
export function noteStop(what: string, name: string) {
  noteState(what, "stopped");
  if (mode.dryRun) stops.push(name);
}

/** The returned function says what has ended since, each name once. */
export function stopsSince(): () => string[] {
  const before = stops.length;
  return () => [...new Set(stops.slice(before))];
}

/** Returns undefined if the dry run has not changed it. */
export function stateAsIf(what: string): State | undefined {
  return states.get(what);
}

/** Whatever is noted from here on is forgotten when the returned function is called. */
export function rememberStates(): () => void {
  const [before, stopsBefore] = [[...states], stops.length];
  return () => {
    stops.length = stopsBefore;
    states.clear();
    for (const [what, state] of before) states.set(what, state);
  };
}

export function forgetStates() {
  stops.length = 0;
  states.clear();
}
