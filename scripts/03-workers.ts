#!/usr/bin/env bun
/**
 * RUNBOOK part 3: every kubelet trusts the new CA and has a new client certificate, and the
 * controller-manager runs in full again. `open` on the first control plane node, then `join` on
 * each worker, then `close` on each control plane node. Safe to run again. `open` starts `approve`.
 */
import { adminApi } from "../shared/api/admin-api.ts";
import { ANY_WORKER, openJoining, TOKEN_GROUP } from "../shared/api/bootstrap-tokens.ts";
import { leftOut } from "../shared/etcd/all-members.ts";
import { saySilentMembers } from "../shared/etcd/silent-members.ts";
import { refuseNoJoining } from "../shared/facts/bootstrap-auth.ts";
import { caIsNew } from "../shared/facts/ca-copies.ts";
import { refuseStrangers } from "../shared/facts/cluster.ts";
import { type ControlPlaneNode, controlPlaneToRepair } from "../shared/facts/control-plane-node.ts";
import * as next from "../shared/facts/next.ts";
import { trustSeen } from "../shared/facts/sa-key.ts";
import { command, inOneLine, type LeftOut, leftNames } from "../shared/facts/todo.ts";
import { Fail } from "../shared/fail.ts";
import { parseOptions } from "../shared/files/operator-files.ts";
import { shareNode, takeNode } from "../shared/node/take-node.ts";
import { clusterCa } from "../shared/pki/examine.ts";
import { clusterServer } from "../shared/pki/kubeconfigs.ts";
import { trustedKeys } from "../shared/pki/trusted-keys.ts";
import { answer, done, mode, run, say, start, step, tell } from "../shared/run.ts";
import { shell } from "../shared/shell-line.ts";
import { orUndo } from "../shared/signals.ts";
import { fullControllerManager, whereToClose } from "../shared/static-pods/full-manager.ts";
import { keepWorkersPods } from "../shared/static-pods/workers-pods.ts";
import { APPROVES, endBySignal, endJoining, startApprover } from "../shared/workers/approver.ts";
import * as worker from "../shared/workers/join.ts";
import { withoutServing } from "../shared/workers/kubelet-port.ts";
import * as seen from "../shared/workers/nodes-seen.ts";
import { wayToApi } from "../shared/workers/own-server.ts";
import { endJoin, rollBack, saveTrust, wasCutOff } from "../shared/workers/saved-trust.ts";
import { readTokenFile, sayTokens, writeTokenFiles } from "../shared/workers/token-file.ts";
import { approveJoining, watchNodesReturn } from "../shared/workers/wait.ts";
import { waitForRootCa } from "../shared/workloads/root-ca.ts";

async function main() {
  const { values, positionals } = parseOptions(CONFIG);
  if (values.help) return console.log(USAGE);
  const name = positionals.join(" ");
  const subcommand = COMMANDS.get(name);
  if (!subcommand)
    throw new Fail(`03-workers needs one of open, join, close, approve, got "${name}"`, {
      hint: "./bunw scripts/03-workers.ts --help",
    });
  start(`03-workers ${name}`, { dryRun: values["dry-run"] });
  (name === "approve" ? shareNode : takeNode)(); // approve runs beside open and close
  await subcommand(values);
}

const COMMANDS = new Map(Object.entries({ open, join, close, approve }));

async function open(values: Values) {
  const { cp, api, out } = await onControlPlane(values, "03-workers open");
  const silent = caIsNew(cp) ? undefined : await seen.findSilent(cp, api, leftNames(out));
  if (silent) seen.saySilent(silent);
  if (silent?.workers.length === 0) return await nobodyJoins({ cp, api, out }, silent);
  await step(
    "3.1 Make a bootstrap token for each worker",
    () => makeTokens({ cp, api, out }, values["token-file"], values["one-token"]),
    `kubeadm token create --ttl 2h --groups ${TOKEN_GROUP}; kubectl certificate approve CSR`,
  );
  printJoinLine(cp, values["token-file"], out);
  seen.sayWindows(cp, out, silent);
  tell("");
  keepWorkersPods(cp, leftNames(out));
  await startApprover({ ...values, ...out });
  tell(`\nthen ${inOneLine(next.closing(out))}`);
}

