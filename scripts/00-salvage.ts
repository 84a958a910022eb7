#!/usr/bin/env bun
/**
 * RUNBOOK part 0: looks for the old keys before new ones are made, and puts them back. Each key is proved by a public key that the cluster is known by.
 * Run on each master, before anything there is restarted. Safe to run again.
 */
import { parseArgs } from "node:util";
import { Fail } from "../shared/fail.ts";
import { exists } from "../shared/files/files.ts";
import { type Here, lookHere, placeKeys } from "../shared/hand-over/unpack.ts";
import { type Node, needRoot, readNode } from "../shared/nodes/node.ts";
import { hasExternalEtcd, issueStep } from "../shared/nodes/without-data.ts";
import { done, mode, run, say, start, step, tell } from "../shared/run.ts";
import type { Find } from "../shared/salvage/disk/finds.ts";
import { ownDevice, searchDisk, texts } from "../shared/salvage/disk-search.ts";
import { dropStash, Haul } from "../shared/salvage/haul.ts";
import { readKnown } from "../shared/salvage/known.ts";
import { chooseConfig, type LostConfig, lostConfigs } from "../shared/salvage/lost-configs.ts";
import { mountedKubeconfigs } from "../shared/salvage/memory/mounted.ts";
import { holders } from "../shared/salvage/memory/processes.ts";
import { searchMemory } from "../shared/salvage/memory-search.ts";
import { openSecret } from "../shared/salvage/secret-search.ts";
import { endedAuthorities, isDear, type Wanted, wantedKeys } from "../shared/salvage/wanted.ts";
import { isExternalCa } from "../shared/static-pods/external-ca.ts";

const USAGE = `Usage:
    ./bunw scripts/00-salvage.ts [memory | secret | disk] [--device DEVICE | --image FILE] [--certificate-key-file FILE] [--move-aside]
                                 [--dry-run] [--etcd-data DIR]

Looks for this master's lost keys and puts them back, all that were found at once. Without a word: in every place, the cheapest first, and on the
disk only if ca.key or sa.key, or a file that only a copy can bring back, is still missing then.

memory:  the controller-manager that leads still has ca.key and sa.key, an API server sa.key, as long as they run. Stop the kubelet first
         (systemctl stop kubelet), restart nothing. Reading does not disturb them.
secret:  the Secret kubeadm-certs, which kubeadm init --upload-certs leaves in etcd for two hours. It opens with the certificate key that was
         printed then: from --certificate-key-file, from the variable KUBE_PKI_REPAIR_CERTIFICATE_KEY, or asked for on the terminal.
disk:    deleted files lie in free blocks until they are overwritten: write nothing to that disk before. Reads it once, at its own speed. Brings
         back configuration files of the API server as well (encryption, audit), and lays manifests and kubeconfigs into the rescue folder.

Options:
    --device DEVICE, --image FILE
                                 What to read instead of the device that /etc/kubernetes lies on.
    --certificate-key-file FILE  A file that only you can read, with the certificate key.
    --move-aside                 Other keys that are here, sound or not, go to the rescue folder, and those that the cluster uses take their place.
    --etcd-data DIR              etcd's data directory (default: /var/lib/etcd).
    --dry-run                    Search, and print what would be written.
    --help                       Print this text.

Exit codes: 0 the cluster's CA and its service-account key are here, 1 stopped (see the hint), 2 one of them is still lost
`;

const OPTIONS = {
  device: { type: "string" },
  image: { type: "string" },
  "certificate-key-file": { type: "string" },
  "move-aside": { type: "boolean" },
  "etcd-data": { type: "string", default: "/var/lib/etcd" },
  "dry-run": { type: "boolean" },
  help: { type: "boolean" },
} as const;

type Values = ReturnType<typeof parse>["values"];

/** What the search knows, and what it has brought so far. */
interface Job {
  values: Values;
  /** Only this place was asked for. */
  only: string | undefined;
  here: Here;
  haul: Haul;
  externalEtcd: boolean;
  /** Authorities that are here and have ended. */
  ended: ReturnType<typeof endedAuthorities>;
  /** Files that the API server's flags name. */
  configs: LostConfig[];
  /** What the disk brought. */
  finds: Find[];
  /** Where was really looked: a Secret without its key, or a disk that cannot be read, is not among them. */
  searched: Place[];
}

