/**
 * Key material as it is in the memory of programs, and processes that hold it: real ones of our own, and
 * pretend ones.
 */
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import {
  chownSync,
  closeSync,
  mkdirSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";

export function rsaKey(modulusLength = 2048): KeyObject {
  return generateKeyPairSync("rsa", { modulusLength }).privateKey;
}

export function ecKey(namedCurve: "P-256" | "P-384" = "P-256"): KeyObject {
  return generateKeyPairSync("ec", { namedCurve }).privateKey;
}

/** A number of a key (a field of its JWK) as limbs, lowest byte first. */
export function limbs(key: KeyObject, field: "n" | "p" | "q" | "d"): Buffer {
  return Buffer.from(
    (key.export({ format: "jwk" }) as Record<string, string>)[field]!,
    "base64url",
  ).reverse();
}

/** An ECDSA key as Go holds it: the scalar as a big.Int, with four words to spare. */
export function bigInt(key: KeyObject): Buffer {
  return Buffer.concat([limbs(key, "d"), Buffer.alloc(32)]);
}

/** A process of our own that holds these bytes, each piece at the start of a page. */
export async function holder(pieces: readonly Uint8Array[]) {
  const child = Bun.spawn([process.execPath, `${import.meta.dir}/../fixtures/memory-holder.ts`], {
    stdin: "pipe",
    stdout: "pipe",
  });
  child.stdin.write(`${JSON.stringify(pieces.map((piece) => Buffer.from(piece).toString("hex")))}\n`);
  child.stdin.flush();
  const reader = child.stdout.getReader();
  await reader.read();
  return {
    pid: child.pid,
    name: "holder",
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await child.exited;
    },
  };
}

/** The start of a pretend process's only mapping. */
const BASE = 0x10000;

export interface PretendProcess {
  pid: number;
  comm: string;
  holds?: readonly Uint8Array[];
  /** Bytes of its mapping; all except `holds` is empty. */
  mapped?: number;
  /** Files that it still has mounted, by path. */
  mounts?: Record<string, string>;
  /** As in proc(5); default: "S", it sleeps. "T": a signal has stopped it. */
  state?: string;
  /** Its terminal; default: none. */
  terminal?: number;
  /**
   * Its cgroup. Default, by its name: a container of one of kube-system's static pods, or the kubelet's unit.
   */
  cgroup?: string;
  /** This folder of its cgroup, and those below it, belong to a user; default: all are root's. */
  his?: string;
  /** Its command line; default: none. */
  args?: readonly string[];
  /** When it started; default: the kernel does not say. */
  started?: Date;
}

/** UIDs of pods: a kubelet gives MD5 sums to static pods, the API server gives UUIDs to all others. */
export const STATIC_UID = "0123456789abcdef0123456789abcdef";
export const POD_UID = "5c3e2d1f-0a9b-4c8d-8e7f-1a2b3c4d5e6f";

/** The kubelet's record of a pod: a folder for its logs. */
export function podRecord(root: string, namespace: string, name: string, uid: string) {
  mkdirSync(`${root}/var/log/pods/${namespace}_${name}_${uid}`, { recursive: true });
}

const PROGRAMS: Record<string, string> = { "kube-controller": "kube-controller-manager" };

function cgroupOf(root: string, { pid, comm }: PretendProcess): string {
  if (comm === "kubelet") return "/system.slice/kubelet.service";
  const uid = `${String(pid).padStart(4, "0")}${STATIC_UID.slice(4)}`;
  podRecord(root, "kube-system", `${PROGRAMS[comm] ?? comm}-m1`, uid);
  return `/kubepods/burstable/pod${uid}/${"c".repeat(64)}`;
}

/** Fields 14 to 22 of its line; the machine runs for 10,000 days. */
function startTime(root: string, started: Date): string {
  const uptime = 864_000_000;
  writeFileSync(`${root}/proc/uptime`, `${uptime}.00 0.00\n`);
  return ` 0 0 0 0 20 0 1 0 ${Math.round((uptime - (Date.now() - started.getTime()) / 1000) * 100)}`;
}

/** A cgroup's folder, with those above it. `his`: this one of them, and all below it, belong to a user. */
export function cgroupFolder(
  root: string,
  cgroup: string,
  { his, top = "" }: { his?: string; top?: string } = {},
) {
  const at = `${root}/sys/fs/cgroup${top}`;
  mkdirSync(at + cgroup, { recursive: true });
  if (his === undefined) return;
  const names = cgroup.split("/");
  for (let to = his.split("/").length; to <= names.length; to++)
    chownSync(at + names.slice(0, to).join("/"), USER, USER);
}

/** A user of the node without any rights. */
export const USER = 1234;

/** What systemd gives to him: he names the folders below it. */
export const DELEGATED = `/user.slice/user-${USER}.slice/user@${USER}.service`;

/** Writes /proc/PID of a pretend process below a node's root, and its cgroup's folders. */
export function pretendProcess(root: string, process: PretendProcess) {
  const { pid, comm, holds = [], mapped = 1 << 20, mounts = {}, cgroup = cgroupOf(root, process) } = process;
  const { state = "S", terminal = 0, args = [], started, his } = process;
  const folder = `${root}/proc/${pid}`;
  mkdirSync(`${folder}/root/etc/kubernetes`, { recursive: true });
  writeFileSync(`${folder}/cgroup`, `0::${cgroup}\n`);
  cgroupFolder(root, cgroup, his ? { his } : {});
  writeFileSync(
    `${folder}/stat`,
    `${pid} (${comm}) ${state} 1 ${pid} ${pid} ${terminal} -1 4194560 0 0 0 0${started ? startTime(root, started) : ""}\n`,
  );
  writeFileSync(`${folder}/cmdline`, args.map((word) => `${word}\0`).join(""));
  writeFileSync(`${folder}/comm`, `${comm}\n`);
  writeFileSync(
    `${folder}/maps`,
    `00001000-00002000 r-xp 00000000 00:00 0    /usr/local/bin/${comm}\n${BASE.toString(16)}-${(BASE + mapped).toString(16)} rw-p 00000000 00:00 0\n`,
  );
  const memory = openSync(`${folder}/mem`, "w", 0o600);
  for (const [i, piece] of holds.entries()) writeSync(memory, piece, 0, piece.length, BASE + (i + 1) * 4096);
  writeSync(memory, Buffer.alloc(1), 0, 1, BASE + mapped - 1);
  closeSync(memory);
  for (const [path, content] of Object.entries(mounts)) writeFileSync(`${folder}/root${path}`, content);
}

/** One whose memory may not be read, as where kernel.yama.ptrace_scope is 3. */
export function unreadableProcess(root: string, process: PretendProcess) {
  pretendProcess(root, process);
  const memory = `${root}/proc/${process.pid}/mem`;
  rmSync(memory);
  symlinkSync("mem", memory);
}
