/**
 * SELinux: what a repair makes anew below /etc gets the label of its folder, and not always the one that
 * containers may read.
 */
import { readText } from "./files.ts";

/**
 * A hint for where a container does not start, with more where SELinux enforces: only its audit log says what
 * it has forbidden.
 */
export function withSelinux(hint: string): string {
  return selinuxEnforces() ? `${hint}. ${ENFORCES}` : hint;
}

export function selinuxEnforces(): boolean {
  return readText("/sys/fs/selinux/enforce")?.trim() === "1";
}

const ENFORCES =
  "SELinux enforces here: ausearch -m avc -ts recent; restorecon -R /etc/kubernetes, or your own chcon again";
