/**
 * A run that writes has the node for itself (see `lockNode`), and leaves its transcript, and what it changed, in the
 * rescue folder:
 * RESCUE/runs/TIME-SCRIPT-PID.txt as the operator saw it, and beside it .jsonl, one JSON object a line:
 *
 *     {"at":"2026-05-01T10:00:00.000Z","what":"run","format":1,"script":"01-etcd","version":"1.0.0","args":["--new-cas"],"host":"cp1"}
 *     {"at":…,"what":"node","name":"cp1"}
 *     {"at":…,"what":"step","title":"1.4 Make or keep the shared keys"}       and "step end" with "ok"
 *     {"at":…,"what":"file","did":"wrote","path":"/etc/kubernetes/pki/ca.crt","mode":"0644","certificates":[{"subject","fingerprint","until"}]}
 *     {"at":…,"what":"act","line":"stopped kubelet"}    {"at":…,"what":"object","verb":"PATCH","path":"/api/v1/…"}
 *     {"at":…,"what":"proved","subject":"etcd"}          {"at":…,"what":"waited","for":"etcd to answer","seconds":2.5}
 *     {"at":…,"what":"failed","message":…,"hint":…}      {"at":…,"what":"end","exitCode":0,"objects":{"PATCH secrets":31}}
 *
 * Nothing is written before the run changes something outside of memory: a refusal leaves no file, and no
 * free block of a disk that is searched is overwritten. Then each line is appended as it comes, so a run that
 * was cut off has a step without its end. A repair never fails for its log.
 */

import {
  closeSync,
  existsSync,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { codeOf, Fail } from "../fail.ts";
import { refuseNoRoom } from "../files/file-tree.ts";
import {
  exists,
  hostPath,
  list,
  makeFolder,
  readText,
  removeLeftOvers,
  stat,
  UNFINISHED,
} from "../files/files.ts";
import { tryFile } from "../files/root.ts";
import { certInfo, certificatesIn, orUndefined } from "../pki/certificate.ts";
import { quoteUntrusted, redact } from "../plain.ts";
import { endOnSignal, mode, say } from "../run.ts";
import { listenToRun, type RunEvent } from "../this-run.ts";
import { needRoot } from "./node.ts";
import { RECORD_FORMAT } from "./record-format.ts";
import { rescuedEtcd, rescuedLog, rescueFolders, rescueOfRun, transcriptFolder } from "./rescue-folder.ts";

/**
 * Whether a run that is kept on this node was going on at this time; the last one also later, where it was
 * cut off: what it wrote then, its record may not know.
 */
export function wasDuringRun(time: Date): boolean {
  const records = rescueFolders().flatMap((rescue) =>
    list(transcriptFolder(rescue)).flatMap((name) => recordOf(`${transcriptFolder(rescue)}/${name}`) ?? []),
  );
  const last = records.sort((a, b) => a.began.getTime() - b.began.getTime()).at(-1);
  return records.some((one) => one.began <= time && (time <= one.until || (one === last && !one.hasEnded)));
}

function recordOf(path: string): { began: Date; until: Date; hasEnded: boolean } | undefined {
  const [text, until] = path.endsWith(".jsonl") ? [readText(path), stat(path)?.modified] : [];
  const at = /^\{"at":"([^"]+)"/.exec(text ?? "")?.[1];
  const [last = "", rest] = (text ?? "").split("\n").slice(-2);
  const hasEnded = rest === "" && last.includes('"what":"end"');
  return at && until ? { began: new Date(at), until, hasEnded } : undefined;
}

/** Bytes of one file. What is more is left out, but for steps and the end. */
const LARGEST = 8 << 20;

/** So many objects are named, of one kind and by one verb; the others are counted. */
const NAMED = 100;

/** Changes there are gone after a boot, and are no reason to write to a disk. */
const MEMORY = /^\/(run|dev\/shm|dev\/tty)(\/|$)/;

/** Base64 of no known form, as the lines of a PEM body. */
const BASE64_LINE = /^[ \t]*[A-Za-z0-9+/]{60,}={0,2}[ \t]*$/gm;

/**
 * From here on this run is kept. `onlyInRepair`: only if its rescue folder is there already, for what is also
 * done on a good day. A dry run tells nothing, so nothing is kept of it.
 */
export function keepRun({ onlyInRepair = false } = {}) {
  const run = new KeptRun(onlyInRepair);
  listenToRun((event, at) => run.hear(event, at));
  process.on("exit", (code) => run.end(code));
}

interface Open {
  fd: number;
  /** Bytes written. */
  size: number;
}

type OpenFiles = Record<"text" | "record", Open>;

