/**
 * A soak: random damages on the control plane node of a running cluster, one after the other. Each time
 * 00-assess must report what was done, and the operator types what the scripts print until 05-verify is
 * green. A script may refuse with a reason: then the files from before are put back. `DAMAGES=40` for fewer,
 * `SEED=N` for the same ones again.
 */
import { cpSync, existsSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import {
  chooseDamage,
  type Damage,
  type Expected,
  elsewhereOf,
  expectedOf,
  isInternal,
  listed,
  type Place,
  random,
  soundKeys,
  wrongIn,
} from "../../pretend/damage.ts";
import { kubectl, type Machine } from "../machine/machine.ts";
import { endedContainers, quiet } from "../report/footprint.ts";
import { compare, type Snapshot, takeSnapshot } from "../report/snapshot.ts";
import { assessed, followPrinted } from "../scene/printed.ts";
import type { Scenario, Scene } from "../scene/scene.ts";
import { makeStranger, STRANGERS_CLIENT } from "../scene/stranger.ts";
import { allLost } from "./all-lost.ts";

const DAMAGES = Number(process.env.DAMAGES || 200);
const SEED = Number(process.env.SEED || 20261124);

export const randomDamages: Scenario = {
  ...allLost,
  name: "random-damages",
  title: `${DAMAGES} random damages on the control plane node, one after the other; each is reported correctly, and repaired or refused`,
  byRunbook: false,
  commandsMayFail: true,
  machinesFail: true,
  lines: [{ title: "Files are damaged at random, and the operator types what the scripts print", run: soak }],
};

interface Tally {
  right: number;
  repaired: number;
  refused: number;
  /** Damages that did not go as expected, with the reason. */
  wrong: string[];
}

async function soak(scene: Scene) {
  const pick = random(SEED);
  const tally: Tally = { right: 0, repaired: 0, refused: 0, wrong: [] };
  const saved = mkdtempSync(join(tmpdir(), "saved-"));
  let done = 0;
  try {
    for (; done < DAMAGES; done++) await damageAndRepair(scene, { number: done + 1, pick, tally, saved });
  } finally {
    rmSync(saved, { recursive: true });
    // Refusals are part of this scenario.
    scene.steps = scene.steps.filter((step) => step.ok);
    const { right, repaired, refused, wrong } = tally;
    const name = `${done} damages: verdict right in ${right}, repaired ${repaired}, refused ${refused} with a reason (SEED=${SEED})`;
    scene.checks.push({
      name,
      ok: done === DAMAGES && wrong.length === 0,
      detail: wrong.join("; ") || "all as expected",
    });
  }
}

interface Turn {
  number: number;
  pick: (n: number) => number;
  tally: Tally;
  saved: string;
}

async function damageAndRepair(scene: Scene, turn: Turn) {
  const { number, tally } = turn;
  const inflicted = await inflictNext(scene, turn);
  const said = await assessed(scene, scene.lab.controlPlanes[0]!);
  const misreported = wrongIn(said, inflicted.wanted);
  if (misreported.length === 0) tally.right++;
  const { typed, refused } = await followPrinted(scene, said.next);
  if (refused) await putBack(scene, turn.saved);
  else bringElsewhere(scene.lab.controlPlanes[0]!, turn.saved, inflicted.wanted);
  const wrong = [
    ...misreported,
    ...(refused
      ? mayRefuse(inflicted.wanted)
        ? []
        : [refused]
      : await whatIsWrong(scene, inflicted, typed)),
  ];
  if (!refused && number % 2 === 0) await scene.lab.controlPlanes[0]!.run(["bash", "-c", CLEAN_UP]);
  if (wrong.length > 0) tally.wrong.push(`${inflicted.label}: ${wrong.join(", ")}`);
  else tally[refused ? "refused" : "repaired"]++;
  const outcome = refused ? `refused: ${refused}` : `repaired by ${typed.join(", ")}`;
  scene.say(`${inflicted.label}: ${wrong.length > 0 ? `WRONG: ${wrong.join("; ")}` : outcome}`);
}

/** A damage that was done, and the state before it. */
interface Inflicted {
  label: string;
  wanted: Expected;
  before: Snapshot;
  since: number;
  /** The shared keys that must stay as they are. */
  sound: Map<string, string | undefined>;
}

async function inflictNext(scene: Scene, { number, pick, saved }: Turn): Promise<Inflicted> {
  const cp = scene.lab.controlPlanes[0]!;
  await quiet(scene);
  await writeMark(scene, number);
  save(cp, saved);
  const place = await placeOf(cp, saved);
  const damage = await chooseDamage(place, pick);
  const wanted = expectedOf(damage, place);
  const [before, since, label] = [
    await takeSnapshot(scene.lab),
    Date.now(),
    `damage ${number}: ${listed(damage)}`,
  ];
  scene.say(label);
  await inflict(cp, damage);
  return {
    label,
    wanted,
    before,
    since,
    sound: new Map(soundKeys(wanted).map((file) => [file, textOf(cp, file)])),
  };
}

/**
 * What nobody wanted: other keys, other data, and where the CA and sa.key are those of before, workloads that
 * ended.
 */
async function whatIsWrong(
  scene: Scene,
  { before, since, sound, wanted }: Inflicted,
  typed: string[],
): Promise<string[]> {
  const cp = scene.lab.controlPlanes[0]!;
  const others = [...sound]
    .filter(([file, text]) => textOf(cp, file) !== text)
    .map(([file]) => `${file} was good and has changed`);
  const elsewhere = elsewhereOf(wanted);
  const changes = Object.values(compare(before, await takeSnapshot(scene.lab)))
    .flat()
    .filter((change) => !elsewhere.some((file) => change.includes(` ${file}`)));
  const ended = typed.some((command) => command.includes("--new-cas")) ? [] : endedContainers(scene, since);
  return [...others, ...changes, ...ended.map((name) => `${name} ended`)];
}

/**
 * A CA's key or an admin.conf that is stored elsewhere is no damage: its owner brings it back. A CA that the way has made
 * anew meanwhile has its own key already.
 */
function bringElsewhere(cp: Machine, saved: string, wanted: Expected) {
  for (const file of elsewhereOf(wanted))
    if (!existsSync(cp.path(file))) cpSync(saved + file, cp.path(file), COPY);
}

/**
 * As RUNBOOK.md's "Clean up" says. Half of the time nobody does, so that the next damage finds the rescue
 * folder of an earlier damage.
 */
const CLEAN_UP = "rm -rf /root/kube-pki-repair-2*";

/**
 * Whole keys of another cluster: what is right then is nowhere on this node, or nobody can tell that it is
 * not.
 */
function mayRefuse({ foreigners }: Expected): boolean {
  return foreigners.some((name) => !isInternal(name));
}

/** Something new each time, so that a repair which brought back old data would be seen. */
async function writeMark(scene: Scene, number: number) {
  const { exitCode, stderr } = await kubectl(scene.lab, [
    "create",
    "configmap",
    `damage-${number}`,
    `--from-literal=at=${Date.now()}`,
  ]);
  if (exitCode !== 0)
    throw new Fail(`Cannot write to the cluster: ${stderr.trim()}`, {
      hint: "look whether the last damage is repaired",
    });
}

const FOLDERS = ["/etc/kubernetes", "/var/lib/kubelet/pki"];
const COPY = { recursive: true, preserveTimestamps: true, verbatimSymlinks: true } as const;

function save(cp: Machine, saved: string) {
  for (const folder of FOLDERS) {
    rmSync(saved + folder, { recursive: true, force: true });
    cpSync(cp.path(folder), saved + folder, COPY);
  }
}

async function placeOf(cp: Machine, saved: string): Promise<Place> {
  const client = readlinkSync(cp.path("/var/lib/kubelet/pki/kubelet-client-current.pem"));
  const stranger = await makeStranger();
  return {
    client,
    original: (file) => readFileSync(saved + file, "utf8"),
    foreign: (file) => stranger.text(file === client ? STRANGERS_CLIENT : file),
    namesFrontProxy: true,
  };
}

/**
 * A kubelet with an API makes a mirror pod of a foreign manifest within a second, so the manifest becomes the
 * cluster's own: stop it first.
 */
async function inflict(cp: Machine, damage: Damage) {
  if ([...damage].some(([file, { kind }]) => kind === "foreign" && file.includes("/manifests/")))
    await cp.run(["systemctl", "stop", "kubelet"]);
  for (const [file, { act }] of damage) act(cp.path(file));
}

function textOf(cp: Machine, file: string): string | undefined {
  return existsSync(cp.path(file)) ? readFileSync(cp.path(file), "utf8") : undefined;
}

async function putBack(scene: Scene, saved: string) {
  const cp = scene.lab.controlPlanes[0]!;
  await cp.run(["systemctl", "stop", "kubelet"]);
  for (const folder of FOLDERS) {
    rmSync(cp.path(folder), { recursive: true, force: true });
    cpSync(saved + folder, cp.path(folder), COPY);
  }
  const pods = "^(etcd|kube-apiserver|kube-controller-manager|kube-scheduler)$";
  const restart = `crictl ps -q --label io.kubernetes.pod.namespace=kube-system --name '${pods}' | xargs -r crictl stop --timeout 0`;
  await cp.run(["bash", "-c", `${CLEAN_UP}; ${restart}; systemctl start kubelet`]);
  await quiet(scene);
  const { refused } = await followPrinted(scene, []);
  if (refused)
    throw new Fail(`The cluster is not well after the saved files were put back: ${refused}`, {
      hint: "look at it with --keep",
    });
}
