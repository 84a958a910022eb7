/** Blocks of RUNBOOK.md that no part of the repair has: the lab types them as they stand there. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";

const RUNBOOK = join(import.meta.dir, "../../../RUNBOOK.md");

/** The lines of the one block that begins with these words. Errors: Fail where there is none, or more than one. */
export function blockThatBegins(words: string, markdown = readFileSync(RUNBOOK, "utf8")): string[] {
  const blocks = [...markdown.matchAll(/^```sh\n([\s\S]*?)^```$/gm)]
    .map(([, text]) => text!.trim())
    .filter((text) => text.startsWith(words));
  if (blocks.length === 1) return blocks[0]!.split("\n");
  throw new Fail(`RUNBOOK.md has ${blocks.length} blocks that begin with "${words}", not one`, {
    hint: "change the words here or the block there",
  });
}
