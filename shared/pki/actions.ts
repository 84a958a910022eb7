/**
 * The actions for a node's PKI, decided once: the refusal, the number of new keys and the writing all read this list.
 *
 * CAs and sa.key are the same on every control plane node, and everything depends on them. New ones are made only
 * with `newCas`; without it, a lost one stops the run. If the key is here, and its public half is missing or belongs
 * to another key, `remedyOf` judges whether it is the cluster's, and how its public half comes back: a stale or
 * unreadable ca.crt is no reason for a new CA, and a key of unknown origin signs nothing.
 */
import { createPublicKey, X509Certificate } from "node:crypto";
import { again, command, inOneLine, type Todo } from "../again.ts";
import { attempt, Fail } from "../fail.ts";
import { readable } from "../files/readable.ts";
import { shell } from "../shell-line.ts";
import {
  infoOf,
  infosIn,
  isSelfSigned,
  isValidNow,
  keyMatches,
  madeAt,
  privateKeyOf,
  publicPem,
} from "./certificate.ts";
import { CERTS, type Cert, type ClusterFacts, isInternal } from "./certs.ts";
import { type Finding, isOffline, pkiFindings, type WantedPki } from "./examine.ts";
import { KUBECONFIGS, readKubeconfig } from "./kubeconfigs.ts";
import { serviceAccountKeyId } from "./sa-keys.ts";

/** `internal`: only the CAs of etcd and of the front proxy, which only control plane nodes trust. */
export type NewCas = "all" | "internal";

export interface ActionOptions {
  /**
   * The shared keys to make again if they are missing or wrong. Set only on the first control plane node of a
   * cluster that lost them.
   */
  newCas?: NewCas | undefined;
  /** The proof of the cluster's public keys; asked once, if one is lost. */
  evidence?: (() => Evidence) | undefined;
  /** The other control plane nodes: one may have a lost key, or has made it anew. */
  others?: readonly string[];
}

export interface PkiAction extends Pick<Finding, "row"> {
  finding: Finding;
  /**
   * `make`: a new CA or sa.key. `restore`: the public half of one that is here. `refuse`: one is lost, and no new one
   * is asked for. `renew`: a new key and certificate, signed by its CA. `check`: its CA comes back first, then it is
   * examined again.
   */
  todo: "keep" | "make" | "restore" | "refuse" | "renew" | "check";
  /** Set for `restore` and `refuse`: how it comes back, or why it is lost. */
  remedy?: Remedy;
  /** Set for `refuse`: as in ActionOptions. */
  others?: readonly string[];
}

/** Throws nothing: a lost row is one to `refuse`. A CA stands before what it signs. */
export function actionsFor(wanted: WantedPki, facts: ClusterFacts, options: ActionOptions): PkiAction[] {
  const actions: PkiAction[] = [];
  let evidenceOnce: Evidence | undefined;
  const evidence = options.evidence && (() => (evidenceOnce ??= options.evidence!()));
  for (const finding of pkiFindings(wanted, facts)) {
    const { row } = finding;
    const ca = row && ("path" in row ? "ca" : row.ca);
    const ofCa = () => actions.find((one) => one.row?.name === ca)?.todo;
    actions.push({
      ...(ca ? actionForSigned(finding, ofCa()) : actionForShared(finding, { ...options, evidence })),
      ...(row && { row }),
    });
  }
  return actions;
}

/** The CAs and the sa.key that these actions make. Errors: as `refuseLostKeys`. */
export function keysToMake(actions: readonly PkiAction[]): Finding[] {
  refuseLostKeys(actions);
  return actions.filter(({ todo }) => todo === "make").map(({ finding }) => finding);
}

/** Errors: Fail if a CA or sa.key is lost and a new one is not asked for. */
export function refuseLostKeys(actions: readonly PkiAction[]) {
  for (const { finding, todo, remedy, others } of actions)
    if (todo === "refuse") throw lostKey(finding, remedy!, others);
}

export function countOfKeys(actions: readonly PkiAction[]): number {
  return actions.filter(({ todo }) => todo === "make" || todo === "renew").length;
}

/** The action for a leaf or a kubeconfig, by that for its CA. */
export function actionForSigned(finding: Finding, ca?: PkiAction["todo"]): PkiAction {
  const row = finding.row!;
  if (ca === "restore") return { row, finding, todo: "check" };
  return { row, finding, todo: finding.state === "ok" && ca !== "make" ? "keep" : "renew" };
}

