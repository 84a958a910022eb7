#!/usr/bin/env bun
/**
 * RUNBOOK part 3: every kubelet trusts the new CA and has a new client certificate, and the controller-manager is whole again.
 * `open` on the first control plane node, then `join` on each worker, then `close` on each control plane node. Safe to run again. `approve` is what `open` starts.
 */
import { parseArgs } from "node:util";
import { adminApi } from "../shared/api/admin-api.ts";
import { closeJoining, openJoining } from "../shared/api/bootstrap-tokens.ts";
import type { KubeApi } from "../shared/api/kube-api.ts";
import { nodeLeases } from "../shared/api/leases.ts";
import { refuseStrangers } from "../shared/facts/cluster.ts";
import { type ControlPlaneNode, readControlPlaneNode } from "../shared/facts/control-plane-node.ts";
import { saKeyIsNew } from "../shared/facts/sa-key.ts";
import { attempt, Fail } from "../shared/fail.ts";
import { readText } from "../shared/files/files.ts";
import { trusted } from "../shared/node/kubelet-certs.ts";
import { kubeletActive, type Node, needRoot, readNode } from "../shared/node/node.ts";
import { certInfo, certificatesIn } from "../shared/pki/certificate.ts";
import { clusterCa } from "../shared/pki/examine.ts";
import { clusterServer, readKubeconfig } from "../shared/pki/kubeconfigs.ts";
import { listed } from "../shared/plain.ts";
import { answer, done, mode, run, say, start, step, tell, waitFor } from "../shared/run.ts";
import { fullControllerManager } from "../shared/static-pods/full-manager.ts";
import { caIsNew, managerIsReduced } from "../shared/static-pods/restore.ts";
import { startApprover, stopApprover } from "../shared/workers/approver.ts";
import { isControlPlane } from "../shared/workers/identities.ts";
import {
  proveKubelet,
  proveServer,
  rollBack,
  saveTrust,
  swapTrust,
} from "../shared/workers/join.ts";
import { withoutServing } from "../shared/workers/kubelet-port.ts";
import { dropTokenFile, readTokenFile, writeTokenFile } from "../shared/workers/token-file.ts";
import { approveJoining, watchNodesReturn } from "../shared/workers/wait.ts";
import { namespacesWithOldCa } from "../shared/workloads/token-secrets.ts";

const USAGE = `Usage:
    ./bunw scripts/03-workers.ts open [--token-file FILE] [--without NODE,…] [--dry-run]
    ./bunw scripts/03-workers.ts join --server URL --ca-hash sha256:HASH --token-file FILE [--dry-run]
    ./bunw scripts/03-workers.ts close [--without NODE,…] [--wait MINUTES] [--dry-run]
    ./bunw scripts/03-workers.ts approve [--without NODE,…] [--dry-run]

open, on the first control plane node:  makes a bootstrap token (valid for 2 hours), writes it with the CA to a file and prints the line for the workers.
                            Has systemd run approve until they are through. Run again: the former token is revoked.
join, on each worker:       trusts the new CA, asks for a new client certificate; the kubelet's configuration and all containers stay.
                            If it fails, the files from before come back; if not, the token file is removed.
close, on each control plane node:      waits until all nodes have come back, approves serving certificates of nodes that etcd knew, makes the
                            controller-manager whole again, and takes away all that open has made.
approve, where open was:    approves client certificates: of workers that etcd knew, once each, only while they are not heard. By hand only
                            where systemd-run does not work. It ends with the last worker, or with the token.

Options:
    --token-file FILE  Where token and CA are written (open) or read from (join). Default: token. Copy it to the workers with scp; mode 0600.
    --server URL       The API's address, as open prints it.
    --ca-hash HASH     The new CA's fingerprint, as open prints it (kubeadm calls it --discovery-token-ca-cert-hash).
    --without NODES    Nodes that will not come back: nothing in their name is approved, and close does not wait for them. They are tainted and
                       emptied by the whole controller-manager as usual.
    --wait MINUTES     How long to wait for the nodes. Default: 15.
    --etcd-data DIR    etcd's data directory (default: /var/lib/etcd).
    --dry-run          Print what would be done; nothing is written, stopped or started.
    --help             Print this text.

Exit codes: 0 done, 1 stopped (see the hint)
`;

const OPTIONS = {
  "token-file": { type: "string", default: "token" },
  server: { type: "string" },
  "ca-hash": { type: "string" },
  without: { type: "string", default: "" },
  wait: { type: "string", default: "15" },
  "etcd-data": { type: "string", default: "/var/lib/etcd" },
  "dry-run": { type: "boolean" },
  help: { type: "boolean" },
} as const;

