/** The checks of servers and of the cluster: 05-verify asks the API and etcd. See kinds.ts. */
import { command } from "../again.ts";
import type { Kind } from "./kind.ts";

const PART_2 = command("02-control-plane");
const PART_4 = command("04-sa-tokens");
const CLOSE = command("03-workers close");
const DESCRIBE = "kubectl --kubeconfig /etc/kubernetes/admin.conf describe node …; journalctl -u kubelet -n 50 there";
const ASSESS_THERE = command("00-assess");

const AS_THEY_ARE = "pods and Services as they are; nothing changes any more";
const DEAD_NODE = "its pods, which are out of Services after a minute and replaced after five";
const NO_LOGS = "all but kubectl logs, exec and port-forward there";

// biome-ignore format: a table
export const CLUSTER_KINDS = {
  "etcd-answers": { area: "etcd", what: "answers with today's certificates", severity: "outage", works: AS_THEY_ARE, mend: command("01-etcd") },
  "etcd-members": { area: "etcd", what: "members", severity: "weakens", mend: ASSESS_THERE,
    works: "all, as long as more than half of the members answer" },
  "admin-conf": { area: "API", what: "admin.conf", severity: "weakens", works: "all; only its users are locked out", mend: PART_2 },
  "api-ready": { area: "API", what: "…", severity: "outage", works: AS_THEY_ARE, mend: ASSESS_THERE },
  "api-certificate": { area: "API", what: "serves the certificate that is on disk", severity: "soon", mend: PART_2,
    works: "clients that trust the CA of the one that it shows, until that ends" },
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
  "cluster-read": { area: "cluster", what: "can be looked at", severity: "outage", works: AS_THEY_ARE, mend: ASSESS_THERE },
  "endpoint": { area: "cluster", what: "endpoint", severity: "note", works: "all that reaches the API now", mend: "RUNBOOK If the endpoint is another one" },
  "root-ca": { area: "cluster", what: "kube-root-ca.crt in every namespace", severity: "soon", mend: `${PART_4} waits for it`,
    works: "pods that have started; new ones there trust no API server" },
  "trust-bundle": { area: "cluster", what: "ClusterTrustBundle …*", severity: "soon", mend: `${PART_4} waits for it`,
    works: "all but pods that know the API server by this bundle" },
  "cluster-info": { area: "cluster", what: "cluster-info", severity: "weakens", works: "all but kubeadm join", mend: PART_2 },
  "token-secret": { area: "tokens", what: "…", severity: "outage", works: "all but what uses this Secret", mend: `${PART_4} renews it` },
  "token-secrets": { area: "tokens", what: "Secrets can be read", severity: "outage", mend: ASSESS_THERE,
    works: "pods that have their Secrets already; the encryption key may be another" },
  "node-role": { area: "nodes", what: "…", severity: "weakens", works: "all; nothing of it is believed, and nothing is carried there",
    mend: "who gave it the label? RUNBOOK If a Node only says that it is a control plane node" },
  "node-gone": { area: "nodes", what: "…", severity: "note", works: "all: the Node was deleted after the last repair began",
    mend: "kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes" },
  "node-lease": { area: "nodes", what: "… renews its Lease", severity: "outage", works: DEAD_NODE,
    mend: `does its kubelet run? If its certificate has expired: ${command("03-workers open")}` },
  "node-ready": { area: "nodes", what: "… is Ready", severity: "outage", works: DEAD_NODE, mend: DESCRIBE },
  "node-serving-certificate": { area: "nodes", what: "… serves with a certificate of the CA", severity: "weakens", works: NO_LOGS,
    mend: `${CLOSE} approves its requests` },
  "node-reached": { area: "nodes", what: "… answers kubectl logs and exec", severity: "weakens", works: NO_LOGS, mend: DESCRIBE },
  "node-returned": { area: "nodes", what: "…", severity: "weakens", mend: "the commands that it names",
    works: "all that needs no label, taint or hand edit of before" },
  "pods-ready": { area: "pods", what: "Ready", severity: "note", works: "the other pods of the same owners",
    mend: "kubectl --kubeconfig /etc/kubernetes/admin.conf get pods -A" },
  "pods-fresh": { area: "pods", what: "started after they could see today's CA", severity: "soon", warning: "soon", mend: `${PART_4} restarts them`,
    works: "pods that do not call the API, or read their CA and token anew" },
  "pods-skipped": { area: "pods", what: "left as they are by --skip", severity: "weakens", mend: `${PART_4}, without --skip`,
    works: "pods that do not call the API, or read their CA and token anew" },
} satisfies Record<string, Kind>;
