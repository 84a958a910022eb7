/**
 * A soak: three control plane nodes are wiped and repaired again and again, and one of them loses power at
 * random moments, busy or idle. Chance decides which node goes on first. At the end nothing of the cluster's
 * data may be missing.
 */
import { randomInt } from "node:crypto";
import { basename } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { kubectl, type Machine } from "../machine/machine.ts";
import { compare, takeSnapshot } from "../report/snapshot.ts";
import { printedLine, TOKENS } from "../scene/follow.ts";
import { cutPower, powerOn } from "../scene/power.ts";
import { controlPlaneGone, deleteKubernetes, KIT, type Scenario, type Scene, type } from "../scene/scene.ts";
import { haAllLost } from "./several-control-planes.ts";

const CUTS = Number(process.env.CUTS ?? 100);

/** Batches of commands that are cut, of ten. */
const CUT_OF_TEN = 7;

/**
 * How often a command may fail in a row without a cut on its node: the other nodes may have lost the quorum.
 */
const PATIENCE = 4;

export const cutPoints: Scenario = {
  ...haAllLost,
  name: "cut-points",
  title: `Three control plane nodes are wiped and repaired over and over; ${CUTS} times one of them loses power during the repair`,
  byRunbook: false,
  commandsMayFail: true,
  machinesFail: true,
  lines: [{ title: "The nodes are wiped, repaired, cut off from power, and repaired further", run: soak }],
};

interface Soak {
  scene: Scene;
  cuts: number;
  /** Where each cut hit: the command that ran on that node, or "idle". */
  hits: Record<string, number>;
  /** What the operator keeps on the laptop: files in base64, by name. */
  laptop: Map<string, string>;
  /** The lines that `pack` and `open` printed, by the script they run. */
  printed: Map<string, string>;
  /** Seconds that each command took when nothing disturbed it. */
  took: Map<string, number>;
}

/** One command on one node; the commands in `after`, on any nodes, must have ended before it. */
interface Task {
  name: string;
  node: Machine;
  command: string;
  after: Task[];
  done: boolean;
  failures: number;
  /**
   * Files that the operator copies from the laptop into the kit's folder before it, and from there to the
   * laptop after it.
   */
  needs?: string[];
  leaves?: string[];
  /** The operator types the line that an earlier command printed. */
  printed?: boolean;
  /** Run again where this one fails, as its hint says. */
  again?: Task;
}

async function soak(scene: Scene) {
  const soak: Soak = { scene, cuts: 0, hits: {}, laptop: new Map(), printed: new Map(), took: new Map() };
  let rounds = 0;
  while (soak.cuts < CUTS) {
    await writeMark(scene, ++rounds);
    // The record shows the last round only: times in earlier rounds count from earlier damages.
    Object.assign(scene, { steps: [], moments: [] });
    const before = await takeSnapshot(scene.lab);
    await deleteKubernetes(scene, scene.lab.nodes);
    await controlPlaneGone(scene);
    await repair(soak, tasksOf(scene, { workloads: soak.cuts + 15 >= CUTS }));
    const lost = await whatIsMissing(scene, before);
    scene.say(
      `round ${rounds}: ${soak.cuts} cuts so far; ${lost.length === 0 ? "nothing is missing" : lost.join("; ")}`,
    );
    scene.checks.push({
      name: `round ${rounds}: data as before`,
      ok: lost.length === 0,
      detail: lost.join("; ") || "all equal",
    });
    if (lost.length > 0) return;
  }
  // A command that was cut does not end as expected, and need not: such commands are not judged one by one.
  scene.steps = scene.steps.filter((step) => step.ok);
  const where = Object.entries(soak.hits).map(([name, count]) => `${name} ${count}`);
  scene.checks.push({
    name: `the cluster survives ${CUTS} power cuts`,
    ok: soak.cuts >= CUTS,
    detail: `${soak.cuts} in ${rounds} rounds: ${where.join(", ")}`,
  });
}

/** Something new in every round: so a repair that brings back old data is seen. */
async function writeMark(scene: Scene, round: number) {
  const { exitCode, stderr } = await kubectl(scene.lab, [
    "create",
    "configmap",
    `round-${round}`,
    `--from-literal=at=${Date.now()}`,
  ]);
  if (exitCode !== 0)
    throw new Fail(`Cannot write to the cluster: ${stderr.trim()}`, {
      hint: "look whether the repair of the last round is complete",
    });
}

async function whatIsMissing(
  scene: Scene,
  before: Awaited<ReturnType<typeof takeSnapshot>>,
): Promise<string[]> {
  const { secretsLost, configMapsChanged, uidsChanged, manifestsChanged, namesLost } = compare(
    before,
    await takeSnapshot(scene.lab),
  );
  return [...secretsLost, ...configMapsChanged, ...uidsChanged, ...manifestsChanged, ...namesLost];
}

const UNPACK = "./bunw scripts/hand-over.ts unpack";
const JOIN = "./bunw scripts/03-join.ts";

/** All of them are wiped and have stopped: there is no key to search, and the operator says so. */
const GIVEN_UP = /\.\/bunw scripts\/01-etcd\.ts --new-cas --lost-on [\w,.-]*\w/;

const tokenOf = ({ nodeName }: Machine) => TOKENS.replace("NODE", nodeName);

