/**
 * `03-workers approve` in the background of the first control plane node: a systemd unit, gone after a boot
 * or when its work is done.
 */
import { join } from "node:path";
import { $ } from "zx/core";
import { again, type LeftOut } from "../again.ts";
import { closeJoining } from "../api/bootstrap-tokens.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { Fail } from "../fail.ts";
import { selinuxEnforces } from "../files/selinux.ts";
import { quoteUntrusted } from "../plain.ts";
import { act, tell } from "../run.ts";
import { shell } from "../shell-line.ts";
import { inTime, sayWhile } from "../wait-for.ts";
import { removeFormers } from "./former-proof.ts";
import { APPROVER, APPROVER_LOG } from "./token-file.ts";

/** The name of its step: once its log has it, it has read etcd's data and asked the API. */
export const APPROVES = "Approve the certificates that workers ask for with the token";

/** What `open` was started with holds for it, too; a unit gets nothing of a shell's. */
const KEPT = ["PATH", "HOME", "XDG_CACHE_HOME", "KUBE_PKI_REPAIR_CLOCK", "KUBE_PKI_REPAIR_PATIENCE"];

interface Asked extends LeftOut {
  "etcd-data"?: string | undefined;
}

/**
 * `asked`: the options of `open`. One that runs is stopped first. Errors: Fail with the reason and the line
 * for a second window.
 */
export async function startApprover(asked: Asked) {
  const { without, lost, "etcd-data": etcdData = false } = asked;
  const line = again({ "etcd-data": etcdData, without, lost }, { of: "03-workers approve" });
  const byHand = `run this in a second window on this node, until all workers have joined: ${line}. The token is made, but nothing approves the certificates of workers yet`;
  await act(
    "start",
    `${APPROVER}, which approves the certificates that workers ask for with the token: ${APPROVER_LOG}`,
    async () => {
      await stopUnit();
      const began = Date.now();
      const why =
        (await systemdRun(["scripts/03-workers.ts", "approve", ...optionsOf(asked)])) ??
        (await whyNotRunning(began));
      if (why) throw new Fail(why, { hint: `${byHand}${selinuxHint(why)}` });
    },
  );
}

function optionsOf({ without, lost, "etcd-data": etcdData }: Asked): string[] {
  const options = { "etcd-data": etcdData, without: without.join(","), lost: lost.join(",") };
  return Object.entries(options).flatMap(([name, value]) => (value ? [`--${name}`, value] : []));
}

/**
 * Why systemd-run has started nothing; with Type=exec (since systemd 240) a program that cannot be executed
 * is told, too.
 */
async function systemdRun(line: readonly string[]): Promise<string | undefined> {
  const kit = join(import.meta.dir, "../..");
  const environment = KEPT.flatMap((name) =>
    process.env[name] ? [`--setenv=${name}=${process.env[name]}`] : [],
  );
  const unit = [
    "--quiet",
    "--collect",
    `--unit=${APPROVER}`,
    `--property=WorkingDirectory=${kit}`,
    ...environment,
  ];
  for (const type of [["--property=Type=exec"], []]) {
    const start = [...unit, ...type, `${kit}/bunw`, ...line];
    const run = () => $({ quiet: true, nothrow: true })`systemd-run ${start}`;
    const { exitCode, stderr } = await sayWhile(
      `systemd-run to start ${APPROVER}`,
      `systemctl status ${APPROVER}`,
      run,
    );
    if (exitCode === 0) return undefined;
    const said = quoteUntrusted(stderr.trim().split("\n").at(-1) ?? "");
    if (type.length === 0 || !/\bType\b|property/i.test(said))
      return `systemd-run exited ${exitCode}: ${said}`;
  }
  return undefined;
}

/** Seconds until it has begun, or has ended; where there is no journal to say so, it counts that it still runs. */
const TO_BEGIN = 15;

/**
 * Where the journal shows that it reads on. It reads etcd's data and its copy: 16 GB, at 50 MB/s, take five minutes,
 * and a worker that joins waits for two.
 */
const TO_READ = 900;

/**
 * Why it does not run any more; undefined where it does. systemd-run itself reports no program that ends at
 * once.
 */
async function whyNotRunning(began: number): Promise<string | undefined> {
  let ended = false;
  const since = `@${Math.floor(began / 1000)}`;
  const read = () =>
    $({ quiet: true, nothrow: true })`journalctl --quiet --output cat --unit ${APPROVER} --since ${since}`;
  const log = async () =>
    (await sayWhile("journalctl to show its messages", "it ends by itself", read)).stdout;
  const look = async () => {
    ended = !(await isActive());
    return ended || (await log()).includes(APPROVES);
  };
  const begun = async (seconds: number) =>
    await inTime(`${APPROVER} to begin`, look, { seconds, hint: APPROVER_LOG });
  if (!(await begun(TO_BEGIN)) && (await log())) await begun(TO_READ);
  if (!ended) return undefined;
  const lines = (await log()).split("\n").filter(Boolean);
  const reason = lines.findLast((line) => /error:|denied|failed/i.test(line)) ?? lines.at(-1);
  return `${APPROVER} was started, and has exited: ${reason ? quoteUntrusted(reason) : `see ${APPROVER_LOG}`}`;
}

/** systemd may start no program with the label of a file in memory (systemd issue 35804). */
function selinuxHint(why: string): string {
  if (!selinuxEnforces() || !/denied|EXEC|exec/.test(why)) return "";
  return ". SELinux is enforcing, and lets systemd start nothing from memory: chcon -R -t bin_t bunw bun in the kit's folder, then open again";
}

async function isActive(): Promise<boolean> {
  const ask = () => $({ quiet: true, nothrow: true })`systemctl is-active --quiet ${APPROVER}`;
  const hint = "see whether systemd answers: systemctl status";
  return (await sayWhile(`systemctl is-active ${APPROVER}`, hint, ask)).exitCode === 0;
}

/** `approve` ends with exit code 0 when systemd, or an operator, tells it to. */
export function endBySignal() {
  const end = () => {
    tell("stopped: from now on nothing is approved");
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, end);
}

/**
 * `close`: nobody joins any more, and nothing that `open` and `join` have made in the cluster stays. Errors:
 * as `stopApprover`.
 */
export async function endJoining(api: KubeApi) {
  await stopApprover();
  await closeJoining(api);
  await removeFormers(api);
}

/** Stops it if it runs on this node. Errors: Fail with the message of systemctl. */
async function stopApprover() {
  if (!(await isActive())) return;
  await act("stop", APPROVER, async () => {
    const { exitCode, stderr } = await stopUnit();
    if (exitCode !== 0)
      throw new Fail(`${shell`systemctl stop ${APPROVER}`} exited ${exitCode}: ${quoteUntrusted(stderr)}`, {
        hint: `systemctl status ${APPROVER}; then run the same line again`,
      });
  });
}

/** A failed unit must be reset, too: otherwise the next one cannot start. */
async function stopUnit() {
  const program = (verb: string) => {
    const ask = () => $({ quiet: true, nothrow: true })`systemctl ${verb} ${APPROVER}`;
    return sayWhile(shell`systemctl ${verb} ${APPROVER}`, `systemctl kill ${APPROVER}`, ask);
  };
  const stopped = await program("stop");
  await program("reset-failed");
  return stopped;
}
