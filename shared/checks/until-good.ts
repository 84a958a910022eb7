/** Looks again until nothing fails: after a repair, or after a restart of a node, some things take their time. */
import { mode, say } from "../run.ts";
import { undefinedOnTimeout, waitFor } from "../wait-for.ts";
import type { Check } from "./check.ts";

interface Found {
  checks: readonly Check[];
}

/** The last look: one where nothing failed, or the one at the end of these seconds. 0: looks no more. */
export async function untilGood<T extends Found>(first: T, look: () => Promise<T>, seconds: number): Promise<T> {
  let now = first;
  if (seconds === 0 || failedOf(now).length === 0) return now;
  say(`waiting, ${seconds} s at most, for ${nameFailed(now)}`);
  mode.again = true;
  const isGood = async () => {
    now = await look();
    return failedOf(now).length === 0;
  };
  const hint = "Ctrl-C ends it; 05-verify without --wait says what mends it";
  await undefinedOnTimeout(waitFor(() => nameFailed(now), isGood, { seconds, easing: true, hint }));
  return now;
}

function failedOf({ checks }: Found): Check[] {
  return checks.filter(({ result }) => result === "failed");
}

/** The first of them by name: a cluster may have thousands of nodes. */
function nameFailed(found: Found): string {
  const names = failedOf(found).map(({ area, what }) => `${area}: ${what}`);
  return names.length > 3 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.join(", ");
}
