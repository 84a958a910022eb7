/**
 * After part 2, on a control plane node: may part 4 begin, is part 3 closed, who leads, what is left of the
 * repair, is this node alive?
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import { leftNames } from "../../../shared/again.ts";
import { adminClient } from "../../../shared/api/admin-api.ts";
import { assess } from "../../../shared/assess/assess.ts";
import { lookHere } from "../../../shared/assess/look-here.ts";
import { kubeadmConfig, printAssessment, printShort } from "../../../shared/assess/printed.ts";
import type { Check } from "../../../shared/checks/check.ts";
import { refuseLivingNode } from "../../../shared/etcd/living-member.ts";
import { readControlPlaneNode } from "../../../shared/facts/control-plane-node.ts";
import { joiningTrouble } from "../../../shared/facts/joining-worker.ts";
import { failOf } from "../../../shared/fail.ts";
import { manifestText } from "../../../shared/manifests/on-disk.ts";
import { reduced } from "../../../shared/manifests/repair-changes.ts";
import { readNode } from "../../../shared/node/node.ts";
import { keyCopies } from "../../../shared/old-sa-key/old-tokens.ts";
import { mode } from "../../../shared/run.ts";
import { reducedManagers, unreducedLeader, whereToClose } from "../../../shared/static-pods/full-manager.ts";
import { untilGood } from "../../../shared/verify/verify-here.ts";
import { wrapUp } from "../../../shared/verify/wrap-up.ts";
import { keepWorkersPods } from "../../../shared/workers/joining.ts";
import { workersPods } from "../../../shared/workers/own-pods.ts";
import { readyForPart4 } from "../../../shared/workloads/restart-order.ts";
import type { ApiOptions } from "../../pretend/api.ts";
import {
  ADDRESS,
  FACTS,
  healthyCp,
  manifest,
  mirrorPod,
  type Objects,
  otherCa,
  write,
} from "../../pretend/cluster.ts";
import { decisions } from "../../pretend/decisions.ts";
import { LOST, sameEtcd, serveEtcd } from "../../pretend/etcd.ts";
import { lookAt, type PretendNode as Node } from "../../pretend/in-process.ts";
import { AT_M2, M2, mirrorPodOfM2, withM2 } from "../../pretend/lost-cp.ts";
import { CLUSTER_ID, MEMBER, type NodeOptions } from "../../pretend/node.ts";
import { newKeyOf } from "../../pretend/old-keys.ts";
import { quietly } from "../../pretend/quietly.ts";
import { knewCa, LEASES, lease, living, MANAGER_LEASE, serveRunning } from "../../pretend/running.ts";
import { writeEtcdData } from "../../pretend/write-wal.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

await healthyCp();
const before = await otherCa();
const CONF = "/etc/kubernetes";
const MANAGER = "kube-controller-manager";
const other = newKeyOf("ECDSA-P256");
const RESCUE = "/root/kube-pki-repair-20260101T000000";

interface Row {
  what: string;
  on?: NodeOptions;
  change?: (node: Node) => unknown;
  api?: Pick<ApiOptions, "objects" | "on"> | "off";
  out?: { without: string[]; lost: string[] };
  /** How 00-assess prints it counts, too. */
  shown?: true;
  /** The node that is said to be lost, and where. */
  said?: { host: string; lost: string | undefined };
}

const put =
  (files: Record<string, string>) =>
  ({ root }: Node) => {
    for (const [file, text] of Object.entries(files)) write(root + file, text);
  };
const REDUCED = manifestText(reduced(manifest(MANAGER), FACTS.kubernetesVersion));
const reducedPod = (full: boolean) =>
  full ? mirrorPodOfM2(MANAGER) : reduced(mirrorPodOfM2(MANAGER), FACTS.kubernetesVersion);
const leader = (holderIdentity: string) => ({
  spec: { holderIdentity, renewTime: new Date().toISOString() },
});
const createdAt = (pod: { metadata: object }, creationTimestamp: string) => ({
  ...pod,
  metadata: { ...pod.metadata, creationTimestamp },
});
/** A repair has begun here: etcd's data is copied, and `holder` led then. */
const ledBy = (holder: string): NodeOptions => ({
  etcd: (objects) => {
    withM2(objects);
    objects[`leases/kube-system/${MANAGER}`] = {
      metadata: { name: MANAGER, namespace: "kube-system" },
      ...leader(holder),
    };
  },
});
const copyEtcd = ({ root }: Node) =>
  cpSync(`${root}/var/lib/etcd`, `${root}${RESCUE}/etcd`, { recursive: true });
