/**
 * The actions for a node's PKI, decided once and kept as a value: the refusal, the number of new keys and the
 * writing all read this list. Writes nothing.
 *
 * CAs and sa.key differ from all else: they are the same on every control plane node, and everything depends
 * on them. New ones are made only with `newCas`; without it, a lost one stops the run.
 */
import { again, command, inOneLine, type Todo } from "../again.ts";
import { Fail } from "../fail.ts";
import { shell } from "../shell-line.ts";
import { type Cert, type ClusterFacts, isInternal } from "./certs.ts";
import { type Finding, isOffline, pkiFindings, type WantedPki } from "./examine.ts";
import type { KubeconfigRow } from "./kubeconfigs.ts";
import { type Evidence, type Remedy, remedyOf } from "./lost-keys.ts";

/** `internal`: only the CAs of etcd and of the front proxy, which only control plane nodes trust. */
export type NewCas = "all" | "internal";

export interface ActionOptions {
  /**
   * The shared keys to make again if they are missing or wrong. Set only on the first control plane node of a
   * cluster that lost them.
   */
  newCas?: NewCas | undefined;
  /** The proof of the cluster's public keys; called only if one of them is not here. */
  evidence?: (() => Evidence) | undefined;
}

export interface PkiAction {
  finding: Finding;
  /** The row of a table; unset: the pair sa.key and sa.pub. */
  row?: Cert | KubeconfigRow;
  /**
   * `make`: a new CA or sa.key. `restore`: the public half of a CA's key, or of sa.key, that is here.
   * `refuse`: a CA or sa.key is lost, and no new one is asked for. `renew`: a new key and certificate, signed
   * by its CA. `check`: its CA comes back first, then it is examined again.
   */
  todo: "keep" | "make" | "restore" | "refuse" | "renew" | "check";
  /** Set for `restore` and `refuse`: how it comes back, or why it is lost. */
  remedy?: Remedy;
}

/** Throws nothing: a lost row is one to `refuse`. A CA stands before the certificates that it signs. */
export function actionsFor(wanted: WantedPki, facts: ClusterFacts, options: ActionOptions): PkiAction[] {
  const actions: PkiAction[] = [];
  for (const finding of pkiFindings(wanted, facts)) {
    const { row } = finding;
    const ca = row && ("path" in row ? "ca" : row.ca);
    const ofCa = () => actions.find((one) => one.row?.name === ca)?.todo;
    actions.push({
      ...(ca ? actionForSigned(finding, ofCa()) : actionForShared(finding, options)),
      ...(row && { row }),
    });
  }
  return actions;
}

/** The CAs and the sa.key that these actions make. Errors: as `refuseLostKeys`. */
export function keysToMake(actions: readonly PkiAction[]): Finding[] {
  refuseLostKeys(actions);
  return actions.filter(({ todo }) => todo === "make").map(({ finding }) => finding);
}

/** Errors: Fail if a CA or sa.key is lost and a new one is not asked for. */
export function refuseLostKeys(actions: readonly PkiAction[]) {
  for (const { finding, todo, remedy } of actions) if (todo === "refuse") throw lostKey(finding, remedy!);
}

/** How many new keys they need. */
export function countOfKeys(actions: readonly PkiAction[]): number {
  return actions.filter(({ todo }) => todo === "make" || todo === "renew").length;
}

/** The action for a leaf or a kubeconfig, by that for its CA. */
export function actionForSigned(finding: Finding, ca?: PkiAction["todo"]): PkiAction {
  const row = finding.row!;
  if (ca === "restore") return { row, finding, todo: "check" };
  return { row, finding, todo: finding.state === "ok" && ca !== "make" ? "keep" : "renew" };
}

/**
 * A run that makes new keys and was cut off after one of them continues with that key: keys are written
 * first.
 */
function actionForShared(finding: Finding, { newCas, evidence }: ActionOptions): PkiAction {
  const isMeant = newCas === "all" || (newCas === "internal" && isInternal(finding.name));
  if (isOffline(finding) && isMeant) return { finding, todo: "make" };
  if (finding.state === "ok") return { finding, todo: "keep" };
  const remedy = remedyOf(finding, evidence?.() ?? { texts: [], tokens: [] });
  if (remedy.do !== "lost" && remedy.do !== "elsewhere") return { finding, todo: "restore", remedy };
  if (!isMeant) return { finding, todo: "refuse", remedy };
  const isHalf = ["certificate missing", "public key missing"].includes(finding.state);
  return "why" in remedy && isHalf
    ? { finding, todo: "restore", remedy: { do: "again" } }
    : { finding, todo: "make" };
}

function lostKey(finding: Finding, remedy: Remedy): Fail {
  if (remedy.do === "elsewhere")
    return new Fail(`${finding.paths[0]} cannot be used: ${finding.detail}; ${remedy.signer} has signed it`, {
      hint: inOneLine(renewedElsewhere([finding])),
    });
  const why = "why" in remedy ? `; ${remedy.why}` : "";
  const option = isInternal(finding.name)
    ? { "new-internal-cas": true }
    : { "new-internal-cas": false, "new-cas": true };
  return new Fail(
    `${finding.paths[0]} is needed and cannot be used: ${finding.state} (${finding.detail}${why})`,
    {
      hint: `look for it: ./bunw scripts/00-salvage.ts. Or bring it from another control plane node: ./bunw scripts/hand-over.ts. Or from a backup. If it is lost for good: ${again(option, { of: "01-etcd" })}`,
    },
  );
}

/** Commands for CAs whose keys are here, and which another CA has signed: only that CA renews them. */
export function renewedElsewhere(findings: readonly Finding[]): Todo[] {
  const files = findings.map(({ row }) => `FOLDER/${(row as Cert).file}.crt`);
  return [
    ...findings.map(({ name }) => ({
      command: shell`./bunw scripts/renew-ca.ts --csr=${name}`,
      note: "for whoever has signed it; no secret is in it",
    })),
    {
      command: command("renew-ca --from FOLDER"),
      note: `on each control plane node; what comes back: ${files.join(", ")}`,
    },
    { command: command("00-assess") },
  ];
}
