/**
 * The error texts that people search for, with what each means and what to type: one table, of which `npm run docs` makes
 * the pages in docs/ and README's first table.
 */

/** One page of docs/. */
export interface Symptom {
  /** The text as a program prints it, without its values: the title. */
  title: string;
  /** The part of the title that README's table shows. */
  short: string;
  /** Other texts of the same cause. */
  also: readonly string[];
  /** The meaning of the text, a sentence a line. */
  means: readonly string[];
  type: keyof typeof WAYS;
  /** A damage that 00-assess has to name: the state of a row, and a part of the row's name. */
  finds: { state: string; what: string };
  costs: keyof typeof COSTS;
  /** Scenarios of the lab. */
  scenarios: readonly string[];
  /** Rows of the scenario small-damages. */
  rows?: readonly string[];
  /** Where people have asked: OWNER/NAME#NUMBER of GitHub. */
  threads: readonly string[];
}

const REPAIR = "npm run repair -- root@NODE";

/** The operator types this: a sentence, lines of a shell on the operator's machine, or a chapter. */
export const WAYS = {
  clock: {
    before:
      "Type `date` on the node first. If the clock is wrong, correct the clock: no certificate has expired. Else, on your machine, in a clone of this repository:",
    lines: [REPAIR],
  },
  repair: { before: "On your machine, in a clone of this repository:", lines: [REPAIR] },
  hold: {
    before:
      "Restart nothing. Type the two lines of [Deleted](../README.md#deleted) on each control plane node first. Then, on your machine:",
    lines: [REPAIR],
  },
  move: {
    before:
      "Follow [Machines that moved](../RUNBOOK-MORE.md#machines-that-moved). On the node, in the folder of the kit:",
    lines: ["./bunw scripts/move.ts"],
  },
  etcd: {
    before:
      "Delete no file of etcd's data. Follow [If etcd's data is damaged](../RUNBOOK-MORE.md#if-etcds-data-is-damaged). This line only looks, on the node, in the folder of the kit:",
    lines: ["./bunw scripts/restore.ts --from /var/lib/etcd --as NODE --dry-run"],
  },
} as const;

export const COSTS = {
  old: "The API is unavailable for seconds: the first screen says for how long. Pods keep running, and no running pod restarts. Every token stays valid. Nothing is irreversible. Replaced files are in `/root/kube-pki-repair-TIME`.",
  lost: "If the old keys are found, the API is unavailable for seconds, no running pod restarts and every token stays valid. If they are nowhere, you decide whether new keys are made: workers then join again, and each pod with a token restarts once. The screen names each irreversible step before you begin.",
  worker:
    "The kubelet of this worker restarts. Its containers keep running. If its control plane is well, the API stays available.",
  etcd: "The API is unavailable until etcd has its data again. The damaged files stay as they are, so every other way stays open.",
  move: "The API is unavailable for seconds. Keys and tokens stay. Pods that use the host's network and an old address restart.",
} as const;

const EXPIRED = "EXPIRED";

