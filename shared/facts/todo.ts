/** One thing to do next, and how it is printed: in one line, as a list, or as arrows. What it is, next.ts decides. */
import { shell } from "../shell-line.ts";

/** One thing to do next. */
export interface Todo {
  command: string;
  /** The nodes to do it on, in words; unset: this node. */
  on?: string;
  /** What a sentence calls it: "part 1". Unset: its command. */
  called?: string;
  /** Some of these nodes may be through with it. */
  unlessDone?: true;
  /** Why, or what to know: a comment behind the command. */
  note?: string;
}

/** Nodes that the operator leaves out: `without` are away and come back some day, `lost` are lost for good. */
export interface LeftOut {
  without: readonly string[];
  lost: readonly string[];
}

export const NOBODY: LeftOut = { without: [], lost: [] };

/** Both. */
export function leftNames({ without, lost }: LeftOut): string[] {
  return [...new Set([...without, ...lost])];
}

/** Scripts, or their words, that take --without and --lost. */
const TAKES_BOTH = /^(plan|02-control-plane|03-workers (open|close|approve)|03-join|04-sa-tokens)\b/;

/** "03-workers close" as an operator types it. */
export function command(words: string, out: Partial<LeftOut> = {}): string {
  const [script, ...args] = words.split(" ");
  const { without = [], lost = [] } = TAKES_BOTH.test(words) ? out : {};
  if (without.length > 0) args.push(shell`--without ${without.join(",")}`);
  if (lost.length > 0) args.push(shell`--lost ${lost.join(",")}`);
  return [shell`./bunw scripts/${script!}.ts`, ...args].join(" ");
}

/** A bundle that stays: one in the kit's folder, or in memory, is no backup. */
export const BACKUP = command("hand-over pack --out /root/keys.age");

/** A line as RUNBOOK.md has it, for a cluster without these nodes. */
export function withLeftOut(typed: string, out: Partial<LeftOut>): string {
  const words = /^\.\/bunw scripts\/([\w-]+)\.ts(.*)$/.exec(typed);
  return words ? command(`${words[1]}${words[2]}`, out) : typed;
}

/** For the last line of a script: "part 1 on m2, then ./bunw scripts/02-control-plane.ts". */
export function inOneLine(todos: readonly Todo[]): string {
  const phrases = todos.map(({ command, on, called, unlessDone }) => {
    if (!on) return called ?? command;
    return called ? `${called} on ${on}${unlessDone ? " where it is not done yet" : ""}` : `on ${on}: ${command}`;
  });
  return phrases.join(", then ");
}

/** Letters. The comment of a longer line stands right behind it, and moves no other. */
const LONG = 90;

/** For a list: a line each, the comments one below the other. */
export function inLines(todos: readonly Todo[]): string[] {
  const lines = todos.map(({ command, on, note }) => ({ text: `${on ? `on ${on}: ` : ""}${command}`, note }));
  const width = Math.max(0, ...lines.map(({ text, note }) => (note && text.length <= LONG ? text.length : 0)));
  return lines.map(({ text, note }) => (note ? `${text.padEnd(width)}   # ${note}` : text));
}

/** Scripts and their words alone. */
export function inArrows(todos: readonly Todo[]): string {
  return todos
    .map(({ command, on }) => `${on ? `on ${on}: ` : ""}${command.replaceAll(/\.\/bunw scripts\/([\w-]+)\.ts/g, "$1")}`)
    .join(" → ");
}
