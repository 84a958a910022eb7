/** What etcd's data and other control plane nodes prove of this node's clock. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { clockTrouble, refuseDoubtfulClock, refuseWrongClock } from "../../../shared/facts/clock.ts";
import { failOf, Refused } from "../../../shared/fail.ts";
import type { Objects } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { M2 } from "../../pretend/lost-cp.ts";
import { programsHere } from "../../pretend/programs.ts";
import { sandbox } from "../../pretend/sandbox.ts";

setDefaultTimeout(300_000);

const MINUTE = 60_000;
const SYNCHRONIZED = "timedatectl show --property=NTPSynchronized --value";

interface Row {
  /** Node → [its last renewal, minutes before now]. In the order of etcd's writes. */
  leases?: [name: string, ago: number][];
  /** etcd's last write, minutes ago. */
  written?: number;
  synchronized?: string | undefined;
  byWord?: string;
}

/** m2, m3 and m4 are control plane nodes, too, at addresses where nobody listens. */
async function place({ leases = [], written = 0 }: Row) {
  const data = await pretendData((objects: Objects) => {
    for (const [index, name] of ["m2", "m3", "m4"].entries())
      objects[`minions/${name}`] = {
        ...M2,
        metadata: { ...M2.metadata, name, uid: name },
        status: { addresses: [{ type: "InternalIP", address: `127.77.0.${12 + index}` }] },
      };
    for (const [name, ago] of leases)
      objects[`leases/kube-node-lease/${name}`] = {
        ...{ apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name } },
        spec: { renewTime: Number.isNaN(ago) ? "?" : new Date(Date.now() - ago * MINUTE).toISOString() },
      };
  });
  return controlPlaneOf(Object.assign(data, { lastWrite: new Date(Date.now() - written * MINUTE) }));
}

async function withClock<T>({ synchronized = "no", byWord }: Row, look: () => Promise<T>): Promise<T> {
  using _programs = programsHere(
    synchronized === "gone" ? [] : [{ command: SYNCHRONIZED, stdout: `${synchronized}\n` }],
    { KUBE_PKI_REPAIR_CLOCK: byWord },
  );
  return await look();
}

/** The words of the Fail that are of others, or the warnings. */
async function found(row: Row): Promise<string | string[]> {
  const cp = await place(row);
  const trouble = await withClock(row, () => clockTrouble(cp));
  return Array.isArray(trouble)
    ? trouble.map((line) => line.replace(/\. Set it.*/, ""))
    : trouble.message.replace(/^.*?: that is /, "").replace(/, \d{4}-[-\d: ]+ UTC$/, "");
}

const AHEAD_OF_M2 = "10 minutes ahead of that of m2";