export const SYMPTOMS = {
  "certificate-has-expired": {
    title: "x509: certificate has expired or is not yet valid",
    short: "x509: certificate has expired or is not yet valid",
    also: ["failure loading apiserver-etcd-client certificate: the certificate has expired"],
    means: [
      "A certificate of the cluster is over its date, or the clock of a machine is wrong.",
      "kubeadm's certificates are valid for one year, and kubeadm renews them only at an upgrade.",
      "All CA keys are usually still there, so the repair signs new certificates with the same keys.",
    ],
    ...{ type: "clock", costs: "old", finds: { state: EXPIRED, what: "apiserver.crt" } },
    scenarios: ["expired", "ha-expired"],
    threads: ["kubernetes/kubeadm#581", "kubernetes/kubeadm#2989", "etcd-io/etcd#15740"],
  },
  "connection-refused-after-renew-all": {
    title: "The connection to the server was refused (port 6443), after kubeadm certs renew all",
    short: "The connection to the server … :6443 was refused",
    also: ["dial tcp …:6443: connect: connection refused", 'node "…" not found'],
    means: [
      "The API server does not run. `kubeadm certs renew all` renews neither the kubelets' certificates nor kubelet.conf.",
      "A kubelet whose certificate has expired exits when it starts, so it starts no API server.",
      "The workers' certificates have mostly expired, too.",
    ],
    ...{
      type: "clock",
      costs: "old",
      finds: { state: EXPIRED, what: "kubelet-client-current.pem" },
    },
    scenarios: ["expired-half-renewed"],
    threads: [
      "kubernetes/website#42944",
      "kubernetes/kubernetes#102556",
      "kubernetes/kubernetes#103575",
    ],
  },
  "bootstrap-kubelet-conf": {
    title:
      "unable to load bootstrap kubeconfig: stat /etc/kubernetes/bootstrap-kubelet.conf: no such file or directory",
    short: "unable to load bootstrap kubeconfig",
    also: [
      "part of the existing bootstrap client certificate in /etc/kubernetes/kubelet.conf is expired",
    ],
    means: [
      "The kubelet's own client certificate has expired, so the kubelet looks for a bootstrap token that nobody has made.",
      "The node is `NotReady`. So it is with each node of a cluster that was off for a year.",
      "`kubeadm certs renew all` does not help: it leaves out the kubelets.",
    ],
    ...{
      type: "clock",
      costs: "worker",
      finds: { state: EXPIRED, what: "kubelet-client-current.pem" },
    },
    scenarios: ["expired-half-renewed"],
    rows: ["the kubelets' certificates have expired, on the control plane node and on the worker"],
    threads: ["kubernetes/kubernetes#98150", "kubernetes/kubeadm#2054", "kubernetes/website#42944"],
  },
  "must-be-logged-in": {
    title: "error: You must be logged in to the server (Unauthorized)",
    short: "You must be logged in to the server (Unauthorized)",
    also: ["the server has asked for the client to provide credentials"],
    means: [
      "The API server runs, and does not accept the certificate of this kubeconfig: it has expired, or another CA has signed it.",
      "If admin.conf is new and `~/.kube/config` is an old copy of it, copy it again: nothing else is broken.",
      "If admin.conf has expired, look at the other certificates: they were made on the same day.",
    ],
    ...{ type: "clock", costs: "old", finds: { state: EXPIRED, what: "admin.conf" } },
    scenarios: ["expired"],
    rows: ["only the kubeconfigs are lost"],
    threads: ["kubesphere/kubesphere#3900"],
  },
  "signed-by-unknown-authority": {
    title: "x509: certificate signed by unknown authority",
    short: "x509: certificate signed by unknown authority",
    also: [
      'possibly because of "crypto/rsa: verification error" while trying to verify candidate authority certificate "kubernetes"',
    ],
    means: [
      "Two CAs are in use. Mostly somebody has typed `kubeadm init phase certs all`, `kubeadm init` or `kubeadm reset`, and a new CA is in the place of the cluster's.",
      "No node and no pod trusts what the new CA signs.",
      "The cluster's own CA may still be in memory, in a backup, or on another control plane node: search first.",
    ],
    ...{ type: "hold", costs: "lost", finds: { state: "FOREIGN", what: "ca.crt" } },
    scenarios: ["colleagues-kubeadm", "half-repaired"],
    rows: ["ca.crt is another CA's, ca.key is the right one"],
    threads: ["kubernetes/kubeadm#2015", "labring/sealos#26"],
  },
  "client-ca-file": {
    title:
      "unable to load client CA file /etc/kubernetes/pki/ca.crt: open /etc/kubernetes/pki/ca.crt: no such file or directory",
    short: "unable to load client CA file",
    also: ["failed to run Kubelet: … /etc/kubernetes/pki/ca.crt: no such file or directory"],
    means: [
      "`/etc/kubernetes`, or its folder pki, was deleted.",
      "Running containers keep running. The keys may still be in the memory of a controller-manager, until something restarts it.",
      "So do not restart a service or a machine, and do not type `kubeadm init`.",
    ],
    ...{ type: "hold", costs: "lost", finds: { state: "MISSING", what: "ca.crt" } },
    scenarios: ["all-lost", "ha-all-lost", "pki-lost-alive"],
    threads: ["kubernetes/kubernetes#63571", "kubernetes-sigs/kubespray#3769"],
  },
  "ca-key": {
    title:
      "failure loading ca certificate authority: couldn't load the private key file /etc/kubernetes/pki/ca.key: no such file or directory",
    short: "couldn't load the private key file /etc/kubernetes/pki/ca.key",
    also: ["failed to load key: couldn't load the private key file"],
    means: [
      "The key of the cluster's CA is not on this node, so kubeadm cannot sign.",
      "Some companies keep ca.key elsewhere on purpose: ask before you make a new one.",
      "Else the key is in the memory of the controller-manager that leads, while it runs.",
    ],
    ...{ type: "hold", costs: "lost", finds: { state: "KEY MISSING", what: "ca.key" } },
    scenarios: ["pki-lost-alive", "external-ca"],
    rows: ["ca.key is lost, and no process has it in memory"],
    threads: ["kubernetes/kubeadm#1518"],
  },
  "invalid-bearer-token": {
    title: "Unable to authenticate the request: invalid bearer token",
    short: "invalid bearer token",
    also: ["error in cryptographic primitive"],
    means: [
      "The API server has another service-account key (sa.pub) than the one that signed the pods' tokens.",
      "sa.key was lost or made again, or the control plane nodes have different ones.",
      "Pods cannot ask the API, also CoreDNS, kube-proxy and the network plugin after their restart.",
    ],
    ...{ type: "hold", costs: "lost", finds: { state: "MISSING", what: "sa.key" } },
    scenarios: ["sa-lost", "old-tokens"],
    rows: ["sa.key and sa.pub are lost"],
    threads: ["kubernetes/kubernetes#109812", "kubernetes/kubernetes#72026"],
  },
  "no-pem-data": {
    title: "tls: failed to find any PEM data in certificate input",
    short: "failed to find any PEM data in certificate input",
    also: ["data does not contain any valid RSA or ECDSA certificates"],
    means: [
      "A certificate file is empty or cut off, as after a full disk or a power cut.",
      "The server that reads this file does not start again.",
      "If the CA keys are whole, the repair signs the certificate again.",
    ],
    ...{ type: "repair", costs: "old", finds: { state: "UNREADABLE", what: "apiserver.crt" } },
    scenarios: ["random-damages"],
    rows: ["ca.crt is cut off"],
    threads: ["kubernetes/kubernetes#34956"],
  },
  "etcd-bad-certificate": {
    title: "etcd: rejected connection: remote error: tls: bad certificate",
    short: "remote error: tls: bad certificate",
    also: ["transport: authentication handshake failed"],
    means: [
      "etcd and the API server do not accept each other's certificates: one has expired, or another CA of etcd has signed it.",
      "kubeadm upgrades may renew other certificates and leave etcd's.",
      "Without etcd no API server starts.",
    ],
    ...{ type: "clock", costs: "old", finds: { state: EXPIRED, what: "etcd/server.crt" } },
    scenarios: ["expired"],
    rows: [
      "only etcd's PKI is lost",
      "the certificates in the control plane node's pki/ have expired, but not the CAs",
    ],
    threads: ["etcd-io/etcd#13485", "kubernetes/kubeadm#1651", "kubernetes/kubeadm#2989"],
  },
  "apiserver-etcd-client": {
    title:
      "kubespray: failed to load existing certificate apiserver-etcd-client: open /etc/kubernetes/pki/apiserver-etcd-client.crt: no such file or directory",
    short: "failed to load existing certificate apiserver-etcd-client",
    also: ["kubespray: x509: certificate has expired or is not yet valid"],
    means: [
      "The cluster is kubespray's: etcd is a unit of systemd, with certificates in `/etc/ssl/etcd/ssl`, so kubeadm does not find its own file.",
      "The file is not lost. The certificates of the control plane have expired.",
      "The repair leaves etcd and its certificates alone if they are valid.",
    ],
    ...{ type: "clock", costs: "old", finds: { state: EXPIRED, what: "controller-manager.conf" } },
    scenarios: ["kubespray-expired", "kubespray", "ha-kubespray"],
    threads: [
      "kubernetes-sigs/kubespray#7258",
      "kubernetes/website#26469",
      "kubernetes-sigs/kubespray#5464",
    ],
  },
  "etcd-ca-crt": {
    title: "KubeKey: file not found: /etc/kubernetes/pki/etcd/ca.crt",
    short: "file not found: /etc/kubernetes/pki/etcd/ca.crt",
    also: ["KubeKey: x509: certificate has expired or is not yet valid"],
    means: [
      "The cluster is KubeKey's: etcd is a unit of systemd, with certificates in `/etc/ssl/etcd/ssl`.",
      "A script that renews kubeadm's certificates stops at the file that only kubeadm's etcd has.",
      "The file is not lost. The certificates of the control plane have expired.",
    ],
    ...{ type: "clock", costs: "old", finds: { state: EXPIRED, what: "controller-manager.conf" } },
    scenarios: ["kubekey-expired", "kubekey4-expired"],
    threads: ["yuyicai/update-kube-cert#28", "yuyicai/update-kube-cert#5"],
  },
  "certificate-is-valid-for": {
    title: "x509: certificate is valid for 10.96.0.1, 10.0.0.11, not 10.0.0.12",
    short: "x509: certificate is valid for …, not …",
    also: ["Changing master IP address"],
    means: [
      "The machine has another IP address or name than the certificate of the API server.",
      "etcd's members, kubeconfigs and manifests have the old address, too.",
      "All keys are there.",
    ],
    ...{ type: "move", costs: "move", finds: { state: "INCOMPLETE", what: "facts" } },
    scenarios: ["moved", "moved-all"],
    threads: ["kubernetes/kubeadm#338", "kubernetes/kubeadm#2016"],
  },
  "page-expected": {
    title: "etcd: freepages: failed to get all reachable pages",
    short: "freepages: failed to get all reachable pages",
    also: [
      "Page expected to be",
      "failed to recover v3 backend from snapshot",
      "snapshot file doesn't exist",
    ],
    means: [
      "etcd's database or its log is damaged, as after a power cut on a disk that lies about its writes.",
      "What one of the two has lost, the other one often has.",
      "The repair of certificates waits: first etcd's data has to be whole.",
    ],
    ...{ type: "etcd", costs: "etcd", finds: { state: "DAMAGED", what: "/var/lib/etcd" } },
    scenarios: ["damaged", "damaged-snapshot", "damaged-log", "damaged-survivor"],
    threads: ["etcd-io/etcd#10722", "etcd-io/etcd#14569", "etcd-io/etcd#18642"],
  },
} as const satisfies Record<string, Symptom>;

