/** A bundle held against the node it is to be unpacked on: whose it is, what is there already, and what is to be written. */
import type { EtcdData } from "../etcd-data/data.ts";
import { type Cluster, readCluster } from "../facts/cluster.ts";
import { findRepair } from "../facts/repair.ts";
import { attempt, Fail } from "../fail.ts";
import { copyAside } from "../files/file-tree.ts";
import { readBytes, type WriteOptions, writeTogether } from "../files/files.ts";
import { newRescue } from "../node/rescue-folder.ts";
import { certInfo, hashIn, madeAt } from "../pki/certificate.ts";
import { SHARED_KEYS, type SharedKey } from "../pki/certs.ts";
import { day } from "../pki/judge.ts";
import { say } from "../run.ts";
import { type Bundle, caOf, modeOf, type Origin, sameKey, textIn } from "./bundle.ts";

/** What this node knows of the cluster. */
export interface Here {
  certificatesDir: string;
  /** Unset where etcd's data cannot be read; `why` says why. */
  cluster: Pick<Cluster, "name" | "oldCaPem" | "kubeSystemUid" | "nodes"> | undefined;
  why: string;
  /** etcd's data, also where it is no kubeadm cluster's as a whole. */
  data?: EtcdData | undefined;
  asideDir: string;
}

/** Reads only. Without etcd's data, kubeadm's default folder is meant: the keys are found there or nowhere. */
export function lookHere(dataDir: string): Here {
  const repair = attempt(() => findRepair(dataDir));
  const cluster = repair instanceof Fail ? repair : attempt(() => readCluster(repair.data));
  const rescue = repair instanceof Fail ? newRescue() : repair.rescue;
  const known = cluster instanceof Fail ? undefined : cluster;
  return {
    certificatesDir: known?.certificatesDir ?? "/etc/kubernetes/pki",
    cluster: known,
    why: cluster instanceof Fail ? cluster.message : "",
    data: repair instanceof Fail ? undefined : repair.data,
    asideDir: `${rescue.dir}/aside`,
  };
}

export function originOf({ cluster }: Here): Origin | undefined {
  return cluster && { name: cluster.name, kubeSystemUid: cluster.kubeSystemUid };
}

/**
 * Refuses a bundle of another cluster, and one that the cluster's CA is newer than; says what it was held against. `confirmed`: the operator
 * named the CA's fingerprint, which pack printed.
 */
export function checkOrigin({ files, manifest }: Bundle, here: Here, confirmed: string | undefined) {
  const hint = "pack one on a control plane node of this cluster that has the right keys: ./bunw scripts/hand-over.ts pack";
  const ca = caOf(files);
  if (confirmed && confirmed !== ca) throw new Fail(`The bundle's CA is ${ca}, not ${confirmed}`, { hint });
  if (!here.cluster) return say(`warning: not held against etcd's data: ${here.why}`);

  const { name, kubeSystemUid, oldCaPem } = here.cluster;
  const from = manifest?.cluster;
  if (from && from.kubeSystemUid !== kubeSystemUid) {
    throw new Fail(
      `The bundle is foreign: it is of the cluster "${from.name}" (kube-system has the UID ${from.kubeSystemUid}), this node of "${name}" (${kubeSystemUid})`,
      { hint },
    );
  }
  const known = certInfo(oldCaPem).publicKeyHash;
  if (ca === known) return say("its CA is the one that etcd's data names");
  const [made, knownMade] = [madeAt(textIn(files, "ca.crt")!), madeAt(oldCaPem)];
  if (made < knownMade) {
    throw new Fail(
      `The bundle is stale: its CA ${ca} was made on ${day(made)}, and since ${day(knownMade)} the cluster has another, ${known}`,
      { hint },
    );
  }
  if (!from && !confirmed) {
    throw new Fail(`Nothing tells that the bundle is this cluster's: its CA is ${ca}, etcd's data names ${known}`, {
      hint: `if you know that it is, say so: --ca-hash ${ca}`,
    });
  }
  say(`its CA is newer than the one etcd's data names (${known}): as part 1 makes it with --new-cas`);
}

