/**
 * Finds this node's control plane processes, and reads their memory, and files that are deleted and that they
 * still have mounted, by /proc (proc(5)): `comm`, `maps`, `mem`, `root`. Reading does not stop or change
 * them.
 *
 * Only writable mappings are read: keys are in the heap. One buffer is used again and again, so a process of
 * any size costs the same few megabytes. A single file that a static pod mounts stays readable below
 * /proc/PID/root: kubeadm mounts controller-manager.conf and scheduler.conf so; operators often mount an
 * encryption or authentication configuration so.
 */

import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { type KnownPods, processOwner } from "../../evidence/owners.ts";
import { may } from "../../evidence/sources.ts";
import type { LostFile } from "../../facts/lost-file.ts";
import { attempt, Fail } from "../../fail.ts";
import { hostPath, readText } from "../../files/files.ts";
import { gone, hostText, textInProcessRoot } from "../../files/untrusted-file.ts";
import { keyMatches, shareCertificate, signedBy } from "../../pki/certificate.ts";
import { KUBECONFIGS, parseKubeconfig } from "../../pki/kubeconfigs.ts";
import { COMM } from "../../shell-line.ts";
import type { FoundCopy } from "../found-copy.ts";

export interface Process {
  pid: number;
  name: string;
}

/** Processes that may hold keys, those that hold the most first. `comm` has at most 15 characters. */
const HOLDERS: readonly { comm: string; name: string }[] = [
  { comm: "kube-controller", name: "kube-controller-manager" },
  { comm: "kube-apiserver", name: "kube-apiserver" },
  { comm: "etcd", name: "etcd" },
  { comm: "kube-scheduler", name: "kube-scheduler" },
  { comm: "kubelet", name: "kubelet" },
];

export type Holders = ReturnType<typeof holders>;

/**
 * Processes in this node's own PID namespace with the name of a control plane process, by their owner
 * (evidence/owners.ts): `own` are the control plane's, in the order of HOLDERS; `others` only have such a
 * name, and are not read.
 */
export function holders(knownPods: KnownPods) {
  const proc = hostPath("/proc");
  const pids = existsSync(proc) ? readdirSync(proc).filter((name) => /^\d+$/.test(name)) : [];
  const named = pids.flatMap((pid) => {
    const comm = hostText(`/proc/${pid}/comm`)?.trim();
    const rank = HOLDERS.findIndex((holder) => holder.comm === comm);
    return rank < 0 ? [] : [{ pid: Number(pid), name: HOLDERS[rank]!.name, rank }];
  });
  const sorted = named
    .sort((a, b) => a.rank - b.rank || a.pid - b.pid)
    .map(({ pid, name }) => ({ pid, name }));
  const owned = sorted.map((process) => ({
    process,
    owner: processOwner(process.pid, process.name, knownPods),
  }));
  return {
    own: owned.flatMap(({ process, owner }) => (may(owner.source, "files") ? [process] : [])),
    others: owned.flatMap(({ process, owner }) =>
      may(owner.source, "files") ? [] : [{ ...process, owner, comm: process.name.slice(0, COMM) }],
    ),
  };
}

/**
 * Bytes read at a time, and how many of the chunk before are read again: the longest PEM text of a key is
 * shorter.
 */
const CHUNK = 4 << 20;
const OVERLAP = 4096;

/**
 * A piece is only good until the next one. 8-byte words of the process are aligned in it. Pieces of one mapping
 * overlap. A mapping that goes away meanwhile is skipped, and a process that ends, ends it. Errors: Fail where the
 * memory may not be read at all.
 */