/** Where keys are looked for, the cheapest place first. */
const PLACES = ["memory", "secret", "disk"] as const;

type Place = (typeof PLACES)[number];

const NAMES: Record<Place, string> = { memory: "memory", secret: "the Secret kubeadm-certs", disk: "the disk" };

async function main() {
  const { values, positionals } = parse();
  if (values.help) return console.log(USAGE);
  const [only, ...more] = positionals;
  const places = PLACES.filter((place) => place === (only ?? place));
  if (places.length === 0 || more.length > 0)
    throw new Fail(`00-salvage knows no place "${positionals.join(" ")}"`, { hint: "./bunw scripts/00-salvage.ts --help" });
  start("00-salvage", { dryRun: values["dry-run"] });
  needRoot();
  for (const signal of SIGNALS) process.on(signal, stopped);

  const job = await step("0.2 Look at which keys are lost, and by what they will be known", () => look(values, only));
  const search: Record<Place, () => Promise<boolean>> = {
    memory: () => step("0.3 Search the memory of the processes that still run", () => searchProcesses(job)),
    secret: () =>
      step("0.4 Open the Secret kubeadm-certs", () =>
        openSecret(job.haul, job.here.data, { keyFile: values["certificate-key-file"], mayAsk: only !== undefined }),
      ),
    disk: () => step("0.5 Search the free blocks of the disk", () => searchFreeBlocks(job)),
  };
  for (const place of places) if (isLost(job, place) && (await searchOr(search[place], only))) job.searched.push(place);
  for (const signal of SIGNALS) process.off(signal, stopped);
  await step("0.6 Put what was found into its place", () => putBack(job));
  next(job);
}

async function look(values: Values, only: string | undefined): Promise<Job> {
  const here = lookHere(values["etcd-data"]);
  const { certificatesDir, data } = here;
  if (!exists(values["etcd-data"]) && holders().every(({ name }) => name === "kubelet"))
    throw new Fail(`This is no master: there is no "${values["etcd-data"]}", and no process of a control plane runs here`, {
      hint: "run it on each master, before anything there is restarted; workers have none of these keys",
    });
  const node = await thisNode();
  const known = readKnown({ data, node, certificatesDir });
  if (!here.cluster) say(`warning: etcd's data tells nothing: ${here.why}`);
  for (const line of new Set(known.unread)) say(`not read: ${line}`);
  const externalEtcd = await hasExternalEtcd(values["etcd-data"]);
  const wanted = wantedKeys(known, { certificatesDir, others: values["move-aside"] });
  // what never was here is not lost
  const elsewhere = [
    ...(externalEtcd ? ["etcd/ca"] : []),
    ...(data && here.cluster && isExternalCa(data, { ...here.cluster, certificatesDir }) ? ["ca"] : []),
  ];
  const haul = new Haul(wanted.filter(({ name }) => !elsewhere.includes(name)));
  const ended = endedAuthorities(certificatesDir);
  for (const { paths, detail } of ended) say(`${paths[0]}: ${detail}: no search brings that back`);
  if (haul.wanted.length === 0) say(`${certificatesDir}: nothing is lost`);
  for (const { keyFile, generations } of haul.wanted) {
    const [inUse, ...earlier] = generations.map(({ hash, kind, from }) => `${hash}, ${kind}, by ${from.join(", ")}`);
    say(`${keyFile}: lost; ${inUse ?? "nothing here tells which key it was"}`);
    for (const generation of earlier) say(`  or an earlier one, ${generation}`);
  }
  haul.takeWhatIsHere(certificatesDir);
  const configs = data && node ? lostConfigs(data, node.name) : [];
  for (const { path, flag } of configs) say(`${path}: lost; kube-apiserver's ${flag} names it`);
  return { values, only, here, haul, externalEtcd, ended, configs, finds: [], searched: [] };
}

