/**
 * A worker turns hostile, in whichever phase of `repair`: as ssh meets it, as it gets the kit, as it is looked at, as a
 * token comes, as it joins, is verified, or gives its transcripts. All others are repaired as if it were not there.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { ENDS, repairAll } from "../../../shared/follow/follow-plan.ts";
import type { Host, Output } from "../../../shared/follow/host.ts";
import { MOST_OUTPUT } from "../../../shared/follow/patience.ts";
import { PretendNodes, PretendPerson, pretendSession } from "../../pretend/follow.ts";
import { planOf } from "../../pretend/plan-answer-here.ts";
import { caught } from "../../pretend/quietly.ts";
import { withSsh } from "../../pretend/ssh-of-ours.ts";

setDefaultTimeout(300_000);

const [PLAN, WITHOUT_W2] = [await planOf(""), await planOf(" --without w2")];
const JOIN =
  "./bunw scripts/03-join.ts --server https://10.0.0.1:6443 --ca-hash sha256:ab --token-file token";
const UNPACK =
  "./bunw scripts/hand-over.ts unpack --passphrase-file passphrase --ca-hash sha256:ab shared-keys.age";
const NOISE = "\u001b[2J\u001b]0;x\u0007\r\u202e1  yes\n".repeat(MOST_OUTPUT / 20);
const SILENT = {
  ...{ id: "silent-workers", question: ["w2: asked, and no answer"] },
  ways: [{ does: "w2 is away for now", says: { without: ["w2"] } }],
};

/** What w2 does; "meet": its reason; "pipe": a file that comes from it, or goes there. */
interface Hostile {
  meet?: string;
  run?: ((command: string) => Partial<Output> | undefined) | undefined;
  pipe?: (direction: "from" | "to") => string | undefined;
}

class Nodes extends PretendNodes {
  readonly #hostile: Hostile;

  constructor(hostile: Hostile) {
    super((node, command) => {
      const own = node === "w2" ? hostile.run?.(command) : undefined;
      if (own) return own;
      if (command.includes("scripts/plan.ts --json")) {
        const plan = command.includes("--without w2") ? WITHOUT_W2 : PLAN;
        const isAsked = hostile.meet !== undefined && plan === PLAN && command.includes("--seen");
        const decisions = isAsked ? [SILENT, ...plan.decisions] : plan.decisions;
        return { stdout: JSON.stringify({ ...plan, decisions }), exitCode: 2 };
      }
      if (command.includes("hand-over.ts pack --passphrase-file")) return { stdout: `${UNPACK}\n` };
      if (command.includes("03-workers.ts open")) return { stdout: `${JOIN}\n` };
      if (command.includes("sha256sum /"))
        return { stdout: new Bun.CryptoHasher("sha256").update("").digest("hex") };
      return undefined;
    });
    this.#hostile = hostile;
  }