export function* memoryOf(process: Process): Generator<Uint8Array> {
  const folder = `${hostPath("/proc")}/${process.pid}`;
  const maps = gone(() => readFileSync(`${folder}/maps`, "utf8"));
  const memory = maps === undefined ? undefined : openMemory(folder);
  if (maps === undefined || memory === undefined) return;
  // 8 bytes for each page; undefined where the kernel has none such
  const table = gone(() => openSync(`${folder}/pagemap`, "r"));
  const pages = table === undefined ? undefined : { file: table, page: pageSize() };
  // from the start of a buffer of its own, so that views of 4-byte words are aligned
  const buffer = new Uint8Array(CHUNK + OVERLAP);
  try {
    for (const { from, to } of writable(maps)) {
      for (let address = from; address < to; address += CHUNK) {
        const end = Math.min(address + CHUNK, to);
        if (pages && !isTouched(pages, address, end)) continue;
        // the overlap lies before, not behind: reading a page makes it count as touched
        const begin = Math.max(from, address - OVERLAP);
        const read = gone(() => readSync(memory, buffer, 0, end - begin, begin)) ?? 0;
        if (read > 0) yield buffer.subarray(0, read);
      }
    }
  } finally {
    closeSync(memory);
    if (pages) closeSync(pages.file);
  }
}

/**
 * Bytes: 4096 on most machines, 65536 on some with ARM. From the auxiliary vector (getauxval(3)), pairs of 8
 * bytes: AT_PAGESZ is 6.
 */
function pageSize(): number {
  const vector = readFileSync("/proc/self/auxv");
  for (let at = 0; at + 16 <= vector.length; at += 16)
    if (vector.readBigUInt64LE(at) === 6n) return Number(vector.readBigUInt64LE(at + 8));
  throw new Error("/proc/self/auxv has no AT_PAGESZ");
}

/**
 * Whether any page there is in memory or swapped out (pagemap's bits 63 and 62): programs reserve far more
 * than they ever write to.
 */
function isTouched({ file, page }: { file: number; page: number }, from: number, to: number): boolean {
  const entries = Buffer.alloc(((to - from) / page) * 8);
  const read = gone(() => readSync(file, entries, 0, entries.length, (from / page) * 8));
  if (read === undefined) return true;
  for (let at = 7; at < read; at += 8) if (entries[at]! >= 0x40) return true;
  return false;
}

/** `c000000000-c000400000 rw-p 00000000 00:00 0`, a line each. */
function writable(maps: string) {
  const lines = maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw/gm);
  return [...lines].map(([, from, to]) => ({
    from: Number.parseInt(from!, 16),
    to: Number.parseInt(to!, 16),
  }));
}

function openMemory(folder: string): number | undefined {
  try {
    return gone(() => openSync(`${folder}/mem`, "r"));
  } catch (err) {
    throw new Fail(`Cannot read its memory: ${(err as Error).message}`, {
      hint: "run this as root on the node itself, not in a container (it needs CAP_SYS_PTRACE); sysctl kernel.yama.ptrace_scope must not be 3",
      cause: err,
    });
  }
}

/** Lost files that the static pods' flags name, and that the pod's own process still has mounted. */
export function mountedFiles(processes: readonly Process[], lost: readonly LostFile[]): FoundCopy[] {
  return lost.flatMap(({ path, inside, program }) => {
    const its = processes.filter(({ name }) => name === program);
    return firstMounted(its, { path, inside }, (text) => text.trim() !== "" && !text.includes("\ufffd"));
  });
}

/** `inside`: the path by which the processes have it. */
function firstMounted(
  processes: readonly Process[],
  { path, inside }: { path: string; inside: string },
  isGood: (content: string) => boolean,
): FoundCopy[] {
  for (const { name, pid } of processes) {
    const content = textInProcessRoot(pid, inside);
    if (content && isGood(content)) return [{ path, content, from: `still mounted in ${name} (pid ${pid})` }];
  }
  return [];
}

/** Kubeconfigs that are missing on this node, whole, and of the cluster's CA. */
export function mountedKubeconfigs(processes: readonly Process[], caPem: string): FoundCopy[] {
  const missing = KUBECONFIGS.filter(({ path }) => !readText(path)?.trim());
  return missing.flatMap(({ path }) =>
    firstMounted(
      processes,
      { path, inside: path },
      (text) => attempt(() => isOurs(text, path, caPem)) === true,
    ),
  );
}

/** Errors: Fail where it cannot be read. */
function isOurs(content: string, path: string, caPem: string): boolean {
  const { caPem: trusted, clientCertPem: cert = "", clientKeyPem: key = "" } = parseKubeconfig(content, path);
  return shareCertificate(trusted, caPem) && signedBy(cert, caPem) && keyMatches(cert, key);
}
