/** Machines of the lab get other addresses: what a move to another network, or a new lease of DHCP, does. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { asMoved } from "../../../shared/pki/addresses.ts";
import { familyOf, withPrefix } from "./families.ts";
import type { Lab, Machine } from "./machine.ts";
import { addAddress, SWITCH, startBalancer } from "./network.ts";
import { sh } from "./shell.ts";
import { isAlive, readState, record } from "./state.ts";

/**
 * Gives each named machine its new address, on or off: the cable changes, and no program inside is informed.
 * `guest`: with its prefix, an address that each machine's card has before its own, as a VIP is that came
 * earlier than the lease.
 */
export async function readdress(lab: Lab, to: Record<string, string>, guest?: string) {
  const movers = lab.nodes.filter(({ name }) => to[name] !== undefined);
  const moved = new Map(movers.map(({ name, ip }) => [ip, to[name]!]));
  const routes = new Map(
    await Promise.all(movers.map(async (node) => [node, await routesIn(of(node))] as const)),
  );
  // all old ones go first: two may swap theirs
  for (const { name, ip } of movers) await inside(`kpr-${name}`, `addr del ${withPrefix(ip)} dev eth0`);
  if (guest) for (const node of movers) await inside(of(node), `addr add ${guest} dev eth0`);
  for (const node of movers) await give(node, to[node.name]!, routes.get(node)!, moved);
  for (const namespace of [SWITCH, ...lab.nodes.map(of)])
    for (const { dst, gateway } of await routesIn(namespace))
      if (moved.has(gateway)) await leadTo(namespace, dst, moved.get(gateway)!);
  for (const node of lab.nodes) rewrite(node.path("/etc/hosts"), moved);
  await balanceAnew(lab.controlPlanes);
}

/** cp1's 10.250.0.11 becomes 10.250.0.111, and fd00:250::11 becomes fd00:250::111. */
export function newAddress({ ip }: Machine): string {
  return ip.replace(/\d+$/, (last) => String(Number(last) + 100));
}

function of({ name }: Machine): string {
  return `kpr-${name}`;
}

type Route = { dst: string; gateway: string; dev: string };

/** Those that lead to another machine by the cable; a network plugin's tunnel is its own. */
async function routesIn(namespace: string): Promise<Route[]> {
  const texts = await Promise.all(
    ["-4", "-6"].map((family) => sh(["ip", family, "-j", "-n", namespace, "route", "show"])),
  );
  return texts
    .flatMap((text) => JSON.parse(text || "[]") as Partial<Route>[])
    .filter((one): one is Route => one.gateway !== undefined && !one.dev?.startsWith("vxlan"));
}

async function leadTo(namespace: string, dst: string, gateway: string) {
  await inside(namespace, `-${familyOf(gateway)} route replace ${dst} via ${gateway}`);
}

/** The routes of an address go with it. */
async function give(
  node: Machine,
  address: string,
  routes: readonly Route[],
  moved: ReadonlyMap<string, string>,
) {
  await addAddress(of(node), address, "eth0");
  for (const { dst, gateway } of routes) await leadTo(of(node), dst, moved.get(gateway) ?? gateway);
  const own = { ip: address, ips: [address, ...(node.ips ?? []).slice(1)] };
  Object.assign(node, own);
  record((state) => {
    Object.assign(state.nodes.find(({ name }) => name === node.name)!, own);
  });
}

function rewrite(path: string, moved: ReadonlyMap<string, string>) {
  if (existsSync(path)) writeFileSync(path, asMoved(readFileSync(path, "utf8"), moved));
}

async function balanceAnew(controlPlanes: readonly Machine[]) {
  for (const { what, ...mark } of readState().processes)
    if (what === "balancer" && isAlive(mark)) process.kill(mark.pid, "SIGKILL");
  await startBalancer(controlPlanes, (controlPlanes[0]!.ips ?? [controlPlanes[0]!.ip]).map(familyOf));
}

async function inside(namespace: string, words: string) {
  await sh(["ip", "-n", namespace, ...words.split(" ")]);
}
