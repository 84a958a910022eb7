/**
 * Every check of this kit, one row each, for 00-assess and 05-verify. An id never changes: `--output json`, `--metrics`,
 * alert rules and other people's programs use it.
 */
import { BACKUP, command } from "../again.ts";
import { RENEW_IN_TIME } from "../etcd-location/renew-by-hand.ts";
import { CERTS } from "../pki/certs.ts";
import type { KubeconfigName } from "../pki/kubeconfigs.ts";
import { KUBECTL } from "../shell-line.ts";

export const PART_1 = command("01-etcd");
export const PART_2 = command("02-control-plane");
const PART_4 = command("04-sa-tokens");
const CLOSE = command("03-workers close");
const RENEW_CA = command("renew-ca");
const DESCRIBE = `${KUBECTL} describe node …; journalctl -u kubelet -n 50 there`;
export const ASSESS = command("00-assess");

type CertName = (typeof CERTS)[number]["name"];

const IN_MEMORY = "a server has it in memory until it restarts";

/**
 * One row for each certificate. etcd reads its files for every new connection (client/pkg/transport/listener.go), the
 * others at their start, or when it changes.
 */
// biome-ignore format: a table
const CERTIFICATES: Record<CertName, Pick<Kind, "works"> & Partial<Kind>> = {
  "ca": { works: "all that has a certificate, until that expires; no node joins, no kubelet gets its next one", mend: ASSESS, expired: "connections that are open; nobody trusts what this CA has signed" },
  "apiserver": { works: `${IN_MEMORY}; once it has expired, nobody reaches the API`, expired: "connections that are open; nobody who checks certificates reaches this API server" },
  "apiserver-kubelet-client": { works: `${IN_MEMORY}; once it has expired, kubectl logs, exec and port-forward fail, and nothing else`, expired: "all but kubectl logs, exec and port-forward" },
  "front-proxy-ca": { works: `${IN_MEMORY}; without it only aggregated APIs fail (kubectl top, autoscalers)`, mend: ASSESS, expired: "all but aggregated APIs (kubectl top, autoscalers)" },
  "front-proxy-client": { works: `${IN_MEMORY}; once it has expired, only aggregated APIs fail (kubectl top, autoscalers)`, expired: "all but aggregated APIs (kubectl top, autoscalers)" },
  "etcd-ca": { works: "connections to etcd that are open; new ones fail when etcd or an API server restarts", mend: ASSESS },
  "etcd-server": { works: "connections to etcd that are open; each new one fails", mend: PART_1 },
  "etcd-peer": { works: "connections between etcd's members that are open; each new one fails", mend: PART_1 },
  "etcd-healthcheck-client": { severity: "weakens", works: "all: only kubeadm and people ask etcd with it", mend: PART_1 },
  "apiserver-etcd-client": { works: "the API server's open connections to etcd; without a new one the API is gone", expired: "the API server's open connections to etcd; each new one fails" },
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

/** One row for each kubeconfig. */
// biome-ignore format: a table
const KUBECONFIG_ROWS: Record<KubeconfigName, Kind> = {
  "admin": file("admin.conf", { severity: "weakens", works: "all; only its users are locked out" }),
  "super-admin": file("super-admin.conf", { severity: "weakens", works: "all; only its users are locked out" }),
  "kubelet": file("kubelet.conf", { mend: PART_1, works: "its containers; the kubelet reaches the API until it restarts" }),
  "controller-manager": file("controller-manager.conf", {
    works: "pods and Services as they are; without it no rollout, no new endpoint, and no dead node is noticed" }),
  "scheduler": file("scheduler.conf", { works: "pods that run; without it no new pod gets a node" }),
};

const KUBECONFIG_KINDS = Object.fromEntries(
  Object.entries(KUBECONFIG_ROWS).map(([name, kind]) => [`kubeconfig-${name}`, kind]),
) as Record<`kubeconfig-${KubeconfigName}`, Kind>;

// biome-ignore format: a table
const NODE_KINDS = {
  "service-account-key": file("pki/sa.key", { what: "sa.key and sa.pub", mend: ASSESS,
    works: "tokens, until the API servers and the controller-manager restart: then none is signed or accepted" }),
  "certificates": file("pki", { what: "certificates", works: "the servers, until they restart or one has expired" }),
  "kubeconfigs": file("*.conf", { what: "kubeconfigs", works: "controllers and the scheduler, until they restart" }),
  ...KUBECONFIG_KINDS,
  "manifest": file("manifests", { what: "manifest of …", works: "its container, until the kubelet starts or looks again" }),
  "second-manifest": file("manifests", { what: "…", severity: "weakens", works: "one of the two: nothing says which" }),
  "lost-file": file("…", { what: "…", works: "the program that has read it, until it restarts", mend: command("00-salvage") }),
  "file-mode": file("…", { what: "…", severity: "weakens", works: "all; other users of this node can read it", mend: "chmod 600 FILE" }),
  "audit-policy": file("…", { what: "…", severity: "weakens", works: "all; the audit log says who did what, and no more",
    mend: 'put your own policy there: RUNBOOK "Report and clean up"' }),
  "given-up": file("…", { what: "… is given up", severity: "weakens", works: "all but what the flag was for",
    mend: `put the file back, then: ${command("02-control-plane")} puts the flag back, too` }),
  "old-service-account-key": file("…", { what: "…", severity: "weakens",
    works: "all; but whoever has the lost key can still make valid tokens", mend: command("04-sa-tokens retire") }),
  "rescue-folder": file("…", { what: "…", severity: "weakens", works: "all; but who becomes root here reads old keys or Secrets in it", mend: 'see RUNBOOK "Report and clean up"' }),
  "backup": file("backup", { what: "backup", severity: "weakens",
    works: "all; if the keys are lost once more, every node joins again and every pod restarts",
    mend: `${BACKUP}, and keep the file away from this machine` }),
  "usual-folder": { area: "node", what: "…", severity: "weakens", mend: PART_1,
    works: "all, until kubeadm renews or joins with these keys: then nothing trusts what it makes" },
  "named-key": file("…", { what: "…", severity: "soon", works: "all, until who reads it starts again or looks again", mend: ASSESS }),
  "roots-kubeconfig": file("…", { what: "…", severity: "weakens",
    works: "all; but kubectl takes this file where KUBECONFIG names no other, and is Unauthorized",
    mend: "cp /etc/kubernetes/admin.conf /root/.kube/config" }),
  "expiry-next": file("…", { what: "what expires in the next 90 days", works: "all, until that day", mend: 'see RUNBOOK-MORE "What expires soon"' }),
  "expiry-certificate": file("…", { what: "…", warning: "soon", works: "all, until that day",
    mend: 'kubeadm certs renew all, then restart the servers: RUNBOOK-MORE "What expires soon"' }),
  "expiry-etcd": file("…", { what: "…", warning: "soon", works: "all, until that day: then no API server reaches etcd",
    mend: RENEW_IN_TIME }),
  "expiry-kubelet": file("…", { what: "…", warning: "soon", works: "all, until that day; this kubelet should have a newer one by now",
    mend: 'systemctl restart kubelet; rotateCertificates: true in its configuration? RUNBOOK-MORE "What expires soon"' }),
  "expiry-ca": file("…", { what: "…", warning: "soon", works: "all, until that day: then all that it has signed expires with it",
    mend: `${RENEW_CA}: RUNBOOK-MORE "A CA that expires"` }),
  "ca-file": file("…", { what: "…", warning: "soon", works: "all, until that day: then who reads it trusts no server", mend: RENEW_CA }),
  "ca-held": { area: "node", what: "the current CA in the memory of …", severity: "outage", warning: "soon", mend: RENEW_CA,
    works: "connections that are open; no new one once that certificate has expired, so nothing outlives a restart" },
  "user-held": { area: "node", what: "the client certificate in the memory of …", severity: "soon", warning: "soon",
    works: "all, until the certificate that it has read expires: then the API refuses it", mend: "crictl ps --name …, then crictl stop ID: the kubelet starts it again" },
  "clock": { area: "node", what: "clock", severity: "outage", works: "what compares no dates",
    mend: "timedatectl set-ntp true, or chronyc makestep" },
  "kubelet": { area: "kubelet", what: "the kubelet", severity: "soon", mend: PART_1,
    works: "its containers; a controller-manager that runs takes them out of Services after a minute" },
  "kubelet-name": { area: "kubelet", what: "the kubelet's name", severity: "soon", warning: "soon", mend: command("move"),
    works: "its containers, and the kubelet until it restarts: then it asks for another Node, and is refused" },
  "kubelet-ca": { area: "kubelet", what: "…", severity: "soon", works: "the kubelet, until it restarts", mend: ASSESS },
  "kubelet-client-certificate": { area: "kubelet", what: "…", severity: "soon", mend: ASSESS,
    works: "its containers; once it has expired, the node becomes NotReady within a minute, and its pods are replaced after five",
    expired: "its containers; the API refuses this kubelet, so the node is NotReady, and its pods are replaced after five minutes" },
  "kubelet-serving-certificate": { area: "kubelet", what: "…", severity: "weakens", mend: command("03-workers close"),
    works: "pods; kubectl logs and exec fail on this node, and kubectl top" },
  "kubelet-conf": { area: "kubelet", what: "…", severity: "soon", mend: ASSESS, works: "its containers; without it the kubelet does not reach the API after its next start" },
  "bootstrap-kubelet-conf": { area: "kubelet", what: "…", severity: "weakens", mend: "rm …",
    works: "all; but its token lets a machine join, until it expires" },
  "cni-kubeconfig": { area: "node", what: "…", severity: "outage", mend: `after part 3: ${command("04-sa-tokens --only-system")}`,
    works: "pods that run, and those on the host's network. No other new pod starts on this node, and none stops" },
  "containers": { area: "node", what: "containers", severity: "note", works: "all; the container runtime was not asked",
    mend: "crictl ps" },
  "stopped-process": { area: "node", what: "processes of pods", severity: "outage", mend: "kill -CONT PID",
    works: "all but what they do; a probe may not see it" },
  "etcd-data": { area: "etcd", what: "data on this control plane node", severity: "outage", mend: ASSESS,
    works: "containers as they are, and etcd where most members run" },
  "etcd-damage": { area: "etcd", what: "data on this control plane node", severity: "outage", mend: `see RUNBOOK-MORE "If etcd's data is damaged"`,
    works: "containers as they are, and etcd where most members run; one that runs on this data may not start again" },
  "etcd-facts": { area: "etcd", what: "facts in etcd's data", severity: "weakens", mend: ASSESS,
    works: "what runs; the repair cannot begin without these facts" },
  "etcd-room": { area: "etcd", what: "room in etcd's database", severity: "outage", mend: `see RUNBOOK-MORE "If etcd's database is full"`,
    works: "what reads; no Lease is renewed, and no object changes" },
  "etcd-unit": { area: "etcd", what: "etcd.service", severity: "outage", mend: "systemctl start etcd; journalctl -u etcd -n 50",
    works: "containers as they are, and etcd where most members run" },
  "etcd-unit-file": { area: "etcd", what: "…", severity: "soon", mend: 'see RUNBOOK-MORE "If etcd is a unit of this node"',
    works: "connections to etcd that are open; new ones fail" },
  "release": { area: "node", what: "release", severity: "note", works: "all; the repair of such a release is not rehearsed",
    mend: "--dry-run of each part first" },
  "unproved-mirror-pod": { area: "files", what: "…", severity: "note", works: "all: it is not put to use",
    mend: `${KUBECTL} get pods -A: who made it?` },
} satisfies Record<string, Kind>;

const AS_THEY_ARE = "pods and Services as they are; nothing changes any more";
const DEAD_NODE = "its pods, which are out of Services after a minute and replaced after five";
const NO_LOGS = "all but kubectl logs, exec and port-forward there";

/** 05-verify asks the API and etcd. */
// biome-ignore format: a table
const CLUSTER_KINDS = {
  "etcd-answers": { area: "etcd", what: "answers with the current certificates", severity: "outage", works: AS_THEY_ARE, mend: command("01-etcd") },
  "etcd-members": { area: "etcd", what: "members", severity: "weakens", mend: ASSESS,
    works: "all, as long as more than half of the members answer" },
  "admin-conf": { area: "API", what: "admin.conf", severity: "weakens", works: "all; only its users are locked out", mend: PART_2 },
  "api-ready": { area: "API", what: "…", severity: "outage", works: AS_THEY_ARE,
    mend: "crictl ps -a --name kube-apiserver, then crictl logs ID: it says why the API server does not answer" },
  "api-certificate": { area: "API", what: "serves the certificate that is on disk", severity: "soon", mend: PART_2,
    works: "clients that trust the CA of the one that it shows, until that expires" },
  "api-token": { area: "API", what: "a new token is signed and accepted", severity: "outage", mend: PART_2,
    works: "pods with a token that is still accepted, an hour at most" },
  "controller-manager": { area: "API", what: "controller-manager", severity: "weakens", mend: CLOSE,
    works: "all but this: no dead node is noticed, and its pods are not replaced" },
  "controller-manager-leads": { area: "API", what: "a kube-controller-manager leads", severity: "outage", works: AS_THEY_ARE,
    mend: `${PART_2} on each control plane node restarts servers that still use an old kubeconfig` },
  "scheduler-leads": { area: "API", what: "a kube-scheduler leads", severity: "outage", works: "pods that run; no new pod gets a node",
    mend: `${PART_2} on each control plane node restarts servers that still use an old kubeconfig` },
  "tokens-both-ways": { area: "control plane nodes", what: "… accepts a token that this node signed, and the other way round",
    severity: "outage", works: "calls that meet the API server which knows their key", mend: command("hand-over pack") },
  "cluster-read": { area: "cluster", what: "can be looked at", severity: "outage", works: AS_THEY_ARE, mend: ASSESS },
  "endpoint": { area: "cluster", what: "endpoint", severity: "note", works: "all that reaches the API now", mend: 'see RUNBOOK-MORE "If the endpoint is another one"' },
  "root-ca": { area: "cluster", what: "kube-root-ca.crt in every namespace", severity: "soon", mend: `${PART_4} waits for it`,
    works: "pods that have started; new ones there trust no API server" },
  "trust-bundle": { area: "cluster", what: "ClusterTrustBundle …*", severity: "soon", mend: `${PART_4} waits for it`,
    works: "all but pods that know the API server by this bundle" },
  "cluster-info": { area: "cluster", what: "cluster-info", severity: "weakens", works: "all but kubeadm join", mend: PART_2 },
  "token-secret": { area: "tokens", what: "…", severity: "outage", works: "all but what uses this Secret", mend: `${PART_4} renews it` },
  "token-secrets": { area: "tokens", what: "Secrets can be read", severity: "outage", mend: ASSESS,
    works: "pods that have their Secrets already; the encryption key may be another" },
  "node-role": { area: "nodes", what: "…", severity: "weakens", works: "all; nothing of it is believed, and nothing is carried there",
    mend: 'see who gave it the label: RUNBOOK-MORE "If a Node only says that it is a control plane node"' },
  "node-gone": { area: "nodes", what: "…", severity: "note", works: "all: the Node was deleted after the last repair began",
    mend: `${KUBECTL} get nodes` },
  "node-away": { area: "nodes", what: "… is away", severity: "note", works: "all but what runs there; nobody waits for it",
    mend: `when … is on again: ${command("05-verify")} here prints its lines. Lost for good: ${command("02-control-plane")} --lost …` },
  "node-lease": { area: "nodes", what: "… renews its Lease", severity: "outage", works: DEAD_NODE,
    mend: `does its kubelet run? If its certificate has expired: ${command("03-workers open")}` },
  "node-ready": { area: "nodes", what: "… is Ready", severity: "outage", works: DEAD_NODE, mend: DESCRIBE },
  "node-serving-certificate": { area: "nodes", what: "… serves with a certificate of the CA", severity: "weakens", works: NO_LOGS,
    mend: `${CLOSE} approves its requests` },
  "node-reached": { area: "nodes", what: "… answers kubectl logs and exec", severity: "weakens", works: NO_LOGS, mend: DESCRIBE },
  "node-returned": { area: "nodes", what: "…", severity: "weakens", mend: "the commands that it names",
    works: "all that needs no old label, taint or hand edit" },
  "pods-ready": { area: "pods", what: "Ready", severity: "note", works: "the other pods of the same owners",
    mend: `${KUBECTL} get pods -A` },
  "pods-fresh": { area: "pods", what: "older than the current CA or key", severity: "soon", warning: "soon", mend: `${PART_4} restarts them`,
    works: "pods that never call the API, and pods that read their CA and token again" },
  "pods-renewed": { area: "pods", what: "started after they could see the renewed CA", severity: "soon", warning: "soon", works: "all, until that day",
    mend: `most restart by themselves until then; others: ${KUBECTL} rollout restart` },
  "pods-skipped": { area: "pods", what: "left as they are by --skip", severity: "weakens", mend: `${PART_4}, without --skip`,
    works: "pods that never call the API, and pods that read their CA and token again" },
} satisfies Record<string, Kind>;

/** Printed before all others: nobody starts that kubelet. */
// biome-ignore format: a table
const KUBELET_START: Kind = { area: "kubelet", what: "the kubelet's start", severity: "soon", mend: 'see RUNBOOK-MORE "A kubelet without its files"',
  works: "this node's containers run on; all of them stop if its kubelet starts without its file" };

export const KINDS = {
  "kubelet-start": KUBELET_START,
  ...CERTIFICATE_KINDS,
  ...NODE_KINDS,
  ...CLUSTER_KINDS,
};

export type CheckId = keyof typeof KINDS;

/** The same for checks that ask somebody, where nobody answers: nothing is known of the file. */
export const KINDS_AWAY: Partial<Record<CheckId, Pick<Kind, "works" | "mend">>> = {
  "kubelet-conf": {
    works: "its containers; nothing changes on this node while the API does not answer",
    mend: `on a control plane node: ${command("05-verify")}`,
  },
};

/** The check id of a finding, by the name of its certificate, key or kubeconfig. */
export function checkIdOf(name: string): CheckId {
  const ids = [
    `certificate-${name}`,
    `kubeconfig-${name}`,
    ...(name === "sa" ? ["service-account-key"] : []),
  ];
  const id = ids.find((one) => one in KINDS);
  if (!id) throw new Error(`no check is called ${ids.join(" or ")}`);
  return id as CheckId;
}

/**
 * The meaning of a failed check, the worst first. `outage`: something does not work. `soon`: it works until a
 * date or a restart. `weakens` ("minor" on the screen): a spare, a protection or a tool is missing. `note`:
 * good to know.
 */
export const SEVERITIES = {
  outage: "outage now",
  soon: "outage later",
  weakens: "minor",
  note: "note",
} as const;

export type Severity = keyof typeof SEVERITIES;

export interface Kind {
  /** The heading of 05-verify that shows it. */
  area: string;
  /** "…" stands for a node or a file. */
  what: string;
  severity: Severity;
  /** The severity of its warning; unset: `note`, or `weakens`. */
  warning?: Severity;
  /** The things that still work if it fails, and until when. */
  works: string;
  /** The same after the date of its certificate has passed; unset: as `works`. */
  expired?: string;
  /** The command that mends it, or the place in RUNBOOK.md that says how. "…" as in `what`. */
  mend: string;
}