/** m2's controller-manager leads, and renews its Lease with each question. */
const ofM2 = (full: boolean, creationTimestamp = "2025-12-01T00:00:00Z") => ({
  objects: {
    "/api/v1/nodes/m2": { status: { conditions: [{ type: "Ready", status: "True" }] } },
    [`${LEASES}/m2`]: lease(0),
    [MANAGER_LEASE]: leader("m2_x"),
    [`/api/v1/namespaces/kube-system/pods/${MANAGER}-m2`]: createdAt(reducedPod(full), creationTimestamp),
  },
  on: living(["m2"], ({ path }, { objects }) => {
    if (path === MANAGER_LEASE)
      Object.assign(objects.get(path).spec, { renewTime: new Date(Date.now() + asked++).toISOString() });
    return undefined;
  }),
});
let asked = 0;
/** m3 is known, too. */
const withM3 = (objects: Objects) => {
  withM2(objects);
  objects["minions/m3"] = JSON.parse(
    JSON.stringify(M2).replaceAll("m2", "m3").replaceAll(AT_M2, "127.77.0.13"),
  );
};
const beside = (api: ReturnType<typeof ofM2>, full: boolean) => ({
  ...api,
  objects: {
    ...api.objects,
    [`/api/v1/namespaces/kube-system/pods/${MANAGER}-m3`]: createdAt(
      reducedPod(full),
      "2025-12-01T00:00:00Z",
    ),
  },
});
const balancer = () => {
  const pod = mirrorPod("kube-scheduler");
  return { ...pod, metadata: { ...pod.metadata, name: "haproxy-w1" }, spec: { ...pod.spec, nodeName: "w1" } };
};
const AGE = "age-encryption.org/v1\n-> X25519 x\n";

const ROWS: Row[] = [
  { what: "all is well", shown: true },
  {
    what: "the controller-manager is reduced",
    shown: true,
    change: put({ [`${CONF}/manifests/${MANAGER}.yaml`]: REDUCED }),
  },
  { what: "its manifest is gone", change: ({ root }) => rmSync(`${root}${CONF}/manifests/${MANAGER}.yaml`) },
  { what: "a worker does not renew its Lease", api: { objects: { [`${LEASES}/w2`]: lease(4000) } } },
  {
    what: "that worker is away",
    api: { objects: { [`${LEASES}/w2`]: lease(4000) } },
    out: { without: ["w2"], lost: [] },
  },
  {
    what: "that worker is lost, and its Node is there",
    api: { objects: { [`${LEASES}/w2`]: lease(4000) } },
    out: { without: [], lost: ["w2"] },
  },
  {
    what: "both workers are lost, and their Nodes are there",
    api: { objects: { [`${LEASES}/w1`]: lease(4000), [`${LEASES}/w2`]: lease(4000) } },
    out: { without: [], lost: ["w1", "w2"] },
  },
  {
    what: "that worker is lost, and its Node is gone",
    api: {
      on: (_, { objects }) => {
        objects.delete("/api/v1/nodes/w2");
        objects.delete(`${LEASES}/w2`);
      },
    },
    out: { without: [], lost: ["w2"] },
  },
  {
    what: "a worker's Node is gone, and nobody says that it is lost",
    api: {
      on: (_, { objects }) => {
        objects.delete("/api/v1/nodes/w2");
        objects.delete(`${LEASES}/w2`);
      },
    },
  },
  { what: "a node that nobody knows is away", out: { without: ["w9"], lost: [] } },
  { what: "sa.key is gone", shown: true, change: ({ root }) => rmSync(`${root}${CONF}/pki/sa.key`) },
  { what: "sa.pub is gone", change: ({ root }) => rmSync(`${root}${CONF}/pki/sa.pub`) },
  { what: "m2 leads in full", on: { etcd: withM2 }, api: ofM2(true) },
  {
    what: "m2 led before this repair, and leads still",
    on: ledBy("m2_x"),
    change: copyEtcd,
    api: ofM2(true),
  },
  {
    what: "m2 leads since this repair, and its mirror pod is of before",
    on: ledBy("m2_w"),
    change: copyEtcd,
    api: ofM2(true),
  },
  {
    what: "m2 leads since this repair, and so is its mirror pod",
    on: ledBy("m2_w"),
    change: copyEtcd,
    api: ofM2(true, "2026-01-01T00:05:00Z"),
  },
  { what: "m2 leads, and is reduced", on: { etcd: withM2 }, api: ofM2(false) },
  {
    what: "m2 of three leads in full, and m3 is reduced",
    on: { etcd: withM3 },
    api: beside(ofM2(true), false),
  },
  {
    what: "m2 of three leads, and is reduced, and m3 runs in full",
    on: { etcd: withM3 },
    api: beside(ofM2(false), true),
  },
  {
    what: "m2 is away, and its mirror pod is of when it was reduced",
    on: { etcd: withM2 },
    api: ofM2(false),
    out: { without: ["m2"], lost: [] },
  },
  {
    what: "the API server takes no bootstrap tokens",
    change: ({ root }) => {
      const path = `${root}${CONF}/manifests/kube-apiserver.yaml`;
      writeFileSync(path, readFileSync(path, "utf8").replace(/ +- --enable-bootstrap-token-auth=true\n/, ""));
    },
  },
  {
    what: "a rescue folder, marks, tokens and a bundle lie here",
    on: { etcd: knewCa(before.cert) },
    change: async (node) => {
      copyEtcd(node);
      put({
        [`${CONF}/.kube-pki-repair-new-sa-key`]: "{}",
        "/root/token.d/w1/token": "abcdef.0123456789abcdef\n",
        "/root/keys.age": AGE,
        "/etc/kubernetes/pki/.ca.crt.1.kube-pki-repair.partial": "half",
      })(node);
    },
  },
  {
    what: "public keys that somebody kept",
    change: put({
      [`${CONF}/pki/sa-old.pub`]: other.pub,
      [`${CONF}/tmp/kubeadm-backup/pki/sa.pub`]: other.pub,
      [`${RESCUE}/aside${CONF}/pki/sa.pub`]: other.pub,
    }),
  },
  {
    what: "a worker has a static pod of its own",
    on: {
      etcd: (objects) => {
        objects["pods/kube-system/haproxy-w1"] = balancer();
      },
    },
  },
  { what: "the API does not answer", api: "off" },
  { what: "said to be lost, at its own address", said: { host: ADDRESS, lost: "m1" } },
  { what: "said to be lost, under another name", said: { host: ADDRESS, lost: "m9" } },
  { what: "said to be lost, at another address", said: { host: "10.9.9.9", lost: "m1" } },
  {
    what: "said to be lost, while its servers run",
    on: { containers: ["etcd", "kube-apiserver"] },
    said: { host: ADDRESS, lost: "m1" },
  },
];

