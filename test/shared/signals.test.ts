/** What can be taken back, inside of what can be taken back: a signal ends both. */
import { afterAll, expect, test } from "bun:test";
import { failOf } from "../../shared/fail.ts";
import { checkSignal, onSignal, orUndo } from "../../shared/this-run.ts";

afterAll(() => {
  for (const signal of ["SIGHUP", "SIGINT", "SIGTERM", "SIGQUIT"]) process.removeAllListeners(signal);
});

/** What is done, in order: also what the script does at a signal, if that is not held back. */
function diary(): string[] {
  const did: string[] = [];
  onSignal((signal) => did.push(`the script ends: ${signal}`));
  return did;
}

test("a signal that comes too late for the inner work is not lost: the outer one stops, and takes back what it did", async () => {
  const did = diary();
  const inner = async () => {
    process.emit("SIGHUP", "SIGHUP");
    did.push("inner done");
  };
  const outer = async () => {
    await orUndo(inner, async () => did.push("inner undone"), "the inner one's");
    checkSignal();
    did.push("outer goes on");
  };
  const stopped = await failOf(() => orUndo(outer, async () => did.push("outer undone"), "the outer one's"));
  expect([stopped?.message, stopped?.hint]).toEqual([
    "Stopped by SIGHUP: the connection is gone",
    "the outer one's",
  ]);
  expect(did).toEqual(["inner done", "outer undone"]);
});

test("one that comes too late for all of it is obeyed after it", async () => {
  const did = diary();
  const late = async () => {
    process.emit("SIGHUP", "SIGHUP");
    did.push("done");
  };
  await orUndo(
    () => orUndo(late, async () => did.push("undone")),
    async () => did.push("undone"),
  );
  expect(did).toEqual(["done", "the script ends: SIGHUP"]);
});
