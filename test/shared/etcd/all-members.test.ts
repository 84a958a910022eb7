/** What the other members of etcd are held to, before a control plane is built on them. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import {
  proveEtcd,
  proveSameData,
  refuseLiving,
  removeMembers,
  renewalSeconds,
} from "../../../shared/etcd/all-members.ts";
import { type Peer, readServedCertificate } from "../../../shared/etcd/peers.ts";
import { etcdClient } from "../../../shared/etcd-location/client.ts";
import { readControlPlaneNode } from "../../../shared/facts/control-plane-node.ts";
import { setRoot } from "../../../shared/files/files.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../../shared/pki/issue.ts";
import { mode } from "../../../shared/run.ts";
import { ADDRESS, FACTS, healthyCp } from "../../pretend/cluster.ts";
import { LOST, sameEtcd, serveEtcd } from "../../pretend/etcd.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { withM2 } from "../../pretend/lost-cp.ts";
import { leaveNode } from "../../pretend/no-node.ts";
import { MEMBER } from "../../pretend/node.ts";
import { variablesHere } from "../../pretend/programs.ts";
import { quietly } from "../../pretend/quietly.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const OTHER = ADDRESS.replace(/11$/, "12");
const PEER = { id: "b1b2c3d4e5f60718", name: "m2", host: OTHER, servedPem: undefined };
let pki: string;

beforeAll(async () => {
  const { root } = await healthyCp();
  pki = `${root}/etc/kubernetes/pki/etcd`;
  setRoot(root);
});
afterAll(leaveNode);

interface Member {
  /** Of each answer to the question how far it is: the last one stays. */
  revisions: number[];
  hash: number;
  /** To which revisions it has compacted, at each question for a hash: the last one stays. */
  compacted?: number[];
  clusterId?: string;
  isLearner?: boolean;
  /** Before each hash. */
  read?: () => Promise<void>;
}

/** A member at an address; of a revision that it has not come to it knows no hash, as etcd. */
async function serveMember(
  address: string,
  { revisions, hash, compacted = [], clusterId = "1", isLearner, read }: Member,
) {
  const ca = { cert: readFileSync(`${pki}/ca.crt`, "utf8"), key: readFileSync(`${pki}/ca.key`, "utf8") };
  const tls = await issueLeaf(certRow("etcd-server"), ca, { ...FACTS, advertiseAddress: address });
  const answer = async (request: Request) => {
    if (!request.url.endsWith("/hashkv")) {
      const revision = revisions.length > 1 ? revisions.shift()! : revisions[0]!;
      return Response.json({
        header: { cluster_id: clusterId, member_id: "2", revision: String(revision) },
        leader: "2",
        version: "3.6.5",
        ...(isLearner && { isLearner }),
      });
    }
    if (isLearner)
      return Response.json(
        { code: 9, message: "etcdserver: rpc not supported for learner" },
        { status: 503 },
      );
    const { revision } = (await request.json()) as { revision: number };
    await read?.();
    if (revision > revisions[0]!)
      return Response.json({ code: 11, message: "required revision is a future revision" }, { status: 400 });
    const to = compacted.length > 1 ? compacted.shift()! : (compacted[0] ?? 0);
    // what is compacted is not in the hash; etcd leaves a number out that is 0
    return Response.json({ hash: hash + to, ...(to > 0 && { compact_revision: String(to) }) });
  };
  const server = Bun.serve({
    hostname: address,
    port: 2379,
    tls: { cert: tls.cert, key: tls.key },
    fetch: answer,
  });
  return { [Symbol.dispose]: () => void server.stop(true) };
}

async function proveThem(peers: never[]) {
  const own = etcdClient(FACTS, ADDRESS)!;
  const proved = { status: await own.status(), answers: new Map() };
  await proveSameData(own, FACTS, { peers, without: [], proved });
}

async function prove(own: Member, other: Member) {
  using _own = await serveMember(ADDRESS, own);
  using _other = await serveMember(OTHER, other);
  await proveThem([PEER as never]);
}

test("a member that has just come back is given the time to catch up", async () => {
  const other = { revisions: [100, 100, 110, 120], hash: 7 };
  await prove({ revisions: [120], hash: 7 }, other);
  expect(other.revisions).toEqual([120]);
});

test("a member with other keys, or of another cluster, is refused", async () => {
  const own = () => ({ revisions: [120], hash: 7 });
  await expect(prove(own(), { revisions: [120], hash: 8 })).rejects.toThrow(
    "etcd on m2 holds other keys at revision 120 than this one",
  );
  await expect(prove(own(), { revisions: [120], hash: 7, clusterId: "2" })).rejects.toThrow(
    'etcd on m2 is another cluster: "2", here "1"',
  );
});

test("while one has compacted and the other not yet, their hashes say nothing: they are compared when both have", async () => {
  const other = { revisions: [120], hash: 7, compacted: [0, 0, 90] };
  await prove({ revisions: [120], hash: 7, compacted: [90] }, other);
  expect(other.compacted).toEqual([90]);
});

