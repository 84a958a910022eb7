/**
 * Before parts 1 and 2 stop anything: what they would make, stop and write, and what they refuse. In the
 * order in which the scripts ask.
 */
import { setDefaultTimeout, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { lookAtPeers, refuseWhereOthersLive } from "../../../shared/etcd/other-members.ts";
import { quorumOf } from "../../../shared/etcd/peers.ts";
import { refuseDoubtfulClock } from "../../../shared/facts/clock.ts";
import { controlPlaneToRepair, refuseUnlessMember } from "../../../shared/facts/node-to-repair.ts";
import { refuseExternalCa } from "../../../shared/facts/signed-elsewhere.ts";
import { failOf } from "../../../shared/fail.ts";
import { controlPlaneContainers, stopContainers } from "../../../shared/node/containers.ts";
import { stopKubelet } from "../../../shared/node/systemctl-kubelet.ts";
import { actionsFor, keysToMake, type NewCas } from "../../../shared/pki/actions.ts";
import { CERTS, certRow, SHARED_FILES } from "../../../shared/pki/certs.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import {
  refuseWhileLeaderMayHaveKey,
  refuseWhileMemoryHasKeys,
  sayLostFiles,
} from "../../../shared/salvage/before-part-1.ts";
import { beforeEtcdStops, beforeServersStop } from "../../../shared/static-pods/first-screen.ts";
import * as pod from "../../../shared/static-pods/issue-and-start.ts";
import {
  etcdIsInPlace,
  etcdWork,
  optionsForEnsure,
  refuseOtherFolder,
} from "../../../shared/static-pods/work.ts";
import { FACTS, healthyCp, manifest, mirrorPod, otherCa, write } from "../../pretend/cluster.ts";
import { decisions } from "../../pretend/decisions.ts";
import { LOST, THIRD } from "../../pretend/etcd.ts";
import { expireCertificates } from "../../pretend/expired.ts";
import { gone, lookAt, type PretendNode as Node, put } from "../../pretend/in-process.ts";
import { withM2 } from "../../pretend/lost-cp.ts";
import { bigInt, pretendProcess, unreadableProcess } from "../../pretend/memory.ts";
import { CRICTL, MEMBER, type NodeOptions } from "../../pretend/node.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const { root: healthy } = await healthyCp();
const CONF = "/etc/kubernetes";
const pki = (file: string) => readFileSync(`${healthy}${CONF}/pki/${file}`, "utf8");
const older = await issueCa(certRow("ca"), FACTS, { now: new Date(Date.now() - 2 * 8760 * 3600_000) });
const later = await otherCa();
const SHARED = { certs: CERTS.filter((row) => row.shared), serviceAccountKey: true };
const SERVERS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

interface Row {
  what: string;
  on?: NodeOptions;
  change?: (node: Node) => unknown;
  newCas?: NewCas;
  /** The operator's word. */
  lostOn?: string[];
  imagesLater?: boolean;
  isFull?: boolean;
}

const WELL = { kind: "healthy control plane node" } as const;
const image = (word: object) => [{ command: `${CRICTL} inspecti -q *`, ...word }];
const asOther = (name: string) => {
  const one = mirrorPod(name);
  Object.assign(one.spec, { securityContext: { runAsNonRoot: true } });
  return one;
};
const memory = ({ root }: Node) =>
  pretendProcess(root, {
    pid: 31,
    comm: "kube-controller",
    holds: [bigInt(createPrivateKey(pki("ca.key"))), bigInt(createPrivateKey(pki("sa.key")))],
  });

const unreadable =
  (comm: string) =>
  ({ root }: Node) =>
    unreadableProcess(root, { pid: 31, comm });

