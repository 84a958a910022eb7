/**
 * The flags of this node's kubelet: of its process where it runs, as no file proves as much, or else of its unit. The process is the unit's
 * own (MainPID), so nobody but root chose them.
 */
import { basename } from "node:path";
import { $ } from "zx/core";
import { attempt } from "../fail.ts";
import { readText } from "../files/files.ts";
import { hostText } from "../files/untrusted-file.ts";
import { flagsOf, readUnit } from "./unit-file.ts";

export type KubeletFlags = ReadonlyMap<string, string>;

/** Read where neither a process nor the unit tells: a unit may start the kubelet by a shell. */
const USUAL_FILES = ["/var/lib/kubelet/kubeadm-flags.env", "/etc/default/kubelet", "/etc/sysconfig/kubelet"];

export async function kubeletFlags(): Promise<KubeletFlags> {
  const running = await runningKubelet();
  if (running) return running.flags;
  const { text, command } = await kubeletUnit();
  if (isKubelet(command)) return flagsOf(command);
  const files = USUAL_FILES.flatMap((path) => attempt(() => readText(path), undefined) ?? []);
  const words = [text, ...files].join("\n").split(/["'\s]+|=(?=--)/);
  return flagsOf(words);
}

/** The kubelet's unit with its drop-ins; empty where there is none. */
export async function kubeletUnit(): Promise<ReturnType<typeof readUnit> & { text: string }> {
  const { exitCode, stdout } = await $({ quiet: true, nothrow: true })`systemctl cat kubelet`;
  const text = exitCode === 0 ? stdout : "";
  return { text, ...readUnit(text) };
}

/** The process that runs now still has what a missing file has given it. */
export async function runningKubelet(): Promise<{ pid: number; flags: KubeletFlags } | undefined> {
  const { stdout } = await $({ quiet: true, nothrow: true })`systemctl show -p MainPID --value kubelet`;
  const pid = Number(stdout.trim());
  const command = pid > 0 ? (hostText(`/proc/${pid}/cmdline`) ?? "").split("\0") : [];
  return isKubelet(command) ? { pid, flags: flagsOf(command) } : undefined;
}

/** A shell or another program that starts it in the end tells nothing of its flags. */
export function isKubelet([program = ""]: readonly string[]): boolean {
  return basename(program.replace(/^[-@:+!|]+/, "")) === "kubelet";
}