type Options = ReturnType<typeof options>;

async function main() {
  const { values, positionals } = options();
  const [command] = positionals;
  if (values.help) return console.log(USAGE);
  if (command !== "open" && command !== "join" && command !== "close" && command !== "approve") {
    throw new Fail(
      `03-workers needs one of open, join, close, approve, got "${positionals.join(" ")}"`,
      {
        hint: "./bunw scripts/03-workers.ts --help",
      },
    );
  }
  start(`03-workers ${command}`, { dryRun: values["dry-run"] });
  needRoot();
  if (command === "open") return open(values);
  if (command === "join") return join(values);
  if (command === "approve") return approve(values);
  return close(values);
}

async function open(values: Options["values"]) {
  const { cp, api, without } = await onControlPlane(values);
  refuseStrangers(without, cp);
  if (!caIsNew(cp) && !(await someoneJoins(cp, api, without))) return;
  await step(
    "3.1 Make a bootstrap token for the workers",
    () => makeToken(cp, api, values["token-file"]),
    "kubeadm token create --ttl 2h --groups system:bootstrappers:kube-pki-repair; kubectl certificate approve CSR",
  );
  printJoinLine(cp, values["token-file"]);
  tell("");
  await startApprover([
    "--etcd-data",
    values["etcd-data"],
    ...(without.length > 0 ? ["--without", without.join(",")] : []),
  ]);
  tell("\nthen, on each control plane node: ./bunw scripts/03-workers.ts close");
}

/** With the old CA, only workers that are not heard have to. A control plane node's kubelet gets its certificate in part 2. */
async function someoneJoins(
  cp: ControlPlaneNode,
  api: KubeApi,
  without: readonly string[],
): Promise<boolean> {
  const nodes = cp.cluster.nodes.filter(({ name }) => !without.includes(name));
  const names = nodes.map(({ name }) => name);
  const { notRenewed: silent } = await nodeLeases(api, names, { onlyNew: true });
  const controlPlanes = nodes
    .filter((node) => silent.includes(node.name) && isControlPlane(node, cp.data))
    .map(({ name }) => name);
  const workers = silent.filter((name) => !controlPlanes.includes(name));
  const why = "the cluster knows its CA, so their own certificates have ended or are lost";
  if (controlPlanes.length > 0)
    say(
      `not heard: ${controlPlanes.join(", ")}: ${why}. Part 2 there: ./bunw scripts/02-control-plane.ts`,
    );
  if (workers.length > 0)
    say(`not heard: ${workers.join(", ")}: ${why}. They join anew, the others do not`);
  else if (controlPlanes.length > 0) done("part 2 there: ./bunw scripts/02-control-plane.ts");
  else await sayNobodyJoins(cp);
  return workers.length > 0;
}

/** With the old CA, what may still be wanting is approval: a kubelet whose serving certificate had ended asks for a new one. */
async function sayNobodyJoins(cp: ControlPlaneNode) {
  say("the cluster knows its CA, and every kubelet is heard: no worker has to join");
  const asking = await withoutServing(cp);
  const isHalf = managerIsReduced(cp);
  if (asking.length > 0)
    say(
      `without a serving certificate of the CA: ${listed(asking)}: close approves what they ask for`,
    );
  if (isHalf) say("the controller-manager is still reduced: close makes it whole");
  if (asking.length === 0 && !isHalf) say("Part 3 has nothing to do");
  done(`./bunw scripts/${asking.length > 0 || isHalf ? "03-workers.ts close" : nextPart(cp)}`);
}

const AFTER_JOIN =
  "the other workers, then on each control plane node: ./bunw scripts/03-workers.ts close";

async function join(values: Options["values"]) {
  const node = await readNode();
  const { server, "ca-hash": hash, "token-file": file } = values;
  if (!server || !hash)
    throw new Fail("join needs --server and --ca-hash", {
      hint: "paste the line that ./bunw scripts/03-workers.ts open printed",
    });
  if (await hasJoined(node, hash)) {
    say(`${node.name}: has a certificate of this CA already, nothing to do`);
    dropTokenFile(file);
    return done(AFTER_JOIN);
  }
  const { token, ca } = await step(
    "3.2 Hold the new CA against its fingerprint, and the server against the CA",
    async () => {
      const carried = readTokenFile(file, hash);
      await proveServer(server, carried.ca);
      return carried;
    },
  );
  const saved = await step("3.3 Save this worker's old trust", () => saveTrust(node));
  try {
    await step("3.4 Swap the trust and restart the kubelet", () =>
      swapTrust(node, { server, ca, token }, saved),
    );
    await step("3.5 Prove that this worker's kubelet is heard", () =>
      proveKubelet(node, { server, ca, saved }),
    );
  } catch (err) {
    await rollBack(saved);
    throw err;
  }
  dropTokenFile(file);
  done(AFTER_JOIN);
}

