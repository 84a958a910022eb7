/**
 * Checks of every node: its kubelet renews its Lease, has a certificate of the CA, and the API server reaches
 * it.
 */
import { command } from "../again.ts";
import { ApiError } from "../api/api-error.ts";
import type { KubeApi } from "../api/kube-api.ts";
import type { KubeObject } from "../api/kube-object.ts";
import { clockAhead, nodeLeases } from "../api/leases.ts";
import { type Answer, type CheckRow, check, isWell } from "../checks/check.ts";
import { type CheckId, KINDS } from "../checks/kinds.ts";
import { SOON, servedCertificateAt, showsOtherCa } from "../etcd/peers.ts";
import { hasNewKeys } from "../facts/ca-copies.ts";
import type { KnownNode } from "../facts/known-node.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { machinesOn } from "../facts/typed-options.ts";
import { inParallel } from "../in-parallel.ts";
import { pathsGivenUp, type SavedOption, savedAtText } from "../node/words.ts";
import { quoteUntrusted } from "../plain.ts";
import { onOther, shell } from "../shell-line.ts";
import { inTime } from "../wait-for.ts";
import { askKubeletPort, servingByCa } from "../workers/node-status.ts";

/** The Nodes, by name, with their kubelets' Leases. Errors: as KubeApi. */
export async function nodesWithLeases(api: KubeApi, since: Date, away: readonly string[] = []) {
  const leases = new Map(
    (await api.list<NodeObject>("/api/v1/nodes")).map((nodeObject) => [nodeObject.metadata.name, nodeObject]),
  );
  return { there: leases, ...(await nodeLeases(api, [...leases.keys()], { since, notAwaited: away })) };
}

type NodesRead = Awaited<ReturnType<typeof nodesWithLeases>>;

/**
 * Concurrent questions to nodes, each to one kubelet: with the API's own, fewer than the connections that
 * Bun's fetch opens at once (256).
 */
const NODES_AT_ONCE = 50;

/** Milliseconds for which a kubelet's good answer counts, if checks are repeated. */
const WELL_FOR = 60_000;

/** Keyed by check and node: a good answer, and until when it counts, as performance.now(). */
export type WellAnswers = Map<string, { answer: Answer; until: number }>;

/** The rows in order, all checked already. */
export async function nodeChecks(...of: Parameters<typeof nodeRows>): Promise<CheckRow[]> {
  const looked: CheckRow[] = [];
  await inParallel([...nodeRows(...of)].entries(), NODES_AT_ONCE, async ([place, row]) => {
    const answer = Promise.try(row.look);
    await Promise.allSettled([answer]);
    looked[place] = { ...row, look: () => answer };
  });
  return looked;
}

/** A node that does not renew its Lease has only this row and the row about Ready: a machine that is off answers no other question. */
function* nodeRows(
  cp: ControlPlaneNode,
  api: KubeApi,
  { there, renewals, notRenewed, deaf }: NodesRead,
  { caPem, well, away = [] }: { caPem: string; well: WellAnswers; away?: readonly SavedOption[] },
): Generator<CheckRow> {
  const [serving, late] = [servingByCa(cp), new Set(notRenewed)];
  for (const node of cp.cluster.nodes) {
    const { name } = node;
    const nodeObject = there.get(name);
    if (!nodeObject) {
      yield check("node-gone", () => ({ warning: "there is no such Node any more" }), name);
      continue;
    }
    const isLate = late.has(name);
    const word = away.find(({ value }) => value === name);
    if (word && isLate) {
      yield check("node-away", () => awayAnswer(node, word, cp), name);
      continue;
    }
    yield check("node-lease", () => renewalOf(renewals.get(name), isLate, deaf), name);
    yield check(
      "node-ready",
      async () => readyNode(isLate ? nodeObject : await onceKnown(nodeObject, api)),
      name,
    );
    if (isLate) continue;
    const ask = async () => servingOf(await askKubeletPort(node, caPem), name);
    if (serving) yield rememberedRow("node-serving-certificate", name, ask, well);
    yield rememberedRow("node-reached", name, () => reachedByApi(name, api), well);
  }
}

async function awayAnswer(node: KnownNode, word: SavedOption, cp: ControlPlaneNode): Promise<Answer> {
  const { name, controlPlane, claimed } = node;
  if ((await machinesOn([node])).length === 0) return { warning: savedAtText(word) };
  const files = pathsGivenUp().map((path) => path.slice(1));
  const fetch = `${onOther(name, shell`tar -C / -cf - ${files}`)} | ${shell`tar -C / -xpkf - ${files}`}`;
  const lines: string[] = [];
  if (!controlPlane) lines.push(`here ${command("03-workers open")}, and there the line that it prints`);
  else {
    if (files.length > 0)
      lines.push(`here ${fetch} (what was given up, if it is there), then ${command("02-control-plane")}`);
    // etcd has a new CA since: this only selects the line
    const [host] = claimed.ips;
    const isOld = host && showsOtherCa(await servedCertificateAt({ host, port: 2380 }, cp.facts, SOON));
    const [pack, parts] = [
      `here ${command("hand-over pack")}`,
      `${command("01-etcd")}, ${command("02-control-plane")}`,
    ];
    const unpack = isOld ? command("hand-over unpack --move-aside FILE") : command("hand-over unpack FILE");
    if (isOld || hasNewKeys(cp)) lines.push(pack, `there ${unpack}, then ${parts}`);
    else
      lines.push(`there ${parts}`, `only if a key is missing there, before that: ${pack}, there ${unpack}`);
  }
  return {
    warning: `${savedAtText(word)}. Its machine is on again, and its kubelet renews no Lease: ${lines.join("; ")}`,
  };
}