function tasksOf({ lab }: Scene, { workloads }: { workloads: boolean }): Task[] {
  const [first, ...others] = lab.controlPlanes as [Machine, ...Machine[]];
  const tasks: Task[] = [];
  const task = (node: Machine, name: string, command: string, after: Task[], files: Partial<Task> = {}) => {
    tasks.push({ name, node, command, after, done: false, failures: 0, ...files });
    return tasks.at(-1)!;
  };
  const etcd = task(first, "01", "./bunw scripts/01-etcd.ts --new-cas", []);
  const bundle = ["passphrase", "shared-keys.age"];
  const pack = "./bunw scripts/hand-over.ts pack --passphrase-file passphrase --out shared-keys.age --force";
  const packed = task(
    first,
    "pack",
    `umask 077; head -c 24 /dev/urandom | base64 > passphrase; ${pack}`,
    [etcd],
    { leaves: bundle },
  );
  const etcds = others.map((node) => {
    const unpacked = task(node, "unpack", UNPACK, [packed], { needs: bundle, printed: true });
    return task(node, "01", "./bunw scripts/01-etcd.ts", [unpacked]);
  });
  const planes = lab.controlPlanes.map((node) =>
    task(node, "02", "./bunw scripts/02-control-plane.ts", [etcd, ...etcds]),
  );
  const open = task(first, "03 open", "./bunw scripts/03-workers.ts open", planes, {
    leaves: lab.workers.map(tokenOf),
  });
  const joined = lab.workers.map((node) =>
    task(node, "join", JOIN, [open], { needs: [tokenOf(node)], printed: true, again: open }),
  );
  const firstClose = task(first, "03 close", "./bunw scripts/03-workers.ts close", joined);
  const closes = others.map((node) =>
    task(node, "03 close", "./bunw scripts/03-workers.ts close", [firstClose]),
  );
  if (workloads) task(first, "04", "./bunw scripts/04-sa-tokens.ts", [firstClose, ...closes]);
  return tasks;
}

/** In each batch, up to one command for every node, and up to one power cut on some control plane node. */
async function repair(soak: Soak, tasks: Task[]) {
  while (tasks.some((task) => !task.done)) {
    const batch = pick(tasks);
    const cut = soak.cuts < CUTS && randomInt(10) < CUT_OF_TEN ? planCut(soak, batch) : undefined;
    await Promise.all([...batch.map((task) => run(soak, task)), ...(cut ? [cut()] : [])]);
  }
}

/** A random choice of what may run now: one, or several side by side. */
function pick(tasks: Task[]): Task[] {
  const free = tasks.filter((task) => !task.done && task.after.every((other) => other.done));
  const nodes = [...new Set(free.map((task) => task.node))].sort(() => randomInt(3) - 1);
  return nodes.slice(0, 1 + randomInt(nodes.length)).map((node) => free.find((task) => task.node === node)!);
}

function planCut(soak: Soak, batch: Task[]) {
  const { scene } = soak;
  const victim = scene.lab.controlPlanes[randomInt(scene.lab.controlPlanes.length)]!;
  const running = batch.find((task) => task.node === victim);
  const longest = Math.max(...batch.map((task) => soak.took.get(task.name) ?? 3));
  const milliseconds = randomInt(
    50,
    Math.ceil(1000 * (running ? (soak.took.get(running.name) ?? 3) : longest)),
  );
  return async () => {
    await Bun.sleep(milliseconds); // the random moment is the point
    soak.cuts++;
    const hit = running && !running.done ? running.name : "idle";
    soak.hits[hit] = (soak.hits[hit] ?? 0) + 1;
    scene.say(`cut ${soak.cuts}: ${victim.name} (${hit}) after ${milliseconds} ms`);
    await cutPower(scene, [victim]);
    await powerOn(scene, [victim]);
  };
}

async function run(soak: Soak, task: Task) {
  const { scene, laptop, printed, took } = soak;
  const cuts = soak.cuts;
  try {
    for (const file of task.needs ?? []) await write(task.node, basename(file), laptop.get(file)!);
    const step = await type(scene, task.node, task.printed ? printed.get(task.command)! : task.command, {
      part: task.name === "04" ? 4 : undefined,
    });
    if (!step.ok) {
      const line = GIVEN_UP.exec(step.stderr)?.[0];
      if (line && line !== task.command) {
        task.command = line;
        return;
      }
      throw new Fail(`${task.name} on ${task.node.name}: exit ${step.exitCode}`, {
        hint: "see its last lines",
      });
    }
    for (const file of task.leaves ?? []) laptop.set(file, await read(task.node, file));
    for (const line of [UNPACK, JOIN])
      if (step.raw.includes(line)) printed.set(line, printedLine(line, step.raw)!);
    if (cuts === soak.cuts) took.set(task.name, step.seconds);
    task.done = true;
  } catch (err) {
    // The first node approves the CSRs: when it loses power, its command has to run again.
    if (task.again) task.again.done = false;
    // A node that loses power during a command is what this scenario tries. Without a cut the other nodes may
    // still be booting.
    if (!(err instanceof Fail) || (cuts === soak.cuts && ++task.failures >= PATIENCE)) throw err;
  }
}

async function read(node: Machine, file: string): Promise<string> {
  const { stdout, exitCode } = await node.run(["base64", "-w0", `${KIT}/${file}`]);
  if (exitCode !== 0)
    throw new Fail(`${node.name} has no ${file}`, { hint: "it has lost power in the meantime" });
  return stdout;
}

async function write(node: Machine, file: string, base64: string) {
  await node.run(["bash", "-c", `umask 077; base64 -d > ${KIT}/${file}`], { input: base64 });
}
