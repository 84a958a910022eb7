/**
 * One command in a terminal: `npm run repair -- root@NODE` on the operator's machine, or the script on a node itself. Its questions are answered by the
 * words of the way that is meant; the record has each line that it typed, from its own log.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import type { Logged } from "../../../shared/follow/session.ts";
import type { Machine } from "../machine/machine.ts";
import { chosenOf, USUAL } from "./follow-repair.ts";
import { operatorsTerminal, type Way, windowOn } from "./reachable.ts";
import { KIT, type Scene, type } from "./scene.ts";
import type { Terminal } from "./terminal.ts";

const HOME = join(import.meta.dir, "../../..");

interface Asked {
  way: Way;
  /** Tried before the usual ones. */
  ways?: readonly RegExp[];
  /** Options behind the node. */
  options?: string;
  exit?: readonly number[];
  /** The node that is named; unset: the first control plane node. */
  node?: Machine;
}

/** Each node as it is for who has never packed a kit. */
export async function withoutKit({ lab }: Scene, nodes = lab.nodes) {
  for (const node of nodes) await node.run(["sh", "-c", `cd / && umount ${KIT} && rmdir ${KIT}`]);
}

/** Types the command on the operator's machine, and answers. Returns what was on the screen. */
export async function repairByOneCommand(
  scene: Scene,
  { way, ways = [], options = "", exit = [0], node }: Asked,
) {
  const operator = scene.lab.operator!;
  const log = operator.path("repair.log");
  rmSync(log, { force: true });
  const { ip } = node ?? scene.lab.controlPlanes[0]!;
  const words = `${way.user ?? "root"}@${ip} --kit kit.tar.gz --log repair.log${options}`;
  const screen = await answered(scene, {
    ...{ machine: operator, exit, ways, shown: `npm run repair -- ${words}` },
    line: `${process.execPath} ${HOME}/scripts/repair.ts ${words}`,
    window: (answers) => operatorsTerminal(way, answers),
    log: async () => (existsSync(log) ? readFileSync(log, "utf8") : ""),
  });
  writeFileSync(operator.path("screen.txt"), screen);
  return screen;
}

/** Types the command on a machine that has the archive of a release, and nothing else of us. */
export async function repairByRelease(scene: Scene, way: Way, ways: readonly RegExp[]) {
  const operator = scene.lab.operator!;
  const log = operator.path("repair.log");
  rmSync(log, { force: true });
  const command = `./bunw scripts/repair.ts root@${scene.lab.controlPlanes[0]!.ip} --log ../repair.log`;
  const unpack =
    'rm -rf release && mkdir -m 700 release && tar -C release -xzf kit.tar.gz && cd release && ! sha256sum -c SHA256SUMS | grep -v ": OK$"';
  return await answered(scene, {
    ...{ machine: operator, exit: [0], ways, shown: command, line: `(${unpack} && ${command})` },
    window: (answers) => operatorsTerminal(way, answers),
    log: async () => (existsSync(log) ? readFileSync(log, "utf8") : ""),
  });
}

/** Types the command on the first control plane node, in the kit's folder: there is no other machine. */
export async function repairHere(scene: Scene, ways: readonly RegExp[] = []) {
  const node = scene.lab.controlPlanes[0]!;
  // the kit's folder is in memory: no path of this machine leads there
  const log = `${KIT}/repair.log`;
  await node.run(["rm", "-f", log]);
  const line = "./bunw scripts/repair.ts --log repair.log";
  return await answered(scene, {
    ...{ machine: node, exit: [0], ways, shown: line, line: `cd ${KIT} && ${line}` },
    window: (answers) => windowOn(node, answers),
    log: async () => (await node.run(["cat", log])).stdout,
  });
}

interface Typed {
  /** Where it is typed. */
  machine: Machine;
  line: string;
  /** As the record has it. */
  shown: string;
  exit: readonly number[];
  ways: readonly RegExp[];
  window(answers: (screen: string) => string | undefined): Terminal;
  /** JSON lines, or "". */
  log(): Promise<string>;
}

async function answered(scene: Scene, { machine, line, shown, exit, ways, window, log }: Typed) {
  const typed: string[] = [];
  const answers = (screen: string) => {
    const answer = answersOf(ways)(screen);
    if (answer !== undefined) typed.push(answer);
    return answer;
  };
  await using bash = window(answers);
  const began = Date.now();
  const output = bash.paste(line, { seconds: 900 });
  const { exitCode } = await type(scene, { ...machine, run: () => output }, shown, {
    ...{ exit: [...exit], mayHoldToken: true },
  });
  const lines = (await log()).trim();
  if (lines !== "") addSteps(scene, lines);
  const screen = (await output).stderr;
  const seconds = (Date.now() - began) / 1000;
  if (process.env.REPAIR_SCREEN) writeFileSync(process.env.REPAIR_SCREEN, screen);
  scene.checks.push({
    name: "one command repairs the cluster, by numbers alone",
    ok: exit.includes(exitCode),
    detail: `exit code ${exitCode} after ${seconds.toFixed(1)} s; ${typed.length} numbers: ${typed.join(" ")}`,
  });
  return screen;
}

/** The number of the way that is meant, or of the usual one. */
export function answersOf(ways: readonly RegExp[]): (screen: string) => string | undefined {
  return (screen) => numberFor(screen, [...ways, ...USUAL]);
}

/** Undefined: nothing is asked, or none of the ways is meant: then the test stops there. */
function numberFor(screen: string, ways: readonly RegExp[]): string | undefined {
  const text = stripVTControlCharacters(screen).replaceAll("\r", "");
  if (!/Type a number \(1-\d+\): $/.test(text)) return undefined;
  const shown = [...text.matchAll(/^ {2}(\d+) {2}(.+)$/gm)].map(([, number, words]) => ({
    number: number!,
    words: words!,
  }));
  // the last list is the question's
  const last = shown.slice(shown.findLastIndex(({ number }) => number === "1"));
  return last[
    chosenOf(
      last.map(({ words }) => words),
      ways,
    )
  ]?.number;
}

function addSteps(scene: Scene, log: string) {
  for (const line of log.split("\n")) {
    const {
      at,
      step,
      node,
      command,
      seconds,
      exitCode,
      stdout = "",
      stderr = "",
    } = JSON.parse(line) as Logged;
    scene.steps.push({
      ...{
        part: step === undefined ? 0 : Number.parseInt(step, 10),
        node,
        command,
        seconds,
        exitCode,
        stdout,
        stderr,
      },
      ...{ start: (Date.parse(at) - scene.zero) / 1000, ok: true, hung: false },
    });
  }
}
