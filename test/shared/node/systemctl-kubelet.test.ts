/** Before a repair changes anything the kubelet is stopped, in whatever state it is. */
import { expect, test } from "bun:test";
import { failOf } from "../../../shared/fail.ts";
import { stopKubelet } from "../../../shared/node/systemctl-kubelet.ts";
import { type FakeCommand, programsHere } from "../../pretend/programs.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const STOP = "systemctl stop kubelet";

/** What is called to stop it, where `systemctl is-active` says so. */
async function stopped(is: Partial<FakeCommand>, stop: Partial<FakeCommand> = {}) {
  using _box = sandbox();
  using fake = programsHere([
    { command: "systemctl is-active kubelet", ...is },
    { command: STOP, ...stop },
  ]);
  const fail = await failOf(() => stopKubelet());
  return { calls: fake.calls().filter((call) => call === STOP).length, fail: fail?.message };
}

test.each([
  ["active", 0, 1],
  ["activating", 3, 1],
  ["failed", 3, 1],
  ["inactive", 3, 0],
])("a kubelet that is %s", async (state, exit, calls) => {
  expect(await stopped({ stdout: `${state}\n`, exit })).toEqual({ calls, fail: undefined });
});

test("where systemd does not answer, nothing goes on beside a kubelet that may run", async () => {
  const late = { stderr: "Failed to retrieve unit state: Connection timed out\n", exit: 1 };
  expect(await stopped(late, late)).toEqual({
    calls: 1,
    fail: expect.stringContaining("Connection timed out"),
  });
});
