#!/usr/bin/env bun
/**
 * RUNBOOK part 0: what is damaged on this node, what survives, and the commands that repair it.
 * Reads only; run it on any node, at any time.
 */
import { assess } from "../shared/assess/assess.ts";
import { assessmentAsJson } from "../shared/assess/assessment.ts";
import { lookHere } from "../shared/assess/look-here.ts";
import {
  kubeadmConfig,
  printAssessment,
  printShort,
  tellNode,
  workersPod,
} from "../shared/assess/printed.ts";
import { deepAsked } from "../shared/assess/survivors.ts";
import { IN_ROWS, saveOptions, withSavedOptions } from "../shared/facts/typed-options.ts";
import { parseOptions } from "../shared/files/operator-files.ts";
import { useTypedOptions } from "../shared/node/words.ts";
import { answerJson, answerText, LOOKS, run, step } from "../shared/run.ts";

/**
 * Looks, and changes nothing. All that is written is what the operator says (`saveOptions`).
 * 1. Who this node is, by its kubelet, its containers and the data of its etcd.
 * 2. The cluster as it was: the names, addresses and public keys that prove every other answer.
 * 3. Each certificate, key, kubeconfig, manifest and process: a row, and what works without it.
 * 4. What survives: keys in memory, in copies, on the disk (`--deep` asks every place).
 * 5. The verdict, and the way: which parts are typed next, and on which nodes.
 * 6. For programs the same answer is JSON, and the exit code is 2 where something is damaged.
 */
async function main() {
  const values = parse();
  const { "etcd-data": etcdData, "control-plane": controlPlanes } = values;
  useTypedOptions({ "control-plane": controlPlanes });
  if (values["kubeadm-config"]) return answerText(await kubeadmConfig(etcdData));
  if (values.manifest) return answerText(await workersPod(etcdData, values.manifest));
  const deep = deepAsked(values);
  const assessment = await step(
    "0.1 Look at this node",
    async () => {
      const looked = await lookHere(etcdData);
      const cp = looked.partialFacts?.cp;
      if (cp) {
        withSavedOptions({ "etcd-data": etcdData }, cp, { shown: IN_ROWS });
        saveOptions(cp);
      }
      return await assess(looked, { deep });
    },
    LOOKS,
  );
  if (!values.json) tellNode(assessment);
  if (values.json) answerJson(assessmentAsJson(assessment));
  else if (values.output === "short") printShort(assessment);
  else printAssessment(assessment, values);
  if (assessment.damaged) process.exitCode = 2;
}

const USAGE = `Usage:
    ./bunw scripts/00-assess.ts [--deep [--no-disk | --device DEVICE | --image FILE]]
                                [--all] [--output short|json]
                                [--kubeadm-config | --manifest NODE/POD]
                                [--etcd-data DIR] [--control-plane NODE,…]

Prints the verdict on this node and the next commands, then the damage, the worst first. It says how
bad the damage is, what still works meanwhile, and where the old keys may still be. Reads only.
./bunw scripts/plan.ts prints all commands for this cluster and this damage.

Options:
    --deep           Search for each lost key in memory, in the Secret kubeadm-certs and in free
                     blocks of the disk. Print where each key can still be found, and the row of the
                     table in RUNBOOK 0.1. Row 0: all keys are here. 1: another control plane node
                     or a Secret has them. 2: they are in memory. 3: they are on the disk. 4: a new
                     CA is needed, old tokens stay valid. 5: all keys are new.
                     Reads only: a key that is found is saved nowhere.
    --no-disk        Do not read the disk, which takes long.
    --device DEVICE, --image FILE
                     Read this instead of the device that holds /etc/kubernetes.
    --all            Print also what is not damaged, the cluster as etcd's data has it, and the hash
                     of each copy of the CA.
    --output WORD    short: only what is damaged, a line each, and what comes next. json: the same
                     for programs, with the version of its fields, and a summary.
    --json           Print as --output json does.
    --kubeadm-config Print only the configuration for --config of kubeadm's phases, from etcd's
                     data: for clusters that this kit does not repair.
    --manifest NODE/POD
                     Print only the manifest of a worker's own static pod, as its kubelet has
                     reported it to etcd: for a worker that has lost it.
    --etcd-data DIR  etcd's data directory (default: found by itself). If etcd is on other machines:
                     https://HOST:2379,… (the client URLs of its members).
    --control-plane NODES
                     Count these as control plane nodes, although they were off. If etcd is on other
                     machines, only a running API server proves itself there. The names are saved
                     for all scripts on this node.

Exit codes: 0 nothing is damaged, 1 could not look, 2 damage found,
            3 refused: this is no node of a kubeadm cluster`;

const OPTIONS = {
  deep: { type: "boolean" },
  "no-disk": { type: "boolean" },
  device: { type: "string", file: "proved" },
  image: { type: "string", file: "proved" },
  all: { type: "boolean" },
  output: { type: "string", oneOf: ["short", "json"] },
  json: { type: "boolean" },
  "kubeadm-config": { type: "boolean" },
  manifest: { type: "string" },
  "etcd-data": { type: "string", path: "proved" },
  "control-plane": { type: "string", list: true },
} as const;

function parse() {
  const { values } = parseOptions({ options: OPTIONS, usage: USAGE });
  return { ...values, json: values.json || values.output === "json" };
}

if (import.meta.main) await run(main);
