/** `plan` on a pretend node, and the lines of the page. */
import { expect } from "bun:test";
import { mkdirSync } from "node:fs";
import { ADDRESS, type Objects } from "./cluster.ts";
import { MEMBER, type NodeOptions, pretendNode } from "./node.ts";

/** Workers have addresses that may get into a line; the pretend cluster's own are loopback. */
export function reachable(objects: Objects) {
  for (const [name, ip] of [
    ["w1", "10.77.0.21"],
    ["w2", "10.77.0.22"],
  ] as const)
    setAddress(objects, name, ip);
}

export function setAddress(objects: Objects, name: string, ...ips: string[]) {
  const node = objects[`minions/${name}`] as { status: object };
  node.status = { addresses: ips.map((address) => ({ type: "InternalIP", address })) };
}

/** Of this test's pretend nodes, and as plan() shows it. */
const [NETWORK, SHOWN] = [ADDRESS.replace(/\d+$/, ""), "127.77.0."];

/**
 * Where m2 and m3 can be asked: their addresses are this machine's. Who answers at others depends on where
 * the tests run.
 */
const OTHERS = { m2: `${NETWORK}12`, m3: `${NETWORK}13` };
export const AT = { m1: ADDRESS, ...OTHERS };

/** Two more control plane nodes. */
export function three(objects: Objects) {
  reachable(objects);
  for (const [name, ip] of Object.entries(OTHERS))
    objects[`minions/${name}`] = JSON.parse(
      JSON.stringify(objects["minions/m1"])
        .replaceAll('"m1"', `"${name}"`)
        .replaceAll(ADDRESS, ip)
        .replace("uid-of-m1", `uid-of-${name}`),
    );
}

export const MEMBERS = [
  MEMBER,
  ...Object.entries(OTHERS).map(([name, ip], i) => ({
    id: `b${i}`.padEnd(16, "1"),
    name,
    peerURLs: [`https://${ip}:2380`],
  })),
];

export const ASKED = { etcd: three, members: MEMBERS };

type PretendNode = Awaited<ReturnType<typeof pretendNode>>;

interface Damage extends NodeOptions {
  change?: (root: string) => unknown;
  /** Runs meanwhile. */
  beside?: (node: Pick<PretendNode, "root" | "stored">) => Disposable;
  args?: string;
}

/** A node's fingerprint without what the operator has said, which is kept in memory. */
export function butWords(fingerprint: readonly string[]): string[] {
  return fingerprint.filter((line) => !line.startsWith("run/kube-pki-repair-words.json "));
}

/** Prints the plan; nothing is written for it, except what the operator says: in memory. */
export async function plan({ change, beside, args = "", ...options }: Damage) {
  using node = await pretendNode({ etcd: reachable, ...options });
  mkdirSync(`${node.root}/dev/shm`, { recursive: true });
  await change?.(node.root);
  using _beside = beside?.(node);
  const before = node.fingerprint();
  const run = await node.run(`plan ${args}`.trim());
  expect(butWords(node.fingerprint())).toEqual(before);
  const [stdout, stderr] = [run.stdout, run.stderr].map((text) => text.replaceAll(NETWORK, SHOWN));
  return { ...run, stdout: stdout!, stderr: stderr!.replace(/in \d+\.\d s/g, "in SECONDS s") };
}

/** The lines of the page: "m1# 01-etcd.ts" for each node on which one is typed; those for the operator's machine as they are. */
export function pasted(stdout: string): string[] {
  return [...stdout.matchAll(/^```sh\n([\s\S]*?)\n```$/gm)].flatMap(([, fence]) => {
    let at: string[] = [];
    return fence!.split("\n").flatMap((line) => {
      const [, place] = /^# on (.+):$/.exec(line) ?? [];
      if (place) at = place === "your machine" ? [""] : place.split(", ");
      return place || line.startsWith("  ") ? [] : at.map((name) => asTyped(name, line));
    });
  });
}

function asTyped(name: string, line: string): string {
  const [, aside = ""] =
    /^# the line that step \S+ has printed(?: {3}# on (.+) with --move-aside)?$/.exec(line) ?? [];
  const printed = aside.split(", ").includes(name) ? "LINE --move-aside" : "LINE";
  const text = line
    .replace(/^# the line that step .*/, printed)
    .replaceAll("cd /run/kube-pki-repair && ", "")
    .replaceAll("./bunw scripts/", "");
  return name === "" ? text : `${name}# ${text}`;
}