const ROWS: Row[] = [
  { what: "all is lost, and all keys are made", newCas: "all" },
  { what: "all is lost, and no key may be made" },
  { what: "all is lost, and the cluster's CA may not be made", newCas: "internal" },
  { what: "all is lost, its servers still run", on: { containers: SERVERS }, newCas: "all" },
  { what: "all is lost, and memory has keys", change: memory, newCas: "all" },
  {
    what: "all is lost, and the controller-manager's memory cannot be read",
    change: unreadable("kube-controller"),
    newCas: "all",
  },
  {
    what: "all is lost, its memory cannot be read, and the operator gives up what it holds",
    change: unreadable("kube-controller"),
    newCas: "all",
    lostOn: ["m1"],
  },
  {
    what: "all is lost, and the API server's memory cannot be read, which never had ca.key",
    change: unreadable("kube-apiserver"),
    newCas: "all",
  },
  {
    what: "sa.key is lost, and the API server's memory cannot be read",
    on: WELL,
    change: (node) => {
      gone("pki/sa.key")(node);
      unreadable("kube-apiserver")(node);
    },
    newCas: "all",
  },
  { what: "all is well", on: WELL },
  { what: "all is well, and its servers run", on: { ...WELL, containers: SERVERS } },
  {
    what: "the internal CAs are lost",
    on: WELL,
    change: gone("pki/etcd/ca.key", "pki/front-proxy-ca.key"),
    newCas: "internal",
  },
  {
    what: "the internal CAs are lost, and none may be made",
    on: WELL,
    change: gone("pki/etcd/ca.key", "pki/front-proxy-ca.key"),
  },
  { what: "sa.key is lost", on: WELL, change: gone("pki/sa.key"), newCas: "all" },
  { what: "sa.pub is lost", on: WELL, change: gone("pki/sa.pub") },
  {
    what: "all certificates have expired",
    on: { ...WELL, containers: SERVERS },
    change: ({ root }) => expireCertificates(root),
  },
  {
    what: "etcd's certificate has expired",
    on: { ...WELL, containers: SERVERS },
    change: ({ root }) => expireCertificates(root, [certRow("etcd-server")]),
  },
  {
    what: "the front proxy's client has expired",
    on: { ...WELL, containers: SERVERS },
    change: ({ root }) => expireCertificates(root, [certRow("front-proxy-client")]),
  },
  {
    what: "two kubeconfigs are lost",
    on: { ...WELL, containers: SERVERS },
    change: gone("admin.conf", "scheduler.conf"),
  },
  {
    what: "two manifests are lost",
    on: { ...WELL, containers: SERVERS },
    change: gone("manifests/etcd.yaml", "manifests/kube-scheduler.yaml"),
  },
  {
    what: "an earlier CA is in the place of the cluster's",
    on: WELL,
    change: put({ "pki/ca.crt": older.cert, "pki/ca.key": older.key }),
    newCas: "all",
  },
  {
    what: "a later CA is in its place",
    on: WELL,
    change: put({ "pki/ca.crt": later.cert, "pki/ca.key": later.key }),
    newCas: "all",
  },
  {
    what: "an external CA lacks a certificate",
    on: {
      ...WELL,
      etcd: (objects) => {
        const key = "pods/kube-system/kube-controller-manager-m1";
        objects[key] = JSON.parse(
          JSON.stringify(objects[key]).replaceAll(/"--cluster-signing-(cert|key)-file=[^"]*",/g, ""),
        );
      },
    },
    change: gone("pki/ca.key", "pki/apiserver.crt"),
  },
  { what: "a second control plane node is off", on: { etcd: withM2 }, newCas: "all" },
  { what: "two other members are off", on: { members: [MEMBER, LOST, THIRD] }, newCas: "all" },
  {
    what: "this machine is no member",
    on: { members: [{ ...MEMBER, name: "m9", peerURLs: ["https://10.0.0.9:2380"] }] },
    newCas: "all",
  },
  {
    what: "an image is missing",
    on: { commands: image({ exit: 1, stderr: "no such image" }) },
    newCas: "all",
  },
  {
    what: "an image is missing, and comes later",
    on: { commands: image({ exit: 1, stderr: "no such image" }) },
    newCas: "all",
    imagesLater: true,
  },
  { what: "the runtime cannot be asked", on: { without: ["crictl"] }, newCas: "all" },
  {
    what: "nobody knows a pod's user",
    on: {
      etcd: (objects) => {
        objects["pods/kube-system/kube-scheduler-m1"] = asOther("kube-scheduler");
      },
    },
    newCas: "all",
  },
  { what: "etcd is full", on: { isFull: true }, newCas: "all", isFull: true },
  {
    what: "no time server is followed",
    on: { commands: [{ command: "timedatectl show --property=NTPSynchronized --value", stdout: "no\n" }] },
    newCas: "all",
  },
  { what: "the kubelet is stopped", on: WELL, change: ({ env }) => writeFileSync(`${env.FAKE}/stopped`, "") },
  {
    what: "a manifest by hand names another folder of etcd",
    on: WELL,
    change: ({ root }) => {
      const pod = manifest("etcd");
      pod.spec.containers[0]!.command = pod.spec.containers[0]!.command!.map((word) =>
        word.replace("/var/lib/etcd", "/srv/etcd"),
      );
      write(`${root}${CONF}/manifests/etcd.yaml`, JSON.stringify(pod));
      mkdirSync(`${root}/srv/etcd`, { recursive: true });
    },
  },
];