/** A run that was cut off after a new key continues with it: keys are written first. */
function actionForShared(finding: Finding, { newCas, evidence, others = [] }: ActionOptions): PkiAction {
  const isNewCa = newCas === "all" || (newCas === "internal" && isInternal(finding.name));
  if (isOffline(finding) && isNewCa) return { finding, todo: "make" };
  if (finding.state === "ok") return { finding, todo: "keep" };
  const remedy = remedyOf(finding, evidence?.() ?? { texts: [], tokens: [] });
  if (remedy.do !== "lost" && remedy.do !== "elsewhere") return { finding, todo: "restore", remedy };
  if (!isNewCa) return { finding, todo: "refuse", remedy, others };
  const isHalf = ["certificate missing", "public key missing"].includes(finding.state);
  return "why" in remedy && isHalf
    ? { finding, todo: "restore", remedy: { do: "again" } }
    : { finding, todo: "make" };
}

function lostKey(finding: Finding, remedy: Remedy, others: readonly string[] = []): Fail {
  if (remedy.do === "elsewhere")
    return new Fail(`${finding.paths[0]} cannot be used: ${finding.detail}; ${remedy.signer} has signed it`, {
      hint: inOneLine(renewedElsewhere([finding])),
    });
  const why = "why" in remedy ? `; ${remedy.why}` : "";
  const option = isInternal(finding.name)
    ? { "new-internal-cas": true }
    : { "new-internal-cas": false, "new-cas": true };
  return new Fail(
    `${finding.paths[0]} is needed and cannot be used: ${finding.state} (${finding.detail}${why})`,
    {
      hint:
        others.length > 0
          ? bringIt(others)
          : `bring it for the time of the repair, if it is stored offline. Or look for it: ./bunw scripts/00-salvage.ts. Or bring it from another control plane node: ./bunw scripts/hand-over.ts. Or from a backup. If it is lost for good: ${again(option, { of: "01-etcd" })}`,
    },
  );
}

/** A second set of new keys beside theirs would be the worst end. */
function bringIt(others: readonly string[]): string {
  return (
    `bring it from ${others.join(" or ")}, first of all if a repair has made a new one there: on that node ./bunw scripts/hand-over.ts pack, then here ./bunw scripts/hand-over.ts unpack FILE. ` +
    `Or look for it here: ./bunw scripts/00-salvage.ts. If none of them has it: ${command("plan")}`
  );
}

/** Commands for CAs whose keys are here, and which another CA has signed: only that CA renews them. */
export function renewedElsewhere(findings: readonly Finding[]): Todo[] {
  const files = findings.map(({ row }) => `FOLDER/${(row as Cert).file}.crt`);
  return [
    ...findings.map(({ paths: [cert = "", key = ""] }) => ({
      command: csrCommand(cert, key),
      note: "for whoever has signed it; no secret is in it",
    })),
    {
      command: command("renew-ca --from FOLDER"),
      note: `on each control plane node; what comes back: ${files.join(", ")}`,
    },
    { command: command("00-assess") },
  ];
}

/** Makes a CSR with the certificate's own name and key: the pair is checked before it is printed. */
export function csrCommand(cert: string, key: string): string {
  return `openssl x509 -x509toreq -in ${shell`${cert}`} -signkey ${shell`${key}`}`;
}

/* The remedy of a shared key. */

export interface CaText {
  ca: "ca" | "front-proxy-ca" | "etcd-ca";
  /** The source for the operator: "kube-root-ca.crt", "pki/ca.crt". */
  from: string;
  text: string;
  /** The content of this CA's own file. Only the key's certificate is taken from a larger bundle. */
  whole?: boolean;
}

/** Proof of the cluster's public keys: certificates, and the `kid` of tokens. */
export interface Evidence {
  texts: readonly CaText[];
  tokens: readonly { kid: string }[];
}

/**
 * The remedy for a bad finding. `certificate`: a known one of this very key, with the rest of its file. `again`: the key is
 * here, its public half is made from it. `renew`: its certificate has expired. `elsewhere`: the same, but only the CA that
 * signed it renews it. `lost`: the key is not here, or is not this cluster's (`why`).
 */
export type Remedy =
  | { do: "certificate"; pem: string; from: string }
  | { do: "again" | "renew" }
  | { do: "elsewhere"; signer: string }
  | { do: "lost"; why?: string };

const STRANGE: Remedy = { do: "lost", why: "the key here is none that the cluster is known by" };

/** The cluster's own record of the CA that it trusts. */
export const CLUSTER_CA_SOURCE = "kube-root-ca.crt";

/** Unreadable texts count as missing. */
export function remedyOf(finding: Finding, evidence: Evidence): Remedy {
  const [first, second] = finding.paths.map(readable);
  const row = CERTS.find(({ name }) => name === finding.name);
  const key = row ? second : first;
  if (!key || attempt(() => privateKeyOf(key)) instanceof Fail) return { do: "lost" };
  return row
    ? caRemedy(row, finding, { key, cert: first }, evidence)
    : serviceAccountRemedy(key, second, evidence);
}

