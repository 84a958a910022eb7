/** What a kubelet of this machine was started with, in the words of `kubeadm join --config`: a plain join leaves all of it out. */
import { Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { canonicalIp } from "../pki/addresses.ts";
import { minorOf } from "../pki/certs.ts";
import { yamlText } from "../yaml.ts";
import { KUBELET_DIR } from "./kubelet-config.ts";

/** root's own; kubeadm reset does not empty it. */
export const SAVED = "/root/kube-pki-repair-kubelet";
export const JOIN_CONFIG = `${SAVED}/join.yaml`;

export const FLAGS_FILE = `${KUBELET_DIR}/kubeadm-flags.env`;

/** kubeadm gives these itself: from the node's name, the socket and its own release (kubeadm's phases/kubelet/flags.go). */
const KUBEADMS = [
  "container-runtime",
  "container-runtime-endpoint",
  "pod-infra-container-image",
  "hostname-override",
  "register-with-taints",
];

/** Names and values, without the two dashes. */
export type Flags = [name: string, value: string][];

/** The flags in kubeadm-flags.env that somebody has set. Errors: Fail where the file is not there. */
export function ownFlags(): Flags {
  const text = readText(FLAGS_FILE);
  if (text === undefined)
    throw new Fail(`There is no "${FLAGS_FILE}": the kubelet's flags are not known any more`, {
      hint: "was kubeadm reset run already? Then take the flags from a backup, or from another control plane node",
    });
  const words = /^KUBELET_KUBEADM_ARGS="?(.*?)"?$/m.exec(text)?.[1]?.split(/\s+/).filter(Boolean) ?? [];
  const flags = words.map((word): Flags[number] => {
    const [name, ...value] = word.replace(/^--?/, "").split("=");
    return [name!, value.length > 0 ? value.join("=") : "true"];
  });
  return flags.filter(([name]) => !KUBEADMS.includes(name));
}

/** What part 2 has printed for this machine. */
export interface WhereItWas {
  /** Of its API server. */
  host: string;
  port: number;
  /** kubeadm's version decides the format: "v1.34.4". */
  kubernetes: string;
}

/** Errors: Fail where it was not copied whole. */
export function whereItWas({ address, kubernetes }: { address: string; kubernetes: string }): WhereItWas {
  const [, host, port] = /^(.+):(\d+)$/.exec(address) ?? [];
  if (!host) throw new Fail(`"${address}" is no address with a port`, { hint: "--address IP:PORT, as part 2 has printed it" });
  if (!/^v?1\.\d+/.test(kubernetes))
    throw new Fail(`"${kubernetes}" is no version of Kubernetes`, { hint: "--kubernetes v1.34.4, as part 2 has printed it" });
  return { host: canonicalIp(host.replace(/^\[(.*)\]$/, "$1")), port: Number(port), kubernetes };
}

/** What a JoinConfiguration says of a machine. */
export interface JoiningKubelet {
  /** Of the Node. */
  name: string;
  criSocket: string;
  flags: Flags;
}

/** kubeadm's JoinConfiguration for this machine. */
export function joinConfig({ name, criSocket, flags }: JoiningKubelet, { host, port, kubernetes }: WhereItWas): string {
  const isList = minorOf(kubernetes) >= 31;
  return yamlText({
    apiVersion: `kubeadm.k8s.io/${isList ? "v1beta4" : "v1beta3"}`,
    kind: "JoinConfiguration",
    discovery: { file: { kubeConfigPath: "/etc/kubernetes/admin.conf" } },
    controlPlane: { localAPIEndpoint: { advertiseAddress: host, bindPort: port } },
    nodeRegistration: {
      name,
      criSocket,
      kubeletExtraArgs: isList ? flags.map(([name, value]) => ({ name, value })) : Object.fromEntries(flags),
    },
  });
}
