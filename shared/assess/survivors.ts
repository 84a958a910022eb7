/**
 * Places where lost keys may be; with `--deep` also where each was found, by the search of 00-salvage. Writes
 * nothing and keeps none of the keys. keys-verdict.ts draws the conclusion.
 */
import { dirname } from "node:path";
import { again, command } from "../again.ts";
import { fetchLine, managedNode, type StrangeCa } from "../facts/ca-copies.ts";
import type { LostNodes, OldSaKey } from "../facts/course.ts";
import type { ClusterEvidence } from "../facts/evidence.ts";
import { believedPeers } from "../facts/known-nodes.ts";
import type { PartialFacts } from "../facts/node-facts.ts";
import { attempt, Fail, failOf, UsageError } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { type Container, isServerContainer } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { STASH } from "../node/rescue-folder.ts";
import { registryPrefix, sealedIn } from "../objects/stored.ts";
import { hashIn } from "../pki/certificate.ts";
import { type PkiPlace, sharedPath } from "../pki/certs.ts";
import type { Finding } from "../pki/examine.ts";
import { say, silently } from "../run.ts";
import { nothingFound, ownDevice, searchDisk } from "../salvage/disk-search.ts";
import { searchBeside } from "../salvage/folders-beside.ts";
import { FoundKeys } from "../salvage/found-keys.ts";
import { findKubeadmCerts, IN_SECRETS, searchSecrets, snapshotsWith } from "../salvage/keys-in-copies.ts";
import { mayHold, processesHere, searchMemory } from "../salvage/memory-search.ts";
import { isIrreplaceable, type WantedKey, wantedKeys } from "../salvage/wanted-keys.ts";
import { shell } from "../shell-line.ts";
import type { Deep, KeyBeside, KeyPlace, LostKey, PlaceOfKeys } from "./assessment.ts";

interface SearchInput {
  partialFacts: PartialFacts;
  node: Node;
  running: Container[] | Fail;
  lost: LostNodes;
  besideKeys: readonly KeyBeside[];
}

export function survivors({ partialFacts, node, running, lost, besideKeys }: SearchInput): PlaceOfKeys[] {
  const { data, certificatesDir } = partialFacts;
  const all = [othersHave(partialFacts, { node, without: lost.names })];
  const add = (where: string, detail: string) => all.push({ where, hope: "worth a try", detail });
  const salvage = command("00-salvage");
  for (const { path } of besideKeys)
    all.unshift({
      where: "a folder beside",
      hope: "found",
      detail: `${path}: ${command("00-salvage files")}`,
    });
  add("a backup", `of ${certificatesDir}, of any age, if the CA was the same: ${salvage} --backup DIR`);
  const [newest] = snapshotsWith(certificatesDir);
  if (newest)
    add("a snapshot of this disk", `${salvage} ${shell`--backup ${dirname(`${newest}${certificatesDir}`)}`}`);
  if (exists("/etc/.git"))
    add(
      "etckeeper",
      `keys of a commit: git -C /etc log --oneline -- kubernetes; (umask 077; mkdir /dev/shm/etc && git -C /etc archive COMMIT kubernetes | tar -xC /dev/shm/etc); ${salvage} --backup /dev/shm/etc`,
    );
  const managed = managedNode(data, node.name);
  if (managed)
    add(
      "Cluster API's management cluster",
      `it made this node. With its kubeconfig: ${fetchLine(managed)}; bring that folder here, then ${salvage} --backup /dev/shm/keys`,
    );
  return [...all, memory(running), kubeadmCerts(partialFacts)];
}

interface Here {
  node: Node;
  without: readonly string[];
}

function othersHave({ cluster, certificatesDir, etcdCa }: PartialFacts, here: Here): PlaceOfKeys {
  const where = "another control plane node";
  const places = [certificatesDir, ...(etcdCa ? [dirname(etcdCa.cert)] : [])].join(" and ");
  const same = `each control plane node has the same keys, in ${places}`;
  if (!cluster) return { where, hope: "unknown", detail: `if there is one: ${same}` };
  return believedPeers(cluster, here).length > 0
    ? { where, hope: "worth a try", detail: `look there first: ${same}` }
    : { where, hope: "none", detail: "this cluster has only this one" };
}

const HOLDERS = ["kube-controller-manager", "kube-apiserver"];

