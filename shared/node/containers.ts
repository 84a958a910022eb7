/**
 * The containers of this node, by crictl: every kubeadm node of 1.24 to 1.31 has this program, and later
 * nodes should have it.
 */
import { basename } from "node:path";
import { $ } from "zx/core";
import { noteStop, stateAsIf } from "../as-if.ts";
import { attemptLater, Fail } from "../fail.ts";
import { act, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { inTime, sayWhile } from "../wait-for.ts";

export type Container = Awaited<ReturnType<typeof containers>>[number];

/** The static pods that kubeadm makes, by container name; each depends on the ones before it. */
export const CONTROL_PLANE = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] as const;

/** Also those that have ended. Errors: Fail where crictl is missing or the runtime does not answer. */
export async function containers(endpoint: string) {
  const { containers } = (await crictl(endpoint, ["ps", "-a", "-o", "json"])) as {
    containers: CriContainer[] | null;
  };
  return (containers ?? []).map((c) => ({
    id: c.id,
    name: c.metadata.name,
    pod: c.labels?.["io.kubernetes.pod.name"] ?? "",
    namespace: c.labels?.["io.kubernetes.pod.namespace"] ?? "",
    running: c.state === "CONTAINER_RUNNING" && stateAsIf(c.id) !== "stopped",
    podUid: c.labels?.["io.kubernetes.pod.uid"] ?? "",
    // nanoseconds since 1970
    created: new Date(Number(c.createdAt ?? 0) / 1e6),
  }));
}

interface Runtime {
  runtimeEndpoint: string;
}

/** The same; none where no runtime answers. */
export async function containersIfAny({ runtimeEndpoint }: Runtime): Promise<readonly Container[]> {
  return await attemptLater(() => containers(runtimeEndpoint), []);
}

/**
 * The same for who acts on it: a runtime that starts anew, or is busy, is asked for ten seconds. None where it does
 * not answer, and at once where crictl is missing.
 */
export async function containersInTime({ runtimeEndpoint }: Runtime): Promise<readonly Container[]> {
  return await attemptLater(() => patiently(runtimeEndpoint, () => containers(runtimeEndpoint)), []);
}

/** Empty or unset: the runtime does not tell. */
interface Inspected {
  args: string[];
  env: { name: string; value: string }[];
  mounts: { containerPath: string; hostPath: string }[];
  image?: string | undefined;
  /** Bytes, and microseconds of a processor; 0: no limit. */
  limits?: { memory: number; cpu: number } | undefined;
  uid?: number | undefined;
  exitCode?: number | undefined;
}

export type Ran = Pick<Container, "name" | "podUid" | "running"> & Inspected;

/** Also of one that has ended; asked for in time, too. Errors: as `containers`, and where it is gone. */
export async function inspect(endpoint: string, id: string): Promise<Inspected> {
  const ask = () => crictl(endpoint, ["inspect", "-o", "json", id]);
  const { status, info } = (await patiently(endpoint, ask)) as CriDetails;
  // containerd and CRI-O both give the runtime's specification (OCI config.json)
  const { process: { args = [], env = [], user } = {}, linux } = info?.runtimeSpec ?? {};
  const pairs = env.map((pair) => pair.split(/=(.*)/s));
  const { memory, cpu } = linux?.resources ?? {};
  return {
    ...{ args, env: pairs.map(([name = "", value = ""]) => ({ name, value })), mounts: status?.mounts ?? [] },
    image: info?.config?.image?.user_specified_image || status?.image?.userSpecifiedImage || undefined,
    limits: linux && { memory: Math.max(0, memory?.limit ?? 0), cpu: Math.max(0, cpu?.quota ?? 0) },
    uid: user?.uid,
    exitCode: status?.exitCode,
  };
}

interface CriDetails {
  status?: { mounts?: Inspected["mounts"]; image?: { userSpecifiedImage?: string }; exitCode?: number };
  info?: {
    config?: { image?: { user_specified_image?: string } };
    runtimeSpec?: {
      process?: { args?: string[]; env?: string[]; user?: { uid?: number } };
      linux?: { resources?: { memory?: { limit?: number }; cpu?: { quota?: number } } };
    };
  };
}

/** Oldest first; none where the runtime does not say. The container's process has written them. */
export async function lastLines(endpoint: string, id: string): Promise<string[]> {
  const { exitCode, stdout, stderr } = await askCrictl(endpoint, ["logs", "--tail", "50", id]);
  return exitCode === 0 ? `${stdout}\n${stderr}`.split("\n").filter((line) => line.trim()) : [];
}

