/**
 * After the renewed CA is in this node's files: processes that hold the old certificate restart, one
 * after the other: the static pods by the runtime (the kubelet starts them again), then the kubelet. Each is
 * proved before the next one, so that at most one of this cluster's members is down at any time.
 *
 * Then the cluster's objects get it. The controller-manager writes kube-root-ca.crt and the token Secrets from
 * the file that it read at its start, so the leader's file decides.
 */

import { NOBODY } from "../again.ts";
import { ownApiReady } from "../api/admin-api.ts";
import { changeClusterInfo } from "../api/cluster-trust.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { hostOfHolder, nameOf } from "../api/kube-object.ts";
import {
  DOES_IT_LEAD,
  dropOwnLease,
  leaderNow,
  leaderOf,
  nextLeader,
  waitForRenewal,
} from "../api/leases.ts";
import { proveEtcd } from "../etcd/all-members.ts";
import { proveOwnEtcd } from "../etcd/own-etcd.ts";
import { oldestStart } from "../etcd-location/static-pod-here.ts";
import { containerEnd, whyApiServerExited } from "../facts/ended-container.ts";
import { leaderLease } from "../facts/leaders.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import {
  CONTROL_PLANE,
  type Container,
  containers,
  isServerContainer,
  isStaticUid,
  stopContainers,
} from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { systemctlKubelet } from "../node/systemctl-kubelet.ts";
import { type CertInfo, certificatesIn, knowsCa } from "../pki/certificate.ts";
import { listed } from "../plain.ts";
import { mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { inTime, waitFor } from "../wait-for.ts";
import { waitForRootCa } from "../workloads/root-ca.ts";
import { caBeside, tokenSecrets } from "../workloads/token-secrets.ts";
import type { CaReader } from "./ca-reader.ts";
import { casInUse } from "./cas-in-use.ts";
import { renewedText } from "./renewal.ts";

/**
 * Seconds for an orderly exit: etcd hands its leadership over, an API server finishes its answers. Watches do
 * not end by themselves (measured: 60 s), and their clients connect again.
 */
const GRACE = 5;

type Behind = (reader: CaReader) => boolean;

/** The processes that have an older certificate in memory; for an undo, the processes that started before the file changed. */
export function holdsAnother({ undo = false }: { undo?: boolean | undefined }): Behind {
  const readBefore: Behind = ({ started, changed }) =>
    started !== undefined && changed !== undefined && started < changed;
  if (undo) return readBefore;
  return (reader) => reader.holds === "an older one" || (reader.holds === undefined && readBefore(reader));
}

/**
 * Checks again after each: one that loses the API for a while exits by itself, and has then read the file again.
 */
export async function restartReaders(
  cp: ControlPlaneNode,
  api: KubeApi,
  { look, isBehind }: { look: () => Promise<readonly CaReader[]>; isBehind: Behind },
) {
  const looked = async () => new Set((await look()).flatMap((one) => (isBehind(one) ? one.name : [])));
  let pending = await looked();
  if (pending.size === 0) return say("nothing here has read another certificate: nothing restarts");
  const restartOne = async (name: string, restarts: () => Promise<unknown>) => {
    if (!pending.has(name)) return;
    await restarts();
    pending = await looked();
  };
  for (const name of PODS)
    await restartOne(name, async () => restartPod(cp, name, await PROOFS[name](cp, api)));
  for (const name of pending)
    if (name !== "kubelet" && !isPod(name)) await restartOne(name, () => restartPod(cp, name));
  await restartOne("kubelet", () => restartOwnKubelet(cp.node, api));
}

/**
 * If they hold an expired certificate (`holdExpired`): all at once. Members of etcd with it refuse the
 * others, so nothing is proved before enough of them have restarted. Returns whether etcd answers.
 */
export async function restartTogether(cp: ControlPlaneNode, readers: readonly CaReader[]): Promise<boolean> {
  const { runtimeEndpoint } = cp.node;
  const names = new Set<string>(readers.filter(holdsAnother({})).map(({ name }) => name));
  const all = await containers(runtimeEndpoint);
  const old = all.filter((one) => one.running && isStaticUid(one.podUid) && names.has(one.name));
  await stopContainers(runtimeEndpoint, old);
  // it then starts the static pods again at once, however often they have exited
  if (names.size > 0) await systemctlKubelet("restart", " (containers run on)");
  return (await proveOwnEtcd(cp)).answers;
}

/** Each before those that need it. */
const PODS = CONTROL_PLANE;

function isPod(name: string): name is (typeof PODS)[number] {
  return PODS.some((one) => one === name);
}

/** Checks before the restart; the returned function proves it afterwards. */
type Proof = (cp: ControlPlaneNode, api: KubeApi) => Promise<() => Promise<unknown>>;

const PROOFS: Record<(typeof PODS)[number], Proof> = {
  etcd: async (cp, api) => async () => {
    await proveEtcd(cp, NOBODY, []);
    await ownApiReady(api, cp, { changed: true, ended: whyApiServerExited(cp) });
  },
  "kube-apiserver": async (cp, api) => () =>
    ownApiReady(api, cp, { changed: true, ended: whyApiServerExited(cp) }),
  "kube-controller-manager": leads("kube-controller-manager"),
  "kube-scheduler": leads("kube-scheduler"),
};

/** A leader exists: this node's, or another that was not touched. */
function leads(name: "kube-controller-manager" | "kube-scheduler"): Proof {
  return async ({ node }, api) => {
    const lease = leaderLease(node, name);
    const last = lease === undefined ? undefined : await leaderOf(api, lease);
    return async () => {
      if (!lease) return;
      await dropOwnLease(api, lease, last, { ...node, started: oldestStart(name) });
      const hint = shell`crictl ps -a --name ${name}; crictl logs ID`;
      const ended = containerEnd({ node }, name, () => api.ready());
      say(`${await nextLeader(api, lease, last, { seconds: 90, hint, ended })}: leads`);
    };
  };
}

async function restartPod({ node }: ControlPlaneNode, name: string, prove?: () => Promise<unknown>) {
  const { runtimeEndpoint } = node;
  const isOwn = (one: Container) =>
    one.name === name && (isPod(name) ? isServerContainer(one) : isStaticUid(one.podUid));
  const own = async () => (await containers(runtimeEndpoint)).filter((one) => one.running && isOwn(one));
  const old = await own();
  await stopContainers(runtimeEndpoint, old, GRACE);
  const isNew = ({ id }: Container) => !old.some((one) => one.id === id);
  const hint = shell`crictl ps -a --name ${name}; journalctl -u kubelet -n 50`;
  await waitFor(`the kubelet to start ${name} again`, async () => (await own()).some(isNew), {
    seconds: 90,
    hint,
    ...(isPod(name) ? { ended: containerEnd({ node }, name) } : {}),
  });
  if (mode.dryRun) return;
  await prove?.();
  say(`${name}: runs with the certificate on disk`);
}

/** No container stops with it. Errors: Fail if its Lease is not renewed afterwards. */
export async function restartOwnKubelet(node: Node, api: KubeApi) {
  await systemctlKubelet("restart", " (containers run on)");
  const since = new Date();
  await waitForRenewal(api, node.name, since, { seconds: 90, hint: "journalctl -u kubelet -n 50" });
  if (!mode.dryRun) say(`${node.name}: renewed its Lease`);
}

const MANAGER = "kube-controller-manager";

/** the very certificate: another one of its key is valid, but not the one to publish */
const holds = (text: string | undefined, caPem: string) => certificatesIn(text ?? "").includes(caPem);

/** Seconds in which the controller-manager's token controller writes them again (measured: 16 s). */
const SECRETS = 60;

/**
 * Writes it to cluster-info, and waits until the controller-manager has written it to all namespaces and
 * token Secrets. If another node's controller-manager leads, returns that node's name instead, as it
 * publishes the file that it has read. Names objects that do not get it: a user with rights in a namespace
 * can prevent it.
 */
export async function publish(
  cp: ControlPlaneNode,
  api: KubeApi,
  ca: Readonly<CertInfo>,
): Promise<string | undefined> {
  if (mode.dryRun) return void say("would put the renewed CA into cluster-info; wait for kube-root-ca.crt");
  await changeClusterInfo(api, (before) => renewedText(before, ca));
  const lease = leaderLease(cp.node, MANAGER);
  const holder = lease && (await leaderNow(api, lease));
  const host = holder && hostOfHolder(holder);
  const isPublished = (await casInUse(api)).ca.every(({ pem }) => holds(pem, ca.pem));
  if (host && host !== cp.node.hostName && !isPublished) {
    say(
      `kube-root-ca.crt: not yet, the ${MANAGER} on ${host} leads, and publishes the CA that it read at its start`,
    );
    return host;
  }
  await waitForRootCa(api, ca.pem, holds);
  let fewest = Number.POSITIVE_INFINITY;
  const all = async () => {
    const { length } = await secretsBehind(api, ca);
    fewest = Math.min(fewest, length);
    return length === 0;
  };
  const what = `the ${MANAGER} to put the renewed CA into token Secrets`;
  await inTime(what, all, { seconds: SECRETS, progress: () => fewest, easing: true, hint: DOES_IT_LEAD });
  const late = await secretsBehind(api, ca);
  say(`token Secrets: ${late.length === 0 ? "the renewed CA" : `not the renewed CA in ${listed(late)}`}`);
  return undefined;
}

/** Names of those with another certificate of its key; other content is their owners'. */
async function secretsBehind(api: KubeApi, ca: Readonly<CertInfo>): Promise<string[]> {
  return (await tokenSecrets(api)).flatMap((secret) => {
    const text = caBeside(secret);
    return knowsCa(text, ca.pem) && !holds(text, ca.pem) ? nameOf(secret) : [];
  });
}
