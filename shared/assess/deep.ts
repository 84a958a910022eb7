/**
 * `00-assess --deep`: for each lost key, where it can still be found, and the rung of the ladder that follows. It uses the engines of
 * 00-salvage, writes nothing and keeps nothing that it finds.
 */
import type { PartialFacts } from "../facts/control-plane-node.ts";
import type { ClusterEvidence } from "../facts/evidence.ts";
import { command, inLines, otherControlPlanes, part1, type Todo } from "../facts/next.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import type { Node } from "../node/node.ts";
import { tokensOfLastKey } from "../old-sa-key/old-sa-pub.ts";
import { collectTokens } from "../old-sa-key/old-tokens.ts";
import { hashIn } from "../pki/certificate.ts";
import type { Finding } from "../pki/examine.ts";
import { say } from "../run.ts";
import { nothingFound, ownDevice, searchDisk } from "../salvage/disk-search.ts";
import { FoundKeys } from "../salvage/found-keys.ts";
import { processesHere, searchMemory } from "../salvage/memory-search.ts";
import { findKubeadmCerts } from "../salvage/secret-search.ts";
import { STASH } from "../salvage/stash.ts";
import { isIrreplaceable, type WantedKey, wantedKeys } from "../salvage/wanted-keys.ts";
import type { Deep, KeyPlace, LostKey, NodeVerdict } from "./report.ts";

export interface DeepOptions {
  /** A device or image; "own": the device that holds /etc/kubernetes; unset: no disk. */
  disk: string | undefined;
  /** The same as an option of 00-salvage. */
  diskOption: string;
}

interface LostKeysHere {
  node: Node;
  known: PartialFacts;
  evidence: ClusterEvidence;
  lostKeys: Finding[];
}

/** Searches memory first, the disk only for what is not found there. Reads only. */
export async function searchDeep({ node, known, evidence, lostKeys }: LostKeysHere, options: DeepOptions): Promise<Deep> {
  const certificatesDir = known.facts?.certificatesDir ?? "/etc/kubernetes/pki";
  const names = new Set(lostKeys.map(({ name }) => keyName(name)));
  const wanted = wantedKeys(evidence, { certificatesDir }).filter(({ name }) => names.has(name));
  const foundKeys = new FoundKeys(wanted, { stash: false });
  foundKeys.takeWhatIsHere(certificatesDir);
  await searchMemory(foundKeys, { data: known.data, processes: await processesHere(node) });
  const diskSearched = foundKeys.missing().length > 0 && options.disk !== undefined && (await readDisk(options.disk, foundKeys));
  const elsewhere = placesElsewhere(node, known);
  const moveAside = wanted.some((one) => isInTheWay(one, certificatesDir));
  const expired = lostKeys
    .filter(({ state }) => state === "expired")
    .filter(({ name }) => !wanted.some((one) => keyName(name) === one.name));
  const keys = [
    ...wanted.map((one) => lostKey(one, foundKeys.placeOf(one), elsewhere(one.keyFile))),
    ...expired.map(({ name, detail }) => ({
      name: keyName(name),
      file: `${keyName(name)}.key`,
      places: [],
      detail: `here, but ${detail}`,
    })),
  ];
  return { keys, oldTokens: hasOldTokens(known, node), diskSearched, diskOption: options.diskOption, moveAside };
}

/** Whether another key, or a file that cannot be read, is in the place of the lost key or its public half. */
function isInTheWay({ keyFile, publicFile, generations }: WantedKey, certificatesDir: string): boolean {
  if (exists(`${certificatesDir}/${keyFile}`)) return true;
  const text = attempt(() => readText(`${certificatesDir}/${publicFile}`));
  if (text instanceof Fail) return true;
  const hash = text === undefined ? generations[0]?.hash : attempt(() => hashIn(text));
  return hash instanceof Fail || hash !== generations[0]?.hash;
}

/** A disk that cannot be read is no reason to give up what was found elsewhere. */
async function readDisk(disk: string, foundKeys: FoundKeys): Promise<boolean> {
  try {
    await searchDisk(disk === "own" ? await ownDevice() : disk, foundKeys, nothingFound());
    return true;
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    say(`disk not searched: ${err.message}`);
    return false;
  }
}

/** Places that this node cannot look into: the Secret without its key, the other control plane nodes. */
function placesElsewhere(node: Node, { cluster, data }: PartialFacts): (file: string) => KeyPlace[] {
  const secret = attempt(() => data && findKubeadmCerts(data));
  const others = cluster ? otherControlPlanes(cluster, { node }).map(({ name }) => name) : [];
  return (file) => [
    ...(secret && !(secret instanceof Fail) && secret.data?.[file.replace("/", "-")]
      ? [{ rung: 1, where: "the Secret kubeadm-certs", word: "secret", found: false } as const]
      : []),
    ...(others.length > 0 ? [{ rung: 1, where: `maybe on ${others.join(", ")}`, found: false } as const] : []),
  ];
}

