/** What belongs together in one step, and how the steps are called. */
import { KEPT } from "./effort.ts";
import type { Line } from "./paste.ts";
import type { Block } from "./runbook.ts";

interface Unnumbered {
  part: number;
  note?: string;
  lines: Line[];
}

/** "0a", "0b", "1a", …; a step that types a kept line names the step that keeps it. */
export function numbered<S extends Unnumbered>(steps: readonly S[]): (S & { number: string })[] {
  let keeps = "";
  return steps.map((step, index) => {
    const before = steps.slice(0, index).filter(({ part }) => part === step.part).length;
    const number = `${step.part}${String.fromCharCode("a".charCodeAt(0) + before)}`;
    if (step.note?.startsWith(KEPT)) keeps = number;
    return {
      ...step,
      number,
      lines: step.lines.map((line) => ({ ...line, text: line.text.replaceAll(KEEPER, keeps) })),
    };
  });
}

/** Stands in a line until the steps have their numbers. */
export const KEEPER = "STEP-THAT-KEEPS";

/** Files of the kit's folder that go the same way go together. */
export function together(blocks: readonly Block[]): Joined[] {
  const all: Joined[] = [];
  for (const block of blocks) {
    const [last, { carry }] = [all.at(-1), block];
    const isSame =
      last?.carry &&
      carry &&
      carry.from === last.carry.from &&
      carry.to === last.carry.to &&
      block.part === last.part;
    if (isSame && [...last.files, carry.file].every((file) => !/NODE|^\//.test(file)))
      last.files.push(carry.file);
    else all.push({ ...block, files: carry ? [carry.file] : [] });
  }
  return all;
}

/** `files`: what it carries. */
export type Joined = Block & { files: string[] };
