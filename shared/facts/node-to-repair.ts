/**
 * A control plane node that is to be repaired: what must hold before anything is made, how its PKI is
 * treated, what is known of its release, and whether workers can join by a bootstrap token at all.
 */
import { hostOf } from "../etcd-location/reach-etcd.ts";
import { clockIsSynchronized } from "../evidence/server-clock.ts";
import { Refused } from "../fail.ts";
import { commandOf, flags } from "../manifests/command.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import { manifestPath, readableManifest } from "../manifests/on-disk.ts";
import type { Manifest } from "../objects/objects.ts";
import type { ActionOptions, NewCas } from "../pki/actions.ts";
import { isFor } from "../pki/addresses.ts";
import { type Cert, minorOf } from "../pki/certs.ts";
import { refuseWrongClock } from "./clock.ts";
import { type ControlPlaneNode, type HowToRead, readControlPlaneNode } from "./control-plane-node.ts";
import { reachedBy, refuseUndecided } from "./endpoint.ts";
import { readEvidence } from "./evidence.ts";
import { namesBefore } from "./names-before.ts";
import { refuseOwnCertificate } from "./signed-elsewhere.ts";

/**
 * A control plane node for a repair: what it makes has dates. Errors: as `readControlPlaneNode`; Fail where
 * this node's clock is proved wrong, and as `refuseDockershim`.
 */
export async function controlPlaneToRepair(
  typed: string | undefined,
  how: HowToRead = {},
): Promise<ControlPlaneNode> {
  // timedatectl may have to start a service first
  const isSynchronized = clockIsSynchronized();
  const cp = await readControlPlaneNode(typed, how);
  refuseDockershim(cp);
  refuseOwnCertificate(cp);
  await refuseWrongClock(cp, await isSynchronized);
  return cp;
}

/**
 * How this node's PKI is treated. The evidence for a key is read only where the key is not sound, names from
 * before only where one is issued.
 */
export function ensureOptions(
  cp: ControlPlaneNode,
  newCas?: NewCas,
): ActionOptions & { asideDir: string; alsoFor: (row: Cert) => string[] } {
  const { data, node, facts, asideDir } = cp;
  const evidence = () => readEvidence({ data, node, certificatesDir: facts.certificatesDir });
  return {
    asideDir,
    newCas,
    evidence,
    alsoFor: (row) => [
      ...namesBefore(row, cp),
      ...(row.name === "apiserver" ? reachedBy(cp) : []),
      ...etcdHosts(row, cp),
    ],
  };
}

/** Hosts of this node's etcd, where its URLs lead to another network than the API server's, or are names. */
function etcdHosts({ name, names }: Cert, { data, node, facts }: ControlPlaneNode): string[] {
  const [urls, known] = [URLS[name], names?.(facts)];
  if (!urls || !known) return [];
  const own = data.members.find(({ id }) => id === data.memberId)?.[urls.field] ?? [];
  const pod = findMirrorPods(data, node.name).find((mirror) => mirror.name === "etcd")?.pod;
  const words = flags(pod ? commandOf(pod) : []);
  const all = [...own, ...urls.flags.flatMap((flag) => words.get(flag)?.split(",") ?? [])];
  const hosts = new Set(all.map(hostOf).filter((host) => !["", "0.0.0.0", "::"].includes(host)));
  return [...hosts].filter((host) => !isFor(known, host));
}

const URLS: Partial<Record<string, { field: "clientURLs" | "peerURLs"; flags: readonly string[] }>> = {
  "etcd-server": { field: "clientURLs", flags: ["listen-client-urls", "advertise-client-urls"] },
  "etcd-peer": { field: "peerURLs", flags: ["listen-peer-urls", "initial-advertise-peer-urls"] },
};

/**
 * Minor versions: the first that is rehearsed, and the first without Docker inside of the kubelet
 * (dockershim).
 */
const [REHEARSED, WITHOUT_DOCKERSHIM] = [29, 24];

/** Undefined for a release that is rehearsed. */
export function releaseNote(version: string): string | undefined {
  const minor = minorOf(version);
  if (minor >= REHEARSED) return undefined;
  const known =
    minor >= WITHOUT_DOCKERSHIM
      ? "1.24 and later with containerd or CRI-O seem to work"
      : "nothing is known of it";
  return `Kubernetes ${version}: releases before 1.${REHEARSED} are not rehearsed, but for one all-lost with 1.28.15; ${known}. Try --dry-run first`;
}

/**
 * Errors: Refused where the kubelet itself runs the containers with Docker: they are gone with it, and crictl
 * cannot ask it.
 */
export function refuseDockershim({ node, cluster }: Pick<ControlPlaneNode, "node" | "cluster">) {
  const { containerRuntime } = node.kubelet;
  const isOld = minorOf(cluster.kubernetesVersion) < WITHOUT_DOCKERSHIM;
  const isDocker = containerRuntime === "docker" || (isOld && containerRuntime !== "remote");
  if (!isDocker && !node.runtimeEndpoint.includes("dockershim.sock")) return;
  throw new Refused(
    `The kubelet runs Docker by its own dockershim (Kubernetes ${cluster.kubernetesVersion}, --container-runtime=${containerRuntime ?? "docker"}): this kit is for a runtime with a CRI socket`,
    {
      unchanged: true,
      hint:
        "see what of etcd and which keys are here: ./bunw scripts/00-assess.ts. " +
        'By hand: RUNBOOK names for each step the kubeadm phase that does it ("by hand")',
    },
  );
}

const FLAG = "enable-bootstrap-token-auth";

/** Why no worker can join here; undefined where one can. Without `manifest`: the one on disk. */
export function joiningTrouble(
  cp: Pick<ControlPlaneNode, "node">,
  manifest?: Pick<Manifest, "spec">,
): Refused | undefined {
  const path = manifestPath(cp, "kube-apiserver");
  const now = manifest ?? readableManifest(path);
  if (!now || /^(1|t|true)$/i.test(flags(commandOf(now)).get(FLAG) ?? "")) return undefined;
  return new Refused(
    `The API server takes no bootstrap tokens (no --${FLAG}), so no worker can join with one`,
    {
      unchanged: true,
      hint:
        `add --${FLAG}=true to ${path} until close is done, on each control plane node; its kubelet restarts the API server. ` +
        "Then run the same line again",
    },
  );
}

/** Errors: Refused where no worker can join with a token; and as `refuseUndecided`. */
export function refuseNoJoining(cp: Pick<ControlPlaneNode, "node" | "endpoint">) {
  refuseUndecided(cp);
  const trouble = joiningTrouble(cp);
  if (trouble) throw trouble;
}
