/**
 * `repair` is cut after each of its acts, for all of them: the machine that runs it dies, or Ctrl-C is typed. The same
 * command then continues to the end, and nothing irreversible is done twice on a node.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { doAct } from "../../../shared/follow/do-act.ts";
import { isForLater } from "../../../shared/follow/first-page.ts";
import { ENDS, repairAll } from "../../../shared/follow/follow-plan.ts";
import type { Host, Output } from "../../../shared/follow/host.ts";
import { NO_PERSON } from "../../../shared/follow/person.ts";
import type { Session } from "../../../shared/follow/session.ts";
import type { PlanData, StepData } from "../../../shared/plan/plan-answer.ts";
import { PretendNodes, pretendSession } from "../../pretend/follow.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { ASKED } from "../../pretend/plan.ts";
import { caught } from "../../pretend/quietly.ts";
import { typeHere } from "../../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const PLAN = await lookAt(ASKED, async () => JSON.parse((await typeHere("plan --json")).stdout) as PlanData);
for (const [index, node] of PLAN.nodes.entries())
  Object.assign(node, { address: `10.0.0.${11 + index}`, why: undefined });

const STEPS = PLAN.parts.flatMap(({ steps }) => steps);

/** What the steps print that others type. */
const PRINTED: Readonly<Record<string, string>> = {
  "hand-over.ts pack --passphrase-file":
    "./bunw scripts/hand-over.ts unpack --passphrase-file passphrase --ca-hash sha256:ab shared-keys.age",
  "03-workers.ts open":
    "./bunw scripts/03-join.ts --server https://10.0.0.1:6443 --ca-hash sha256:ab --token-file token",
};

class Died extends Error {}

/** Nodes that remember what was done on them, and a plan that leaves it out, as a look at real ones does. */
class Cluster {
  /** "m1 ./bunw scripts/01-etcd.ts --new-cas", as often as it was typed. */
  readonly typed: string[] = [];
  /** Acts until the cut; undefined: none. */
  left: number | undefined;
  #cut: (() => void) | undefined;

  /** Calls `cut` behind the act of this number, once. */
  cutBehind(number: number, cut: () => void) {
    [this.left, this.#cut] = [number, cut];
  }

  act(node: string, line: string) {
    this.typed.push(`${node} ${line}`);
    if (this.left === undefined || this.left-- > 0) return;
    this.left = undefined;
    this.#cut!();
  }

  #hasRun({ acts }: StepData): boolean {
    return acts.every((act) => {
      if (act.do === "type") return act.on.every((name) => this.typed.includes(`${name} ${act.command}`));
      if (act.do === "type-printed") return act.on.every((name) => this.#hasPrinted(act.keptBy, name));
      if (act.do === "carry")
        return act.to.every((name) => this.typed.includes(`${name} ${act.files.join(" ")}`));
      return false;
    });
  }

  #hasPrinted(keptBy: string, name: string): boolean {
    const by = STEPS.find(({ number }) => number === keptBy)!.acts.at(-1)!;
    const line = by.do === "type" ? printedBy(by.command) : undefined;
    return this.typed.includes(`${name} ${line}`);
  }

  /** A step whose line later ones need is done when these are. */
  plan(): PlanData {
    const isDone = (step: StepData) =>
      [step, ...STEPS.filter(({ number }) => step.makesVoid.includes(number))].every((one) =>
        this.#hasRun(one),
      );
    return {
      ...PLAN,
      parts: PLAN.parts.map((part) => ({
        ...part,
        steps: part.steps.map((step) => ({ ...step, isDone: isDone(step) })),
      })),
    };
  }
}

function printedBy(command: string): string | undefined {
  return Object.entries(PRINTED).find(([words]) => command.includes(words))?.[1];
}

class Nodes extends PretendNodes {
  readonly #cluster: Cluster;

  constructor(cluster: Cluster) {
    super((_, command) => {
      if (command.includes("scripts/plan.ts --json"))
        return { stdout: JSON.stringify(cluster.plan()), exitCode: 2 };
      if (command.includes("sha256sum /"))
        return { stdout: new Bun.CryptoHasher("sha256").update("").digest("hex") };
      return { stdout: `${printedBy(command) ?? ""}\n` };
    });
    this.#cluster = cluster;
  }

  override async run(host: Host, command: string, how?: Parameters<PretendNodes["run"]>[2]): Promise<Output> {
    const output = await super.run(host, command, how);
    this.#cluster.act(host.name, command.replace(/^cd \S+ && /, ""));
    return output;
  }

  override async pipe(from: Host, pack: string, to: Host, unpack: string) {
    const why = await super.pipe(from, pack, to, unpack);
    this.#cluster.act(to.name, this.carried.at(-1)!.replace(/^.*: /, ""));
    return why;
  }
}

