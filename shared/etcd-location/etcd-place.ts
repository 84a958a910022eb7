/**
 * Finds etcd's data directory. First come paths that root or the control plane names (etcd-candidates.ts),
 * then a few paths where only root writes. If several hold data, the data itself has to prove it: a member with this
 * node's address, and the CA that signed this kubelet's certificate. If several do, the one from which etcd is started
 * counts, as a restore left the others behind. All else is asked. The ids do not tell a restored member from the old one:
 * they derive from its URL. Reads only.
 */
import { dirname } from "node:path";
import { again } from "../again.ts";
import type { EtcdData, Member } from "../etcd-data/data.ts";
import { attempt, attemptLater, Fail } from "../fail.ts";
import { exists, list, readText } from "../files/files.ts";
import { certificatesDirOn } from "../manifests/on-disk.ts";
import { type Container, containersIfAny } from "../node/containers.ts";
import { OtherDistribution } from "../node/kubelet-config.ts";
import { type Node, readNode } from "../node/node.ts";
import { foldersWithData } from "../node/rescue-folder.ts";
import { savedAtText, savedOptionOf } from "../node/words.ts";
import { configMapIn, registryPrefix } from "../objects/stored.ts";
import { isServer } from "../pki/addresses.ts";
import { certificatesIn, signedBy } from "../pki/certificate.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { inManifest, type NamedFolders, namesOf, writtenLater } from "./etcd-candidates.ts";
import { type EtcdFolders, holdsData, keyOf, readFolders } from "./etcd-folders.ts";
import { controlPlaneTraces, isClusters, readEtcdUnit, USUAL_DATA } from "./etcd-unit.ts";
import { etcdElsewhere } from "./living-etcd.ts";
import { isHere, isWorkerByData, ownMember } from "./reach-etcd.ts";
import { apiServerHere } from "./static-pod-here.ts";

interface Here {
  node: Node | undefined;
  all?: readonly Container[] | undefined;
}

/**
 * `typed`: the operator's --etcd-data, a folder, or URLs of members on other machines. An earlier one counts if
 * nothing else decides and that folder has data. If nothing is found: the named folder, or kubeadm's default. Errors:
 * Fail if several hold data and none is proved, or if the named folder does not exist.
 */
export async function etcdDataOf(typed: string | undefined, { node, all }: Here): Promise<EtcdPlace> {
  const apiServer = await apiServerHere({ node, all });
  const saved = savedOptionOf("etcd-data");
  const urls = [typed ?? saved?.value ?? ""].filter(isServer);
  const place = await placeOf(urls.length > 0 ? undefined : typed, { node, all, apiServer });
  if (node && typed === undefined && isWorkers(place, node, all))
    return { ...place, isHosted: true, apiServer };
  if (!node || (urls.length === 0 && (typed !== undefined || exists(place.dir))))
    return { ...place, apiServer };
  const containers = all ?? (await containersIfAny(node));
  const input = { node, all: containers, apiServer, dataDir: place.dir, caFits: caFitsKubelet };
  const found = await etcdElsewhere(input, urls.join().split(",").filter(Boolean));
  if (!found?.living) return { ...place, ...found, apiServer };
  const { endpoint, about } = found.living;
  const why = `on other machines: a snapshot of ${about.members.length} members' data`;
  return { ...found, dir: endpoint, wal: undefined, why, apiServer };
}

/** Read only if nothing of a control plane is here, but a unit of etcd. */
function isWorkers(place: EtcdPlace, node: Node, all: Here["all"] = []): boolean {
  const unit = readEtcdUnit();
  if (!unit || !isClusters(unit) || controlPlaneTraces(node, all, certificatesDirOn(node)).length > 0)
    return false;
  const look = () => {
    using data = readFolders(place);
    return isWorkerByData(data, node);
  };
  return attempt(look, false);
}

async function placeOf(
  typed: string | undefined,
  { node, all, apiServer }: Here & Pick<EtcdFolders, "apiServer">,
): Promise<EtcdPlace> {
  const usual = USUAL_DATA.map((dir) => ({ dir, wal: undefined, apiServer }));
  const names = async () => {
    const found = node
      ? await namesOf({ node, containers: all ?? (await containersIfAny(node)), apiServer })
      : [];
    return found.map((one) => ({ ...one, apiServer }));
  };
  const asNamed = async (dir: string, why: string) => {
    const isSame = (one: EtcdFolders) => keyOf(one.dir) === keyOf(dir);
    return { dir, wal: exists(`${dir}/member/wal`) ? undefined : (await names()).find(isSame)?.wal, why };
  };
  if (typed !== undefined) return await asNamed(typed, "");
  const namedFolders = node ? inManifest({ node }) : [];
  const sure = [...namedFolders, ...usual].filter(holdsData);
  if (namedFolders.some(holdsData) && new Set(sure.map(({ dir }) => keyOf(dir))).size === 1)
    return asPlace(namedFolders[0]!, namedFolders);
  const named = await names();
  const candidates = uniqueFolders([...named, ...usual].filter(holdsData));
  const found = attempt(() => choose({ named, candidates, node }));
  const saved = savedOptionOf("etcd-data");
  const isOpen = found instanceof Fail || candidates.length === 0;
  if (saved && isOpen && exists(`${saved.value}/member`))
    return await asNamed(saved.value, savedAtText(saved));
  if (found instanceof Fail) throw found;
  return found;
}

