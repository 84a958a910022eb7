/**
 * Part 5 as a whole: this node from both ends, and on a control plane node the cluster. Reads only.
 * 05-verify prints it, `report` writes it down.
 */
import { adminClient } from "../api/admin-api.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { type Check, type CheckRow, Checks, hasFailed } from "../checks/check.ts";
import { type Ending, endingsHere, forecast } from "../checks/forecast.ts";
import { inManifest } from "../etcd-location/etcd-candidates.ts";
import { holdsData } from "../etcd-location/etcd-folders.ts";
import { etcdDataOf } from "../etcd-location/etcd-place.ts";
import { trustedSince } from "../facts/ca-copies.ts";
import {
  askControlPlaneNode,
  type ControlPlaneNode,
  type PartialFacts,
} from "../facts/control-plane-node.ts";
import { controlPlaneWithoutData, isNotKubeadms, whyWithoutData } from "../facts/no-etcd-data.ts";
import { tokenKeys } from "../facts/sa-key.ts";
import { IN_ROWS, withWords } from "../facts/said.ts";
import { attemptLater, Fail, Refused } from "../fail.ts";
import { exists } from "../files/files.ts";
import type { Node } from "../node/node.ts";
import { endWords, endWordsOf, wordsOf } from "../node/words.ts";
import { clusterCa } from "../pki/examine.ts";
import { oldSaKeys } from "../pki/sa-keys.ts";
import { caReaders, kubeletCaReader } from "../renew/ca-readers.ts";
import { olderElsewhere } from "../renew/older-elsewhere.ts";
import { type OldCaHolder, oldCaHolders, readerRows } from "../renew/reader-rows.ts";
import { LOOKS, mode, say, step } from "../run.ts";
import { undefinedOnTimeout, waitFor } from "../wait-for.ts";
import { clusterChecks } from "./check-cluster.ts";
import { clockCheck, fileChecks } from "./check-files.ts";
import { kubeletChecks } from "./check-kubelet.ts";
import { nodeChecks, seenNodes, type WellAnswers } from "./check-nodes.ts";
import { podChecks } from "./check-pods.ts";
import { returnedChecks } from "./check-returned.ts";
import { serverChecks, withoutAdmin } from "./check-servers.ts";

export interface VerifiedHere {
  checks: readonly Check[];
  endings: readonly Ending[];
  /** Who still holds a CA's certificate from before it was renewed. */
  oldCa: readonly OldCaHolder[];
  /** Undefined on a worker. */
  known: PartialFacts | undefined;
}

interface HowToVerify {
  etcdData: string | undefined;
  /** Away, as typed. */
  without?: readonly string[];
  /** Also where the cluster cannot be read: those who help just then need what is here. */
  mustEnd?: boolean;
  /** What nodes answered well in looks before this one: within a minute they are not asked again. */
  well?: WellAnswers;
}

/** Errors: Fail where the cluster cannot be read, unless it must end. */
export async function verifyHere(
  node: Node,
  { etcdData, without = [], mustEnd = false, well = new Map() }: HowToVerify,
): Promise<VerifiedHere> {
  const checks = new Checks();
  await step("5.1 Check this node's kubelet", () => checks.add(kubeletChecks(node)), LOOKS);
  const place = await etcdDataOf(etcdData, { node });
  const known = exists(place.dir) ? await askControlPlaneNode(place, node) : undefined;
  const withoutData = withoutDataCheck(node, known, place.dir);
  const readers = known?.cp ? await caReaders(known.cp) : known ? [] : await kubeletCaReader(node);
  const oldCa = oldCaHolders(readers);
  if (withoutData) await checks.add([withoutData]);
  else if (known?.cp)
    await verifyControlPlane(checks, known.cp, { oldCa, well, away: awayFrom(known.cp, without) });
  else if (known?.obstacle && mustEnd) await checks.add([noLook(known.obstacle)]);
  else if (known?.obstacle) throw known.obstacle;
  await checks.add(readerRows(readers));
  const endings = endingsHere(node, known?.certificatesDir);
  await checks.add(forecast(endings));
  return { checks: checks.all, endings, known, oldCa };
}

interface Noted {
  /** What of the cluster still has a CA's certificate from before comes to it. */
  oldCa: OldCaHolder[];
  /** What is well now comes to it. */
  well: WellAnswers;
  away: ReturnType<typeof awayFrom>;
}

/** What everything here says now needs no word. */
function endAnswered(cp: ControlPlaneNode) {
  const places = new Set(cp.endpoint.witnesses.map(({ place }) => place));
  if (places.size < 2) endWords(({ option }) => option === "endpoint", "all that name a place agree");
  if (inManifest(cp).some(holdsData))
    endWords(({ option }) => option === "etcd-data", "etcd's manifest names it");
}

