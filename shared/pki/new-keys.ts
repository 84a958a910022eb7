/**
 * When a key that all masters share is made anew: only where it is lost and that was asked for. Everything hangs on these keys, so a key that
 * is merely without its public half, or whose certificate is known from elsewhere, is never replaced.
 */
import { Fail } from "../fail.ts";
import { CERTS, type ClusterFacts } from "./certs.ts";
import { examine, examineServiceAccountKey, type Finding } from "./examine.ts";
import { type Evidence, type Remedy, remedyOf } from "./lost-keys.ts";

/** `internal`: only authorities that nobody but masters trusts, those of etcd and of the front proxy. */
export type NewCas = "all" | "internal";

export interface NewKeyOptions {
  /** Which shared keys to make anew where they are missing or wrong. The first master of a cluster that lost them, nobody else. */
  newCas?: NewCas | undefined;
  /** What the cluster's public keys are known by; asked only where one of them is not here. */
  evidence?: (() => Evidence) | undefined;
}

/**
 * What `ensureMany` will make anew, for a script that has other things to do before it: an authority, or sa.key. Errors: Fail where one is lost
 * and a new one was not asked for.
 */
export function keysToMake(facts: ClusterFacts, options: NewKeyOptions): Finding[] {
  const shared = CERTS.filter((row) => row.shared).map((row) => examine(row, facts));
  return [...shared, examineServiceAccountKey(facts.certificatesDir)].filter((finding) => needsNewKey(finding, options));
}

/** Whether something shared by all masters has to be made anew; a Fail where that was not asked for. */
export function needsNewKey(finding: Finding, options: NewKeyOptions): boolean {
  if (finding.state === "ok") return false;
  const remedy = remedyFor(finding, options);
  if (remedy.do !== "lost") return false;
  const internal = CERTS.some((row) => row.internal && row.name === finding.name);
  if (isAskedFor(finding, options)) return true;
  throw new Fail(
    `${finding.paths[0]} is needed and cannot be used: ${finding.state} (${finding.detail}${remedy.why ? `; ${remedy.why}` : ""})`,
    {
      hint: `look for it with ./bunw scripts/00-salvage.ts, bring it from another master with ./bunw scripts/hand-over.ts, or from a backup; only if it is lost for good: ./bunw scripts/01-etcd.ts ${internal ? "--new-internal-cas" : "--new-cas"}`,
    },
  );
}

/** A run that makes new keys and was cut off after one of them goes on with that: keys are written first. */
export function remedyFor(finding: Finding, options: NewKeyOptions): Remedy {
  const remedy = remedyOf(finding, options.evidence?.() ?? { texts: [], tokens: [] });
  const isHalf = ["certificate missing", "public key missing"].includes(finding.state);
  return remedy.do === "lost" && remedy.why && isHalf && isAskedFor(finding, options) ? { do: "again" } : remedy;
}

function isAskedFor({ name }: Finding, { newCas }: NewKeyOptions): boolean {
  return newCas === "all" || (newCas === "internal" && CERTS.some((row) => row.internal && row.name === name));
}
