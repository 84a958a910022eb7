/**
 * A shared key that is here while its public half is missing, or belongs to another key: is the key the
 * cluster's, and what brings the public half back? A stale or unreadable ca.crt is no reason for a new CA. A
 * key of unknown origin signs nothing.
 */
import { createPublicKey, X509Certificate } from "node:crypto";
import { attempt, Fail } from "../fail.ts";
import {
  certificatesIn,
  infoOf,
  infosIn,
  isValidNow,
  keyMatches,
  madeAt,
  privateKeyOf,
  publicPem,
} from "./certificate.ts";
import { CERTS, type Cert } from "./certs.ts";
import { type Finding, readable } from "./examine.ts";
import { KUBECONFIGS, readKubeconfig } from "./kubeconfigs.ts";
import { isSelfSigned } from "./renew.ts";
import { serviceAccountKeyId } from "./sa-keys.ts";

/** A text with certificates of a CA, and where it was found. */
export interface CaText {
  ca: "ca" | "front-proxy-ca" | "etcd-ca";
  /** For the operator: "kube-root-ca.crt", "pki/ca.crt". */
  from: string;
  text: string;
  /**
   * It is the content of this CA's own file. Else it may be of a larger bundle, and of its certificates only
   * the one of the key is taken.
   */
  whole?: boolean;
}

/** What proves the cluster's public keys: certificates, and the `kid` of tokens. */
export interface Evidence {
  texts: readonly CaText[];
  tokens: readonly { kid: string }[];
}

/**
 * What helps a finding that is not ok. `certificate`: a known one of this very key, with all that its file
 * held. `again`: the key is here, its public half is made from it. `renew`: the key is here, and its
 * certificate has expired. `elsewhere`: so it is, and only the CA that has signed the certificate renews it.
 * `lost`: the key is not here, or does not belong to this cluster (then `why` says so).
 */
export type Remedy =
  | { do: "certificate"; pem: string; from: string }
  | { do: "again" | "renew" }
  | { do: "elsewhere"; signer: string }
  | { do: "lost"; why?: string };

const STRANGE: Remedy = { do: "lost", why: "the key here is none that the cluster is known by" };

/** Where the cluster itself says which CA it trusts. */
export const CLUSTER_CA_SOURCE = "kube-root-ca.crt";

/** Errors: none; what cannot be read counts as not there. */
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
  // what names the one in use may name several: the CA of before and today's
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
 * This CA's certificates from other places than its own file: what the cluster trusts first, then those that
 * expire last.
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

/** A place that names the cluster CA. */
export const KUBELETS_CA = "the kubelet's client CA";

/** For each certificate here that this CA should have signed: whether this key signed it. */
function signedLeaves(row: Cert, finding: Finding, key: string): boolean[] {
  return leavesOf(row, finding).map((pem) => isSignedWith(pem, key));
}

/**
 * The certificates here that this CA's key has signed, in PEM: what they say of their issuer is what all that
 * this key signed says.
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

/** What cannot be read counts as not there. */
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
  const kept = attempt(() => serviceAccountKeyId(pub ?? ""));
  return pub === undefined || kept instanceof Fail || kids.has(kept) ? STRANGE : { do: "again" };
}

/**
 * The fingerprint of a CA that is sound but belongs to another cluster: etcd's data does not name it, and it
 * is older than those that etcd's data names. A younger one is a new CA, as part 1 makes it: undefined.
 */
export function foreignCa(certPem: string | undefined, clustersPem: string): string | undefined {
  const own = infoOf(certPem);
  const known = infosIn(clustersPem);
  if (!own || known.length === 0 || known.some(({ publicKeyHash }) => publicKeyHash === own.publicKeyHash))
    return undefined;
  return known.every(({ pem }) => madeAt(pem) > madeAt(own.pem)) ? own.publicKeyHash : undefined;
}
