/**
 * Where else a certificate lies that has a CA's key and is not today's: in files of this node, and in objects
 * that the cluster stores, whoever made them. They only become lines for people, and what this kit itself has
 * to change. Reads only.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { textsHere } from "../files/untrusted-file.ts";
import { AGGREGATED_TRUST, registryPrefix, sealOf } from "../objects/stored.ts";
import { infosIn } from "../pki/certificate.ts";
import { plainLine } from "../plain.ts";
import type { KnownCas } from "./ca-readers.ts";

export interface OtherCopy {
  /** A file's path, or an object as `configmaps/NAMESPACE/NAME`. */
  where: string;
  ca: keyof KnownCas;
  /** When the one that ends first expires. */
  until: Date;
}

/** In the objects of etcd's data, in their order; `sealed`: values that nothing here can open. */
export function copiesInData(data: EtcdData, cas: KnownCas): { copies: OtherCopy[]; sealed: number } {
  const prefix = `${registryPrefix(data)}/`;
  let sealed = 0;
  const copies: OtherCopy[] = [];
  for (const { key, value } of data.list(prefix)) {
    const name = key.slice(prefix.length);
    if (name === UNION) continue;
    if (sealOf(value)) sealed++;
    else copies.push(...copiesIn(Buffer.from(value), plainLine(name), cas));
  }
  return { copies, sealed };
}

/**
 * Each API server adds its CAs to it, and takes those out that have expired (pkg/controlplane/controller,
 * clusterauthenticationtrust).
 */
const UNION = `configmaps/${AGGREGATED_TRUST}`;

/** In the files of this node; `unseen`: folders of which not all was looked at, with the reason. */
export function copiesOnNode(cas: KnownCas): { copies: OtherCopy[]; unseen: string[] } {
  const unseen: string[] = [];
  const copies: OtherCopy[] = [];
  for (const one of textsHere()) {
    const where = plainLine(one.path);
    if ("unseen" in one) unseen.push(`${where} (${one.unseen})`);
    else copies.push(...copiesIn(Buffer.from(one.text), where, cas));
  }
  return { copies, unseen };
}

function copiesIn(bytes: Buffer, where: string, cas: KnownCas): OtherCopy[] {
  if (!bytes.includes(BEGIN) && !bytes.includes(BEGIN_IN_BASE64)) return [];
  const all = infosIn(plainPem(bytes.toString("latin1")));
  return (Object.keys(cas) as (keyof KnownCas)[]).flatMap((ca) => {
    const today = cas[ca];
    const ends = all
      .filter((one) => one.publicKeyHash === today?.hash && one.notAfter.getTime() !== today.end.getTime())
      .map(({ notAfter }) => notAfter.getTime());
    return ends.length > 0 ? [{ where, ca, until: new Date(Math.min(...ends)) }] : [];
  });
}

const BEGIN = "-----BEGIN CERTIFICATE-----";
/** As in kubeconfigs and in Secrets that are stored as JSON; whole groups of three bytes. */
const BEGIN_IN_BASE64 = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t";

/** Each certificate at the beginning of a line: in JSON, in YAML, behind a length, or in base64 it is not. */
function plainPem(text: string): string {
  const inBase64 = [...text.matchAll(/LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t[A-Za-z0-9+/]*/g)];
  const decoded = inBase64.map(([match]) => Buffer.from(match, "base64").toString("latin1"));
  return [text, ...decoded]
    .join("\n")
    .replaceAll("\\n", "\n")
    .replace(/^[ \t]+/gm, "")
    .replaceAll(BEGIN, `\n${BEGIN}`);
}
