#!/usr/bin/env bun
/**
 * RUNBOOK part 3, on each worker, between `03-workers open` and `close`: its kubelet trusts the new
 * CA and asks for a new client certificate; its configuration and all containers stay. Safe to run
 * again: it continues where it was stopped, or puts the old files back.
 */
import { command, inOneLine } from "../shared/again.ts";
import { UsageError } from "../shared/fail.ts";
import { begin, type OptionValues } from "../shared/files/operator-files.ts";
import { lockNode } from "../shared/node/kept-run.ts";
import type { Node } from "../shared/node/node.ts";
import { done, run, say, step } from "../shared/run.ts";
import { orUndo } from "../shared/this-run.ts";
import * as worker from "../shared/workers/join.ts";
import {
  endJoin,
  rollBack,
  saveTrust,
  wasCutOff,
  wayToApi,
} from "../shared/workers/saved-trust.ts";
import { readTokenFile } from "../shared/workers/token-file.ts";

/**
 * A worker changes its trust, and takes the old one back if the new one does not work:
 * 1. Reads this node, the token and the CA's hash, and asks the API before anything stops.
 * 2. A kubelet that has a certificate of this CA already needs nothing.
 * 3. Keeps the old trust: kubelet.conf, the CA and the client certificates.
 * 4. Writes the new CA and a bootstrap kubeconfig, and starts the kubelet. Containers run on.
 * 5. Proves that the kubelet has its new certificate and renews its Lease.
 * Without that proof in time the old files come back, and the kubelet starts with them.
 */
async function main() {
  const { values } = begin("03-join", { options: OPTIONS, usage: USAGE }, lockNode);
  const { "etcd-data": etcdData, "ca-hash": hashes, "token-file": file } = values;
  const node = await worker.readWorker(etcdData, "repair", { file, hashes });
  worker.refuseLeftOut(node, values);
  const paste = pasted(values);
  const joined = await worker.joinedCa(node, paste.hashes);
  if (joined && !wasCutOff(node))
    say(`${node.name}: has a certificate of this CA already, nothing to do`);
  else if (joined)
    await prove(node, { ca: joined, saved: await saveTrust(node), given: paste.server });
  else await prove(node, await changeTrust(node, paste));
  endJoin(node, paste.file);
  const again = { command: command("03-join"), called: "the same" };
  const close = { command: command("03-workers close"), on: "each control plane node" };
  done(inOneLine([{ ...again, on: "the other workers that open has named" }, close]));
}

type Paste = ReturnType<typeof pasted>;

function pasted({ server, "ca-hash": hashes, "token-file": file }: Values) {
  if (server && hashes.length > 0) return { server, hashes, file };
  throw new UsageError("03-join needs --server and --ca-hash", {
    hint: "paste the line that ./bunw scripts/03-workers.ts open printed",
  });
}

async function changeTrust(node: Node, { server, hashes, file }: Paste) {
  const trust = await step(
    "3.2 Check the new CA by its fingerprint, and the server by the CA",
    async () => {
      const carried = readTokenFile(file, hashes, node.name);
      return { ...carried, ...(await wayToApi(node, server, carried)) };
    },
  );
  await worker.refuseCannotAsk(node, trust);
  const saved = await step("3.3 Save this worker's old trust", () => saveTrust(node));
  const swap = () =>
    step("3.4 Swap the trust and restart the kubelet", () => worker.swapTrust(node, trust, saved));
  await orUndo(swap, () => rollBack(saved));
  return { ca: trust.ca, saved, given: server };
}

function prove(node: Node, changed: Awaited<ReturnType<typeof changeTrust>>) {
  return step("3.5 Prove that this worker's kubelet renews its Lease", () =>
    worker.proveKubelet(node, changed),
  );
}

const USAGE = `Usage:
    ./bunw scripts/03-join.ts --server URL --ca-hash sha256:HASH --token-file FILE
                              [--without NODE,…] [--lost NODE,…] [--dry-run]

Run it on each worker, after 03-workers open on the first control plane node, which prints this
line. It gives the kubelet the new CA and a new client certificate; the kubelet's configuration and
all containers stay. If the certificate does not come, the script puts the old files back. If the
script is stopped meanwhile, run it again. At its end it removes the token file.

Options:
    --server URL       The API's address, as open prints it.
    --ca-hash HASHES   The new CA's fingerprint, as open prints it (kubeadm calls it
                       --discovery-token-ca-cert-hash). If the CA file has several certificates: all
                       fingerprints, with commas between them.
    --token-file FILE  The token and the CA (default: token). open wrote this worker's own to
                       token.d/NODE/token on the first control plane node. Copy it with scp.
    --without NODES, --lost NODES
                       Nodes that were left out with open: they do not join.
    --etcd-data DIR    The place of etcd's data, if this were a control plane node (default: all
                       usual places are looked at).`;

const OPTIONS = {
  server: { type: "string" },
  "ca-hash": { type: "string", list: true },
  "token-file": { type: "string", default: "token", file: "proved" },
  without: { type: "string", list: true },
  lost: { type: "string", list: true },
  "etcd-data": { type: "string", path: "proved" },
  "dry-run": { type: "boolean" },
} as const;

type Values = OptionValues<typeof OPTIONS>;

if (import.meta.main) await run(main);
