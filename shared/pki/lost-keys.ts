/**
 * Judges a shared key whose public half is missing, or belongs to another key: whether it is the cluster's,
 * and how its public half comes back. A stale or unreadable ca.crt is no reason for a new CA. A key of
 * unknown origin signs nothing.
 */
import { createPublicKey, X509Certificate } from "node:crypto";
import { attempt, Fail } from "../fail.ts";
import {
  certificatesIn,
  infoOf,
  infosIn,
  isSelfSigned,
  isValidNow,
  keyMatches,
  madeAt,
  privateKeyOf,
  publicPem,
} from "./certificate.ts";
import { CERTS, type Cert } from "./certs.ts";
import { type Finding, readable } from "./examine.ts";
import { KUBECONFIGS, readKubeconfig } from "./kubeconfigs.ts";
import { serviceAccountKeyId } from "./sa-keys.ts";

/** A text with certificates of a CA, and its source. */
export interface CaText {
  ca: "ca" | "front-proxy-ca" | "etcd-ca";
  /** The source for the operator: "kube-root-ca.crt", "pki/ca.crt". */
  from: string;
  text: string;
  /**
   * It is the content of this CA's own file. Otherwise it may be a larger bundle, from which only the key's
   * certificate is taken.
   */
  whole?: boolean;
}

/** Proof of the cluster's public keys: certificates, and the `kid` of tokens. */
export interface Evidence {
  texts: readonly CaText[];
  tokens: readonly { kid: string }[];
}

/**
 * The remedy for a bad finding. `certificate`: a known one of this very key, with the rest of its file.
 * `again`: the key is here, its public half is made from it. `renew`: the key is here, and its certificate
 * has expired. `elsewhere`: the same, but only the CA that signed the certificate renews it. `lost`: the key
 * is not here, or does not belong to this cluster (then `why` says so).
 */
export type Remedy =
  | { do: "certificate"; pem: string; from: string }
  | { do: "again" | "renew" }
  | { do: "elsewhere"; signer: string }
  | { do: "lost"; why?: string };

const STRANGE: Remedy = { do: "lost", why: "the key here is none that the cluster is known by" };

/** The cluster's own record of the CA that it trusts. */
export const CLUSTER_CA_SOURCE = "kube-root-ca.crt";

/** Throws nothing; unreadable texts count as missing. */
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
  const known = knownCertificates(row, here.cert, texts);
  const fit = known.find(({ info }) => info.isCa && isValidNow(info) && keyMatches(info.pem, here.key));
  const [inUse] = known;
  // the source of the CA in use may name several: the old and the current one
  const isInUse =
    fit &&
    known.some(({ from, info }) => from === inUse!.from && info.publicKeyHash === fit.info.publicKeyHash);
  if (fit && (isInUse || madeAt(fit.info.pem) > madeAt(inUse!.info.pem)))
    return { do: "certificate", pem: fit.whole ?? fit.info.pem, from: fit.from };
  const hasExpired = finding.state === "expired";
  if (!hasExpired && !["certificate missing", "unreadable", "does not match its key"].includes(finding.state))
    return { do: "lost" };
  if (known.length > 0 && !(hasExpired && known.some(({ info }) => keyMatches(info.pem, here.key))))
    return STRANGE;
  const signed = signedLeaves(row, finding, here.key);
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

/** A source that names the cluster CA. */
export const KUBELETS_CA = "the kubelet's client CA";

/** Whether this key signed each certificate here that this CA should have signed. */
function signedLeaves(row: Cert, finding: Finding, key: string): boolean[] {
  return leavesOf(row, finding).map((pem) => isSignedWith(pem, key));
}

/**
 * The certificates here, in PEM, that this CA's key has signed: their words about their issuer hold for all
 * certificates of this key.
 */
export function signedWith(row: Cert, finding: Finding, key: string): string[] {
  const users =
    row.name === "ca"
      ? KUBECONFIGS.map(({ path }) => attempt(() => readKubeconfig(path)?.clientCertPem))
      : [];
  const texts = users.filter((pem) => typeof pem === "string");
  return [...leavesOf(row, finding), ...texts.flatMap(firstIn)].filter((pem) => isSignedWith(pem, key));
}

function leavesOf(row: Cert, finding: Finding): string[] {
  const pki = finding.paths[0]!.slice(0, -`/${row.file}.crt`.length);
  return CERTS.filter(({ ca }) => ca === row.name).flatMap(({ file }) =>
    firstIn(readable(`${pki}/${file}.crt`) ?? ""),
  );
}

/** Unreadable text counts as missing. */
function firstIn(text: string): string[] {
  return certificatesIn(text)
    .slice(0, 1)
    .filter((pem) => infoOf(pem));
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
 * The fingerprint of a valid CA of another cluster: etcd's data does not name it, and it is older than those
 * that etcd's data names. Undefined for a younger one, which is a new CA as part 1 makes it.
 */
export function foreignCa(certPem: string | undefined, clustersPem: string): string | undefined {
  const own = infoOf(certPem);
  const known = infosIn(clustersPem);
  if (!own || known.length === 0 || known.some(({ publicKeyHash }) => publicKeyHash === own.publicKeyHash))
    return undefined;
  return known.every(({ pem }) => madeAt(pem) > madeAt(own.pem)) ? own.publicKeyHash : undefined;
}
