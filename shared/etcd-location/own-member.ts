/**
 * Which member of etcd's data this machine is. Source: etcdutl, snapshot/v3_snapshot.go and etcdutl/snapshot_command.go. A restore without
 * --initial-cluster makes one member `default` at http://localhost:2380. When it is started, it publishes its name and its client URLs, and
 * keeps that peer URL.
 */
import type { EtcdData, Member } from "../etcd-data/data.ts";
import { endpointHost, isLoopback } from "../pki/addresses.ts";

/**
 * The member that the data is of, where one of its URLs has an address of this machine. A lone member at localhost only is every machine's:
 * then the data proves by other things that it is this one's, by its API server's address (facts/issue-facts.ts) or its CA (etcd-proof.ts).
 */
export function ownMember({ members, memberId }: Pick<EtcdData, "members" | "memberId">, addresses: readonly string[]): Member | undefined {
  const own = members.find(({ id }) => id === memberId);
  if (!own) return undefined;
  const isAlone = members.length === 1 && urlsOf(own).every((url) => isLoopback(hostOf(url)));
  return isHere(own, addresses) || isAlone ? own : undefined;
}

/** Whether it names this machine: one of its URLs has an address of it. */
export function isHere(member: Urls, addresses: readonly string[]): boolean {
  return urlsOf(member).some((url) => addresses.includes(hostOf(url)));
}

type Urls = Pick<Member, "peerURLs" | "clientURLs">;

function urlsOf({ peerURLs, clientURLs }: Urls): string[] {
  return [...peerURLs, ...clientURLs];
}

/** Where other machines reach a member: the hosts of its URLs, without this machine's own loopback. */
export function memberHosts(member: Urls): string[] {
  return urlsOf(member)
    .map(hostOf)
    .filter((host) => !isLoopback(host));
}

/** The host in a URL; "" where it is none. */
export function hostOf(url: string): string {
  return URL.canParse(url) ? endpointHost(new URL(url).host) : "";
}

/** Where a member's peers find it. Where its peer URL is localhost: the machine of its client URLs, if they name one. */
export function placeOf({ peerURLs, clientURLs }: Pick<Member, "peerURLs" | "clientURLs">): { host: string; port: number } {
  const url = peerURLs.find((one) => !isLoopback(hostOf(one))) ?? peerURLs[0] ?? "https://0.0.0.0:2380";
  const published = isLoopback(hostOf(url)) ? clientURLs.map(hostOf).find((host) => host && !isLoopback(host)) : undefined;
  return { host: published ?? hostOf(url), port: Number(new URL(url).port || 2380) };
}
