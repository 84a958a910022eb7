/**
 * Wrong hands: a clock that is an hour or a year late, or ahead. What proves it is said before anything is
 * written. A sample tries the hours, and not the years.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { utimesSync } from "node:fs";
import { afterPart2 } from "../pretend/after-part2.ts";
import { otherCa, write } from "../pretend/cluster.ts";
import { THREE } from "../pretend/etcd.ts";
import { join, newCa, serve, writeToken } from "../pretend/joining.ts";
import { type NodeOptions, pretendNode } from "../pretend/node.ts";
import { serveRunning } from "../pretend/running.ts";
import { clockOff, otherApi, timeServer, withOthers, YEAR } from "../pretend/wrong-clock.ts";
import { expectStop } from "../pretend/wrong-hands.ts";
import { rowsOf } from "./sample.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const UNSET = [timeServer("no")];
const CHANGES = /systemctl (stop|start|restart)|crictl .* stop|systemd-run/;
const HINT =
  /^see which clock is wrong: date -u on each node.*timedatectl set-ntp true, or chronyc makestep.*KUBE_PKI_REPAIR_CLOCK=right/;

type Node = Awaited<ReturnType<typeof pretendNode>>;

async function expectNoChange(node: Node, line: string, hours: number, error: RegExp, hint = HINT) {
  const before = node.fingerprint();
  expectStop(await node.run(line, clockOff(hours)), error, hint);
  expect(node.fingerprint()).toEqual(before);
  expect(node.calls().filter((call) => CHANGES.test(call))).toEqual([]);
}

const wiped = (options: NodeOptions = {}) => pretendNode({ commands: UNSET, ...options });
const healthy = () => pretendNode({ kind: "healthy control plane node", commands: UNSET });
const part2Done = () => afterPart2({ commands: UNSET });

/** [line, node] */
const SCRIPTS: [line: string, node: () => Promise<Node>][] = [
  ["01-etcd --new-cas", wiped],
  ["01-etcd --new-cas --dry-run", wiped],
  ["02-control-plane", healthy],
  ["03-workers open", part2Done],
  ["03-workers close", part2Done],
  ["03-workers approve", part2Done],
  ["04-sa-tokens", healthy],
  ["04-sa-tokens retire", healthy],
];

/**
 * [hours, how it is said]: hours that are rounded to hours, since what was written gets older while a test
 * runs.
 */
const LATE: [hours: number, words: string][] = [
  [-3, "3 hours"],
  [-YEAR, "365 days"],
];

for (const [hours, words] of rowsOf(LATE, 2))
  test.each(SCRIPTS)(
    `%s with a clock ${words} late stops before it writes: etcd wrote later than now`,
    async (line, made) => {
      using node = await made();
      await expectNoChange(
        node,
        line,
        hours,
        new RegExp(`^This node's clock says .* UTC: that is ${words} before etcd's last write here, `),
      );
    },
  );

test.each(rowsOf([1, YEAR, -1, -YEAR], 2))(
  "01-etcd %d hours off beside the API servers of two others: the majority is right",
  async (hours) => {
    using node = await wiped({ etcd: withOthers([]), members: THREE });
    utimesSync(`${node.root}/var/lib/etcd/member/wal/${"0".repeat(16)}-${"0".repeat(16)}.wal`, 0, 0);
    using _m2 = await otherApi("m2");
    using _m3 = await otherApi("m3");
    const way = hours > 0 ? "ahead of" : "behind";
    const span = Math.abs(hours) === 1 ? "60 minutes" : "365 days";
    await expectNoChange(
      node,
      "01-etcd --new-cas",
      hours,
      new RegExp(`: that is ${span} ${way} that of m2, ${span} ${way} that of m3$`),
    );
  },
);

test("01-etcd an hour ahead: who answers with a certificate of another CA decides nothing", async () => {
  using node = await wiped({ etcd: withOthers([]), members: THREE });
  const other = await otherCa();
  using _m2 = await otherApi("m2", other);
  using _m3 = await otherApi("m3", other);
  expect((await node.run("01-etcd --new-cas --dry-run", clockOff(1))).stderr).not.toContain("clock");
});

