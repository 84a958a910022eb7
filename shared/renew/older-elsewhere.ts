/**
 * Old certificates of renewed CAs elsewhere in the cluster, and by when each has to change; in a CA's last
 * year also the certificates that expire with it. Reads only.
 */
import type { KubeApi } from "../api/kube-api.ts";
import { nameOf } from "../api/kube-object.ts";
import { readAll } from "../api/many.ts";
import { type CheckRow, check } from "../checks/check.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import {
  lastWritten,
  mountedBefore,
  NOT_YET,
  type RunningPod,
  type TrustHolder,
} from "../facts/pod-trust.ts";
import { attempt, Fail } from "../fail.ts";
import { textsHere } from "../files/untrusted-file.ts";
import { clientText } from "../node/kubelet-config.ts";
import { rescuedEtcd } from "../node/rescue-folder.ts";
import { AGGREGATED_TRUST, registryPrefix, sealOf } from "../objects/stored.ts";
import { day, infoOf, infosIn } from "../pki/certificate.ts";
import { clusterCa } from "../pki/examine.ts";
import { listed, plainLine } from "../plain.ts";
import { CLIENT_SIGNER, type Csr, nodeAsking, requestsTo, SERVING_SIGNER } from "../workers/csr.ts";
import { trustReached } from "../workloads/root-ca.ts";
import { type CaOfKey, type KnownCas, knownCas, newestOf } from "./ca-readers.ts";
import type { OldCaHolder } from "./reader-rows.ts";

const YEAR_MS = 365 * 86_400_000;

/**
 * Looks only if a CA was renewed and its old certificate has not expired: after that, other checks name the failures.
 * `named`: files of this node that were named before. Errors: as KubeApi.
 */
export async function olderElsewhere(
  cp: ControlPlaneNode,
  api: KubeApi,
  named: ReadonlySet<string>,
  now = new Date(),
) {
  const cas = knownCas(cp.facts.certificatesDir, cp.cluster.oldCaPem);
  const isOpen = (ca: keyof KnownCas) => (cas[ca]?.olderEnd ?? now) > now;
  const rows = await cappedRow(cp, api, now);
  if (!(Object.keys(cas) as (keyof KnownCas)[]).some(isOpen)) return { rows, holders: [] };
  const { copies, unseen } = copiesOf(cp, cas);
  const older = copies.filter(
    ({ where, ca, until }) => now < until && until < cas[ca]!.end && !named.has(where),
  );
  const pods = isOpen("ca") ? await podsWithOlderCa(api, cas.ca!) : [];
  const end = cas.ca?.olderEnd ?? now;
  rows.push(check("ca-copies", () => copiesAnswer(older, unseen)));
  if (isOpen("ca")) rows.push(check("pods-renewed", () => podsAnswer(pods, end, now)));
  const holders = older.map(
    ({ where, until }): OldCaHolder => ({
      kind: where.startsWith("/") ? "file" : "object",
      name: where,
      until,
    }),
  );
  return { rows, holders: [...holders, ...pods.map((name) => ({ kind: "pod", name, until: end }) as const)] };
}

/** A repair's copy of the data may be older than the cluster's current objects. */
function copiesOf(cp: ControlPlaneNode, cas: KnownCas) {
  const { copies, unseen } = copiesOnNode(cas);
  if (cp.dataFrom === rescuedEtcd(cp.rescue)) return { copies, unseen: ["stored objects", ...unseen] };
  const found = attempt(() => copiesInData(cp.data, cas));
  if (found instanceof Fail) return { copies, unseen: [`stored objects (${found.message})`, ...unseen] };
  const sealed = found.sealed > 0 ? [`${found.sealed} encrypted object${found.sealed === 1 ? "" : "s"}`] : [];
  return { copies: [...copies, ...found.copies], unseen: [...sealed, ...unseen] };
}

const OUTSIDE = [
  "other nodes (05-verify there)",
  "kubeconfigs of people and of CI, which are theirs to change",
];

function copiesAnswer(copies: readonly OtherCopy[], unseen: readonly string[]) {
  const own = unseen.length > 0 ? [listed(unseen)] : [];
  const rest = `not seen from here: ${[...own, ...OUTSIDE].join(", ")}`;
  if (copies.length === 0) return `none in stored objects and files here; ${rest}`;
  const first = copies.map(({ until }) => until).sort((a, b) => a.getTime() - b.getTime())[0]!;
  return {
    warning: `until ${day(first)} it has to be replaced in ${listed(copies.map(({ where }) => where))}; ${rest}`,
  };
}

function podsAnswer(pods: readonly string[], until: Date, now: Date) {
  if (pods.length === 0) return "all";
  const detail = `${pods.length} not yet: until ${day(until)} each has to restart once: ${listed(pods)}`;
  return until.getTime() - now.getTime() < YEAR_MS ? { warning: detail } : detail;
}