function caRemedy(
  row: Cert,
  finding: Finding,
  here: { key: string; cert: string | undefined },
  { texts }: Evidence,
): Remedy {
  const certificates = knownCertificates(row, here.cert, texts);
  const fit = certificates.find(
    ({ info }) => info.isCa && isValidNow(info) && keyMatches(info.pem, here.key),
  );
  const [inUse] = certificates;
  // the source of the CA in use may name several: the old and the current one
  const isInUse =
    fit &&
    certificates.some(
      ({ from, info }) => from === inUse!.from && info.publicKeyHash === fit.info.publicKeyHash,
    );
  if (fit && (isInUse || madeAt(fit.info.pem) > madeAt(inUse!.info.pem)))
    return { do: "certificate", pem: fit.whole ?? fit.info.pem, from: fit.from };
  const hasExpired = finding.state === "expired";
  if (!hasExpired && !["certificate missing", "unreadable", "does not match its key"].includes(finding.state))
    return { do: "lost" };
  if (
    certificates.length > 0 &&
    !(hasExpired && certificates.some(({ info }) => keyMatches(info.pem, here.key)))
  )
    return STRANGE;
  const signed = leavesOf(row, finding).map((pem) => isSignedWith(pem, here.key));
  if (signed.length > 0 && !signed.includes(true)) return STRANGE;
  if (hasExpired)
    return isSelfSigned(finding.cert!.pem)
      ? { do: "renew" }
      : { do: "elsewhere", signer: finding.cert!.issuer };
  return finding.state === "does not match its key" && signed.length === 0 ? { do: "lost" } : { do: "again" };
}

/**
 * Certificates of this CA from other sources than its own file: those that the cluster trusts first, then the
 * last to expire.
 */
function knownCertificates(row: Cert, cert: string | undefined, texts: readonly CaText[]) {
  // the kubelet's clientCAFile mostly is pki/ca.crt itself, and then proves nothing more
  const isCopy = ({ from, text }: CaText) => from === KUBELETS_CA && text === cert;
  const others = texts.filter(
    (one) => one.ca === row.name && one.from !== `pki/${row.file}.crt` && !isCopy(one),
  );
  const found = others.flatMap(({ from, text, whole }) =>
    infosIn(text).map((info) => ({ from, info, whole: whole ? text : undefined })),
  );
  return found.sort(
    (a, b) =>
      Number(b.from === CLUSTER_CA_SOURCE) - Number(a.from === CLUSTER_CA_SOURCE) ||
      b.info.notAfter.getTime() - a.info.notAfter.getTime(),
  );
}

export const KUBELETS_CA = "the kubelet's client CA";

/**
 * The certificates here, in PEM, that this CA's key has signed: their words about their issuer hold for all
 * certificates of this key.
 */
export function signedWith(row: Cert, finding: Finding, key: string): string[] {
  const users = row.name === "ca" ? KUBECONFIGS : [];
  const pems = users.map(({ path }) => attempt(() => readKubeconfig(path)?.clientCertPem, undefined));
  return [...leavesOf(row, finding), ...pems.flatMap((pem) => infoOf(pem)?.pem ?? [])].filter((pem) =>
    isSignedWith(pem, key),
  );
}

function leavesOf(row: Cert, finding: Finding): string[] {
  const pki = finding.paths[0]!.slice(0, -`/${row.file}.crt`.length);
  return CERTS.filter(({ ca }) => ca === row.name).flatMap(
    ({ file }) => infoOf(readable(`${pki}/${file}.crt`))?.pem ?? [],
  );
}

function isSignedWith(pem: string, key: string): boolean {
  return new X509Certificate(pem).verify(createPublicKey(privateKeyOf(key)));
}

/** A sa.pub that the tokens name counts more than a key that signed none of them. */
function serviceAccountRemedy(key: string, pub: string | undefined, { tokens }: Evidence): Remedy {
  const kids = new Set(tokens.map(({ kid }) => kid));
  if (kids.size === 0 || kids.has(serviceAccountKeyId(publicPem(key)))) return { do: "again" };
  const pubKid = attempt(() => serviceAccountKeyId(pub ?? ""));
  return pub === undefined || pubKid instanceof Fail || kids.has(pubKid) ? STRANGE : { do: "again" };
}

/**
 * The fingerprint of a valid CA of another cluster: etcd's data does not name it, and it is older than those that are
 * named there. A younger one is a new CA as part 1 makes it.
 */
export function foreignCa(certPem: string | undefined, clustersPem: string): string | undefined {
  const own = infoOf(certPem);
  const infos = infosIn(clustersPem);
  if (!own || infos.length === 0 || infos.some(({ publicKeyHash }) => publicKeyHash === own.publicKeyHash))
    return undefined;
  return infos.every(({ pem }) => madeAt(pem) > madeAt(own.pem)) ? own.publicKeyHash : undefined;
}