/** With the old CA, a kubelet may still wait: its serving certificate has expired, and it asks. */
async function nobodyJoins({ cp, api, out }: Scene, { controlPlanes, unrepaired }: seen.Silent) {
  const silentControlPlanes = [...unrepaired, ...controlPlanes];
  const of = { asking: await withoutServing(cp), without: leftNames(out) };
  const closeOn = silentControlPlanes.length === 0 ? await whereToClose(cp, api, of) : [];
  const end = { silentControlPlanes, closeOn, ...trustSeen(cp) };
  done(inOneLine(next.afterIdleOpen(next.routeOf(cp, out), end)));
}

type Worker = Awaited<ReturnType<typeof worker.readWorker>>;

async function changeTrust(
  node: Worker,
  paste: { server: string; hashes: string[]; file: string },
) {
  const trust = await step(
    "3.2 Check the new CA by its fingerprint, and the server by the CA",
    async () => {
      const carried = readTokenFile(paste.file, paste.hashes, node.name);
      return { ...carried, ...(await wayToApi(node, paste.server, carried.ca)) };
    },
  );
  const saved = await step("3.3 Save this worker's old trust", () => saveTrust(node));
  const swap = () =>
    step("3.4 Swap the trust and restart the kubelet", () => worker.swapTrust(node, trust, saved));
  await orUndo(swap, () => rollBack(saved));
  return { ca: trust.ca, saved };
}

async function join(values: Values) {
  const node = await worker.readWorker(values["etcd-data"]);
  worker.refuseLeftOut(node, values);
  const { server, "ca-hash": hashes, "token-file": file } = values;
  if (!server || hashes.length === 0)
    throw new Fail("join needs --server and --ca-hash", {
      hint: "paste the line that ./bunw scripts/03-workers.ts open printed",
    });
  const joined = await worker.joinedCa(node, hashes);
  if (joined && !wasCutOff(node))
    say(`${node.name}: has a certificate of this CA already, nothing to do`);
  else {
    const changed = joined
      ? { ca: joined, saved: await saveTrust(node) }
      : await changeTrust(node, { server, hashes, file });
    await step("3.5 Prove that this worker's kubelet renews its Lease", () =>
      worker.proveKubelet(node, changed),
    );
  }
  endJoin(node, file);
  done(inOneLine(next.afterJoin(values)));
}

async function approve(values: Values) {
  const { cp, api, out } = await onControlPlane(values);
  endBySignal();
  await step(
    APPROVES,
    () => approveJoining(cp, api, out),
    "kubectl get csr; kubectl certificate approve CSR",
  );
  done(inOneLine(next.closing(out)));
}

async function close(values: Values) {
  const { cp, api, out } = await onControlPlane(values, "03-workers close", true);
  await step(
    "3.6 Wait for the nodes and approve their serving certificates",
    () => watchNodesReturn(cp, api, { out, minutes: Number(values.wait) }),
    "kubectl get nodes; kubectl get csr; kubectl certificate approve CSR",
  );
  await step(
    "3.7 Let the controller-manager run in full again",
    () => fullControllerManager(cp, api),
    "mv kube-controller-manager.yaml out, restore --controllers from its annotations, mv it back",
  );
  await step(
    "3.8 Revoke the token",
    () => endJoining(api),
    "kubeadm token delete ID; kubectl delete clusterrolebinding NAME",
  );
  done(inOneLine(next.afterClose(next.routeOf(cp, out), trustSeen(cp))));
}

type Scene = Awaited<ReturnType<typeof onControlPlane>>;

async function onControlPlane(values: Values, words?: string, mayBeDeleted = false) {
  const cp = await controlPlaneToRepair(values["etcd-data"], values.endpoint);
  refuseStrangers(values, cp, { mayBeDeleted });
  const api = await adminApi(cp);
  await seen.refuseDeafLeases(cp, api);
  const out = await seen.reallyOut(cp, api, await leftOut(cp, values));
  if (words) await saySilentMembers(cp, words, leftNames(out));
  return { cp, api, out };
}

async function makeTokens({ cp, api, out }: Scene, file: string, isOne: boolean) {
  refuseNoJoining(cp);
  const caPem = clusterCa(cp.facts.certificatesDir);
  await waitForRootCa(api, caPem);
  const nodes = isOne ? [ANY_WORKER] : seen.workersOf(cp, leftNames(out));
  if (mode.dryRun) return sayTokens(file, nodes);
  await writeTokenFiles(file, () => openJoining(api, nodes), caPem);
}

