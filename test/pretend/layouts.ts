/**
 * The usual control plane node in each layout: kubeadm's, certificatesDir elsewhere by kubeadm-config, kubespray's and
 * KubeKey's. All have the same certificates, as `healthyCp` has made them.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync } from "node:fs";
import type { ApiOptions } from "./api.ts";
import { ADDRESS, healthyCp, type Objects, write } from "./cluster.ts";
import { sameEtcd, serveEtcd, serveUnit } from "./etcd.ts";
import { commandsOf, ETCD_PKI, external, layOut, UNIT_MEMBER } from "./etcd-as-unit.ts";
import { type NodeOptions, pretendNode } from "./node.ts";
import { serveRunning } from "./running.ts";
import { USUAL } from "./strangers-folder.ts";

const { root: healthy } = await healthyCp();

const elsewhere = (objects: Objects, dir: string) => {
  for (const [key, object] of Object.entries(objects))
    objects[key] = JSON.parse(JSON.stringify(object).replaceAll(USUAL, dir));
};

export const LAYOUTS = {
  "kubeadm's default": { kind: "healthy control plane node", change: (_: { root: string }) => undefined },
  "certificatesDir elsewhere": {
    kind: "healthy control plane node",
    etcd: (objects: Objects) => elsewhere(objects, "/srv/pki"),
    change: ({ root }: { root: string }) => {
      mkdirSync(`${root}/srv`);
      renameSync(root + USUAL, `${root}/srv/pki`);
      for (const file of ["/var/lib/kubelet/config.yaml", ...manifestsOf(root)])
        write(root + file, readFileSync(root + file, "utf8").replaceAll(USUAL, "/srv/pki"));
    },
  },
  kubespray: unit("kubespray"),
  KubeKey: unit("KubeKey 3"),
} as const;

export type Layout = keyof typeof LAYOUTS;

/** Where the cluster's keys are. */
export const DIR: Record<Layout, string> = {
  "kubeadm's default": USUAL,
  "certificatesDir elsewhere": "/srv/pki",
  kubespray: "/etc/kubernetes/ssl",
  KubeKey: USUAL,
};

function unit(by: "kubespray" | "KubeKey 3") {
  return {
    kind: "healthy control plane node",
    ...{ members: [UNIT_MEMBER], commands: commandsOf(by) },
    etcd: (objects: Objects) => external(objects, by),
    change: ({ root }: { root: string }) => layOut(root, by),
  } as const;
}

function manifestsOf(root: string): string[] {
  return readdirSync(`${root}/etc/kubernetes/manifests`).map((name) => `/etc/kubernetes/manifests/${name}`);
}

const RUNNING = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"];

/** A node of this layout that is well. */
export async function nodeIn(layout: Layout, options: Partial<NodeOptions> = {}) {
  const { change, ...of } = LAYOUTS[layout];
  const hasUnit = "members" in of;
  const containers = hasUnit ? RUNNING : ["etcd", ...RUNNING];
  const node = await pretendNode({ ...of, containers, ...options } as NodeOptions);
  change(node);
  return node;
}

/** Its etcd and its API server, with the cluster's own certificates, whatever lies on the node. */
export function serveIn(
  layout: Layout,
  node: Awaited<ReturnType<typeof nodeIn>>,
  api: Pick<ApiOptions, "on"> = {},
): Disposable {
  const state = sameEtcd(node.stored);
  const servers = [
    "members" in LAYOUTS[layout]
      ? serveUnit(ETCD_PKI, { ...state, members: [UNIT_MEMBER] }, ADDRESS)
      : serveEtcd(healthy, state),
    serveRunning({ root: healthy }, api),
  ];
  return { [Symbol.dispose]: () => servers.forEach((one) => void one[Symbol.dispose]()) };
}