/** The controller-manager signs nothing beyond its CA's end (pkg/controller/certificates/authority, policies.go). */
async function cappedRow(
  { node, facts, cluster }: ControlPlaneNode,
  api: KubeApi,
  now: Date,
): Promise<CheckRow[]> {
  const end = infoOf(clusterCa(facts.certificatesDir))?.notAfter;
  if (!end || end <= now || end.getTime() - now.getTime() > YEAR_MS) return [];
  const endsWithIt = (pem: string | undefined) => infoOf(pem)?.notAfter.getTime() === end.getTime();
  const seen = new Set(endsWithIt(clientText(node.kubelet)) ? [node.name] : []);
  for (const signer of [CLIENT_SIGNER, SERVING_SIGNER])
    for await (const csr of api.items<Csr>(requestsTo(signer)))
      if (endsWithIt(Buffer.from(csr.status?.certificate ?? "", "base64").toString()))
        seen.add(nodeAsking(csr));
  if (seen.size === 0) return [];
  const names = `${seen.size} of ${cluster.nodes.length} nodes are seen: ${listed([...seen])}`;
  const since = day(new Date(end.getTime() - YEAR_MS));
  const warning = `on ${day(end)} all that are signed since ${since} expire with the CA, in the same second; ${names}`;
  return [check("expiry-kubelets", () => ({ warning }))];
}

/**
 * They started before kube-root-ca.crt, or a token's Secret, had the current one. None has to restart before the old
 * one expires. Returns `namespace/name` of each, as the API lists them. Errors: as KubeApi.
 */
export async function podsWithOlderCa(api: KubeApi, ca: CaOfKey): Promise<string[]> {
  const isCurrent = (text: string) => (newestOf(text, ca.hash)?.notAfter ?? ca.end) >= ca.end;
  const since = (holder: TrustHolder, text: string) =>
    isCurrent(text) ? lastWritten(holder, new Date(0)) : NOT_YET;
  const cutOff = await trustReached(api, { map: since, secret: since });
  const found: string[] = [];
  await readAll("pods", api.items<RunningPod>("/api/v1/pods"), (pod) => {
    if (mountedBefore(pod, cutOff)) found.push(nameOf(pod));
  });
  return found;
}

/**
 * Other places with an old certificate of a CA's key: files of this node, and objects that the cluster
 * stores, whoever made them. They become lines for people, and a list of what this kit changes.
 */
interface OtherCopy {
  /** A file's path, or an object as `configmaps/NAMESPACE/NAME`. */
  where: string;
  ca: keyof KnownCas;
  until: Date;
}

/** Searches the objects of etcd's data, in their order; `sealed`: values that nothing here can open. */
export function copiesInData(data: EtcdData, cas: KnownCas) {
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
 * Each API server adds its CAs to it, and removes expired ones (pkg/controlplane/controller,
 * clusterauthenticationtrust).
 */
const UNION = `configmaps/${AGGREGATED_TRUST}`;

/** Searches the files of this node; `unseen`: folders that were not searched to the end, with the reason. */
export function copiesOnNode(cas: KnownCas) {
  const unseen: string[] = [];
  const copies: OtherCopy[] = [];
  for (const one of textsHere()) {
    const path = plainLine(one.path);
    if ("unseen" in one) unseen.push(`${path} (${one.unseen})`);
    else copies.push(...copiesIn(Buffer.from(one.text), path, cas));
  }
  return { copies, unseen };
}

function copiesIn(bytes: Buffer, where: string, cas: KnownCas): OtherCopy[] {
  if (!bytes.includes(BEGIN) && !bytes.includes(BEGIN_IN_BASE64)) return [];
  const all = infosIn(plainPem(bytes.toString("latin1")));
  return (Object.keys(cas) as (keyof KnownCas)[]).flatMap((ca) => {
    const current = cas[ca];
    const ends = all
      .filter(
        (one) => one.publicKeyHash === current?.hash && one.notAfter.getTime() !== current.end.getTime(),
      )
      .map(({ notAfter }) => notAfter.getTime());
    return ends.length > 0 ? [{ where, ca, until: new Date(Math.min(...ends)) }] : [];
  });
}

const BEGIN = "-----BEGIN CERTIFICATE-----";
/** As in kubeconfigs and in Secrets that are stored as JSON; whole groups of three bytes. */
const BEGIN_IN_BASE64 = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t";

/** Puts each certificate at the beginning of a line, unlike JSON, YAML, binary or base64. */
function plainPem(text: string): string {
  const inBase64 = [...text.matchAll(/LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t[A-Za-z0-9+/]*/g)];
  const decoded = inBase64.map(([match]) => Buffer.from(match, "base64").toString("latin1"));
  return [text, ...decoded]
    .join("\n")
    .replaceAll("\\n", "\n")
    .replace(/^[ \t]+/gm, "")
    .replaceAll(BEGIN, `\n${BEGIN}`);
}
