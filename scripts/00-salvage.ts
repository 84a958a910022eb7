#!/usr/bin/env bun
/**
 * RUNBOOK part 0: searches for the old keys before new ones are made, and puts them back. A public
 * key of the cluster proves each of them. Run on each control plane node, before anything there is
 * restarted. Safe to run again.
 */
import { Fail } from "../shared/fail.ts";
import { type OptionValues, parseOptions } from "../shared/files/operator-files.ts";
import { lockNode } from "../shared/node/kept-run.ts";
import { done, run, say, start, step, tell } from "../shared/run.ts";
import { DISK_MINUTES, ownDevice, searchDisk } from "../shared/salvage/disk-search.ts";
import { openSecret, searchSecrets } from "../shared/salvage/keys-in-copies.ts";
import {
  lookForLost,
  nextAfterSalvage,
  nextCommand,
  type Salvage,
} from "../shared/salvage/look.ts";
import { searchMemory } from "../shared/salvage/memory-search.ts";
import { putBack } from "../shared/salvage/put-back.ts";
import { isIrreplaceable } from "../shared/salvage/wanted-keys.ts";
import { onSignal } from "../shared/this-run.ts";

/**
 * Finds keys, and writes none that a public key of the cluster does not prove.
 * 1. Which keys are lost, and by which public key or token each can be proved.
 * 2. The memory of processes that still run: it is the quickest place, and a restart empties it.
 * 3. The Secret that kubeadm keeps for two hours, opened with the key that the operator has.
 * 4. The free blocks of the disk: nothing is written to that disk while they are read.
 * 5. The proved keys come into their places; two that can both be the one are a question.
 * A search that is stopped keeps what it has found: the same line goes on.
 */
async function main() {
  const { values, positionals } = parseOptions({
    options: OPTIONS,
    usage: USAGE,
    allowPositionals: true,
    commands: { "": [], memory: [], secret: [], disk: [], files: [] },
  });
  const places = placesIn(positionals);
  start("00-salvage", values);
  lockNode();
  onSignal(stopSearch);

  const salvage = await step("0.2 Look at which keys are lost, and what proves each", () =>
    lookForLost(values["etcd-data"], {
      others: values["move-aside"],
      kid: values.kid,
      from: values.from,
      pid: values.pid,
      backup: values.backup,
      stop: stop.signal,
    }),
  );
  const only = positionals[0];
  const job: Job = { ...salvage, values, only, searched: [] };
  const search: Record<Place, () => Promise<boolean>> = {
    memory: () =>
      step("0.3 Search the memory of the processes that still run", () => searchProcesses(job)),
    secret: () => step("0.4 Look into the Secrets of etcd's data", () => searchSecret(job)),
    disk: () => step("0.5 Search the free blocks of the disk", () => searchFreeBlocks(job)),
  };
  for (const place of places)
    if (isLost(job, place) && !stop.signal.aborted) await searchIn(job, place, search[place]);
  const question = await step("0.6 Put what was found into its place", () =>
    putBack(job, { moveToRescue: values["move-aside"] }),
  );
  if (stop.signal.aborted) return stopped();
  if (job.trouble !== undefined && (only !== undefined || !(job.trouble instanceof Fail)))
    throw job.trouble;
  sayNext(job, question);
}

/** The facts of the search, and its finds so far. */
interface Job extends Salvage {
  values: Values;
  /** Set if only this place was asked for. */
  only: string | undefined;
  /**
   * Places that were really searched: not a Secret without its key, nor a disk that cannot be read.
   */
  searched: Place[];
  /** The first error that ended a search early: thrown when everything found is in its place. */
  trouble?: unknown;
}

/** Places to search, the cheapest first. */
const PLACES = ["memory", "secret", "disk"] as const;

type Place = (typeof PLACES)[number];

const NAMES: Record<Place, string> = {
  memory: "memory",
  secret: "the Secret kubeadm-certs",
  disk: "the disk",
};

function placesIn(positionals: readonly string[]): Place[] {
  return PLACES.filter((place) => place === (positionals[0] ?? place));
}

/** If one search ends early, the others continue, and everything found until then is put back. */
async function searchIn(job: Job, place: Place, search: () => Promise<boolean>) {
  try {
    if (await search()) job.searched.push(place);
  } catch (err) {
    if (!(err instanceof Error)) throw err;
    job.trouble ??= err;
    say(`not searched to the end: ${err.message}${err instanceof Fail ? `; ${err.hint}` : ""}`);
  }
}

/**
 * Whether something is missing that this place may have. A disk takes long: unless asked for, it is
 * searched only for what nothing else can replace.
 */
function isLost({ foundKeys, configs, only }: Job, place: Place): boolean {
  if (place !== "disk") return foundKeys.missing().length > 0;
  return (
    configs.length > 0 || foundKeys.missing().some((key) => only === "disk" || isIrreplaceable(key))
  );
}

async function searchProcesses({ foundKeys, here, processes }: Job): Promise<boolean> {
  const unread = await searchMemory(foundKeys, { data: here.data, processes, stop: stop.signal });
  return unread.length === 0;
}

