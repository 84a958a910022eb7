/**
 * Compares this machine's clock with another's, if only a server or a date is known. The cluster's own clocks
 * are in clock.ts.
 */
import { codeOf, Fail } from "../fail.ts";
import { hostAndPort } from "../pki/addresses.ts";
import { BACKDATE_MS, certInfo } from "../pki/certificate.ts";
import { serverTime } from "../pki/served.ts";

/** Certificates are backdated by this much, so clocks that differ by less do no harm. */
export const TOLERANCE_MS = BACKDATE_MS;

/** `right`: the operator's word against all findings. */
export const BY_WORD = "KUBE_PKI_REPAIR_CLOCK";

/** Errors: Fail if a server of this CA has another time than this machine. */
export async function refuseOtherTime(server: string, caPem: string) {
  const { host, port } = hostAndPort(server);
  const time = await serverTime(host, port, caPem);
  const ahead = (time?.getTime() ?? 0) - Date.now();
  if (!time || Math.abs(ahead) <= TOLERANCE_MS || process.env[BY_WORD] === "right") return;
  if (!(await clockIsSynchronized())) throw wrongClock(`${apart(-ahead)} that of ${server}`);
  throw new Fail(`The clock of ${server} is ${apart(ahead)} this machine's, which follows a time server`, {
    unchanged: true,
    hint: `set the clock of that machine: timedatectl; chronyc makestep. ${remakeHint(caPem)}`,
  });
}

/** The things to make again once a control plane node's clock is set; part 2 makes no CA. */
function remakeHint(caPem: string): string {
  const { notBefore } = certInfo(caPem);
  if (notBefore.getTime() <= Date.now())
    return "Then run parts 1 and 2 on that machine again, and this line again";
  const remake =
    "run 01-etcd.ts --new-cas on that machine once more, then what it prints, then the line of a new 03-workers.ts open here";
  return `Its CA begins at ${minute(notBefore)}, later than now: ${remake}`;
}

/** Errors: Fail if another node has made something at a later time than now. */
export function refuseFuture(what: string, made: Date) {
  const ahead = made.getTime() - Date.now();
  if (ahead > TOLERANCE_MS && process.env[BY_WORD] !== "right")
    throw wrongClock(`${duration(ahead)} before ${what}, ${minute(made)}`);
}

export function wrongClock(by: string): Fail {
  return new Fail(`This node's clock says ${minute(new Date())}: that is ${by}`, {
    unchanged: true,
    hint:
      "see which clock is wrong: date -u on each node (certificates made now would not be valid for the others). Set that clock: " +
      "timedatectl set-ntp true, or chronyc makestep; timedatectl shows whether it follows a time server. Then run the same line again. " +
      `If this clock is right, and was wrong before: ${BY_WORD}=right before the same command`,
  });
}

/** "2026-11-26 02:31 UTC" */
export function minute(date: Date): string {
  return `${date.toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** "8 minutes ahead of" */
export function apart(ahead: number): string {
  return `${duration(ahead)} ${ahead > 0 ? "ahead of" : "behind"}`;
}

/** "8 minutes", "3 hours", "365 days" */
export function duration(milliseconds: number): string {
  const minutes = Math.round(Math.abs(milliseconds) / 60_000);
  if (minutes < 120) return `${minutes} minutes`;
  return minutes < 48 * 60 ? `${Math.round(minutes / 60)} hours` : `${Math.round(minutes / (24 * 60))} days`;
}

/** Whether something outside this machine sets its clock. */
const ASK = ["timedatectl", "show", "--property=NTPSynchronized", "--value"];

/** Milliseconds. The bus may be down with the rest: no answer after this time is none. */
const ANSWERS_WITHIN = 2000;

/**
 * Whether the kernel knows that its clock follows a time server, of whatever program (chrony, ntpd,
 * systemd-timesyncd): adjtimex(2) without STA_UNSYNC, as timedatectl(1) shows it. False if it cannot be
 * asked.
 */
export async function clockIsSynchronized(): Promise<boolean> {
  try {
    const timedatectl = Bun.spawn(ASK, {
      timeout: ANSWERS_WITHIN,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "ignore",
    });
    return (
      (await timedatectl.exited) === 0 && (await new Response(timedatectl.stdout).text()).trim() === "yes"
    );
  } catch (err) {
    if (codeOf(err)) return false; // the system's reason: there is no such program
    throw err;
  }
}
