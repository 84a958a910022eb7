/**
 * Checks of the whole cluster: its copies of the CA, its token Secrets, every pod, and control plane nodes that were lost
 * and have joined again.
 */
import { command } from "../again.ts";
import { clusterInfo } from "../api/cluster-trust.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { API_SERVER_BUNDLES, isReady, nameOf } from "../api/kube-object.ts";
import { readAll } from "../api/many.ts";
import { type Answer, type CheckRow, check } from "../checks/check.ts";
import { severalCas } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { podTrust, saKeyIsNew } from "../facts/sa-key.ts";
import { attempt } from "../fail.ts";
import { manifestAsItRan, manifestFromMirrorPod } from "../manifests/from-mirror-pod.ts";
import { manifestDifferences, withoutOldSaKey } from "../manifests/repair-changes.ts";
import { type SavedOption, savedAtText, savedOptionsOf } from "../node/words.ts";
import type { Manifest, Pod } from "../objects/objects.ts";
import { asMoved } from "../pki/addresses.ts";
import { trustsCa } from "../pki/certificate.ts";
import { caIn } from "../pki/kubeconfigs.ts";
import { listed } from "../plain.ts";
import { shell } from "../shell-line.ts";
import * as before from "../static-pods/lost-nodes.ts";
import { type AwayNodes, awayNames, byOperator, isOn, label } from "../workloads/pod-owners.ts";
import { apiServerBundles, namespacesWithOldCa } from "../workloads/root-ca.ts";
import {
  byHand,
  type Group,
  podsStillWaiting,
  reportedOwners,
  resumeCommands,
  staleGroups,
} from "../workloads/stale-pods.ts";
import * as tokens from "../workloads/token-secrets.ts";

const CURRENT = "current CA";
const another = (where: string) => ({ failed: `another CA in ${where}: the controller-manager writes it` });

export async function* trustChecks(
  cp: ControlPlaneNode,
  api: KubeApi,
  trust: tokens.TokenTrust,
): AsyncGenerator<CheckRow> {
  const { caPem } = trust;
  yield check("root-ca", async () => {
    const old = await namespacesWithOldCa(api, caPem);
    return old.length === 0 ? (severalCas(cp) ?? CURRENT) : another(old.join(", "));
  });
  const { all, old } = await apiServerBundles(api, caPem);
  if (all.length > 0)
    yield check(
      "trust-bundle",
      () => (old.length === 0 ? CURRENT : another(listed(old))),
      API_SERVER_BUNDLES,
    );
  yield check("cluster-info", async () => {
    const text = await clusterInfo(api);
    if (text === undefined) return "not there: nobody joins by it";
    return trustsCa(caIn(text), caPem) ? CURRENT : { failed: "another CA" };
  });
  const [word] = savedOptionsOf("start-without").filter(({ value }) => value === "service-account-key-file");
  // if sa.key is new as well, any of the old tokens may be its predecessor's
  const givenUp = word && !saKeyIsNew(cp) ? word : undefined;
  try {
    for (const secret of await tokens.tokenSecrets(api))
      yield check("token-secret", () => tokenAnswer(secret, trust, givenUp), nameOf(secret));
  } catch (err) {
    const failed = (err as Error).message;
    yield check("token-secrets", () => ({ failed }));
  }
}

/** `givenUp`: the operator's word that one of the keys is given up. */
function tokenAnswer(
  secret: tokens.TokenSecret,
  trust: tokens.TokenTrust,
  givenUp: SavedOption | undefined,
): Answer {
  if (!tokens.isFilled(secret)) return "no token yet: the controller-manager fills it";
  if (tokens.isCurrent(secret, trust)) return "verifies";
  if (trust.oldSaPub && tokens.isCurrent(secret, { ...trust, saPub: trust.oldSaPub }))
    return { warning: "of the old key: accepted until retire takes sa-old.pub out" };
  if (givenUp && tokens.holdsCa(secret, trust))
    return { warning: `${savedAtText(givenUp)}: refused while the key that signed it is given up` };
  return { failed: "does not verify, or holds another CA" };
}

/** `away`: no pod starts or stops there, whatever is done here. `own`: workers' static pods. */
export async function* podChecks(
  cp: ControlPlaneNode,
  api: KubeApi,
  caPem: string,
  away: AwayNodes,
  own: readonly string[],
): AsyncGenerator<CheckRow> {
  yield check("pods-ready", () => readyPods(api, away, own));
  const trust = podTrust(cp);
  const all = await staleGroups(api, caPem, trust);
  const groups = ofPods(all, (pod) => !isOn(pod, away));
  const stale = podsStillWaiting(groups, trust.since);
  const onAway = ofPods(all, (pod) => isOn(pod, away)).flatMap(({ owners }) => owners);
  yield check("pods-fresh", () => {
    if (stale.later.length > 0)
      return { failed: listed(stale.later.map(label)), mend: resumeCommands(stale) };
    const reported = reportedOwners(groups);
    if (reported.length > 0)
      return { warning: listed(reported.map(label)), mend: byOperator(reported).join("; ") };
    const rest = stale.skipped.length > 0 ? "none but those skipped" : "none";
    if (onAway.length === 0) return rest;
    const places = `${awayNames(onAway.flatMap(({ pods }) => pods))}: ${listed(onAway.map(label))}`;
    return { warning: `${rest}; on ${places}: when it is back, ${command("04-sa-tokens")}` };
  });
  if (stale.skipped.length > 0)
    yield check("pods-skipped", () => ({
      warning: `skipped by you, still with the old CA or token: ${byHand(stale.skipped)}`,
    }));
}

