/** What `open` starts in the background: how systemd is asked, and why it does not run. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { failOf } from "../../../shared/fail.ts";
import { APPROVES, startApprover } from "../../../shared/workers/joining.ts";
import { lookAt } from "../../pretend/in-process.ts";
import type { FakeCommand } from "../../pretend/programs.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const ACTIVE = "systemctl is-active --quiet kube-pki-repair-approve";
const LOG = "journalctl --quiet *";
const LOG_SINCE = "journalctl --quiet --output cat --unit kube-pki-repair-approve --since @*";
const NOBODY = { without: [], lost: [] };

/** How systemd-run was asked, and why nothing runs. */
async function started(commands: FakeCommand[], asked: Parameters<typeof startApprover>[0] = NOBODY) {
  return await lookAt({ kind: "worker", commands }, async ({ calls }) => {
    const fail = await failOf(() => startApprover(asked));
    const runs = calls().filter((call) => call.startsWith("systemd-run "));
    return {
      why: fail?.message,
      types: runs.map((call) => call.includes("Type=exec")),
      words: runs[0]?.split("03-workers.ts ")[1],
      calls: calls(),
    };
  });
}

test("one that runs is stopped first, a failed one reset, and the new one has what open was told", async () => {
  const { why, types, words, calls } = await started([], {
    without: ["w8", "w9"],
    lost: ["m2"],
    "etcd-data": "/srv/etcd",
  });
  expect({ why, types, words }).toEqual({
    why: undefined,
    types: [true],
    words: "approve --etcd-data /srv/etcd --without w8,w9 --lost m2",
  });
  expect(calls.slice(0, 2)).toEqual([
    "systemctl stop kube-pki-repair-approve",
    "systemctl reset-failed kube-pki-repair-approve",
  ]);
  // its own log says that it has begun
  expect(calls.filter((call) => call.startsWith("journalctl "))).toHaveLength(1);
  expect((await started([])).words).toBe("approve");
});

const NO_TYPE = {
  command: "systemd-run *Type=exec*",
  stderr: "Unknown assignment: Type=exec property\n",
  exit: 1,
};

test.each<[string, FakeCommand[], boolean[], string | undefined]>([
  [
    "a systemd that knows no Type=exec is asked without it",
    [NO_TYPE, { command: "systemd-run *", does: 'echo > "$FAKE/approving"' }],
    [true, false],
    undefined,
  ],
  [
    "another refusal is said at once",
    [{ command: "systemd-run *", stderr: "a\nAccess denied\n", exit: 1 }],
    [true],
    "systemd-run exited 1: Access denied",
  ],
  [
    "one that ends at once is said with its error",
    [
      { command: "systemd-run *" },
      { command: ACTIVE, exit: 3 },
      { command: LOG, stdout: "begins\nerror: no key\nhint: x\n" },
    ],
    [true],
    "kube-pki-repair-approve was started, and has exited: error: no key",
  ],
  [
    "or with its last words",
    [{ command: "systemd-run *" }, { command: ACTIVE, exit: 3 }, { command: LOG, stdout: "begins\nends\n" }],
    [true],
    "kube-pki-repair-approve was started, and has exited: ends",
  ],
  [
    "what one of an earlier `open` wrote is not its reason",
    [
      { command: "systemd-run *" },
      { command: ACTIVE, exit: 3 },
      { command: LOG_SINCE, stdout: "error: no key\n" },
      { command: LOG, stdout: "error: no key\nerror: of yesterday\n" },
    ],
    [true],
    "kube-pki-repair-approve was started, and has exited: error: no key",
  ],
  [
    "where there is no journal, it counts that it runs",
    [{ command: "systemd-run *" }, { command: ACTIVE }, { command: LOG, stdout: "" }],
    [true],
    undefined,
  ],
  [
    "one that still reads etcd's data is waited for: a worker that joined meanwhile would wait in vain",
    [
      { command: "systemd-run *" },
      ...[0, 0, 0, 3].map((exit) => ({ command: ACTIVE, exit })),
      { command: LOG, stdout: "kube-pki-repair 0.1.0   03-workers approve\nerror: killed\n" },
    ],
    [true],
    "kube-pki-repair-approve was started, and has exited: error: killed",
  ],
  [
    "one that has begun is well",
    [{ command: "systemd-run *" }, { command: ACTIVE }, { command: LOG, stdout: `== ${APPROVES}\n` }],
    [true],
    undefined,
  ],
])("%s", async (_, commands, types, why) => {
  const found = await started(commands);
  expect(found).toMatchObject({ types, ...(why && { why }) });
  if (!why) expect(found.why).toBeUndefined();
  // its end ends the wait
  const looks = (all: readonly string[]) => all.filter((call) => call === ACTIVE).length;
  if (why?.includes("has exited"))
    expect(looks(found.calls)).toBe(looks(commands.map(({ command }) => command)));
});