class KeptRun {
  readonly #onlyInRepair: boolean;
  readonly #waiting: { event: RunEvent; at: Date }[] = [];
  readonly #objects = new Map<string, number>();
  #files: OpenFiles | undefined;

  constructor(onlyInRepair: boolean) {
    this.#onlyInRepair = onlyInRepair;
  }

  hear(event: RunEvent, at: Date) {
    if (this.#files) return this.#orGoOn(() => this.#write(event, at));
    this.#waiting.push({ event, at });
    if (isChange(event)) this.#orGoOn(() => this.#begin());
  }

  end(exitCode: number) {
    if (!this.#files) return;
    this.#orGoOn(() => {
      this.#line(new Date(), { what: "end", exitCode, objects: Object.fromEntries(this.#objects) }, true);
      fdatasyncSync(this.#files!.record.fd);
    });
    listenToRun(undefined);
  }

  #begin() {
    const rescue = rescueOfRun();
    if (this.#onlyInRepair && !exists(rescue.dir)) return listenToRun(undefined);
    refuseNoRoom([], rescue.dir);
    const [first] = this.#waiting as [{ event: Extract<RunEvent, { what: "run" }>; at: Date }];
    const stamp = first.at.toISOString().slice(0, 19).replace(/[-:]/g, "");
    const name = `${transcriptFolder(rescue)}/${stamp}-${first.event.script.replaceAll(" ", "-")}-${process.pid}`;
    const open = (path: string): Open => ({
      fd: tryFile("write", path, () => openSync(hostPath(path), "ax", 0o600), true)!,
      size: 0,
    });
    makeFolder(hostPath(dirname(name)), 0o700);
    this.#files = { text: open(`${name}.txt`), record: open(`${name}.jsonl`) };
    for (const { event, at } of this.#waiting) this.#write(event, at);
    this.#waiting.length = 0;
  }

  #write(event: RunEvent, at: Date) {
    if (event.what === "text") return this.#append("text", `${withoutSecrets(event.text)}\n`);
    if (event.what === "object" && !this.#named(event)) return;
    this.#line(at, recordEntry(event), event.what.startsWith("step"));
  }

  #named({ verb, path }: Extract<RunEvent, { what: "object" }>): boolean {
    const kind = `${verb} ${resourceOf(path)}`;
    const count = (this.#objects.get(kind) ?? 0) + 1;
    this.#objects.set(kind, count);
    return count <= NAMED;
  }

  #line(at: Date, entry: object, mustStay: boolean) {
    const line = withoutSecrets(JSON.stringify({ at: at.toISOString(), ...entry }));
    this.#append("record", `${line}\n`, mustStay);
    if (mustStay) this.#toDisk(this.#files!);
  }

  /** Not waited for: what a loss of power takes within these milliseconds was being done, or not yet begun. */
  #toDisk(files: OpenFiles) {
    fdatasync(files.record.fd, (err) => {
      if (!err || files !== this.#files) return;
      this.#orGoOn(() => {
        throw err;
      });
    });
  }

  #append(which: "text" | "record", text: string, mustStay = false) {
    const file = this.#files![which];
    const bytes = Buffer.from(text);
    if (file.size + bytes.length > LARGEST && !mustStay) return;
    for (let at = 0; at < bytes.length; ) at += writeSync(file.fd, bytes, at);
    file.size += bytes.length;
  }

  /** Says once that it cannot be written, whatever the reason is. */
  #orGoOn(action: () => void) {
    try {
      action();
    } catch (err) {
      listenToRun(undefined);
      for (const { fd } of Object.values(this.#files ?? {})) closeSync(fd);
      this.#files = undefined;
      const why = err instanceof Error ? err.message : err;
      say(`warning: this run continues, but its transcript is not saved: ${why}`);
    }
  }
}

function isChange(event: RunEvent): boolean {
  if (event.what !== "file") return event.what === "act" || event.what === "object";
  // what was not whole was nobody's file
  const isNothing = (path: string) => MEMORY.test(path) || path.endsWith(UNFINISHED);
  return ![event.path, event.to ?? event.path].every(isNothing);
}

function recordEntry(event: RunEvent): object {
  if (event.what === "run") return { ...event, format: RECORD_FORMAT, host: hostname() };
  if (event.what !== "file") return event;
  const { bytes, mode, ...rest } = event;
  const certificates = bytes ? certificatesOf(Buffer.from(bytes).toString()) : [];
  return {
    ...rest,
    ...(mode !== undefined && { mode: mode.toString(8).padStart(4, "0") }),
    ...(certificates.length > 0 && { certificates }),
  };
}

