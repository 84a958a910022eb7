/**
 * Objects in which the cluster keeps its CAs, and the bindings that an administrator needs. Nobody else rewrites them
 * when a CA changes.
 */
import { Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { certInfo, certificatesIn, infoOf, knowsCa, trustedKeys, trustsCa } from "../pki/certificate.ts";
import { type ClusterFacts, certPath, KUBELET_CLIENT_BINDING } from "../pki/certs.ts";
import { caText, clusterCa } from "../pki/examine.ts";
import { caIn, clusterServer, readKubeconfig, serverIn, withCa } from "../pki/kubeconfigs.ts";
import { say } from "../run.ts";
import { yamlText } from "../yaml.ts";
import { ADMIN_CONF, superUser } from "./admin-api.ts";
import { ApiError, unlessRefused } from "./api-error.ts";
import type { KubeApi } from "./kube-api.ts";
import type { KubeObject } from "./kube-object.ts";

export const RBAC = "/apis/rbac.authorization.k8s.io/v1";

interface Binding {
  name: string;
  role: string;
  subject: { kind: "Group" | "User"; name: string };
}

/** Since 1.29. */
const CLUSTER_ADMINS: Binding = {
  name: "kubeadm:cluster-admins",
  role: "cluster-admin",
  subject: { kind: "Group", name: "kubeadm:cluster-admins" },
};

/**
 * The API server needs it to reach kubelets if its certificate has no group; upgrades of kubeadm forgot it
 * (kubernetes/kubeadm#3310).
 */
const KUBELET_CLIENT: Binding = {
  name: KUBELET_CLIENT_BINDING,
  role: "system:kubelet-api-admin",
  subject: { kind: "User", name: "kube-apiserver-kubelet-client" },
};

/**
 * Since 1.29 admin.conf's group gets its rights from a binding; if that is gone, it is made by `superUser`.
 */
export async function ensureAdmins({ facts }: { facts: ClusterFacts }, api: KubeApi) {
  const rows: Binding[] = [];
  // where its group is another one, somebody may have taken these rights away on purpose
  if (infoOf(readKubeconfig(ADMIN_CONF)?.clientCertPem)?.o.includes(CLUSTER_ADMINS.name))
    rows.push(CLUSTER_ADMINS);
  const kubeletClient = certPath("apiserver-kubelet-client", facts.certificatesDir);
  if (infoOf(readText(kubeletClient))?.o.length === 0) rows.push(KUBELET_CLIENT);
  try {
    await ensureBindings(api, rows);
  } catch (err) {
    if (!(err instanceof ApiError && err.status === 403)) throw err;
    say("admin.conf: its group has no rights yet, its binding is made with a certificate of system:masters");
    const own = await superUser(facts, api.server);
    if (!own)
      throw new Fail(
        "admin.conf has no rights, and ca.key is not here to sign a certificate for a user that has",
        { hint: "put ca.key here for the time of the repair, then run the same line again" },
      );
    await ensureBindings(own, rows);
  }
}

const CLUSTER_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

/** The kubeconfig in it, without a user; undefined: it is not there. */
export async function clusterInfo(api: KubeApi): Promise<string | undefined> {
  const info = await api.configMap("kube-public", "cluster-info");
  return info && (info.kubeconfig ?? "");
}

/**
 * kube-public/cluster-info: a joining node reads it first. Its server stays what it is, and so does all but
 * the CA. The controller-manager (bootstrapsigner) makes its signatures again.
 */
export async function publishClusterInfo(cp: { facts: ClusterFacts }, api: KubeApi): Promise<void> {
  const ca = clusterCa(cp.facts.certificatesDir);
  await changeClusterInfo(api, (before) =>
    serverIn(before) !== undefined && trustsCa(caIn(before), ca)
      ? before
      : (withCa(before, ca) ?? clusterInfoText(clusterServer(cp.facts), ca)),
  );
}

/** The same by any change of its kubeconfig's text. */
export async function changeClusterInfo(api: KubeApi, change: (before: string) => string): Promise<void> {
  const now = await api.find<KubeObject & { data?: Record<string, string> }>(CLUSTER_INFO);
  // who has removed it lets nobody join, as hardening guides advise
  if (!now)
    return say(
      "cluster-info is missing, and this script does not make it. If kubeadm join needs it: kubeadm init phase bootstrap-token makes it",
    );
  const before = now.data?.kubeconfig ?? "";
  const kubeconfig = change(before);
  if (kubeconfig === before) return say("unchanged cluster-info");
  // Several control plane nodes may be repaired at the same time.
  const { resourceVersion } = now.metadata;
  const metadata = { name: "cluster-info", namespace: "kube-public", resourceVersion };
  // The signatures belong to the old text: they are dropped, and the controller-manager makes new ones for
  // every token that may sign.
  const body = { apiVersion: "v1", kind: "ConfigMap", metadata, data: { kubeconfig } };
  const written = await unlessRefused([409], () => api.replace(CLUSTER_INFO, body));
  if (written === undefined) return await changeClusterInfo(api, change);
  say(`updated cluster-info: ${serverIn(kubeconfig)}, CA ${certInfo(caIn(kubeconfig) ?? "").publicKeyHash}`);
}

/** Aggregated API servers trust what is in it. */
export const AUTHENTICATION = "extension-apiserver-authentication";

/** Its keys are flags of the API server, which trust a CA of kubeadm's. */
const AGGREGATED = { "client-ca-file": "ca", "requestheader-client-ca-file": "front-proxy-ca" } as const;

type AggregatedTrust = Partial<Record<keyof typeof AGGREGATED, string | undefined>>;

interface TrustBefore {
  facts: ClusterFacts;
  cluster: { oldCaPem: string; aggregated: AggregatedTrust };
}

/**
 * kube-system/extension-apiserver-authentication: aggregated API servers trust the CAs in it. The API server
 * only adds to it, so they would trust a lost CA until it expires. Those of before go where today's is none
 * of them; all others stay.
 */
export async function cleanFrontProxy({ facts, cluster }: TrustBefore, api: KubeApi) {
  const { aggregated, oldCaPem } = cluster;
  const before = { ...aggregated, "client-ca-file": `${aggregated["client-ca-file"] ?? ""}\n${oldCaPem}` };
  const now: AggregatedTrust | undefined = await api.configMap("kube-system", AUTHENTICATION);
  if (!now) return say(`${AUTHENTICATION}: not there yet, the API server makes it`);
  const data: AggregatedTrust = {};
  for (const key of ["client-ca-file", "requestheader-client-ca-file"] as const) {
    const caPem = caText(AGGREGATED[key], facts.certificatesDir);
    const text = caPem && withoutDead(now[key] ?? "", before[key], caPem);
    if (text !== undefined) data[key] = text;
  }
  const changed = Object.keys(data);
  if (changed.length === 0) return say(`unchanged ${AUTHENTICATION}`);
  await api.patch(`/api/v1/namespaces/kube-system/configmaps/${AUTHENTICATION}`, { data });
  say(`updated ${AUTHENTICATION} with the current CA (${changed.join(", ")})`);
}

/** A bundle with the current CA in place of those of before; undefined where none of these is in it. */
function withoutDead(now: string, before: string | undefined, caPem: string): string | undefined {
  const [dead, today] = [trustedKeys(before), trustedKeys(caPem)];
  const others = certificatesIn(now).filter((pem) => trustedKeys(pem).isDisjointFrom(dead.union(today)));
  const isDead = certificatesIn(now).some((pem) => !trustedKeys(pem).isDisjointFrom(dead));
  return isDead && !knowsCa(before, caPem) ? [caPem, ...others].join("") : undefined;
}

export async function ensureBindings(api: KubeApi, rows: Binding[]) {
  for (const { name, role, subject } of rows) {
    const path = `${RBAC}/clusterrolebindings/${name}`;
    if (await api.find(path)) continue;
    const apiGroup = "rbac.authorization.k8s.io";
    const binding = {
      ...{ apiVersion: `${apiGroup}/v1`, kind: "ClusterRoleBinding", metadata: { name } },
      roleRef: { apiGroup, kind: "ClusterRole", name: role },
      subjects: [{ apiGroup, ...subject }],
    };
    const made = await unlessRefused([409], () => api.create(`${RBAC}/clusterrolebindings`, binding));
    if (made) say(`created ClusterRoleBinding ${name}`);
    else say(`unchanged ClusterRoleBinding ${name}: another node has just created it`);
  }
}

/** As kubeadm writes it: one cluster without a name, no user. */
function clusterInfoText(server: string, ca: string): string {
  const cluster = { "certificate-authority-data": Buffer.from(ca).toString("base64"), server };
  return yamlText({
    apiVersion: "v1",
    clusters: [{ cluster, name: "" }],
    contexts: null,
    "current-context": "",
    kind: "Config",
    preferences: {},
    users: null,
  });
}
