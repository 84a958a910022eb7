/**
 * A table by the tasks of RUNBOOK.md: what each does in a few words, what it costs the cluster, and how long it takes.
 */
import { basename } from "node:path";
import type { Task } from "../facts/course.ts";
import type { IRREVERSIBLE } from "../run.ts";
import { isSecret } from "./act.ts";

export interface Effort {
  does: string;
  costs: string;
  /** On one node: the least and the most that rehearsals measured on two cores, idle and busy. */
  seconds: readonly [number, number];
  longer?: string;
  note?: string;
  /** Sentences about what cannot be taken back, as the script says them (IRREVERSIBLE of run.ts). */
  irreversible?: readonly string[];
}

/**
 * Each act that a script announces as irreversible → the tasks whose scripts do it. A row that is missing is a type
 * error.
 */
export const IRREVERSIBLE_AT: Record<keyof typeof IRREVERSIBLE, readonly Task[]> = {
  newKeys: ["new-cas", "new-internal-cas"],
  bundle: ["hand-over"],
  memberOut: ["control-plane"],
  fullManager: ["close"],
  tokens: ["tokens"],
  restarts: ["tokens"],
  oldKey: ["retire"],
};

const NOTHING = "nothing: it reads only";
const NO_RESTART = "no container is restarted";

export const KEPT = "Keep the line that it prints: a later step types it";
export const NEW_MACHINE_NOTE =
  "At its end it prints the lines by which a new machine comes in, after part 5";
const NAMES = 'It should name no worker that has to join. If it names one: RUNBOOK.md, "Join the workers"';
/** A process with valid certificates in memory renews its Lease until it restarts. */
export const DECIDES =
  "It decides who joins. It does not name a worker that has lost its files, and whose kubelet keeps running from memory. That worker joins when its kubelet has been restarted. Then repeat this step";
const BY_NAME =
  "Say yes to ssh only if the address that it shows is the node's. ssh asks about each machine that it does not know by its node's name, also if ssh knows the address";
const NO_JOIN =
  "Only for workers that the first step of this part has named. It has named none? Skip this step";

// biome-ignore-start format: tables
const START_ETCD: Effort = {
  does: "Start etcd on its old data",
  costs: "no workload restarts",
  seconds: [2, 20],
  longer: "it copies etcd's data once",
};
export const DRY_RUN: Effort = { does: "Read which pods will restart", costs: NOTHING, seconds: [1, 5] };

