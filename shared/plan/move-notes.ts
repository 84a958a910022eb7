/** Where machines have moved (scripts/move.ts): what is typed between the parts that repair. */
import { command } from "../again.ts";
import type { Moved } from "../pki/addresses.ts";
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
