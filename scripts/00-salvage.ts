#!/usr/bin/env bun
/**
 * RUNBOOK part 0: looks for the old keys before new ones are made, and puts them back. Each key is proved by a public key that the cluster is known by.
 * Run on each control plane node, before anything there is restarted. Safe to run again.
 */
import { parseArgs } from "node:util";
import { lookAtControlPlaneNode } from "../shared/facts/control-plane-node.ts";
import { readEvidence } from "../shared/facts/evidence.ts";
import { isExternalCa } from "../shared/facts/external-ca.ts";
import { controlPlaneWithoutData, issueStep } from "../shared/facts/no-etcd-data.ts";
import { Fail } from "../shared/fail.ts";
import { exists } from "../shared/files/files.ts";
import { type Node, needRoot, readNode } from "../shared/node/node.ts";
import { done, run, say, start, step, tell } from "../shared/run.ts";
import {
  DISK_MINUTES,
  nothingFound,
  ownDevice,
  searchDisk,
} from "../shared/salvage/disk-search.ts";
import { FoundKeys, refuseRivals } from "../shared/salvage/found-keys.ts";
import { lostConfigs } from "../shared/salvage/lost-configs.ts";
import { processesHere, searchMemory } from "../shared/salvage/memory-search.ts";
import { type Brought, putBack } from "../shared/salvage/put-back.ts";
import { openSecret } from "../shared/salvage/secret-search.ts";
import {
  expiredCas,
  isIrreplaceable,
  sayLost,
  type WantedKey,
  wantedKeys,
} from "../shared/salvage/wanted-keys.ts";

const USAGE = `Usage:
    ./bunw scripts/00-salvage.ts [memory | secret | disk] [--device DEVICE | --image FILE] [--minutes MINUTES] [--certificate-key-file FILE]
                                 [--kid KID] [--from CA] [--pid PID] [--move-aside] [--dry-run] [--etcd-data DIR]

Looks for this node's lost keys and puts them back, all that were found at once. Without a word: in every place, the cheapest first, and on the
disk only if ca.key or sa.key, or a file that only a copy can bring back, is still missing then.

A key is taken only if its public half is known from where no tenant can write (kube-system in etcd, the kubelet's own files), and sa.key only if it
verifies tokens of kube-system. What nothing proves is laid into the rescue folder, with the command that would take it. Ctrl-C ends the search;
what was proved until then is put back.

memory:  the controller-manager that leads still has ca.key and sa.key, an API server sa.key, as long as they run. Stop the kubelet first
         (systemctl stop kubelet), restart nothing. Reading does not disturb them.
secret:  the Secret kubeadm-certs, which kubeadm init --upload-certs leaves in etcd for two hours. It opens with the certificate key that was
         printed then: from --certificate-key-file, from the variable KUBE_PKI_REPAIR_CERTIFICATE_KEY, or asked for on the terminal.
disk:    deleted files lie in free blocks until they are overwritten: write nothing to that disk before. Reads it once, at its own speed. Brings
         back an encryption configuration that opens what etcd holds, and lays other configurations, manifests and kubeconfigs into the rescue folder.

Options:
    --device DEVICE, --image FILE
                                 What to read instead of the device that /etc/kubernetes lies on.
    --minutes MINUTES            How long to read a disk at most (default: ${DISK_MINUTES}). What was found until then counts.
    --certificate-key-file FILE  A file that only you can read, with the certificate key.
    --kid KID                    The service-account key that is in use, where several are found or only an earlier one is.
    --from CA                    The same for the cluster CA: its fingerprint (sha256:…), or what names it (kubelet.conf).
    --pid PID                    A process that you know to be the control plane's, though it is in no container of kube-system's.
    --move-aside                 Other keys that are here, sound or not, go to the rescue folder, and those that the cluster uses take their place.
    --etcd-data DIR              etcd's data directory (default: /var/lib/etcd).
    --dry-run                    Search, and print what would be written.
    --help                       Print this text.

Exit codes: 0 the cluster's CA and its service-account key are here, 1 stopped (see the hint), 2 one of them is still lost
`;

const OPTIONS = {
  device: { type: "string" },
  image: { type: "string" },
  minutes: { type: "string", default: String(DISK_MINUTES) },
  "certificate-key-file": { type: "string" },
  kid: { type: "string" },
  from: { type: "string" },
  pid: { type: "string" },
  "move-aside": { type: "boolean" },
  "etcd-data": { type: "string", default: "/var/lib/etcd" },
  "dry-run": { type: "boolean" },
  help: { type: "boolean" },
} as const;