/** All that a kubelet goes by is of this CA, and it runs: one whose client CA is lost cannot start. */
async function hasJoined({ kubelet }: Node, hash: string): Promise<boolean> {
  const trusts = [
    () => readText(kubelet.clientCaFile),
    () => readKubeconfig(kubelet.kubeconfig)?.caPem,
  ];
  const cas = trusts.map((read) =>
    attempt(() => certificatesIn(read() ?? "").find((pem) => certInfo(pem).publicKeyHash === hash)),
  );
  return (
    cas.every((ca) => typeof ca === "string" && trusted(kubelet.clientPem, ca)) &&
    (await kubeletActive())
  );
}

/** In the background of `open`, or in a window of its own. */
async function approve(values: Options["values"]) {
  const { cp, api, without } = await onControlPlane(values);
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, stopped);
  await step(
    "Approve the certificates that workers ask for with the token",
    () => approveJoining(cp, api, without),
    "kubectl get csr; kubectl certificate approve CSR",
  );
  done("on each control plane node: ./bunw scripts/03-workers.ts close");
}

function stopped() {
  tell("stopped: nothing is approved any more");
  process.exit(0);
}

async function close(values: Options["values"]) {
  const { cp, api, without } = await onControlPlane(values);
  await step(
    "3.6 Wait for the nodes and approve their serving certificates",
    () => watchNodesReturn(cp, api, { without, minutes: Number(values.wait) }),
    "kubectl get nodes; kubectl get csr; kubectl certificate approve CSR",
  );
  await step(
    "3.7 Make the controller-manager whole again",
    () => fullControllerManager(cp, api),
    "kubeadm init phase control-plane controller-manager",
  );
  await step(
    "3.8 Revoke the token",
    () => stopApprover().then(() => closeJoining(api)),
    "kubeadm token delete ID; kubectl delete clusterrolebinding NAME",
  );
  done(closeNext(cp));
}

async function onControlPlane(values: Options["values"]) {
  const cp = await readControlPlaneNode(values["etcd-data"]);
  return { cp, api: await adminApi(cp), without: values.without.split(",").filter(Boolean) };
}

async function makeToken(cp: ControlPlaneNode, api: KubeApi, file: string) {
  const caPem = clusterCa(cp.facts.certificatesDir);
  // A kubelet that starts after that gives its pods the new CA at once; one that starts before, within a minute.
  await waitFor(
    "the controller-manager to give every namespace the new CA",
    async () => (await namespacesWithOldCa(api, caPem)).length === 0,
    {
      seconds: 120,
      hint: "does it lead? kubectl -n kube-system get lease kube-controller-manager; crictl ps -a --name kube-controller-manager",
    },
  );
  if (mode.dryRun)
    return say(`would: make a bootstrap token, valid for 2 h, and write it with the CA to ${file}`);
  say("the controller-manager is at work: every namespace has the new CA");
  writeTokenFile(file, { token: await openJoining(api), ca: caPem });
}

/** The answer of `open`: on stdout, so that it can be piped. */
function printJoinLine({ facts }: ControlPlaneNode, file: string) {
  const hash = certInfo(clusterCa(facts.certificatesDir)).publicKeyHash;
  tell("\nOn each worker, as root, in the kit's folder, with the token file beside it:");
  answer(
    `./bunw scripts/03-workers.ts join --server ${clusterServer(facts)} --ca-hash ${hash} --token-file ${file}`,
  );
}

function closeNext(cp: ControlPlaneNode): string {
  const others = cp.cluster.nodes
    .filter((node) => node.controlPlane && node.name !== cp.node.name)
    .map((node) => node.name);
  const hint =
    others.length > 0 ? `the same on ${others.join(", ")} where it has not been, then ` : "";
  return `${hint}./bunw scripts/${nextPart(cp)}`;
}

function nextPart(cp: ControlPlaneNode): string {
  return caIsNew(cp) || saKeyIsNew(cp) ? "04-sa-tokens.ts" : "05-verify.ts";
}

function options() {
  return parseArgs({ options: OPTIONS, allowPositionals: true });
}

if (import.meta.main) await run(main);
