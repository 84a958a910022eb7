/**
 * What of the cluster still has a CA's certificate from before it was renewed, and by when each has to change;
 * and in a CA's last year, whose certificates end with it. Reads only.
 */
import type { KubeApi } from "../api/kube-api.ts";
import type { CheckRow } from "../checks/check.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { attempt, Fail } from "../fail.ts";
import { clientText } from "../node/kubelet-config.ts";
import { rescuedEtcd } from "../node/rescue-folder.ts";
import { infoOf } from "../pki/certificate.ts";
import { clusterCa } from "../pki/examine.ts";
import { day } from "../pki/judge.ts";
import { listed } from "../plain.ts";
import { CLIENT_SIGNER, type Csr, nodeAsking, requestsTo, SERVING_SIGNER } from "../workers/csr.ts";
import { type KnownCas, knownCas } from "./ca-readers.ts";
import { podsWithOlderCa } from "./old-pods.ts";
import { copiesInData, copiesOnNode, type OtherCopy } from "./other-copies.ts";
import type { OldCaHolder } from "./reader-rows.ts";

interface Elsewhere {
  rows: CheckRow[];
  holders: OldCaHolder[];
}

const DAY_MS = 86_400_000;
const YEAR_MS = 365 * DAY_MS;

/**
 * Nothing is looked for where nothing says that a CA was renewed, or once the one before has expired: then
 * other checks say what fails. `named`: files of this node that have been named already. Errors: as KubeApi.
 */
export async function olderElsewhere(
  cp: ControlPlaneNode,
  api: KubeApi,
  named: ReadonlySet<string>,
  now = new Date(),
): Promise<Elsewhere> {
  const cas = knownCas(cp.facts.certificatesDir, cp.cluster.oldCaPem);
  const isOpen = (ca: keyof KnownCas) => (cas[ca]?.olderEnd ?? now) > now;
  const capped = await cappedRow(cp, api, now);
  if (!(Object.keys(cas) as (keyof KnownCas)[]).some(isOpen)) return { rows: capped, holders: [] };
  const { copies, unseen } = copiesOf(cp, cas);
  const older = copies.filter(
    ({ where, ca, until }) => now < until && until < cas[ca]!.end && !named.has(where),
  );
  const pods = isOpen("ca") ? await podsWithOlderCa(api, cas.ca!) : [];
  const until = cas.ca?.olderEnd ?? now;
  return {
    rows: [
      ...capped,
      { id: "ca-copies", look: () => copiesAnswer(older, unseen) },
      ...(isOpen("ca") ? [{ id: "pods-renewed", look: () => podsAnswer(pods, until, now) } as const] : []),
    ],
    holders: [
      ...older.map(
        (one) =>
          ({
            kind: one.where.startsWith("/") ? "file" : "object",
            name: one.where,
            until: one.until,
          }) as const,
      ),
      ...pods.map((name) => ({ kind: "pod", name, until }) as const),
    ],
  };
}

/** The copy of a repair that has begun is not what the cluster stores now. */
function copiesOf(cp: ControlPlaneNode, cas: KnownCas): { copies: OtherCopy[]; unseen: string[] } {
  const { copies, unseen } = copiesOnNode(cas);
  if (cp.dataFrom === rescuedEtcd(cp.rescue)) return { copies, unseen: ["stored objects", ...unseen] };
  const found = attempt(() => copiesInData(cp.data, cas));
  if (found instanceof Fail) return { copies, unseen: [`stored objects (${found.message})`, ...unseen] };
  const sealed = found.sealed > 0 ? [`${found.sealed} encrypted object${found.sealed === 1 ? "" : "s"}`] : [];
  return { copies: [...copies, ...found.copies], unseen: [...sealed, ...unseen] };
}

/** What people hold is theirs, and named. */
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
  const said = `${pods.length} not yet: until ${day(until)} each has to restart once: ${listed(pods)}`;
  return until.getTime() - now.getTime() < YEAR_MS ? { warning: said } : said;
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
  return [{ id: "expiry-kubelets", look: () => ({ warning }) }];
}