function awayFrom(cp: ControlPlaneNode, without: readonly string[]) {
  endAnswered(cp);
  const said = withWords({ without }, cp, { mayBeDeleted: true, shown: IN_ROWS });
  return wordsOf("without").filter(({ value }) => said.without.includes(value));
}

async function verifyControlPlane(checks: Checks, cp: ControlPlaneNode, noted: Noted) {
  const admin = await attemptLater(() => adminClient(cp.facts));
  await step(
    "5.2 Check this control plane node's files and servers",
    async () => {
      await checks.add([clockCheck(cp), ...fileChecks(cp)]);
      await checks.add(
        admin instanceof Fail
          ? [noAdmin(admin), withoutAdmin(cp)]
          : serverChecks(
              cp,
              admin,
              noted.away.map(({ value }) => value),
            ),
      );
    },
    LOOKS,
  );
  await step(
    "5.3 Check the cluster's trust, tokens and nodes",
    async () => {
      if (!(admin instanceof Fail)) await checks.add([wholeCluster(checks, cp, admin, noted)]);
    },
    LOOKS,
  );
}

/** Fails where the API does not answer; the rows that were checked before count. */
function wholeCluster(checks: Checks, cp: ControlPlaneNode, api: KubeApi, noted: Noted): CheckRow {
  const look = async () => {
    const pki = cp.facts.certificatesDir;
    const trust = {
      caPem: clusterCa(pki),
      saPub: cp.facts.externalSigner ? undefined : tokenKeys(cp),
      oldSaPub: oldSaKeys(pki).join(""),
    };
    await checks.add(clusterChecks(cp, api, trust));
    const nodes = await seenNodes(
      api,
      trustedSince(cp),
      noted.away.map(({ value }) => value),
    );
    const asked = { caPem: trust.caPem, well: noted.well, away: noted.away };
    endWordsOf([...nodes.there.keys()].filter((name) => !nodes.notRenewed.includes(name)));
    endWords(({ option, value }) => option === "lost" && !nodes.there.has(value), "its Node is deleted");
    await checks.add(await nodeChecks(cp, api, nodes, asked));
    await checks.add(returnedChecks(cp, api));
    await checks.add(podChecks(cp, api, trust.caPem, new Set(nodes.notRenewed)));
    const { rows, holders } = await olderElsewhere(cp, api, new Set(noted.oldCa.map(({ name }) => name)));
    await checks.add(rows);
    noted.oldCa.push(...holders);
    return `${cp.cluster.nodes.length} nodes`;
  };
  return { id: "cluster-read", look };
}

function noLook(obstacle: Fail): CheckRow {
  const look = () => {
    throw obstacle;
  };
  return { id: "cluster-read", look };
}

/** What this kit cannot do is no damage of the cluster. */
function noAdmin(fail: Fail): CheckRow {
  const words = `${fail.message}; ${fail.hint}`;
  return { id: "admin-conf", look: () => (fail instanceof Refused ? { warning: words } : { failed: words }) };
}

/**
 * Undefined where everything can be looked at, and on a worker. Where etcd is not kubeadm's, that is no
 * damage.
 */
function withoutDataCheck(
  node: Node,
  known: PartialFacts | undefined,
  dataDir: string,
): CheckRow | undefined {
  // etcd is not kubeadm's, so neither are its certificates
  const found =
    known && isNotKubeadms(known.home)
      ? { etcd: known.home, from: [] }
      : controlPlaneWithoutData(node, dataDir);
  if (!found) return undefined;
  const why = whyWithoutData(found, dataDir);
  const warning = `${why}; only this node's kubelet was checked`;
  return { id: "etcd-data", look: () => (isNotKubeadms(found.etcd) ? { warning } : { failed: why }) };
}

interface Found {
  checks: readonly Check[];
}

/** The last look: one where nothing failed, or the one at the end of these seconds. 0: looks no more. */
export async function untilGood<T extends Found>(
  first: T,
  look: () => Promise<T>,
  seconds: number,
): Promise<T> {
  let now = first;
  if (seconds === 0 || failedOf(now).length === 0) return now;
  say(`waiting, ${seconds} s at most, for ${nameFailed(now)}`);
  mode.again = true;
  const isGood = async () => {
    now = await look();
    return failedOf(now).length === 0;
  };
  const hint = "end it with Ctrl-C; 05-verify without --wait says what mends it";
  await undefinedOnTimeout(waitFor(() => nameFailed(now), isGood, { seconds, easing: true, hint }));
  return now;
}

function failedOf({ checks }: Found): Check[] {
  return checks.filter(hasFailed);
}

/** The first of them by name: a cluster may have thousands of nodes. */
function nameFailed(found: Found): string {
  const names = failedOf(found).map(({ area, what }) => `${area}: ${what}`);
  return names.length > 3 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.join(", ");
}
