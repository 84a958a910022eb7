/** Whether something outside this machine sets its clock. */
import { $ } from "zx/core";

/** The bus may be down with the rest: no answer after this time is none. */
const PATIENCE = "2s";

/**
 * Whether the kernel knows that its clock follows a time server, of whatever program (chrony, ntpd, systemd-timesyncd): adjtimex(2) without
 * STA_UNSYNC, as timedatectl(1) shows it. False where it cannot be asked.
 */
export async function clockIsSynchronized(): Promise<boolean> {
  const asked = $({ quiet: true, nothrow: true, timeout: PATIENCE })`timedatectl show --property=NTPSynchronized --value`;
  return (await asked).stdout.trim() === "yes";
}