test("a compaction between two hashes of a huge database costs no time: each begins the wait anew", async () => {
  using _patience = variablesHere({ KUBE_PKI_REPAIR_PATIENCE: "0" });
  await prove(
    { revisions: [120], hash: 7, compacted: [90, 91] },
    { revisions: [120], hash: 7, compacted: [91] },
  );
});

test("each member reads its database once for its hash, never two at the same time: none takes a write meanwhile", async () => {
  const third = ADDRESS.replace(/11$/, "13");
  const asked: string[] = [];
  let [reading, most] = [0, 0];
  const read = async (address: string) => {
    asked.push(address);
    most = Math.max(most, ++reading);
    const { promise, resolve } = Promise.withResolvers<unknown>();
    AbortSignal.timeout(100).addEventListener("abort", resolve);
    await promise;
    reading--;
  };
  using servers = new DisposableStack();
  for (const address of [ADDRESS, OTHER, third])
    servers.use(await serveMember(address, { revisions: [120], hash: 7, read: () => read(address) }));
  const peers = [PEER, { ...PEER, id: "b3", name: "m3", host: third }] as never[];
  await proveThem(peers);
  expect([asked, most]).toEqual([[ADDRESS, OTHER, third], 1]);
});

test("a learner, which tells no hash, is no reason to stop: no API server can use it", async () => {
  await prove({ revisions: [120], hash: 7 }, { revisions: [120], hash: 7, isLearner: true });
});

test("of members that are taken out it is said who remains; where none is, nothing", async () => {
  const members = ["m1", "m2", "m3"].map((name, index) => ({ id: `${index}`, name, isLearner: false }));
  const said = async (...names: string[]) => {
    using box = sandbox();
    mode.dryRun = true;
    await removeMembers(members, names, undefined);
    return box.said.at(-1);
  };
  try {
    expect(await said()).toBeUndefined();
    expect(await said("m2")).toBe(
      "then etcd has the members m1, m3, and answers while 2 of its 2 members run",
    );
    expect(await said("m2", "m3")).toBe("then etcd has the member m1, and answers while it runs");
  } finally {
    setRoot((await healthyCp()).root);
  }
});

test("a dry run says which lost members would be taken out, and that nobody would be", async () => {
  const members = [MEMBER, { ...LOST, isLearner: true }];
  const on = { kind: "healthy control plane node", members, etcd: withM2 } as const;
  for (const lost of [["m2"], []])
    await lookAt(on, async ({ root, stored }, said) => {
      using _etcd = serveEtcd(root, { ...sameEtcd(stored), members });
      const cp = await readControlPlaneNode(undefined);
      mode.dryRun = true;
      try {
        await proveEtcd(cp, { without: [], lost }, []);
      } finally {
        mode.dryRun = false;
      }
      const removed = said.filter((line) => line.includes("from etcd's members"));
      expect(removed).toEqual(lost.map((name) => `would remove ${name} from etcd's members`));
    });
});

test("who is to be taken out is watched for as long as his kubelet may take to renew its Lease", () => {
  const lease = (spec: object) =>
    Buffer.from(JSON.stringify({ apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: {}, spec }));
  const seconds = [lease({ leaseDurationSeconds: 40 }), lease({ leaseDurationSeconds: 120 }), lease({})];
  expect([...seconds, Buffer.alloc(0)].map(renewalSeconds)).toEqual([12, 36, 12, 12]);
  // its holder may say anything, and nobody waits for days
  expect(renewalSeconds(lease({ leaseDurationSeconds: 1_000_000 }))).toBe(120);
});

test("a member that is said to be lost is not taken out while an etcd answers at its address that may be its", async () => {
  const { cert } = await issueLeaf(certRow("etcd-peer"), await issueCa(certRow("etcd-ca"), FACTS), FACTS);
  const refuse = (shown: Pick<Peer, "shows" | "servedPem">, ...lostOn: string[]) => {
    const peer = { ...PEER, port: 2379, isLearner: false, ...shown };
    return () => refuseLiving([peer], { lost: ["m2"], lostOn }, { facts: FACTS } as never);
  };
  const asks = `The server at ${OTHER}:2379 may be etcd of m2, but nothing here proves it`;
  const strangers = [
    { shows: "another's", servedPem: cert },
    { shows: "no certificate", servedPem: undefined },
  ] as const;
  for (const shown of strangers) {
    expect(refuse(shown)).toThrow(asks);
    await quietly(async () => expect(refuse(shown, "m2")).not.toThrow());
  }
  expect(refuse({ shows: "nothing", servedPem: undefined })).not.toThrow();
  const own = readFileSync(`${pki}/server.crt`, "utf8");
  expect(refuse({ shows: readServedCertificate(own, FACTS), servedPem: own }, "m2")).toThrow(
    "m2 is not lost: its etcd answers at",
  );
});
