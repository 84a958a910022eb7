/**
 * Restarts the processes that hold a replaced CA certificate, one after the other: the static pods by the
 * runtime (the kubelet starts them again), then the kubelet. Each is proved before the next one, so that at
 * most one of this cluster's members is down at any time.
 */
import { NOBODY } from "../again.ts";
import { ownApiReady } from "../api/admin-api.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { dropOwnLease, leaderOf, nextLeader } from "../api/leader-leases.ts";
import { waitForRenewal } from "../api/leases.ts";
import { apiServerEnd, proveEtcd, proveOwnEtcd } from "../etcd/own-etcd.ts";
import { oldestStart } from "../etcd-location/static-pod-here.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { containerEnd } from "../facts/ended-container.ts";
import { leaderLease } from "../facts/leaders.ts";
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
import { mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { waitFor } from "../wait-for.ts";
import type { CaReader } from "./ca-readers.ts";

/**
 * Seconds for an orderly exit: etcd hands its leadership over, an API server finishes its answers. Watches do
 * not end by themselves (measured: 60 s), and their clients connect again.
 */
const GRACE = 5;

type Behind = (reader: CaReader) => boolean;

/** Those that hold an older certificate; for an undo, those that started before the file changed. */
export function holdsAnother({ undo = false }: { undo?: boolean | undefined }): Behind {
  const readBefore: Behind = ({ started, changed }) =>
    started !== undefined && changed !== undefined && started < changed;
  if (undo) return readBefore;
  return (reader) => reader.holds === "an older one" || (reader.holds === undefined && readBefore(reader));
}

/**
 * Restarts this control plane node's readers, and checks again after each: one that loses the API for a while
 * exits by itself, and has then read the file again.
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
    await ownApiReady(api, cp, { changed: true, ended: apiServerEnd(cp) });
  },
  "kube-apiserver": async (cp, api) => () => ownApiReady(api, cp, { changed: true, ended: apiServerEnd(cp) }),
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
