/**
 * The settings of this cluster, all different from kubeadm's defaults: so a repair that falls back to
 * defaults is caught. Names and addresses are the lab's own.
 */
import { stringify } from "yaml";
import { minorOf } from "../../../shared/pki/certs.ts";
import { SUBNETS } from "./families.ts";
import { LAB_IMAGE } from "./images.ts";
import type { Machine } from "./machine.ts";
import { balancerIn } from "./network.ts";
import { KUBERNETES, SERVING_BY_CA } from "./pins.ts";
import { type Profile, samePlace } from "./profile.ts";

export const ENDPOINT = "lab-api:6443";
/** v1beta4 came with 1.31; before, extraArgs were maps. */
const V1BETA4 = minorOf(KUBERNETES) >= 31;
const KUBEADM = { apiVersion: `kubeadm.k8s.io/${V1BETA4 ? "v1beta4" : "v1beta3"}` };
/** The first control plane node's kubelet keeps pods in the default folder, the others' kubelets here. */
export const OTHER_PODS_DIR = "/var/lib/pods-of-kubelet";
const CRI = "unix:///run/containerd/containerd.sock";

/**
 * A flag and a variable that are in no kubeadm configuration, as if somebody had edited the manifest by hand.
 * kubeadm's patches write them: these are stored nowhere, and an edit afterwards would restart the API
 * server, which costs a minute and a half.
 */
const HAND_EDIT = { env: { name: "LAB_HAND_EDIT", value: "1" }, flag: "--event-ttl=2h" };
export const PATCHES = "/root/kubeadm-patches";
export function apiServerPatch(profile: Profile): string {
  return stringify([
    { op: "add", path: "/spec/containers/0/command/-", value: HAND_EDIT.flag },
    { op: "add", path: "/spec/containers/0/env", value: [HAND_EDIT.env] },
    ...profile.apiServerPatch,
  ]);
}

/**
 * A static pod that is not kubeadm's, like kube-vip: since 1.29 kube-vip's guide mounts super-admin.conf on
 * the first control plane node, and its container has arguments but no command.
 */
export const VIP = stringify({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "kube-vip", namespace: "kube-system" },
  spec: {
    containers: [
      {
        name: "kube-vip",
        image: LAB_IMAGE,
        imagePullPolicy: "IfNotPresent",
        args: ["vip", "/etc/kubernetes/admin.conf"],
        // Without any, a namespace's limits would make another QoS class of it in the API, which then takes
        // no status of it.
        resources: { requests: { cpu: "10m" } },
        readinessProbe: {
          httpGet: { path: "/", port: 2112, scheme: "HTTP" },
          periodSeconds: 2,
          failureThreshold: 3,
          timeoutSeconds: 1,
        },
        volumeMounts: [{ name: "kubeconfig", mountPath: "/etc/kubernetes/admin.conf" }],
      },
    ],
    hostNetwork: true,
    volumes: [
      {
        name: "kubeconfig",
        hostPath: {
          path: minorOf(KUBERNETES) >= 29 ? "/etc/kubernetes/super-admin.conf" : "/etc/kubernetes/admin.conf",
        },
      },
    ],
  },
});

/** `controllers`: the controller-manager's --controllers, where it is not the default. */
export function initConfig(node: Machine, profile: Profile, options: { controllers?: string } = {}) {
  return documents([
    {
      ...KUBEADM,
      kind: "InitConfiguration",
      localAPIEndpoint: apiOn(node),
      nodeRegistration: registration(node, profile.kubeletFlags),
      patches: { directory: PATCHES },
    },
    clusterConfiguration(profile, options),
    kubeletConfiguration(profile),
    kubeProxyConfiguration(),
  ]);
}

/** `discoveryFile`: for a node that the API does not answer without credentials. */
export function joinConfig(
  node: Machine,
  profile: Profile,
  join: { token: string; caCertHash: string; certificateKey?: string; discoveryFile?: string },
) {
  const byToken = {
    bootstrapToken: { apiServerEndpoint: ENDPOINT, token: join.token, caCertHashes: [join.caCertHash] },
  };
  const byFile = { file: { kubeConfigPath: join.discoveryFile }, tlsBootstrapToken: join.token };
  const controlPlane = join.certificateKey && {
    controlPlane: { localAPIEndpoint: apiOn(node), certificateKey: join.certificateKey },
    patches: { directory: PATCHES },
  };
  const nodeRegistration = registration(node, {
    ...profile.kubeletFlags,
    ...(controlPlane ? { "root-dir": OTHER_PODS_DIR } : {}),
  });
  const caCertPath = `${profile.certificatesDir}/ca.crt`;
  const discovery = join.discoveryFile ? byFile : byToken;
  return documents([
    {
      ...KUBEADM,
      kind: "JoinConfiguration",
      caCertPath,
      discovery,
      nodeRegistration,
      ...(controlPlane || {}),
    },
  ]);
}

