/**
 * Before a search: which keys are lost on this node, what proves each, and which processes may still hold them. At its
 * end: what is still lost, where it was looked for, and the way on. Reads only.
 */

import { again, command, inOneLine } from "../again.ts";
import { DamagedData } from "../etcd-data/directory.ts";
import { isKnown } from "../etcd-location/etcd-folders.ts";
import { type EtcdHome, etcdCaOf, etcdHome, externalEtcd } from "../etcd-location/etcd-home.ts";
import { etcdDataOf, sayPlace } from "../etcd-location/etcd-place.ts";
import { type StrangeCa, strangeCa } from "../facts/ca-copies.ts";
import { lookAtControlPlaneNode } from "../facts/control-plane-node.ts";
import { type OldSaKey, todosIfKeysAreLost } from "../facts/course.ts";
import { readEvidence } from "../facts/evidence.ts";
import { lostHere } from "../facts/lost-files.ts";
import { isNotForParts, isNotKubeadms } from "../facts/no-etcd-data.ts";
import type { PartialFacts } from "../facts/node-facts.ts";
import { unreadCertRows } from "../facts/read-by-pods.ts";
import { isExternalCa, isExternalSigner } from "../facts/signed-elsewhere.ts";
import { attemptLater, Fail, Refused } from "../fail.ts";
import { certificatesDirOn } from "../manifests/on-disk.ts";
import { OtherDistribution } from "../node/kubelet-config.ts";
import { type Node, readNode } from "../node/node.ts";
import { oldSaKey } from "../old-sa-key/old-tokens.ts";
import { trustedKeys } from "../pki/certificate.ts";
import { certRow } from "../pki/certs.ts";
import { say, tell } from "../run.ts";
import { shell } from "../shell-line.ts";
import { lostConfigs } from "./disk/encryption-config.ts";
import { nothingFound } from "./disk-search.ts";
import { searchBeside } from "./folders-beside.ts";
import { FoundKeys, refuseCompetingKeys } from "./found-keys.ts";
import { searchFolder } from "./keys-in-copies.ts";
import { processesHere } from "./memory-search.ts";
import type { Brought } from "./put-back.ts";
import { expiredCas, isIrreplaceable, sayLost, type WantedOptions, wantedKeys } from "./wanted-keys.ts";

/** The state of this node; the searches add to it. */
export interface Salvage extends Brought {
  etcd: EtcdHome["runs"];
  /** CAs that are here, have expired, and are not ours to renew. */
  expired: ReturnType<typeof expiredCas>;
  /** A sound CA in the place of the cluster's. */
  strange: StrangeCa | undefined;
  oldKey: OldSaKey;
}

interface SearchOptions extends Pick<WantedOptions, "others" | "kid" | "from"> {
  /** A process that is the control plane's. */
  pid: string | undefined;
  backup: string | undefined;
  stop?: AbortSignal;
}