/** Says which folder it is, if somebody might expect another. */
export function sayPlace({ dir, wal, why }: EtcdPlace) {
  if (why) say(`etcd's data: ${dir}${wal ? `, its log: ${wal}` : ""} (${why})`);
}

/** This machine as a node; undefined if it is none. Errors: Refused if kubeadm has not set it up. */
export async function nodeIfAny(): Promise<Node | undefined> {
  const node = await attemptLater(readNode);
  if (node instanceof OtherDistribution) throw node;
  return node instanceof Fail ? undefined : node;
}

interface Choice {
  named: NamedFolders[];
  candidates: EtcdFolders[];
  node: Node | undefined;
}

function choose({ named, candidates, node }: Choice): EtcdPlace {
  const [only, ...more] = candidates;
  const isNamed = ({ dir }: EtcdFolders) => named.some((one) => keyOf(one.dir) === keyOf(dir));
  if (!only) return asPlace(named[0] ?? { dir: USUAL_DATA[0]!, wal: undefined }, named);
  const place = more.length > 0 ? proved(candidates, named, node) : asPlace(only, named);
  if (named.length === 0) refuseLater(place);
  if (named.length === 0 || more.length > 0 || isNamed(only)) return place;
  throw new Fail(
    `etcd's data is not in "${named[0]!.dir}" (${named[0]!.by}), but there is some in "${only.dir}"`,
    {
      hint: `see whether a disk is not mounted: ${shell`findmnt ${named[0]!.dir}`}; systemctl list-units --type mount --failed. If "${only.dir}" is this cluster's: ${again({ "etcd-data": only.dir })}`,
    },
  );
}

/**
 * Asks whether the cluster's data is elsewhere, as after a restore, if this is a usual path that nothing
 * names.
 */
function refuseLater(place: EtcdPlace) {
  const later = writtenLater(place);
  if (later.length === 0) return;
  const others = later.map(({ dir, written }) => `"${dir}" (${written.toISOString()})`);
  throw new Fail(
    `Nothing here names etcd's folder: there is data in "${place.dir}", and newer data in ${others.join(", ")}`,
    {
      hint: `name the right one: ${[place, ...later].map(({ dir }) => again({ "etcd-data": dir })).join(" or ")}`,
    },
  );
}

function asPlace({ dir, wal }: EtcdFolders, named: readonly NamedFolders[]): EtcdPlace {
  const source = named.find((one) => keyOf(one.dir) === keyOf(dir))?.by;
  return { dir, wal, why: dir === USUAL_DATA[0] && !wal ? "" : (source ?? "the only place with data") };
}

/** Joins a folder's names by a link or a mount. Named folders come first. */
function uniqueFolders(all: readonly EtcdFolders[]): EtcdFolders[] {
  return [...new Map(all.toReversed().map((one) => [keyOf(one.dir), one])).values()].reverse();
}

export interface EtcdPlace extends EtcdFolders {
  /** Why it is this one, for the operator; "": no other was in question. */
  why: string;
}

/**
 * `named`: the sources that name a folder. Errors: Fail if none is proved, with the line to type for each.
 */
export function proved(
  candidates: readonly EtcdFolders[],
  named: readonly NamedFolders[],
  node: Node | undefined,
): EtcdPlace {
  const all = candidates.map((folders) => judge(folders, named, node));
  const one = chooseFolder(all);
  if (!one)
    throw new Fail(
      `Several folders hold etcd's data, and nothing proves which is this cluster's: ${all.map(({ folders, words }) => `"${folders.dir}" (${words})`).join("; ")}`,
      {
        hint: `name the right one: ${all.map(({ folders }) => again({ "etcd-data": folders.dir })).join(" or ")}`,
      },
    );
  const others = all
    .filter((other) => other !== one)
    .map((other) => `${howItDiffers(other, one)} (${other.words})`);
  return {
    ...one.folders,
    why: [one.starts ? `etcd is started from it (${one.words})` : one.words, ...others].join("; "),
  };
}

function howItDiffers({ folders, ids }: Judged, one: Judged): string {
  if (!one.starts || !ids || !one.ids || ids.same === one.ids.same) return `not "${folders.dir}"`;
  return `"${folders.dir}" is of another member${ids.written < one.ids.written ? ", an older one" : ""}`;
}