export type SymptomName = keyof typeof SYMPTOMS;

/** README's first table. `{NAME}` is the text of that page, as a link to it. */
export const README_ROWS: readonly { see: string; todo: string }[] = [
  {
    see: "{certificate-has-expired}, {must-be-logged-in}",
    todo: "Type `date` on the node first: if the clock is wrong, correct it. Else [One command](#one-command)",
  },
  {
    see: "{connection-refused-after-renew-all} after `kubeadm certs renew all`; {bootstrap-kubelet-conf}; nodes `NotReady` after a year off",
    todo: "[One command](#one-command). kubeadm does not renew the kubelets' certificates",
  },
  {
    see: "{signed-by-unknown-authority}, {invalid-bearer-token}",
    todo: "Another CA or another `sa.key` is in use. [Deleted](#deleted), then [One command](#one-command)",
  },
  {
    see: "{client-ca-file}, {ca-key}: `/etc/kubernetes`, or keys and certificates in it, were deleted",
    todo: "Restart nothing. Type the two lines of [Deleted](#deleted), then [One command](#one-command)",
  },
  { see: "{no-pem-data}, {etcd-bad-certificate}", todo: "[One command](#one-command)" },
  {
    see: "kubespray: {apiserver-etcd-client}. KubeKey: {etcd-ca-crt}",
    todo: "[One command](#one-command). It knows both layouts",
  },
  {
    see: "{certificate-is-valid-for}: the machines have moved to other addresses or names",
    todo: "[Machines that moved](RUNBOOK-MORE.md#machines-that-moved)",
  },
  {
    see: "etcd does not start: {page-expected}, `walpb: crc mismatch`, `Page expected to be`, `failed to recover v3 backend from snapshot`, `snapshot file doesn't exist`",
    todo: "Delete no file of its data, it often has all keys. [If etcd's data is damaged](RUNBOOK-MORE.md#if-etcds-data-is-damaged)",
  },
  {
    see: "all control plane nodes are lost; a snapshot or a disk of etcd is left",
    todo: "[Only a snapshot is left](RUNBOOK-MORE.md#only-a-snapshot-is-left)",
  },
  {
    see: "certificates of one control plane node have expired, and `kubectl` still works",
    todo: "You do not need this kit: `kubeadm certs renew all`, then [restart the servers](RUNBOOK-MORE.md#what-expires-soon)",
  },
];