const holds = decisions("between-parts");
const none: Disposable = { [Symbol.dispose]: () => undefined };

test.each(ROWS)("$what", async (row) => {
  const { api = {}, on, change } = row;
  const decided = await lookAt({ kind: "healthy control plane node", ...on, change }, async (node, said) => {
    using _api = api === "off" ? none : serveRunning(node, api);
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    return await decidedFor(row, said);
  });
  holds(row.what, decided);
});

/** The result of each question, or why there is none. */
async function decidedFor(
  { out = { without: [], lost: [] }, said: lost, shown }: Row,
  said: readonly string[],
) {
  const cp = await readControlPlaneNode(undefined);
  const api = await adminClient(cp.facts);
  const node = await readNode();
  const pki = cp.facts.certificatesDir;
  const questions: Record<string, () => unknown> = {
    part4: async () => (({ nodes, out }) => ({ nodes, ...out }))(await readyForPart4(cp, out)),
    reduced: () => reducedManagers(cp, api, leftNames(out)),
    close: () => whereToClose(cp, api, { asking: ["w1"], without: leftNames(out) }),
    idle: () => whereToClose(cp, api, { asking: [], without: ["w2"] }),
    leads: () => unreducedLeader(cp, api),
    joining: () => joiningTrouble(cp) !== undefined,
    end: async () => endOf(await wrapUp(node, cp)),
    keys: () => keyCopies(pki, undefined).map(({ path, pems }) => `${path} ${pems.length}`),
    config: async () =>
      parseAllDocuments(await kubeadmConfig(undefined)).map((doc) => (doc.toJSON() as { kind: string }).kind),
    living: () => refuseLivingNode(node, { host: ADDRESS, lost: undefined, etcdData: undefined, ...lost }),
    workersPods: () => keepWorkersPods(cp, workersPods(cp, [])),
  };
  const found: Record<string, unknown> = {};
  for (const [name, ask] of Object.entries(questions)) {
    const refused = await failOf(async () => {
      found[name] = await ask();
    });
    if (refused) found[name] = `refused: ${refused.message.split(/[:;(]/)[0]}`;
  }
  const screen = shown ? await screensOf(said) : undefined;
  return { ...found, screen, kept: said.filter((line) => line.includes("/workers/")).length };
}

