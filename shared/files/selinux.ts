/**
 * SELinux: a new file below /etc gets the label of its folder, and not always one that containers may read.
 */
import { readText } from "./files.ts";

/**
 * A hint for a container that does not start, with more if SELinux enforces: only its audit log names the
 * denial.
 */
export function withSelinux(hint: string): string {
  return selinuxEnforces() ? `${hint}. ${ENFORCES}` : hint;
}

export function selinuxEnforces(): boolean {
  return readText("/sys/fs/selinux/enforce")?.trim() === "1";
}

const ENFORCES =
  "SELinux enforces here: ausearch -m avc -ts recent; restorecon -R /etc/kubernetes, or your own chcon again";
