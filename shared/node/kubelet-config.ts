/**
 * The kubelet's configuration as the kubelet reads it: its file, then its drop-ins, then its flags, which
 * count most. Sources: cmd/kubelet/app/server.go (NewKubeletCommand, kubeletConfigFlagPrecedence),
 * cmd/kubelet/app/options/options.go, pkg/kubelet/kubeletconfig/configfiles/configfiles.go (relative paths
 * begin at the file's folder).
 *
 * Where there is none, another distribution may have set up this node, by the folder of its state: what it is, and who
 * renews its certificates. Sources: docs.k3s.io/cli/certificate,
 * docs.rke2.io/security/certificates, docs.k0sproject.io (troubleshooting/certificate-authorities, backup),
 * github.com/canonical/microk8s (refresh-certs), docs.siderolabs.com/talos (security/ca-rotation).
 */

import { dirname, resolve } from "node:path";
import type { Todo } from "../again.ts";
import { attempt, Refused } from "../fail.ts";
import { exists, readText, writeFile } from "../files/files.ts";
import { orUndefined } from "../pki/certificate.ts";
import { type Kubeconfig, readKubeconfig } from "../pki/kubeconfigs.ts";
import { shell } from "../shell-line.ts";
import { isMapping, readMapping, type Shape, yamlText } from "../yaml.ts";
import { withAddress } from "./kubelet-address.ts";
import { withDropIns } from "./kubelet-drop-ins.ts";
import type { KubeletFlags } from "./started-with.ts";

export const KUBELET_DIR = "/var/lib/kubelet";
/** kubeadm writes it on each node. */
export const KUBELET_CONFIG = `${KUBELET_DIR}/config.yaml`;
/** Where a kubelet without --root-dir keeps its pods. */
export const PODS_DIR = `${KUBELET_DIR}/pods`;

const FILE_FLAGS = [
  "config-dir",
  "image-credential-provider-config",
  "image-credential-provider-bin-dir",
  "cloud-config",
];
const TLS_FILES = ["tlsCertFile", "tlsPrivateKeyFile"] as const;

const LOGS = "/var/log/pods";

/** The kubelet's records of pods, a folder of logs for each: as the configuration says that was read last. */
let logs = LOGS;

export function podLogsDir(): string {
  return logs;
}

/** Where RUNBOOK-MORE has an operator keep the kubelet's answer to /configz: memory that only root writes. */
export const KEPT_CONFIG = "/run/kubelet.configz";

interface LostConfig {
  path: string;
  text: string;
  /** The program or file that still has the value. */
  from: string;
}

/** The file of --config, if it is lost and was kept. Its text is JSON, which is YAML, too. */
export function keptConfig(flags: KubeletFlags): LostConfig | undefined {
  const path = pathIn(flags, "config");
  if (path === undefined || exists(path)) return undefined;
  const answer = orUndefined(() => JSON.parse(readText(KEPT_CONFIG) ?? ""));
  const config = isMapping(answer) ? answer.kubeletconfig : undefined;
  if (!isMapping(config)) return undefined;
  const own = { apiVersion: "kubelet.config.k8s.io/v1beta1", kind: "KubeletConfiguration", ...config };
  return { path, text: yamlText(own), from: KEPT_CONFIG };
}

/**
 * The last way back of the file that --config names, where it is an installer's: kubeadm has written its own, too, which
 * that kubelet does not read. Undefined where there is none.
 */
export function kubeadmsConfig(path: string): Todo | undefined {
  if (path === KUBELET_CONFIG || !exists(KUBELET_CONFIG)) return undefined;
  const note = "kubeadm's: without maxPods, reserved resources and eviction limits that were set";
  return { command: shell`install -D -m 600 ${KUBELET_CONFIG} ${path}`, note };
}

type Configured = Pick<ReturnType<typeof readKubelet>, "files" | "nodeIp">;

/** The file of --config, if it is an installer's own: it goes with /etc/kubernetes. Undefined if it is lost, too. */
export function installersConfig({ files }: Configured): { path: string; text: string } | undefined {
  const path = files.find(({ flag }) => flag === "--config")?.path;
  const text = path?.startsWith("/etc/kubernetes/") ? readText(path) : undefined;
  return path && text ? { path, text } : undefined;
}

/**
 * Writes another node's configuration as this kubelet's lost one, with this node's own address. Returns whether one
 * was lost.
 */
export function takeConfigOf({ path, text, from }: LostConfig, { files, nodeIp }: Configured): boolean {
  const isLost = files.some((file) => file.flag === "--config" && file.path === path && !file.isKept);
  if (!isLost || exists(path)) return false;
  const content = nodeIp ? withAddress(text, nodeIp) : text;
  const note = `${from}'s, with this node's address: reserved resources and the like are as there`;
  return writeFile(path, content, { mode: 0o600, note });
}

interface KubeletConfiguration {
  address?: string;
  resolvConf?: string;
  podLogsDir?: string;
  tlsCertFile?: string;
  tlsPrivateKeyFile?: string;
  authentication?: { x509?: { clientCAFile?: string } };
  staticPodPath?: string;
  serverTLSBootstrap?: boolean;
  rotateCertificates?: boolean;
  containerRuntimeEndpoint?: string;
}

