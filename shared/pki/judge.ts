/** Single checks of a certificate: each returns undefined, or the fault as a state and a sentence. */
import { attempt, Fail } from "../fail.ts";
import { isFor, type Names } from "./addresses.ts";
import {
  type CertInfo,
  certInfo,
  day,
  keyMatches,
  privateKeyOf,
  publicKeyOf,
  publicKeysIn,
  signedBy,
} from "./certificate.ts";
import { ADMINS_GROUP, type Cert, type ClusterFacts, subjectOf } from "./certs.ts";
import { clusterServer, localServer } from "./kubeconfigs.ts";

export type State =
  | "ok"
  | "missing"
  | "key missing"
  | "certificate missing"
  | "public key missing"
  | "unreadable"
  | "does not match its key"
  | "CA missing"
  | "wrong CA"
  | "expired"
  | "not yet valid"
  | "wrong names"
  | "wrong usage"
  | "wrong server"
  | "wrong user";

/** The fault of a file: state and detail; undefined if there is none. */
export type Verdict = [State, string] | undefined;

/**
 * It works, but is not as kubeadm-config says: no damage. `before`: the command to type before the next
 * kubeadm upgrade.
 */
export interface Difference {
  differs: string;
  before?: string | undefined;
}

export function pairVerdict(cert: string | undefined, key: string | undefined): Verdict {
  if (cert === undefined && key === undefined) return ["missing", "neither certificate nor key is there"];
  if (cert === undefined)
    return attempt(() => privateKeyOf(key!)) instanceof Fail
      ? ["unreadable", "there is a key without a certificate, and it cannot be read"]
      : ["certificate missing", "the key is there without its certificate"];
  const info = attempt(() => certInfo(cert));
  if (info instanceof Fail) return ["unreadable", "the certificate cannot be read"];
  if (key === undefined)
    return ["key missing", `the certificate is there (${nameIn(info.subject)}) without its key`];
  const matches = attempt(() => keyMatches(cert, key));
  if (matches instanceof Fail) return ["unreadable", "the key cannot be read"];
  return matches ? undefined : ["does not match its key", "certificate and key do not belong together"];
}

export function caVerdict(cert: string, info: CertInfo, ca: string | undefined, caPath: string): Verdict {
  if (ca === undefined)
    return ["CA missing", `${caPath} is not there to check it with (its issuer is ${nameIn(info.issuer)})`];
  return attempt(() => signedBy(cert, ca)) === true
    ? undefined
    : ["wrong CA", `${caPath} did not sign it (its issuer is ${nameIn(info.issuer)})`];
}

export function timeVerdict(info: CertInfo): Verdict {
  const now = new Date();
  if (info.notAfter < now) return ["expired", `it was valid until ${day(info.notAfter)}`];
  return info.notBefore > now
    ? ["not yet valid", `it is valid only from ${info.notBefore.toISOString()} on; is the clock right?`]
    : undefined;
}

export function usageVerdict(row: Pick<Cert, "usages">, info: CertInfo): Verdict {
  const lacking = row.usages.filter((usage) => !info.usages.includes(usage));
  return lacking.length > 0 ? ["wrong usage", `it is not made for a ${lacking.join(" and ")}`] : undefined;
}

export function subjectVerdict(
  row: Pick<Cert, "cn" | "o" | "boundByName" | "ca">,
  info: CertInfo,
  facts: ClusterFacts,
  state: State,
): Verdict {
  const { cn, o } = subjectOf(row, facts);
  if (info.cn !== cn) return [state, `its CN is "${info.cn}", not "${cn}"`];
  const bound = row.boundByName && facts.kubeletClientBound && info.o.length === 0;
  const groups = [o ?? "", "system:masters", ...(facts.adminsBound ? [ADMINS_GROUP] : [])];
  // etcd reads no group
  const entitled = !o || row.ca === "etcd-ca" || groups.some((one) => info.o.includes(one)) || bound;
  return entitled ? undefined : [state, `its group is "${info.o.join(", ")}", not "${o}"`];
}

export function namesVerdict(row: Pick<Cert, "needs">, { sans }: CertInfo, facts: ClusterFacts): Verdict {
  const missing = missingNames(sans, row.needs?.(facts));
  return missing.length > 0 ? ["wrong names", `it is not valid for ${missing.join(", ")}`] : undefined;
}

/** Missing names that kubeadm adds but no known client needs, and a wrong CN of a server. */
export function namesDifference(
  row: Pick<Cert, "cn" | "o" | "names">,
  { sans, cn }: CertInfo,
  facts: ClusterFacts,
): Difference | undefined {
  const missing = missingNames(sans, row.names?.(facts));
  const words = [
    ...(missing.length > 0
      ? [`not valid for ${missing.join(", ")}, and no client that is known needs it`]
      : []),
    ...(row.names && cn !== subjectOf(row, facts).cn ? [`its CN is "${cn}", and no client looks at it`] : []),
  ];
  return words.length > 0 ? { differs: words.join("; ") } : undefined;
}

function missingNames(has: Names, wanted: Names | undefined): string[] {
  return [...(wanted?.dns ?? []), ...(wanted?.ips ?? [])].filter((name) => !isFor(has, name));
}

/** A server is right if it is one of the cluster's: `servers` of the facts lists those that were checked. */
export function serverVerdict(server: string, facts: ClusterFacts): Verdict {
  const servers = [clusterServer(facts), localServer(facts)];
  if ([...servers, ...(facts.servers ?? []), facts.serverBefore].includes(server)) return undefined;
  return ["wrong server", `it points to ${server}, not to ${[...new Set(servers)].join(" or ")}`];
}

/** kubeadm changed its mind between versions: it treats this node's API server and the endpoint as equal. */
export function serverDifference(server: string, facts: ClusterFacts): Difference | undefined {
  const servers = [...new Set([clusterServer(facts), localServer(facts)])];
  return servers.includes(server)
    ? undefined
    : { differs: `leads to ${server}, not to ${servers.join(" or ")}` };
}

export function nameIn(subject: string): string {
  return /CN=((?:\\.|[^,\\])+)/.exec(subject)?.[1]?.replaceAll(/\\(.)/g, "$1") ?? subject;
}

/** Judges the pair that signs service-account tokens, wherever it was read from. */
export function serviceAccountVerdict(key: string | undefined, pub: string | undefined): Verdict {
  if (key === undefined)
    return pub === undefined
      ? ["missing", "neither sa.key nor sa.pub is there"]
      : ["key missing", "sa.pub is there without sa.key"];
  if (attempt(() => privateKeyOf(key)) instanceof Fail) return ["unreadable", "sa.key cannot be read"];
  if (pub === undefined) return ["public key missing", "sa.key is there without sa.pub"];
  if (attempt(() => publicKeyOf(pub)) instanceof Fail) return ["unreadable", "sa.pub cannot be read"];
  return publicKeysIn(pub).some((one) => attempt(() => keyMatches(one, key)) === true)
    ? undefined
    : ["does not match its key", "sa.pub does not hold the public half of sa.key"];
}
