/**
 * How the kubelet of this node is started: its flags are those of its process where it runs, as no file proves as much,
 * or else of its unit. The process is the unit's own (MainPID), so nobody but root chose them.
 */

import { basename } from "node:path";
import { $ } from "zx/core";
import { attempt, attemptLater, Fail } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { hostText } from "../files/untrusted-file.ts";
import { mode } from "../run.ts";
import { shell } from "../shell-line.ts";
import { waitFor } from "../wait-for.ts";
import { lostEnv, USUAL_FLAG_FILES, withRestoredEnv } from "./lost-environment.ts";
import { flagsOf, readUnit, textOrNone, type Unit } from "./systemd-unit.ts";

export type KubeletFlags = ReadonlyMap<string, string>;

/** Folders of systemd's units; the first that has the unit counts: systemd.unit(5). */
export const UNIT_FOLDERS = ["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"].map(
  (folder) => `${folder}/systemd/system`,
);

/**
 * The tool that has set this node up by kubeadm, if its files show that: kubespray's kubelet unit reads kubelet.env;
 * KubeKey has a folder of scripts, and since version 4 one of backups.
 */
export function installer(): "kubespray" | "KubeKey" | undefined {
  if (UNIT_FOLDERS.some((folder) => textOrNone(`${folder}/kubelet.service`).includes("/kubelet.env")))
    return "kubespray";
  return ["/usr/local/bin/kube-scripts", "/etc/kubekey"].some((path) => exists(path)) ? "KubeKey" : undefined;
}

/** As systemd says. Who only looks asks once, with the node; who starts it asks anew. */
export async function seeKubelet() {
  const running = await attemptLater(runningKubelet, undefined);
  return { running, unit: await attemptLater(() => systemd("cat", "kubelet"), "") };
}

export type KubeletSeen = Awaited<ReturnType<typeof seeKubelet>>;

/** Its process' flags, or its unit's; where neither tells, those of the usual files alone. */
export async function kubeletFlags({ running, unit: text }: KubeletSeen): Promise<KubeletFlags> {
  if (running?.flags.has("kubeconfig")) return running.flags;
  const unit = readUnit(text);
  const { command } = withRestoredEnv(unit, await lostEnv(unit));
  if (isKubelet(command)) return flagsOf(command);
  if (running) return running.flags;
  const files = USUAL_FLAG_FILES.flatMap((path) => attempt(() => readText(path), undefined) ?? []);
  const words = [text, ...files].join("\n").split(/["'\s]+|=(?=--)/);
  return flagsOf(words);
}

/** Empty where there is none. Errors: as `systemd`. */
export async function kubeletUnit(): Promise<Unit> {
  return readUnit(await systemd("cat", "kubelet"));
}

/** The process that runs now still has what a missing file has given it. Errors: as `systemd`. */
export async function runningKubelet(): Promise<{ pid: number; flags: KubeletFlags } | undefined> {
  const pid = await mainPid("kubelet");
  const command = pid > 0 ? (hostText(`/proc/${pid}/cmdline`) ?? "").split("\0") : [];
  return isKubelet(command) ? { pid, flags: flagsOf(command) } : undefined;
}

/** 0 if it does not run. Errors: as `systemd`. */
export async function mainPid(unit: string): Promise<number> {
  return Number((await systemd("show", "-p", "MainPID", "--value", unit)).trim());
}

const NOT_HERE = /^No files found for |System has not been booted with systemd/m;
const SYSTEMD = "systemctl status; journalctl -n 50 _PID=1";

/**
 * systemctl's output; "" where systemd knows no such unit, or does not run here. Errors: Fail where it does not answer
 * in time: a unit that cannot be read is not none.
 */
async function systemd(...words: string[]): Promise<string> {
  const ask = async () => {
    const { exitCode, stdout, stderr } = await $({ quiet: true, nothrow: true })`systemctl ${words}`;
    if (exitCode === 0) return stdout;
    // 127: by the shell that starts it
    if (exitCode === 127 || NOT_HERE.test(stderr)) return "";
    const why = stderr.trim().split("\n").at(-1);
    throw new Fail(`${shell`systemctl ${words}`} exited ${exitCode}: ${why}`, { hint: SYSTEMD });
  };
  if (mode.dryRun) return await ask();
  return (await waitFor("an answer of systemd", ask, { seconds: 15, hint: SYSTEMD }))!;
}

/** A shell or another program that starts it in the end tells nothing of its flags. */
export function isKubelet([program = ""]: readonly string[]): boolean {
  return basename(program.replace(/^[-@:+!|]+/, "")) === "kubelet";
}
