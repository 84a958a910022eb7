/** The halves of RUNBOOK.md's line that brings the kit to a node. */
import { Fail } from "../fail.ts";

/** The halves of RUNBOOK.md's line `ssh root@NODE '…' < kit.tar.gz`. Errors: Fail where it is another. */
export function kitProgram(line: string): { program: string; file: string } {
  const [, program, file] = /^ssh root@NODE '([^']*)' < (\S+)$/.exec(line) ?? [];
  if (program && file) return { program, file };
  throw new Fail(`RUNBOOK.md's line for the kit has another form: ${line}`, { hint: "unpack the kit again" });
}
