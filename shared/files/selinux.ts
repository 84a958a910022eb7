/** SELinux: what a repair makes anew below /etc gets the label of its folder, and not always the one that containers may read. */
import { readText } from "./files.ts";

/** More for the hint where a container does not start; "" where SELinux does not enforce. Only its audit log says what it has forbidden. */
export function selinuxHint(): string {
  const enforces = readText("/sys/fs/selinux/enforce")?.trim() === "1";
  return enforces ? ". SELinux enforces here: ausearch -m avc -ts recent; restorecon -R /etc/kubernetes, or your own chcon again" : "";
}
