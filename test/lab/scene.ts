/** A rehearsal while it goes on: the cluster, the clock, what was typed and what it said. Scenarios are written with these verbs. */
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { Fail } from "../../shared/fail.ts";
import { waitFor } from "../../shared/run.ts";
import { type Facts, list, takeFacts } from "./facts.ts";
import { kubectl, type Lab, type Machine } from "./machine.ts";
import type { Check, Moment, Step } from "./rehearsal.ts";
import { type Block, type Place, printedLine, readRunbook } from "./runbook.ts";
import { containersAt, type Sample, watch } from "./watch.ts";

/** The kit's folder on a node, as the runbook says: in memory, so that no key touches the disk and nothing is overwritten there. */
export const KIT = "/dev/shm/kube-pki-repair";

export interface Scenario {
  name: string;
  title: string;
  masters: number;
  workers: number;
  /** It follows our runbook, so our promises are held against it. */
  byRunbook: boolean;
  /** The incident, line by line. */
  lines: { title: string; run(scene: Scene): Promise<unknown> }[];
}

export interface Scene {
  lab: Lab;
  /** Milliseconds: the wreck. Everything is told from here. */
  zero: number;
  before: Facts;
  oldTokens: string[];
  steps: Step[];
  moments: Moment[];
  leaks: string[];
  /** Answers to a scenario's own questions, beside those that are always asked. */
  checks: Check[];
  watchers: { machine: Machine; watcher: ReturnType<typeof watch> }[];
  say(line: string): void;
}

/** Kit on every node, watchers on, fingerprint taken: the last quiet minute. */
export async function openScene(lab: Lab, options: { kit: string; say: (line: string) => void }): Promise<Scene> {
  const masters = new Set(lab.masters.map((node) => node.name));
  for (const node of lab.nodes) await unpackKit(node, options.kit);
  const watchers = lab.nodes.map((machine) => {
    const role = masters.has(machine.name) ? ("master" as const) : ("worker" as const);
    return { machine, watcher: watch(machine, { role, bun: `${KIT}/bun` }) };
  });
  const scene: Scene = {
    ...{ lab, watchers, zero: Date.now(), steps: [], moments: [], leaks: [], checks: [], say: options.say },
    before: await takeFacts(lab),
    oldTokens: await tokensOf(lab),
  };
  const looked = () =>
    scene.watchers.every(({ machine, watcher }) => watcher.samples().some((s) => s.containers && (s.pods || !masters.has(machine.name))));
  await waitFor("the watchers' first look", looked, { seconds: 30, hint: "look at /var/log/rehearsal in the nodes with --keep" });
  return scene;
}

async function unpackKit(node: Machine, kit: string) {
  copyFileSync(kit, node.path("/root/kube-pki-repair.tar.gz"));
  const { exitCode, stderr } = await node.run(["sh", "-c", `mkdir -p ${KIT} && tar -xzf /root/kube-pki-repair.tar.gz -C ${KIT}`]);
  if (exitCode !== 0)
    throw new Fail(`Cannot unpack the kit on ${node.name}: ${stderr.trim()}`, { hint: "npm run pack, and look into its tarball" });
}

/** Tokens signed with the old sa.key: those in Secrets, and a fresh one. */
async function tokensOf(lab: Lab): Promise<string[]> {
  const secrets = (await list(lab, "secrets")).filter((secret) => secret.type === "kubernetes.io/service-account-token");
  const fresh = await kubectl(lab, ["create", "token", "default", "--duration=24h"]);
  return [...secrets.map((secret) => Buffer.from(secret.data?.token ?? "", "base64").toString()), fresh.stdout.trim()].filter(Boolean);
}

/** `rm -rf /etc/kubernetes` on these nodes, all at once; starts the clock. */
export async function wreck(scene: Scene, nodes: Machine[]) {
  scene.zero = Date.now();
  await Promise.all(nodes.map((node) => node.run(["rm", "-rf", "/etc/kubernetes"])));
  note(scene, `rm -rf /etc/kubernetes on ${nodes.map((node) => node.name).join(" and ")}`, "", scene.zero);
}

/** Waits until neither the API nor etcd answers any more. */
export async function controlPlaneGone(scene: Scene) {
  const gone = () => masterSamples(scene).every((samples) => samples.at(-1)?.api === false && samples.at(-1)?.etcd === false);
  await waitFor("the control plane to go away", gone, { seconds: 120, hint: "is a kubelet running? it is what stops the static pods" });
}

export function masterSamples(scene: Scene): Sample[][] {
  const masters = new Set(scene.lab.masters.map((node) => node.name));
  return scene.watchers.filter(({ machine }) => masters.has(machine.name)).map(({ watcher }) => watcher.samples());
}

export function note(scene: Scene, what: string, detail = "", at = Date.now()) {
  scene.moments.push({ at: (at - scene.zero) / 1000, what, detail });
  scene.say(`${what}${detail ? `: ${detail}` : ""}`);
}

