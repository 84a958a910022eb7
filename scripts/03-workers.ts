#!/usr/bin/env bun
/**
 * RUNBOOK part 3: every kubelet trusts the new CA and has a new client certificate, and the controller-manager is whole again.
 * `open` on the first master, then `join` on each worker, then `close` on each master. Safe to run again.
 */
import { parseArgs } from "node:util";
import { adminApi } from "../shared/api/admin-api.ts";
import { createToken, revokeTokens, tokenFile } from "../shared/api/bootstrap-tokens.ts";
import type { KubeApi } from "../shared/api/kube-api.ts";
import { dropLease, leaderSince, silentNodes } from "../shared/api/leases.ts";
import { Fail } from "../shared/fail.ts";
import { exists, readText, writeFile } from "../shared/files/files.ts";
import { type Master, readMaster } from "../shared/master.ts";
import { trusted } from "../shared/nodes/kubelet.ts";
import { kubeletActive, type Node, needRoot, readNode } from "../shared/nodes/node.ts";
import { watchNodesReturn, withoutServing } from "../shared/nodes/nodes-return.ts";
import { listed } from "../shared/nodes/returning.ts";
import { controlPlaneContainers } from "../shared/nodes/runtime.ts";
import { fetchClusterCa, proveKubelet, rollBack, saveTrust, swapTrust } from "../shared/nodes/worker-trust.ts";
import { certInfo, shareCertificate } from "../shared/pki/certificate.ts";
import { clusterServer, readKubeconfig } from "../shared/pki/kubeconfigs.ts";
import { clusterCa } from "../shared/pki/pki.ts";
import { attempt } from "../shared/pki/verdicts.ts";
import { done, mode, run, say, start, step, waitFor } from "../shared/run.ts";
import { exchangeManifest, manifestBeforeOrAfter } from "../shared/static-pods/exchange.ts";
import { manifestPath } from "../shared/static-pods/manifest-files.ts";
import { full } from "../shared/static-pods/reduced-controllers.ts";
import { caIsNew, managerIsReduced } from "../shared/static-pods/static-pods.ts";
import { saKeyIsNew } from "../shared/workloads/old-sa-key.ts";
import { namespacesWithOldCa } from "../shared/workloads/sa-tokens.ts";

