/**
 * The machine that becomes a control plane node of the lost cluster: its address there, and whether anything
 * of the old control plane still answers. Two clusters under one name would pull at the same workers.
 */
import { isIP } from "node:net";
import { again } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { memberName } from "../etcd-data/members.ts";
import { placeOf } from "../etcd-location/reach-etcd.ts";
import type { Cluster } from "../facts/cluster.ts";
import type { KnownNode } from "../facts/known-nodes.ts";
import { apiEndpoint } from "../facts/known-nodes.ts";
import { Fail, Refused } from "../fail.ts";
import { canonicalIp, endpointUrl, hostsSaid, isWithin } from "../pki/addresses.ts";
import { infoOf } from "../pki/certificate.ts";
import { shownSoon, whoAnswers } from "../pki/served.ts";
import { say } from "../run.ts";
import { inTime } from "../wait-for.ts";
import type { Content } from "./content.ts";

interface Place {
  /** Of this machine. */
  addresses: readonly string[];
  /** --address */
  given: string | undefined;
  /** By its default route; its other addresses may be those of a bridge. */
  routed: string | undefined;
}

/**
 * The one that is given, that the node had, that of the default route, or the only one of its family. Errors:
 * Fail where nothing decides; Refused where it cannot be a node's.
 */
export function newAddress({ cluster, node, data }: Content, { addresses, given, routed }: Place): string {
  const old = oldAddress(node, data);
  const alike = addresses.map(canonicalIp).filter((ip) => old === undefined || isIP(ip) === isIP(old));
  if (given !== undefined) refuseAddress(given, { alike, old });
  const chosen = given ? canonicalIp(given) : old && alike.includes(old) ? old : (routed ?? only(alike));
  for (const range of [...cluster.serviceSubnets, ...(cluster.podSubnet?.split(",") ?? [])])
    if (isWithin(chosen, range))
      throw new Refused(`${chosen} is in the cluster's own range ${range}: no node can have it`, {
        hint: `nothing was changed. ${again({ address: "IP" })}: another address of this machine`,
      });
  const others = cluster.nodes.filter(({ name }) => name !== node.name);
  const claims = others.find((one) => hostsSaid(one).includes(chosen));
  const owner = others.find(({ places }) => places.includes(chosen));
  // any kubelet may claim an address, but this machine has it
  if (claims && !owner && chosen !== old)
    say(
      `warning: ${chosen} is also an address of ${claims.name}, by what its Node says; it is this machine's`,
    );
  if (owner && chosen !== old)
    throw new Refused(`${chosen} was the address of "${owner.name}"`, {
      hint: `nothing was changed. Is this machine that one? ${again({ as: owner.name })}. Else give it another address first`,
    });
  return chosen;
}

/** Of its API server, or of its member of etcd. */
export function oldAddress({ name, places }: KnownNode, data: EtcdData): string | undefined {
  const host = apiEndpoint(name, data)?.host ?? places[0];
  return host && isIP(host) ? canonicalIp(host) : undefined;
}

function refuseAddress(given: string, { alike, old }: { alike: readonly string[]; old: string | undefined }) {
  if (alike.includes(canonicalIp(given))) return;
  throw new Fail(`This machine has no address "${given}"${old ? ` of the family of ${old}` : ""}`, {
    hint: `it has ${alike.join(", ") || "none of it"}: ip -br addr`,
  });
}

function only(alike: readonly string[]): string {
  const [first, ...more] = alike;
  if (first && more.length === 0) return first;
  throw new Fail(
    `Which address is the node's? This machine has ${alike.join(", ") || "none of its family"}`,
    {
      hint: again({ address: first ?? "IP" }),
    },
  );
}

/** Errors: Refused where an API server of the cluster's CA, or a member of its etcd, answers. */
export async function refuseOldAnswers({ cluster, data }: Pick<Content, "cluster" | "data">) {
  const asked = [...apiServers(cluster, data), ...members(cluster, data)];
  const ask = async () => {
    const all = await Promise.all(asked.map(async (one) => ((await one.answers()) ? [one.what] : [])));
    return all.flat().length > 0 && all.flat();
  };
  // who is busy, or just starts, is silent at one question
  const found = await inTime("an answer of the old control plane", ask, {
    seconds: 10,
    hint: "it ends by itself",
  });
  if (!found) return say(`nobody answers at ${asked.map(({ what }) => what).join(", ")}`);
  throw new Refused(`The old control plane still answers: ${found.join(", ")}`, {
    hint: "nothing was changed. Two clusters would pull at the same workers. If it can be repaired, do that: ./bunw scripts/00-assess.ts there. If it shall go: there systemctl disable --now kubelet, and crictl stop of etcd and kube-apiserver; then this again",
  });
}

interface Asked {
  what: string;
  answers(): Promise<boolean>;
}

function apiServers(cluster: Cluster, data: EtcdData): Asked[] {
  const own = cluster.nodes
    .filter(({ controlPlane }) => controlPlane)
    .flatMap(({ name }) => apiEndpoint(name, data) ?? [])
    .map(({ host, port }) => endpointUrl(host, port));
  const servers = [...(cluster.endpoint ? [endpointUrl(cluster.endpoint, 6443)] : []), ...own];
  return [...new Set(servers)].map((server) => ({
    what: server,
    answers: async () => ["ours", "not for this name"].includes(await whoAnswers(server, cluster.oldCaPem)),
  }));
}

/** By the name in the certificate: etcd's own CA is in none of its keys. */
function members(cluster: Cluster, data: EtcdData): Asked[] {
  const names = [...cluster.nodes.map(({ name }) => name), ...data.members.map(memberName)];
  return data.members.map((member) => {
    const { host, port } = placeOf(member);
    return {
      what: `${memberName(member)}'s etcd at ${host}:${port}`,
      answers: async () => names.includes(infoOf((await shownSoon(host, port)) ?? "")?.cn ?? ""),
    };
  });
}