/** Writes what is missing, all or nothing, and keeps what is the same. Returns the paths written. Errors: Fail where other keys are there. */
export function unpackHere({ files }: Bundle, here: Here, options: { moveAside?: boolean | undefined } = {}): string[] {
  return placeKeys(SHARED_KEYS, files, here, { ...options, source: "the bundle" });
}

interface PlaceOptions {
  moveAside?: boolean | undefined;
  /** What has the keys, for the operator: "the bundle". */
  source: string;
  /** Other files that are to be written with them. */
  more?: readonly (WriteOptions & { path: string; content: string })[];
}

/** The same for some keys, both halves of which are in `files`, wherever they come from. */
export function placeKeys(keys: readonly SharedKey[], files: Bundle["files"], here: Here, options: PlaceOptions): string[] {
  const conflicts: Conflict[] = [];
  const wanted: (WriteOptions & { path: string; content: string | Uint8Array })[] = [];
  for (const key of keys) {
    for (const file of [key.keyFile, key.publicFile]) {
      const path = `${here.certificatesDir}/${file}`;
      const content = files.get(file)!;
      const standing = standingOf(key, file, files, readBytes(path));
      if (standing === "the same key") say(`${path}: kept (the same key, written another way)`);
      else wanted.push({ path, content, mode: modeOf(file) });
      if (typeof standing === "object") conflicts.push({ file, path, ...standing });
    }
  }
  for (const { file, here: one, there } of conflicts) say(`${file}: here ${one}, in ${options.source} ${there}`);
  if (conflicts.length > 0 && !options.moveAside) throw otherKeys(conflicts, here, options.source);
  for (const { path } of conflicts) copyAside(path, here.asideDir);
  return writeTogether([...wanted, ...(options.more ?? [])]);
}

/** A file of this node that is of another key than the source's: what it is, and what the source has. */
interface Conflict {
  file: string;
  path: string;
  here: string;
  there: string;
}

function standingOf(
  key: SharedKey,
  file: string,
  files: Bundle["files"],
  there: Uint8Array | undefined,
): "missing" | "equal" | "the same key" | Pick<Conflict, "here" | "there"> {
  if (!there) return "missing";
  if (Buffer.from(there).equals(files.get(file)!)) return "equal";
  const wanted = hashIn(textIn(files, key.publicFile)!);
  const text = Buffer.from(there).toString("utf8");
  const same = attempt(() => sameKey(key, file, files, text));
  const here = same === false && file !== key.keyFile ? attempt(() => hashIn(text)) : "the key of another";
  if (same instanceof Fail || here instanceof Fail) return { here: "something that cannot be read", there: wanted };
  if (!same) return { here, there: wanted };
  const end = file.endsWith(".crt") ? certInfo(text).notAfter : undefined;
  return end && end < new Date() ? { here: `a certificate that ended on ${day(end)}`, there: wanted } : "the same key";
}

function otherKeys(conflicts: Conflict[], here: Here, source: string): Fail {
  const ca = conflicts.find(({ file }) => file === "ca.crt");
  const known = here.cluster && certInfo(here.cluster.oldCaPem).publicKeyHash;
  const theCluster = `the cluster's CA, by etcd's data, is ${known === ca?.here ? "the one here" : known === ca?.there ? `${source}'s` : known}`;
  const which =
    ca && `; the CA here is ${ca.here}, ${source}'s ${ca.there}; ${known ? theCluster : `etcd's data tells nothing: ${here.why}`}`;
  return new Fail(`This node has other keys than ${source}: ${conflicts.map(({ file }) => file).join(", ")}${which ?? ""}`, {
    hint: `if those here are right, pack them on this node for the other control plane nodes; if ${source} is right: --move-aside, which keeps those here in the rescue folder`,
  });
}
