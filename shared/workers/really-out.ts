/** Who is left out, and is here all the same: what was said ends where a node shows itself. */
import { command, type LeftOut, leftNames } from "../again.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { allRenewals, mayBeAlive, nodeLeases } from "../api/leases.ts";
import { trustedSince } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { machinesOn, saidBefore } from "../facts/said.ts";
import { Refused } from "../fail.ts";
import { endWords, endWordsOf, isTyped, wordsOf } from "../node/words.ts";
import { mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { listeningOn } from "./kubelet-port.ts";

/**
 * Of the nodes that are left out, those that really are: who renews its Lease is here, whatever was typed.
 * `gone`: their members are out of etcd. Errors: Refused where such a node, or one that this run's line calls lost
 * for good, is here: its Node would be deleted. What was said before ends so.
 */
export async function reallyOut(
  cp: ControlPlaneNode,
  api: KubeApi,
  { gone = [], ...out }: LeftOut & { gone?: readonly string[] },
): Promise<LeftOut> {
  if (leftNames(out).length === 0) return out;
  const renewals = await allRenewals(api);
  const names = leftNames(out).filter((name) => renewals.has(name));
  if (names.length === 0) return out;
  const since = trustedSince(cp);
  const isFreshNow = (name: string) => mayBeAlive(renewals.get(name), since);
  if (mode.dryRun) return outInDryRun(out, names.filter(isFreshNow));
  const listening = listeningOn(cp.cluster.nodes.filter(({ name }) => names.includes(name)));
  const notAwaited = out.without.filter((name) => !isFreshNow(name));
  const options = { onlyNew: true, since, listening, notAwaited };
  const { notRenewed } = await nodeLeases(api, names, options);
  const here = names.filter((name) => !notRenewed.includes(name));
  const kept = wordsOf("lost").flatMap((word) => (isTyped(word) ? [] : [word.value]));
  const isSure = (name: string) => gone.includes(name) || !kept.includes(name);
  const living = here.find((name) => out.lost.includes(name) && isSure(name));
  if (living)
    throw new Refused(`${living} is not lost: it renews its Lease`, {
      unchanged: true,
      hint: shell`leave it out of --lost. If it is to go all the same, type there first: systemctl stop kubelet`,
    });
  for (const name of here) say(`${name}: it renews its Lease, so it is here, and counts`);
  endWordsOf(here);
  const isStill = (name: string) => !here.includes(name);
  return { without: out.without.filter(isStill), lost: out.lost.filter(isStill) };
}

/** It waits for no renewal, so it judges none: who was lost a moment ago has a Lease of a moment ago. */
function outInDryRun({ without, lost }: LeftOut, fresh: readonly string[]): LeftOut {
  for (const name of fresh)
    say(
      `${name}: renewed its Lease within the last minute. Without --dry-run this waits: who renews it is here`,
    );
  return { lost, without: without.filter((name) => !fresh.includes(name)) };
}

/** For `open`: a worker whose machine is on again is to join, and counts. Its kubelet renews no Lease before that. */
export async function countOnAgain(
  { cluster }: Pick<ControlPlaneNode, "cluster">,
  { without, lost }: LeftOut,
): Promise<LeftOut> {
  const workers = cluster.nodes.filter(({ controlPlane }) => !controlPlane);
  const away = saidBefore(workers, without);
  const on = await machinesOn(away);
  for (const { name } of away.filter(({ name }) => !on.includes(name)))
    say(`${name} does not answer, and gets no token. Is it on? ${command("words", { back: [name] })}`);
  if (!mode.dryRun)
    endWords(({ option, value }) => option === "without" && on.includes(value), "its machine is on again");
  return { lost, without: without.filter((name) => !on.includes(name)) };
}
