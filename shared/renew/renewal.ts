/**
 * The CAs of a node, and the successor of each one's certificate: with the same key, name and key id, so that
 * all certificates of the CA stay valid, and both may be in use side by side.
 */
import { Fail, Refused } from "../fail.ts";
import { readText } from "../files/files.ts";
import { csrCommand, signedWith } from "../pki/actions.ts";
import {
  type CertInfo,
  certInfo,
  certificatesIn,
  day,
  infoOf,
  infosIn,
  isSelfSigned,
  isValidNow,
  partsOf,
  signedBy,
} from "../pki/certificate.ts";
import { type Cert, type ClusterFacts, certPath, certRow, keyPath } from "../pki/certs.ts";
import { caText, examine } from "../pki/examine.ts";
import { keyIdOf, renewCa } from "../pki/renew.ts";

export type CaName = "ca" | "etcd-ca" | "front-proxy-ca";

/** CAs whose renewal restarts nothing come first. */
export const CA_NAMES: readonly CaName[] = ["front-proxy-ca", "etcd-ca", "ca"];

export interface Candidate {
  pem: string;
  from: string;
}

/** The certificate to use. If nothing is to be done, `next` is `now`. */
export interface Renewal {
  name: CaName;
  path: string;
  now: Readonly<CertInfo>;
  next: Readonly<CertInfo>;
  note: string;
}

/** The answer for programs: dates are ISO 8601. */
export function asData({ name, path, now, next, note }: Renewal) {
  const [notAfter, notAfterThen] = [now, next].map((cert) => cert.notAfter.toISOString());
  return { name, path, changes: now.pem !== next.pem, notAfter, notAfterThen, note };
}

const HOUR_MS = 3_600_000;

/**
 * In the second half of the lifetime of CAs here: with ten years, five before the end. An early renewal needs
 * no restarts of its own: hardware and releases change anyway (OpenShift's service CA has the same rule).
 */
export function isDue({ notAfter }: Pick<CertInfo, "notAfter">, hours: number, now = new Date()): boolean {
  return notAfter.getTime() - now.getTime() < (hours * HOUR_MS) / 2;
}

/** Hours: a CA made here has the cluster's lifetime; a CA of others keeps its own. */
function lifeOf({ pem, notBefore, notAfter }: Readonly<CertInfo>, facts: ClusterFacts): number {
  return isSelfSigned(pem) ? facts.caValidityHours : (+notAfter - +notBefore) / HOUR_MS;
}

/** CAs of a node in the second half of their life: their files, and when the first of them expires. */
interface DueCas {
  files: readonly string[];
  first: Date;
}

/** Self-signed CAs that have not expired: a repair renews the others. */
export function dueCas(facts: ClusterFacts): DueCas | undefined {
  const due = CA_NAMES.flatMap((name) => {
    const info = infoOf(caText(name, facts.certificatesDir));
    return info && isValidNow(info) && isSelfSigned(info.pem) && isDue(info, facts.caValidityHours)
      ? [{ file: `${certRow(name).file}.crt`, end: info.notAfter }]
      : [];
  });
  const [first] = due.map(({ end }) => end).sort((a, b) => a.getTime() - b.getTime());
  return first && { files: due.map(({ file }) => file), first };
}

/**
 * The last to expire: with its key, name and key id, valid, and signed by that key, which proves it whatever its
 * source. `word`: an operator brings them from the signer of this CA. Undefined: none expires later.
 */
export function successorOf(
  now: Readonly<CertInfo>,
  candidates: readonly Candidate[],
  { word = false } = {},
): Candidate | undefined {
  const fits = (info: CertInfo) =>
    info.notAfter > now.notAfter &&
    isValidNow(info) &&
    unlikeOld(now.pem, info.pem).length === 0 &&
    (word || isSelfSigned(info.pem));
  const all = candidates.flatMap(({ pem, from }) =>
    infosIn(pem)
      .filter(fits)
      .map((info) => ({ pem: info.pem, from, end: info.notAfter.getTime() })),
  );
  return all.sort((a, b) => b.end - a.end)[0];
}

/** A word each: clients that trust the old one find it by its key, name or key id. */
export function unlikeOld(oldPem: string, newPem: string): string[] {
  const [old, next] = [partsOf(oldPem), partsOf(newPem)];
  const [was, is] = [certInfo(oldPem), certInfo(newPem)];
  const differs: [what: string, is: boolean][] = [
    ["key", was.publicKeyHash !== is.publicKeyHash],
    ["name", !old.subject.equals(next.subject)],
    ["issuer", !old.issuer.equals(next.issuer)],
    ["key id", keyIdOf(oldPem) !== keyIdOf(newPem)],
    ["CA:TRUE", !is.isCa],
  ];
  return differs.flatMap(([what, isOther]) => (isOther ? what : []));
}

interface Sources {
  candidates: readonly Candidate[];
  brought: Candidate | undefined;
  /** Certificates of this node outside of the PKI's folder: each is signed by some CA. */
  leaves: readonly string[];
}