/** Types a command on a node as an operator would; ends it after `seconds`. */
export async function type(
  scene: Scene,
  node: Machine,
  command: string,
  options: { part?: number | undefined; exit?: number[]; seconds?: number; cwd?: string; mayHoldToken?: boolean } = {},
): Promise<Step & { raw: string }> {
  const { part, exit = [0], seconds = 600, cwd = KIT } = options;
  scene.say(`${node.name}# ${redact(command).text}`);
  const start = Date.now();
  const output = await node.run(["timeout", "--kill-after=5", `${seconds}`, "env", "HOME=/root", "bash", "-c", command], { cwd });
  const [stdout, stderr, typed] = [redact(output.stdout), redact(output.stderr), redact(command)];
  const leak = stdout.what ?? stderr.what ?? typed.what;
  if (leak && !options.mayHoldToken) scene.leaks.push(`${leak}: ${typed.text} on ${node.name}`);
  const took = (Date.now() - start) / 1000;
  const step: Step = {
    ...{ part, node: node.name, command: typed.text, start: (start - scene.zero) / 1000, seconds: took, exitCode: output.exitCode },
    ...{
      ok: exit.includes(output.exitCode),
      hung: !exit.includes(output.exitCode) && [124, 137].includes(output.exitCode),
      stdout: stdout.text,
      stderr: stderr.text,
    },
  };
  scene.steps.push(step);
  scene.say(`  exit ${step.exitCode} after ${took.toFixed(1)} s${step.ok ? "" : `: ${lastLine(step)}`}`);
  return { ...step, raw: output.stdout };
}

const SECRETS = [
  { what: "a private key", pattern: /-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(-----END [A-Z ]*PRIVATE KEY-----)?/g },
  { what: "a service account token", pattern: /\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+/g },
  { what: "a bootstrap token", pattern: /\b[a-z0-9]{6}\.[a-z0-9]{16}\b/g },
];

/** The text without secrets, and what kind was in it. */
export function redact(text: string): { text: string; what?: string } {
  let what: string | undefined;
  for (const secret of SECRETS) {
    const clean = text.replaceAll(secret.pattern, `<${secret.what}>`);
    if (clean !== text) what = secret.what;
    text = clean;
  }
  return what ? { text, what } : { text };
}

export function lastLine({ stdout, stderr }: { stdout: string; stderr: string }) {
  return (stderr.trim() || stdout.trim() || "no output").split("\n").at(-1)!;
}

/**
 * Runs the runbook as it is written: each block where it says, in the order of the page. Stops where an operator would: at a failure.
 * With `killAfter` (seconds), each writing script is first killed in its middle and then run as if nothing had been.
 */
export async function followRunbook(scene: Scene, tags: string[], options: { markdown?: string; killAfter?: number } = {}) {
  const { blocks } = readRunbook(options.markdown ?? (await Bun.file(join(import.meta.dir, "../../RUNBOOK.md")).text()));
  const follow: Follow = { scene, printed: "", killAfter: options.killAfter };
  for (const block of blocks.filter((block) => !block.if || tags.includes(block.if))) {
    if (block.carry) await carry(scene, block.carry);
    const nodes = block.on ? nodesAt(scene.lab, block.on) : [];
    if (block.sideBySide) {
      const done = await Promise.all(nodes.map((node) => followBlock(follow, block, node)));
      if (done.includes(false)) return;
    } else for (const node of nodes) if (!(await followBlock(follow, block, node))) return;
  }
}

interface Follow {
  scene: Scene;
  /** All that was printed on stdout so far. */
  printed: string;
  killAfter: number | undefined;
}

/** Types a block's commands on one node; false when one did not end as the runbook says. */
async function followBlock(follow: Follow, block: Block, node: Machine): Promise<boolean> {
  const { scene, killAfter } = follow;
  for (const example of block.commands) {
    const command = block.printed ? whatWasPrinted(block, example, follow.printed) : example;
    if (killAfter && WRITES.test(command)) await killInTheMiddle(scene, node, command, { ...block, seconds: killAfter });
    const step = await type(scene, node, command, block);
    follow.printed += step.raw;
    if (!step.ok) return false;
  }
  return true;
}

const WRITES = /^\.\/bunw scripts\/0[1-4]/;

async function killInTheMiddle(
  scene: Scene,
  node: Machine,
  command: string,
  { part, seconds }: { part: number | undefined; seconds: number },
) {
  await type(scene, node, `timeout --signal=KILL ${seconds} ${command}`, { part, exit: [0, 137] });
}

function whatWasPrinted(block: Block, example: string, printed: string) {
  const line = printedLine(example, printed);
  if (!line)
    throw new Fail(`RUNBOOK.md line ${block.line}: no command printed a line like "${example}"`, {
      hint: "see what the command before it printed",
    });
  return line;
}

export function nodesAt(lab: Lab, place: Place): Machine[] {
  const nodes = {
    "first-master": lab.masters.slice(0, 1),
    "other-masters": lab.masters.slice(1),
    "each-master": lab.masters,
    "each-worker": lab.workers,
    "each-node": lab.nodes,
  };
  return nodes[place];
}

/** Stands for the operator's scp: by way of the node's own cat, as the kit's folder is in memory and has no path outside. */
async function carryFile(from: Machine, to: Machine, file: string) {
  const path = file.startsWith("/") ? file : `${KIT}/${file}`;
  const { stdout, exitCode, stderr } = await from.run(["base64", "-w0", path]);
  if (exitCode !== 0)
    throw new Fail(`Cannot carry ${file} from ${from.name}: ${stderr.trim()}`, { hint: "see what the command before it wrote" });
  await to.run(["bash", "-c", `umask 077; base64 -d > ${path}`], { input: stdout });
}

async function carry(scene: Scene, { file, from, to }: NonNullable<Block["carry"]>) {
  const source = nodesAt(scene.lab, from)[0]!;
  for (const node of nodesAt(scene.lab, to)) {
    scene.say(`carry ${file} from ${source.name} to ${node.name}`);
    await carryFile(source, node, file);
  }
}

/** "11 of 11 workload containers still run", as the watchers last saw it. */
export function workloadsLeft(scene: Scene) {
  const count = (at: number) => scene.watchers.reduce((sum, { watcher }) => sum + containersAt(watcher.samples(), at), 0);
  return `${count(Date.now())} of ${count(scene.zero)} workload containers still run`;
}
