/** Whether something outside this machine sets its clock. */
const ASK = ["timedatectl", "show", "--property=NTPSynchronized", "--value"];

/** Milliseconds. The bus may be down with the rest: no answer after this time is none. */
const PATIENCE = 2000;

/**
 * Whether the kernel knows that its clock follows a time server, of whatever program (chrony, ntpd, systemd-timesyncd): adjtimex(2) without
 * STA_UNSYNC, as timedatectl(1) shows it. False where it cannot be asked.
 */
export async function clockIsSynchronized(): Promise<boolean> {
  try {
    const asked = Bun.spawn(ASK, { timeout: PATIENCE, stdin: "ignore", stdout: "pipe", stderr: "ignore" });
    return (await asked.exited) === 0 && (await new Response(asked.stdout).text()).trim() === "yes";
  } catch (err) {
    if (err instanceof Error && "code" in err) return false; // the system's reason: there is no such program
    throw err;
  }
}
