/** `report FILE.html`: the page of this repair, over all nodes whose transcripts are here. */
import { again } from "../again.ts";
import { goodUntil } from "../checks/forecast.ts";
import type { PartialFacts } from "../facts/control-plane-node.ts";
import type { KnownNode } from "../facts/known-nodes.ts";
import { writeTyped } from "../files/operator-files.ts";
import { PACK_RUNS } from "../node/rescue-folder.ts";
import { typed } from "../options.ts";
import { isDnsName } from "../pki/addresses.ts";
import { FEW, listed } from "../plain.ts";
import { answer, say, VERSION } from "../run.ts";
import { shell } from "../shell-line.ts";
import type { VerifiedHere } from "../verify/verify-here.ts";
import { addressToType, type Identities, identitiesOf } from "../workers/identities.ts";
import { readKeptRuns } from "./read-runs.ts";
import { byBelief, type RepairReport, repairPage } from "./repair-page.ts";

/** The facts of `report`. `here` is this node's name. */
export interface Verified extends VerifiedHere {
  here: string;
  /** The tasks for people, and the left-overs that can be deleted. */
  end: RepairReport["end"];
}

/** `logs`: the folder with other nodes' transcripts. Errors: as `readKeptRuns` and `writeTyped`. */
export function writeReport(
  file: string,
  logs: string | undefined,
  { here, known, checks, end, endings }: Verified,
) {
  const found = known?.cluster && known.data && { cluster: known.cluster, data: known.data };
  const nodes = found?.cluster.nodes ?? [];
  const { runs, notes, unchanged = [] } = readKeptRuns(here, logs, controlPlanesOf(known));
  const cluster = found && {
    ...{
      name: found.cluster.name,
      kubernetes: found.cluster.kubernetesVersion,
      nodes: nodes.map(({ name }) => name),
    },
  };
  writeTyped(
    file,
    repairPage({
      ...{ runs, notes, unchanged, checks, end, cluster },
      ...{ goodUntil: goodUntil(endings), tool: VERSION, made: new Date() },
    }),
    { mode: 0o600 },
  );
  for (const line of notes) say(`warning: ${line}`);
  const reporting = new Set(runs.map(({ node }) => node));
  const others = nodes.filter(
    ({ name }) => ![here, ...reporting, ...unchanged].includes(name) && isDnsName(name),
  );
  if (unchanged.length > 0) say(`no run changed anything on ${listed(unchanged)}`);
  say(`${runs.length} runs${whoSays(runs)}`);
  const target = nodes.find(({ name }) => name === here);
  if (found && target && others.length > 0) printHowToBring(others, target, identitiesOf(found));
}

/** ": 5 on cp1; 2 by the words of w1, w2" */
function whoSays(runs: Parameters<typeof byBelief>[0]): string {
  const { ours, others } = byBelief(runs);
  const phrase = (some: typeof runs, words: string) =>
    some.length > 0 ? [`${some.length} ${words} ${listed([...new Set(some.map(({ node }) => node))])}`] : [];
  const parts = [...phrase(ours, "on"), ...phrase(others, "by the words of")];
  return parts.length > 0 ? `: ${parts.join("; ")}` : "";
}

/** Nodes whose transcripts are believed about the cluster. */
export function controlPlanesOf(known: PartialFacts | undefined): string[] {
  return (known?.cluster?.nodes ?? []).flatMap(({ name, controlPlane }) => (controlPlane ? [name] : []));
}

/** The folder's name in RUNBOOK.md and in a plan, on that machine and on this node. */
const LOGS = "logs.d";

/** Lines for a machine that reaches all nodes: each address is that node's proved one. */
function printHowToBring(others: readonly KnownNode[], here: KnownNode, known: Identities) {
  say(
    `no transcripts from ${listed(others.map(({ name }) => name))}. To bring them, where you can reach all nodes:`,
  );
  answer(`mkdir -p -m 700 ${LOGS}`);
  for (const node of others.slice(0, FEW)) {
    const { address, why } = addressToType(node, known);
    if (why) say(`${node.name}: use the address that you know: ${why}`);
    answer(shell`ssh root@${address} ${PACK_RUNS} > ${LOGS}/${node.name}.tar`);
  }
  if (others.length > FEW)
    say(
      `and the same for ${others.length - FEW} more nodes; or by the playbook: scripts/fleet.yaml --tags report`,
    );
  answer(shell`scp -pr ${LOGS} root@${addressToType(here, known).address}:${typed(".")}/`);
  say(`then: ${again({ logs: LOGS })}`);
}
