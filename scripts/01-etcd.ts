#!/usr/bin/env bun
/**
 * RUNBOOK part 1: etcd serves the old data with new certificates.
 * Run on each control plane node, the first one first. Safe to run again: what is right is kept.
 */
import { parseArgs } from "node:util";
import { etcdClient, proveSameEtcd } from "../shared/etcd/identity.ts";
import {
  answersPeers,
  lookAtPeers,
  ownEtcdRuns,
  peersOf,
  quorumOf,
  refuseWhereOthersLive,
} from "../shared/etcd/peers.ts";
import {
  type ControlPlaneNode,
  ensureOptions,
  readControlPlaneNode,
} from "../shared/facts/control-plane-node.ts";
import { refuseExternalCa } from "../shared/facts/external-ca.ts";
import { refuseExternalEtcd } from "../shared/facts/no-etcd-data.ts";
import { attempt, Fail } from "../shared/fail.ts";
import { copyTree, moveAside } from "../shared/files/file-tree.ts";
import { exists, readText } from "../shared/files/files.ts";
import { manifestPath } from "../shared/manifests/on-disk.ts";
import { containers, controlPlaneContainers, stopContainers } from "../shared/node/containers.ts";
import { ensureControlPlaneKubelet } from "../shared/node/kubelet-certs.ts";
import { KUBELET_DIR, kubeletActive, needRoot, turnKubelet } from "../shared/node/node.ts";
import { rescuedEtcd } from "../shared/node/rescue-folder.ts";
import { endpointHost } from "../shared/pki/addresses.ts";
import { madeAt } from "../shared/pki/certificate.ts";
import { CERTS, type Cert, certPath, certRow, keyPath } from "../shared/pki/certs.ts";
import { apply, ensureMany } from "../shared/pki/ensure.ts";
import { examine } from "../shared/pki/examine.ts";
import { foreignCa } from "../shared/pki/lost-keys.ts";
import { keysToMake, type NewCas, type PlanRow, planPki } from "../shared/pki/plan.ts";
import { markNewSaKey } from "../shared/pki/sa-keys.ts";
import { done, mode, run, say, start, step, waitFor } from "../shared/run.ts";
import { refuseWhileMemoryHasKeys } from "../shared/salvage/memory-search.ts";
import {
  caIsNew,
  manifestTrouble,
  restoreManifests,
  restoreOthers,
} from "../shared/static-pods/restore.ts";
import { wantedManifests } from "../shared/static-pods/wanted-manifests.ts";

const USAGE = `Usage:
    ./bunw scripts/01-etcd.ts [--new-cas | --new-internal-cas] [--lost-on NODE,…] [--dry-run] [--etcd-data DIR]

Brings etcd back on this control plane node: its old data, with certificates that fit. Keys and certificates that are there and right are kept. Run it on
each control plane node, the first one first; the shared keys go to the others in between, by hand-over.ts. No workload restarts.

Options:
    --new-cas        Make the CAs and the service-account key that are missing. Only when 00-assess says that they are nowhere to be found:
                     every kubelet and every token then has to be renewed (parts 3 and 4).
    --new-internal-cas
                     Make etcd's CA and the front-proxy CA if they are missing, never the cluster's CA or the service-account key. Only control plane nodes
                     trust those two, so nothing else has to be renewed.
    --lost-on NODES  Control plane nodes whose etcd runs, and that have lost the same keys: you have looked. Without it none are made beside them.
    --etcd-data DIR  etcd's data directory (default: /var/lib/etcd).
    --dry-run        Print what would be done; nothing is written, stopped or started.
    --help           Print this text.

Examples:
    ./bunw scripts/01-etcd.ts --dry-run --new-cas
    ./bunw scripts/01-etcd.ts --new-cas

Exit codes: 0 done, 1 stopped (see the hint)
`;