async function searchSecret(job: Job): Promise<boolean> {
  const { foundKeys, here, values, only } = job;
  await searchSecrets(foundKeys, here.data, { stop: stop.signal });
  if (foundKeys.missing().length === 0) return true;
  const keyFile = values["certificate-key-file"];
  const lost = foundKeys.missing().map(({ name }) => name);
  const otherwise = nextCommand(job, lost);
  return openSecret(foundKeys, here.data, { keyFile, mayAsk: only !== undefined, otherwise });
}

async function searchFreeBlocks({ values, foundKeys, disk }: Job): Promise<boolean> {
  await searchDisk(values.image ?? values.device ?? (await ownDevice()), foundKeys, disk, {
    minutes: Number(values.minutes),
    stop: stop.signal,
  });
  return true;
}

/** Exits with 2 if a key is still lost. */
function sayNext(job: Job, question: Fail | undefined) {
  const { searched, values } = job;
  const next = nextAfterSalvage(job, {
    notFound: searched.map((place) => NAMES[place]),
    moveToRescue: values["move-aside"] === true,
    question,
  });
  if (next !== undefined) return done(next);
  process.exitCode = 2;
}

const stop = new AbortController();

/** After Ctrl-C, or without its connection, the search ends; a second signal ends everything. */
function stopSearch() {
  if (stop.signal.aborted) process.exit(130);
  stop.abort();
  tell(
    "",
    "stopping: keys that are proved are put into their places " +
      "(once more: stop at once; what was found stays in /dev/shm)",
  );
}

function stopped() {
  process.exitCode = 130;
  tell("", "stopped: the search is not at its end; run it again for the rest");
}

const USAGE = `Usage:
    ./bunw scripts/00-salvage.ts [memory | secret | disk | files] [--backup DIR]
                                 [--device DEVICE | --image FILE] [--minutes MINUTES]
                                 [--certificate-key-file FILE] [--kid KID] [--from CA] [--pid PID]
                                 [--move-aside] [--dry-run] [--etcd-data DIR]

Looks for this node's lost keys. Restores all found keys together, at the end. Without an argument:
memory, then the Secret, then the disk. The disk is searched only if ca.key, sa.key or the
encryption configuration is still missing then.

A key is restored only if its public half is known from a place where no tenant can write. Such
places are kube-system in etcd and the kubelet's own files. sa.key is restored only if it verifies
tokens of kube-system. An unproved key goes to the rescue folder, and the command that would restore
it is printed. Ctrl-C ends the search; keys that are proved by then are restored.

memory:  The controller-manager that leads still has ca.key and sa.key, an API server has sa.key,
         as long as they run. Stop the kubelet first (systemctl stop kubelet), and restart nothing.
         Reading does not disturb them.
secret:  Looks in every Secret of etcd's data: a cluster that manages itself by Cluster API has its
         keys there (CLUSTER-ca, CLUSTER-sa). Then looks in the Secret kubeadm-certs, which kubeadm
         init --upload-certs leaves for two hours. The certificate key that kubeadm printed opens
         it: from --certificate-key-file, or typed.
disk:    Searches free blocks, where deleted files stay until they are overwritten: do not write to
         that disk first. Reads the disk once; that takes long. Finds keys and encryption
         configurations. An encryption configuration is restored if it decrypts etcd's data. If
         several do, you choose one.
files:   Searches no memory and no disk. Every other run of this script does the same, too. Restores
         keys from an old folder beside, such as pki.bak or kubernetes.old. Restores lost files that
         flags name and kubeadm did not make: those that the static pod's own process still has
         mounted, and those in the folder of --backup.

Options:
    --backup DIR       A folder with your own copies of /etc/kubernetes, or of a part of it, or a
                       snapshot of it. Lost keys and lost files that flags name are taken.
    --device DEVICE, --image FILE
                       Read this instead of the device that holds /etc/kubernetes.
    --minutes MINUTES  Read the disk for so long at most (default: ${DISK_MINUTES}). What is
                       found by then counts.
    --certificate-key-file FILE
                       A file that only you can read, with the certificate key.
    --kid KID          Use this service-account key, if several are found, or only an earlier one.
    --from CA          Use this cluster CA, if several are found: its fingerprint (sha256:…), or a
                       source that names it (kubelet.conf).
    --pid PID          A process that you know to be the control plane's, though it is in no
                       container of kube-system.
    --move-aside       Move other keys that are here, valid or not, to the rescue folder, and put
                       the keys that the cluster uses in their places.

Exit codes: 0 the cluster CA's key and the service-account key are here, 1 stopped (see the hint),
            2 one of them is still lost, or a CA has expired, 3 refused: not for this node,
            4 locked by another run, 130 stopped by you`;

const OPTIONS = {
  device: { type: "string", file: "proved", of: ["", "disk"] },
  image: { type: "string", file: "proved", of: ["", "disk"] },
  minutes: { type: "string", default: String(DISK_MINUTES), number: true, of: ["", "disk"] },
  "certificate-key-file": { type: "string", file: "secret", of: ["", "secret"] },
  kid: { type: "string", of: ["", ...PLACES] },
  from: { type: "string", of: ["", ...PLACES] },
  backup: { type: "string", path: "trusted" },
  pid: { type: "string" },
  "move-aside": { type: "boolean", of: ["", ...PLACES] },
  "etcd-data": { type: "string", path: "proved" },
  "dry-run": { type: "boolean" },
} as const;

type Values = OptionValues<typeof OPTIONS>;

if (import.meta.main) await run(main);
