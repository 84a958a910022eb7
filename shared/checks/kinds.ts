/**
 * Every check of this kit, one row each: 00-assess and 05-verify print them, `--output json` and `--metrics` name them by their ids. An id is
 * stable: alert rules and other people's programs have it. Here are those of a node and of what they share; kinds-cluster.ts has the others.
 */
import { BACKUP, command } from "../again.ts";
import { CERTS } from "../pki/certs.ts";
import type { Kind } from "./kind.ts";
import { CLUSTER_KINDS } from "./kinds-cluster.ts";

const PART_1 = command("01-etcd");
const PART_2 = command("02-control-plane");
export const ASSESS = command("00-assess");

type CertName = (typeof CERTS)[number]["name"];

const IN_MEMORY = "a server has it in memory until it restarts";

/** By the certificate. etcd reads its files for every new connection (client/pkg/transport/listener.go), the others when they start or change. */
// biome-ignore format: a table
const CERTIFICATES: Record<CertName, Pick<Kind, "works"> & Partial<Kind>> = {
  "ca": { works: "all that has a certificate, until that ends; no node joins, no kubelet gets its next one", mend: ASSESS },
  "apiserver": { works: `${IN_MEMORY}; once it has expired, nobody reaches the API` },
  "apiserver-kubelet-client": { works: `${IN_MEMORY}; once it has expired, kubectl logs, exec and port-forward fail, and nothing else` },
  "front-proxy-ca": { works: `${IN_MEMORY}; without it only aggregated APIs fail (kubectl top, autoscalers)`, mend: ASSESS },
  "front-proxy-client": { works: `${IN_MEMORY}; once it has expired, only aggregated APIs fail (kubectl top, autoscalers)` },
  "etcd-ca": { works: "connections to etcd that are open; new ones fail when etcd or an API server restarts", mend: ASSESS },
  "etcd-server": { works: "connections to etcd that are open; each new one fails", mend: PART_1 },
  "etcd-peer": { works: "connections between etcd's members that are open; each new one fails", mend: PART_1 },
  "etcd-healthcheck-client": { severity: "weakens", works: "all: only kubeadm and people ask etcd with it", mend: PART_1 },
  "apiserver-etcd-client": { works: "the API server's open connections to etcd; without a new one the API is gone" },
};

const CERTIFICATE_KINDS = Object.fromEntries(
  CERTS.map(({ name, file }) => [
    `certificate-${name}`,
    { area: "files", what: `${file}.crt and .key`, severity: "soon", mend: PART_2, ...CERTIFICATES[name] },
  ]),
) as Record<`certificate-${CertName}`, Kind>;

const file = (name: string, row: Pick<Kind, "works"> & Partial<Kind>): Kind => ({
  ...{ area: "files", what: `/etc/kubernetes/${name}`, severity: "soon", mend: PART_2 },
  ...row,
});

