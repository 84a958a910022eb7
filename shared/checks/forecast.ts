/**
 * Names what ends later on this node: certificates within 90 days, CAs within a year, with what renews each; and a
 * repair's open ends, until somebody closes them.
 */
import { basename } from "node:path";
import type { EtcdHome } from "../etcd-location/etcd-home.ts";
import { startWithoutFlag } from "../facts/lost-files.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { attempt } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { readable } from "../files/readable.ts";
import { standIns } from "../manifests/repair-changes.ts";
import { clientText } from "../node/kubelet-config.ts";
import type { Node } from "../node/node.ts";
import { type SavedOption, savedAtText, savedOptionsOf } from "../node/words.ts";
import { hostAndPort } from "../pki/addresses.ts";
import { day, infoOf, infosIn, signedBy, signingFirst } from "../pki/certificate.ts";
import { CERTS, certPath } from "../pki/certs.ts";
import { KUBECONFIGS, readKubeconfig } from "../pki/kubeconfigs.ts";
import { oldSaPub } from "../pki/sa-keys.ts";
import { shownSoon } from "../pki/served.ts";
import { listed } from "../plain.ts";
import { endGivenUp } from "../static-pods/without-files.ts";
import { type CheckRow, check, dated } from "./check.ts";
import type { CheckId } from "./kinds.ts";

export interface Ending {
  kind: "ca" | "certificate" | "kubeconfig" | "kubelet" | "etcd";
  /** A URL for a server's on another machine. */
  path: string;
  notBefore: Date;
  notAfter: Date;
  /** The kubelet does not renew it: rotateCertificates: false. */
  isKept?: boolean;
}

/**
 * On a control plane node from its tables, on a worker the kubelet's. Leaves out missing and unreadable
 * files: they have checks of their own.
 */
export function endingsHere(
  { kubelet }: Pick<Node, "kubelet">,
  certificatesDir: string | undefined,
  home?: Pick<EtcdHome, "runs" | "unit" | "client">,
): Ending[] {
  const isOther = home && ["unit", "elsewhere"].includes(home.runs);
  const etcds = isOther ? [home.client[1] ?? [], home.unit?.pairs.map(({ cert }) => cert) ?? []].flat() : [];
  const ofTable = CERTS.map((row) => ({ row, path: certPath(row, certificatesDir ?? "") }));
  const ownCas = [
    ...ofTable.flatMap(({ row, path }) =>
      etcds.includes(path) ? [] : { kind: row.ca ? ("certificate" as const) : ("ca" as const), path },
    ),
    ...[...new Set(etcds)].map((path) => ({ kind: "etcd" as const, path })),
  ];
  const pki = certificatesDir ? ownCas : [{ kind: "ca" as const, path: kubelet.clientCaFile }];
  const { keepsCertificate: isKept, kubeconfig, clientPem, serverPem } = kubelet;
  const client = endingOf("kubelet", isKept ? kubeconfig : clientPem, clientText(kubelet));
  const configs = certificatesDir ? KUBECONFIGS.filter(({ name }) => name !== "kubelet") : [];
  const all = [
    ...pki,
    { kind: "kubelet" as const, path: serverPem },
    ...configs.map(({ path }) => ({ kind: "kubeconfig" as const, path })),
  ];
  const endings = all.flatMap(({ kind, path }) => {
    const read = () => (kind === "kubeconfig" ? readKubeconfig(path)?.clientCertPem : readText(path));
    const text = attempt(read, undefined);
    return endingOf(kind, path, kind === "ca" ? caIn(text, path, kubelet) : text);
  });
  return [...endings, ...client.map((one) => ({ ...one, isKept }))];
}

/** The one of several CAs whose key is here; else the one that has signed the kubelet's certificate. */
function caIn(text = "", path: string, kubelet: Node["kubelet"]) {
  const key = readable(path.replace(/crt$/, "key"));
  if (key) return signingFirst(text, key);
  const own = clientText(kubelet);
  return infosIn(text).find(({ pem }) => attempt(() => signedBy(own, pem), false))?.pem ?? text;
}

/** Certificates that members of an etcd on other machines show, of its CA. */
export async function endingsShown({
  facts,
  data,
}: Pick<ControlPlaneNode, "facts" | "data">): Promise<Ending[]> {
  const ca = facts.externalEtcd?.elsewhere && readText(facts.externalEtcd.ca);
  const urls = ca ? (data.elsewhere?.members ?? []).flatMap(({ clientURLs }) => clientURLs) : [];
  const shown = urls.map(async (url) => {
    const { host, port } = hostAndPort(url);
    const pem = await shownSoon(host, port);
    return pem && signedBy(pem, ca!) ? endingOf("etcd", url, pem) : [];
  });
  return (await Promise.all(shown)).flat();
}

function endingOf(kind: Ending["kind"], path: string, pem: string | undefined): Ending[] {
  const info = infoOf(pem);
  return info ? [{ kind, path, notBefore: info.notBefore, notAfter: info.notAfter }] : [];
}

const DAY = 86_400_000;

/**
 * Days before its expiry that a file is named. A rotation of a CA touches every node.
 */
const ahead = ({ kind }: Ending) => (kind === "ca" ? 365 : 90);

/**
 * A kubelet renews its certificate after 70 to 90 % of its lifetime: client-go's util/certificate,
 * jitteryDuration.
 */