const SHAPE: Shape = {
  ...{ address: "string", resolvConf: "string" },
  ...{ podLogsDir: "string", tlsCertFile: "string", tlsPrivateKeyFile: "string", staticPodPath: "string" },
  ...{ authentication: "mapping", "authentication.x509": "mapping", containerRuntimeEndpoint: "string" },
  "authentication.x509.clientCAFile": "string",
};

/**
 * A node's kubelet reads and writes these. Errors: Fail where kubeadm has not set up this node; `mayBeGone`:
 * as kubeadm's defaults then.
 */
export function readKubelet(flags: KubeletFlags, { mayBeGone = false } = {}) {
  const copy = keptConfig(flags);
  const config = withDropIns(readConfig(flags, { copy, mayBeGone }), pathIn(flags, "config-dir"));
  logs = absolute(config.podLogsDir) ?? LOGS;
  const { staticPodPath, authentication, serverTLSBootstrap = false } = config;
  const certDir = pathIn(flags, "cert-dir") ?? `${KUBELET_DIR}/pki`;
  const [rotates, renews] = [flags.get("rotate-server-certificates"), flags.get("rotate-certificates")];
  const named = (flag: string, path: string | undefined) =>
    path ? [{ path, flag, isKept: path === copy?.path }] : [];
  const namedCa = pathIn(flags, "client-ca-file") ?? absolute(authentication?.x509?.clientCAFile);
  return {
    kubeconfig: pathIn(flags, "kubeconfig") ?? "/etc/kubernetes/kubelet.conf",
    bootstrapKubeconfig: pathIn(flags, "bootstrap-kubeconfig") ?? "/etc/kubernetes/bootstrap-kubelet.conf",
    /** The CA that the kubelet's own port trusts, if it is named: the kubelet does not start without this file. */
    namedCa,
    clientCaFile: namedCa ?? "/etc/kubernetes/pki/ca.crt",
    staticPodPath:
      pathIn(flags, "pod-manifest-path") ?? absolute(staticPodPath) ?? "/etc/kubernetes/manifests",
    serverTlsBootstrap: rotates === undefined ? serverTLSBootstrap : rotates === "true",
    clientPem: `${certDir}/kubelet-client-current.pem`,
    /** It uses what kubelet.conf names, whatever lies in its folder: it renews no certificate by itself. */
    keepsCertificate: renews === undefined ? config.rotateCertificates === false : renews === "false",
    serverPem: `${certDir}/kubelet-server-current.pem`,
    podsDir: `${pathIn(flags, "root-dir") ?? KUBELET_DIR}/pods`,
    /** Named by its flags and its configuration, and not made by kubeadm. It does not start without one of them. */
    files: [
      ...named("--config", pathIn(flags, "config")),
      ...TLS_FILES.flatMap((field) => named(field, absolute(config[field]))),
      ...FILE_FLAGS.flatMap((flag) => named(`--${flag}`, pathIn(flags, flag))),
    ],
    /**
     * As its flag says, which is gone since 1.27: "remote" for a socket. Unset before 1.24: Docker, in the
     * kubelet itself.
     */
    containerRuntime: flags.get("container-runtime"),
    /** As its flag says: mostly the node's own. */
    nodeIp: flags.get("node-ip")?.split(",")[0],
    /** Where its port listens; unset: at each address. */
    address: flags.get("address") ?? config.address,
    /** Without it no pod with an address starts, nor one of the host's network. */
    resolvConf: flags.get("resolv-conf") ?? config.resolvConf,
    runtimeEndpoint:
      flags.get("container-runtime-endpoint") ||
      config.containerRuntimeEndpoint ||
      "unix:///run/containerd/containerd.sock",
  };
}

/** A unit starts its program in "/". */
function absolute(path: string | undefined): string | undefined {
  return path ? resolve("/", path) : undefined;
}

function pathIn(flags: KubeletFlags, name: string): string | undefined {
  return absolute(flags.get(name));
}

/**
 * Where the file that --config names is lost, what was kept of it counts, or else kubeadm's: the guard in
 * systemctl-kubelet.ts names the lost one.
 */
function readConfig(
  flags: KubeletFlags,
  { copy, mayBeGone }: { copy: ReturnType<typeof keptConfig>; mayBeGone: boolean },
): KubeletConfiguration {
  const path = pathIn(flags, "config");
  const file = copy?.path ?? (path !== undefined && exists(path) ? path : KUBELET_CONFIG);
  const text = copy?.text ?? readText(file);
  if (text === undefined) {
    refuseOtherDistribution();
    if (mayBeGone) return {};
    throw exists(ETCD_MEMBER) ? kubeletGone(path ?? KUBELET_CONFIG) : noNode(path ?? KUBELET_CONFIG);
  }
  const config = besides(configIn(text, file), dirname(file));
  // since 1.34, kubeadm writes the runtime's socket into a separate file (gate NodeLocalCRISocket)
  const besideIt = `${KUBELET_DIR}/instance-config.yaml`;
  return { ...config, ...configIn(readText(besideIt) ?? "", besideIt) };
}