/** Undefined where the runtime does not say. */
export async function hasImage(endpoint: string, image: string): Promise<boolean | undefined> {
  const { exitCode, stderr } = await askCrictl(endpoint, ["inspecti", "-q", image]);
  if (exitCode === 0) return true;
  return /no such image/.test(stderr) ? false : undefined;
}

export async function controlPlaneContainers(endpoint: string): Promise<Container[]> {
  return (await containers(endpoint)).filter((c) => c.running && isServerContainer(c));
}

/** They must not change during the repair. */
export async function workloadContainers(endpoint: string): Promise<Container[]> {
  return (await containers(endpoint)).filter((c) => c.running && !isServerContainer(c));
}

/**
 * Stops exactly these containers, without `seconds` at once. Otherwise a kube-apiserver without its etcd stays in its graceful
 * shutdown for more than a minute, and the kubelet starts no new one until then (measured: 70 s instead of 11
 * s).
 */
export async function stopContainers(endpoint: string, list: readonly Container[], seconds = 0) {
  if (list.length === 0) return say("old control plane: none of its containers is running");
  for (const container of list) {
    const stop = () =>
      $({ quiet: true })`crictl ${endpointOptions(endpoint)} stop --timeout ${seconds} ${container.id}`;
    await act("stop", container.name, () => sayWhile(`${container.name} to stop`, statusOf(endpoint), stop));
    noteStop(container.id, container.name);
  }
}

interface CriContainer {
  id: string;
  metadata: { name: string };
  labels?: Record<string, string>;
  state: string;
  createdAt?: string;
}

/**
 * Whether it is the container of this node's static pod of that name. Others have containers of these names,
 * too, in kube-system as well: Cilium's clustermesh-apiserver has an `etcd`, a tenant's cluster all four.
 */
export function isServerContainer({ namespace, name, pod, podUid }: Container) {
  const isNamed = (CONTROL_PLANE as readonly string[]).includes(name) && pod.startsWith(`${name}-`);
  return isNamed && namespace === "kube-system" && isStaticUid(podUid);
}

/** The kubelet appends this to a static pod's name (pkg/kubelet/config/common.go, generatePodName). */
export function nameSuffix(nodeName: string) {
  return `-${nodeName.toLowerCase()}`;
}

/**
 * A UID that a kubelet gives to a static pod, so to one that root has written: an MD5 sum
 * (pkg/kubelet/config/common.go). Those of the API server, which nobody can choose, have dashes.
 */
export function isStaticUid(uid: string): boolean {
  return /^[0-9a-f]{32}$/.test(uid);
}

/**
 * crictl's own limit is 2 s (cmd/crictl/main.go), which is soon on a busy machine: what it asked for is done
 * all the same, later. That a runtime does not run it says at once.
 */
function endpointOptions(endpoint: string): string[] {
  return ["--runtime-endpoint", endpoint, "--timeout", "60s"];
}

/** No answer: it says nothing of what is there. */
class NoAnswer extends Fail {}

/** containerd, CRI-O and cri-dockerd have a unit of their socket's name. */
function statusOf(endpoint: string): string {
  return shell`systemctl status ${basename(endpoint, ".sock")}`;
}

/** Asks again only where there was no answer. Errors: those of `ask`. */
async function patiently<T>(endpoint: string, ask: () => Promise<T>): Promise<T> {
  let result: T | Fail | undefined;
  const probe = async () => {
    result = await attemptLater(ask);
    return !(result instanceof NoAnswer);
  };
  await inTime("the container runtime to answer", probe, { seconds: 10, hint: statusOf(endpoint) });
  if (result instanceof Fail) throw result;
  return result!;
}

function askCrictl(endpoint: string, args: string[]) {
  const ask = () => $({ quiet: true, nothrow: true })`crictl ${endpointOptions(endpoint)} ${args}`;
  return sayWhile(shell`crictl ${args}`, statusOf(endpoint), ask);
}

async function crictl(endpoint: string, args: string[]): Promise<unknown> {
  const output = await askCrictl(endpoint, args);
  if (output.exitCode === 0) return JSON.parse(output.stdout);
  // by the shell that starts it
  if (output.exitCode === 127) {
    throw new Fail("Cannot list the containers: crictl is missing", {
      hint: "install the package cri-tools, or copy the crictl binary into PATH",
    });
  }
  const isGone = output.stderr.includes("code = NotFound");
  const why = output.stderr.trim().split("\n").at(-1);
  throw new (isGone ? Fail : NoAnswer)(`Cannot look at the containers through "${endpoint}": ${why}`, {
    hint: `${statusOf(endpoint)}; the runtime must run: it is not part of the damage`,
  });
}