/** In PEM, or of a kubeconfig's client. */
function certificatesOf(text: string) {
  const client = /^[ \t]*client-certificate-data: (\S+)$/m.exec(text)?.[1];
  const pems = certificatesIn(client ? Buffer.from(client, "base64").toString() : text);
  return pems
    .flatMap((pem) => orUndefined(() => certInfo(pem)) ?? [])
    .map((info) => ({
      subject: info.subject,
      fingerprint: info.publicKeyHash,
      until: info.notAfter.toISOString(),
    }));
}

/** "secrets" of /api/v1/namespaces/NS/secrets/NAME, "eviction" of …/pods/NAME/eviction. */
function resourceOf(path: string): string {
  const parts = path
    .split("/")
    .filter(Boolean)
    .slice(path.startsWith("/apis/") ? 3 : 2);
  const [first, , ...rest] = parts;
  return (first === "namespaces" && rest.length > 0 ? (rest[2] ?? rest[0]) : (parts[2] ?? first)) ?? path;
}

function withoutSecrets(text: string): string {
  return redact(text).text.replace(BASE64_LINE, "<base64>");
}

/*
 * A second script at the same time would make a second CA, or roll back what the first one does. The kernel holds the
 * lock for the process (flock(2)), so it ends with the process, however that ends. Its file is in /run: in memory,
 * where only root can make one. `fstat` and `stat` tell whether it is still the one of that name.
 */

const LOCK = "/run/kube-pki-repair.lock";

const LOCKED = 4;

/**
 * From here on this script may change the node, a signal ends it in order, and what it says and changes is
 * kept (`kept`: as keepRun). Errors: Fail where this is not root, or where another run that changes the node
 * has not ended. A dry run is kept out by nobody.
 */
export function lockNode(kept: Parameters<typeof keepRun>[0] = {}) {
  needRoot();
  if (mode.dryRun) return;
  lock();
  endOnSignal();
  keepRun(kept);
}

/**
 * The same for a script that does nothing which another run could disturb: it may run at the same time, and
 * takes no lock.
 */
export function lockNodeShared() {
  needRoot();
  keepRun();
}

/** The lock's file that this process holds: what runs in it after that has the node already. */
let held: string | undefined;

function lock() {
  const path = hostPath(LOCK);
  if (held === path) return;
  // below another root (a disk that is looked at elsewhere) there may be none, and no other run
  if (!existsSync(dirname(path))) return;
  const fd = tryFile("lock", LOCK, () => lockFile(path), true);
  if (fd === undefined) return;
  held = path;
  truncateSync(path);
  const since = new Date().toISOString().slice(0, 19).replace("T", " ");
  writeSync(fd, `${process.pid} (${mode.script}, since ${since} UTC)`);
  process.on("exit", () => rmSync(path, { force: true }));
  clearUp();
}

/** Nobody else writes now: what is not whole is of a run that was cut off. */
function clearUp() {
  for (const folder of ["/etc/kubernetes", "/var/lib/kubelet/pki"]) removeLeftOvers(folder);
  for (const rescue of rescueFolders())
    removeLeftOvers(rescue.dir, [rescuedEtcd(rescue), rescuedLog(rescue)]);
}

const NO_FLOCK =
  "warning: flock (util-linux) is missing: see to it that no other script of the kit runs here";

/** Undefined where this node has no program for that. */
function lockFile(path: string): number | undefined {
  for (;;) {
    const fd = openSync(path, "a+", 0o600);
    const answer = flock(fd);
    if (answer === "no program") return void say(NO_FLOCK);
    if (answer === "another's") throw lockedBy(readFileSync(path, "utf8"));
    // the one before removes its file at its end: perhaps after we opened it
    if (statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(fd).ino) return fd;
    closeSync(fd);
  }
}

/**
 * util-linux and busybox have the program; the lock is the open file's, so it stays when the program ends.
 */
function flock(fd: number): "ours" | "another's" | "no program" {
  try {
    const { exitCode } = Bun.spawnSync(["flock", "-n", "3"], { stdio: ["ignore", "ignore", "ignore", fd] });
    return exitCode === 0 ? "ours" : "another's";
  } catch (err) {
    if (codeOf(err) === "ENOENT") return "no program";
    throw err;
  }
}

function lockedBy(text: string): Fail {
  const holder = quoteUntrusted(text);
  const pid = /^\d+/.exec(holder)?.[0];
  return new Fail(`This node is locked by ${holder ? `process ${holder}` : "another run"}`, {
    unchanged: true,
    hint: `wait until that run has finished${pid ? `, or look at it: ps -fp ${pid}. If its window is gone: kill ${pid} ends it in order` : ""}; then run the same line again`,
    exitCode: LOCKED,
  });
}
