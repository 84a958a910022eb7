/**
 * What is typed between the parts that repair: where machines have moved (scripts/move.ts), and where etcd's
 * data is restored (scripts/restore.ts).
 */
import { command } from "../again.ts";
import type { Moved } from "../pki/addresses.ts";
import { unpackLine } from "./lying-here.ts";
import type { Note } from "./notes.ts";
import { sshLines } from "./paste.ts";
import { nodesAt, type PlanNode } from "./plan-nodes.ts";

interface Around {
  nodes: readonly PlanNode[];
  moved: Moved;
  user: string;
}

/** Before part 3, which waits for their kubelets. */
export function moveOfWorkers({ nodes, moved, user }: Around): Note[] {
  const pairs = [...moved].map((pair) => pair.join("="));
  return noteOf(
    sshLines(user, nodesAt(nodes, "each-worker"), command("move", { moved: pairs })),
    `Machines have moved (${[...moved].map((pair) => pair.join(" → ")).join(", ")}). First each worker's own files: no join, no token. It changes none that names no old address`,
    moved,
  );
}

/** Before the proof: what restarts kube-proxy needs every kubelet. */
export function endOfMove({ nodes, moved, user }: Around): Note[] {
  return noteOf(
    sshLines(user, nodesAt(nodes, "each-control-plane"), command("move")),
    "On each control plane node that has moved: what is left, the cluster's own objects and pods",
    moved,
  );
}

function noteOf(lines: ReturnType<typeof sshLines>, text: string, moved: Moved): Note[] {
  if (moved.size === 0 || lines.length === 0) return [];
  return [
    { text: `${text}. RUNBOOK-MORE.md, "Machines that moved".`, commands: lines.map((line) => line.text) },
  ];
}

/** Before part 3, where workers do not join, which restarts their kubelets. */
export function restartAfterRestore({ nodes, user }: Pick<Around, "nodes" | "user">): Note[] {
  const lines = sshLines(user, nodesAt(nodes, "each-worker"), "systemctl restart kubelet");
  if (lines.length === 0) return [];
  const text =
    'etcd\'s data is restored. A Node that joined since then registers only when its kubelet starts, and pods that the data does not know end then. RUNBOOK-MORE.md, "Only a snapshot is left".';
  return [{ text, commands: lines.map((line) => line.text) }];
}

/** Before new keys are made. `plan`: prints it again. */
export function bundleNote([bundle]: readonly string[], plan: string): Note[] {
  if (bundle === undefined) return [];
  const text = `A bundle of keys lies here: ${bundle}. With the old keys no worker joins, and no pod restarts: this comes first. Then print the plan again.`;
  return [{ text, commands: [unpackLine(bundle), plan] }];
}