/**
 * The only proved one, or the one from which etcd is started. Undefined: not clear, or the same member wrote later
 * elsewhere.
 */
function chooseFolder(all: readonly Judged[]): Readable | undefined {
  const own = all.filter(isOwn);
  const proved = own.filter(({ ca }) => ca === "yes");
  const candidates = proved.length > 0 ? proved : own.filter(({ starts }) => starts);
  // a named folder that cannot be read or compared may be the right one
  if (all.some((one) => one.isNamed && one.ca === "unknown" && !candidates.some((other) => other === one)))
    return undefined;
  const started = candidates.filter(({ starts }) => starts);
  const [one, ...more] = started.length > 0 ? started : candidates;
  return one && more.length === 0 && !own.some((other) => supersedes(other, one)) ? one : undefined;
}

/** Whether it is a later state of the same member. */
function supersedes({ ids }: Readable, one: Readable): boolean {
  const later = ids.written.getTime() - one.ids.written.getTime();
  return ids.same === one.ids.same && (later > 0 || (later === 0 && ids.revision > one.ids.revision));
}

type Readable = Judged & { ids: NonNullable<Judged["ids"]> };

function isOwn(one: Judged): one is Readable {
  return one.isOwn && one.ids !== undefined && one.ca !== "no";
}

interface Judged {
  folders: EtcdFolders;
  /** Whether a source names it, and whether etcd is started from it. */
  isNamed: boolean;
  starts: boolean;
  /** Undefined if the data cannot be read. */
  ids: { same: string; revision: number; written: Date } | undefined;
  /** One of its members has this machine's address. */
  isOwn: boolean;
  /** Whether the CA in it signed this kubelet's certificate. */
  ca: "yes" | "no" | "unknown";
  words: string;
}

function judge(folders: EtcdFolders, named: readonly NamedFolders[], node: Node | undefined): Judged {
  const names = named.filter((one) => keyOf(one.dir) === keyOf(folders.dir));
  const sources = names.map((one) => `named by ${one.by}`);
  const folder = { folders, isNamed: names.length > 0, starts: names.some((one) => one.starts) };
  const addresses = node?.addresses ?? [];
  const identity = attempt(() => {
    using data = readFolders(folders);
    const { clusterId, memberId, revision, lastWrite: written } = data;
    const ids = { same: `${clusterId} ${memberId}`, revision, written };
    return { ids, member: ownMember(data, addresses), ca: caFitsKubelet(data, node) };
  });
  if (identity instanceof Fail)
    return {
      ...folder,
      ids: undefined,
      isOwn: false,
      ca: "unknown",
      words: [...sources, `cannot be read: ${identity.message}`].join(", "),
    };
  const { ids, member, ca } = identity;
  const words = [
    ...sources,
    memberWords(member, addresses),
    CA_WORDS[ca],
    `revision ${ids.revision}, last write ${ids.written.toISOString()}`,
  ];
  return { ...folder, ids, isOwn: member !== undefined, ca, words: words.join(", ") };
}

function memberWords(member: Member | undefined, addresses: readonly string[]): string {
  if (!member) return "its member has another address";
  const name = member.name || member.id;
  if (isHere(member, addresses)) return `its member ${name} has this node's address`;
  return `its only member ${name} is at localhost, as a restore without --initial-cluster leaves it`;
}

const CA_WORDS = {
  yes: "its CA signed this kubelet's certificate",
  no: "its CA did not sign this kubelet's certificate",
  unknown: "no CA to compare",
};

/** A kubelet's certificate is signed by its cluster's CA. An empty data directory belongs to no cluster. */
function caFitsKubelet(data: EtcdData, node: Node | undefined): Judged["ca"] {
  if (attempt(() => registryPrefix(data)) instanceof Fail) return "no";
  const stored = attempt(() => configMapIn(data, "kube-system/kube-root-ca.crt")?.["ca.crt"]);
  const pems = node ? kubeletsCertificates(node) : [];
  if (stored === undefined) return "no";
  if (stored instanceof Fail || pems.length === 0) return "unknown";
  const signed = certificatesIn(stored).some((ca) =>
    pems.some((pem) => attempt(() => signedBy(pem, ca)) === true),
  );
  return signed ? "yes" : "no";
}

/** The current one, and the one before this repair. */
function kubeletsCertificates({ kubelet }: Node): string[] {
  const [rescue] = foldersWithData();
  const oldFolder = rescue ? `${rescue.dir}/before${dirname(kubelet.clientPem)}` : undefined;
  const saved = oldFolder ? list(oldFolder) : [];
  return [kubelet.clientPem, ...saved.map((name) => `${oldFolder}/${name}`)].flatMap((path) => {
    const pem = attempt(() => readText(path));
    return pem && !(pem instanceof Fail) ? [pem] : [];
  });
}
