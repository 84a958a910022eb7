/**
 * The lab's network: one namespace is the switch, each node's eth0 is a cable into it. It has no connection
 * to the machine's own network. The API's balancer and the registry run in the switch.
 */
import { openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cgroupsOf, JOIN, makeCgroups, toJoin } from "./cgroups.ts";
import { addressIn, type Family, familyOf, hostPort, withPrefix } from "./families.ts";
import { sh } from "./shell.ts";
import { LAB, markOf, record } from "./state.ts";

export const SWITCH = "kpr-switch";
export const GATEWAY = gatewayIn(4);
const REGISTRY_PORT = 5000;

/** containerd's, for all registries. */
export const REGISTRY_HOSTS = `[host."http://${GATEWAY}:${REGISTRY_PORT}"]\n  capabilities = ["pull", "resolve"]\n`;

function gatewayIn(family: Family): string {
  return addressIn(family, 1);
}

export function balancerIn(family: Family): string {
  return addressIn(family, 10);
}

export async function makeSwitch(families: readonly Family[]) {
  await makeNamespace(SWITCH);
  await ip(SWITCH, "link add br0 type bridge");
  for (const family of families)
    for (const address of [gatewayIn(family), balancerIn(family)]) await addAddress(SWITCH, address, "br0");
  await ip(SWITCH, "link set br0 up");
  // Refuse at once what leads out of the lab. Otherwise a client of a Service whose rules are not written yet
  // (CoreDNS at its start) waits half a minute.
  for (const family of families) await ip(SWITCH, `-${family} route add unreachable default`);
  await forward(SWITCH, families);
}

/** Nobody else can have an address of the lab's, so IPv6 need not wait until it has asked (DAD). */
export async function addAddress(namespace: string, address: string, device: string) {
  const unasked = familyOf(address) === 6 ? " nodad" : "";
  await ip(namespace, `addr add ${withPrefix(address)} dev ${device}${unasked}`);
}

/** A namespace for a node and its cable. The name of a network device holds 15 characters at most. */
export async function plugIn(namespace: string, addresses: readonly string[]) {
  await makeNamespace(namespace);
  const port = `v${addresses[0]!.replaceAll(/[.:]/g, "").slice(-12)}`;
  await sh([
    "ip",
    "-n",
    SWITCH,
    "link",
    "add",
    port,
    "type",
    "veth",
    "peer",
    "name",
    "eth0",
    "netns",
    namespace,
  ]);
  await ip(SWITCH, `link set ${port} master br0 up`);
  for (const address of addresses) await addAddress(namespace, address, "eth0");
  await ip(namespace, "link set eth0 up");
  const families = addresses.map(familyOf);
  for (const family of families) await ip(namespace, `-${family} route add default via ${gatewayIn(family)}`);
  await forward(namespace, families);
}

const FORWARDING = { 4: "net.ipv4.ip_forward=1", 6: "net.ipv6.conf.all.forwarding=1" } as const;

async function forward(namespace: string, families: readonly Family[]) {
  for (const family of families)
    await sh(["ip", "netns", "exec", namespace, "sysctl", "-qw", FORWARDING[family]]);
}

/** Pods of other nodes are reached through their nodes. */
export async function routeTo(namespace: string, subnet: string, via: string) {
  await ip(namespace, `-${familyOf(via)} route replace ${subnet} via ${via}`);
}

async function makeNamespace(name: string) {
  record((state) => state.namespaces.push(name));
  await sh(["ip", "netns", "add", name]);
  await ip(name, "link set lo up");
}

async function ip(namespace: string, args: string) {
  await sh(["ip", "-n", namespace, ...args.split(" ")]);
}

/** haproxy in the switch, as in kubeadm's guide: only API servers whose /readyz answers get connections. */
export async function startBalancer(
  controlPlanes: readonly { name: string; ip: string }[],
  families: readonly Family[],
) {
  const config = join(LAB, "logs", "haproxy.cfg");
  writeFileSync(
    config,
    haproxyConfig(families.map((family) => hostPort(balancerIn(family), 6443)).join(","), controlPlanes),
  );
  startInSwitch("balancer", ["haproxy", "-db", "-f", config]);
}

/** Where nodes pull images from, with the names and digests that this node's containerd has. */
export async function startRegistry(store: string, images: string) {
  const names = join(LAB, "logs", "images.json");
  writeFileSync(names, JSON.stringify(digestsIn(images), null, 2));
  startInSwitch("registry", [
    process.execPath,
    join(import.meta.dir, "registry.ts"),
    store,
    names,
    GATEWAY,
    String(REGISTRY_PORT),
  ]);
}

/** The table of `ctr images ls`: name, type, digest. */
function digestsIn(table: string): Record<string, string> {
  return Object.fromEntries(
    [...table.matchAll(/^(\S+) +\S+ +(sha256:[0-9a-f]{64}) /gm)].map(([, name, digest]) => [name, digest]),
  );
}

/** A program that lives as long as the lab, with its output in the lab's logs. */
function startInSwitch(what: string, command: readonly string[]) {
  const cgroups = cgroupsOf(what);
  record((state) => state.cgroups.push(...cgroups));
  makeCgroups(cgroups);
  const log = openSync(join(LAB, "logs", `${what}.log`), "w");
  const proc = Bun.spawn(["sh", "-c", JOIN, "sh", "setsid", "ip", "netns", "exec", SWITCH, ...command], {
    env: { PATH: process.env.PATH!, CGROUPS: toJoin(cgroups, "outside") },
    stdin: "ignore",
    stdout: log,
    stderr: log,
  });
  proc.unref();
  const mark = markOf(proc.pid);
  if (mark) record((state) => state.processes.push({ ...mark, what }));
}

/** `address`: where it listens; several with a comma between. */
export function haproxyConfig(address: string, controlPlanes: readonly { name: string; ip: string }[]) {
  return `global
  maxconn 4000
defaults
  mode tcp
  timeout connect 2s
  timeout client 1h
  timeout server 1h
frontend api
  bind ${address}
  default_backend control-planes
backend control-planes
  balance roundrobin
  option httpchk GET /readyz
  http-check expect status 200
  timeout check 10s
  default-server check check-ssl verify none inter 1s fastinter 250ms downinter 250ms rise 1 fall 2 on-marked-down shutdown-sessions
${controlPlanes.map(({ name, ip }) => `  server ${name} ${hostPort(ip, 6443)}`).join("\n")}
`;
}