const OPTIONS = {
  "new-cas": { type: "boolean" },
  "new-internal-cas": { type: "boolean" },
  "lost-on": { type: "string", default: "" },
  "etcd-data": { type: "string", default: "/var/lib/etcd" },
  "dry-run": { type: "boolean" },
  help: { type: "boolean" },
} as const;

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) return console.log(USAGE);
  start("01-etcd", { dryRun: values["dry-run"] });
  needRoot();
  if (values["new-cas"] && values["new-internal-cas"])
    throw new Fail(
      "--new-cas makes all shared keys that are missing, --new-internal-cas never the cluster's CA: give one of them",
      {
        hint: "./bunw scripts/00-assess.ts says which keys are lost",
      },
    );
  const newCas = values["new-cas"] ? "all" : values["new-internal-cas"] ? "internal" : undefined;

  const lostOn = values["lost-on"].split(",").filter(Boolean);
  const { cp, plan } = await step("1.1 Look at this node and at etcd's data", () =>
    look(values["etcd-data"], newCas, lostOn),
  );
  const healthy = (await isRight(cp, plan)) && !needsCopy(cp);
  await step("1.2 Stop what is left of the old control plane", () =>
    stopOldControlPlane(cp, healthy),
  );
  await step("1.3 Copy etcd's data and what else is left", () => copyWhatIsLeft(cp, healthy));
  await step(
    "1.4 Make or keep the shared keys",
    () => sharedKeys(cp, plan),
    "kubeadm init phase certs ca, etcd-ca, front-proxy-ca, sa",
  );
  await step(
    "1.5 Issue etcd's certificates",
    () => etcdCertificates(cp),
    "kubeadm init phase certs etcd-server, etcd-peer, etcd-healthcheck-client",
  );
  await step(
    "1.6 Put etcd's manifest back and let the kubelet run",
    () => startEtcd(cp),
    "kubeadm init phase etcd local; systemctl restart kubelet",
  );
  const next = await step(
    "1.7 Prove that it is the same etcd",
    () => prove(cp, keysToMake(plan).length > 0),
    "etcdctl endpoint status; etcdctl member list",
  );
  done(next);
}

/** Facts first, refusals second; nothing is touched before all of them are through. */
async function look(
  dataDir: string,
  newCas: NewCas | undefined,
  lostOn: string[],
): Promise<{ cp: ControlPlaneNode; plan: PlanRow[] }> {
  const cp = await readControlPlaneNode(dataDir);
  const { cluster, data, facts, node } = cp;
  say(
    `node ${node.name} (from ${node.nameFrom}), ${facts.advertiseAddress}; ${cluster.name}, Kubernetes ${cluster.kubernetesVersion}, ${facts.keyAlgorithm}`,
  );
  say(
    `${cp.dataFrom}: ${data.members.length} member(s), ${data.keyCount} keys, revision ${data.revision}, last write ${data.lastWrite.toISOString()}`,
  );
  for (const warning of data.warnings) say(`warning: ${warning}`);

  refuseExternalEtcd(cp);
  refuseExternalCa(cp);
  const own = data.members.find((member) =>
    member.peerURLs.some((url) => node.addresses.includes(endpointHost(new URL(url).host))),
  );
  if (!own) {
    throw new Fail(
      `etcd's data names no member at this machine's addresses (${node.addresses.join(", ")})`,
      {
        hint: `its members are ${data.members.map((member) => `"${member.name}" ${member.peerURLs}`).join(", ")}: run this on one of them`,
      },
    );
  }
  const shared = { certs: CERTS.filter((row) => row.shared), serviceAccountKey: true };
  const plan = planPki(shared, facts, ensureOptions(cp, newCas));
  const alive = await lookAtPeers(cp, plan);
  refuseForeignCa(cp);
  const made = keysToMake(plan);
  refuseWhereOthersLive(made, alive, lostOn, cp);
  wantedManifests(cp, ["etcd"]);
  await containers(node.runtimeEndpoint);
  await refuseWhileMemoryHasKeys(made, cp);
  return { cp, plan };
}

/** A sound CA that is not the cluster's would sign certificates that no node trusts. */
function refuseForeignCa({ facts, cluster }: ControlPlaneNode) {
  if (examine(certRow("ca"), facts).state !== "ok") return;
  const path = certPath(certRow("ca"), facts.certificatesDir);
  const foreign = foreignCa(readText(path), cluster.oldCaPem);
  if (!foreign) return;
  throw new Fail(
    `"${path}" is of another CA, ${foreign}, made before the one that etcd's data names`,
    {
      hint: "./bunw scripts/00-salvage.ts --move-aside looks for the cluster's own; if it is nowhere: mv ca.crt and ca.key away, then ./bunw scripts/00-assess.ts",
    },
  );
}

/**
 * Whether etcd already serves the same data with the certificates that are on disk, all of which are right. One whose manifest is not right is
 * stopped by the kubelet at its next look, and an API server without etcd then keeps the kubelet from starting anything.
 */
async function isRight(cp: ControlPlaneNode, plan: readonly PlanRow[]): Promise<boolean> {
  const { facts, data, cluster } = cp;
  const isSound = CERTS.filter(isEtcds).every((row) => examine(row, facts).state === "ok");
  if (!isSound || plan.some(({ row, todo }) => row && todo !== "keep")) return false;
  if (!exists(manifestPath(cp, "etcd"))) return false;
  if (wantedManifests(cp, ["etcd"]).some((one) => manifestTrouble(one, cp))) return false;
  try {
    const proofs = await proveSameEtcd(etcdClient(facts)!, data, cluster);
    say(proofs[0]!);
    return true;
  } catch (err) {
    say(`etcd does not serve yet: ${(err as Error).message}`);
    return false;
  }
}

