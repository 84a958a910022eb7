/**
 * Follows a plan as `repair` does, by its own code: the lab is the way to the nodes, in the place of ssh, and a person who
 * answers by the words of the way that is meant. What is typed goes through `type`, as in every rehearsal.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { sha256Of } from "../../../shared/files/sha256.ts";
import { ENDS, repairAll } from "../../../shared/follow/follow-plan.ts";
import { CONNECTION_LOST, type Host, type Output, type Transport } from "../../../shared/follow/host.ts";
import type { AskedNow, Person } from "../../../shared/follow/person.ts";
import { newSession } from "../../../shared/follow/session.ts";
import { linesOfRunbook } from "../../../shared/follow/trusted-plan.ts";
import { UNPACK } from "../../../tools/pack/pack-kit.ts";
import { INTRUDER_HOME } from "../attacker/intruder.ts";
import type { Machine } from "../machine/machine.ts";
import { followRunbook } from "./follow.ts";
import { restartBarePods } from "./printed.ts";
import { KIT, note, type Scenario, type Scene, type } from "./scene.ts";

type Line = Scenario["lines"][number];

/** What an operator chooses where a scenario says nothing else: the way that continues. */
export const USUAL: readonly RegExp[] = [
  /^Yes: stop the loss/,
  /is a worker$/,
  /^Type it on /,
  /^Make new keys/,
  /^Begin$/,
  /^No$/,
  /^Yes: they are restarted/,
];

export interface HowToRepair {
  /** Tried before the usual ones. */
  ways?: readonly RegExp[];
  /** Done once by the operator at this question; he then chooses to look again. */
  first?: { question: RegExp; does(): Promise<unknown> };
  /** What is in the operator's own copy of a file of a node. */
  textOf?(path: string): string | undefined;
  /** Makes the folder of `--files`, with the operator's copies; it is removed behind. */
  ownFiles?(): string;
  /** The disk is searched as well. */
  deep?: boolean;
  /** Names of nodes that never come back. */
  without?: readonly string[];
  /** After the repair: its end, which removes what it has saved. */
  cleansUp?: boolean;
}

interface Guided extends HowToRepair {
  without?: string[];
  /** Only these parts: then by RUNBOOK.md, as `repair` makes no halves. */
  parts?: number[];
}

/** Repairs by `repair`, or by RUNBOOK.md with these tags. */
export async function followGuide(scene: Scene, tags: string[], { parts, ...options }: Guided = {}) {
  if (scene.guide === "runbook")
    return await followRunbook(scene, tags, { ...options, ...(parts && { parts }) });
  if (parts) return await followRunbook(scene, tags, { ...options, parts, asHinted: true });
  await followRepair(scene, options);
}

/** A line of who follows RUNBOOK.md: `repair` does it, or has a number for it. */
export const byHand = (line: Line): Line => ({
  ...line,
  run: async (scene) => {
    if (scene.guide === "runbook") await line.run(scene);
  },
});

/** A file that a flag names, and that kubeadm did not make; without the one that decrypts etcd's data there is no plan yet. */
const LOST_FILE = / is lost on .*does not start without it|^No step can be planned before that/;

/** The same with `repair`; these lines are the operator's at the question about lost files. */
export const byRepair = (lines: readonly Line[], options: HowToRepair = {}): Line => ({
  title: "The operator follows repair, and brings lost files where it asks",
  run: async (scene) => {
    if (scene.guide === "runbook") return;
    const does = async () => {
      for (const line of lines) await line.run(scene);
    };
    await followRepair(scene, {
      ...options,
      ...(lines.length > 0 && { first: { question: LOST_FILE, does } }),
    });
  },
});

/** What `repair` has asked so far, each with the answer that it got. */
export function askedBy({ moments }: Scene): string[] {
  return moments.flatMap(({ what, detail }) => (what === ASKS ? [detail] : []));
}

const ASKS = "repair asks";

/** Errors: Fail where it does not end repaired and verified. */
export async function followRepair(
  scene: Scene,
  { ways = [], first: mended, textOf, ownFiles, deep = false, without = [], cleansUp = false }: HowToRepair,
) {
  const folder = ownFiles?.();
  const { lab } = scene;
  const [first] = lab.controlPlanes as [Machine, ...Machine[]];
  const owned = lab.nodes.filter((node) => existsSync(node.path(INTRUDER_HOME)));
  const end = await repairAll(
    newSession({
      transport: new LabNodes(scene),
      person: new Operator(scene, [...ways, ...USUAL], { mended, textOf }),
      kit: async () => ({ path: scene.kit, sum: sumIn(scene.kit), unpack: UNPACK }),
      runbookLines: linesOfRunbook(await Bun.file(`${import.meta.dir}/../../../RUNBOOK.md`).text()),
      first: { name: first.ip, address: first.ip, user: "root", kit: KIT },
      words: { lost: without },
      ...(folder !== undefined && { ownFiles: folder }),
      ...{ deep, cleansUp, mayMakeKeys: false, mayBegin: false, again: "npm run repair" },
      ...{ folder: process.env.TMPDIR ?? "/tmp", log: { add: () => undefined } },
      addresses: new Map(owned.map(({ nodeName, ip }) => [nodeName, ip])),
    }),
  );
  if (folder !== undefined) rmSync(folder, { recursive: true });
  if (end !== ENDS.repaired)
    throw new Fail(`repair ended with ${end}`, { hint: "what is on its screen? Look with --keep" });
}