const OWN_PODS =
  "read its manifest in /root/kube-pki-repair-*/workers, where open ran, and put it into /etc/kubernetes/manifests there";

function ofPods(groups: readonly Group[], isWanted: (pod: RunningPod) => boolean): Group[] {
  return groups.map(({ name, owners }) => {
    const fewer = owners.map((owner) => ({ ...owner, pods: owner.pods.filter(isWanted) }));
    return { name, owners: fewer.filter(({ pods }) => pods.length > 0) };
  });
}

async function readyPods(api: KubeApi, away: AwayNodes, own: readonly string[]): Promise<Answer> {
  const late: RunningPod[] = [];
  const expected = new Set(own);
  await readAll("pods", api.items<RunningPod>("/api/v1/pods"), (pod) => {
    if (pod.metadata.namespace === "kube-system") expected.delete(pod.metadata.name);
    if (pod.status?.phase !== "Succeeded" && !isReady(pod)) late.push(pod);
  });
  const placeOf = (pod: RunningPod) => (isOn(pod, away) ? "there" : isJustLate(pod) ? "soon" : "here");
  const { here = [], there = [], soon = [] } = Object.groupBy(late, placeOf);
  const rest: string[] = [];
  if (soon.length > 0) rest.push(`that became not Ready less than a minute ago: ${listed(soon.map(nameOf))}`);
  if (there.length > 0) rest.push(`on ${awayNames(there)}: ${listed(there.map(nameOf))}`);
  if (here.length > 0) rest.unshift(`not Ready: ${listed(here.map(nameOf))}`);
  const mend = expected.size > 0 && { mend: OWN_PODS };
  if (mend) rest.unshift(`static pods of workers that ran before are gone: ${listed([...expected])}`);
  if (here[0] || mend) return { warning: rest.join("; "), ...mend };
  return ["all", ...rest].join(" but those ");
}

/** Late as after part 3 or `retire`, which restart it. */
function isJustLate({ metadata, status }: RunningPod): boolean {
  const ready = status?.conditions?.find(({ type }) => type === "Ready");
  const since = ready ? ready.lastTransitionTime : metadata.creationTimestamp;
  const seconds = since === undefined ? Number.NaN : (Date.now() - Date.parse(since)) / 1000;
  return seconds > -5 && seconds < 60;
}

type ApiNode = before.NodeObject & { metadata: { name: string } };

/**
 * Checks a control plane node that was lost and has joined again: its labels, and each static pod. kubeadm brings back no
 * labels, taints and hand edits. Errors: as KubeApi.
 */
export async function* returnedChecks(cp: ControlPlaneNode, api: KubeApi): AsyncGenerator<CheckRow> {
  const lost = before.lostNodes();
  if (lost.length === 0) return;
  const nodes = await api.list<ApiNode>("/api/v1/nodes");
  const pods = await api.list<Pod>("/api/v1/namespaces/kube-system/pods");
  for (const old of lost) {
    const now = nodes.find(({ metadata }) => metadata.name === old.name);
    // it is still the old Node, which has to be deleted
    if (!now || now.metadata.uid === old.object.metadata.uid) continue;
    const row = (what: string, look: () => Answer) =>
      check("node-returned", look, `${old.name}, which has joined again: ${what}`);
    yield row("labels, taints, annotations", () => {
      const commands = before.putBackCommands(old, now);
      if (commands.length === 0) return "as before";
      return { state: "changed", failed: `${commands.join("; ")}${orMeant(old.folder)}` };
    });
    for (const pod of old.pods) yield row(pod.name, () => podAnswer(old, pod, pods, cp));
  }
}

function podAnswer(
  lost: before.LostNode,
  pod: before.LostNode["pods"][number],
  pods: readonly Pod[],
  cp: ControlPlaneNode,
): Answer {
  const { name, folder } = lost;
  const moved = before.movedSince(lost, cp.data);
  const back = `${before.putManifest(pod.file, name, cp, moved)}${orMeant(folder)}`;
  const mirror = pods.find(
    ({ metadata, spec }) => metadata.name === `${pod.name}-${name.toLowerCase()}` && spec.nodeName === name,
  );
  const now =
    mirror && attempt(() => manifestAsItRan(manifestFromMirrorPod(mirror, name), mirror).manifest, undefined);
  if (!now) return { state: "missing", failed: back };
  const lasting = (manifest: Manifest) => withoutOldSaKey(manifest, cp.facts.certificatesDir);
  const oldManifest = JSON.parse(asMoved(JSON.stringify(pod.manifest), moved)) as Manifest;
  const differences = manifestDifferences(lasting(now), lasting(oldManifest));
  return differences.length === 0
    ? "as before"
    : { state: "changed", failed: `${differences.join(" ")}: ${back}` };
}

const orMeant = (folder: string) => shell`; or, if it is to be so: rm -r ${folder}`;