function configIn(text: string, path: string): KubeletConfiguration {
  if (text.trim() === "") return {};
  return readMapping(text, `The kubelet's configuration "${path}"`, {
    hint: `correct it: the kubelet does not start with it either. kubeadm writes a new one: RUNBOOK-MORE "If the kubelet's folder is gone, too"`,
    shape: SHAPE,
  });
}

function noNode(file: string): Refused {
  return new Refused(`This is no node that kubeadm set up: "${file}" is missing`, {
    hint: `run the script on a node of a kubeadm cluster. If this is a worker that has lost this file, it must join again: kubeadm join. If all control plane nodes are lost, and this machine is new: RUNBOOK-MORE "Only a snapshot is left"`,
  });
}

/** Where kubeadm's etcd has its data: only a control plane node has this folder. */
const ETCD_MEMBER = "/var/lib/etcd/member";

/** `rm -rf /etc/kubernetes /var/lib/kubelet`, or a system that was installed anew beside etcd's disk. */
function kubeletGone(file: string): Refused {
  return new Refused(
    `The kubelet's configuration is gone: "${file}" is missing, and etcd's data is here (${ETCD_MEMBER}), so this is a control plane node`,
    {
      hint: "let kubeadm write it again, out of etcd's data: ./bunw scripts/00-assess.ts --kubeadm-config >/root/kubeadm.yaml, then kubeadm init phase kubelet-start --config /root/kubeadm.yaml && systemctl stop kubelet. Then run the same line again. RUNBOOK-MORE \"If the kubelet's folder is gone, too\" has the reasons",
    },
  );
}

/**
 * Relative paths of the main file begin beside it (KubeletConfigurationPathRefs); those of a drop-in do not.
 */
function besides(config: KubeletConfiguration, folder: string): KubeletConfiguration {
  const at = (path: string) => resolve(folder, path);
  const own = ["staticPodPath", ...TLS_FILES] as const;
  const paths = Object.fromEntries(
    own.flatMap((field) => (config[field] ? [[field, at(config[field])]] : [])),
  );
  const x509 = config.authentication?.x509;
  const authentication = x509?.clientCAFile && {
    ...config.authentication,
    x509: { ...x509, clientCAFile: at(x509.clientCAFile) },
  };
  return { ...config, ...paths, ...(authentication && { authentication }) };
}

type Credentials = Pick<ReturnType<typeof readKubelet>, "clientPem" | "kubeconfig" | "keepsCertificate">;

/**
 * The kubelet's client certificate with its key: of the file that it rotates, or, where it has none, of
 * kubelet.conf. "": neither.
 */
export function clientText({ clientPem, kubeconfig, keepsCertificate }: Credentials): string {
  const rotated = readText(clientPem);
  if (rotated !== undefined && !keepsCertificate) return rotated;
  return attempt(() => inside(readKubeconfig(kubeconfig)), "") || (rotated ?? "");
}

export function inside(conf: Kubeconfig | undefined): string {
  return conf?.clientCertPem && conf.clientKeyPem ? conf.clientCertPem + conf.clientKeyPem : "";
}

// biome-ignore format: a table
const OTHERS = [
  { name: "k3s",      folder: "/var/lib/rancher/k3s",  hint: "restart it, as it renews certificates that expire soon when it starts: systemctl restart k3s (k3s-agent on agents); k3s certificate check. CAs: k3s certificate rotate-ca, https://docs.k3s.io/cli/certificate" },
  { name: "RKE2",     folder: "/var/lib/rancher/rke2", hint: "restart it, as it renews certificates that expire soon when it starts: systemctl restart rke2-server (rke2-agent on agents); rke2 certificate check. CAs: rke2 certificate rotate-ca, https://docs.rke2.io/security/certificates" },
  { name: "MicroK8s", folder: "/var/snap/microk8s",    hint: "microk8s refresh-certs -c says until when they are valid, microk8s refresh-certs --cert server.crt renews one; its files are in /var/snap/microk8s/current/certs" },
  { name: "k0s",      folder: "/var/lib/k0s",          hint: "look in /var/lib/k0s/pki for its keys, and in what k0s backup has made: k0s restore. New CAs: https://docs.k0sproject.io/stable/troubleshooting/certificate-authorities" },
  { name: "Talos",    folder: "/system/state",         hint: "look in the machine configuration for its keys: talosctl on your own machine, https://docs.siderolabs.com/talos (security, CA rotation)" },
] as const;

/** Says what this node is, where kubeadm has not set it up. */
export class OtherDistribution extends Refused {}

function refuseOtherDistribution() {
  const other = OTHERS.find(({ folder }) => exists(folder));
  if (!other) return;
  const { name, folder, hint } = other;
  throw new OtherDistribution(`This is a node of ${name} ("${folder}"), and kubeadm has not set it up`, {
    hint,
  });
}