const ROTATED_BY = 0.9;

const checkOf = ({ kind }: Ending): CheckId => `expiry-${kind === "kubeconfig" ? "certificate" : kind}`;

/**
 * One row for all that expire soon and are renewed in the same way. If none does, one row names the first to
 * expire.
 */
export function forecast(endings: readonly Ending[], now = new Date()): CheckRow[] {
  const left = inOrder(endings, now);
  const soon = Map.groupBy(
    left.filter((ending) => endsSoon(ending, now)),
    checkOf,
  );
  const first = firstOf(left);
  if (soon.size === 0 && first)
    return [
      check("expiry-next", () =>
        dated(`none; the first is ${basename(first.path)}, on ${day(first.notAfter)}`, first.notAfter),
      ),
    ];
  return [...soon].map(([id, all]): CheckRow => {
    const [[first, together], ...later] = [...Map.groupBy(all, ({ notAfter }) => day(notAfter))] as [
      [string, Ending[]],
    ];
    const days = Math.floor((+together[0]!.notAfter - +now) / DAY);
    const laterNote = later
      .map(([last, ending]: [string, Ending[]]) => `; then ${named(ending)} until ${last}`)
      .join("");
    return check(
      id,
      () => dated({ warning: `until ${first}, ${days} days from now${laterNote}` }, together[0]!.notAfter),
      named(together),
    );
  });
}

/**
 * A kubelet's certificate that ends with its CA counts as the CA: the controller-manager signs nothing beyond that
 * (pkg/controller/certificates/authority, policies.go).
 */
function inOrder(endings: readonly Ending[], now: Date): Ending[] {
  const ends = new Set(endings.flatMap(({ kind, notAfter }) => (kind === "ca" ? +notAfter : [])));
  return endings
    .map((one) => (one.kind === "kubelet" && ends.has(+one.notAfter) ? { ...one, kind: "ca" as const } : one))
    .filter(({ notAfter }) => notAfter > now)
    .toSorted((a, b) => +a.notAfter - +b.notAfter);
}

/** Leaves out what the kubelet renews itself, unless this node has nothing else: a worker. */
function firstOf(left: readonly Ending[]): Ending | undefined {
  const lasting = left.filter((one) => !isRenewed(one));
  return lasting.some(({ kind }) => kind !== "ca") ? lasting[0] : left[0];
}

/** Its kubelet does it. */
function isRenewed({ kind, isKept }: Ending): boolean {
  return kind === "kubelet" && !isKept;
}

const TIMER = "/etc/systemd/system/timers.target.wants/kube-pki-repair-verify.timer";

/** The end of a repair: the first date, and how to be warned before it. Undefined if nothing here expires. */
export function goodUntil(endings: readonly Ending[], now = new Date()): string | undefined {
  const first = firstOf(inOrder(endings, now));
  if (!first) return undefined;
  const warned = exists(TIMER) ? "" : '. To be warned in time: RUNBOOK-MORE.md, "Watch it"';
  const renewed = isRenewed(first) ? ", which the kubelet renews before that" : "";
  return `good until ${day(first.notAfter)} (${basename(first.path)}${renewed})${warned}`;
}

function named(endings: readonly Ending[]): string {
  return endings.map(({ path }) => basename(path)).join(", ");
}

function endsSoon(ending: Ending, now: Date): boolean {
  const { notBefore, notAfter } = ending;
  if (+notAfter - +now > ahead(ending) * DAY) return false;
  const age = (+now - +notBefore) / (+notAfter - +notBefore);
  return !isRenewed(ending) || age > ROTATED_BY;
}

/** The first expiry date until which no repair is needed; leaves out CAs. */
export function firstEnd(endings: readonly Ending[], now = new Date()): Date | undefined {
  const ends = endings
    .filter(({ kind, notAfter }) => kind !== "ca" && notAfter > now)
    .map(({ notAfter }) => notAfter);
  return ends.sort((a, b) => +a - +b)[0];
}

type Warning = { warning: string };

/**
 * Files: replacements, paths that were given up, a second key for tokens. A word is done when its file and
 * flag are back.
 */
export function* openFiles(
  cp: ControlPlaneNode,
): Generator<Omit<CheckRow, "look"> & { look: () => Warning }> {
  for (const { path, program } of standIns(cp)) {
    const what = program === "kube-apiserver" ? "audit policy" : "configuration of the scheduler";
    const look = () => ({ warning: `a replacement of this kit for the lost ${what}` });
    yield { id: "audit-policy", of: path, look };
  }
  endGivenUp(cp);
  for (const word of savedOptionsOf("start-without"))
    yield { id: "given-up", of: listed(word.files ?? []), look: () => givenUp(word) };
  const oldKey = oldSaPub(cp.facts.certificatesDir);
  const look = () => ({ warning: "old tokens are still accepted" });
  if (exists(oldKey)) yield { id: "old-service-account-key", of: oldKey, look };
}

/** Open until the API server has the flag again. */
function givenUp(word: SavedOption): Warning {
  const means = startWithoutFlag(`--${word.value}`);
  return {
    warning: word.files?.every((path) => exists(path))
      ? `is back, and the API server still runs without it (--${word.value}; ${means})`
      : `${savedAtText(word)}: ${means}`,
  };
}