type Values = ReturnType<typeof parse>["values"];

/** What the search knows, and what it has brought so far. */
interface Job extends Brought {
  values: Values;
  /** Only this place was asked for. */
  only: string | undefined;
  externalEtcd: boolean;
  /** CAs that are here and have expired. */
  expired: ReturnType<typeof expiredCas>;
  /** Where was really looked: a Secret without its key, or a disk that cannot be read, is not among them. */
  searched: Place[];
  /** What ended a search before its time: told when all that was found is in its place. */
  trouble?: unknown;
}

/** Where keys are looked for, the cheapest place first. */
const PLACES = ["memory", "secret", "disk"] as const;

type Place = (typeof PLACES)[number];

const NAMES: Record<Place, string> = {
  memory: "memory",
  secret: "the Secret kubeadm-certs",
  disk: "the disk",
};

async function main() {
  const { values, positionals } = parse();
  if (values.help) return console.log(USAGE);
  const [only, ...more] = positionals;
  const places = PLACES.filter((place) => place === (only ?? place));
  if (places.length === 0 || more.length > 0)
    throw new Fail(`00-salvage knows no place "${positionals.join(" ")}"`, {
      hint: "./bunw scripts/00-salvage.ts --help",
    });
  start("00-salvage", { dryRun: values["dry-run"] });
  needRoot();
  for (const signal of SIGNALS) process.on(signal, stopSearch);

  const job = await step("0.2 Look at which keys are lost, and by what they will be known", () =>
    look(values, only),
  );
  const search: Record<Place, () => Promise<boolean>> = {
    memory: () =>
      step("0.3 Search the memory of the processes that still run", () => searchProcesses(job)),
    secret: () =>
      step("0.4 Open the Secret kubeadm-certs", () =>
        openSecret(job.foundKeys, job.here.data, {
          keyFile: values["certificate-key-file"],
          mayAsk: only !== undefined,
        }),
      ),
    disk: () => step("0.5 Search the free blocks of the disk", () => searchFreeBlocks(job)),
  };
  for (const place of places)
    if (isLost(job, place) && !stop.signal.aborted) await searchIn(job, place, search[place]);
  await step("0.6 Put what was found into its place", () =>
    putBack(job, { moveAside: values["move-aside"] }),
  );
  if (stop.signal.aborted) return stopped();
  if (job.trouble !== undefined && (only !== undefined || !(job.trouble instanceof Fail)))
    throw job.trouble;
  next(job);
}

async function look(values: Values, only: string | undefined): Promise<Job> {
  const here = lookAtControlPlaneNode(values["etcd-data"]);
  const { certificatesDir, data } = here;
  const node = await thisNode();
  const processes = vouchedFor(await processesHere(node), values.pid);
  if (!exists(values["etcd-data"]) && processes.own.every(({ name }) => name === "kubelet"))
    throw new Fail(
      `This is no control plane node: there is no "${values["etcd-data"]}", and no process of a control plane runs here`,
      {
        hint: "run it on each control plane node, before anything there is restarted; workers have none of these keys",
      },
    );
  const known = readEvidence({ data, node, certificatesDir });
  if (!here.cluster) say(`warning: etcd's data tells nothing: ${here.obstacle?.message}`);
  for (const line of new Set(known.unread)) say(`not read: ${line}`);
  const withoutData = node && controlPlaneWithoutData(node, values["etcd-data"]);
  const externalEtcd = withoutData?.etcd === "external";
  const wanted = wantedKeys(known, {
    certificatesDir,
    others: values["move-aside"],
    kid: values.kid,
    from: values.from,
  });
  // what never was here is not lost
  const elsewhere = [
    ...(externalEtcd ? ["etcd/ca"] : []),
    ...(data && here.cluster && isExternalCa(data, here.cluster) ? ["ca"] : []),
  ];
  const foundKeys = new FoundKeys(wanted.filter(({ name }) => !elsewhere.includes(name)));
  const expired = expiredCas(certificatesDir);
  for (const { paths, detail } of expired)
    say(`${paths[0]}: ${detail}: no search brings that back`);
  if (foundKeys.wanted.length === 0) say(`${certificatesDir}: nothing is lost`);
  for (const one of foundKeys.wanted) sayLost(one);
  foundKeys.takeWhatIsHere(certificatesDir);
  const configs = data && node ? lostConfigs(data, node.name) : [];
  for (const { path, flag } of configs) say(`${path}: lost; kube-apiserver's ${flag} names it`);
  return {
    values,
    only,
    here,
    foundKeys,
    processes,
    externalEtcd,
    expired,
    configs,
    disk: nothingFound(),
    searched: [],
  };
}

