import { spyOn } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setRoot } from "../../shared/files/files.ts";
import { noTypedOptions } from "../../shared/node/words.ts";
import { mode } from "../../shared/run.ts";
import { leavesNothing, listenToRun } from "../../shared/this-run.ts";
import { leaveNode } from "./no-node.ts";

export interface Sandbox extends Disposable {
  /** The root, on this machine. */
  dir: string;
  /** What was printed so far, line by line. */
  said: string[];
}

/** An empty root for one test, which also collects what is printed: `using box = sandbox()`. */
export function sandbox(): Sandbox {
  const dir = mkdtempSync(join(tmpdir(), "sandbox-"));
  const said: string[] = [];
  const ear = spyOn(console, "error").mockImplementation((line: string) => void said.push(line.trim()));
  setRoot(dir);
  return {
    dir,
    said,
    [Symbol.dispose]() {
      ear.mockRestore();
      mode.dryRun = false;
      listenToRun(undefined);
      leavesNothing();
      noTypedOptions();
      leaveNode();
      rmSync(dir, { recursive: true });
    },
  };
}
