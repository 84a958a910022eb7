/**
 * Which machines have moved, by the operator's word: pairs of addresses, and which of them cannot be right. A
 * machine may name its own address (this-machine.ts), the operator those of others; not a Node's status,
 * which its kubelet writes, nor DNS. Errors: Refused if the words cannot be right.
 */
import { isIP } from "node:net";
import { command } from "../again.ts";
import { memberHosts } from "../etcd-location/reach-etcd.ts";
import { apiAddressOf, apiEndpoint } from "../facts/known-nodes.ts";
import { Refused } from "../fail.ts";
import {
  asMoved,
  canonicalHost,
  canonicalIp,
  endpointHost,
  endpointUrl,
  isDnsName,
  isServer,
  isWithin,
  type Moved,
  namedHosts,
  ofMachines,
} from "../pki/addresses.ts";
import { whoAnswers } from "../pki/served.ts";
import { say } from "../run.ts";
import type { MachineFacts } from "./this-machine.ts";

const refused = (what: string, hint: string) => new Refused(what, { unchanged: true, hint });

/** Old address → new address, of words like "10.0.0.11=10.0.1.11", or old name → new name. */
export function pairsOf(words: readonly string[]): Map<string, string> {
  const pairs = words.map((word) => {
    const [old = "", today = "", ...more] = word.split("=");
    const pair = [old, today].map((one) => (isIP(one) > 0 ? canonicalIp(one) : one.toLowerCase()));
    const isPair = pair.every((one) => isIP(one) || isDnsName(one)) || pair.every(isServerText);
    if (more.length > 0 || isIP(old) !== isIP(today) || !isPair)
      throw refused(
        `"${word}" is no pair OLD=NEW of two IPv4 or two IPv6 addresses, two names, or two servers`,
        "give pairs: --moved 10.0.0.11=10.0.1.11,api.old.example=api.example; a cluster cannot change from IPv4 to IPv6. An endpoint where there was none: https://10.0.0.11:6443=https://api.example:6443",
      );
    return pair as [string, string];
  });
  const map = new Map(pairs.filter(([old, today]) => old !== today));
  const machines = ofMachines(map);
  if (new Set(machines.values()).size < machines.size)
    throw refused("Two machines cannot have the same new address", `correct --moved: ${words.join(", ")}`);
  return map;
}

function isServerText(one: string): boolean {
  if (!isServer(one) || !URL.canParse(one)) return false;
  const { hostname, port } = new URL(one);
  const host = hostname.replace(/^\[(.+)\]$/, "$1");
  return one === `https://${hostname}:${port || "443"}` && (isIP(host) > 0 || isDnsName(host));
}

type ClusterData = Pick<MachineFacts, "cluster" | "data">;

/** `clusterData`: read with `goesOn`, the pairs of a move in progress, if there is one. */
export function refuseBadMoves(moved: Moved, { cluster, data }: ClusterData, goesOn: Moved = new Map()) {
  const nodes = cluster.nodes.map(({ name, places, claimed }) => ({
    name,
    ips: [...new Set([...places, ...claimed.ips].filter((ip) => isIP(ip)).map(canonicalHost))],
    places,
  }));
  const endpoint = endpointHost(cluster.endpoint ?? "").toLowerCase();
  const hosts = [...nodes.flatMap(({ ips }) => ips), ...data.members.flatMap(memberHosts), endpoint];
  const ranges = [...cluster.serviceSubnets, ...(cluster.podSubnet?.split(",") ?? [])];
  for (const [old, today] of moved) {
    const wrong = (why: string, hint: string) => refused(`${old}=${today}: ${why}`, hint);
    const host = isServer(today) ? endpointHost(new URL(today).host) : today;
    const range = ranges.find((one) => isWithin(host, one));
    if (range)
      throw wrong(`that address is in ${range}, which is the cluster's own`, "give the machine another one");
    if (isServer(old)) continue;
    if (!hosts.includes(old))
      throw wrong(
        isIP(old) > 0 ? "nothing of this cluster was there" : "that is not the endpoint's name",
        `by etcd's data: ${nodes.map(({ name, ips }) => `${name} ${ips}`).join(", ")}; endpoint ${endpoint}. A node keeps its name`,
      );
    // an old address has to be this node's: if another machine has it now, either could be meant
    const isOthers = ({ ips }: { ips: readonly string[] }) => ips.includes(today) && !ips.includes(old);
    const owner = nodes.find((one) => isOthers(one) && one.places.includes(today));
    const claims = nodes.find(isOthers);
    if (!owner && claims)
      say(`warning: ${today} is also an address of ${claims.name}, says its Node; your word counts`);
    if (owner || moved.has(today) || goesOn.has(today))
      throw wrong(
        `that is the address of ${owner?.name ?? "another machine"}, or was`,
        `give each machine that has moved an address that none of them had${owner ? `. Has ${owner.name} it still? Then this one another` : ""}`,
      );
  }
  const putIn = [...moved].filter(([old]) => isServer(old));
  if (putIn.length > 0) refuseEndpoint(moved, putIn, { cluster, data });
}

/**
 * The hosts in other machines' kubeconfigs: the endpoint, or without one each control plane node's API
 * server.
 */
function refuseEndpoint(moved: Moved, putIn: readonly [string, string][], { cluster, data }: ClusterData) {
  const places = cluster.nodes.flatMap((node) =>
    node.controlPlane ? (apiAddressOf(node, data, 6443) ?? []) : [],
  );
  const servers = cluster.endpoint
    ? [endpointUrl(cluster.endpoint, places[0]?.port ?? 6443)]
    : places.map(({ host, port }) => endpointUrl(host, port));
  const current = servers.map((server) => asMoved(server, ofMachines(moved)));
  const wrong = putIn.find(([old]) => !current.includes(old));
  if (wrong)
    throw refused(
      `${wrong.join("=")}: no kubeconfig of this cluster leads there`,
      `give one of these as OLD: ${current.join(", ")}`,
    );
  const others = new Set(putIn.map(([, server]) => server));
  if (others.size > 1)
    throw refused(
      `A cluster has one endpoint, not ${[...others].join(" and ")}`,
      "give the same NEW for each control plane node",
    );
}

/** This cluster's API server must not answer at an address that its machine has left. */
export async function refuseAnswering(moved: Moved, { cluster, data, node }: MachineFacts) {
  const port = apiEndpoint(node.name, data)?.port ?? 6443;
  const ofMachines = new Set(cluster.nodes.flatMap(namedHosts));
  const newAddresses = new Set(moved.values());
  const left = [...moved.keys()].filter((old) => ofMachines.has(old) && !newAddresses.has(old));
  const answers = await Promise.all(left.map((old) => whoAnswers(endpointUrl(old, port), cluster.oldCaPem)));
  const stillHere = left.filter((_, i) => answers[i] === "ours");
  if (stillHere.length > 0)
    throw refused(
      `This cluster's API server answers at ${stillHere.join(", ")}: it has not moved`,
      "stop one of the two, if a copy of it runs",
    );
}

/** The new pairs beside those of a move in progress: machines that were not named before. */
export function newlyTypedMoves(typedMoves: Moved, goesOn: Moved): Moved {
  const other = [...typedMoves].find(([old, today]) =>
    goesOn.has(old) ? goesOn.get(old) !== today : [...goesOn.values()].includes(old),
  );
  if (!other) return new Map([...typedMoves].filter(([old]) => !goesOn.has(old)));
  throw refused(
    `${other.join("=")}: a move in progress here says otherwise`,
    `take that back: ${command("words", { back: [...goesOn].map((pair) => pair.join("=")) })}`,
  );
}