/** Errors: Fail if this is no control plane node, or the operator names what is not there. */
export async function lookForLost(
  etcdData: string | undefined,
  { pid, backup, stop, ...options }: SearchOptions,
) {
  const node = await thisNode();
  const place = await etcdDataOf(etcdData, { node });
  sayPlace(place);
  const dataDir = place.dir;
  const here = lookAtControlPlaneNode(place, undefined, certificatesDirOn(node));
  const { certificatesDir, data } = here;
  const processes = vouchedFor(await processesHere(node), pid);
  if (!isKnown(place) && processes.own.every(({ name }) => name === "kubelet"))
    throw new Refused(
      `This is no control plane node: there is no "${dataDir}", and no process of a control plane runs here`,
      {
        hint: "run this script on each control plane node, before anything restarts there; workers have none of these keys",
      },
    );
  const home = etcdHome({ node, dataDir, data, cluster: here.cluster, living: place.living });
  const pkiPlace = { certificatesDir, etcdCa: etcdCaOf(home) };
  const evidence = readEvidence({ data, node, ...pkiPlace });
  if (!here.cluster) say(`warning: etcd's data cannot be read: ${here.obstacle?.message}`);
  for (const line of new Set(evidence.unread)) say(`not read: ${line}`);
  // where parts 1 to 4 go by a unit, part 1 comes next as ever
  const etcd = isNotForParts(home) ? home.runs : "static pod";
  const external = node && data && externalEtcd(home, node, data);
  const wanted = wantedKeys(evidence, { ...pkiPlace, ...options });
  const unwanted = neverHere(here, home, node);
  const foundKeys = new FoundKeys(wanted.filter(({ name }) => !unwanted.includes(name)));
  const expired = expiredCas(evidence, pkiPlace);
  for (const { paths, detail } of expired) say(`${paths[0]}: ${detail}: a search does not help`);
  const strange = strangeCa(here);
  const clusters = strange && [...trustedKeys(here.cluster!.oldCaPem)].join(", ");
  if (strange)
    say(
      `${certificatesDir}/ca.crt: valid, but not the cluster's CA: ${strange.hash}; etcd's data names ${clusters}`,
    );
  if (foundKeys.wanted.length === 0 && !strange) say(`${certificatesDir}: nothing is lost`);
  for (const one of foundKeys.wanted) sayLost(one);
  foundKeys.takeWhatIsHere(pkiPlace);
  await searchBeside(foundKeys, pkiPlace);
  if (backup !== undefined) await searchFolder(foundKeys, backup, { stop });
  const oldKey = node ? oldSaKey(data, node, certificatesDir) : "lost";
  const files = node
    ? lostHere({ data, node, certificatesDir, etcd: place, facts: { externalEtcd: external } }).filter(
        ({ kind, stored }) => kind !== "socket" && !stored,
      )
    : [];
  for (const { path, program, namedBy: by } of files)
    say(`${path}: lost; ${by.startsWith("/") ? by : `${program}'s ${by}`} names it`);
  const brought = { here, foundKeys, processes, files, configs: lostConfigs(files), backup };
  return { ...brought, etcd, expired, strange, oldKey, disk: nothingFound() };
}

/** Keys that were never on a control plane node are not lost, nor are those that nothing reads. */
function neverHere({ data, cluster }: PartialFacts, home: EtcdHome, node?: Node): string[] {
  const externalCa = data && cluster && isExternalCa(data, cluster);
  const externalSigner = data && cluster && isExternalSigner(data, cluster);
  const names = isNotKubeadms(home) && !etcdCaOf(home) ? ["etcd/ca"] : [];
  if (externalCa) names.push("ca");
  if (externalSigner) names.push("sa");
  return [...names, ...unreadCertRows(data, cluster, node).map((name) => certRow(name).file)];
}

/**
 * A process that the operator vouches for is read as the control plane's. Errors: Fail if none has that number and
 * such a name.
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
  const node = await attemptLater(() => readNode());
  if (node instanceof OtherDistribution) throw node;
  return node instanceof Fail ? void say(`not read: ${node.message}`) : node;
}

/**
 * The next command if all that matters is here; else says what is lost. `notFound`: places where it really looked.
 * `moveToRescue`: other keys are moved out of the way. `question`: a choice that a person has to make. Errors: as
 * `refuseCompetingKeys`; the question.
 */
export function nextAfterSalvage(
  salvage: Salvage,
  searched: { notFound: readonly string[]; moveToRescue: boolean; question: Fail | undefined },
): string | undefined {
  const { foundKeys, expired, strange, here } = salvage;
  // an encryption configuration that was brought back may have opened it
  const canReadNow = () =>
    here.data !== undefined &&
    here.cluster === undefined &&
    lookAtControlPlaneNode(here.etcd, undefined, here.certificatesDir).cluster !== undefined;
  const { notFound, moveToRescue, question } = searched;
  refuseCompetingKeys(foundKeys);
  if (question) throw question;
  const lost = foundKeys.missing().filter(({ shared }) => shared);
  const files = lost.map(({ keyFile }) => keyFile).join(", ");
  const stillLost = `still lost: ${files}: ${notFound.length > 0 ? `not found in ${notFound.join(", ")}; ` : ""}`;
  const names = (keys: readonly { name: string }[]) => keys.map(({ name }) => name);
  const issue = (made: readonly string[]) => nextCommand(salvage, made);
  if (lost.length > 0 && canReadNow()) {
    tell(
      "",
      `${stillLost}etcd's data can be read now, so more can be proved and found: ${command("00-salvage")}`,
    );
    return undefined;
  }
  const inTheWay = strange && !moveToRescue;
  if (inTheWay)
    tell(
      "",
      `still lost: ca.key: ${NOT_THE_CLUSTERS}: ${again({ "move-aside": true }, { of: "00-salvage" })}`,
    );
  if (lost.some(isIrreplaceable)) {
    const away = strange && moveToRescue ? shell`mv ${here.certificatesDir}/ca.{crt,key} /root/, then ` : "";
    tell("", `${stillLost}${LOOK_ELSEWHERE}`, `if they are nowhere: ${away}${issue(names(lost))}`);
    return undefined;
  }
  if (inTheWay) return undefined;
  if (expired.length > 0) {
    tell("", `expired: ${names(expired).join(", ")}; this makes new ones: ${issue(names(expired))}`);
    return undefined;
  }
  if (lost.length > 0)
    tell("", `${stillLost}only control plane nodes trust them; the next command makes new ones`);
  return issue(names(lost));
}

/** The command that comes before part 1, if that could not read the cluster's facts. */
export function nextCommand({ here, oldKey, etcd }: Salvage, made: readonly string[]): string {
  const { obstacle, data, cluster } = here;
  if (obstacle instanceof DamagedData) return obstacle.hint;
  if (!data || cluster || !obstacle) return inOneLine(todosIfKeysAreLost(made, oldKey, { etcd }));
  return obstacle.hint;
}

const NOT_THE_CLUSTERS = "the CA here is not the cluster's. This looks for the cluster's own";

const LOOK_ELSEWHERE =
  "look on the other control plane nodes (this script, there) and in backups; carry what is found here with ./bunw scripts/hand-over.ts";
