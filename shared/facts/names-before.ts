/**
 * Names and addresses that a server's certificate had and that kubeadm-config does not have: somebody gave
 * them to kubeadm in a file or on its command line. `kubeadm certs renew` keeps them (kubeadm's
 * phases/certs/renewal/manager.go, certToConfig), and so does a repair, as long as such a certificate is
 * here: in its place, or in the rescue folder of this repair or of the one before. Reads only.
 */
import { basename, dirname } from "node:path";
import { memberHosts } from "../etcd-location/reach-etcd.ts";
import { attempt } from "../fail.ts";
import { list } from "../files/files.ts";
import { readable } from "../files/readable.ts";
import type { Rescue } from "../node/rescue-folder.ts";
import { movedHere } from "../node/words.ts";
import { names } from "../pki/addresses.ts";
import { type CertInfo, infoOf, signedBy } from "../pki/certificate.ts";
import { type Cert, type ClusterFacts, certPath, certRow, isEtcds, subjectOf } from "../pki/certs.ts";
import { shownSoon } from "../pki/served.ts";
import type { Cluster } from "./cluster-before.ts";
import { apiAddressOf, believedPeers } from "./known-nodes.ts";
import { clusterCasBefore, type Repair } from "./repair.ts";

interface Place extends Pick<Repair, "data" | "rescue" | "earlier"> {
  cluster: Cluster;
  facts: ClusterFacts;
  node: { name: string };
}

/** Where a certificate is kept that a living server showed while its file was gone. */
export function servedCertificateCopy(
  { dir }: Rescue,
  row: Cert,
  { certificatesDir }: Pick<ClusterFacts, "certificatesDir">,
): string {
  return `${dir}/shown${certPath(row, certificatesDir)}`;
}

/** Each once. None where the row has no names. */
export function namesBefore(row: Cert, place: Place): string[] {
  return row.names ? namesByHand(certificatesBefore(row, place), row, place) : [];
}

export function ownCertificates(row: Cert, place: Place): CertInfo[] {
  return ofOwn(certificatesBefore(row, place), row, place);
}

/**
 * The names of these certificates that the row does not have. Of strangers' certificates, and names of other
 * control plane nodes: none.
 */
export function namesByHand(pems: readonly string[], row: Cert, place: Place): string[] {
  const { dns, ips } = row.names?.(place.facts) ?? { dns: [], ips: [] };
  const others = names(ofOthers(place));
  // nobody dials etcd by an address that its machine has left; clients of the API may come through a NAT
  const left = isEtcds(row) ? movedHere().keys() : [];
  const allNames = new Set([...dns, ...ips, ...others.dns, ...others.ips, ...left]);
  const had = names(ofOwn(pems, row, place).flatMap(({ sans }) => [...sans.dns, ...sans.ips]));
  return [...had.dns, ...had.ips].filter((name) => !allNames.has(name));
}

/**
 * A certificate for another node, or of another CA than the cluster's, says nothing of this one. Its dates do
 * not count.
 */
function ofOwn(pems: readonly string[], row: Cert, place: Place): CertInfo[] {
  const { cn } = subjectOf(row, place.facts);
  const named = pems.flatMap((pem) => infoOf(pem) ?? []).filter((info) => info.cn === cn);
  if (named.length === 0) return [];
  // etcd's data decides on the cluster's CA; it knows nothing of etcd's own
  const cas = row.ca === "ca" ? clusterCasBefore(place) : certificatesBefore(certRow(row.ca!), place);
  return named.filter(({ pem }) => cas.some((ca) => attempt(() => signedBy(pem, ca)) === true));
}

/**
 * In its place, and in the rescue folders: as part 1 has copied it, as it was moved aside, as a server has
 * shown it.
 */
export function certificatesBefore(
  row: Cert,
  { facts, rescue, earlier }: Pick<Place, "facts" | "rescue" | "earlier">,
): string[] {
  const path = certPath(row, facts.certificatesDir);
  const kept = [rescue, ...(earlier ? [earlier.rescue] : [])].flatMap((one) => [
    `${one.dir}/before${path}`,
    ...movedFrom(path, `${one.dir}/aside`),
    servedCertificateCopy(one, row, facts),
  ]);
  return [path, ...kept].flatMap((copy) => readable(copy) || []);
}

/** In current and old certificates: somebody may have given the API server names that kubeadm-config does not have. */
export function apiNamesHere(place: Pick<Place, "facts" | "rescue" | "earlier">): string[] {
  return certificatesBefore(certRow("apiserver"), place).flatMap(sansIn);
}

/**
 * Those of the other API servers, as far as they show certificates of the cluster's CA now. One that does not
 * answer says nothing.
 */
export async function apiNamesShown(
  place: Pick<Place, "cluster" | "data" | "facts" | "node">,
): Promise<string[]> {
  const { cluster, data, facts } = place;
  const ca = readable(certPath("ca", facts.certificatesDir)) ?? "";
  const places = believedPeers(cluster, place).flatMap(
    (other) => apiAddressOf(other, data, facts.bindPort) ?? [],
  );
  const shown = await Promise.all(places.map(({ host, port }) => shownSoon(host, port)));
  return shown.flatMap((pem) =>
    pem !== undefined && attempt(() => signedBy(pem, ca)) === true ? sansIn(pem) : [],
  );
}

function sansIn(pem: string): string[] {
  const sans = infoOf(pem)?.sans;
  return sans ? [...sans.dns, ...sans.ips] : [];
}

/** `moveToRescue` numbers files of one name. */
function movedFrom(path: string, asideDir: string): string[] {
  const folder = `${asideDir}${dirname(path)}`;
  const isOne = (name: string) => name.replace(/\.\d+$/, "") === basename(path);
  return list(folder).flatMap((name) => (isOne(name) ? [`${folder}/${name}`] : []));
}

/** Nodes' own words do not count. */
function ofOthers({ cluster, data, node }: Place): string[] {
  const members = data.members.filter(({ id }) => id !== data.memberId);
  return [
    ...believedPeers(cluster, { node }).flatMap(({ name, places }) => [name, ...places]),
    ...members.flatMap(memberHosts),
  ];
}
