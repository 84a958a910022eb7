/**
 * A cluster as many companies have it: Calico, cert-manager, a policy and limits for kube-system, images that
 * are pulled at each start, workers with a balancer of their own, an earlier service-account key, and a proxy
 * in root's environment.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { minorOf } from "../../../shared/pki/certs.ts";
import { type CalicoNamespace, calico } from "./calico.ts";
import { certManager } from "./cert-manager.ts";
import { type Image, withLibraries } from "./images.ts";
import { addressOf } from "./layout.ts";
import { haproxyConfig, REGISTRY_HOSTS } from "./network.ts";
import { KUBERNETES } from "./pins.ts";
import { type AddOn, type Profile, USUAL } from "./profile.ts";

/**
 * The service-account key before the last rotation, in kubeadm's folder, which the API server's pod mounts.
 */
export const EARLIER_KEY = `${USUAL.certificatesDir}/sa-2024.pub`;

export const BALANCER_IMAGE = "lab/api-balancer:1";
const BALANCER_CONFIG = "/etc/api-balancer/haproxy.cfg";
/** Where a worker's kubelet reaches the API. */
export const OWN_BALANCER = "127.0.0.1:8443";

export const apiBalancer: AddOn = {
  packages: [],
  images: async (): Promise<Image[]> => [
    {
      name: BALANCER_IMAGE,
      files: await withLibraries(["/usr/sbin/haproxy"]),
      entrypoint: ["/usr/sbin/haproxy"],
    },
  ],
  objects: async () => "",
  writes: [],
};

const BALANCER_POD = stringify({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "api-balancer", namespace: "kube-system", labels: { "k8s-app": "api-balancer" } },
  spec: {
    containers: [
      {
        name: "haproxy",
        image: BALANCER_IMAGE,
        imagePullPolicy: "IfNotPresent",
        args: ["-db", "-f", BALANCER_CONFIG],
        resources: { requests: { cpu: "10m", memory: "32Mi" }, limits: { memory: "256Mi" } },
        volumeMounts: [{ name: "config", mountPath: BALANCER_CONFIG, readOnly: true }],
      },
    ],
    hostNetwork: true,
    priority: 2000001000,
    priorityClassName: "system-node-critical",
    volumes: [{ name: "config", hostPath: { path: BALANCER_CONFIG, type: "File" } }],
  },
});

/** What a Helm chart or a policy engine brings; the policy came with 1.30. */
const GUARDED = readFileSync(join(import.meta.dir, "field.yaml"), "utf8");
const HAS_POLICIES = minorOf(KUBERNETES) >= 30;
const [LIMITS, POLICY] = GUARDED.split("# ---- policy\n") as [string, string];

/** Its pods in kube-system obey the policy. */
const RESOURCES = ["--requests=cpu=10m,memory=32Mi", "--limits=memory=1Gi"];

export interface FieldOptions {
  controlPlanes: number;
  /** The public half of a service-account key, in PEM. */
  earlierKey: string;
  namespace?: CalicoNamespace;
  /** Names of nodes that run nothing but DaemonSets' pods, and what tolerates everything. */
  idle?: string[];
}

export function field({ controlPlanes, earlierKey, namespace, idle = [] }: FieldOptions): Profile {
  const servers = Array.from({ length: controlPlanes }, (_, i) => addressOf(`cp${i + 1}`));
  const inSystem = ["-n", "kube-system"];
  return {
    ...USUAL,
    // Typha tolerates everything: one may be, and a new one may come, on a node that is off, and nobody moves
    // it.
    podNetwork: calico(namespace, { typhas: 2 }),
    addOns: [apiBalancer, certManager],
    certSANs: ["127.0.0.1"],
    apiServerFlags: [
      ...USUAL.apiServerFlags,
      ["service-account-key-file", `${USUAL.certificatesDir}/sa.pub`],
      ["service-account-key-file", EARLIER_KEY],
      ["enable-admission-plugins", "NodeRestriction,AlwaysPullImages"],
    ],
    controlPlaneFiles: { ...USUAL.controlPlaneFiles, [EARLIER_KEY]: earlierKey },
    nodeFiles: {
      [BALANCER_CONFIG]: haproxyConfig(OWN_BALANCER, servers),
      "/etc/containerd/certs.d/_default/hosts.toml": REGISTRY_HOSTS,
    },
    hasRegistry: true,
    selfSigned: ["w1"],
    firstObjects: LIMITS,
    workerStaticPods: { "api-balancer.yaml": BALANCER_POD },
    afterJoin: [
      [...inSystem, "set", "resources", "daemonset,deployment", "--all", ...RESOURCES],
      [...inSystem, "rollout", "status", "daemonset/kube-proxy"],
      ...idle.map((name) => ["cordon", name]),
      // The API has their limits from now on, as it has those of pods that started later.
      [...inSystem, "delete", "pod", "-l", "tier=control-plane", "--wait=false"],
    ],
    nodeLines: [
      [/^w/, `until curl -sk https://${OWN_BALANCER}/readyz | grep -q ok; do sleep 0.5; done`],
      [/^w/, `sed -i 's|server: https://.*|server: https://${OWN_BALANCER}|' /etc/kubernetes/kubelet.conf`],
      [/^w/, "systemctl restart kubelet"],
    ],
    shell: { HTTPS_PROXY: "http://10.250.0.99:3128", NO_PROXY: "lab-api,.svc,10.97.0.0/16" },
    pings: true,
    objects: HAS_POLICIES ? [POLICY] : [],
  };
}
