/**
 * The lab's wires: one namespace is the switch, each node's eth0 is a cable into it. Nothing of this is on the machine's own network,
 * and nothing leads out of it. The API's balancer sits in the switch.
 */
import { openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cgroupsOf, JOIN, makeCgroups, toJoin } from "./cgroups.ts";
import { sh } from "./shell.ts";
import { LAB, markOf, record } from "./state.ts";

export const SWITCH = "kpr-switch";
export const GATEWAY = "10.250.0.1";
export const BALANCER = "10.250.0.10";

export async function makeSwitch() {
  await makeNamespace(SWITCH);
  await ip(SWITCH, "link add br0 type bridge");
  for (const address of [GATEWAY, BALANCER]) await ip(SWITCH, `addr add ${address}/24 dev br0`);
  await ip(SWITCH, "link set br0 up");
  // Say no at once to what leads out of the lab. A client that waits in silence for a Service whose rules are not written yet (CoreDNS,
  // at its start) would lose half a minute.
  await ip(SWITCH, "route add unreachable default");
  await forward(SWITCH);
}

/** A namespace for a node and its cable. The name of a network device holds 15 characters at most. */
export async function plugIn(namespace: string, address: string) {
  await makeNamespace(namespace);
  const port = `v${address.replaceAll(".", "").slice(-12)}`;
  await sh(["ip", "-n", SWITCH, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace]);
  await ip(SWITCH, `link set ${port} master br0 up`);
  await ip(namespace, `addr add ${address}/24 dev eth0`);
  await ip(namespace, "link set eth0 up");
  await ip(namespace, `route add default via ${GATEWAY}`);
  await forward(namespace);
}

async function forward(namespace: string) {
  await sh(["ip", "netns", "exec", namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
}

/** Pods of other nodes are reached through their nodes. */
export async function routeTo(namespace: string, subnet: string, via: string) {
  await ip(namespace, `route replace ${subnet} via ${via}`);
}

async function makeNamespace(name: string) {
  record((state) => state.namespaces.push(name));
  await sh(["ip", "netns", "add", name]);
  await ip(name, "link set lo up");
}

async function ip(namespace: string, args: string) {
  await sh(["ip", "-n", namespace, ...args.split(" ")]);
}

/** haproxy in the switch, as kubeadm's own guide puts it before the API servers; only what says /readyz gets connections. */
export async function startBalancer(controlPlanes: readonly { name: string; ip: string }[]) {
  const cgroups = cgroupsOf("balancer");
  record((state) => state.cgroups.push(...cgroups));
  makeCgroups(cgroups);
  const config = join(LAB, "logs", "haproxy.cfg");
  writeFileSync(config, haproxyConfig(controlPlanes));
  const command = ["setsid", "ip", "netns", "exec", SWITCH, "haproxy", "-db", "-f", config];
  const log = openSync(join(LAB, "logs", "balancer.log"), "w");
  const proc = Bun.spawn(["sh", "-c", JOIN, "sh", ...command], {
    env: { PATH: process.env.PATH!, CGROUPS: toJoin(cgroups, "outside") },
    stdin: "ignore",
    stdout: log,
    stderr: log,
  });
  proc.unref();
  const mark = markOf(proc.pid);
  if (mark) record((state) => state.processes.push({ ...mark, what: "balancer" }));
}

function haproxyConfig(controlPlanes: readonly { name: string; ip: string }[]) {
  return `global
  maxconn 4000
defaults
  mode tcp
  timeout connect 2s
  timeout client 1h
  timeout server 1h
frontend api
  bind ${BALANCER}:6443
  default_backend control-planes
backend control-planes
  balance roundrobin
  option httpchk GET /readyz
  http-check expect status 200
  timeout check 10s
  default-server check check-ssl verify none inter 1s fastinter 250ms downinter 250ms rise 1 fall 2 on-marked-down shutdown-sessions
${controlPlanes.map(({ name, ip }) => `  server ${name} ${ip}:6443`).join("\n")}
`;
}
