/**
 * What this node is, by what a deletion of /etc/kubernetes does not remove: the kubelet's folder and its systemd unit.
 *
 * Sources: /var/lib/kubelet/config.yaml (KubeletConfiguration) with its drop-ins, kubeadm-flags.env, pki/kubelet-client-current.pem, and kubeadm's drop-in
 * 10-kubeadm.conf, which names the kubeconfigs.
 */
import { $ } from "zx";
import { Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { isElsewhere } from "../files/root.ts";
import { infoOf } from "../pki/certificate.ts";
import { KUBELET_CLIENT_PEM } from "../pki/kubeconfigs.ts";
import { readYaml } from "../yaml.ts";
import { withDropIns } from "./kubelet-drop-ins.ts";

export type Node = Awaited<ReturnType<typeof readNode>>;

export const KUBELET_DIR = "/var/lib/kubelet";
/** kubeadm writes it on each node. */
export const KUBELET_CONFIG = `${KUBELET_DIR}/config.yaml`;
/** Where a kubelet without --root-dir keeps its pods. */
export const PODS_DIR = `${KUBELET_DIR}/pods`;
const FLAG_FILES = [`${KUBELET_DIR}/kubeadm-flags.env`, "/etc/default/kubelet", "/etc/sysconfig/kubelet"];

/** Looks at the node. Errors: Fail where kubeadm has not set up this node. */
export async function readNode() {
  const mainConfig = readKubeletConfig();
  const flags = FLAG_FILES.map((path) => readText(path) ?? "").join("\n");
  const { exitCode, stdout } = await $({ quiet: true, nothrow: true })`systemctl cat kubelet`;
  const unit = exitCode === 0 ? stdout : "";
  const hostName = (await $({ quiet: true })`uname -n`).stdout.trim();
  const rootDir = flagOf(flags, "root-dir") ?? flagOf(unit, "root-dir");
  const config = withDropIns(mainConfig, flagOf(flags, "config-dir") ?? flagOf(unit, "config-dir"));
  return {
    ...nodeName(flags, hostName),
    hostName,
    /** IP addresses of this machine, loopback and link-local left out. */
    addresses: await machineAddresses(),
    kubelet: {
      kubeconfig: flagOf(unit, "kubeconfig") ?? "/etc/kubernetes/kubelet.conf",
      bootstrapKubeconfig: flagOf(unit, "bootstrap-kubeconfig") ?? "/etc/kubernetes/bootstrap-kubelet.conf",
      /** The CA that the kubelet's own port trusts. The kubelet does not start without this file. */
      clientCaFile: config.authentication?.x509?.clientCAFile ?? "/etc/kubernetes/pki/ca.crt",
      staticPodPath: config.staticPodPath ?? "/etc/kubernetes/manifests",
      serverTlsBootstrap: config.serverTLSBootstrap ?? false,
      clientPem: KUBELET_CLIENT_PEM,
      serverPem: `${KUBELET_DIR}/pki/kubelet-server-current.pem`,
      /** What its flags and its configuration name and kubeadm did not make. It does not start without one of them. */
      files: [...ownFiles(config), ...FILE_FLAGS.flatMap((flag) => named(flag, flagOf(flags, flag) ?? flagOf(unit, flag)))],
      /** A folder for each pod on this node, named by its UID. */
      podsDir: rootDir ? `${rootDir.replace(/\/+$/, "")}/pods` : PODS_DIR,
    },
    /** The container runtime's socket, `unix:///…`. */
    runtimeEndpoint:
      config.containerRuntimeEndpoint || flagOf(flags, "container-runtime-endpoint") || "unix:///run/containerd/containerd.sock",
  };
}

/** Errors: Fail where this is not root, before anything is changed. */
export function needRoot() {
  if (process.getuid?.() !== 0 && !isElsewhere())
    throw new Fail("This script changes the node and needs root", { hint: "run it with sudo -i, or as root" });
}

/** Whether the kubelet's unit is active. */
export async function kubeletActive(): Promise<boolean> {
  return (await $({ quiet: true, nothrow: true })`systemctl is-active --quiet kubelet`).exitCode === 0;
}

const FILE_FLAGS = ["config-dir", "image-credential-provider-config", "image-credential-provider-bin-dir", "cloud-config"];

function ownFiles({ tlsCertFile, tlsPrivateKeyFile }: KubeletConfiguration) {
  return [...named("tlsCertFile", tlsCertFile), ...named("tlsPrivateKeyFile", tlsPrivateKeyFile)];
}

function named(by: string, path: string | undefined): { path: string; flag: string }[] {
  return path?.startsWith("/") ? [{ path, flag: by.startsWith("tls") ? by : `--${by}` }] : [];
}

interface KubeletConfiguration {
  tlsCertFile?: string;
  tlsPrivateKeyFile?: string;
  authentication?: { x509?: { clientCAFile?: string } };
  staticPodPath?: string;
  serverTLSBootstrap?: boolean;
  containerRuntimeEndpoint?: string;
}

function readKubeletConfig(): KubeletConfiguration {
  const text = readText(KUBELET_CONFIG);
  if (text === undefined) {
    throw new Fail(`This is no node that kubeadm set up: "${KUBELET_CONFIG}" is missing`, {
      hint: "run the script on a node of a kubeadm cluster; a worker without this file must join again: kubeadm join",
    });
  }
  const config = (readYaml(text) ?? {}) as KubeletConfiguration;
  // since 1.34, kubeadm writes the runtime's socket into a separate file (gate NodeLocalCRISocket)
  const instance = readText(`${KUBELET_DIR}/instance-config.yaml`);
  return instance === undefined ? config : { ...config, ...(readYaml(instance) as KubeletConfiguration) };
}

/** The value of `--name=value` or `--name value` in a text of flags. */
function flagOf(text: string, name: string): string | undefined {
  return new RegExp(`--${name}[= ]"?([^\\s"]+)`).exec(text)?.[1];
}

/** The name of its Node object, and where the name comes from. The certificate has the exact name, even where the host name differs: the API server knew this kubelet by it. */
function nodeName(flags: string, hostName: string): { name: string; nameFrom: string } {
  const cn = infoOf(readText(KUBELET_CLIENT_PEM))?.cn;
  if (cn?.startsWith("system:node:")) return { name: cn.slice("system:node:".length), nameFrom: "the kubelet's client certificate" };
  const override = flagOf(flags, "hostname-override");
  if (override) return { name: override.toLowerCase(), nameFrom: "the kubelet's --hostname-override" };
  return { name: hostName.toLowerCase(), nameFrom: "the host name" };
}

/** From `ip`: kubeadm itself needs this program. */
async function machineAddresses(): Promise<string[]> {
  const output = await $({ quiet: true, nothrow: true })`ip -j addr`;
  if (output.exitCode !== 0) {
    throw new Fail(`Cannot read this machine's addresses: ip -j addr exited ${output.exitCode}`, {
      hint: "install the package iproute2: kubeadm and the kubelet need it as well",
    });
  }
  const links = JSON.parse(output.stdout) as { addr_info?: { scope: string; local: string }[] }[];
  const addresses = links.flatMap((link) => link.addr_info ?? []);
  return addresses.filter(({ scope }) => scope !== "host" && scope !== "link").map(({ local }) => local);
}