/** Whether it was searched. Where nobody asked for a place by its word, one that cannot be is no reason to give up the others. */
async function searchOr(search: () => Promise<boolean>, only: string | undefined): Promise<boolean> {
  try {
    return await search();
  } catch (err) {
    if (!(err instanceof Fail) || only !== undefined) throw err;
    say(`not searched: ${err.message}; ${err.hint}`);
    return false;
  }
}

/** Whether something is missing that this place may have. A disk is long: without being asked for, only for what cannot be made new or stood in for. */
function isLost({ haul, configs, only }: Job, place: Place): boolean {
  if (place !== "disk") return haul.missing().length > 0;
  return only === "disk"
    ? haul.missing().length + configs.length > 0
    : haul.missing().some(isDear) || configs.some(({ flag }) => flag !== "--audit-policy-file");
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

async function searchProcesses({ haul, here }: Job): Promise<boolean> {
  await searchMemory(haul, here.data);
  return true;
}

async function searchFreeBlocks(job: Job): Promise<boolean> {
  job.finds = await searchDisk(job.values.image ?? job.values.device ?? (await ownDevice()), job.haul);
  return true;
}

/** All or nothing, and only now that the search is over: nothing that is still searched through was written to. */
function putBack(job: Job) {
  const { haul, here, values, finds } = job;
  const files = haul.files();
  const keys = haul.wanted.filter(({ keyFile }) => files.has(keyFile));
  const ca = files.get("ca.crt");
  const mounted = ca ? mountedKubeconfigs(holders(), Buffer.from(ca).toString("utf8")) : [];
  const more = [...mounted, ...chosenConfigs(job), ...texts(finds, `${here.asideDir}/found-on-disk`)];
  if (keys.length + more.length === 0) return say("nothing was found");
  placeKeys(keys, files, here, {
    moveAside: values["move-aside"],
    source: "the salvage",
    more: more.map(({ path, content, from }) => ({ path, content, mode: 0o600, note: from })),
  });
  if (!mode.dryRun) dropStash();
}

/** Of each lost configuration file the one that is proved, or the only one. */
function chosenConfigs({ configs, finds, here }: Job) {
  if (finds.length === 0 || !here.data) return [];
  return configs.flatMap((lost) => {
    const choice = chooseConfig(lost, finds, here.data!);
    if ("text" in choice) return [{ path: lost.path, content: choice.text, from: `out of free blocks: ${choice.proof}` }];
    say(`${lost.path}: ${choice.why}`);
    return [];
  });
}

/** What is still lost, where it was looked for, and the command for that. */
function next({ haul, searched, externalEtcd, ended }: Job) {
  const lost = haul.missing().filter(({ shared }) => shared);
  const dear = lost.filter(isDear);
  const where = searched.length > 0 ? `not found in ${searched.map((place) => NAMES[place]).join(", ")}; ` : "";
  if (dear.length > 0) {
    process.exitCode = 2;
    const elsewhere =
      "look on the other masters (this script, there) and in backups; what is found travels with ./bunw scripts/hand-over.ts";
    const anew = issueStep(externalEtcd, " --new-cas");
    tell(`\nstill lost: ${names(lost)}: ${where}${elsewhere}\nif they are nowhere: ${anew}`);
    return;
  }
  if (ended.length > 0) {
    process.exitCode = 2;
    const flag = ended.some(({ name }) => name === "ca") ? " --new-cas" : " --new-internal-cas";
    return tell(`\nended: ${ended.map(({ name }) => name).join(", ")}; new ones: ${issueStep(externalEtcd, flag)}`);
  }
  if (lost.length > 0) tell(`\nstill lost: ${names(lost)}: ${where}only masters trust them; what comes next makes them new`);
  done(issueStep(externalEtcd, lost.length > 0 ? " --new-internal-cas" : ""));
}

function names(wanted: readonly Wanted[]): string {
  return wanted.map(({ keyFile }) => keyFile).join(", ");
}

const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** Ctrl-C: nothing was put into its place, and what was found does not stay behind. */
function stopped() {
  dropStash();
  tell("\nstopped: nothing was written to its place, and nothing of what was found is left");
  process.exit(130);
}

function parse() {
  return parseArgs({ options: OPTIONS, allowPositionals: true });
}

if (import.meta.main) await run(main);
