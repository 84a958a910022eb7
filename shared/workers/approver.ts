/** `03-workers approve` in the background of the first control plane node: a systemd unit, gone after a boot or when its work is done. */
import { join } from "node:path";
import { $ } from "zx/core";
import { Fail } from "../fail.ts";
import { strangers } from "../plain.ts";
import { act } from "../run.ts";
import { shell } from "../shell-line.ts";
import { sayWhile } from "../wait-for.ts";

const NAME = "kube-pki-repair-approve";

/** The command that shows its messages. */
export const APPROVER_LOG = `journalctl -u ${NAME} -n 50`;

/** Starts it; one that runs is stopped first. Errors: Fail with the line for a second window. */
export async function startApprover(options: readonly string[]) {
  const line = ["scripts/03-workers.ts", "approve", ...options];
  const kit = join(import.meta.dir, "../..");
  const environment = ["PATH", "HOME", "XDG_CACHE_HOME"].flatMap((name) =>
    process.env[name] ? [`--setenv=${name}=${process.env[name]}`] : [],
  );
  await act(`${NAME}: started, approves the certificates that workers ask for with the token: ${APPROVER_LOG}`, async () => {
    await stopUnit();
    const start = ["--quiet", "--collect", `--unit=${NAME}`, `--property=WorkingDirectory=${kit}`, ...environment, `${kit}/bunw`, ...line];
    const run = () => $({ quiet: true, nothrow: true })`systemd-run ${start}`;
    const { exitCode, stderr } = await sayWhile(`systemd-run to start ${NAME}`, `systemctl status ${NAME}`, run);
    if (exitCode === 0) return;
    throw new Fail(`systemd-run exited ${exitCode}: ${strangers(stderr.trim().split("\n").at(-1) ?? "")}`, {
      hint: `the token is made, but nothing approves the certificates of workers yet. Run this in a second window on this node, until all workers have joined: ${shell`./bunw ${line}`}`,
    });
  });
}

/** Stops it if it runs on this node. Errors: Fail with the message of systemctl. */
export async function stopApprover() {
  if ((await $({ quiet: true, nothrow: true })`systemctl is-active --quiet ${NAME}`).exitCode !== 0) return;
  await act(`${NAME}: stopped`, async () => {
    const { exitCode, stderr } = await stopUnit();
    if (exitCode !== 0)
      throw new Fail(`${shell`systemctl stop ${NAME}`} exited ${exitCode}: ${strangers(stderr)}`, {
        hint: `systemctl status ${NAME}; then run this again`,
      });
  });
}

/** A failed unit must be reset, too: otherwise the next one cannot start. */
async function stopUnit() {
  const program = (verb: string) => {
    const ask = () => $({ quiet: true, nothrow: true })`systemctl ${verb} ${NAME}`;
    return sayWhile(shell`systemctl ${verb} ${NAME}`, `systemctl kill ${NAME}`, ask);
  };
  const stopped = await program("stop");
  await program("reset-failed");
  return stopped;
}
