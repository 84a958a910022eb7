/**
 * After machines have moved: which members of etcd learn which address, and by whom; an address of another machine on
 * this one's loopback: what is sent there arrives, and nothing stays afterwards.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { endLeftRelays, startRelay, updatePeerUrls } from "../../../shared/etcd/tell-members.ts";
import { controlPlaneToRepair } from "../../../shared/facts/node-to-repair.ts";
import { failOf } from "../../../shared/fail.ts";
import { WORDS_FILE } from "../../../shared/node/rescue-folder.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueLeaf } from "../../../shared/pki/issue.ts";
import { mode } from "../../../shared/run.ts";
import { unfinishedActions } from "../../../shared/this-run.ts";
import { ADDRESS, FACTS, write } from "../../pretend/cluster.ts";
import { type EtcdState, sameEtcd, serveEtcd, serveUnit } from "../../pretend/etcd.ts";
import { lookAt, type PretendNode } from "../../pretend/in-process.ts";
import { movedWords } from "../../pretend/kept-words.ts";
import { MEMBER } from "../../pretend/node.ts";
import { programsHere } from "../../pretend/programs.ts";
import type { WrittenMember } from "../../pretend/write-wal.ts";

setDefaultTimeout(300_000);

const [FROM, TO] = ["127.88.0.1", "127.88.0.2"];
const LINK = `${FROM}/32`;
const TAKE = `ip addr replace ${LINK} dev lo scope host`;
const GIVE = `ip addr del ${LINK} dev lo`;

/** Sends back all that it gets. */
async function echo(host: string): Promise<Server & { port: number }> {
  const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return Object.assign(server, { port: (server.address() as { port: number }).port });
}

/** What comes back of so many bytes. */
function through(port: number, bytes: Buffer, own?: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const got: Buffer[] = [];
    const way = { port, host: FROM, ...(own ? { localAddress: own } : {}) };
    const socket = connect(way, () => socket.end(bytes));
    socket.on("data", (piece) => got.push(Buffer.from(piece))).on("end", () => resolve(Buffer.concat(got)));
    socket.on("error", reject).on("close", () => resolve(Buffer.concat(got)));
  });
}

test("what is sent to the old address comes from the machine where it is now, megabytes too; then the address is given back", async () => {
  const machine = await echo(TO);
  using programs = programsHere([{ command: TAKE }, { command: GIVE }]);
  const relay = await startRelay({ from: FROM, to: TO, port: machine.port });
  expect(unfinishedActions()).toEqual([
    `${LINK} is still on this machine's loopback: ip addr del ${LINK} dev lo`,
  ]);
  const sent = Buffer.alloc(4 << 20, crypto.getRandomValues(new Uint8Array(65_537)));
  expect((await through(machine.port, sent)).equals(sent)).toBe(true);
  expect(relay.carried()).toBe(2 * sent.length);
  await relay.end();
  expect(programs.calls()).toEqual([TAKE, GIVE]);
  expect(unfinishedActions()).toEqual([]);
  await expect(through(machine.port, sent)).rejects.toThrow("ECONNREFUSED");
  machine.close();
});

test("who comes from another address than this machine's own gets nothing, and the other machine hears nothing", async () => {
  let heard = 0;
  const machine = await echo(TO);
  machine.on("connection", () => heard++);
  using _programs = programsHere([{ command: TAKE }, { command: GIVE }]);
  const relay = await startRelay({ from: FROM, to: TO, port: machine.port });
  const sent = Buffer.from("raft");
  for (const stranger of ["127.88.0.77", "127.99.0.1"])
    expect(await through(machine.port, sent, stranger).then(String, String)).not.toContain("raft");
  expect([heard, relay.carried()]).toEqual([0, 0]);
  for (const own of [FROM, "127.0.0.1"]) expect(String(await through(machine.port, sent, own))).toBe("raft");
  expect(heard).toBe(2);
  await relay.end();
  machine.close();
});