/** Somebody has begun with a new CA already: what the cluster was is in etcd's data only, and will not be there for long. */
function needsCopy(cp: ControlPlaneNode): boolean {
  if (!caIsNew(cp) || exists(rescuedEtcd(cp.rescue))) return false;
  say(
    "the CA on disk is not the one that etcd's data names, and there is no copy from before: etcd is stopped for it",
  );
  return true;
}

async function stopOldControlPlane({ node }: ControlPlaneNode, healthy: boolean) {
  if (healthy) return say("etcd serves with the certificates on disk: nothing to stop");
  if (await kubeletActive()) await turnKubelet("stop", " (containers run on without it)");
  else say("kubelet: not running");
  await stopContainers(node.runtimeEndpoint, await controlPlaneContainers(node.runtimeEndpoint));
}

async function copyWhatIsLeft({ rescue, dataDir, data }: ControlPlaneNode, healthy: boolean) {
  const copy = rescuedEtcd(rescue);
  if (exists(copy)) return say(`${copy}: kept`);
  if (healthy) return say("etcd is healthy: no copy needed");
  // etcd's data last: a folder that has it has everything
  for (const left of ["/etc/kubernetes", `${KUBELET_DIR}/pki`])
    if (exists(left)) copyTree(left, `${rescue.dir}/before${left}`);
  copyTree(dataDir, copy);
  say(`${data.keyCount} keys, revision ${data.revision}`);
}

async function sharedKeys({ facts, asideDir }: ControlPlaneNode, plan: readonly PlanRow[]) {
  await apply(plan, facts, { asideDir, onNewSaKey: markNewSaKey });
}

async function etcdCertificates(cp: ControlPlaneNode) {
  markRepair(cp);
  await ensureMany({ certs: CERTS.filter(isEtcds) }, cp.facts, { asideDir: cp.asideDir });
}

/** A repair is known by a certificate of etcd that is younger than its rescue folder: beside a new CA it is issued anew even where it is sound. */
function markRepair(cp: ControlPlaneNode) {
  const paths = [certPath, keyPath].map((path) =>
    path(certRow("etcd-server"), cp.facts.certificatesDir),
  );
  const made = attempt(() => madeAt(readText(paths[0]!) ?? ""));
  if (
    made instanceof Fail ||
    !caIsNew(cp) ||
    !exists(rescuedEtcd(cp.rescue)) ||
    made >= cp.rescue.made
  )
    return;
  for (const path of paths) moveAside(path, cp.asideDir);
}

/** Its own leaves; the API server's client certificate is part 2's. */
function isEtcds(row: Cert): boolean {
  return row.ca === "etcd-ca" && row.file.startsWith("etcd/");
}

/** The kubelet needs a CA and credentials to run at all; with them, and without an API, it runs static pods (lab.md §3). */
async function startEtcd(cp: ControlPlaneNode) {
  const { node, facts, asideDir } = cp;
  const credentials = await ensureControlPlaneKubelet(node, facts, asideDir);
  const manifest = restoreManifests(cp, ["etcd"]);
  restoreOthers(cp);
  if (!credentials && !manifest && (await kubeletActive()))
    return say("kubelet: running, not restarted");
  await turnKubelet("restart");
}

async function prove(
  { facts, data, cluster, node }: ControlPlaneNode,
  makes: boolean,
): Promise<string> {
  const client = etcdClient(facts);
  const others = data.members
    .filter((member) => member.id !== data.memberId)
    .map((member) => member.name);
  const handOver =
    makes && others.length > 0
      ? `./bunw scripts/hand-over.ts pack, and unpack it on ${others.join(", ")}; then `
      : "";
  const hint = "crictl ps -a --name etcd; crictl logs ID; journalctl -u kubelet -n 50";
  await waitFor(
    "etcd to show its new certificate to its peers",
    () => ownEtcdRuns(data, node.addresses, facts),
    { seconds: 120, hint },
  );
  const running =
    (await peersOf(data, node.addresses)).filter((peer) => answersPeers(peer, facts)).length + 1;
  const quorum = quorumOf(data.members.length);
  if (running < quorum) {
    say(
      `etcd runs, and answers once ${quorum} of its ${data.members.length} members do; now ${running}`,
    );
    return `./bunw scripts/hand-over.ts pack, then part 1 on ${others.join(", ")}`;
  }
  await waitFor(
    "etcd to answer, and to have a leader",
    async () => (await client?.status())?.leaderId !== "0",
    { seconds: 120, hint },
  );
  if (mode.dryRun || !client) return "./bunw scripts/02-control-plane.ts";
  for (const proof of await proveSameEtcd(client, data, cluster)) say(proof);
  return `${handOver}${running < data.members.length ? "part 1 on the other control plane nodes, then " : ""}./bunw scripts/02-control-plane.ts`;
}

if (import.meta.main) await run(main);
