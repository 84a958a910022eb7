/**
 * `repair` is cut at random moments, again and again: by Ctrl-C, by the death of its process, by a dead network. The same
 * command is typed after each, until it ends well.
 */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { random } from "../../pretend/damage.ts";
import { SWITCH } from "../machine/network.ts";
import { sh } from "../machine/shell.ts";
import { disturbedIn, restartsByRuns } from "../report/disturbed.ts";
import type { Check } from "../report/rehearsal.ts";
import { answersOf } from "./by-repair.ts";
import { operatorsTerminal, type Way } from "./reachable.ts";
import {
  controlPlaneGone,
  controlPlaneSamples,
  deleteKubernetes,
  note,
  type Scene,
  sayAndWait,
} from "./scene.ts";
import type { Terminal } from "./terminal.ts";

const HOME = join(import.meta.dir, "../../..");
const CUTS = Number(process.env.CUTS ?? 20);

/** Runs without a good end, behind the last cut. */
const PATIENCE = 10;

const KINDS = ["Ctrl-C", "kill -9", "dead network"] as const;

/** Packets of the operator's own ssh alone: the nodes' bridge is below, and the balancer beside. */
const DEAD = `nft -f - <<'END'
table inet kpr_cut {
  chain goes { type filter hook output priority 0; tcp dport 22 drop; }
  chain comes { type filter hook input priority 0; tcp sport 22 drop; }
}
END`;

/** `SEED` repeats the moments. A repair that ends well before the last cut is followed by the same damage again. */
export async function cutAgainAndAgain(scene: Scene, way: Way) {
  const seed = Number(process.env.SEED ?? Date.now() % 100_000);
  note(scene, `cuts by the seed ${seed}`);
  const pick = random(seed);
  const fell: string[] = [];
  let screen = "";
  const rounds: Round[] = [];
  for (let failed = 0; failed < PATIENCE; ) {
    const cut = fell.length < CUTS ? KINDS[fell.length % KINDS.length] : undefined;
    const run = await typeAndCut(scene, way, { cut, pick });
    screen = run.screen;
    if (run.fell) fell.push(`${cut} at ${run.where}`);
    if (cut === undefined && run.exitCode !== 0) failed++;
    if (run.exitCode !== 0) continue;
    rounds.push(roundOf(scene));
    if (fell.length >= CUTS) break;
    await podsSettle(scene);
    await deleteKubernetes(scene, scene.lab.nodes);
    await controlPlaneGone(scene);
  }
  scene.checks.push(
    {
      name: `${CUTS} cuts fell into runs`,
      ok: fell.length >= CUTS,
      detail: `seed ${seed}: ${fell.join("; ")}`,
    },
    { name: "the last run ends verified", ok: /checks, all good/.test(screen), detail: screen.slice(-500) },
  );
  scene.checks.push(...roundChecks(rounds));
  await noneIsLeft(scene);
}

/** Pods that part 4 has replaced end late: the next damage has nothing to do with it. */
async function podsSettle(scene: Scene) {
  const settled = () =>
    controlPlaneSamples(scene)[0]!
      .findLast(({ pods }) => pods)!
      .pods!.every(({ ready, leaving }) => ready && !leaving);
  await sayAndWait(scene, "every pod to be Ready, and none to leave", settled, {
    seconds: 180,
    hint: "kubectl get pods -A, with --keep",
  });
}

/** From one damage to the end of its repair. */
type Round = ReturnType<typeof disturbedIn>;

/** What a round disturbed before part 4 restarted pods. */
function roundOf(scene: Scene): Round {
  return disturbedIn(scene, scene.zero, restartsByRuns(scene.lab, scene.zero)?.from ?? Date.now());
}

function roundChecks(rounds: readonly Round[]): Check[] {
  const noneIn = (what: string, namesOf: (round: Round) => string[]) => {
    const names = rounds.flatMap((round, index) => namesOf(round).map((name) => `${index + 1}: ${name}`));
    return {
      name: `in no round ${what} before part 4`,
      ok: names.length === 0,
      detail: names.join("; ") || `${rounds.length} rounds`,
    };
  };
  return [
    noneIn("a workload container restarted", ({ restarted }) => restarted),
    noneIn("a pod was evicted", ({ evicted }) => evicted),
    noneIn("a Service lost its endpoints", ({ endpointsLost }) => endpointsLost.services),
  ];
}

interface Cut {
  /** Undefined: it runs to its end. */
  cut: (typeof KINDS)[number] | undefined;
  pick: (n: number) => number;
}

async function typeAndCut(scene: Scene, way: Way, { cut, pick }: Cut) {
  await using bash = operatorsTerminal(way, answersOf([/^Not now/]));
  const pid = scene.lab.operator!.path("repair.pid");
  rmSync(pid, { force: true });
  const words = `${process.execPath} ${HOME}/scripts/repair.ts root@${scene.lab.controlPlanes[0]!.ip} --kit kit.tar.gz`;
  const output = bash.paste(`sh -c 'echo $$ > repair.pid; exec ${words}'`, { seconds: 1200 });
  const moment = 2 + pick(450) / 10;
  const isOver = cut === undefined || (await Promise.race([output, Bun.sleep(1000 * moment)])) !== undefined;
  const where = `${moment.toFixed(1)} s`;
  if (!isOver) await fall(bash, cut, { pid, seconds: 5 + pick(850) / 10 });
  const { exitCode, stderr } = await output;
  note(scene, `repair ends with ${exitCode}`, isOver ? "uncut" : `${cut} at ${where}`);
  return { exitCode, screen: stderr, fell: !isOver, where };
}

/** `seconds`: of the dead network; ssh notices after a minute. */
async function fall(bash: Terminal, cut: Cut["cut"], { pid, seconds }: { pid: string; seconds: number }) {
  if (cut === "Ctrl-C") return bash.typeCtrlC();
  if (cut === "kill -9") return void process.kill(Number(readFileSync(pid, "utf8")), "SIGKILL");
  await sh(["ip", "netns", "exec", SWITCH, "sh", "-c", DEAD]);
  await Bun.sleep(1000 * seconds);
  await sh(["ip", "netns", "exec", SWITCH, "nft", "delete", "table", "inet", "kpr_cut"]);
}

/** No script of a cut run works on beside the last one. */
async function noneIsLeft({ lab, checks }: Scene) {
  const left: string[] = [];
  for (const node of lab.nodes) {
    const { stdout } = await node.run(["pgrep", "-fa", "scripts/0[0-5]-"]);
    if (stdout.trim()) left.push(`${node.name}: ${stdout.trim()}`);
  }
  checks.push({
    name: "no script is left at work",
    ok: left.length === 0,
    detail: left.join("; ") || "none",
  });
}
