/**
 * Part 1 stops the control plane: what ends with it for good, or is lost already and would keep it from
 * starting again, is named before.
 */
import { again, command, inLines } from "../again.ts";
import { readEvidence } from "../facts/evidence.ts";
import { believedPeers } from "../facts/known-nodes.ts";
import { lastLeaderElsewhere } from "../facts/leaders.ts";
import { flagOfLostFile, lostHere, restoredWhen } from "../facts/lost-files.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { Fail, Refused } from "../fail.ts";
import { containers } from "../node/containers.ts";
import type { Finding } from "../pki/examine.ts";
import { say } from "../run.ts";
import {
  filesStillNeeded,
  refuseNoChoice,
  restoreCommands,
  wayWithoutFiles,
} from "../static-pods/without-files.ts";
import { FoundKeys } from "./found-keys.ts";
import { mountedFiles, type Process } from "./memory/processes.ts";
import { mayHold, processesHere, searchMemory } from "./memory-search.ts";
import { isIrreplaceable, wantedKeys } from "./wanted-keys.ts";

/**
 * Says also what does not run without each, and what brings them back. Errors: Refused where a living API server,
 * which has read them, would be stopped and not start again, unless their flags are given up.
 */
export async function sayLostFiles(cp: ControlPlaneNode) {
  refuseNoChoice(cp.flagsToDrop ?? []);
  const lost = lostHere({ ...cp, certificatesDir: cp.facts.certificatesDir });
  if (lost.length === 0) return;
  for (const file of lost)
    say(
      `${restoredWhen(file) ?? "lost, and only a copy brings it back"}: ${file.path} (${flagOfLostFile(file)}): without it ${file.without}`,
    );
  const mounted = mountedFiles((await processesHere(cp.node)).own, lost).map(({ path }) => path);
  const others = believedPeers(cp.cluster, cp).map(({ name }) => name);
  const byCopies = lost.filter(({ stored }) => !stored);
  for (const line of inLines(restoreCommands(byCopies, { mounted, others, pki: cp.facts.certificatesDir })))
    say(`  ${line}`);
  const needed = filesStillNeeded(lost, cp);
  const running = needed.length > 0 ? await containers(cp.node.runtimeEndpoint) : [];
  const alive = running.some(
    (one) => one.running && one.namespace === "kube-system" && one.name === "kube-apiserver",
  );
  if (!alive) return;
  throw new Refused(
    `The API server here still runs, but could not start again without ${needed.map(({ path }) => path).join(", ")}`,
    { hint: `bring these files back first, by a line above${wayWithoutFiles(needed)}` },
  );
}

/**
 * Part 1 stops the old control plane's processes, and their memory is gone then. Errors: Fail where they hold
 * one of the keys that are to be made new; Refused where one that may hold it could not be read, unless the operator
 * gives that up (`lostOn`). Where ca.key is lost for good, sa.key alone is no reason to stop: an ending API server
 * holds it for a minute, and pods restart anyway.
 */
export async function refuseWhileMemoryHasKeys(
  made: readonly Finding[],
  cp: ControlPlaneNode,
  lostOn: readonly string[],
) {
  // an expired CA is of no use, wherever its key is
  const lost = made
    .filter(({ name, state }) => isIrreplaceable({ name }) && state !== "expired")
    .map(({ name }) => name);
  if (lost.length === 0) return;
  const evidence = readEvidence({ data: cp.data, node: cp.node, certificatesDir: cp.facts.certificatesDir });
  const wanted = wantedKeys(evidence, { certificatesDir: cp.facts.certificatesDir }).filter(({ name }) =>
    lost.includes(name),
  );
  const foundKeys = new FoundKeys(wanted, { stash: false });
  const processes = await processesHere(cp.node);
  const unread = await searchMemory(foundKeys, { data: cp.data, processes });
  // any generation: 00-salvage says which one is in use, and until then the process must not end
  const found = wanted.flatMap((one) => foundKeys.foundOf(one).slice(0, 1));
  const open = lost.filter((name) => !found.some(({ wanted }) => wanted.name === name));
  if (!lostOn.includes(cp.node.name)) refuseUnread(unread, open, cp.node.name);
  if (found.length === 0) return;
  if (lost.includes("ca") && !found.some(({ wanted: { name } }) => name === "ca"))
    return say(
      "ca.key is lost: continuing with a new CA. To keep old tokens valid, stop here and run first: ./bunw scripts/00-salvage.ts memory",
    );
  throw new Fail(
    `${found.map(({ wanted, from }) => `${wanted.keyFile} is still in ${from}`).join(", ")}: no new one is needed`,
    {
      hint: "./bunw scripts/00-salvage.ts memory puts them back; then ./bunw scripts/00-assess.ts says how to continue",
    },
  );
}

function refuseUnread(unread: readonly Process[], open: readonly string[], here: string) {
  const may = mayHold(unread, open);
  if (may.length === 0) return;
  const processes = may.map(({ name, pid }) => `${name} (pid ${pid})`).join(", ");
  throw new Refused(
    `${processes} may hold ${open.map((name) => `${name}.key`).join(", ")}, and was not read to its end`,
    {
      unchanged: true,
      hint:
        "mend the problem above, then run the same line again: this part would stop that process. " +
        `If you give up what it holds: ${again({ "lost-on": [here] }, { of: "01-etcd" })}`,
    },
  );
}

/**
 * Errors: Refused where a new CA is to be made, and the controller-manager of another control plane node led
 * last, unless the operator has looked there, or gives it up (`lostOn`). Whether that node answers proves
 * nothing: a process that is paused keeps what it has read.
 */
export function refuseWhileLeaderMayHaveKey(
  made: readonly Finding[],
  cp: ControlPlaneNode,
  lostOn: readonly string[],
) {
  // an expired CA is of no use, wherever its key is
  const leader = made.some(({ name, state }) => name === "ca" && state !== "expired")
    ? lastLeaderElsewhere(cp)
    : undefined;
  const open = leader?.nodes.filter((name) => !lostOn.includes(name)) ?? [];
  if (!leader || open.length === 0) return;
  const { host, nodes } = leader;
  const place =
    nodes.join() === host ? host : `${host} (${nodes.length > 1 ? "one of " : ""}${nodes.join(", ")})`;
  throw new Refused(
    `The controller-manager on ${place} led last: only its process may hold ca.key in memory`,
    {
      unchanged: true,
      hint:
        `go there first: on ${open[0]} ${command("plan")}. ` +
        `If ca.key is lost there, too, or ${open[0]} is lost for good: ${again({ "lost-on": nodes }, { of: "01-etcd" })}`,
    },
  );
}