test.each([
  [
    "was ahead",
    [
      ["m1", 0],
      ["m2", -3600],
      ["m3", -3590],
    ],
    /: that is 60 minutes ahead of that of m2, 60 minutes ahead of that of m3$/,
  ],
  [
    "was late",
    [
      ["m2", -3600],
      ["m3", -3590],
      ["m1", -7200],
    ],
    /: that is 60 minutes behind that of m2, 60 minutes behind that of m3$/,
  ],
  [
    "is late",
    [
      ["m2", 3600],
      ["m3", 3610],
    ],
    /: that is 60 minutes behind that of m2, 60 minutes behind that of m3$/,
  ],
  [
    "or that of the only other is wrong",
    [
      ["m1", 0],
      ["m2", -3600],
    ],
    /: that is 60 minutes ahead of that of m2$/,
  ],
] as [string, [string, number][], RegExp][])(
  "01-etcd: this node's clock %s, by the Leases in etcd's data",
  async (_, renewals, error) => {
    using node = await wiped({ etcd: withOthers(renewals), members: THREE });
    await expectNoChange(node, "01-etcd --new-cas", 0, error);
  },
);

test.each([
  [
    "m2's was ahead",
    [
      ["m1", 0],
      ["m2", 3600],
      ["m3", 5],
    ],
    "the clock of m2 is 60 minutes ahead of this one",
  ],
  [
    "m3's was late",
    [
      ["m1", 0],
      ["m2", 5],
      ["m3", -86_400 * 400],
    ],
    "the clock of m3 is 400 days behind this one",
  ],
] as [string, [string, number][], string][])(
  "01-etcd: %s, by the Leases: it is named, and this node goes on",
  async (_, renewals, said) => {
    using node = await wiped({ etcd: withOthers(renewals), members: THREE });
    const { exitCode, stderr } = await node.run("01-etcd --new-cas --dry-run");
    expect({ exitCode, stderr }).toMatchObject({
      exitCode: 0,
      stderr: expect.stringContaining(`warning: ${said}. Set it`),
    });
  },
);

test("01-etcd: a node that is long gone, in an order that fits, says nothing of clocks", async () => {
  using node = await wiped({
    etcd: withOthers([
      ["m2", -86_400 * 30],
      ["m3", -86_400 * 10],
      ["m1", -600],
    ]),
    members: THREE,
  });
  expect((await node.run("01-etcd --new-cas --dry-run")).stderr).not.toContain("clock");
});

test("a worker's Lease decides nothing: whoever owns the worker writes it", async () => {
  using node = await wiped({
    etcd: withOthers([
      ["m1", 0],
      ["w1", 3600 * 24 * 365],
      ["w2", 3600 * 24 * 365],
    ]),
    members: THREE,
  });
  expect((await node.run("01-etcd --new-cas --dry-run")).stderr).not.toContain("clock");
});

test("the operator's word is believed", async () => {
  using node = await wiped({ commands: UNSET });
  const env = { ...clockOff(-1), KUBE_PKI_REPAIR_CLOCK: "right" };
  const { exitCode, stderr } = await node.run("01-etcd --new-cas --dry-run", env);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0, stderr: expect.not.stringMatching(ASKS) });
});

test("a clock that follows a time server is not believed against two witnesses", async () => {
  using node = await wiped({ commands: [timeServer("yes")] });
  const error =
    /before etcd's last write here, .*, and \d+ minutes before the first day of .*kubelet-client-current/;
  await expectNoChange(node, "01-etcd --new-cas", -1, error);
});

/** Said where the screen only names the time server, it is no question. */
const ASKS = /clock(?! follows a time server)/;

const DOUBT =
  /error: This node's clock says \S+ \S+ UTC, and no time server sets it\. (.*) is (\d+ \w+) older\. Nothing was changed\nhint: check the time: date -u .*\n {2}If it is: KUBE_PKI_REPAIR_CLOCK=right/;

test("where timedatectl hangs, as without its bus, it is no answer, also on a node without ps", async () => {
  using node = await wiped({ commands: [{ ...timeServer("yes"), does: "exec /bin/sleep 600" }] });
  const { exitCode, stderr } = await node.run("01-etcd --new-cas", clockOff(48));
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 3, stderr: expect.stringMatching(DOUBT) });
});

const renewedByM1 = (seconds: number) => ({ etcd: withOthers([["m1", seconds]]) });
const WRITE = "etcd's last write here";
const RENEWAL = "The newest renewal of a control plane node's Lease in etcd's data";

