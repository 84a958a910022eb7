/**
 * The pods that ask each other all the time (programs/workload/pings.go): tells them of each other, and turns
 * what they wrote into seconds lost. Each writes on its own node, so nothing of this needs an API, or the
 * network that is measured.
 */
import { existsSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import type { Machine } from "../machine/machine.ts";
import type { NewPod, Pings } from "./rehearsal.ts";

const FOLDER = "/var/log/pings";

/** Seconds between two pings of a pod to the same address. */
const INTERVAL = 0.25;

/** Milliseconds: a pod that runs touches its file `.here` every quarter of a second. */
const STILL_HERE = 5000;

/** Seconds. Lost pings with less between them are one span. */
const ONE_SPAN = 2;

export interface PingPod {
  name: string;
  node: string;
  /** Milliseconds: when its program started. */
  since: number;
}

/** Who runs is written into each node's file `peers`, until `stop()`. `pods` are all that ever ran. */
export function introducePods(nodes: readonly Machine[]) {
  const pods = new Map<string, PingPod>();
  let last = "";
  const look = () => {
    const here = nodes.flatMap((node) => podsHere(node));
    for (const { ip: _, ...pod } of here) pods.set(`${pod.name} ${pod.since}`, pod);
    const text = here.map(({ name, ip }) => `${name} ${ip}\n`).join("");
    if (text !== last) for (const node of nodes) writePeers(node, text);
    last = text;
  };
  const clock = setInterval(look, 200);
  return { pods: () => [...pods.values()], stop: () => clearInterval(clock) };
}

function podsHere(node: Machine): (PingPod & { ip: string })[] {
  return filesIn(node, ".here").flatMap((path) => {
    const info = statSync(path, { throwIfNoEntry: false });
    if (!info || Date.now() - info.mtimeMs > STILL_HERE) return [];
    const [ip, since] = readFileSync(path, "utf8").trim().split(" ");
    return since ? [{ name: nameIn(path), node: node.name, ip: ip!, since: Date.parse(since) }] : [];
  });
}

function writePeers(node: Machine, text: string) {
  const path = `${node.path(FOLDER)}/peers`;
  if (!existsSync(node.path(FOLDER))) return;
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

function filesIn(node: Machine, end: string): string[] {
  const folder = node.path(FOLDER);
  return existsSync(folder)
    ? readdirSync(folder).flatMap((file) => (file.endsWith(end) ? [`${folder}/${file}`] : []))
    : [];
}

function nameIn(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1).replace(/\.\w+$/, "");
}

export interface Ping {
  t: number;
  from: string;
  /** A pod's name, "service" or "api". */
  to: string;
  ok: boolean;
}

export function readPings(nodes: readonly Machine[]): Ping[] {
  return nodes
    .flatMap((node) => filesIn(node, ".log"))
    .flatMap((path) => {
      const lines = readFileSync(path, "utf8").split("\n");
      lines.pop(); // empty, or a line that is just being written
      return lines
        .filter((line) => line.endsWith("}"))
        .map((line) => ({ from: nameIn(path), ...(JSON.parse(line) as Omit<Ping, "from">) }));
    })
    .sort((a, b) => a.t - b.t);
}

/**
 * In the last seconds: each of the two pods of a node has an answer of all others, of the Service and of the
 * API's Service.
 */
export function everyPodAnswers(nodes: readonly Machine[]): boolean {
  const answers = readPings(nodes).filter(({ t, ok }) => ok && Date.now() - t < 3000);
  const asked = Object.values(Object.groupBy(answers, ({ from }) => from)).map(
    (all) => new Set(all!.map(({ to }) => to)).size,
  );
  return asked.length === 2 * nodes.length && asked.every((count) => count === 2 * nodes.length + 1);
}

export const OLD_PODS = "between old pods";

/**
 * Pings since `zero` (ms). A pod is new if it started after it; one whose node was off starts a second time.
 */
export function measurePings(
  pings: readonly Ping[],
  pods: readonly PingPod[],
  zero: number,
): { rows: Pings[]; newPods: NewPod[] } {
  const started = new Map(pods.map(({ name, since }) => [name, since]));
  const isNew = (name: string) => (started.get(name) ?? 0) > zero;
  const since = pings.filter(({ t }) => t >= zero);
  const kinds: [name: string, what: string, meant: (ping: Ping) => boolean][] = [
    [
      OLD_PODS,
      "pods from before the damage, on all nodes",
      ({ from, to }) => !isService(to) && !isNew(from) && !isNew(to),
    ],
    [
      "from and to new pods",
      "pods that started after the damage",
      ({ from, to }) => !isService(to) && (isNew(from) || isNew(to)),
    ],
    ["from pods to a Service", "by its IP, a new connection each time", ({ to }) => to === "service"],
    ["from pods to the API's Service", "10.97.0.1:443, a new connection each time", ({ to }) => to === "api"],
  ];
  return {
    rows: kinds.map(([name, what, meant]) => ({ name, what, ...losses(since.filter(meant), zero) })),
    newPods: pods.filter((pod) => pod.since > zero).map((pod) => firstContact(pod, since, zero)),
  };
}

function isService(to: string): boolean {
  return to === "service" || to === "api";
}

/** `seconds`: of the pair that lost most. */
function losses(pings: readonly Ping[], zero: number): Omit<Pings, "name" | "what"> {
  const lost = pings.filter(({ ok }) => !ok);
  const pairs = Object.entries(Object.groupBy(lost, ({ from, to }) => `${from} to ${to}`)).map(
    ([pair, all]) => ({
      pair,
      lost: all!.length,
    }),
  );
  const worst = pairs.sort((a, b) => b.lost - a.lost)[0];
  const spans: Pings["spans"] = [];
  for (const { t } of lost) {
    const at = (t - zero) / 1000;
    const open = spans.at(-1);
    if (open && at - open.to < ONE_SPAN) Object.assign(open, { to: at + INTERVAL, lost: open.lost + 1 });
    else spans.push({ from: at, to: at + INTERVAL, lost: 1 });
  }
  return {
    sent: pings.length,
    lost: lost.length,
    seconds: (worst?.lost ?? 0) * INTERVAL,
    worst: worst?.pair ?? "",
    spans,
  };
}

/** Seconds from the start of its program until another pod answered it. */
function firstContact({ name, node, since }: PingPod, pings: readonly Ping[], zero: number): NewPod {
  const first = pings.find(({ t, from, to, ok }) => ok && from === name && !isService(to) && t >= since);
  return { name, node, start: (since - zero) / 1000, firstAnswer: first ? (first.t - since) / 1000 : null };
}

/** "from pods to a Service: 12 of 2929 lost, 3.0 s". */
export function pingLine({ name, sent, lost, seconds, worst, spans }: Pings): string {
  if (lost === 0) return `${name}: 0 of ${sent} lost`;
  const when = spans.map(({ from, to }) => `${from.toFixed(1)}–${to.toFixed(1)}`).slice(0, 8);
  return `${name}: ${lost} of ${sent} lost, at most ${seconds.toFixed(1)} s (${worst}), at ${when.join(", ")} s`;
}
