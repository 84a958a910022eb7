/** Names and addresses as kubeadm and Go's net package read and write them; IPv4 and IPv6. */
import { BlockList, isIP } from "node:net";
import { Fail, Refused } from "../fail.ts";

/** A certificate's alternative names. `ips` are in canonical text form (RFC 5952). */
export interface Names {
  dns: string[];
  ips: string[];
}

/**
 * DNS names (sorted) and addresses (in their order), each once, as kubeadm's RemoveDuplicateAltNames; as there, all
 * else is left out.
 */
export function names(entries: string[]): Names {
  const all = entries.map((entry) => entry.toLowerCase());
  const dns = new Set(all.filter((entry) => !isIP(entry) && isDnsName(entry)));
  return { dns: [...dns].sort(), ips: [...new Set(all.filter((entry) => isIP(entry)).map(canonicalIp))] };
}

/**
 * An address in one form: "0:0:0:0:0:0:0:1" → "::1", "::ffff:10.0.0.1" → "10.0.0.1" (as Go, which stores that
 * as IPv4).
 */
export function canonicalIp(ip: string): string {
  return ipText(ipBytes(ip));
}

/** A host in a comparable form: an address as `canonicalIp`, a name unchanged. */
export function canonicalHost(host: string): string {
  return isIP(host) > 0 && !host.includes("%") ? canonicalIp(host) : host;
}

/** A server that listens at one of these listens at each address of the machine. */
export function isEachAddress(host: string): boolean {
  return ["0.0.0.0", "::"].includes(canonicalHost(host));
}

/** The 4 or 16 bytes of an address, as in a certificate's iPAddress (RFC 5280 §4.2.1.6). */
export function ipBytes(ip: string): Uint8Array {
  if (isIP(ip) === 4) return Uint8Array.from(ip.split("."), Number);
  if (isIP(ip) !== 6 || ip.includes("%"))
    throw new Fail(`"${ip}" is not an IP address`, { hint: "correct that address where it was given" });
  const hex = new URL(`http://[${ip}]`).hostname.slice(1, -1);
  const [left = [], right] = hex.split("::").map((side) => side.split(":").filter(Boolean));
  const groups = right ? [...left, ...Array(8 - left.length - right.length).fill("0"), ...right] : left;
  const bytes = Uint8Array.from(
    groups.flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 0xff]),
  );
  const mapped = bytes.subarray(0, 12).every((byte, i) => byte === (i < 10 ? 0 : 0xff));
  return mapped ? bytes.slice(12) : bytes;
}

function ipText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i]! << 8) | bytes[2 * i + 1]!).toString(16));
  return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1);
}

/** Address number 1 of a CIDR: "10.96.0.0/12" → "10.96.0.1". kubeadm gives it to the API's own Service. */
export function firstAddress(cidr: string): string {
  const [ip = "", bits = ""] = cidr.split("/");
  const size = isIP(ip) === 4 ? 32 : 128;
  if (!isIP(ip) || !/^\d+$/.test(bits) || Number(bits) >= size) {
    throw new Fail(`"${cidr}" is not a service subnet`, {
      hint: "give the range as ADDRESS/BITS, for example 10.96.0.0/12",
    });
  }
  const bytes = ipBytes(ip).map(
    (byte, i) => byte & (0xff00 >> Math.min(8, Math.max(0, Number(bits) - 8 * i))),
  );
  bytes[bytes.length - 1]! |= 1;
  return ipText(bytes);
}

/** Whether an address, in canonical form, is in a range: "10.96.0.1" in "10.96.0.0/12". */
export function isWithin(ip: string, cidr: string): boolean {
  const [start = "", bits = ""] = cidr.trim().split("/");
  if (isIP(start) !== isIP(ip)) return false;
  const range = new BlockList();
  range.addSubnet(start, Number(bits), isIP(start) === 4 ? "ipv4" : "ipv6");
  return range.check(ip, isIP(ip) === 4 ? "ipv4" : "ipv6");
}

/** "api.example:6443" → "api.example", "[fd00::1]:6443" → "fd00::1", "fd00::1" → "fd00::1". */
export function endpointHost(endpoint: string): string {
  if (isIP(endpoint)) return endpoint;
  return /^\[(.+)\](:\d+)?$/.exec(endpoint)?.[1] ?? endpoint.replace(/:\d+$/, "");
}

/** Where a URL leads, "https://[fd00::1]" to port 443 of "fd00::1". Errors: TypeError if it is no URL. */
export function hostAndPort(url: string): { host: string; port: number } {
  const { host, port, protocol } = new URL(url);
  return { host: endpointHost(host), port: Number(port || (protocol === "http:" ? 80 : 443)) };
}

/** "https://api.example:6443"; the port of the endpoint goes before `port`. */
export function endpointUrl(endpoint: string, port: number): string {
  const own = isIP(endpoint) ? undefined : /:(\d+)$/.exec(endpoint)?.[1];
  const host = endpointHost(endpoint);
  return `https://${urlHost(host)}:${own ?? port}`;
}

/** Not so a link-local address of IPv6: each link has its own, whatever the zone behind "%" is called (RFC 4007 §6). */
export function isOnEachMachine(address: string): boolean {
  return (
    isIP(address) > 0 && !address.includes("%") && !(isIP(address) === 6 && isWithin(address, "fe80::/10"))
  );
}

/** As URLs and scp take it: IPv6 in brackets. */
export function urlHost(host: string): string {
  return isIP(host) === 6 ? `[${host}]` : host;
}