test("where the port is taken, the address is given back at once", async () => {
  const other = await echo(FROM);
  using programs = programsHere([{ command: TAKE }, { command: GIVE }]);
  await expect(startRelay({ from: FROM, to: TO, port: other.port })).rejects.toThrow(
    `Cannot listen on ${FROM}:${other.port}`,
  );
  expect(programs.calls()).toEqual([TAKE, GIVE]);
  other.close();
});

test("where the address cannot be taken, nothing listens there", async () => {
  using _programs = programsHere([
    { command: TAKE, exit: 2, stderr: "RTNETLINK answers: Operation not permitted" },
  ]);
  await expect(startRelay({ from: FROM, to: TO, port: 2380 })).rejects.toThrow("Operation not permitted");
  expect(unfinishedActions()).toEqual([]);
});

test("an address that a killed run has left is given back; a balancer's, and one that others reach, are not ours", async () => {
  const at = (local: string, scope: string) => ({ local, scope });
  const shown = [{ addr_info: [at(FROM, "host"), at("127.88.0.9", "host"), at(TO, "global")] }];
  const commands = [{ command: "ip -j addr", stdout: JSON.stringify(shown) }, { command: GIVE }];
  using programs = programsHere(commands);
  await endLeftRelays([FROM, FROM, TO]);
  expect(programs.calls()).toEqual(["ip -j addr", GIVE]);
});

const at = (last: number) => ADDRESS.replace(/11$/, String(last));
const member = (name: string, id: string, last: number): WrittenMember => ({
  id,
  name,
  peerURLs: [`https://${at(last)}:2380`],
});
/** m1 is this machine; it was at 31, m2 at 32, m3 at 33; today they are at 11, 12, 13. */
const [M1, M2, M3] = [
  { ...MEMBER, peerURLs: [`https://${at(31)}:2380`] },
  member("m2", "b1b2c3d4e5f60718", 32),
  member("m3", "c1b2c3d4e5f60718", 33),
];
const PAIRS = { m1: [at(31), ADDRESS], m2: [at(32), at(12)], m3: [at(33), at(13)] } as const;
const TAKE_32 = `ip addr replace ${at(32)}/32 dev lo scope host`;
const GIVE_32 = `ip addr del ${at(32)}/32 dev lo`;

interface Scene {
  members: WrittenMember[];
  moved: (keyof typeof PAIRS)[];
  /** Other members that run. */
  run?: ("m2" | "m3")[];
  dryRun?: boolean;
  /** Another machine has m2's old address today. */
  answers?: boolean;
  /** etcd finds a leader only by an old address that is taken, or not even so. */
  leaderless?: "until the relay" | "for good";
}

/** Where the members are then by their URLs, what was said, and which addresses were taken and given back. */
async function tell({ members, moved, run = [], dryRun = false, answers, leaderless }: Scene) {
  const commands = [{ command: TAKE_32 }, { command: GIVE_32 }];
  const change = ({ root }: PretendNode) =>
    write(
      `${root}/root/kube-pki-repair-20261129T080000/${WORDS_FILE}`,
      movedWords(moved.map((one) => PAIRS[one])),
    );
  return await lookAt(
    { kind: "healthy control plane node", members, commands, change },
    async (node, said) => {
      const taken = () => node.calls().filter((call) => [TAKE_32, GIVE_32].includes(call));
      const state: EtcdState = {
        ...sameEtcd(node.stored),
        members: structuredClone(members) as EtcdState["members"],
        get isAlone() {
          return leaderless === "for good" || (leaderless !== undefined && taken().length === 0);
        },
      };
      using all = new DisposableStack();
      all.use(serveEtcd(node.root, state));
      for (const name of run) all.use(await serveMoved(node.root, state, PAIRS[name]));
      if (answers) all.use(Bun.serve({ hostname: at(32), port: 2380, fetch: () => new Response() }));
      mode.dryRun = dryRun;
      const fail = await failOf(async () => updatePeerUrls(await controlPlaneToRepair(undefined)));
      mode.dryRun = false;
      return {
        at: state.members.map(({ peerURLs }) => Number(/(\d+):2380$/.exec(peerURLs!.join())![1])),
        said: [...said, ...(fail ? [fail.message, fail.hint] : [])].join("\n"),
        taken: taken().map((call): string => (call === TAKE_32 ? "taken" : "given back")),
      };
    },
  );
}

