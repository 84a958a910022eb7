/**
 * The network plugin's program (CNI), which the container runtime starts for each pod's network. Many such
 * programs ask the API, with a kubeconfig that the plugin's agent on this node has written when it started,
 * with the CA of then. With another CA than today's no pod gets a network here, so none starts, and none
 * ends.
 */
import { list } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import { certificatesIn, infoOf, orUndefined } from "../pki/certificate.ts";
import { isServerOf, servedPem } from "../pki/served.ts";
import { trustedKeys } from "../pki/trusted-keys.ts";
import { readYaml } from "../yaml.ts";

/** Where containerd and CRI-O look, unless their own configuration says otherwise. */
const CNI_DIR = "/etc/cni/net.d";

interface Cluster {
  server?: string;
  "certificate-authority"?: string;
  "certificate-authority-data"?: string;
  "insecure-skip-tls-verify"?: boolean;
}

/**
 * Kubeconfigs that the plugin in use reads: those that the first sound configuration names, as the runtimes
 * choose it (libcni's ConfFiles: by name). What an earlier plugin has left is none of them.
 */
export function cniKubeconfigs(): string[] {
  for (const name of list(CNI_DIR).filter((one) => /\.(conf|conflist|json)$/.test(one))) {
    const conf: { type?: string; plugins?: unknown[] } | undefined = orUndefined(() =>
      JSON.parse(smallText(`${CNI_DIR}/${name}`) ?? ""),
    );
    if (conf?.type || conf?.plugins?.length) return [...new Set(kubeconfigsIn(conf))];
  }
  return [];
}

/**
 * Calico's and others' "kubernetes": {"kubeconfig": …}, multus' own, and those of the plugins that it calls.
 */
function kubeconfigsIn(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    key === "kubeconfig" && typeof inner === "string" && inner.startsWith("/")
      ? [inner]
      : kubeconfigsIn(inner),
  );
}

/**
 * Whether what answers at the kubeconfig's server is verified by the current CA, and not by the kubeconfig's.
 * Where nothing answers, a CA of the same name with another key says it. A set that holds the current CA, a proxy
 * with a CA of its own, and what verifies nothing are well.
 */
export async function trustsOldCa(path: string, caPem: string): Promise<boolean> {
  const cluster = clusterIn(path);
  const pem = cluster && caOf(cluster);
  if (!pem || !URL.canParse(cluster.server ?? "") || cluster["insecure-skip-tls-verify"]) return false;
  const [own, today] = [trustedKeys(pem), trustedKeys(caPem)];
  if (own.size === 0 || today.size === 0 || !own.isDisjointFrom(today)) return false;
  const { hostname, port } = new URL(cluster.server!);
  const host = hostname.replace(/^\[|\]$/g, "");
  const [served] = await Promise.allSettled([servedPem(host, Number(port || 443))]);
  if (served.status === "rejected") return !namesIn(pem).isDisjointFrom(namesIn(caPem));
  return isServerOf(served.value, host, caPem) && !isServerOf(served.value, host, pem);
}

function clusterIn(path: string): Cluster | undefined {
  const config = orUndefined(() => readYaml(smallText(path) ?? "")) as
    | { clusters?: { cluster?: Cluster }[] }
    | undefined;
  return config?.clusters?.[0]?.cluster;
}

function caOf(cluster: Cluster): string | undefined {
  const { "certificate-authority": file, "certificate-authority-data": data } = cluster;
  return data ? Buffer.from(data, "base64").toString() : file && orUndefined(() => smallText(file));
}

function namesIn(pem: string): Set<string> {
  return new Set(certificatesIn(pem).flatMap((one) => infoOf(one)?.subject ?? []));
}