function apiOn(node: Machine) {
  return { advertiseAddress: node.ip, bindPort: 6443 };
}

function registration(node: Machine, kubeletFlags: Record<string, string>) {
  return {
    name: node.nodeName,
    criSocket: CRI,
    kubeletExtraArgs: extraArgs(
      Object.entries({ "node-ip": (node.ips ?? [node.ip]).join(","), ...kubeletFlags }),
    ),
    ignorePreflightErrors: notHeeded(minorOf(KUBERNETES)),
  };
}

/**
 * From 1.35 on kubeadm refuses cgroup v1, whatever the kubelet's configuration says. Old releases have a URL
 * that today's Go cannot parse.
 */
function notHeeded(minor: number): string[] {
  if (minor >= 35) return ["SystemVerification"];
  return minor < 34 ? ["HTTPProxyCIDR"] : [];
}

function clusterConfiguration(profile: Profile, { controllers }: { controllers?: string }) {
  return {
    ...KUBEADM,
    kind: "ClusterConfiguration",
    kubernetesVersion: KUBERNETES,
    certificatesDir: profile.certificatesDir,
    clusterName: "labcluster",
    controlPlaneEndpoint: ENDPOINT,
    networking: {
      podSubnet: profile.families.map((family) => SUBNETS[family].pods).join(","),
      serviceSubnet: profile.families.map((family) => SUBNETS[family].services).join(","),
      dnsDomain: "cluster.local",
    },
    apiServer: {
      certSANs: ["extra.lab.example", ...profile.families.map(balancerIn), ...profile.certSANs],
      extraArgs: extraArgs([
        ["audit-log-path", "/var/log/kubernetes/audit.log"],
        ["audit-log-maxage", "7"],
        ["profiling", "false"],
        ...profile.apiServerFlags,
      ]),
      extraVolumes: [
        ...profile.apiServerVolumes,
        samePlace("audit-log", "/var/log/kubernetes", "DirectoryOrCreate", false),
      ],
    },
    controllerManager: {
      extraArgs: extraArgs(
        Object.entries({
          "node-monitor-grace-period": "40s",
          "terminated-pod-gc-threshold": "50",
          ...(controllers ? { controllers } : {}),
        }),
      ),
    },
    scheduler: { extraArgs: extraArgs(Object.entries({ profiling: "false", v: "1" })) },
    etcd: {
      local: {
        dataDir: profile.etcdDataDir,
        extraArgs: extraArgs([
          ["auto-compaction-mode", "periodic"],
          ["auto-compaction-retention", "8h"],
          ["quota-backend-bytes", "4294967296"],
        ]),
      },
    },
    ...profile.clusterConfiguration,
  };
}

export function kubeletConfiguration(profile: Profile) {
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    ...(SERVING_BY_CA ? { serverTLSBootstrap: true } : {}),
    cgroupDriver: "cgroupfs",
    failSwapOn: false,
    // From 1.35 on a kubelet starts on cgroup v1 only with this field; before 1.31 there is no such field.
    ...(minorOf(KUBERNETES) >= 31 ? { failCgroupV1: false } : {}),
    // Without CAP_SYS_RESOURCE no process may make itself safer from the OOM killer than it was.
    oomScoreAdj: 0,
    evictionHard: {
      "memory.available": "100Mi",
      "nodefs.available": "1%",
      "imagefs.available": "1%",
      "nodefs.inodesFree": "1%",
    },
    // Never: nobody could pull an image again. A disk of this machine that is 85 % full is not the lab's
    // business.
    imageGCHighThresholdPercent: 100,
    ...profile.kubeletConfiguration,
  };
}

function kubeProxyConfiguration() {
  return {
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    mode: "iptables",
    oomScoreAdj: 0,
    // These sysctls belong to this machine, not to a namespace: leave them alone.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: "0s", tcpCloseWaitTimeout: "0s" },
  };
}

export function extraArgs(values: [name: string, value: string][]) {
  return V1BETA4 ? values.map(([name, value]) => ({ name, value })) : Object.fromEntries(values);
}

function documents(list: object[]) {
  return list.map((document) => stringify(document)).join("---\n");
}