/**
 * A file that the operator brings counts first, then the one in use in the cluster, so that all nodes have the same;
 * else its own key makes it: each node makes the same bytes. Errors: Refused if it has expired, or its key is not
 * here and no file was brought; as `renewCa`.
 */
export function renewalOf(
  name: CaName,
  facts: ClusterFacts,
  { candidates, brought, leaves }: Sources,
): Renewal {
  const path = certPath(name, facts.certificatesDir);
  const now = certInfo(caText(name, facts.certificatesDir) ?? "");
  const renewal = (pem: string, note: string): Renewal => ({ name, path, now, next: certInfo(pem), note });
  if (brought) return renewal(...asBrought(now, brought));
  if (!isValidNow(now) && isSelfSigned(now.pem))
    throw new Refused(`"${path}" has expired (${day(now.notAfter)}): the repair renews it`, {
      unchanged: true,
      hint: "./bunw scripts/00-assess.ts, then parts 0 to 5: they renew it with its own key",
    });
  const [row, life] = [certRow(name), lifeOf(now, facts)];
  if (!isDue(now, life)) return renewal(now.pem, `unchanged, until ${day(now.notAfter)}`);
  const used = successorOf(now, candidates);
  if (used && !isDue(certInfo(used.pem), life)) return renewal(used.pem, `in use already: ${used.from}`);
  const key = readText(keyPath(name, facts.certificatesDir));
  if (key === undefined || !isSelfSigned(now.pem)) throw keyMissing(row, now, key, facts);
  const others = leaves.filter((pem) => signedBy(pem, now.pem));
  const signed = [...signedWith(row, examine(row, facts), key), ...others];
  return renewal(renewCa(now.pem, key, { hours: facts.caValidityHours, signed }), "renewed with its own key");
}

/** Errors: Fail if it cannot replace the one here. */
export function asBrought(now: Readonly<CertInfo>, { pem, from }: Candidate): [pem: string, note: string] {
  const found = successorOf(now, [{ pem, from }], { word: true });
  if (found) return [found.pem, from];
  const [info] = infosIn(pem);
  if (info?.pem === now.pem) return [now.pem, `unchanged, it is the one in ${from}`];
  const unlike = info ? unlikeOld(now.pem, info.pem) : [];
  const why = info
    ? unlike.length > 0
      ? `it has another ${unlike.join(", another ")}`
      : `it is valid from ${day(info.notBefore)} until ${day(info.notAfter)}, the one here until ${day(now.notAfter)}`
    : "it holds no certificate";
  throw new Fail(`"${from}" cannot take the place of "${now.subject}": ${why}`, {
    unchanged: true,
    hint: "ask those who sign this CA to keep its key, its name and its key id (openssl x509 -noout -text)",
  });
}

function keyMissing(row: Cert, now: CertInfo, key: string | undefined, facts: ClusterFacts): Refused {
  const path = certPath(row, facts.certificatesDir);
  const end = `it ${isValidNow(now) ? "expires" : "has expired"} on ${day(now.notAfter)}`;
  if (key !== undefined)
    return new Refused(`"${path}" is signed by "${now.issuer}", and only that can renew it; ${end}`, {
      unchanged: true,
      hint: `send the signer what this prints (no secret): ${csrCommand(path, keyPath(row.name, facts.certificatesDir))}. Put what comes back into FOLDER/${row.file}.crt, then: --from FOLDER`,
    });
  return new Refused(`The key of "${path}" is not here, and ${end}`, {
    unchanged: true,
    hint: `run this script where the key is, and copy ${row.file}.crt from there (no secret) to FOLDER/${row.file}.crt here. Then: --from FOLDER`,
  });
}

/** `next` instead of each certificate of its key, name and issuer, once; all others stay, in their order. */
export function renewedIn(text: string, next: Readonly<CertInfo>): string {
  const own = certificatesIn(text).filter((pem) => isOf(next, infoOf(pem)));
  if (own.length < 2 && (own[0] ?? next.pem) === next.pem) return text;
  const plain = text.replaceAll("\r", "");
  const emptied = own.reduce((left, pem, i) => left.replace(pem.trim(), i === 0 ? PLACE : ""), plain);
  return emptied.replace(PLACE, () => next.pem.trim());
}

/** Marks the first of several while the others are removed: no PEM text contains it. */
const PLACE = "\0";

/** The same for a kubeconfig, which holds it in base64, and for a text with both. */
export function renewedText(text: string, next: Readonly<CertInfo>): string {
  const inConfigs = text.replace(
    /(certificate-authority-data["']?:\s*["']?)([\w+/=]+)/g,
    (all, head: string, data: string) => {
      const pem = Buffer.from(data, "base64").toString();
      const renewed = renewedIn(pem, next);
      return renewed === pem ? all : head + Buffer.from(renewed).toString("base64");
    },
  );
  return renewedIn(inConfigs, next);
}

/** Compares key, name and issuer: a certificate that another CA made for the same key stays. */
function isOf(next: Readonly<CertInfo>, info: Readonly<CertInfo> | undefined): boolean {
  return (
    info?.isCa === true &&
    info.publicKeyHash === next.publicKeyHash &&
    info.subject === next.subject &&
    info.issuer === next.issuer
  );
}