const holds = decisions("before-parts");

test.each(ROWS)("$what", async (row) => {
  const decided = await lookAt({ ...row.on, change: row.change }, async (node, said) => {
    const found: Record<string, unknown> = {};
    const refused = async (step: () => Promise<unknown>) => {
      const from = said.length;
      const fail = await failOf(async () => void (await step()));
      return {
        ...(fail && { refused: fail.message.split(/[:;(]/)[0], code: fail.exitCode }),
        ...screenOf(said.slice(from)),
      };
    };
    found.part1 = await refused(async () => Object.assign(found, await part1(row)));
    if (row.newCas) keysAsMade(node);
    found.part2 = await refused(() => part2(row));
    return found;
  });
  holds(row.what, decided);
});

/** As the step 1.1 of part 1. */
async function part1({ newCas, lostOn = [], imagesLater }: Row) {
  const cp = await controlPlaneToRepair(undefined);
  refuseExternalCa(cp);
  refuseUnlessMember(cp);
  const actions = actionsFor(SHARED, cp.facts, optionsForEnsure(cp, newCas));
  const peers = await lookAtPeers(cp, actions, { typed: lostOn, saved: lostOn });
  pod.refuseForeignCa(cp);
  const made = keysToMake(actions);
  if (made.length > 0) await refuseDoubtfulClock(cp);
  refuseOtherFolder(cp);
  await refuseWhileMemoryHasKeys(made, cp, lostOn);
  refuseWhereOthersLive(made, peers, lostOn);
  refuseWhileLeaderMayHaveKey(made, cp, lostOn);
  await sayLostFiles(cp);
  const others = quorumOf(cp.data.members, ({ id }) => peers.alive.some((peer) => peer.id === id));
  const work = etcdWork(cp, actions);
  const { runtimeEndpoint } = cp.node;
  const steps = async () => {
    await stopKubelet();
    await stopContainers(runtimeEndpoint, await controlPlaneContainers(runtimeEndpoint));
    await pod.makeSharedKeys(cp, actions);
    await pod.issueEtcdCertificates(cp);
    await pod.startEtcd(cp);
  };
  await beforeEtcdStops(cp, work, { others, imagesLater, healthy: false, steps });
  const todo = actions
    .filter((action) => action.todo !== "keep")
    .map((action) => `${action.todo} ${action.finding.name}`);
  return { todo, inPlace: etcdIsInPlace(cp, work), needsCopy: pod.needsCopy(cp) };
}

/** Shared keys that are missing are there, as after part 1: part 2 makes none. */
function keysAsMade({ root }: Node) {
  for (const file of SHARED_FILES)
    if (!existsSync(`${root}${CONF}/pki/${file}`)) write(`${root}${CONF}/pki/${file}`, pki(file));
}

/** As the step 2.1 of part 2, where etcd is well. */
async function part2({ imagesLater, isFull = false }: Row) {
  const cp = await controlPlaneToRepair(undefined);
  refuseExternalCa(cp);
  const work = await pod.lookAtServers(cp);
  const steps = async () => pod.startServers(cp, work, await pod.issueForServers(cp, work));
  await beforeServersStop(cp, work, { "images-later": imagesLater, isFull, steps });
}

/** What is stopped, written and checked; and what is warned of, by its first words. */
function screenOf(said: readonly string[]) {
  const after = (begin: string) => said.find((line) => line.startsWith(begin))?.slice(begin.length);
  const warnings = said
    .filter((line) => line.startsWith("warning: "))
    .map((line) => line.split(" ").slice(1, 6).join(" "));
  return {
    stops: after("will stop: "),
    files: said.flatMap(
      (line) => /^will (?!stop)(.*)/.exec(line)?.[1]?.replace(/\d{4}(-\d\d){5}/, "TIME") ?? [],
    ),
    has: after("checked: "),
    warnings,
  };
}