function sumIn(kit: string): string {
  return sha256Of(Bun.spawnSync(["tar", "-xzOf", kit, "SHA256SUMS"]).stdout);
}

class LabNodes implements Transport {
  readonly #scene: Scene;

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  #machine({ name, address }: Host): Machine {
    const machine = this.#scene.lab.nodes.find(({ ip, nodeName }) => ip === address || nodeName === name);
    if (machine) return machine;
    throw new Fail(`No node of the lab has the address "${address}"`, { hint: "look at the plan's nodes" });
  }

  /** A machine that is off runs nothing. */
  async meet(host: Host): Promise<string | undefined> {
    const isThere = (await this.#bare(host, "true")).exitCode === 0;
    return isThere ? undefined : "the machine is off";
  }

  async #bare(host: Host, command: string, stdin?: Uint8Array | Blob): Promise<Output> {
    const input = stdin instanceof Blob ? await stdin.bytes() : stdin;
    try {
      return await this.#machine(host).run(["sh", "-c", command], { ...(input && { input }) });
    } catch (err) {
      return { exitCode: CONNECTION_LOST, stdout: "", stderr: String(err) };
    }
  }

  async run(
    host: Host,
    command: string,
    { input, onLine }: Parameters<Transport["run"]>[2] = {},
  ): Promise<Output> {
    const line = command.replace(`cd ${KIT} && `, "");
    const isTyped = /^(?:\.\/bunw |systemctl |for p in|kubectl |umask 077 && head|shred )/.test(line);
    if (input || !isTyped) return await this.#bare(host, command, input);
    if (line.includes("04-sa-tokens.ts retire")) await restartBarePods(this.#scene);
    const part = /scripts\/0([0-5])-/.exec(line)?.[1];
    const { exitCode, raw, stderr } = await type(this.#scene, this.#machine(host), line, {
      exit: [0, 1, 2, 3, 4],
      part: part === undefined ? 0 : Number(part),
    });
    for (const text of stderr.split("\n")) onLine?.(text);
    return { exitCode, stdout: raw, stderr };
  }

  async onTerminal(host: Host, command: string): Promise<number> {
    return (await this.run(host, command)).exitCode;
  }

  async pipe(from: Host, pack: string, to: Host, unpack: string): Promise<string | undefined> {
    this.#scene.say(`carries from ${from.name} to ${to.name}: ${pack}`);
    const packed = await this.#bare(from, `set -e; (${pack}) | base64`);
    const input = Buffer.from(packed.stdout);
    const { exitCode, stderr } = await this.#bare(to, `base64 -d | (${unpack})`, input);
    return packed.exitCode === 0 && exitCode === 0 ? undefined : `${packed.stderr}${stderr}`.trim();
  }
}

const LOOK_AGAIN = /^Look again/;

interface OperatorsOwn {
  mended?: HowToRepair["first"];
  textOf?: HowToRepair["textOf"];
}

export class Operator implements Person {
  readonly isThere = true;
  readonly #scene: Scene;
  readonly #ways: readonly RegExp[];
  readonly #textOf: HowToRepair["textOf"];
  #first: HowToRepair["first"];

  constructor(scene: Scene, ways: readonly RegExp[], { mended, textOf }: OperatorsOwn = {}) {
    this.#scene = scene;
    this.#ways = ways;
    this.#textOf = textOf;
    this.#first = mended;
  }

  async choose({ text, ways }: AskedNow): Promise<number | undefined> {
    const index = chosenOf(ways, (await this.#mends(text)) ? [LOOK_AGAIN] : this.#ways);
    note(this.#scene, ASKS, `${text[0]} → ${ways[index]}`);
    return index;
  }

  async #mends(text: readonly string[]): Promise<boolean> {
    const first = this.#first;
    if (!first || !text.some((line) => first.question.test(line))) return false;
    this.#first = undefined;
    note(this.#scene, ASKS, text[0]);
    await first.does();
    return true;
  }

  async path(question: string): Promise<string | undefined> {
    note(this.#scene, ASKS, question);
    const path = /^The path of (\S+) on this machine(?:, or of a folder with your copies)? \(/.exec(
      question,
    )?.[1];
    if (path === undefined) return undefined;
    const text = this.#textOf?.(path);
    // Enter alone goes back to the same question, for ever
    if (text === undefined) throw new Error(`nobody has foreseen: ${question}`);
    const folder = mkdtempSync(join(process.env.TMPDIR ?? "/tmp", "operators-"));
    writeFileSync(join(folder, "own"), text, { mode: 0o600 });
    return join(folder, "own");
  }
}

/** The first way that is meant; none: the last one, which ends. */
export function chosenOf(ways: readonly string[], meant: readonly RegExp[]): number {
  for (const one of meant) {
    const index = ways.findIndex((way) => one.test(way));
    if (index >= 0) return index;
  }
  return ways.length - 1;
}