function endOf(end: Awaited<ReturnType<typeof wrapUp>>) {
  if (!end) return "nothing of a repair";
  const settled = (text: string) =>
    text.replace(/sha256:\S+/g, "HASH").replace(/\d{4}-\d\d-\d\d\S*/g, "DATE");
  return {
    changed: end.changed.map((line) => settled(line).split(/[:,(]/)[0]),
    left: end.left.map((line) => settled(line).split(/[:,(]/)[0]),
    remove: end.remove.map(({ on, command }) => `${on}: ${command}`),
  };
}

/** How many lines 00-assess prints, and how many of them are of damage: all of it, and --output short. */
async function screensOf(said: readonly string[]): Promise<string[]> {
  const assessment = await assess(await lookHere(undefined));
  return [printAssessment, printShort].map((print) => {
    const from = said.length;
    print(assessment);
    const lines = said.slice(from).join("\n").split("\n");
    return `${lines.length} lines, ${lines.filter((line) => /![A-Z ]+!/.test(line)).length} of damage`;
  });
}

const ASKING = /no serving certificate .* on w1, w2: close/;
const REDUCED_ON = /controller-manager is reduced on m1: close/;
const NOTHING = /nothing to do/;

test.each<[string, { reduced: boolean; asking: string[] }, RegExp[]]>([
  ["who asks for a certificate", { reduced: false, asking: ["w1", "w2"] }, [ASKING]],
  ["where the controller-manager is reduced", { reduced: true, asking: [] }, [REDUCED_ON]],
  ["both", { reduced: true, asking: ["w1", "w2"] }, [ASKING, REDUCED_ON]],
  ["that there is nothing to do", { reduced: false, asking: [] }, [NOTHING]],
])("where nobody has to join, it is said %s, and nothing else", async (_, { reduced, asking }, lines) => {
  const change = reduced ? put({ [`${CONF}/manifests/${MANAGER}.yaml`]: REDUCED }) : undefined;
  await lookAt({ kind: "healthy control plane node", change }, async (node, said) => {
    using _api = serveRunning(node);
    const cp = await readControlPlaneNode(undefined);
    const from = said.length;
    const on = await whereToClose(cp, await adminClient(cp.facts), { asking, without: [] });
    const found = [ASKING, REDUCED_ON, NOTHING].filter((line) =>
      said.slice(from).some((one) => line.test(one)),
    );
    expect([on, found]).toEqual([lines.includes(NOTHING) ? [] : ["m1"], lines]);
  });
});

test("untilGood() looks again until nothing fails, and no more where it may not wait", async () => {
  const found = (...results: string[]) => ({
    checks: results.map((result) => ({ result, area: "node", what: "x" }) as Check),
  });
  const looks = [found("failed", "ok"), found("ok", "warning"), found("failed")];
  const counted = async (first: ReturnType<typeof found>, seconds: number) => {
    let asked = 0;
    const last = await quietly(() => untilGood(first, async () => looks[asked++]!, seconds));
    return [asked, last.checks.filter(({ result }) => result === "failed").length];
  };
  expect(await counted(found("failed"), 60)).toEqual([2, 0]);
  expect(await counted(found("failed"), 0)).toEqual([0, 1]);
  expect(await counted(found("ok", "warning"), 60)).toEqual([0, 0]);
  mode.again = false;
});

test("a mirror pod of before says nothing of who leads since, also where the API's first writing has ended this repair", async () => {
  const change = ({ root, stored }: Node) => {
    const began = new Date(Date.now() - 3_600_000).toISOString().slice(0, 19).replace(/[-:]/g, "");
    const [data, copy] = [`${root}/var/lib/etcd`, `${root}/root/kube-pki-repair-${began}/etcd`];
    cpSync(data, copy, { recursive: true });
    rmSync(data, { recursive: true });
    const key = `/registry/leases/kube-system/${MANAGER}`;
    const puts = [...stored, [key, stored.get(key)!.replace("m2_w", "m2_x")] as [string, string]];
    writeEtcdData(data, { clusterId: CLUSTER_ID, members: [MEMBER, { ...LOST, isLearner: true }], puts });
  };
  await lookAt({ kind: "healthy control plane node", ...ledBy("m2_w"), change }, async (node) => {
    using _api = serveRunning(node, ofM2(true));
    const cp = await readControlPlaneNode(undefined);
    expect(cp.earlier).toBeDefined();
    expect(await unreducedLeader(cp, await adminClient(cp.facts))).toBeUndefined();
  });
});
