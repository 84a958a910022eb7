/**
 * The command that can run now. A part of the repair that needs an earlier one names that one first; where lost keys have
 * to be judged, 00-assess comes first.
 */
import type { Todo } from "../again.ts";
import { kitCommand } from "../screen-width.ts";
import { causesOf } from "./causes.ts";
import { type Check, hasFailed } from "./check.ts";
import { ASSESS, KINDS, PART_1, PART_2 } from "./kinds.ts";

/** A part of the repair, alone or with words behind it. */
const PART = /^\.\/bunw scripts\/0[1-4]-[\w-]+\.ts/;

const mendsOf = (checks: readonly Check[]) => [...new Set(checks.flatMap(({ mend }) => mend ?? []))];

/** `shown`: the checks of one cause. `all`: every check of this look. */
export function wayOf(shown: readonly Check[], all: readonly Check[]): string {
  const mends = mendsOf(shown);
  const needed = mendsOf(all.filter((check) => hasFailed(check) && check.cause === undefined));
  const parts = mends.flatMap((mend) => PART.exec(mend)?.[0] ?? []);
  const isForAssess = (mend: string) => mend.startsWith(ASSESS);
  if (mends.some(isForAssess) || (parts.length > 0 && needed.some(isForAssess))) return ASSESS;
  const isSecond = parts.includes(PART_2) && needed.some((mend) => mend.startsWith(PART_1));
  const all12 = [...new Set([...(isSecond ? [PART_1] : []), ...parts])].sort();
  if (all12.length > 1) return all12.join(", then ");
  return mends.length > 1 ? KINDS[shown[0]!.id].mend.replace("…", "NODE") : mends[0]!;
}

/**
 * The commands that come next, none twice; empty if nothing has failed, or no command of this kit mends it. `others`: the
 * other control plane nodes, whose files this look has not seen.
 */
export function nextCommands(checks: readonly Check[], others: readonly string[] = []): Todo[] {
  const failed = causesOf(checks).filter(({ shown }) => shown.some(hasFailed));
  if (failed.some(({ shown }) => shown[0]!.id === "clock")) return [];
  const ways = failed.map(({ shown }) => wayOf(shown, checks));
  if (ways.includes(ASSESS))
    return [{ command: ASSESS, note: "names the commands of the repair; reads only" }];
  const parts = ways.flatMap((way) => (PART.test(way) ? way.split(", then ") : []));
  const todos = new Map(parts.map((way) => [kitCommand(way), way]));
  const own = [...todos].sort().map(([line, way]) => withNote(line, way.slice(line.length).trim()));
  if (own.length === 0 || others.length === 0) return own;
  const look = { command: ASSESS, on: others.join(", "), note: "they have files of their own; reads only" };
  return [...own, look];
}

const withNote = (line: string, note: string): Todo => ({ command: line, ...(note && { note }) });

/** The end of a look that found damage; undefined if nothing has failed. */
export function hintOf(checks: readonly Check[]): string | undefined {
  if (!checks.some(hasFailed)) return undefined;
  const next = nextCommands(checks);
  return next.length > 0
    ? next.map((todo) => todo.command).join(", then ")
    : "type what repairs each, then run the same line again";
}