// biome-ignore format: a table
const NODE_KINDS = {
  "service-account-key": file("pki/sa.key", { what: "sa.key and sa.pub", mend: ASSESS,
    works: "tokens, until the API servers and the controller-manager restart: then none is signed or accepted" }),
  "certificates": file("pki", { what: "certificates", works: "the servers, until they restart or one has expired" }),
  "kubeconfigs": file("*.conf", { what: "kubeconfigs", works: "controllers and the scheduler, until they restart" }),
  "kubeconfig-admin": file("admin.conf", { severity: "weakens", works: "all; only its users are locked out" }),
  "kubeconfig-super-admin": file("super-admin.conf", { severity: "weakens", works: "all; only its users are locked out" }),
  "kubeconfig-kubelet": file("kubelet.conf", { mend: PART_1, works: "its containers; the kubelet reaches the API until it restarts" }),
  "kubeconfig-controller-manager": file("controller-manager.conf", {
    works: "pods and Services as they are; without it no rollout, no new endpoint, and no dead node is noticed" }),
  "kubeconfig-scheduler": file("scheduler.conf", { works: "pods that run; without it no new pod gets a node" }),
  "manifest": file("manifests", { what: "manifest of …", works: "its container, until the kubelet starts or looks again" }),
  "second-manifest": file("manifests", { what: "…", severity: "weakens", works: "one of the two: nothing says which" }),
  "lost-file": file("…", { what: "…", works: "the program that has read it, until it restarts", mend: command("00-salvage") }),
  "file-mode": file("…", { what: "…", severity: "weakens", works: "all; other users of this node can read it", mend: "chmod 600 FILE" }),
  "audit-policy": file("…", { what: "…", severity: "weakens", works: "all; the audit log says who did what, and no more",
    mend: "put your own policy there: RUNBOOK Clean up" }),
  "old-service-account-key": file("…", { what: "…", severity: "weakens",
    works: "all; but tokens of the lost key are accepted, whoever has it", mend: command("04-sa-tokens retire") }),
  "rescue-folder": file("…", { what: "…", severity: "weakens", works: "all; it holds old keys or Secrets", mend: "RUNBOOK Clean up" }),
  "backup": file("backup", { what: "backup", severity: "weakens",
    works: "all; if the keys are lost once more, every node joins anew and every pod restarts",
    mend: `${BACKUP}, and keep the file away from this machine` }),
  "expiry-next": file("…", { what: "what ends in the next 90 days", works: "all, until that day", mend: "RUNBOOK What expires soon" }),
  "expiry-certificate": file("…", { what: "…", warning: "soon", works: "all, until that day",
    mend: "kubeadm certs renew all, then restart the servers: RUNBOOK What expires soon" }),
  "expiry-kubelet": file("…", { what: "…", warning: "soon", works: "all, until that day; this kubelet should have a newer one by now",
    mend: "systemctl restart kubelet; rotateCertificates: true in its configuration? RUNBOOK What expires soon" }),
  "expiry-ca": file("…", { what: "…", warning: "soon", works: "all, until that day: then all that it has signed ends with it",
    mend: "RUNBOOK What expires soon" }),
  "clock": { area: "node", what: "clock", severity: "outage", works: "what compares no dates",
    mend: "timedatectl set-ntp true, or chronyc makestep" },
  "kubelet": { area: "kubelet", what: "the kubelet", severity: "soon", mend: PART_1,
    works: "its containers; a controller-manager that runs takes them out of Services after a minute" },
  "kubelet-ca": { area: "kubelet", what: "…", severity: "soon", works: "the kubelet, until it restarts", mend: ASSESS },
  "kubelet-client-certificate": { area: "kubelet", what: "…", severity: "soon", mend: ASSESS,
    works: "its containers; once it has expired, the node becomes NotReady within a minute, and its pods are replaced after five" },
  "kubelet-serving-certificate": { area: "kubelet", what: "…", severity: "weakens", mend: command("03-workers close"),
    works: "pods; kubectl logs and exec fail on this node, and kubectl top" },
  "kubelet-conf": { area: "kubelet", what: "…", severity: "soon", mend: ASSESS, works: "its containers; without it the kubelet does not reach the API after its next start" },
  "bootstrap-kubelet-conf": { area: "kubelet", what: "…", severity: "weakens", mend: "rm …",
    works: "all; but its token lets a machine join, until it ends" },
  "cni-kubeconfig": { area: "node", what: "…", severity: "outage", mend: `after part 3: ${command("04-sa-tokens --only-system")}`,
    works: "pods that run, and those on the host's network. No other new pod starts on this node, and none ends" },
  "containers": { area: "node", what: "containers", severity: "note", works: "all; the container runtime was not asked",
    mend: "crictl ps" },
  "stopped-process": { area: "node", what: "processes of pods", severity: "outage", mend: "kill -CONT PID",
    works: "all but what they do; a probe may not see it" },
  "etcd-data": { area: "etcd", what: "data on this control plane node", severity: "outage", mend: "RUNBOOK If a member has no data",
    works: "containers as they are, and etcd where most members run" },
  "etcd-facts": { area: "etcd", what: "facts in etcd's data", severity: "weakens", mend: ASSESS,
    works: "what runs; the repair cannot begin without these facts" },
  "etcd-room": { area: "etcd", what: "room in etcd's database", severity: "outage", mend: "RUNBOOK If etcd's database is full",
    works: "what reads; no Lease is renewed, and no object changes" },
  "etcd-unit": { area: "etcd", what: "etcd.service", severity: "outage", mend: "systemctl start etcd; journalctl -u etcd -n 50",
    works: "containers as they are, and etcd where most members run" },
  "etcd-unit-file": { area: "etcd", what: "…", severity: "soon", mend: "RUNBOOK If etcd is a unit of this node",
    works: "connections to etcd that are open; new ones fail" },
  "release": { area: "node", what: "release", severity: "note", works: "all; the repair of such a release is not rehearsed",
    mend: "--dry-run of each part first" },
  "unproved-mirror-pod": { area: "files", what: "…", severity: "note", works: "all: it is not put to use",
    mend: "kubectl --kubeconfig /etc/kubernetes/admin.conf get pods -A: who made it?" },
} satisfies Record<string, Kind>;

/** Before every other: nobody starts that kubelet. */
// biome-ignore format: a table
const KUBELET_START: Kind = { area: "kubelet", what: "the kubelet's start", severity: "outage", mend: "RUNBOOK A kubelet without its files",
  works: "this node's containers, until its kubelet starts: then all of them end" };

export const KINDS = { "kubelet-start": KUBELET_START, ...CERTIFICATE_KINDS, ...NODE_KINDS, ...CLUSTER_KINDS };

export type CheckId = keyof typeof KINDS;

/** A finding's check, by the name of its certificate, key or kubeconfig. */
export function checkIdOf(name: string): CheckId {
  const ids = [`certificate-${name}`, `kubeconfig-${name}`, ...(name === "sa" ? ["service-account-key"] : [])];
  const id = ids.find((one) => one in KINDS);
  if (!id) throw new Error(`no check is called ${ids.join(" or ")}`);
  return id as CheckId;
}