/** RUNBOOK.md's task → its effort. A step that carries a file has `carrying`. */
export const EFFORTS: Record<Exclude<Task, "old-key-there">, Effort> = {
  hold: {
    does: "Stop the kubelet, and pause the controller-manager",
    costs: NO_RESTART,
    seconds: [0, 1],
    note: "These lines print nothing",
  },
  look: { does: "Look at the damage", costs: NOTHING, seconds: [1, 10] },
  "look-around": { does: "Look for the lost keys", costs: NOTHING, seconds: [1, 10] },
  salvage: {
    does: "Bring lost keys back",
    costs: `${NO_RESTART}; it writes at its end`,
    seconds: [1, 15],
    longer: "if it has to read a disk: minutes to hours",
  },
  "token-key": {
    does: "Compute the old public key of tokens",
    costs: "nothing; half a gigabyte of memory",
    seconds: [60, 120],
  },
  "end-etcd": {
    does: "Stop etcd there: it gets a new CA",
    costs: NO_RESTART,
    seconds: [0, 1],
    note: "Only if no look has found etcd/ca.key on one of them: else it comes from there, by a hand-over",
  },
  "new-cas": START_ETCD,
  "old-cas": START_ETCD,
  "new-internal-cas": START_ETCD,
  "hand-over": { does: "Pack the shared keys", costs: NO_RESTART, seconds: [1, 10] },
  unpack: { does: "Unpack the shared keys", costs: NO_RESTART, seconds: [2, 10] },
  "etcd-there": START_ETCD,
  "control-plane": {
    does: "Bring the control plane back",
    costs: "the API is back at its end; no workload restarts",
    seconds: [5, 40],
  },
  open: {
    does: "See which workers have to join, and make a token for them",
    costs: NO_RESTART,
    seconds: [1, 25],
    note: NAMES,
  },
  join: {
    does: "Join the worker again",
    costs: "its kubelet restarts, and no container",
    seconds: [1, 10],
    note: NO_JOIN,
  },
  close: {
    does: "Wait for the nodes, and close part 3",
    costs: "the controller-manager restarts if it ran reduced",
    seconds: [1, 60],
    longer: "it waits for nodes that are not back, 15 minutes at most",
  },
  "delete-nodes": {
    does: "Delete the Node of what is lost for good",
    costs: "its pods start on other nodes: that machine must not run any more",
    irreversible: [
      "irreversible: the labels, taints and annotations of the Node are gone. There is no way back",
    ],
    seconds: [1, 5],
  },
  tokens: {
    does: "Renew tokens, and restart the pods",
    costs: "every pod with an old token or the old CA restarts, by its own rolling update",
    seconds: [10, 100],
    longer: "your rolling updates take what they take",
  },
  retire: {
    does: "Take the old key of tokens out",
    costs: "the API server restarts once, on one node after the other",
    seconds: [1, 40],
    note: "First restart what part 4 named and left to you: bare pods, Jobs",
  },
  verify: { does: "Verify", costs: NOTHING, seconds: [1, 10] },
  report: {
    does: "Write the report",
    costs: NOTHING,
    seconds: [1, 15],
    note: "It says what was lost and what came back, for those who were asleep. It ends with 2 where a check fails",
  },
  backup: {
    does: "Make the backup of the keys",
    costs: "nothing",
    seconds: [1, 10],
    note: "In a terminal: it shows the passphrase once. Write it down, and keep it elsewhere than the file",
  },
  "backup-there": { does: "Let the others know of the backup", costs: "nothing", seconds: [1, 2] },
  "backup-away": {
    does: "Remove the backup from the node",
    costs: "nothing",
    seconds: [0, 1],
    note: "When keys.age lies where it is to stay",
  },
  remove: {
    does: "Remove what the repair has saved",
    costs: "nothing of the cluster",
    irreversible: [
      "irreversible: the old files and etcd's old data are deleted, so this repair cannot be undone any more",
    ],
    seconds: [0, 2],
    note: "When nothing is missing any more: that may be days from now",
  },
  "verify-again": {
    does: "Verify once more: only your own tasks are left to warn of",
    costs: NOTHING,
    seconds: [1, 10],
  },
  "remove-kit": {
    does: "Remove the kit, with every passphrase, token and bundle in it",
    costs: "nothing",
    seconds: [0, 1],
  },
};

const MOVED = 'RUNBOOK-MORE.md, "Machines that moved", says more';

/** Between the parts, where machines have moved or etcd's data is restored. */
export const MOVES = {
  others: {
    does: "Put the new addresses into the node's files",
    costs: `the kubelet stops until part 2; ${NO_RESTART}`,
    seconds: [1, 10],
    note: MOVED,
  },
  workers: {
    does: "Put the new addresses into the worker's files: no join, no token",
    costs: "its kubelet restarts, and no container. Nothing, where no file names an old address",
    seconds: [1, 15],
    note: MOVED,
  },
  end: {
    does: "Put the new addresses into the cluster's objects",
    costs: "pods restart that keep an old address in memory, such as kube-proxy's",
    seconds: [2, 60],
    note: `It also prints lines that find what still has an old address. ${MOVED}`,
  },
  restored: {
    does: "Restart the worker's kubelet",
    costs: "pods stop that etcd's data does not know: they are later than the snapshot",
    seconds: [0, 1],
    note: 'A Node that joined since the snapshot registers only when its kubelet starts. RUNBOOK-MORE.md, "Only a snapshot is left", says more',
  },
} satisfies Record<string, Effort>;
// biome-ignore-end format: tables

export const KIT: Effort = {
  does: "Bring the kit to the other nodes",
  costs: "nothing: it lies in memory",
  seconds: [2, 20],
  note: "On your machine, in the folder with the kit.tar.gz that was packed. It prints nothing when all is well",
};

/** Where the keys are on another node. */
export const THERE: Effort = { does: "Make the plan there", costs: NOTHING, seconds: [1, 15] };

export const GATHER: Effort = { does: "Bring the other nodes' transcripts", costs: NOTHING, seconds: [1, 2] };

export function fetching(file: string): Effort {
  const note = "The file comes into your home";
  return { does: `Copy ${basename(file)}`, costs: "nothing", seconds: [1, 2], note };
}

export function carrying(files: readonly string[]): Effort {
  const names = files.map((file) => basename(file));
  const notes = names.includes("token") ? [NO_JOIN, BY_NAME] : [BY_NAME];
  const note = isSecret(files) ? { note: notes.join(". ") } : {};
  return { does: `Carry ${names.join(" and ")}`, costs: "nothing", seconds: [1, 2], ...note };
}
