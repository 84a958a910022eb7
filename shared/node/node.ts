/**
 * This node, by what a deletion of /etc/kubernetes does not remove: the kubelet's flags (its process, or its unit),
 * its configuration, its client certificate, and the machine itself.
 */
import { isIP } from "node:net";
import { $ } from "zx/core";
import { command } from "../again.ts";
import { stateAsIf } from "../as-if.ts";
import { attemptLater, Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { isElsewhere } from "../files/root.ts";
import { canonicalIp, isWithin } from "../pki/addresses.ts";
import { certInfo, infoOf, trustedText } from "../pki/certificate.ts";
import { told } from "../this-run.ts";
import { clientText, readKubelet } from "./kubelet-config.ts";
import { lostEnv, withRestoredEnv } from "./lost-environment.ts";
import { isKubelet, type KubeletFlags, kubeletFlags, seeKubelet } from "./started-with.ts";
import { flagsOf, readUnit } from "./systemd-unit.ts";

export interface Node extends Awaited<ReturnType<typeof readNode>> {
  /** One of its addresses that is at no card here: NAT leads it to this machine. */
  nat?: string;
}

/**
 * Looks at the node. Errors: Fail where kubeadm has not set up this node; none where the kubelet's files
 * `mayBeGone`.
 */
export async function readNode(options: { mayBeGone?: boolean } = {}) {
  // started together
  const [systemd, uname, addresses] = await Promise.all([
    seeKubelet(),
    $({ quiet: true })`uname -n`,
    attemptLater(machineAddresses),
  ]);
  const flags = await kubeletFlags(systemd);
  const { runtimeEndpoint, ...kubelet } = readKubelet(flags, options);
  const hostName = uname.stdout.trim();
  if (addresses instanceof Fail) throw addresses;
  const named = nodeName(clientText(kubelet), flags.get("hostname-override"), hostName);
  told({ what: "node", name: named.name });
  return {
    ...named,
    hostName,
    /** IP addresses of this machine, loopback and link-local left out. */
    addresses,
    kubelet,
    systemd,
    runtimeEndpoint,
  };
}

/** Errors: Fail where this is not root, before anything is changed. */
export function needRoot() {
  if (process.getuid?.() !== 0 && !isElsewhere())
    throw new Fail("This script changes the node and needs root", {
      hint: "run it with sudo -i, or as root",
    });
}

export async function kubeletActive(): Promise<boolean> {
  const asIf = stateAsIf("kubelet");
  if (asIf) return asIf === "runs";
  return (await $({ quiet: true, nothrow: true })`systemctl is-active --quiet kubelet`).exitCode === 0;
}

/**
 * As `systemctl is-active` prints it: "inactive" where somebody has stopped it, or never started it. One that ends by
 * itself is "activating" (Restart=always) or "failed".
 */
export async function kubeletState(): Promise<string> {
  const asIf = stateAsIf("kubelet");
  if (asIf) return asIf === "runs" ? "active" : "inactive";
  return (await $({ quiet: true, nothrow: true })`systemctl is-active kubelet`).stdout.trim();
}

export async function kubeletStopped(): Promise<boolean> {
  return (await kubeletState()) === "inactive";
}

/**
 * The name of its Node object, and where the name comes from. The certificate has the exact name, even where
 * the host name differs: the API server knew this kubelet by it.
 */
function nodeName(clientPem: string, override: string | undefined, hostName: string) {
  const cn = infoOf(clientPem)?.cn;
  if (cn?.startsWith("system:node:"))
    return { name: cn.slice("system:node:".length), nameFrom: "the kubelet's client certificate" };
  if (override) return { name: override.toLowerCase(), nameFrom: "the kubelet's --hostname-override" };
  return { name: hostName.toLowerCase(), nameFrom: "the host name" };
}

/**
 * Whether the kubelet would ask for a Node of its host's name, and that is not its node's: the host has got another
 * one (pkg/util/node, GetHostname). Cloud providers in the kubelet, until 1.30, have names of their own.
 */
export function hasOtherName(
  { name, hostName }: Pick<Node, "name" | "hostName">,
  flags: KubeletFlags,
): boolean {
  const ownNames = !["", "external"].includes(flags.get("cloud-provider") ?? "");
  return hostName.toLowerCase() !== name && !flags.has("hostname-override") && !ownNames;
}

/**
 * Why this node's kubelet would not start as its own; undefined where it would, or where nothing tells. Flags that the
 * repair puts back count, and a kubelet without a kubeconfig asks for no Node.
 */
export async function kubeletsOtherName(node: Node): Promise<Fail | undefined> {
  const unit = readUnit(node.systemd.unit);
  if (!isKubelet(unit.command) || !hasOtherName(node, flagsOf(unit.command))) return undefined;
  const env = await lostEnv(unit, node.systemd.running?.pid);
  const flags = flagsOf(withRestoredEnv(unit, env).command);
  return flags.has("kubeconfig") ? otherName(node, flags) : undefined;
}

export function otherName(node: Pick<Node, "name" | "hostName">, flags: KubeletFlags): Fail | undefined {
  if (!hasOtherName(node, flags)) return undefined;
  const { name, hostName } = node;
  return new Fail(
    `This host is called "${hostName}", its node "${name}": a kubelet that starts now asks for another Node, and is refused`,
    { hint: MOVE },
  );
}

const MOVE = `${command("move")}   # it gives the kubelet its node's name: RUNBOOK-MORE "Machines that moved"`;

/** The addresses by which other machines reach this node. */
export async function machineAddresses(): Promise<string[]> {
  return await addressesWhere((scope) => scope !== "host" && scope !== "link");
}

export async function allAddresses(): Promise<string[]> {
  return (await addressesWhere(() => true)).map(canonicalIp);
}

export async function hostAddresses(): Promise<string[]> {
  return await addressesWhere((scope) => scope === "host");
}

async function addressesWhere(isScope: (scope: string) => boolean): Promise<string[]> {
  const all = (await readLinks()).flatMap((link) => link.addr_info ?? []);
  return all.flatMap(({ scope, local }) => (isScope(scope) ? [local] : []));
}

/**
 * Cards of this machine that are up and have no address by which others reach it: it may only come late. One that is
 * part of a bond or a bridge, or carries VLANs, needs none.
 */
export async function cardsWithoutAddress(): Promise<string[]> {
  const all = await readLinks();
  const carriers = all.flatMap(({ link = [] }) => link);
  return all.flatMap(({ ifname = "", flags = [], master, addr_info = [] }) => {
    const needsNone = master !== undefined || carriers.includes(ifname);
    const hasOne = addr_info.some(({ scope }) => scope === "global");
    const isCard = exists(`/sys/class/net/${ifname}/device`);
    return flags.includes("UP") && isCard && !needsNone && !hasOne ? [ifname] : [];
  });
}

interface Link {
  ifname?: string;
  flags?: readonly string[];
  /** The link that it is a part of, and the one that carries it. */
  master?: string;
  link?: string;
  addr_info?: Address[];
}

interface Address {
  scope: string;
  local: string;
  prefixlen?: number;
  /** It has a lease, or a router's word, and ends. */
  dynamic?: boolean;
  /** It was added later than another one of its net. */
  secondary?: boolean;
  /** IPv6: made for privacy, and replaced each day; or not to be used any more. */
  temporary?: boolean;
  deprecated?: boolean;
}

/** From `ip`: kubeadm itself needs this program. */
async function readLinks(): Promise<Link[]> {
  const output = await $({ quiet: true, nothrow: true })`ip -j addr`;
  if (output.exitCode !== 0) {
    throw new Fail(`Cannot read this machine's addresses: ip -j addr exited ${output.exitCode}`, {
      hint: "install the package iproute2: kubeadm and the kubelet need it as well",
    });
  }
  return JSON.parse(output.stdout) as Link[];
}

/**
 * This machine's own address at the interface of its default route, in canonical form, of the family of `like`. A VIP
 * may stand beside it, and before it (kube-vip and keepalived run on without a kubelet): `isGuest` says of which
 * addresses the cluster knows so. Undefined where there is none, or only a guest.
 */
export async function routedAddress(
  like: string,
  isGuest: (ip: string) => boolean,
): Promise<string | undefined> {
  const family = isIP(like) === 6 ? "-6" : "-4";
  const read = async (words: readonly string[]) => {
    const { stdout } = await $({ quiet: true, nothrow: true })`ip -j ${family} ${words}`;
    return JSON.parse(stdout || "[]") as (Link & { dev?: string; prefsrc?: string; gateway?: string })[];
  };
  const [route] = await read(["route", "show", "default"]);
  const own = route?.dev ? await read(["addr", "show", "dev", route.dev]) : [];
  const all = own
    .flatMap((link) => link.addr_info ?? [])
    .filter(({ scope, local }) => scope === "global" && !isGuest(canonicalIp(local)));
  const rules: ((one: Address) => unknown)[] = [
    ({ local }) => local === route?.prefsrc,
    ({ temporary, deprecated }) => !temporary && !deprecated,
    ({ local, prefixlen = 0 }) => route?.gateway && isWithin(route.gateway, `${local}/${prefixlen}`),
    // a VIP has no lease, and mostly no net; in some clouds (GCE, Hetzner) the only address has no net either
    ({ prefixlen, dynamic }) => dynamic || (prefixlen !== 32 && prefixlen !== 128),
    ({ dynamic }) => dynamic,
    ({ secondary }) => !secondary,
  ];
  const left = rules.reduce((those, rule) => (those.some(rule) ? those.filter(rule) : those), all);
  return left[0] && canonicalIp(left[0].local);
}

export function isOwnClient({ name }: Node, pem: string, caPem: string): boolean {
  return trustedText(pem, caPem) && certInfo(pem).cn === `system:node:${name}`;
}
