/**
 * A static pod of this node as it runs, or ran: by its processes, and by the container that the runtime still
 * has. Any pod may give a container or a program such a name, so each is proved to be the static pod's. Reads
 * the API server's flags and mounts also from its manifest. Reads only.
 */
import { knownHere, processOwner } from "../evidence/owners.ts";
import { isStaticPodOf, may } from "../evidence/sources.ts";
import { attemptLater, Fail } from "../fail.ts";
import { mountsOf, onHost } from "../files/file-system.ts";
import { list } from "../files/files.ts";
import { tryFile } from "../files/root.ts";
import { hostText } from "../files/untrusted-file.ts";
import { manifestPath, readableManifest, whereIs } from "../manifests/on-disk.ts";
import {
  type Container,
  containersIfAny,
  containersInTime,
  inspect,
  isStaticUid,
  type Ran,
} from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import type { PodSpec } from "../objects/objects.ts";
import { say } from "../run.ts";
import { COMM } from "../shell-line.ts";

/** A static pod, in a pod's words: its main container with command, variables and mounts. */
interface SeenPod {
  spec: PodSpec;
  by: string;
}

interface SeenProcess extends SeenPod {
  pid: number;
}

interface Mounted {
  containerPath: string;
  hostPath: string;
}

/** The newest container of this static pod here, running or exited. Errors: as `inspect`. */
export async function containerOf(
  name: string,
  { node, all }: { node: Node; all: readonly Container[] },
): Promise<SeenPod | undefined> {
  const own = all.filter(
    (one) => one.name === name && isStaticPodOf({ ...one, name: one.pod, uid: one.podUid }, name, node),
  );
  const newest = own.sort((a, b) => b.created.getTime() - a.created.getTime())[0];
  if (!newest) return undefined;
  const { args, env, mounts } = await inspect(node.runtimeEndpoint, newest.id);
  return {
    by: `the container ${newest.pod} (${newest.id.slice(0, 13)})`,
    spec: specOf({ name, args, env, mounts }),
  };
}

const NOTHING_TOLD = { args: [], env: [], mounts: [] };

/**
 * The newest container of each name in these static pods, by the pods' UIDs, running or exited; none if no
 * runtime answers. A container that it only lists counts, too. `all`: the containers, if known.
 */
export async function newestContainersOf(
  uids: ReadonlySet<string>,
  { node, all }: { node: Node; all?: readonly Container[] | undefined },
): Promise<Ran[]> {
  const containers = uids.size > 0 ? (all ?? (await containersInTime(node))) : [];
  const own = containers
    .filter(({ podUid }) => isStaticUid(podUid) && uids.has(podUid))
    .sort((a, b) => a.created.getTime() - b.created.getTime());
  const newest = new Map(own.map((one) => [`${one.podUid}/${one.name}`, one]));
  const looks = [...newest.values()].map(async ({ name, podUid, running, id }) => {
    const container = await attemptLater(() => inspect(node.runtimeEndpoint, id));
    if (container instanceof Fail)
      say(`${name}: read from its mirror pod, not its container: ${container.message}`);
    return { name, podUid, running, ...(container instanceof Fail ? NOTHING_TOLD : container) };
  });
  return await Promise.all(looks);
}

/** The processes in a container of kube-system, or in a systemd unit of the host. */
export function processesOf(name: string, all: readonly Container[], byName = pidsByName()): SeenProcess[] {
  const pods = knownHere(all);
  return pidsNamed(name, byName).flatMap((pid) => {
    const owner = processOwner(pid, name, pods);
    if (!may(owner.source, "files")) return [];
    const words = (file: string) => {
      const path = `/proc/${pid}/${file}`;
      return (tryFile("read", path, () => hostText(path)) ?? "").split("\0");
    };
    const env = words("environ").map((pair) => pair.split(/=(.*)/s));
    const variables = env.map(([variable = "", value = ""]) => ({ name: variable, value }));
    return [
      {
        pid,
        by: `process ${pid} (${owner.is})`,
        spec: specOf({ name, args: words("cmdline"), env: variables, mounts: mountsFromHost(pid) }),
      },
    ];
  });
}

/** All processes with this name, whoever started them. */
export function pidsNamed(name: string, byName = pidsByName()): number[] {
  return byName.get(name.slice(0, COMM)) ?? [];
}

/** Once for several names: there may be thousands. */
export function pidsByName(): Map<string | undefined, number[]> {
  const pids = list("/proc").flatMap((pid) => (/^\d+$/.test(pid) ? [Number(pid)] : []));
  return Map.groupBy(pids, (pid) => hostText(`/proc/${pid}/comm`)?.trim());
}

/** When the oldest process of this name started, as `processStart`; undefined: none runs. */
export function oldestStart(name: string): Date | undefined {
  const starts = pidsNamed(name).flatMap((pid) => processStart(pid) ?? []);
  return starts.sort((a, b) => +a - +b)[0];
}

/** Ticks in a second for user space, on all machines that Kubernetes runs on (USER_HZ). */
const TICKS = 100;

/**
 * Uses the current clock, counted back: a wrong clock at the start, as after a boot without a battery, does
 * not matter. Undefined if the process has exited, or this machine does not say.
 */
export function processStart(pid: number): Date | undefined {
  const [, after = ""] = /^\d+ \(.*\) (.*)$/s.exec(hostText(`/proc/${pid}/stat`) ?? "") ?? [];
  // field 22; the state is field 3
  const ticks = Number(after.split(" ")[22 - 3]);
  const uptime = Number.parseFloat(hostText("/proc/uptime") ?? "");
  const age = (uptime - ticks / TICKS) * 1000;
  return Number.isFinite(age) ? new Date(Date.now() - age) : undefined;
}

function mountsFromHost(pid: number): Mounted[] {
  const all = tryFile("look at", `/proc/${pid}/mountinfo`, () => mountsOf(pid)) ?? [];
  return all.flatMap(({ at }) => {
    const hostPath = onHost(pid, at);
    return hostPath === undefined ? [] : [{ containerPath: at, hostPath }];
  });
}

interface Started {
  name: string;
  args: string[];
  env: { name: string; value: string }[];
  mounts: readonly Mounted[];
}

function specOf({ name, args, env, mounts }: Started): PodSpec {
  const volumes = mounts.map(({ hostPath }, i) => ({ name: String(i), hostPath: { path: hostPath } }));
  const volumeMounts = mounts.map(({ containerPath }, i) => ({ name: String(i), mountPath: containerPath }));
  return { volumes, containers: [{ name, command: args, env, volumeMounts }] };
}

const NAME = "kube-apiserver";
/** kubeadm's path, if the kubelet's own configuration is lost. */
const MANIFEST = `/etc/kubernetes/manifests/${NAME}.yaml`;

interface Here {
  node: Node | undefined;
  /** Containers, exited ones too, if they are known already. */
  all?: readonly Container[] | undefined;
}

/** Undefined if its manifest is lost and the runtime has no container of it. */
export async function apiServerHere({ node, all }: Here) {
  const spec = readableManifest(whereIs(node ? manifestPath({ node }, NAME) : MANIFEST))?.spec;
  if (spec || !node) return spec && { spec };
  const containers = all ?? (await containersIfAny(node));
  try {
    return processesOf(NAME, containers)[0] ?? (await containerOf(NAME, { node, all: containers }));
  } catch (err) {
    if (err instanceof Fail) return undefined;
    throw err;
  }
}
