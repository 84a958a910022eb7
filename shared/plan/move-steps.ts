/**
 * What is typed between the parts that repair: where machines have moved (scripts/move.ts), and where etcd's
 * data is restored (scripts/restore.ts).
 */
import { command } from "../again.ts";
import type { Cluster } from "../facts/cluster.ts";
import { hostsSaid, type Moved, meansWorkers, thatMoved } from "../pki/addresses.ts";
import { type Effort, MOVES } from "./effort.ts";
import { sshLines } from "./paste.ts";
import type { PlanFacts } from "./plan-facts.ts";
import { nodesAt, type PlanNode } from "./plan-nodes.ts";
import type { Placed } from "./plan-steps.ts";

interface Around {
  nodes: readonly PlanNode[];
  facts: Pick<PlanFacts, "known" | "moved" | "isRestored" | "user">;
  /** With a new CA each worker joins, which restarts its kubelet. */
  joins: boolean;
}

/**
 * In their places: other control plane nodes learn it before part 1, workers before part 3, which waits for
 * their kubelets, and the cluster before the proof, as what restarts kube-proxy needs every kubelet.
 */
export function withMoves(steps: readonly Placed[], around: Around): Placed[] {
  const { user } = around.facts;
  return typedBetween(around).reduce<Placed[]>(
    (all, { before, at, line, effort }) => {
      // what only prepares a part, such as the kit, comes first
      const index = all.findIndex(({ part, task }) => task !== undefined && part >= before);
      if (index < 0 || at.length === 0) return all;
      const on = { way: "on" as const, on: at.map(({ name }) => name), sideBySide: false };
      const lines = sshLines(user, at, line);
      return all.toSpliced(index, 0, { ...effort, ...on, part: all[index]!.part, lines, exit: [0] });
    },
    [...steps],
  );
}

interface Between {
  /** A part's number. */
  before: number;
  at: readonly PlanNode[];
  line: string;
  effort: Effort;
}

function typedBetween({ nodes, facts: { known, moved, isRestored }, joins }: Around): Between[] {
  const workers = nodesAt(nodes, "each-worker");
  const restart = { before: 3, at: workers, line: "systemctl restart kubelet", effort: MOVES.restored };
  const restarts = isRestored && !joins ? [restart] : [];
  if (moved.size === 0 || !known) return restarts;
  const names = namesToTell(moved, known.cluster);
  const told = nodesAt(nodes, "each-control-plane").filter(({ name }) => names.includes(name));
  const line = command("move", { moved: [...moved].map((pair) => pair.join("=")) });
  return [
    { before: 1, at: told.filter(isOther), line, effort: MOVES.others },
    { before: 3, at: meansWorkers(moved, known.cluster) ? workers : [], line, effort: MOVES.workers },
    ...restarts,
    { before: 5, at: told, line: command("move"), effort: MOVES.end },
  ];
}

/** Names of those who have moved; of all, where what they lead to is another one. */
function namesToTell(moved: Moved, { nodes }: Cluster): readonly string[] {
  const ofNodes = new Set(nodes.flatMap(hostsSaid));
  const onlyMachines = [...moved.values()].every((one) => ofNodes.has(one));
  return (onlyMachines ? thatMoved(nodes, moved) : nodes).map(({ name }) => name);
}

const isOther = ({ role }: PlanNode) => role === "control plane node";
