/**
 * Finds etcd's data directory. First come paths that root or the control plane names (etcd-candidates.ts),
 * then a few paths where only root writes. If several hold data, the data itself has to prove it
 * (etcd-proof.ts). Reads only.
 */
import { again } from "../again.ts";
import { attempt, Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { type Container, containersIfAny } from "../node/containers.ts";
import { OtherDistribution } from "../node/kubelet-config.ts";
import { type Node, readNode } from "../node/node.ts";
import { saidAt } from "../node/word-kinds.ts";
import { wordOf } from "../node/words.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { USUAL_DATA } from "./control-plane-traces.ts";
import { inManifest, type NamedFolders, namesOf, writtenLater } from "./etcd-candidates.ts";
import { type EtcdFolders, holdsData, keyOf } from "./etcd-folders.ts";
import { type EtcdPlace, proved } from "./etcd-proof.ts";
import { etcdElsewhere } from "./living-etcd.ts";
import { apiServerHere } from "./static-pod-here.ts";

interface Here {
  node: Node | undefined;
  /** Set if they are known already. */
  all?: readonly Container[] | undefined;
}

/**
 * `typed`: the operator's --etcd-data, a folder, or URLs of members on other machines. An earlier one counts if
 * nothing else decides and that folder has data. If nothing is found: the named folder, or kubeadm's default.
 * Etcd on other machines is asked for its data. Errors: Fail if several hold data and none is proved, or if the
 * named folder does not exist.
 */
export async function etcdDataOf(typed: string | undefined, { node, all }: Here): Promise<EtcdPlace> {
  const apiServer = await apiServerHere({ node, all });
  const saved = wordOf("etcd-data");
  const urls = [typed ?? saved?.value ?? ""].filter((value) => value.startsWith("https://"));
  const place = await placeOf(urls.length > 0 ? undefined : typed, { node, all, apiServer });
  if (!node || (urls.length === 0 && (typed !== undefined || exists(place.dir))))
    return { ...place, apiServer };
  const containers = all ?? (await containersIfAny(node));
  const seen = { node, all: containers, apiServer, dataDir: place.dir };
  const found = await etcdElsewhere(seen, urls.join().split(",").filter(Boolean));
  if (!found?.living) return { ...place, ...found, apiServer };
  const { endpoint, about } = found.living;
  const why = `on other machines: a snapshot of ${about.members.length} members' data`;
  return { ...found, dir: endpoint, wal: undefined, why, apiServer };
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
  const known = node ? inManifest({ node }) : [];
  const sure = [...known, ...usual].filter(holdsData);
  if (known.some(holdsData) && new Set(sure.map(({ dir }) => keyOf(dir))).size === 1)
    return asPlace(known[0]!, known);
  const named = await names();
  const candidates = uniqueFolders([...named, ...usual].filter(holdsData));
  const found = attempt(() => choose({ named, candidates, node }));
  const saved = wordOf("etcd-data");
  const isOpen = found instanceof Fail || candidates.length === 0;
  if (saved && isOpen && exists(`${saved.value}/member`)) return await asNamed(saved.value, saidAt(saved));
  if (found instanceof Fail) throw found;
  return found;
}

/** Says which folder it is, if somebody might expect another. */
export function sayPlace({ dir, wal, why }: EtcdPlace) {
  if (why) say(`etcd's data: ${dir}${wal ? `, its log: ${wal}` : ""} (${why})`);
}

/** This machine as a node; undefined if it is none. Errors: Refused if kubeadm has not set it up. */
export async function nodeIfAny(): Promise<Node | undefined> {
  try {
    return await readNode();
  } catch (err) {
    if (err instanceof Fail && !(err instanceof OtherDistribution)) return undefined;
    throw err;
  }
}

interface Choice {
  named: NamedFolders[];
  /** Folders with data, each once. */
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
    `Nothing here names etcd's folder: there is data in "${place.dir}", and some was written later in ${others.join(", ")}`,
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
