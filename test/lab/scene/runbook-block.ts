/**
 * RUNBOOK.md and RUNBOOK-MORE.md, as the lab follows them; and blocks that no part of the repair has: the lab
 * types them as they stand there.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";

/** The way, and behind it what it leaves out: rare clusters, many nodes, what to do before it happens. */
export function runbookPages(): string {
  return ["RUNBOOK.md", "RUNBOOK-MORE.md"]
    .map((page) => readFileSync(join(import.meta.dir, "../../..", page), "utf8"))
    .join("\n");
}

/**
 * The lines of the one block that begins with these words. Errors: Fail where there is none, or more than
 * one.
 */
export function blockThatBegins(words: string, markdown = runbookPages()): string[] {
  const blocks = [...markdown.matchAll(/^```sh\n([\s\S]*?)^```$/gm)]
    .map(([, text]) => text!.trim())
    .filter((text) => text.startsWith(words));
  if (blocks.length === 1) return blocks[0]!.split("\n");
  throw new Fail(
    `RUNBOOK.md and RUNBOOK-MORE.md have ${blocks.length} blocks that begin with "${words}", not one`,
    {
      hint: "change the words here or the block there",
    },
  );
}
