/** `03-workers approve` in the background of the first control plane node, as a unit of systemd that is gone with the next boot, and when it has done its work. */
import { join } from "node:path";
import { $ } from "zx";
import { Fail } from "../fail.ts";
import { strangers } from "../plain.ts";
import { act } from "../run.ts";

const NAME = "kube-pki-repair-approve";

/** What it says: to be looked at. */
export const APPROVER_LOG = `journalctl -u ${NAME} -n 50`;

/** Starts it, in the place of one that runs. Errors: Fail with the line for a second window. */
export async function startApprover(options: readonly string[]) {
  const line = ["scripts/03-workers.ts", "approve", ...options];
  const kit = join(import.meta.dir, "../..");
  const environment = ["PATH", "HOME", "XDG_CACHE_HOME"].flatMap((name) =>
    process.env[name] ? [`--setenv=${name}=${process.env[name]}`] : [],
  );
  await act(`${NAME}: started, approves what workers ask for with the token: ${APPROVER_LOG}`, async () => {
    await stopUnit();
    const start = ["--quiet", "--collect", `--unit=${NAME}`, `--property=WorkingDirectory=${kit}`, ...environment, `${kit}/bunw`, ...line];
    const { exitCode, stderr } = await $({ quiet: true, nothrow: true })`systemd-run ${start}`;
    if (exitCode === 0) return;
    throw new Fail(`systemd-run exited ${exitCode}: ${strangers(stderr.trim().split("\n").at(-1) ?? "")}`, {
      hint: `the token is made; only nobody approves what workers ask for yet. In a second window on this node, until they are through: ./bunw ${line.join(" ")}`,
    });
  });
}

/** Stops it where it runs on this node. Errors: Fail with what systemctl said. */
export async function stopApprover() {
  const isActive = (await $({ quiet: true, nothrow: true })`systemctl is-active --quiet ${NAME}`).exitCode === 0;
  if (!isActive) return;
  await act(`${NAME}: stopped`, async () => {
    const { exitCode, stderr } = await stopUnit();
    if (exitCode !== 0)
      throw new Fail(`systemctl stop ${NAME} exited ${exitCode}: ${strangers(stderr)}`, {
        hint: `systemctl status ${NAME}; then run this again`,
      });
  });
}

/** One that failed would stand in the way of the next, too. */
async function stopUnit() {
  const stopped = await $({ quiet: true, nothrow: true })`systemctl stop ${NAME}`;
  await $({ quiet: true, nothrow: true })`systemctl reset-failed ${NAME}`;
  return stopped;
}
