#!/usr/bin/env bun
/**
 * On a control plane node whose etcd data is lost, before `kubeadm reset`: saves how its kubelet
 * was started, and writes the file with which `kubeadm join` starts it in the same way
 * (RUNBOOK-MORE, "The same machine comes back"). Safe to run again: each save has a folder of its
 * own, and none is changed later. After the reset it makes the new save from the last one. It
 * refuses a living node, as its line is printed on another node.
 */
import { refuseLivingNode, refuseOtherMachine } from "../shared/etcd/living-member.ts";
import { Fail, UsageError } from "../shared/fail.ts";
import { exists, readText, writeFile } from "../shared/files/files.ts";
import { begin, type OptionValues } from "../shared/files/operator-files.ts";
import {
  joinConfig,
  ownFlags,
  shownFlags,
  type WhereItWas,
  whereItWas,
} from "../shared/node/join-config.ts";
import { lockNodeShared } from "../shared/node/kept-run.ts";
import { KUBELET_CONFIG, KUBELET_DIR } from "../shared/node/kubelet-config.ts";
import { machineAddresses, readNode } from "../shared/node/node.ts";
import { newRescue, rescueFolders, SAVED_BELOW } from "../shared/node/rescue-folder.ts";
import { orUndefined } from "../shared/pki/certificate.ts";
import { done, run, say } from "../shared/run.ts";
import { shell } from "../shared/shell-line.ts";
import { isMapping, readYaml } from "../shared/yaml.ts";

async function main() {
  const { values } = begin("join-again", { options: OPTIONS, usage: USAGE }, lockNodeShared);
  const node = lineOf(values);
  const saves = rescueFolders().map(({ dir }) => `${dir}/${SAVED_BELOW}`);
  const last = saves.find((folder) => exists(joinYaml(folder)));
  // kubeadm reset removes both
  const isReset = last !== undefined && !FILES.some((file) => exists(`${KUBELET_DIR}/${file}`));
  const folder = save(
    isReset ? await kubeletIn(last, node) : await kubeletHere(node, values),
    node,
  );
  if (last) sayDifference(last, folder);
  say("kubeadm reset leaves the kubelet's unit, its drop-ins and /etc/default/kubelet as they are");
  done(next(folder));
}

function lineOf({ address, kubernetes }: Values): WhereItWas {
  if (address && kubernetes) return whereItWas({ address, kubernetes });
  throw new UsageError("join-again needs --address and --kubernetes", {
    hint: "copy join-again.ts's line from the screen of 02-control-plane --lost, on another node",
  });
}

interface Kubelet {
  /** The Node's name. */
  name: string;
  criSocket: string;
  /** The folder with its files. */
  from: string;
}

async function kubeletHere({ host }: WhereItWas, values: Values): Promise<Kubelet> {
  const node = await readNode();
  await refuseLivingNode(node, { host, lost: values.lost, etcdData: values["etcd-data"] });
  return { name: node.name, criSocket: node.runtimeEndpoint, from: KUBELET_DIR };
}

/** After kubeadm reset only the saved files describe the kubelet. */
async function kubeletIn(folder: string, { host }: WhereItWas): Promise<Kubelet> {
  refuseOtherMachine({ addresses: await machineAddresses() }, host);
  const path = joinYaml(folder);
  const config = orUndefined(() => readYaml(readText(path) ?? ""));
  const { name, criSocket } =
    isMapping(config) && isMapping(config.nodeRegistration) ? config.nodeRegistration : {};
  if (typeof name === "string" && typeof criSocket === "string")
    return { name, criSocket, from: folder };
  throw new Fail(`Cannot use "${path}": it is no YAML, or names no node and no criSocket`, {
    hint: `repair that file by hand: the kubelet's flags are in ${folder}/kubeadm-flags.env`,
  });
}

const FILES = ["config.yaml", "kubeadm-flags.env"];
const PRIVATE = { mode: 0o600, folderMode: 0o700 };

function save({ name, criSocket, from }: Kubelet, was: WhereItWas): string {
  const flags = ownFlags(from);
  say(`the kubelet of ${name} has these flags of yours: ${shownFlags(flags) || "none"}`);
  const folder = `${newRescue().dir}/${SAVED_BELOW}`;
  for (const file of FILES) {
    const text = readText(`${from}/${file}`);
    // the kubelet's flags may name a configuration of the operator's instead
    if (text !== undefined) writeFile(`${folder}/${file}`, text, PRIVATE);
  }
  // last: if it exists, all is saved
  const config = joinConfig({ name, criSocket, flags }, was);
  writeFile(joinYaml(folder), config, { ...PRIVATE, note: "for kubeadm join" });
  return folder;
}

const joinYaml = (folder: string) => `${folder}/join.yaml`;

function joinLine(folder: string): string {
  const path = joinYaml(folder);
  return shell`kubeadm join --config ${path}`;
}

/** A failed join, or a hand-written join.yaml, may have changed them: the operator chooses. */
function sayDifference(last: string, folder: string) {
  const differs = (file: string) => readText(`${last}/${file}`) !== readText(`${folder}/${file}`);
  const others = [...FILES, "join.yaml"].filter(differs);
  if (others.length === 0) return;
  const diff = shell`diff -r ${last} ${folder}`;
  say(`warning: the previous save has another ${others.join(", ")}: ${diff}`);
  say(`if the previous one is right: ${joinLine(last)}`);
}

function next(folder: string): string {
  const config = `${folder}/config.yaml`;
  const diff = shell`diff ${config} ${KUBELET_CONFIG}`;
  return [
    "kubeadm reset --force",
    "the keys from another control plane node (the line with tar that part 2 printed there)",
    joinLine(folder),
    ...(exists(config) ? [`${diff} (kubeadm takes it from the cluster)`] : []),
  ].join(", then ");
}

const USAGE = `Usage:
    ./bunw scripts/join-again.ts --address IP:PORT --kubernetes VERSION [--lost NODE]
                                 [--etcd-data DIR] [--dry-run]

Run it on a control plane node whose etcd data is lost, before kubeadm reset: the same machine is to
join again. It saves the kubelet's flags and its configuration in a new rescue folder, below
/root/kube-pki-repair-TIME/${SAVED_BELOW}. There it also writes join.yaml, with which kubeadm join
gives the kubelet the same flags. If you run it after the reset, it takes the flags that it has
saved last. 02-control-plane.ts --lost prints this line, on another control plane node.

It refuses a machine without that address, a worker, and a living node. A node lives if etcd or the
API server runs on it, or if another member of etcd lists it. If etcd's data is still here, the
other members say whether this one was removed. If none of them answers, --lost says so.

Options:
    --address IP:PORT     The address of its API server, before and after.
    --kubernetes VERSION  The cluster's version, such as v1.34.4: it decides the file's format.
    --lost NODE           The name of this node: it is lost, although etcd's data is here, or
                          although nothing shows that it was a control plane node.

Exit codes: 0 done, 1 stopped (see the hint), 3 refused: not for this node or cluster`;

const OPTIONS = {
  address: { type: "string" },
  kubernetes: { type: "string" },
  lost: { type: "string" },
  "etcd-data": { type: "string", path: "proved" },
  "dry-run": { type: "boolean" },
} as const;

type Values = OptionValues<typeof OPTIONS>;

if (import.meta.main) await run(main);
