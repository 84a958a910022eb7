/** A second run that changes the node is kept out, and what a run that was cut off left half is cleared away. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { failOf } from "../../../shared/fail.ts";
import { UNFINISHED } from "../../../shared/files/files.ts";
import { lockNode } from "../../../shared/node/kept-run.ts";
import { mode } from "../../../shared/run.ts";
import { write } from "../../pretend/cluster.ts";
import { programsHere } from "../../pretend/programs.ts";
import { type Sandbox, sandbox } from "../../pretend/sandbox.ts";

const LOCK = "/run/kube-pki-repair.lock";
const HALF = `/etc/kubernetes/pki/.ca.crt.1${UNFINISHED}`;

/** Locks with these answers of flock; undefined: there is no such program. Then the process ends. */
async function locked(box: Sandbox, exit: number | undefined) {
  const [flock, without] = exit === undefined ? [[], ["flock"]] : [[{ command: "flock -n 3", exit }], []];
  using _programs = programsHere(flock, {}, without);
  const [before, script] = [process.listeners("exit"), mode.script];
  const signals = (["SIGINT", "SIGTERM", "SIGHUP"] as const).map(
    (name) => [name, process.listeners(name)] as const,
  );
  mode.script = "01-etcd";
  try {
    const refused = await failOf(() => lockNode());
    const text = existsSync(box.dir + LOCK) ? readFileSync(box.dir + LOCK, "utf8") : undefined;
    return { refused, text };
  } finally {
    mode.script = script;
    for (const one of process.listeners("exit").filter((listener) => !before.includes(listener))) {
      one.call(process, 0);
      process.removeListener("exit", one);
    }
    for (const [name, known] of signals)
      for (const one of process.listeners(name)) if (!known.includes(one)) process.removeListener(name, one);
  }
}

test("the first run has the node: its name is in the lock's file until it ends, and what is half is gone", async () => {
  using box = sandbox();
  write(`${box.dir}/run/x`, "");
  write(box.dir + HALF, "half");
  const { refused, text } = await locked(box, 0);
  expect(refused).toBeUndefined();
  expect(text).toMatch(
    new RegExp(`^${process.pid} \\(01-etcd, since \\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d UTC\\)$`),
  );
  expect([existsSync(box.dir + LOCK), existsSync(box.dir + HALF)]).toEqual([false, false]);
});

test.each([
  [
    "41 (01-etcd, since 2026-01-01 00:00:00 UTC)",
    "process 41 (01-etcd, since 2026-01-01 00:00:00 UTC)",
    "ps -fp 41",
  ],
  ["", "another run", "wait until that run has finished; then"],
])("another run is named as it says: %p", async (said, who, hint) => {
  using box = sandbox();
  write(box.dir + LOCK, said);
  write(box.dir + HALF, "half");
  const { refused, text } = await locked(box, 1);
  expect(refused).toMatchObject({ message: `This node is locked by ${who}`, exitCode: 4 });
  expect(refused!.hint).toContain(hint);
  expect([text, existsSync(box.dir + HALF)]).toEqual([said, true]);
});

test("a dry run is kept out by nobody, and takes no lock", async () => {
  using box = sandbox();
  write(box.dir + LOCK, "41");
  mode.dryRun = true;
  expect(await locked(box, 1)).toEqual({ refused: undefined, text: "41" });
});

test("where there is no /run there is no other run", async () => {
  using box = sandbox();
  expect(await locked(box, 1)).toEqual({ refused: undefined, text: undefined });
});

test("without the program the operator is told to see to it himself", async () => {
  using box = sandbox();
  write(box.dir + LOCK, "");
  expect(await locked(box, undefined)).toEqual({ refused: undefined, text: "" });
  expect(box.said).toEqual([expect.stringContaining("flock (util-linux) is missing")]);
});
