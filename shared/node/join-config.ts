/**
 * A kubelet of this machine was started with flags that a plain join leaves out: here they are in the words of
 * `kubeadm join --config`.
 */
import { Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { canonicalIp } from "../pki/addresses.ts";
import { minorOf } from "../pki/certs.ts";
import { veiled } from "../plain.ts";
import { yamlText } from "../yaml.ts";

/**
 * kubeadm gives these itself: from the node's name, the socket and its own release (kubeadm's
 * phases/kubelet/flags.go).
 */
const KUBEADMS = [
  "container-runtime",
  "container-runtime-endpoint",
  "pod-infra-container-image",
  "hostname-override",
  "register-with-taints",
];

/** Names and values, without the two dashes. */
type Flags = [name: string, value: string][];

/** Those that somebody has set. Errors: Fail where kubeadm-flags.env is not there. */
export function ownFlags(folder: string): Flags {
  const path = `${folder}/kubeadm-flags.env`;
  const text = readText(path);
  if (text === undefined)
    throw new Fail(`There is no "${path}": the kubelet's flags are not known any more`, {
      hint: "take the flags from a backup, or from another control plane node, if kubeadm reset was run already",
    });
  const words = /^KUBELET_KUBEADM_ARGS="?(.*?)"?$/m.exec(text)?.[1]?.split(/\s+/).filter(Boolean) ?? [];
  const flags = words.map((word): Flags[number] => {
    const [name, ...value] = word.replace(/^--?/, "").split("=");
    return [name!, value.length > 0 ? value.join("=") : "true"];
  });
  return flags.filter(([name]) => !KUBEADMS.includes(name));
}

/** Flags whose values are no secret. Of every other one, a cloud's or a label, nobody knows. */
const OPEN =
  /^(v|node-ip|hostname-override|(root|cert|log|volume-plugin|config)-dir|(container-runtime|image-service)(-endpoint)?|pod-infra-container-image|cgroup-(driver|root)|config|(bootstrap-)?kubeconfig|resolv-conf|cluster-(dns|domain)|max-pods|(system|kube)-reserved|eviction-[a-z-]+|feature-gates|fail-swap-on|rotate-(server-)?certificates|network-plugin)$/;

export function shownFlags(flags: Flags): string {
  const one = ([name, value]: Flags[number]) => `--${name}=${OPEN.test(name) ? value : veiled(value)}`;
  return flags.map(one).join(" ");
}

/** Printed by part 2 for this machine. */
export interface WhereItWas {
  host: string;
  port: number;
  /** kubeadm's version decides the format: "v1.34.4". */
  kubernetes: string;
}

/** Errors: Fail where it was not copied whole. */
export function whereItWas({ address, kubernetes }: { address: string; kubernetes: string }): WhereItWas {
  const [, host, port] = /^(.+):(\d+)$/.exec(address) ?? [];
  if (!host)
    throw new Fail(`"${address}" is no address with a port`, {
      hint: "give --address IP:PORT, as part 2 has printed it",
    });
  if (!/^v?1\.\d+/.test(kubernetes))
    throw new Fail(`"${kubernetes}" is no version of Kubernetes`, {
      hint: "give --kubernetes v1.34.4, as part 2 has printed it",
    });
  return { host: canonicalIp(host.replace(/^\[(.*)\]$/, "$1")), port: Number(port), kubernetes };
}

interface JoiningKubelet {
  name: string;
  criSocket: string;
  flags: Flags;
}

export function joinConfig(
  { name, criSocket, flags }: JoiningKubelet,
  { host, port, kubernetes }: WhereItWas,
): string {
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
