/** Part 1 stops the control plane: what no script can make again is named before, all of it at once. */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { lostHere, stopsAll, waysBack } from "../facts/lost-files.ts";
import { command, inLines, otherControlPlanes } from "../facts/next.ts";
import { Fail } from "../fail.ts";
import { containers } from "../node/containers.ts";
import { say } from "../run.ts";
import { mountedFiles } from "./memory/mounted-files.ts";
import { processesHere } from "./memory-search.ts";

/**
 * Says which files are lost, what does not run without each, and what brings them back. Errors: Fail where a living API server, which has
 * read them, would be stopped and not start again, unless `later`.
 */
export async function sayLostFiles(cp: ControlPlaneNode, { later }: { later: boolean | undefined }) {
  const lost = lostHere({ ...cp, certificatesDir: cp.facts.certificatesDir });
  if (lost.length === 0) return;
  for (const { path, program, namedBy, without } of lost)
    say(`lost, and only a copy brings it back: ${path} (${namedBy.startsWith("/") ? "" : `${program} `}${namedBy}): without it ${without}`);
  const mounted = mountedFiles((await processesHere(cp.node)).own, lost).map(({ path }) => path);
  const others = otherControlPlanes(cp.cluster, cp).map(({ name }) => name);
  for (const line of inLines(waysBack(lost, { mounted, others }))) say(`  ${line}`);
  const needed = lost.filter(stopsAll);
  const running = needed.length > 0 && !later ? await containers(cp.node.runtimeEndpoint) : [];
  const alive = running.some((one) => one.running && one.namespace === "kube-system" && one.name === "kube-apiserver");
  if (!alive) return;
  throw new Fail(`The API server here still runs, and would not start again without ${needed.map(({ path }) => path).join(", ")}`, {
    hint: `bring these files back first, by a line above. If nobody has them: ${command("01-etcd")} --files-later, and part 2 prints the choice`,
  });
}