function memory(running: Container[] | Fail): PlaceOfKeys {
  const where = "memory";
  if (running instanceof Fail)
    return {
      where,
      hope: "unknown",
      detail: "see containers above. Until they can be seen: stop the kubelet, touch nothing else",
    };
  const alive = running.filter((c) => isServerContainer(c) && HOLDERS.includes(c.name)).map((c) => c.name);
  if (alive.length === 0) return { where, hope: "no", detail: "no control-plane process is left" };
  return {
    where,
    hope: "worth a try",
    detail:
      `${alive.join(", ")} still ${alive.length === 1 ? "runs" : "run"} and may hold ca.key or sa.key. ` +
      `Stop the kubelet, restart nothing, then ${command("00-salvage")}`,
  };
}

function kubeadmCerts({ data }: PartialFacts): PlaceOfKeys {
  const where = "kubeadm-certs Secret";
  const found = attempt(() => data?.get(`${registryPrefix(data)}/secrets/kube-system/kubeadm-certs`));
  if (!found || found instanceof Fail) return { where, hope: "no", detail: "not in etcd's data" };
  const sealed = sealedIn(found.key, found.value);
  if (sealed?.provider === "kms")
    return { where, hope: "no", detail: `only the KMS plugin "${sealed.keyName}" opens it` };
  return {
    where,
    hope: "worth a try",
    detail: `it is in etcd's data; ${command("00-salvage secret")} decrypts it with the key that kubeadm init --upload-certs printed`,
  };
}

export interface DeepOptions {
  /** A device or image; "own": the device that holds /etc/kubernetes; unset: no disk. */
  disk: string | undefined;
  diskOption: string;
}

/** Returns undefined if no search was asked for. Errors: Fail if only a place to search is named. */
export function deepAsked({
  deep,
  "no-disk": noDisk,
  device,
  image,
}: Partial<Record<"deep" | "no-disk", boolean> & Record<"device" | "image", string>>):
  | DeepOptions
  | undefined {
  if (deep)
    return {
      disk: noDisk ? undefined : (image ?? device ?? "own"),
      diskOption: image ? shell`--image ${image}` : device ? shell`--device ${device}` : "",
    };
  if (!noDisk && !device && !image) return undefined;
  throw new UsageError("--no-disk, --device and --image need --deep: they say where it searches", {
    hint: again({ deep: true }),
  });
}

interface LostKeysHere extends Pick<SearchInput, "node" | "partialFacts" | "lost"> {
  evidence: ClusterEvidence;
  lostKeys: Finding[];
  strange: StrangeCa | undefined;
  oldKey: OldSaKey;
}

/** Looks at some fixed paths, so it is asked without `--deep`, too. Reads and says nothing else. */
export async function keysBeside({
  partialFacts: { certificatesDir, etcdCa },
  ...lostKeysHere
}: Pick<LostKeysHere, "partialFacts" | "evidence" | "lostKeys" | "strange">): Promise<KeyBeside[]> {
  if (lostKeysHere.lostKeys.length === 0) return [];
  const place = { certificatesDir, etcdCa };
  const wanted = wantedKeys(lostKeysHere.evidence, { ...place, others: lostKeysHere.strange !== undefined });
  const foundKeys = new FoundKeys(wanted, { stash: false });
  await silently(() => searchBeside(foundKeys, place));
  return lostKeysHere.lostKeys.flatMap(({ name }) => {
    const one = wanted.find((key) => key.name === keyName(name));
    const path = one && foundKeys.placeOf(one);
    return path ? [{ name, path }] : [];
  });
}

