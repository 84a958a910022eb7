/**
 * `00-assess --deep`: for each lost key, where it can still be had, and the rung of the ladder that comes of it. The engines are those of
 * 00-salvage; here nothing is written, and nothing that is found is kept.
 */
import type { PartialFacts } from "../facts/control-plane-node.ts";
import type { ClusterEvidence } from "../facts/evidence.ts";
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
import { findKubeadmCerts } from "../salvage/kubeadm-certs.ts";
import { processesHere, searchMemory } from "../salvage/memory-search.ts";
import { STASH } from "../salvage/stash.ts";
import { isIrreplaceable, type WantedKey, wantedKeys } from "../salvage/wanted-keys.ts";
import type { Deep, KeyPlace, LostKey, NodeVerdict } from "./report.ts";

export interface DeepOptions {
  /** A device or image; "own": the one that /etc/kubernetes lies on; unset: no disk. */
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
  const ended = lostKeys.filter(({ state }) => state === "expired").filter(({ name }) => !wanted.some((one) => keyName(name) === one.name));
  const keys = [
    ...wanted.map((one) => lostKey(one, foundKeys.placeOf(one), elsewhere(one.keyFile))),
    ...ended.map(({ name, detail }) => ({ name: keyName(name), file: `${keyName(name)}.key`, places: [], detail: `here, but ${detail}` })),
  ];
  return { keys, oldTokens: hasOldTokens(known, node), diskSearched, diskOption: options.diskOption, moveAside };
}

/** Whether a file that is not the lost key's, or cannot be read, lies where it or its public half belongs. */
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
  const others = cluster?.nodes.filter(({ controlPlane, name }) => controlPlane && name !== node.name).map(({ name }) => name) ?? [];
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

/** A finding's authority as SHARED_KEYS names it. */
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
  const dear = deep.keys.filter(isIrreplaceable);
  const nowhere = dear.filter(({ places }) => places.length === 0);
  const rung = rungOf(deep, dear, nowhere);
  const isNowhere = (name: string) => nowhere.some((key) => key.name === name);
  const isInternalGone = deep.keys.some((key) => !isIrreplaceable(key) && key.places.length === 0);
  const newCas = nowhere.length > 0 ? " --new-cas" : isInternalGone ? " --new-internal-cas" : "";
  const next = [
    "systemctl stop kubelet",
    ...bringBack(deep),
    ...(isNowhere("sa") && deep.oldTokens ? ["./bunw scripts/00-token-key.ts                # old tokens stay valid beside new ones"] : []),
    `./bunw scripts/01-etcd.ts${newCas}${newCas === " --new-cas" ? "         # backups first: what is found there saves parts 3 and 4" : ""}`,
    "./bunw scripts/02-control-plane.ts",
    ...withoutCertificateKey(deep),
  ];
  const unread = deep.diskSearched || nowhere.length === 0 ? "" : "; the disk was not searched";
  return {
    rung,
    verdict: `rung ${rung}: ${WHY[rung]}${unread}${cluster ? "" : "; etcd's data tells nothing, so little can be proved"}`,
    next,
  };
}

/** The Secret opens with a key that was printed once; whoever has it no more has to go on as if the Secret was not there. */
function withoutCertificateKey({ keys, oldTokens }: Deep): string[] {
  const inSecret = keys.filter(({ places }) => places[0]?.word === "secret" && places.every(({ word }) => word));
  if (inSecret.length === 0) return [];
  const tokens = oldTokens && inSecret.some(({ name }) => name === "sa") ? "./bunw scripts/00-token-key.ts, then " : "";
  return [
    `if nobody has that key: ${tokens}./bunw scripts/01-etcd.ts ${inSecret.some(isIrreplaceable) ? "--new-cas" : "--new-internal-cas"}`,
  ];
}

const WHY: Record<number, string> = {
  0: "the cluster's CA key and sa.key are here; what else is lost only control plane nodes trust",
  1: "the lost keys may be on another control plane node, or are in the Secret kubeadm-certs: bring them here, then only this control plane node is repaired",
  2: "a process still holds the lost keys: read them back, restart nothing before",
  3: "the lost keys lie in free blocks of the disk: write nothing to it before they are read back",
  4: "a key is nowhere to be found: a new one, with which old service-account tokens stay valid until part 4",
  5: "the lost keys are nowhere to be found: new ones, all nodes join anew and tokens are renewed (parts 3 and 4)",
};

function rungOf({ oldTokens }: Deep, dear: LostKey[], nowhere: LostKey[]): number {
  if (nowhere.length === 0) return Math.max(0, ...dear.map(({ places }) => places[0]!.rung));
  const tokensLive = !nowhere.some(({ name }) => name === "sa") || oldTokens;
  return tokensLive ? 4 : 5;
}

/** The commands that bring back what can be had. */
function bringBack({ keys, diskOption, moveAside }: Deep): string[] {
  const aside = moveAside ? " --move-aside" : "";
  const words = new Set(keys.map(({ places }) => places[0]?.word));
  const elsewhere = keys.find(({ places }) => places[0] && !places[0].word)?.places[0]?.where.replace("maybe on ", "");
  return [
    ...(words.has("memory") ? [`./bunw scripts/00-salvage.ts memory${aside}`] : []),
    ...(words.has("secret")
      ? [`./bunw scripts/00-salvage.ts secret${aside}            # asks for the certificate key that kubeadm printed`]
      : []),
    ...(words.has("disk") ? [`./bunw scripts/00-salvage.ts disk${aside} ${diskOption}`.trimEnd()] : []),
    ...(elsewhere
      ? [
          `on ${elsewhere}: ./bunw scripts/00-assess.ts --deep, then ./bunw scripts/hand-over.ts pack where the keys are`,
          "./bunw scripts/hand-over.ts unpack FILE         # here; if the keys are lost there as well: 01-etcd.ts --new-cas",
        ]
      : []),
  ];
}