function lostKey({ name, keyFile, generations }: WantedKey, from: string | undefined, elsewhere: KeyPlace[]): LostKey {
  const inUse = generations[0];
  const known = inUse ? `known by ${inUse.from.join(", ")}` : "nothing here tells which key it was";
  const detail = from
    ? `proved by ${inUse!.from.join(", ")}`
    : elsewhere.length > 0
      ? known
      : `${known}${isIrreplaceable({ name }) ? "" : "; only control plane nodes trust it"}`;
  return { name, file: keyFile, places: [...(from ? [foundPlace(from)] : []), ...elsewhere], detail };
}

/** A finding's CA as SHARED_KEYS names it. */
function keyName(name: string): string {
  return name === "etcd-ca" ? "etcd/ca" : name;
}

function foundPlace(from: string): KeyPlace {
  if (from.startsWith("blocks of")) return { rung: 3, where: from, word: "disk", found: true };
  return { rung: 2, where: from === STASH ? "what an earlier 00-salvage found" : from, word: "memory", found: true };
}

function hasOldTokens({ data }: PartialFacts, { kubelet }: Node): boolean {
  const old = data && attempt(() => tokensOfLastKey(collectTokens(data, kubelet.podsDir).found));
  return old !== undefined && !(old instanceof Fail) && old.tokens.length >= (old.alg.startsWith("RS") ? 2 : 1);
}

/** The rung, why, and what to type. */
export function deepVerdict(deep: Deep, { cluster }: PartialFacts): NodeVerdict {
  const irreplaceable = deep.keys.filter(isIrreplaceable);
  const nowhere = deep.keys.filter(({ places }) => places.length === 0);
  const lost = nowhere.filter(isIrreplaceable);
  const rung = rungOf(deep, irreplaceable, lost);
  const unread = deep.diskSearched || lost.length === 0 ? "" : "; the disk was not searched";
  return {
    rung,
    verdict: `rung ${rung}: ${WHY[rung]}${unread}${cluster ? "" : "; etcd's data cannot be read, so few keys can be proved"}`,
    next: inLines([
      { command: "systemctl stop kubelet" },
      ...bringBack(deep),
      ...(deep.oldTokens && lost.some(({ name }) => name === "sa")
        ? [{ command: command("00-token-key"), note: "old tokens stay valid beside new ones" }]
        : []),
      { ...part1(nowhere.map(({ name }) => name)), ...(lost.length > 0 ? { note: BACKUPS_FIRST } : {}) },
      { command: command("02-control-plane") },
      ...withoutCertificateKey(deep),
    ]),
  };
}

const BACKUPS_FIRST = "look in backups first: a key that is found there saves parts 3 and 4";

/** The Secret opens with a key that was printed once. Without it the Secret is of no use. */
function withoutCertificateKey({ keys, oldTokens }: Deep): Todo[] {
  const inSecret = keys.filter(({ places }) => places[0]?.word === "secret" && places.every(({ word }) => word)).map(({ name }) => name);
  if (inSecret.length === 0) return [];
  const tokens = oldTokens && inSecret.includes("sa") ? `${command("00-token-key")}, then ` : "";
  return [{ command: `if nobody has that key: ${tokens}${part1(inSecret).command}` }];
}

const WHY: Record<number, string> = {
  0: "the keys of the cluster's CA and sa.key are here. Only control plane nodes trust the other lost keys",
  1: "another control plane node or the Secret kubeadm-certs may have the lost keys: bring them here, then repair this node alone",
  2: "a process still holds the lost keys: read them back before anything is restarted",
  3: "the lost keys are in free blocks of the disk: read them back before anything is written to it",
  4: "a key is nowhere to be found: a new one is made, and old service-account tokens stay valid until part 4",
  5: "the lost keys are nowhere to be found: new ones are made, all nodes rejoin, tokens are renewed (parts 3 and 4)",
};

function rungOf({ oldTokens }: Deep, irreplaceable: LostKey[], lost: LostKey[]): number {
  if (lost.length === 0) return Math.max(0, ...irreplaceable.map(({ places }) => places[0]!.rung));
  const tokensLive = !lost.some(({ name }) => name === "sa") || oldTokens;
  return tokensLive ? 4 : 5;
}

/** The commands that bring back what can be found. */
function bringBack({ keys, diskOption, moveAside }: Deep): Todo[] {
  const aside = moveAside ? " --move-aside" : "";
  const words = new Set(keys.map(({ places }) => places[0]?.word));
  const on = keys.find(({ places }) => places[0] && !places[0].word)?.places[0]?.where.replace("maybe on ", "");
  const pack = `${command("00-assess --deep")}, then ${command("hand-over pack")} where the keys are`;
  return [
    ...(words.has("memory") ? [{ command: command(`00-salvage memory${aside}`) }] : []),
    ...(words.has("secret")
      ? [{ command: command(`00-salvage secret${aside}`), note: "asks for the certificate key that kubeadm printed" }]
      : []),
    ...(words.has("disk") ? [{ command: command(`00-salvage disk${aside} ${diskOption}`.trimEnd()) }] : []),
    ...(on
      ? [
          { on, command: pack },
          { command: command("hand-over unpack FILE"), note: LOST_THERE_TOO },
        ]
      : []),
  ];
}

const LOST_THERE_TOO = "here; if the keys are lost there as well: 01-etcd.ts --new-cas";