/** Searches memory first, and the disk only for keys that memory does not have. Reads only. */
export async function searchDeep(
  { node, partialFacts, evidence, lostKeys, strange, oldKey, lost }: LostKeysHere,
  options: DeepOptions,
): Promise<Deep> {
  const names = new Set(lostKeys.map(({ name }) => keyName(name)));
  const { certificatesDir, etcdCa } = partialFacts;
  const place = { certificatesDir, etcdCa };
  const all = wantedKeys(evidence, { ...place, others: strange !== undefined });
  const wanted = all.filter(({ name }) => names.has(name));
  const foundKeys = new FoundKeys(wanted, { stash: false });
  foundKeys.takeWhatIsHere(place);
  await searchBeside(foundKeys, place);
  const notRead = await searchMemory(foundKeys, {
    data: partialFacts.data,
    processes: await processesHere(node),
  });
  const late = await failOf(() => searchSecrets(foundKeys, partialFacts.data));
  if (late) say(`not searched to the end: ${late.message}; ${late.hint}`);
  const diskSearched =
    foundKeys.missing().length > 0 && options.disk !== undefined && (await readDisk(options.disk, foundKeys));
  const others = placesElsewhere({ node, without: lost.names }, partialFacts);
  const moveToRescue = wanted.some((one) => isInTheWay(one, place));
  const expired = lostKeys
    .filter(({ state }) => state === "expired")
    .filter(({ name }) => !wanted.some((one) => keyName(name) === one.name));
  const keys = [
    ...wanted.map((one) => lostKey(one, foundKeys.placeOf(one), others(one.keyFile))),
    ...expired.map(({ name, detail }) => ({
      name: keyName(name),
      file: `${keyName(name)}.key`,
      places: [],
      detail: `here, but ${detail}`,
    })),
  ];
  const unread = mayHold(
    notRead,
    foundKeys.missing().map(({ name }) => name),
  );
  return {
    keys,
    oldTokens: oldKey !== "lost",
    oldKeyHere: oldKey === "here",
    diskSearched,
    ...(unread.length > 0 ? { unread: unread.map(({ name, pid }) => `${name} (pid ${pid})`) } : {}),
    diskOption: options.diskOption,
    moveToRescue,
  };
}

/** Whether another key, or an unreadable file, is at the path of the lost key or of its public half. */
function isInTheWay({ keyFile, publicFile, generations }: WantedKey, place: PkiPlace): boolean {
  if (exists(sharedPath(keyFile, place))) return true;
  const text = attempt(() => readText(sharedPath(publicFile, place)));
  if (text instanceof Fail) return true;
  const hash = text === undefined ? generations[0]?.hash : attempt(() => hashIn(text));
  return hash instanceof Fail || hash !== generations[0]?.hash;
}

/** If the disk cannot be read, the keys found elsewhere still count. */
async function readDisk(disk: string, foundKeys: FoundKeys): Promise<boolean> {
  const why = await failOf(async () =>
    searchDisk(disk === "own" ? await ownDevice() : disk, foundKeys, nothingFound()),
  );
  if (why) say(`disk not searched: ${why.message}`);
  return !why;
}

/** The Secret without its key, the other control plane nodes. */
function placesElsewhere(here: Here, { cluster, data }: PartialFacts): (file: string) => KeyPlace[] {
  const secret = attempt(() => data && findKubeadmCerts(data));
  const others = cluster ? believedPeers(cluster, here).map(({ name }) => name) : [];
  return (file) => [
    ...(secret && !(secret instanceof Fail) && secret.data?.[file.replace("/", "-")]
      ? [{ rung: 1, where: "the Secret kubeadm-certs", word: "secret", found: false } as const]
      : []),
    ...(others.length > 0
      ? [{ rung: 1, where: `maybe on ${others.join(", ")}`, found: false } as const]
      : []),
  ];
}

function lostKey(
  { name, keyFile, generations }: WantedKey,
  from: string | undefined,
  elsewhere: KeyPlace[],
): LostKey {
  const inUse = generations[0];
  const use = inUse ? `known by ${inUse.from.join(", ")}` : "nothing here shows which key it was";
  const detail = from
    ? `proved by ${inUse!.from.join(", ")}`
    : elsewhere.length > 0
      ? use
      : `${use}${isIrreplaceable({ name }) ? "" : "; only control plane nodes trust it"}`;
  return { name, file: keyFile, places: [...(from ? [foundPlace(from)] : []), ...elsewhere], detail };
}

/** The key's name in SHARED_KEYS. */
function keyName(name: string): string {
  return name === "etcd-ca" ? "etcd/ca" : name;
}

function foundPlace(from: string): KeyPlace {
  if (from.startsWith(`${IN_SECRETS} `)) return { rung: 1, where: from, word: "secret", found: true };
  if (from.startsWith("/")) return { rung: 1, where: from, word: "files", found: true };
  if (from.startsWith("blocks of")) return { rung: 3, where: from, word: "disk", found: true };
  return {
    rung: 2,
    where: from === STASH ? "what an earlier 00-salvage found" : from,
    word: "memory",
    found: true,
  };
}
