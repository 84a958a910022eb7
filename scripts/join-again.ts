#!/usr/bin/env bun
/**
 * On a control plane node whose etcd data is lost, before `kubeadm reset`: saves how its kubelet
 * was started, and writes the file with which `kubeadm join` starts it in the same way
 * (RUNBOOK part 2, "The same machine comes back"). Safe to run again: what is saved is kept, or
 * is moved aside where the kubelet of today has all of it. It refuses a node that lives: its line
 * stands on another node's screen.
 */
import { refuseLivingNode } from "../shared/etcd/living-member.ts";
import { Fail } from "../shared/fail.ts";
import { exists } from "../shared/files/files.ts";
import { parseOptions } from "../shared/files/operator-files.ts";
import { JOIN_CONFIG, SAVED, type WhereItWas, whereItWas } from "../shared/node/join-config.ts";
import { KUBELET_CONFIG } from "../shared/node/kubelet-config.ts";
import { readNode } from "../shared/node/node.ts";
import { keepSaved, saveKubelet } from "../shared/node/saved-kubelet.ts";
import { shareNode } from "../shared/node/take-node.ts";
import { done, run, say, start } from "../shared/run.ts";

async function main() {
  const { values } = parse();
  if (values.help) return console.log(USAGE);
  start("join-again", { dryRun: values["dry-run"] });
  shareNode();
  const was = lineOf(values);
  const isReset = exists(JOIN_CONFIG) && !exists(KUBELET_CONFIG);
  if (isReset) keepSaved(was);
  else saveKubelet(await lostNode(was, values), was);
  say("kubeadm reset leaves the kubelet's unit, its drop-ins and /etc/default/kubelet as they are");
  done(NEXT);
}

function lineOf({ address, kubernetes }: Values): WhereItWas {
  if (address && kubernetes) return whereItWas({ address, kubernetes });
  throw new Fail("join-again needs --address and --kubernetes", {
    hint: "copy its line from the screen of 02-control-plane.ts --lost, on another node",
  });
}

async function lostNode({ host }: WhereItWas, { lost, "etcd-data": etcdData }: Values) {
  const node = await readNode();
  await refuseLivingNode(node, { host, lost, etcdData });
  return node;
}

const NEXT = [
  "kubeadm reset --force",
  "the keys from another control plane node (the line with tar that part 2 printed there)",
  `kubeadm join --config ${JOIN_CONFIG}`,
  `diff ${SAVED}/config.yaml ${KUBELET_CONFIG} (kubeadm takes it from the cluster)`,
].join(", then ");

const USAGE = `Usage:
    ./bunw scripts/join-again.ts --address IP:PORT --kubernetes VERSION [--lost NODE]
                                 [--etcd-data DIR] [--dry-run]

Run it on a control plane node whose etcd data is lost, before kubeadm reset: the same machine is
to join again. It saves the kubelet's flags and its configuration in ${SAVED}.
There it also writes join.yaml, with which kubeadm join gives the kubelet the same flags.
02-control-plane.ts --lost prints this line, on another control plane node.

It refuses a machine without that address, a worker, and a node that lives: etcd or the API server
runs on it, or another member of etcd lists it. Where etcd's data is still here, the other members
say whether this one is out. If none of them answers, --lost says it.

Options:
    --address IP:PORT     Where its API server listened, and will listen.
    --kubernetes VERSION  The cluster's version, such as v1.34.4: it decides the file's format.
    --lost NODE           The name of this node: it is lost, although etcd's data is here, or
                          although nothing shows that it was a control plane node.
    --etcd-data DIR       etcd's data directory (default: found by itself).
    --dry-run             Print what would be done; nothing is written.
    --help                Print this text.

Example:
    ./bunw scripts/join-again.ts --address 10.0.0.13:6443 --kubernetes v1.34.4

Exit codes: 0 done, 1 stopped (see the hint), 3 refused: not for this node or cluster
`;

const OPTIONS = {
  address: { type: "string" },
  kubernetes: { type: "string" },
  lost: { type: "string" },
  "etcd-data": { type: "string", path: "proved" },
  "dry-run": { type: "boolean" },
  help: { type: "boolean" },
} as const;

type Values = ReturnType<typeof parse>["values"];

function parse() {
  return parseOptions({ options: OPTIONS });
}

if (import.meta.main) await run(main);
