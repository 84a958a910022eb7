/** What part 4 leaves for the operator to do, the most urgent first. */
import { BACKUP } from "../again.ts";
import { replacedCa } from "../facts/repair.ts";
import { Fail } from "../fail.ts";
import { standIns } from "../manifests/repair-changes.ts";
import { heldIn, rescuedFiles } from "../node/rescue-folder.ts";
import { certInfo } from "../pki/certificate.ts";
import { listed } from "../plain.ts";
import { fewLines } from "../progress.ts";
import { resumeCommands } from "./choice.ts";
import { peopleToDo, type Repaired } from "./people-to-do.ts";
import { howToRestart, label, lineOf, type PodOwner } from "./pod-owners.ts";
import type { Renewed } from "./renew-tokens.ts";
import type { Left } from "./restart-order.ts";

interface Done extends Repaired {
  /** Stale pods that nothing restarts, and those that this run did not by the operator's choice. */
  reported: readonly PodOwner[];
  skipped: readonly PodOwner[];
  later: readonly PodOwner[];
  /** Stale pods that could not be restarted, and Secrets that could not be renewed. */
  workloads: readonly Left[];
  secrets: Renewed["refused"];
  /** Namespaces without the current CA. */
  namespaces: readonly string[];
}

/** Sentences for the operator, the most urgent first. */
export async function leftToDo({
  cp,
  api,
  renewed,
  reported,
  skipped,
  later,
  workloads,
  secrets,
  namespaces,
  caPem,
}: Done): Promise<string[]> {
  const lines = standIns(cp).map(
    (path) =>
      `${path} is a replacement for the lost audit policy: put your own policy there, then restart kube-apiserver`,
  );
  if (namespaces.length > 0)
    lines.push(`kube-root-ca.crt has another CA in: ${listed(namespaces)}: 4.2 says why`);
  lines.push(...fewLines([...secrets].map(([name, why]) => oldSecret(name, why))));
  const still =
    replacedCa(cp, caPem).size === 0 ? "still has a token of the old key" : "still trusts the old CA";
  const old = workloads.map(({ owner, why }) =>
    lineOf(owner, `${label(owner)} ${still}: ${why.message}: ${why.hint}`),
  );
  const byHand = reported.map((owner) =>
    lineOf(owner, `${label(owner)} ${still} (${owner.reason}): restart it yourself if it talks to the API`),
  );
  lines.push(...fewLines(old), ...fewLines(byHand));
  for (const owner of skipped)
    lines.push(`${label(owner)} ${still} (skipped by you): ${howToRestart(owner)}`);
  if (later.length > 0)
    lines.push(`left for a later run: ${listed(later.map(label))}: ${resumeCommands({ later, skipped })}`);
  lines.push(...(await peopleToDo({ cp, api, renewed, caPem })));
  lines.push(
    `make a backup now: ${BACKUP}, and an etcd snapshot, and keep both away from this machine. CA in use: ${certInfo(caPem).publicKeyHash}`,
  );
  for (const rescue of rescuedFiles())
    lines.push(`${rescue.dir} holds ${heldIn(rescue)}: remove it when you no longer need it`);
  return lines;
}

/** `name`: `namespace/name`. */
function oldSecret(name: string, why: Fail) {
  const text = `Secret ${name} still has old trust: ${why.message}: ${why.hint}`;
  return { name: `Secret ${name}`, own: name.split("/"), text };
}

/** Errors: Fail where something could not be renewed. */
export function refuseRest({
  workloads,
  secrets,
  namespaces,
}: Pick<Done, "workloads" | "secrets" | "namespaces">) {
  const counts = [`${workloads.length} workloads`, `${secrets.size} token Secrets`];
  if (namespaces.length > 0) counts.push(`${namespaces.length} namespaces`);
  if (workloads.length + secrets.size + namespaces.length === 0) return;
  throw new Fail(`Not all could be renewed. Left for you: ${counts.join(", ")}`, {
    hint: "type the commands that 4.7 names. Then run the same line again: it does only what is left",
  });
}