  override async meet(host: Host): Promise<string | undefined> {
    const why = await super.meet(host);
    return host.name === "w2" ? (this.#hostile.meet ?? why) : why;
  }

  override async pipe(from: Host, pack: string, to: Host, unpack: string): Promise<string | undefined> {
    const direction = from.name === "w2" ? "from" : to.name === "w2" ? "to" : undefined;
    const why = direction && this.#hostile.pipe?.(direction);
    return why ?? (await super.pipe(from, pack, to, unpack));
  }
}

const during =
  (word: string, output: Partial<Output>): Hostile["run"] =>
  (command) =>
    command.includes(word) ? output : undefined;
const FLOOD: Partial<Output> = {
  exitCode: 124,
  stdout: NOISE,
  stderr: `error: w2 has printed more\n${NOISE}`,
};

const PHASES: [phase: string, hostile: Hostile, asks: RegExp | undefined, end: number][] = [
  [
    "is met: another host key",
    { meet: `its host key is another than the known one: ${NOISE}` },
    /^Decision 1 of 2: w2/,
    0,
  ],
  [
    "gets the kit: it reads nothing",
    { run: during("unpack the kit", { exitCode: 124, stderr: "error: w2 has said nothing for 900 s\n" }) },
    /has stopped on w2/,
    0,
  ],
  ["is looked at: a flood", { run: during("00-assess.ts", FLOOD) }, undefined, 0],
  [
    "is looked at: JSON as deep as it is long",
    { run: during("00-assess.ts", { stdout: "[".repeat(MOST_OUTPUT) }) },
    undefined,
    0,
  ],
  [
    "gets its token: no byte is read",
    { pipe: (to) => (to === "to" ? "nothing has come from m1 to w2 for 900 s: " : undefined) },
    /has stopped on w2/,
    0,
  ],
  ["joins: a flood", { run: during("03-join.ts", FLOOD) }, /has stopped on w2/, 0],
  [
    "joins: it says that all is done, and prints a line of ours",
    {
      run: during("03-join.ts", {
        stderr: "done.  next: ./bunw scripts/retire.ts\nhint: ./bunw scripts/01-etcd.ts --new-cas\n",
        stdout: `${JOIN}; sh\n`,
      }),
    },
    undefined,
    0,
  ],
  ["is verified: a flood", { run: during("05-verify.ts", FLOOD) }, undefined, ENDS.bad],
  [
    "gives its transcripts: without end",
    { pipe: (from) => (from === "from" ? "w2 has sent more than 64 MB" : undefined) },
    undefined,
    0,
  ],
];

const WAYS = [
  /^Continue without w2/,
  /^w2 is away/,
  /^Yes: stop the loss/,
  /^Make new keys/,
  /^Begin/,
  /^No$/,
];

test.each(PHASES)("as it %s", async (_, hostile, asks, end) => {
  const transport = new Nodes(hostile);
  const person = new PretendPerson(WAYS);
  const { session } = pretendSession({ transport, person });
  const { value, stdout, stderr } = await caught(() => repairAll(session));
  expect(value).toBe(end as never);
  const asked = person.asked.filter((text) => text.includes("w2:") || text.includes(" on w2"));
  expect(asked).toEqual(asks ? [expect.stringMatching(asks)] : []);
  const typed = transport.typed();
  const others = [
    "m1: ./bunw scripts/01-etcd.ts --new-cas",
    "m1: ./bunw scripts/02-control-plane.ts",
    `w1: ${JOIN}`,
  ];
  for (const line of others) expect(typed).toContain(line);
  for (const name of ["m1", "m2", "m3", "w1"])
    expect(typed).toContain(`${name}: ./bunw scripts/05-verify.ts`);
  expect(transport.carried.join("\n")).toContain("m1 → w1: token");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal obeys
  expect(`${stdout}${stderr}${person.shown.join("\n")}`).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f\u202e]/);
  expect(`${stdout}${stderr}`.length).toBeLessThan(100_000);
});

const w1: Host = { name: "w1", address: "10.0.0.21", user: "root", alias: "w1", kit: "/k" };
const cp1: Host = { ...w1, name: "cp1", address: "10.0.0.11", alias: "cp1" };
const LINES = Array.from({ length: 300 }, (_, index) => `line ${index}`);

test.each([
  ["sends gigabytes", "yes"],
  ["sends gigabytes as progress", "yes >&2"],
  ["sends one line without end", "tr '\\0' x < /dev/zero"],
  ["says nothing", "exec sleep 1000"],
  ["ignores its end", "trap '' TERM PIPE HUP; while :; do echo x; sleep 0.01; done"],
])("beside a node that %s, a good one's output is whole, each line of it", async (_, command) => {
  const heard: string[] = [];
  const script = "for i in $(seq 0 299); do echo line $i >&2; echo line $i; done; exit 7";
  const { value } = await withSsh(
    async (ssh) => {
      const hostile = ssh.run(w1, command, { most: 3 });
      const good = await ssh.run(cp1, script, { onLine: (line) => void heard.push(line) });
      return { good, hostile: await hostile };
    },
    { quiet: 2 },
  );
  expect(value.good).toMatchObject({ exitCode: 7, stdout: `${LINES.join("\n")}\n` });
  expect(heard.filter(Boolean)).toEqual(LINES);
  expect(value.hostile.exitCode).toBe(124);
});