const USAGE = `Usage:
    ./bunw scripts/03-workers.ts open [--token-file FILE] [--dry-run]
    ./bunw scripts/03-workers.ts join --server URL --ca-hash sha256:HASH --token-file FILE [--dry-run]
    ./bunw scripts/03-workers.ts close [--without NODE,…] [--wait MINUTES] [--dry-run]

open, on the first master:  makes a bootstrap token (valid for 2 hours), writes it to a file and prints the line for the workers.
join, on each worker:       trusts the new CA, asks for a new client certificate; the kubelet's configuration and all containers stay.
                            If it fails, the files from before come back.
close, on each master:      waits until all nodes have come back, approves serving certificates of nodes that etcd knew, makes the
                            controller-manager whole again, and revokes the token.

Options:
    --token-file FILE  Where the token is written (open) or read from (join). Default: token. Copy it to the workers with scp; mode 0600.
    --server URL       The API's address, as open prints it.
    --ca-hash HASH     The new CA's fingerprint, as open prints it (kubeadm calls it --discovery-token-ca-cert-hash).
    --without NODES    Nodes that will not come back; they are tainted and emptied by the whole controller-manager as usual.
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
  if (command !== "open" && command !== "join" && command !== "close") {
    throw new Fail(`03-workers needs one of open, join, close, got "${positionals.join(" ")}"`, {
      hint: "./bunw scripts/03-workers.ts --help",
    });
  }
  start(`03-workers ${command}`, { dryRun: values["dry-run"] });
  needRoot();
  if (command === "open") return open(values);
  if (command === "join") return join(values);
  return close(values);
}

async function open(values: Options["values"]) {
  const master = await readMaster(values["etcd-data"]);
  const api = await adminApi(master);
  if (!caIsNew(master)) {
    const silent = await silentNodes(
      api,
      master.cluster.nodes.map(({ name }) => name),
    );
    if (silent.length === 0) return await sayNobodyJoins(master);
    say(
      `not heard: ${silent.join(", ")}: the cluster knows its CA, so their own certificates have ended or are lost. They join anew, the others do not`,
    );
  }
  await step(
    "3.1 Make a bootstrap token for the workers",
    () => makeToken(master, api, values["token-file"]),
    "kubeadm token create --ttl 2h",
  );
  printJoinLine(master, values["token-file"]);
}

/** With the old CA, what may still be wanting is approval: a kubelet whose serving certificate had ended asks for a new one. */
async function sayNobodyJoins(master: Master) {
  say("the cluster knows its CA, and every kubelet is heard: no worker has to join");
  const asking = await withoutServing(master);
  const isHalf = managerIsReduced(master);
  if (asking.length > 0) say(`without a serving certificate of the CA: ${listed(asking)}: close approves what they ask for`);
  if (isHalf) say("the controller-manager is still reduced: close makes it whole");
  if (asking.length === 0 && !isHalf) say("Part 3 has nothing to do");
  done(`./bunw scripts/${asking.length > 0 || isHalf ? "03-workers.ts close" : nextPart(master)}`);
}

const AFTER_JOIN = "the other workers, then on each master: ./bunw scripts/03-workers.ts close";

async function join(values: Options["values"]) {
  const node = await readNode();
  const { server, "ca-hash": hash, "token-file": file } = values;
  if (!server || !hash)
    throw new Fail("join needs --server and --ca-hash", { hint: "paste the line that ./bunw scripts/03-workers.ts open printed" });
  const ca = await step(
    "3.2 Fetch the new CA and hold it against its fingerprint",
    () => fetchClusterCa(server, hash),
    "kubeadm join phase kubelet-start",
  );
  if (await hasJoined(node, ca)) {
    say(`${node.name}: has a certificate of this CA already, nothing to do`);
    return done(AFTER_JOIN);
  }
  const token = readToken(file);
  const saved = await step("3.3 Save this worker's old trust", () => saveTrust(node));
  try {
    await step("3.4 Swap the trust and restart the kubelet", () => swapTrust(node, { server, ca, token }, saved));
    await step("3.5 Prove that this worker's kubelet is heard", () => proveKubelet(node, { server, ca, saved }));
  } catch (err) {
    await rollBack(saved);
    throw err;
  }
  done(AFTER_JOIN);
}

/** All that a kubelet goes by is of this CA, and it runs: one whose client CA is lost cannot start. */
async function hasJoined({ kubelet }: Node, ca: string): Promise<boolean> {
  const trusts = [() => readText(kubelet.clientCaFile), () => readKubeconfig(kubelet.kubeconfig)?.caPem];
  const isTrusted = trusts.every((read) => attempt(() => shareCertificate(read() ?? "", ca)) === true);
  return isTrusted && trusted(kubelet.clientPem, ca) && (await kubeletActive());
}

async function close(values: Options["values"]) {
  const master = await readMaster(values["etcd-data"]);
  const api = await adminApi(master);
  const without = values.without.split(",").filter(Boolean);
  await step(
    "3.6 Wait for the nodes and approve their serving certificates",
    () => watchNodesReturn(master, api, { without, minutes: Number(values.wait) }),
    "kubectl get nodes; kubectl get csr; kubectl certificate approve CSR",
  );
  await step(
    "3.7 Make the controller-manager whole again",
    () => wholeControllerManager(master, api),
    "kubeadm init phase control-plane controller-manager",
  );
  await step("3.8 Revoke the token", () => revokeTokens(api), "kubeadm token delete ID");
  done(closeNext(master));
}

async function makeToken(master: Master, api: KubeApi, file: string) {
  const caPem = clusterCa(master.facts.certificatesDir);
  // A kubelet that starts after that gives its pods the new CA at once; one that starts before, within a minute.
  await waitFor(
    "the controller-manager to give every namespace the new CA",
    async () => (await namespacesWithOldCa(api, caPem)).length === 0,
    {
      seconds: 120,
      hint: "does it lead? kubectl -n kube-system get lease kube-controller-manager; crictl ps -a --name kube-controller-manager",
    },
  );
  if (mode.dryRun) return say(`would: make a bootstrap token, valid for 2 h, and write it to ${file}`);
  say("the controller-manager is at work: every namespace has the new CA");
  const token = await createToken(api);
  writeFile(tokenFile(file), `${token}\n`, {
    mode: 0o600,
    note: "a bootstrap token, valid for 2 h: copy this file to the workers, scp keeps it off the screen",
  });
}

/** The answer of `open`: on stdout, so that it can be piped. */
function printJoinLine({ facts }: Master, file: string) {
  const hash = certInfo(clusterCa(facts.certificatesDir)).publicKeyHash;
  console.error("\nOn each worker, as root, in the kit's folder, with the token file beside it:");
  console.log(`./bunw scripts/03-workers.ts join --server ${clusterServer(facts)} --ca-hash ${hash} --token-file ${file}`);
  console.error("\nthen, on each master: ./bunw scripts/03-workers.ts close");
}

function readToken(file: string): string {
  const token = readText(tokenFile(file))?.trim();
  if (token && /^[a-z0-9]{6}\.[a-z0-9]{16}$/.test(token)) return token;
  throw new Fail(token === undefined ? `There is no token file "${file}"` : `"${file}" holds no bootstrap token`, {
    hint: `copy it from the first master, into this folder: scp MASTER:$PWD/${file} .`,
  });
}

/** All that was reduced comes back: the flag stands in the manifest, so any master can tell. */
async function wholeControllerManager(master: Master, api: KubeApi) {
  const name = "kube-controller-manager";
  const path = manifestPath(master, name);
  const now = manifestBeforeOrAfter(path);
  if (!now) throw new Fail(`There is no "${path}"`, { hint: "part 2 first: ./bunw scripts/02-control-plane.ts" });
  const manifest = full(now);
  if (manifest === now && exists(path)) return say(`${path}: kept, nothing in it is reduced`);
  const leader = await leaderSince(api, name, new Date(0));
  await exchangeManifest(master, name, { manifest, note: "node-lifecycle, taint eviction and pod collection are on again" });
  if (mode.dryRun) return;
  const since = new Date();
  if (leader?.startsWith(`${master.node.hostName}_`)) await dropLease(api, name, leader);
  const hint = `crictl ps -a --name ${name}; crictl logs ID`;
  await waitFor("the kubelet to start it again", () => runs(master, name), { seconds: 60, hint });
  say(`${await waitFor("a controller-manager to lead", () => leaderSince(api, name, since), { seconds: 90, hint })}: leads`);
}

async function runs({ node }: Master, name: string): Promise<boolean> {
  return (await controlPlaneContainers(node.runtimeEndpoint)).some((container) => container.name === name);
}

function closeNext(master: Master): string {
  const others = master.cluster.nodes.filter((node) => node.controlPlane && node.name !== master.node.name).map((node) => node.name);
  const hint = others.length > 0 ? `the same on ${others.join(", ")} where it has not been, then ` : "";
  return `${hint}./bunw scripts/${nextPart(master)}`;
}

function nextPart(master: Master): string {
  return caIsNew(master) || saKeyIsNew(master) ? "04-sa-tokens.ts" : "05-verify.ts";
}

function options() {
  return parseArgs({ options: OPTIONS, allowPositionals: true });
}

if (import.meta.main) await run(main);
