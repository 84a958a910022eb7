/**
 * Checks a PKI folder and kubeconfigs: one finding for each row of the tables. Assess prints the findings,
 * the issuing steps act on them, verify ends with them, so the three never disagree. Writes nothing, and no
 * damaged file makes it throw.
 */

import { attempt, Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { readable } from "../files/readable.ts";
import {
  type CertInfo,
  certInfo,
  certificatesIn,
  day,
  infoOf,
  isValidNow,
  signedBy,
  signingFirst,
  trustsCa,
} from "./certificate.ts";
import {
  CERTIFICATES_DIR,
  CERTS,
  type Cert,
  type ClusterFacts,
  certPath,
  certsOf,
  isInternal,
  keyPath,
  type PkiPlace,
  SERVICE_ACCOUNT_KEYS,
  sharedPath,
} from "./certs.ts";
import {
  caVerdict,
  type Difference,
  nameIn,
  namesDifference,
  namesVerdict,
  pairVerdict,
  type State,
  serverDifference,
  serverVerdict,
  serviceAccountVerdict,
  subjectVerdict,
  timeVerdict,
  usageVerdict,
  type Verdict,
} from "./judge.ts";
import {
  type Kubeconfig,
  type KubeconfigRow,
  kubeconfigRows,
  parseKubeconfig,
  readKubeconfig,
} from "./kubeconfigs.ts";

export type { State };

export interface Finding {
  /** The row of a table; unset: the pair sa.key and sa.pub. */
  row?: Cert | KubeconfigRow;
  /** The row's name, and the files checked: certificate then key, or the kubeconfig. */
  name: string;
  paths: string[];
  state: State;
  /** A sentence without a full stop; for `ok`, the expiry date and the CA. Never a secret. */
  detail: string;
  cert?: CertInfo | undefined;
  /** Set for `ok` if it works, but is not as kubeadm-config says. */
  differs?: Difference | undefined;
}

/** Rows of the tables, and the pair sa.key and sa.pub. */
export interface WantedPki {
  certs?: readonly Cert[];
  serviceAccountKey?: boolean;
  kubeconfigs?: readonly KubeconfigRow[];
}

/** All files of a control plane node, except the kubelet's kubeconfig: its certificate is a file of the kubelet. */
export function wholePki(facts: ClusterFacts, { superAdmin = false } = {}): Required<WantedPki> {
  const kubeconfigs = kubeconfigRows(facts, { superAdmin }).filter(({ name }) => name !== "kubelet");
  return { certs: CERTS, serviceAccountKey: true, kubeconfigs };
}

type Where = Partial<PkiPlace>;

export function byKind(findings: readonly Finding[]) {
  const empty = { shared: [], leaves: [], kubeconfigs: [] };
  const kindOf = ({ row }: Finding) => (row && "path" in row ? "kubeconfigs" : row?.ca ? "leaves" : "shared");
  return { ...empty, ...Object.groupBy(findings, kindOf) };
}

/** A finding for each wanted row: a CA before those that it signs, then sa.key, then the kubeconfigs. */
export function pkiFindings(
  wanted: WantedPki,
  facts: ClusterFacts | undefined,
  where: Where = {},
): Finding[] {
  const { certs = [], serviceAccountKey, kubeconfigs = [] } = wanted;
  const dir = dirOf(facts, where);
  return [
    ...certsOf(facts ?? {})
      .filter(({ name }) => certs.some((cert) => cert.name === name))
      .map((row) => examine(row, facts, where)),
    ...(serviceAccountKey ? [examineServiceAccountKey(dir, facts)] : []),
    ...kubeconfigs.map((row) => examine(row, facts, where)),
  ];
}

function dirOf(facts: ClusterFacts | undefined, where: Where): string {
  return facts?.certificatesDir ?? where.certificatesDir ?? CERTIFICATES_DIR;
}

/**
 * Nothing on the node reads admin.conf, and security teams store it elsewhere. So if it alone is missing, and
 * ca.key can sign for this kit instead, that is a difference: accidents seldom take only this file.
 */
export function withAdminElsewhere(
  findings: readonly Finding[],
  { externalCa = false }: Partial<ClusterFacts> = {},
): Finding[] {
  const [first, ...others] = findings.filter(({ state }) => state !== "ok");
  if (externalCa || others.length > 0 || first?.name !== "admin" || first.state !== "missing")
    return [...findings];
  return findings.map((one) =>
    one === first ? { ...one, state: "ok", differs: { differs: ADMIN_ELSEWHERE } } : one,
  );
}

const ADMIN_ELSEWHERE =
  "not here, and nothing on this node reads it. ./bunw scripts/02-control-plane.ts writes one, and restarts nothing for it";

/**
 * The cluster CA on this node's disk: all of ca.crt, the certificate that signs first. Errors: Fail if it
 * is not there.
 */
export function clusterCa(certificatesDir: string): string {
  const pem = caText("ca", certificatesDir);
  if (pem) return pem;
  throw new Fail(`There is no "${certPath("ca", certificatesDir)}"`, {
    hint: "run parts 1 and 2 first: ./bunw scripts/00-assess.ts",
  });
}

/** The CA that signs here, first, and the others by which the API server knows clients, or the kubelets' ports. */
export function acceptedCas(
  caPem: string,
  of: "clients" | "kubelets",
  { alsoTrusted }: Pick<ClusterFacts, "alsoTrusted">,
): string {
  return [caPem, alsoTrusted?.[of] ?? ""].join("\n");
}

/** The same of any CA, by its row's name; undefined if the file is not there. */
export function caText(ca: string, certificatesDir: string): string | undefined {
  const text = readable(certPath(ca, certificatesDir));
  return text && signingFirst(text, readable(keyPath(ca, certificatesDir)));
}

/**
 * The CA on disk and the old one: each server of this cluster shows a certificate of either, even in the
 * middle of a repair.
 */
export function bothCas(certificatesDir: string, oldCaPem: string): string {
  return `${readText(certPath("ca", certificatesDir)) ?? ""}\n${oldCaPem}`;
}

/**
 * Without facts, names and subject are not judged. A root's own name is never judged: it may be a company's CA. More
 * names or groups than the row needs are fine; a missing name that nobody needs is a difference.
 */
export function examine(
  row: Cert | KubeconfigRow,
  facts: ClusterFacts | undefined,
  where: Where = {},
): Finding {
  const dir = dirOf(facts, where);
  if ("path" in row) return examineKubeconfig(row, facts, dir);
  const { etcdCa } = facts ?? where;
  const paths = ["crt", "key"].map((end) =>
    sharedPath(`${row.file}.${end}`, { certificatesDir: dir, etcdCa }),
  );
  const [text, key] = paths.map(readable);
  const cert = text && !row.ca ? signingFirst(text, key) : text;
  const pair = pairVerdict(cert, key);
  const isExternal = row.name === "ca" && facts?.externalCa && pair?.[0] === "key missing";
  const isOffline =
    pair?.[0] === "key missing" && facts && isInternal(row.name) && leavesAreSound(row, facts, where);
  const verdict = (isExternal || isOffline ? undefined : pair) ?? certVerdict(row, cert!, facts, dir);
  const found = finding(row, paths, cert, verdict);
  if (isOffline && !verdict) return { ...found, differs: { differs: OFFLINE } };
  if (facts && found.state === "ok" && found.cert) found.differs = namesDifference(row, found.cert, facts);
  return isExternal
    ? { ...found, detail: `${found.detail}; an external CA: its key is not on the control plane nodes` }
    : found;
}

/** Whether only its key is elsewhere, and nothing needs it. The operator may want a new one all the same. */
export function isOffline({ differs }: Finding): boolean {
  return differs?.differs === OFFLINE;
}

const OFFLINE =
  "its key is not on this node (is it stored offline?), and nothing needs it before one of its certificates expires";

function leavesAreSound({ name }: Cert, facts: ClusterFacts, where: Where): boolean {
  // those of an etcd that kubeadm did not make are no rows: of them nothing is known here
  const leaves = certsOf(facts).filter((leaf) => leaf.ca === name);
  return leaves.length > 0 && leaves.every((leaf) => examine(leaf, facts, where).state === "ok");
}

/** Each server of the cluster is accepted. */
function examineKubeconfig(row: KubeconfigRow, facts: ClusterFacts | undefined, dir: string): Finding {
  const config = attempt(() => readKubeconfig(row.path));
  if (config instanceof Fail) return finding(row, [row.path], undefined, ["unreadable", config.message]);
  const ca = caText("ca", dir);
  const missing: Verdict = ["missing", `${row.path} is not there`];
  const found = finding(
    row,
    [row.path],
    config?.clientCertPem,
    config ? kubeconfigVerdict(row, config, ca, facts) : missing,
  );
  if (facts && config && found.state === "ok")
    found.differs =
      signingDifference(row, config) ??
      userDifference(row, found.cert, facts) ??
      serverDifference(config.server, facts);
  return found;
}

export function examineServiceAccountKey(
  certificatesDir: string,
  { externalSigner = false, withoutSaPub = false } = {},
): Finding {
  const { name, file } = SERVICE_ACCOUNT_KEYS;
  const paths = [keyPath(SERVICE_ACCOUNT_KEYS, certificatesDir), `${certificatesDir}/${file}.pub`];
  if (externalSigner) return { name, paths, state: "ok", detail: "an external signer has the key" };
  const [key, pub] = paths.map(readable);
  const verdict = serviceAccountVerdict(key, pub);
  if (withoutSaPub && verdict?.[0] === "public key missing")
    return { name, paths, state: "ok", detail: "sa.key alone", differs: { differs: WITHOUT_SA_PUB } };
  const [state, detail] = verdict ?? ["ok", "sa.pub is the public half of sa.key"];
  return { name, paths, state, detail };
}

const WITHOUT_SA_PUB =
  "sa.pub is not here, and no flag names it: sa.key checks tokens itself. openssl pkey -in sa.key -pubout writes one";

function finding(
  row: Cert | KubeconfigRow,
  paths: string[],
  certPem: string | undefined,
  verdict: Verdict,
): Finding {
  const cert = infoOf(certPem);
  const detail =
    verdict?.[1] ?? (cert ? `until ${day(cert.notAfter)}, signed by ${nameIn(cert.issuer)}` : "");
  return { row, name: row.name, paths, state: verdict?.[0] ?? "ok", detail, cert };
}

function certVerdict(row: Cert, cert: string, facts: ClusterFacts | undefined, dir: string): Verdict {
  const info = certInfo(cert);
  if (!row.ca) return rootVerdict(info);
  const ca = certPath(row.ca, dir);
  const verdict = caVerdict(cert, info, readable(ca), ca) ?? timeVerdict(info) ?? usageVerdict(row, info);
  if (verdict || !facts) return verdict;
  return row.names ? namesVerdict(row, info, facts) : subjectVerdict(row, info, facts, "wrong names");
}

/** Judges a CA's certificates and key, wherever they were read from. */
export function caPairVerdict(text: string | undefined, key: string | undefined): Verdict {
  const cert = text && signingFirst(text, key);
  return pairVerdict(cert, key) ?? rootVerdict(certInfo(cert!));
}

function rootVerdict(info: CertInfo): Verdict {
  return info.isCa ? timeVerdict(info) : ["wrong usage", `${nameIn(info.subject)} is not a CA's certificate`];
}

/** The fault of this text as this row's kubeconfig; undefined if there is none. */
export function kubeconfigTrouble(row: KubeconfigRow, text: string, facts: ClusterFacts): Verdict {
  const config = attempt(() => parseKubeconfig(text, row.path));
  return config instanceof Fail
    ? ["unreadable", config.message]
    : kubeconfigVerdict(row, config, caText("ca", facts.certificatesDir), facts);
}

function kubeconfigVerdict(
  row: KubeconfigRow,
  config: Kubeconfig,
  ca: string | undefined,
  facts: ClusterFacts | undefined,
): Verdict {
  const { clientCertPem: cert, clientKeyPem: key } = config;
  const source = config.clientCertificatePath ?? row.path;
  const isOwn = signingDifference(row, config) !== undefined;
  if (isOwn && facts && serverVerdict(config.server, facts)) return undefined;
  if (ca !== undefined && attempt(() => trustsServer(config.caPem, ca, facts)) !== true)
    return ["wrong CA", "it trusts another CA than ca.crt"];
  if (isOwn) return undefined;
  if (cert === undefined) return ["certificate missing", `there is no client certificate in ${source}`];
  const pair = pairVerdict(cert, key);
  if (pair) return pair;
  const info = certInfo(cert);
  const verdict =
    caVerdict(cert, info, ca ?? config.caPem, "ca.crt") ??
    timeVerdict(info) ??
    usageVerdict({ usages: ["client"] }, info);
  const subject = userDifference(row, info, facts)
    ? undefined
    : facts && subjectVerdict(row, info, facts, "wrong user");
  return verdict ?? subject ?? (facts && serverVerdict(config.server, facts));
}

/**
 * A user that signs in without a certificate was written by hand: this is no kubeconfig of kubeadm. A
 * kubelet's is judged by its certificate: a token lets it only join.
 */
function signingDifference({ name }: KubeconfigRow, { signsInBy }: Kubeconfig): Difference | undefined {
  return signsInBy === undefined || name === "kubelet"
    ? undefined
    : { differs: `signs in by ${signsInBy}, not by a certificate` };
}

/**
 * Differs if the administrator has another name: only the API knows the rights of his groups. A fault if it
 * is one of the cluster's own programs, or has no group.
 */
function userDifference(
  { name, cn }: KubeconfigRow,
  info: CertInfo | undefined,
  facts: ClusterFacts | undefined,
): Difference | undefined {
  const isPerson =
    info && info.o.length > 0 && !info.o.includes("system:nodes") && !info.cn.startsWith("system:");
  const isUsual = info?.cn === (typeof cn === "string" ? cn : facts && cn(facts));
  if (!name.endsWith("admin") || !isPerson || isUsual) return undefined;
  return { differs: `its user is "${info.cn}" of "${info.o.join(", ")}"` };
}

/**
 * Trusts the server by the CA that signs, or by another valid CA of the bundle, as long as that has signed
 * the certificate that this node's API server shows.
 */
function trustsServer(
  caPem: string,
  today: string,
  { certificatesDir = CERTIFICATES_DIR }: Partial<ClusterFacts> = {},
): boolean {
  const shown = certificatesIn(readable(certPath("apiserver", certificatesDir)) ?? "");
  const valid = certificatesIn(caPem).filter((pem) => attempt(() => isValidNow(certInfo(pem))) === true);
  return trustsCa(caPem, today) || shown.some((pem) => valid.some((one) => signedBy(pem, one)));
}
