/**
 * RUNBOOK.md as data: parts, steps, and the commands with the place where each is typed.
 *
 * A part is `## 1 …`, a step `### 1.1 …`, or a row `| 1.1 … |` of a table where hands type nothing. A `sh` fence that the rehearsal runs says where in its info string,
 * which the page does not show:
 *
 *     ```sh task=open                           which task of a repair it is, by the table in facts/course.ts: a plan has those of its course
 *     ```sh on=first-control-plane              typed on this node; also other-control-planes, each-control-plane, each-worker, each-node,
 *                                               and operator: the machine that reaches all nodes by ssh
 *     ```sh on=first-control-plane exit=0,2     the expected exit codes (by default 0 alone)
 *     ```sh on=first-control-plane if=new-cas   only in scenarios with this tag, or with one of several: if=new-cas,expired
 *     ```sh on=first-control-plane if=lost-nodes   only where nodes are lost for good: NODE stands for their names
 *     ```sh on=each-worker printed              an example: the operator types the line that an earlier command printed and that begins the same
 *     ```sh on=each-worker side-by-side         typed on all of them at the same time, in one window each
 *     ```sh carry=token.d/NODE/token from=first-control-plane to=each-worker   how a person carries a file; the rehearsal copies it with owner and mode
 *     ```sh on=first-control-plane terminal     it asks or shows something on a terminal: by ssh it needs -t
 *     ```sh carry=report.html from=first-control-plane to=operator   to the machine that reaches all nodes
 *     ```sh gather=logs.d                       what the other nodes have kept of their runs, into this folder of the first control plane node
 *     ```sh ssh-to=each-node                    typed on the machine that reaches all nodes, once for each of these: NODE is its address
 *
 * A `sh` fence with none of these is for the reader alone. A `text` fence is what the commands before it
 * print.
 */

import { isTask, type Task } from "../facts/course.ts";
import { Fail } from "../fail.ts";
import { PLACES, type Place } from "./place.ts";

export interface Block {
  part: number | undefined;
  line: number;
  commands: string[];
  task?: Task;
  on?: Place;
  exit: number[];
  if?: string[];
  printed: boolean;
  sideBySide: boolean;
  carry?: { file: string; from: Place; to: Place };
  sshTo?: Place;
  terminal?: true;
  gather?: string;
  /** Where all went well. */
  ends?: string;
}

export interface Part {
  number: number;
  title: string;
  steps: string[];
  text: string;
  /** Markdown: how to take the part back. */
  undo: string;
}

interface Runbook {
  parts: Part[];
  /** Every `sh` fence, also those for the reader alone. */
  blocks: Block[];
}

export function readRunbook(markdown: string): Runbook {
  const parts: Part[] = [];
  const blocks: Block[] = [];
  let part: Part | undefined;
  let fence: { info: string; line: number; body: string[] } | undefined;
  /** An index into `blocks`. */
  let section = 0;

  for (const [index, line] of markdown.split("\n").entries()) {
    if (part) part.text += `${line}\n`;
    if (fence) {
      if (!line.startsWith("```")) fence.body.push(line);
      else {
        if (/^sh\b/.test(fence.info)) blocks.push(readBlock(fence, part));
        else if (fence.info === "text") setEnd(blocks.slice(section), fence.body);
        fence = undefined;
      }
      continue;
    }
    if (line.startsWith("#")) section = blocks.length;
    if (line.startsWith("```")) fence = { info: line.slice(3).trim(), line: index + 1, body: [] };
    else if (line.startsWith("## ")) {
      const [, number, title] = line.match(/^## (\d+) (.+)$/) ?? [];
      part = number
        ? { number: Number(number), title: title!.trim(), steps: [], text: "", undo: "" }
        : undefined;
      if (part) parts.push(part);
    } else if (part) part.steps.push(...stepIn(line));
  }
  if (fence) throw bad(fence.line, "the fence is never closed");
  return {
    parts: parts.map((one) => {
      const undo = /^\*\*Undo\.\*\* ((?:.+\n)+)/m.exec(one.text)?.[1] ?? "";
      return { ...one, steps: one.steps.toSorted(), undo: undo.trim().replaceAll("\n", " ") };
    }),
    blocks,
  };
}

/** The step that a heading or a row names, if it does. */
function stepIn(line: string): string[] {
  const [, heading, row] = /^(?:### (\d\.\d .+)|\| (\d\.\d [^|]+?) \|.*)$/.exec(line) ?? [];
  return heading || row ? [(heading ?? row)!.trim()] : [];
}

/** Output belongs to the commands just before it, and to those beside them that run the same script. */
function setEnd(section: Block[], printed: readonly string[]) {
  const end = printed.findLast((line) => line.trim() !== "")?.trim();
  const script = (block: Block) => /^\.\/bunw \S+( [a-z]+)?/.exec(block.commands.at(-1) ?? "")?.[0];
  const last = section.at(-1);
  if (!end || !last || !ENDS.test(end)) return;
  for (const block of section.reverse()) {
    if (script(block) !== script(last)) return;
    block.ends ??= end;
  }
}

/** Other last lines are of the example alone. */
const ENDS = /^done\.|\bchecks, all good/;

function readBlock(fence: { info: string; line: number; body: string[] }, part: Part | undefined): Block {
  const block: Block = {
    part: part?.number,
    line: fence.line,
    commands: commandsOf(fence.body),
    exit: [0],
    printed: false,
    sideBySide: false,
  };
  const { line } = fence;
  const word: Record<string, string> = {};
  for (const item of fence.info.split(/\s+/).slice(1)) {
    const [key, value] = item.split("=", 2) as [string, string | undefined];
    if (key === "printed") block.printed = true;
    else if (key === "side-by-side") block.sideBySide = true;
    else if (key === "terminal") block.terminal = true;
    else if (WORDS.includes(key) && value) word[key] = value;
    else throw bad(line, `"${item}" is not known`);
  }
  const { task, on, if: tags, exit, gather, "ssh-to": sshTo, carry: file, from, to } = word;
  if (task !== undefined && !isTask(task)) throw bad(line, `"${task}" is not a task`);
  if (task) block.task = task;
  if (on) block.on = place(on, line);
  if (tags) block.if = tags.split(",");
  if (exit) block.exit = exit.split(",").map(Number);
  if (gather) block.gather = gather;
  if (sshTo) block.sshTo = place(sshTo, line);
  if (file) block.carry = { file, from: place(from, line), to: place(to, line) };
  return block;
}

const WORDS = ["task", "on", "exit", "if", "carry", "from", "to", "gather", "ssh-to"];

/** One command a line; a backslash at the end joins lines; comment lines are for the reader. */
function commandsOf(body: string[]): string[] {
  return body
    .join("\n")
    .replaceAll(/(?:(?<!\s)\s+)?\\\n\s*/g, " ")
    .split("\n")
    .map((line) => line.replace(/(?<!\s)\s+#\s.*$/, "").trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
}

function place(name: string | undefined, line: number): Place {
  const found = PLACES.find((place) => place === name);
  if (!found) throw bad(line, `"${name}" is not a place`);
  return found;
}

function bad(line: number, what: string) {
  return new Fail(`Cannot read RUNBOOK.md line ${line}: ${what}`, {
    hint: "see the head of shared/plan/runbook.ts for what a fence may say",
  });
}
