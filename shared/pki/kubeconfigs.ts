/**
 * The kubeconfigs of a kubeadm cluster, one row each, and their text: written as kubeadm and the kubelet
 * write it, read in either form, or with one field changed. Source: kubeadm's app/phases/kubeconfig/kubeconfig.go and
 * app/util/kubeconfig; the kubelet's own form is that of pkg/kubelet/certificate/bootstrap/bootstrap.go.
 */
import { dirname, resolve } from "node:path";
import { attempt, Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { shell } from "../shell-line.ts";
import { isMapping, listOf, readYaml, yamlText } from "../yaml.ts";
import { endpointUrl } from "./addresses.ts";
import { ADMINS_GROUP, type ClusterFacts, minorOf } from "./certs.ts";

/** The file of every kubelet's client certificate and key. */
export const KUBELET_CLIENT_PEM = "/var/lib/kubelet/pki/kubelet-client-current.pem";

/** Root's own copy of admin.conf, as kubeadm says to make it. */
export const ROOTS = "/root/.kube/config";

export interface KubeconfigRow {
  /** The name of kubeadm's sub-phase: `kubeadm init phase kubeconfig NAME`. */
  name: string;
  path: string;
  /** The user, and the group (O) by the cluster's minor version. */
  cn: string | ((facts: ClusterFacts) => string);
  o?: (minor: number) => string;
  server: (facts: ClusterFacts) => string;
  /** The first minor version that has it. */
  since?: number;
  /** kubeadm makes it in `init` only, never in `join`: nothing else needs it. */
  firstControlPlaneOnly?: true;
  /** The server that reads this file once, at its start: part 2 restarts this server if it has written the file. */
  readBy: "kube-controller-manager" | "kube-scheduler" | "the kubelet" | "people";
}

export interface Kubeconfig {
  server: string;
  /** The CAs it trusts, from the file or from the path it names; "" if there are none. */
  caPem: string;
  /** Set if they are a file of their own. */
  caPath?: string | undefined;
  clientCertPem?: string | undefined;
  clientKeyPem?: string | undefined;
  /** Set if the certificate is a file of its own; clientCertPem is then that file's content, if it exists. */
  clientCertificatePath?: string | undefined;
  token?: string | undefined;
  /** The credential of a user without a certificate: "the program kubelogin", "a token". */
  signsInBy?: string | undefined;
  /** The name that the server's certificate has to have, if it is not the server's host. */
  tlsServerName?: string | undefined;
}

const group = (name: string) => () => name;
const admins = (minor: number) => (minor < 29 ? "system:masters" : ADMINS_GROUP);

// A control plane node's kubelet talks to its own API server since 1.33 (gate ControlPlaneKubeletLocalMode:
// kubernetes/kubernetes#129956).
const kubeletServer = (facts: ClusterFacts) =>
  minorOf(facts.kubernetesVersion) < 33 ? clusterServer(facts) : localServer(facts);
const nodeUser = (facts: ClusterFacts) => `system:node:${facts.nodeName}`;

// biome-ignore format: a table
const TABLE = [
  { name: "admin",              path: "/etc/kubernetes/admin.conf",              readBy: "people",                  cn: "kubernetes-admin",               o: admins,                  server: clusterServer },
  { name: "super-admin",        path: "/etc/kubernetes/super-admin.conf",        readBy: "people",                  cn: "kubernetes-super-admin",         o: group("system:masters"), server: clusterServer, since: 29, firstControlPlaneOnly: true },
  { name: "kubelet",            path: "/etc/kubernetes/kubelet.conf",            readBy: "the kubelet",             cn: nodeUser,                         o: group("system:nodes"),   server: kubeletServer },
  { name: "controller-manager", path: "/etc/kubernetes/controller-manager.conf", readBy: "kube-controller-manager", cn: "system:kube-controller-manager",                             server: localServer },
  { name: "scheduler",          path: "/etc/kubernetes/scheduler.conf",          readBy: "kube-scheduler",          cn: "system:kube-scheduler",                                      server: localServer },
] as const satisfies readonly KubeconfigRow[];

export type KubeconfigName = (typeof TABLE)[number]["name"];

/** Every kubeconfig. A row without its check (checks/kinds.ts), or without its reader, is a type error. */
export const KUBECONFIGS: readonly (KubeconfigRow & { name: KubeconfigName })[] = TABLE;

/** The rows a control plane node of this version has; super-admin.conf only if asked for. */
export function kubeconfigRows(facts: ClusterFacts, options: { superAdmin: boolean }): KubeconfigRow[] {
  const minor = minorOf(facts.kubernetesVersion);
  return KUBECONFIGS.filter(
    (row) => (row.since ?? 0) <= minor && (options.superAdmin || !row.firstControlPlaneOnly),
  );
}

export function kubeconfigRow(name: KubeconfigName): KubeconfigRow {
  const row = KUBECONFIGS.find((kubeconfig) => kubeconfig.name === name);
  if (!row) throw new Error(`no kubeconfig is called ${name}`);
  return row;
}

/** "https://api.example:6443": the cluster's endpoint, or this node's API server if the cluster has none. */
export function clusterServer(facts: ClusterFacts): string {
  return facts.controlPlaneEndpoint
    ? endpointUrl(facts.controlPlaneEndpoint, facts.bindPort)
    : localServer(facts);
}

/**
 * Whether its server is the cluster's endpoint; the others of a control plane node use its own API server.
 */
export function leadsToEndpoint({ server }: KubeconfigRow): boolean {
  return server === clusterServer;
}

/** "https://10.0.0.11:6443": this node's API server. */
export function localServer(facts: ClusterFacts): string {
  return endpointUrl(facts.advertiseAddress, facts.bindPort);
}

/**
 * The text of a row's kubeconfig, everything embedded. `ca` is the whole ca.crt; `server`: another than the
 * row's.
 */
export function kubeconfigText(
  row: KubeconfigRow,
  facts: ClusterFacts,
  content: { ca: string; user: { cert: string; key: string }; server?: string },
): string {
  const user = typeof row.cn === "string" ? row.cn : row.cn(facts);
  const { cert, key } = content.user;
  return configText(
    { name: facts.clusterName, server: content.server ?? row.server(facts), ca: content.ca },
    { name: user, user: { "client-certificate-data": base64(cert), "client-key-data": base64(key) } },
    { name: `${user}@${facts.clusterName}` },
  );
}

/**
 * The kubeconfig with which a kubelet joins (`/etc/kubernetes/bootstrap-kubelet.conf`): a bootstrap token. It
 * holds a secret.
 */
export function bootstrapKubeconfig(leads: { server: string; ca: string; token: string }): string {
  const { server, ca, token } = leads;
  const user = "tls-bootstrap-token-user";
  return configText(
    { name: "kubernetes", server, ca },
    { name: user, user: { token } },
    { name: `${user}@kubernetes` },
  );
}

interface KubeletsOwn {
  server: string;
  ca: string;
  /** The file of the kubelet's certificate and key: without --cert-dir KUBELET_CLIENT_PEM. */
  clientPem?: string;
}

/** The kubelet's own form: the certificate and key are read from the file it rotates. */
export function kubeletKubeconfig({ server, ca, clientPem = KUBELET_CLIENT_PEM }: KubeletsOwn): string {
  const user = { "client-certificate": clientPem, "client-key": clientPem };
  return configText(
    { name: "default-cluster", server, ca },
    { name: "default-auth", user },
    { name: "default-context", namespace: "default" },
  );
}

/**
 * Reads the current context; undefined if the file is missing. Fails if it is empty (the kubelet makes an empty
 * controller-manager.conf when its static pod comes first), not YAML, or has no cluster.
 */
export function readKubeconfig(path: string): Kubeconfig | undefined {
  const text = readText(path);
  return text === undefined ? undefined : parseKubeconfig(text, path);
}

/** The same from text; `path` is only named in errors. */
export function parseKubeconfig(text: string, path: string): Kubeconfig {
  const config = parse(text, path);
  const cluster = entryNamed(config.clusters, contextOf(config)?.cluster, "cluster");
  const user = userOf(config) ?? {};
  if (!cluster?.server)
    throw unreadable(path, text.trim() ? "its current context names no server" : "it is empty");
  const isWrong = ([field, value]: [string, unknown]) =>
    TEXTS.test(field) && typeof (value ?? "") !== "string";
  const wrong = [cluster, user].flatMap((entry) => Object.entries(entry)).find(isWrong);
  if (wrong) throw unreadable(path, `its ${wrong[0]} is no text`);
  const fileOf = (entry: Fields, key: string) =>
    entry[key] && !entry[`${key}-data`] ? resolve(dirname(path), entry[key]) : undefined;
  const contentOf = (entry: Fields, key: string) => {
    const [data, file] = [entry[`${key}-data`], fileOf(entry, key)];
    return data ? Buffer.from(data, "base64").toString("utf8") : file && readText(file);
  };
  return {
    server: cluster.server,
    caPem: contentOf(cluster, "certificate-authority") ?? "",
    caPath: fileOf(cluster, "certificate-authority"),
    clientCertPem: contentOf(user, "client-certificate"),
    clientKeyPem: contentOf(user, "client-key"),
    clientCertificatePath: fileOf(user, "client-certificate"),
    token: user.token,
    signsInBy:
      user["client-certificate"] || user["client-certificate-data"] ? undefined : otherCredential(user),
    tlsServerName: cluster["tls-server-name"],
  };
}

/** Go refuses another type there; a path begins in the kubeconfig's folder (clientcmd's ResolveLocalPaths). */
const TEXTS =
  /^(server|tls-server-name|token|(certificate-authority|client-certificate|client-key)(-data)?)$/;

/** client-go's credentials other than a certificate (client-go tools/clientcmd/api/v1, AuthInfo). */
function otherCredential(user: Fields): string | undefined {
  if (user.exec) return `the program ${user.exec.command}`;
  if (user.token || user.tokenFile) return "a token";
  if (user["auth-provider"]) return `the plugin ${user["auth-provider"].name}`;
  return user.username ? "a password" : undefined;
}

function configText(
  cluster: { name: string; server: string; ca: string },
  user: { name: string; user: Record<string, string> },
  context: { name: string; namespace?: string },
): string {
  const { name, namespace } = context;
  const place = { cluster: cluster.name, ...(namespace ? { namespace } : {}), user: user.name };
  const trust = { "certificate-authority-data": base64(cluster.ca), server: cluster.server };
  return yamlText({
    apiVersion: "v1",
    clusters: [{ cluster: trust, name: cluster.name }],
    contexts: [{ context: place, name }],
    "current-context": name,
    kind: "Config",
    users: [user],
  });
}

// biome-ignore lint/suspicious/noExplicitAny: the shape of a stranger's YAML, checked where it is read
type Fields = Record<string, any>;

function parse(text: string, path: string): Fields {
  try {
    return readYaml(text) ?? {};
  } catch (err) {
    throw unreadable(path, "it is not YAML", err);
  }
}

function unreadable(path: string, reason: string, cause?: unknown): Fail {
  return new Fail(`Cannot use the kubeconfig ${path}: ${reason}`, {
    hint: shell`look at it, or move it away and run the same line again: mv ${path} ${path}.bad`,
    cause,
  });
}

function contextOf(config: Fields): Fields | undefined {
  return entryNamed(config.contexts, config["current-context"], "context");
}

function userOf(config: Fields): Fields | undefined {
  return entryNamed(config.users, contextOf(config)?.user, "user");
}

function entryNamed(items: unknown, name: unknown, field: string): Fields | undefined {
  const item = listOf(items).find((one) => isMapping(one) && one.name === name);
  const value = isMapping(item) ? item[field] : undefined;
  return isMapping(value) ? value : undefined;
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

/*
 * Single fields of a text: all else that people wrote stays, servers, names, other contexts. cluster-info and
 * kube-proxy's ConfigMap hold kubeconfigs, too.
 */

/** The server of its current context; without one that of its first cluster. */
export function serverIn(text: string): string | undefined {
  const server = clusterIn(fieldsOf(text))?.server;
  return typeof server === "string" && URL.canParse(server) ? server : undefined;
}

export function caIn(text: string): string | undefined {
  const data = clusterIn(fieldsOf(text))?.["certificate-authority-data"];
  return typeof data === "string" ? Buffer.from(data, "base64").toString() : undefined;
}

/** The same text with this CA in the cluster of its current context; undefined if it names no server. */
export function withCa(text: string, ca: string): string | undefined {
  if (serverIn(text) === undefined) return undefined;
  const config = fieldsOf(text);
  const cluster = clusterIn(config)!;
  // client-go takes no CA beside the latter
  for (const field of ["certificate-authority", "insecure-skip-tls-verify"]) delete cluster[field];
  cluster["certificate-authority-data"] = base64(ca);
  return yamlText(config);
}

/** The same, and its user has the certificate and key in this file, as a kubelet's. */
export function withTrust(text: string, { ca, clientPem }: { ca: string; clientPem: string }) {
  return withUserAs(withCa(text, ca), (user) => {
    for (const field of Object.keys(user)) delete user[field];
    Object.assign(user, { "client-certificate": clientPem, "client-key": clientPem });
  });
}

/** The same, and its user has this certificate: all else stays, as with `kubeadm certs renew`. */
export function withUser(
  text: string,
  { ca, user: { cert, key } }: { ca: string; user: { cert: string; key: string } },
) {
  return withUserAs(withCa(text, ca), (user) => {
    for (const field of Object.keys(user)) delete user[field];
    Object.assign(user, { "client-certificate-data": base64(cert), "client-key-data": base64(key) });
  });
}

function withUserAs(text = "", change: (user: Fields) => void): string | undefined {
  const config = fieldsOf(text);
  const user = userOf(config);
  if (!user) return undefined;
  change(user);
  return yamlText(config);
}

/** Returns an empty list if the text is no kubeconfig. */
function fieldsOf(text: string): Fields {
  const config = attempt(() => parse(text, "in a text"), {});
  return isMapping(config) ? config : {};
}

function clusterIn(config: Fields): Fields | undefined {
  const [first] = listOf(config.clusters);
  const name = contextOf(config)?.cluster ?? (isMapping(first) ? first.name : undefined);
  return entryNamed(config.clusters, name, "cluster");
}