test.each([
  ["365 days ahead", "01-etcd --new-cas", {}, YEAR, [WRITE, "365 days"]],
  ["two days ahead while etcd ran on", "01-etcd --new-cas", renewedByM1(-2 * 86_400), 0, [RENEWAL, "2 days"]],
  ["a year ahead, with Leases of before", "01-etcd --new-cas", renewedByM1(-60), YEAR, [RENEWAL, "365 days"]],
  ["20 hours ahead: an outage may be as long", "01-etcd --new-cas", {}, 20, undefined],
  ["set by a time server", "01-etcd --new-cas", { commands: [timeServer("yes")] }, YEAR, undefined],
] as [string, string, NodeOptions, number, string[] | undefined][])(
  "01-etcd with a clock %s: where that is in doubt it makes no key without the operator's word",
  async (_, line, options, hours, said) => {
    using node = await wiped(options);
    const before = node.fingerprint();
    const { exitCode, stderr } = await node.run(said ? line : `${line} --dry-run`, clockOff(hours));
    expect(DOUBT.exec(stderr)?.slice(1)).toEqual(said);
    expect({ exitCode, stderr }).toMatchObject({ exitCode: said ? 3 : 0 });
    expect(node.fingerprint()).toEqual(before);
    const byWord = await node.run(`${line} --dry-run`, {
      ...clockOff(hours),
      KUBE_PKI_REPAIR_CLOCK: "right",
    });
    expect({ exitCode: byWord.exitCode, stderr: byWord.stderr }).toMatchObject({
      exitCode: 0,
      stderr: expect.not.stringMatching(ASKS),
    });
  },
);

test("01-etcd that makes no key does not ask about the clock", async () => {
  using node = await healthy();
  expect((await node.run("01-etcd --dry-run", clockOff(48))).stderr).not.toMatch(DOUBT);
});

test.each(rowsOf([1, YEAR, -1, -YEAR], 2))(
  "join %d hours off stops before it writes: the API server has another time",
  async (hours) => {
    using node = await pretendNode({ kind: "worker", commands: UNSET });
    writeToken(node.root);
    using _api = await serve(newCa);
    const way = hours > 0 ? "ahead of" : "behind";
    await expectNoChange(
      node,
      join(),
      hours,
      new RegExp(`: that is (60 minutes|365 days) ${way} that of https://`),
    );
  },
);

test.each([
  [
    "ahead of",
    -1,
    /chronyc makestep\. Its CA begins at \S+ \S+ UTC, later than now: run 01-etcd\.ts --new-cas on that machine once more, then what it prints, then/,
  ],
  ["behind", 1, /chronyc makestep\. Then run parts 1 and 2 on that machine again, and this line again$/],
] as const)(
  "join on a worker whose clock follows a time server says that the server's is 60 minutes %s it",
  async (way, hours, then) => {
    using node = await pretendNode({ kind: "worker" });
    writeToken(node.root);
    using _api = await serve(newCa);
    const error = new RegExp(
      `^The clock of https:\\S+ is 60 minutes ${way} this machine's, which follows a time server$`,
    );
    await expectNoChange(node, join(), hours, error, then);
  },
);

test.each(rowsOf([-1, -YEAR], 2))("00-assess and 05-verify %d hours off say it first", async (hours) => {
  using node = await pretendNode({ kind: "healthy control plane node", commands: UNSET });
  using _api = serveRunning(node);
  const assessed = await node.run("00-assess", clockOff(hours));
  expect(assessed).toMatchObject({
    exitCode: 2,
    stdout: expect.stringMatching(/^verdict: first the clock: [\s\S]*clock +!WRONG! +This node's clock says/),
  });
  const verified = await node.run("05-verify", clockOff(hours));
  expect(verified).toMatchObject({
    exitCode: 2,
    stdout: expect.stringMatching(/failed +node: clock: This node's clock says/),
  });
});

test("hand-over unpack refuses a bundle from the future: one of the two clocks is wrong", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  write(`${node.root}/root/pass`, "three-words-and-more\n");
  expect(await node.run("hand-over pack --passphrase-file pass --out keys.age")).toMatchObject({
    exitCode: 0,
  });
  await expectNoChange(
    node,
    "hand-over unpack keys.age --passphrase-file pass",
    -3,
    /: that is 3 hours before this bundle was packed, /,
  );
});
