/** How the changes ended that a run has tried: kept in a file, the next run need not try them again. */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { hash } from "bun";
import type { Ran } from "./limits.ts";
import type { Mutant } from "./mutants.ts";

export interface Result {
  mutant: Mutant;
  /** `no types`: the compiler notices it, so it does not count. */
  end: Ran["end"] | "never run" | "no types";
  /** The test files that have noticed it. */
  by: readonly string[];
}

/** `open`: near tests notice nothing, and far ones have not run. */
type Kept = Omit<Result, "end"> & { end: Result["end"] | "open" };

export class Ends {
  readonly #known = new Map<string, Kept>();
  readonly #home: string;
  readonly #file: string | undefined;

  constructor(home: string, file: string | undefined) {
    this.#home = home;
    this.#file = file;
    if (!file || !existsSync(file)) return;
    for (const line of readFileSync(file, "utf8").split("\n").filter(Boolean)) {
      const { key, ...kept } = JSON.parse(line);
      this.#known.set(key, kept);
    }
  }

  /** A change of the file as it is now: of another text it would be another change. */
  of(mutant: Mutant): Kept | undefined {
    return this.#known.get(this.#keyOf(mutant));
  }

  keep(kept: Kept) {
    if (!this.#file) return;
    appendFileSync(this.#file, `${JSON.stringify({ ...kept, key: this.#keyOf(kept.mutant) })}\n`);
  }

  #keyOf({ path, start, end, text }: Mutant): string {
    return hash(`${readFileSync(join(this.#home, path), "utf8")} ${path} ${start} ${end} ${text}`).toString(
      36,
    );
  }
}