/** "api.example:6443", "[fd00::1]:6443", also without a port. A bare IPv6 address may have been meant with one. */
export function isEndpoint(text: string): boolean {
  const host = endpointHost(text);
  const [isWhole, port = 443] = /^(?:[^:]+|\[.+\])(?::(\d+))?$/.exec(text) ?? [];
  const isHost = isIP(host) > 0 || isDnsName(host.toLowerCase());
  return isWhole !== undefined && isHost && Number(port) < 65_536;
}

/** Whether this host is the machine itself on every machine: "localhost", "127.0.0.1", "::1". */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

/**
 * Whether a certificate with these names is valid for this host in Go's crypto/x509: a wildcard is one label.
 */
export function isFor({ dns, ips }: Names, host: string): boolean {
  if (isIP(host)) return ips.includes(canonicalIp(host));
  const name = host.toLowerCase().replace(/\.$/, "");
  return dns.some((one) => [name, name.replace(/^[^.]+/, "*")].includes(one.toLowerCase()));
}

/** RFC 1123 subdomain, with a wildcard as its first label or without. */
export function isDnsName(name: string): boolean {
  return name.length <= 253 && /^(?:\*\.)?(?![-.])(?!.*(?:[-.]\.|\.-))[a-z0-9.-]+(?<![-.])$/.test(name);
}

/** Errors: Refused if a token would go over the network unencrypted. */
export function refuseInClear(server: string) {
  if (server.startsWith("https://")) return;
  throw new Refused(`"${server}" is no address that begins with https://: a token would go there in clear`, {
    hint: "see who wrote that address: the API server's begins with https://. Nothing was sent",
  });
}

/**
 * Machines that have moved: old address → new address, both in canonical form; an endpoint with a new name:
 * old name → new name; a new endpoint: "https://ADDRESS:PORT", by the current address, → "https://NAME:PORT".
 */
export type Moved = ReadonlyMap<string, string>;

/** Whether this is the URL of a server, as kubeconfigs and etcd's flags have it, and no host or path. */
export const isServer = (one: string) => one.startsWith("https://");

/** The new endpoint, "api.example:6443"; undefined if there is none. */
export function endpointPutIn(moved: Moved): string | undefined {
  return [...moved.values()].find(isServer)?.slice("https://".length);
}

export function ofMachines(moved: Moved): Moved {
  return new Map([...moved].filter(([old]) => !isServer(old)));
}

/** A node's addresses, proved or only claimed, after the operator's word about moves. */
interface Placed {
  places: readonly string[];
  claimed: { ips: readonly string[] };
}

export function namedHosts({ places, claimed }: Placed): string[] {
  return [...places, ...claimed.ips];
}

/** The facts of a cluster that show where its workers connect. */
interface Led {
  nodes: readonly (Placed & { controlPlane: boolean })[];
  endpoint: string | undefined;
}

/** Whether workers have something to change: their own address, or that of their server. */
export function meansWorkers(moved: Moved, { nodes, endpoint }: Led): boolean {
  const ips = nodes.flatMap((node) => (node.controlPlane ? [] : namedHosts(node)));
  // without an endpoint kubeadm writes the address of a control plane node
  const leadsTo = endpoint === undefined ? [...moved.keys()] : [endpointHost(endpoint)];
  const addresses = [...moved].flat();
  if (addresses.some(isServer)) return true;
  return [...ips, ...leadsTo].some((one) => addresses.includes(one));
}

/** The nodes, by their current addresses, that have moved. */
export function thatMoved<N extends Placed>(nodes: readonly N[], moved: Moved): N[] {
  const newAddresses = new Set(moved.values());
  return nodes.filter((node) => namedHosts(node).some((ip) => newAddresses.has(ip)));
}

/** The old address of a machine that now has this one; undefined if it has not moved. */
export function addressBefore(today: string, moved: Moved): string | undefined {
  return [...moved].find(([, to]) => isIP(today) > 0 && to === canonicalIp(today))?.[0];
}

/** A whole IPv4 address, not a part of a longer number or name; a port may follow. */
const V4 = /(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\w)/g;
/** The same of IPv6; in brackets or not. */
const V6 = /(?<![\w.:-])[\da-f]*:[\da-f:]*:[\da-f:.]*(?![\w%-])/gi;

/**
 * Flags of the API server that identify, and are no addresses: with another issuer every token is refused. As
 * a flag, as a field (kubeadm v1beta3), as name and value (v1beta4).
 */
const IDENTIFIERS =
  /((?:service-account-issuer|api-audiences)["']?\s*(?:[=:]|(?:,\s*)?["']?value["']?\s*:)\s*["']?[^\s"']+)/;

/**
 * A text with new addresses and names in the place of the old ones, all at once. A text that was converted
 * before stays the same: no new address is an old one (moved/pairs.ts). Identifiers stay.
 */
export function asMoved(text: string, moved: Moved): string {
  if (moved.size === 0) return text;
  const parts = text.split(IDENTIFIERS);
  return parts.map((part, i) => (i % 2 === 1 ? part : placesMoved(part, moved))).join("");
}

function placesMoved(text: string, moved: Moved): string {
  const isOne = (one: string) => isIP(one) > 0 && !one.includes("%");
  const moveOne = (one: string) => (isOne(one) ? (moved.get(canonicalIp(one)) ?? one) : one);
  const named = [...moved].filter(([old]) => isIP(old) === 0);
  return named.reduce(
    (now, [old, name]) => now.replace(asHost(old), name),
    text.replace(V4, moveOne).replace(V6, moveOne),
  );
}

/**
 * Matches a whole name, or server. A name without a dot may be any word: it is a host behind `//` and before
 * a port.
 */
function asHost(name: string): RegExp {
  const whole = `(?<![\\w.-])${RegExp.escape(name)}(?![\\w-]|\\.\\w)`;
  return new RegExp(/[.:]/.test(name) ? whole : `(?<=//)${whole}|${whole}(?=:\\d)`, "gi");
}
