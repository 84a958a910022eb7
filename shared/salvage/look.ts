/**
 * Before a search: which keys are lost on this node, what proves each, and which processes may still hold
 * them. Reads only.
 */

import { type EtcdHome, etcdHome } from "../etcd-location/etcd-home.ts";
import { etcdDataOf, sayPlace } from "../etcd-location/etcd-place.ts";
import { type StrangeCa, strangeCa } from "../facts/ca-copies.ts";
import { lookAtControlPlaneNode, type PartialFacts } from "../facts/control-plane-node.ts";
import type { OldSaKey } from "../facts/course.ts";
import { readEvidence } from "../facts/evidence.ts";
import { lostHere } from "../facts/lost-files.ts";
import { isNotKubeadms } from "../facts/no-etcd-data.ts";
import { isExternalCa, isExternalSigner } from "../facts/signed-elsewhere.ts";
import { Fail, Refused } from "../fail.ts";
import { exists } from "../files/files.ts";
import { certificatesDirOn } from "../manifests/on-disk.ts";
import { OtherDistribution } from "../node/kubelet-config.ts";
import { type Node, readNode } from "../node/node.ts";
import { oldSaKey } from "../old-sa-key/old-tokens.ts";
import { trustedKeys } from "../pki/trusted-keys.ts";
import { say } from "../run.ts";
import { nothingFound } from "./disk-search.ts";
import { FoundKeys } from "./found-keys.ts";
import { searchFolder } from "./keys-in-copies.ts";
import { lostConfigs } from "./lost-configs.ts";
import { processesHere } from "./memory-search.ts";
import type { Brought } from "./put-back.ts";
import { expiredCas, sayLost, type WantedOptions, wantedKeys } from "./wanted-keys.ts";

/** What was seen here; the searches add to it. */
export interface Salvage extends Brought {
  /** Where etcd runs. */
  etcd: EtcdHome["runs"];
  /** CAs that are here, have expired, and are not ours to renew. */
  expired: ReturnType<typeof expiredCas>;
  /** A sound CA in the place of the cluster's. */
  strange: StrangeCa | undefined;
  oldKey: OldSaKey;
}

/** What the operator says. */
interface Said extends Pick<WantedOptions, "others" | "kid" | "from"> {
  /** A process that is the control plane's. */
  pid: string | undefined;
  /** A folder with copies of lost files and keys. */
  backup: string | undefined;
}

/** Errors: Fail where this is no control plane node, or where the operator names what is not there. */
export async function lookForLost(etcdData: string | undefined, { pid, backup, ...said }: Said) {
  const node = await thisNode();
  const place = await etcdDataOf(etcdData, { node });
  sayPlace(place);
  const dataDir = place.dir;
  const here = lookAtControlPlaneNode(place, undefined, certificatesDirOn(node));
  const { certificatesDir, data } = here;
  const processes = vouchedFor(await processesHere(node), pid);
  if (!exists(dataDir) && processes.own.every(({ name }) => name === "kubelet"))
    throw new Refused(
      `This is no control plane node: there is no "${dataDir}", and no process of a control plane runs here`,
      {
        hint: "run it on each control plane node, before anything there is restarted; workers have none of these keys",
      },
    );
  const known = readEvidence({ data, node, certificatesDir });
  if (!here.cluster) say(`warning: etcd's data cannot be read: ${here.obstacle?.message}`);
  for (const line of new Set(known.unread)) say(`not read: ${line}`);
  const etcd = etcdHome({ node, dataDir, cluster: here.cluster }).runs;
  const wanted = wantedKeys(known, { certificatesDir, ...said });
  const foundKeys = new FoundKeys(wanted.filter(({ name }) => !neverHere(here, etcd).includes(name)));
  const expired = expiredCas(known, certificatesDir);
  for (const { paths, detail } of expired) say(`${paths[0]}: ${detail}: a search cannot change that`);
  const strange = strangeCa(here);
  if (strange)
    say(
      `${certificatesDir}/ca.crt: valid, but not the cluster's CA: ${strange.hash}; etcd's data names ${clustersHash(here)}`,
    );
  if (foundKeys.wanted.length === 0 && !strange) say(`${certificatesDir}: nothing is lost`);
  for (const one of foundKeys.wanted) sayLost(one);
  foundKeys.takeWhatIsHere(certificatesDir);
  if (backup !== undefined) searchFolder(foundKeys, backup);
  const oldKey = node ? oldSaKey(data, node, certificatesDir) : "lost";
  const files = node
    ? lostHere({ data, node, certificatesDir, etcd: place }).filter(
        ({ kind, stored }) => kind !== "socket" && !stored,
      )
    : [];
  for (const { path, program, namedBy } of files) say(`${path}: lost; ${named(program, namedBy)} names it`);
  const configs = lostConfigs(files);
  return {
    here,
    foundKeys,
    processes,
    etcd,
    expired,
    strange,
    oldKey,
    files,
    configs,
    backup,
    disk: nothingFound(),
  };
}

function named(program: string, by: string): string {
  return by.startsWith("/") ? by : `${program}'s ${by}`;
}

function clustersHash({ cluster }: PartialFacts): string {
  return [...trustedKeys(cluster!.oldCaPem)].join(", ");
}

/** Keys that were never on a control plane node are not lost. */
function neverHere({ data, cluster }: PartialFacts, etcd: EtcdHome["runs"]): string[] {
  const externalCa = data && cluster && isExternalCa(data, cluster);
  const externalSigner = data && cluster && isExternalSigner(data, cluster);
  return [
    ...(isNotKubeadms({ runs: etcd }) ? ["etcd/ca"] : []),
    ...(externalCa ? ["ca"] : []),
    ...(externalSigner ? ["sa"] : []),
  ];
}

/**
 * A process that the operator vouches for is read as the control plane's. Errors: Fail where none has that
 * number and such a name.
 */
function vouchedFor({ own, others }: Brought["processes"], pid: string | undefined): Brought["processes"] {
  if (pid === undefined) return { own, others };
  const one = others.find((process) => String(process.pid) === pid);
  if (!one)
    throw new Fail(`No process ${pid} here has the name of a control plane's process`, {
      hint: "pgrep -l 'kube|etcd'",
    });
  return { own: [...own, one], others: others.filter((other) => other !== one) };
}

/** A kubelet's folder that is gone is no reason not to search. */
async function thisNode(): Promise<Node | undefined> {
  try {
    return await readNode();
  } catch (err) {
    if (!(err instanceof Fail) || err instanceof OtherDistribution) throw err;
    say(`not read: ${err.message}`);
    return undefined;
  }
}