/** The answer of `open`: on stdout, so that it can be piped. */
function printJoinLine({ facts }: ControlPlaneNode, file: string, out: LeftOut) {
  const ca = [...trustedKeys(clusterCa(facts.certificatesDir))].join(",");
  tell("\nOn each worker, as root, in the kit's folder, with its own token file in it:");
  const at = clusterServer(facts);
  answer(command(shell`03-workers join --server ${at} --ca-hash ${ca} --token-file ${file}`, out));
}

const USAGE = `Usage:
    ./bunw scripts/03-workers.ts open [--token-file FILE] [--one-token] [--endpoint HOST:PORT]
                                      [--without NODE,…] [--lost NODE,…] [--dry-run]
    ./bunw scripts/03-workers.ts join --server URL --ca-hash sha256:HASH --token-file FILE
                                      [--without NODE,…] [--lost NODE,…] [--dry-run]
    ./bunw scripts/03-workers.ts close [--wait MINUTES] [--without NODE,…] [--lost NODE,…]
                                      [--dry-run]
    ./bunw scripts/03-workers.ts approve [--without NODE,…] [--lost NODE,…] [--dry-run]

open:    On the first control plane node. Makes a bootstrap token for each worker (valid for 2
         hours), writes it with the CA to token.d/NODE/token, and prints the line for the workers.
         Starts approve as a unit of systemd. A second open revokes the first tokens.
join:    On each worker. The kubelet trusts the new CA and asks for a new client certificate; its
         configuration and all containers stay. If the certificate does not come, the old files come
         back; if join is stopped meanwhile, run it again. At its end it removes the token file.
close:   On each control plane node. Waits until all nodes are back, approves serving certificates
         of nodes that etcd knew, lets the controller-manager run in full again, and removes
         everything that open has made.
approve: Where open was. Approves client certificates of workers that etcd knew: each one's own,
         once, while it does not renew its Lease. Run it by hand only where systemd-run fails.

Options:
    --token-file FILE  What join reads, the token and the CA (default: token); open writes each
                       worker's own to FILE.d/NODE/FILE. Copy them with scp; mode 0600.
    --one-token        One token for all workers, in FILE: each can ask in another's name with it.
    --endpoint HOST:PORT  Where the workers reach the API, where nothing decides it.
    --server URL       The API's address, as open prints it.
    --ca-hash HASHES   The new CA's fingerprint, as open prints it (kubeadm calls it
                       --discovery-token-ca-cert-hash); of several certificates, each.
    --without NODES    Nodes that are away for now: no certificate of theirs is approved, and close
                       does not wait for them. After close their pods are evicted. When one comes
                       back: open, join there, close; with the old CA nothing.
    --lost NODES       The same for nodes that are lost for good: close prints what deletes their
                       Nodes. A node that renews its Lease is refused. join only prints both on.
    --wait MINUTES     How long close waits for the nodes (default: 15).
    --etcd-data DIR    etcd's data directory (default: found by itself).
    --dry-run          Print what would be done; nothing is written, stopped or started.
    --help             Print this text.

Exit codes: 0 done, 1 stopped (see the hint), 3 refused: not for this node or cluster,
            4 locked by another run, 130 ended by a signal
`;

const OPTIONS = {
  "one-token": { type: "boolean", default: false, of: ["open"] },
  "token-file": {
    file: { open: "written", join: "proved" },
    type: "string",
    default: "token",
    of: ["open", "join"],
  },
  server: { type: "string", of: ["join"] },
  "ca-hash": { type: "string", list: true, of: ["join"] },
  endpoint: { type: "string", of: ["open"] },
  without: { type: "string", list: true },
  lost: { type: "string", list: true },
  wait: { type: "string", default: "15", number: true, of: ["close"] },
  "etcd-data": { type: "string", path: "proved" },
  "dry-run": { type: "boolean" },
  help: { type: "boolean" },
} as const;

const CONFIG = { options: OPTIONS, allowPositionals: true } as const;
type Values = ReturnType<typeof parseOptions<typeof CONFIG>>["values"];

if (import.meta.main) await run(main);