/** Its certificate names its old address, too. */
async function serveMoved(root: string, state: EtcdState, [old, now]: readonly [string, string]) {
  const [cert, key] = ["ca.crt", "ca.key"].map((file) =>
    readFileSync(`${root}/etc/kubernetes/pki/etcd/${file}`, "utf8"),
  );
  const names = { ...FACTS, advertiseAddress: now, etcdServerCertSANs: [old] };
  const own = await issueLeaf(certRow("etcd-server"), { cert: cert!, key: key! }, names);
  return serveUnit({ ...own, ca: cert! }, state, now);
}

const RELAYED = ["taken", "given back"];

test.each<[what: string, scene: Scene, at: number[], says: string, taken?: string[]]>([
  ["its own member", { members: [M1], moved: ["m1"] }, [11], "updated m1: "],
  [
    "a dry run changes nothing",
    { members: [M1], moved: ["m1"], dryRun: true },
    [31],
    "would update the peer URLs",
  ],
  [
    "a learner's update would give it a vote: it is named, and left as it is",
    { members: [M1, { ...M2, isLearner: true }], moved: ["m1", "m2"] },
    [11, 32],
    "its join was cut off and it has no vote",
  ],
  [
    "while most members are away, how many have to run is said, and who may have moved, too",
    { members: [M1, M2, M3], moved: ["m1", "m2"] },
    [31, 32, 33],
    `when 2 of its 3 members run; now 1\nm3 at ${at(33)}: has it moved, too? ./bunw scripts/move.ts --moved ${at(33)}=ITS-ADDRESS`,
  ],
  [
    "one that has not moved keeps its address, and a majority is enough",
    { members: [M1, M2, M3], moved: ["m1", "m2"], run: ["m2"] },
    [11, 12, 33],
    "updated m2: ",
  ],
  [
    "where all that run have moved, the others find one of them under its old address for that time",
    { members: [M1, M2, M3], moved: ["m1", "m2", "m3"], run: ["m2"], leaderless: "until the relay" },
    [11, 12, 13],
    `m2: reached under its old address ${at(32)}`,
    RELAYED,
  ],
  [
    "where another machine has that address today, it is not taken",
    {
      members: [M1, M2, M3],
      moved: ["m1", "m2", "m3"],
      run: ["m2"],
      answers: true,
      leaderless: "until the relay",
    },
    [31, 32, 33],
    "None of the old addresses of m2 can be used for its machine",
  ],
  [
    "where that does not help, the address is given back, and the next command is that member's part 1",
    { members: [M1, M2, M3], moved: ["m1", "m2", "m3"], run: ["m2"], leaderless: "for good" },
    [31, 32, 33],
    "part 1 once more on m2",
    RELAYED,
  ],
  [
    "where this machine has not moved, it is found: no address is taken",
    {
      members: [{ ...M1, peerURLs: MEMBER.peerURLs }, M2, M3],
      moved: ["m2", "m3"],
      run: ["m2"],
      leaderless: "for good",
    },
    [11, 32, 33],
    "crictl ps -a --name etcd",
  ],
  [
    "nor where one that runs has not moved",
    {
      members: [M1, { ...M2, peerURLs: [`https://${at(12)}:2380`] }, M3],
      moved: ["m1", "m3"],
      run: ["m2"],
      leaderless: "for good",
    },
    [31, 12, 33],
    "crictl ps -a --name etcd",
  ],
])("etcd's members after a move: %s", async (_, scene, places, says, taken = []) => {
  const told = await tell(scene);
  expect(told).toEqual({ at: places, said: expect.stringContaining(says), taken });
});