function newRun(cluster: Cluster): Session {
  return pretendSession({
    transport: new Nodes(cluster),
    person: NO_PERSON,
    more: { mayBegin: true, mayMakeKeys: true },
  }).session;
}

/** Undefined: the machine has died. */
async function endOf(session: Session): Promise<number | undefined> {
  try {
    return (await caught(() => repairAll(session))).value;
  } catch (err) {
    if (err instanceof Died) return undefined;
    throw err;
  }
}

/** Lines that a plan calls irreversible. */
const IRREVERSIBLE = STEPS.filter((step) => step.irreversible.length > 0 && !isForLater(step)).flatMap(
  ({ acts }) =>
    acts.flatMap((act) => (act.do === "type" ? act.on.map((name) => `${name} ${act.command}`) : [])),
);

const all = new Cluster();
const first = await endOf(newRun(all));
const ACTS = all.typed.length;

test("uncut it ends repaired, and has acts to cut", () => {
  expect(first).toBe(ENDS.repaired);
  expect(ACTS).toBeGreaterThan(40);
  expect(IRREVERSIBLE.length).toBeGreaterThan(1);
});

test("a run of a repair that has died still holds the lock of a node: its end is waited for, and nobody is asked", async () => {
  const codes = [4, 4, 0];
  const transport = new PretendNodes(() => ({ exitCode: codes.shift()! }));
  const hosts = new Map([["m1", { name: "m1", address: "10.0.0.11", user: "root", kit: "/k" }]]);
  const { session } = pretendSession({ transport, person: NO_PERSON, more: { hosts, met: new Set(["m1"]) } });
  const act = { do: "type" as const, on: ["m1"], command: "./bunw scripts/01-etcd.ts", sideBySide: true };
  const { value: stopped } = await caught(() => doAct(session, { number: "1a", exit: [0] }, act));
  expect([stopped, codes]).toEqual([undefined, []]);
});

test("tokens go to eight workers at the same time: sshd lets ten sessions into one connection", async () => {
  const names = Array.from({ length: 60 }, (_, i) => `w${i + 1}`);
  let [now, most] = [0, 0];
  const transport = new PretendNodes(() => undefined);
  transport.pipe = async () => {
    most = Math.max(most, ++now);
    await new Promise((go) => setImmediate(go));
    now--;
    return undefined;
  };
  const hosts = new Map(
    ["m1", ...names].map((name) => [name, { name, address: name, user: "root", kit: "/k" }]),
  );
  const { session } = pretendSession({ transport, person: NO_PERSON, more: { hosts } });
  const act = { do: "carry" as const, from: "m1", to: names, files: ["token"], secret: true };
  const { value: stopped } = await caught(() => doAct(session, { number: "3b", exit: [0] }, act));
  expect([stopped, most]).toEqual([undefined, 8]);
});

test("Ctrl-C while a fleet is at work: no further node begins, and those that are left are named", async () => {
  const names = Array.from({ length: 60 }, (_, i) => `w${i + 1}`);
  const transport = new PretendNodes((node) => {
    if (node === "w5") session.isStopping = true;
    return undefined;
  });
  const hosts = new Map(names.map((name) => [name, { name, address: name, user: "root", kit: "/k" }]));
  const { session } = pretendSession({ transport, person: NO_PERSON, more: { hosts } });
  const command = "./bunw scripts/05-verify.ts";
  const act = { do: "type" as const, on: names, command, sideBySide: true };
  const { value: stopped } = await caught(() => doAct(session, { number: "5a", exit: [0] }, act));
  expect(transport.calls.length).toBeLessThan(30);
  expect(stopped).toMatchObject({ exitCode: 130, reason: expect.stringContaining("is left") });
});

test.each(["the machine dies", "Ctrl-C"])(
  "%s behind each act: the same command ends it, and repeats nothing irreversible",
  async (what) => {
    const ends: unknown[] = [];
    for (let act = 0; act < ACTS; act++) {
      const cluster = new Cluster();
      const session = newRun(cluster);
      cluster.cutBehind(act, () => {
        if (what === "Ctrl-C") session.isStopping = true;
        else throw new Died();
      });
      const cut = await endOf(session);
      const again = cut === ENDS.repaired ? cut : await endOf(newRun(cluster));
      const twice = IRREVERSIBLE.filter((line) => cluster.typed.filter((one) => one === line).length !== 1);
      ends.push({ act, cut, again, twice });
    }
    const isCut = what === "Ctrl-C" ? [ENDS.interrupted, ENDS.repaired] : [undefined];
    expect(
      ends.filter((end) => {
        const { cut, again, twice } = end as { cut: number; again: number; twice: string[] };
        return !(isCut as unknown[]).includes(cut) || again !== ENDS.repaired || twice.length > 0;
      }),
    ).toEqual([]);
  },
);