test.each<[string, Row, unknown]>([
  ["nothing is known", {}, []],
  ["etcd's last write is later than now", { written: -10 }, "10 minutes before etcd's last write here"],
  ["it is a little later", { written: -4 }, []],
  [
    "the clock follows a time server, and one witness is later than now",
    { written: -10, synchronized: "yes" },
    [
      expect.stringMatching(
        /^warning: this node's clock says .*, by a time server: that is 10 minutes before etcd's last write here, .*: date -u on each node/,
      ),
    ],
  ],
  [
    "the same by m2's Lease alone",
    { leases: [["m2", -10]], synchronized: "yes" },
    [expect.stringContaining("10 minutes before the last renewal of the Lease of m2")],
  ],
  [
    "the clock follows a time server, and two witnesses are later than now",
    { leases: [["m2", -10]], written: -10, synchronized: "yes" },
    expect.stringMatching(
      /^10 minutes before etcd's last write here, .*, and 10 minutes before the last renewal of the Lease of m2/,
    ),
  ],
  [
    "the clock follows a time server, and two nodes are earlier",
    {
      leases: [
        ["m1", 1],
        ["m2", 11],
        ["m3", 11],
      ],
      synchronized: "yes",
    },
    [],
  ],
  [
    "no program says whether it does",
    { written: -10, synchronized: "gone" },
    "10 minutes before etcd's last write here",
  ],
  ["the operator's word", { written: -10, byWord: "right" }, []],
  ["another word", { written: -10, byWord: "wrong" }, "10 minutes before etcd's last write here"],
  [
    "two that agree",
    {
      leases: [
        ["m1", 1],
        ["m2", 1],
      ],
    },
    [],
  ],
  ["m2 renewed later than now", { leases: [["m2", -10]] }, "10 minutes behind that of m2"],
  [
    "m2 renewed later than now, and two others agree",
    {
      leases: [
        ["m1", 1],
        ["m2", -10],
        ["m3", 1],
        ["m4", 1],
      ],
    },
    ["warning: the clock of m2 is 10 minutes ahead of this one"],
  ],
  [
    "m2 wrote after m1, with an earlier time",
    {
      leases: [
        ["m1", 1],
        ["m2", 11],
      ],
    },
    AHEAD_OF_M2,
  ],
  [
    "m2 wrote before m1, with a later time",
    {
      leases: [
        ["m2", 1],
        ["m1", 11],
      ],
    },
    "10 minutes behind that of m2",
  ],
  [
    "m2 wrote before m1, with an earlier time: it may have been off",
    {
      leases: [
        ["m2", 11],
        ["m1", 1],
      ],
    },
    [],
  ],
  [
    "m2 wrote after m1, with a later time",
    {
      leases: [
        ["m1", 11],
        ["m2", 1],
      ],
    },
    [],
  ],
  ["m1 has no Lease", { leases: [["m2", 11]] }, []],
  [
    "a Lease that cannot be read",
    {
      leases: [
        ["m1", 1],
        ["m2", Number.NaN],
      ],
    },
    [],
  ],
  [
    "one differs, one agrees",
    {
      leases: [
        ["m1", 1],
        ["m2", 11],
        ["m3", 1],
      ],
    },
    ["warning: the clock of m2 is 10 minutes behind this one"],
  ],
  [
    "two differ, one agrees",
    {
      leases: [
        ["m1", 1],
        ["m2", 11],
        ["m3", 21],
        ["m4", 1],
      ],
    },
    `${AHEAD_OF_M2}, 20 minutes ahead of that of m3`,
  ],
])("whether this node's clock is wrong: %s", async (_, row, expected) => {
  expect<unknown>(await found(row)).toEqual(expected);
});

test("a wrong clock is an error, another node's is said", async () => {
  const wrong = await place({ written: -10 });
  expect(await failOf(() => withClock({}, () => refuseWrongClock(wrong)))).toBeDefined();
  const other = await place({
    leases: [
      ["m1", 1],
      ["m2", 11],
      ["m3", 1],
    ],
  });
  using box = sandbox();
  await withClock({}, () => refuseWrongClock(other));
  expect(box.said).toEqual([expect.stringContaining("the clock of m2")]);
});

const DAY = 24 * 60;

test.each<[string, Row, string | undefined]>([
  ["etcd wrote a moment ago", {}, undefined],
  ["etcd wrote within a day", { written: DAY - 1 }, undefined],
  ["etcd wrote two days ago", { written: 2 * DAY }, "etcd's last write here is 2 days older"],
  ["the same, and a time server sets it", { written: 2 * DAY, synchronized: "yes" }, undefined],
  ["the same, by the operator's word", { written: 2 * DAY, byWord: "right" }, undefined],
  [
    "the newest Lease of a control plane node counts",
    {
      written: 2 * DAY,
      leases: [
        ["m1", 5 * DAY],
        ["m2", 3 * DAY],
        ["w1", 0],
      ],
    },
    "The newest renewal of a control plane node's Lease in etcd's data is 3 days older",
  ],
  ["and that is of today", { written: 2 * DAY, leases: [["m1", 60]] }, undefined],
])("before keys are made, whether the clock is in doubt: %s", async (_, row, expected) => {
  const cp = await place(row);
  const trouble = await withClock(row, () => refuseDoubtfulClock(cp)).catch((err) => err);
  if (expected === undefined) expect(trouble).toBeUndefined();
  else {
    expect(trouble).toBeInstanceOf(Refused);
    expect(trouble.message).toEndWith(expected);
  }
});