/** A process that the operator knows is read as one of the control plane's. Errors: Fail where none has that number and such a name. */
function vouchedFor(
  { own, others }: Brought["processes"],
  pid: string | undefined,
): Brought["processes"] {
  if (pid === undefined) return { own, others };
  const one = others.find((process) => String(process.pid) === pid);
  if (!one)
    throw new Fail(`No process ${pid} here is called as one of the control plane's`, {
      hint: "pgrep -l 'kube|etcd'",
    });
  return { own: [...own, one], others: others.filter((other) => other !== one) };
}

/** Whatever ends one search, the others go on, and what was found until then is put back. */
async function searchIn(job: Job, place: Place, search: () => Promise<boolean>) {
  try {
    if (await search()) job.searched.push(place);
  } catch (err) {
    if (!(err instanceof Error)) throw err;
    job.trouble ??= err;
    say(`not searched to its end: ${err.message}${err instanceof Fail ? `; ${err.hint}` : ""}`);
  }
}

/** Whether something is missing that this place may have. A disk is long: without being asked for, only for what cannot be made new or stood in for. */
function isLost({ foundKeys, configs, only }: Job, place: Place): boolean {
  if (place !== "disk") return foundKeys.missing().length > 0;
  return only === "disk"
    ? foundKeys.missing().length + configs.length > 0
    : foundKeys.missing().some(isIrreplaceable) ||
        configs.some(({ flag }) => flag !== "--audit-policy-file");
}

/** The node, as far as it tells: a kubelet's folder that is gone is no reason not to search. */
async function thisNode(): Promise<Node | undefined> {
  try {
    return await readNode();
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    say(`not read: ${err.message}`);
    return undefined;
  }
}

async function searchProcesses({ foundKeys, here, processes }: Job): Promise<boolean> {
  await searchMemory(foundKeys, { data: here.data, processes, stop: stop.signal });
  return true;
}

async function searchFreeBlocks({ values, foundKeys, disk }: Job): Promise<boolean> {
  const minutes = Number(values.minutes);
  if (!(minutes > 0))
    throw new Fail(`--minutes takes a number, got "${values.minutes}"`, {
      hint: "for instance --minutes 600",
    });
  await searchDisk(values.image ?? values.device ?? (await ownDevice()), foundKeys, disk, {
    minutes,
    stop: stop.signal,
  });
  return true;
}

/** What is still lost, where it was looked for, and the command for that. */
function next({ foundKeys, searched, externalEtcd, expired }: Job) {
  refuseRivals(foundKeys);
  const lost = foundKeys.missing().filter(({ shared }) => shared);
  const irreplaceable = lost.filter(isIrreplaceable);
  const where =
    searched.length > 0 ? `not found in ${searched.map((place) => NAMES[place]).join(", ")}; ` : "";
  if (irreplaceable.length > 0) {
    process.exitCode = 2;
    const elsewhere =
      "look on the other control plane nodes (this script, there) and in backups; what is found travels with ./bunw scripts/hand-over.ts";
    const anew = issueStep(externalEtcd, " --new-cas");
    tell(`\nstill lost: ${names(lost)}: ${where}${elsewhere}\nif they are nowhere: ${anew}`);
    return;
  }
  if (expired.length > 0) {
    process.exitCode = 2;
    const flag = expired.some(({ name }) => name === "ca") ? " --new-cas" : " --new-internal-cas";
    return tell(
      `\nexpired: ${expired.map(({ name }) => name).join(", ")}; new ones: ${issueStep(externalEtcd, flag)}`,
    );
  }
  if (lost.length > 0)
    tell(
      `\nstill lost: ${names(lost)}: ${where}only control plane nodes trust them; what comes next makes them new`,
    );
  done(issueStep(externalEtcd, lost.length > 0 ? " --new-internal-cas" : ""));
}

function names(wanted: readonly WantedKey[]): string {
  return wanted.map(({ keyFile }) => keyFile).join(", ");
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

const stop = new AbortController();

/** Ctrl-C, or a connection that is gone: the search ends, what it has proved goes into its place. A second one ends it all. */
function stopSearch() {
  if (stop.signal.aborted) process.exit(130);
  stop.abort();
  tell(
    "\nstopping: what was proved until now is put into its place (once more: at once, what was found stays in /dev/shm)",
  );
}

function stopped() {
  process.exitCode = 130;
  tell("\nstopped: the search is not at its end; run it again for the rest");
}

function parse() {
  return parseArgs({ options: OPTIONS, allowPositionals: true });
}

if (import.meta.main) await run(main);