function rememberedRow(
  ...[id, of, ask, well]: [CheckId, string, () => Promise<Answer>, WellAnswers]
): CheckRow {
  const key = `${id} ${of}`;
  const look = async () => {
    const cached = well.get(key);
    if (cached && performance.now() < cached.until) return cached.answer;
    const answer = await ask();
    if (isWell(answer)) well.set(key, { answer, until: performance.now() + WELL_FOR });
    return answer;
  };
  return check(id, look, of);
}

function renewalOf(time: Date | undefined, isLate: boolean, deaf: NodesRead["deaf"]): Answer {
  if (!time) return { failed: "never" };
  const ago = `${((Date.now() - time.getTime()) / 1000).toFixed(0)} s ago`;
  const last = `last ${time > new Date() ? `at ${time.toISOString()}, by its own clock` : ago}`;
  if (isLate) return deaf ? { failed: `${last}: ${deaf.message}`, mend: deaf.hint } : { failed: last };
  const ahead = clockAhead(time) / 1000;
  if (ahead === 0) return ago;
  const difference = `${Math.abs(ahead).toFixed(0)} s ${ahead > 0 ? "ahead of" : "behind"}`;
  return { warning: `yes, but its clock is ${difference} this node's` };
}

/**
 * `node-reached` says whether kubectl logs works there: the API server verifies kubelets by a flag of its
 * own.
 */
function servingOf(answer: Awaited<ReturnType<typeof askKubeletPort>>, name: string): Answer {
  if (answer === "serves") return "yes";
  if (answer === "unreachable")
    return { differs: "its port 10250 cannot be reached from here, as behind a firewall" };
  if (answer === "other") return { failed: "no" };
  const preparation = shell`on ${name}: serverTLSBootstrap: true in its kubelet's configuration, systemctl restart kubelet; then here ./bunw scripts/03-workers.ts close`;
  return {
    differs: "its kubelet signs its own: it joined before the cluster set serverTLSBootstrap",
    before: preparation,
  };
}

interface NodeObject extends KubeObject {
  status?: { conditions?: { type: string; status: string; message?: string }[] };
}

const readyOf = ({ status }: NodeObject) => status?.conditions?.find(({ type }) => type === "Ready");

/** Milliseconds that a kubelet that has joined may need until its node can run pods. */
const YOUNG = 180_000;

/**
 * "Unknown" is the controller-manager's word for a kubelet whose API was unavailable, as after `retire` on its node. It
 * posts its status every ten seconds (nodeStatusUpdateFrequency): a Node whose Lease is renewed is asked for again. So is
 * one that has just joined: the mending line would restart the API server that its kubelet needs to begin (CSINode).
 */
async function onceKnown(nodeObject: NodeObject, api: KubeApi): Promise<NodeObject> {
  const { name, creationTimestamp = "" } = nodeObject.metadata;
  const isYoung = Date.now() - Date.parse(creationTimestamp) < YOUNG;
  let now = nodeObject;
  const isKnown = async () => {
    const status = readyOf(now)?.status;
    if (isYoung ? status === "True" : status !== "Unknown") return true;
    now = await api.get<NodeObject>(`/api/v1/nodes/${name}`);
    return false;
  };
  const awaited = `the kubelet of ${name} to ${isYoung ? "be ready to run pods" : "post its status"}`;
  const hint = KINDS["node-ready"].mend.replace("…", name);
  await inTime(awaited, isKnown, { seconds: isYoung ? 60 : 30, easing: true, hint });
  return now;
}

/** Its Ready condition: a kubelet that renews its Lease may still run no pod. */
function readyNode(nodeObject: NodeObject): Answer {
  const { status, message } = readyOf(nodeObject) ?? {};
  if (status === "True") return "yes";
  if (status === undefined) return { failed: "it never was" };
  return { failed: `Ready is ${quoteUntrusted(status)}${message ? `: ${quoteUntrusted(message)}` : ""}` };
}

/**
 * The API server may still have a dead connection to a restarted kubelet; the next request uses another one.
 */
async function reachedByApi(name: string, api: KubeApi): Promise<Answer> {
  const ask = () => api.ofKubelet(`/api/v1/nodes/${name}/proxy/healthz`);
  try {
    await ask();
  } catch (err) {
    if (!(err instanceof ApiError) || err.status < 500) throw err;
    await ask();
  }
  return "the API server reaches its kubelet";
}
