/**
 * Cause and consequence. A check that needs what another one has found broken is a consequence: it has the id of its
 * cause, and is counted below it. What could not be asked for that reason has not failed: nobody has looked at it.
 */
import { type Check, isOfDates } from "./check.ts";
import { type CheckId, KINDS } from "./kinds.ts";

/** An id, or an id with its node or file: "manifest etcd". */
type Need = CheckId | `manifest ${string}`;

const API: readonly Need[] = ["api-ready", "admin-conf", "kubeconfig-admin", "certificate-ca"];
const SIGNED_BY_CA: readonly Need[] = ["certificate-ca"];
const SIGNED_BY_ETCD_CA: readonly Need[] = ["certificate-etcd-ca"];

/** The checks that each one needs, the nearest to the root first. */
const NEEDS: Partial<Record<CheckId, readonly Need[]>> = {
  "certificate-apiserver": SIGNED_BY_CA,
  "certificate-apiserver-kubelet-client": SIGNED_BY_CA,
  "certificate-front-proxy-client": ["certificate-front-proxy-ca"],
  "certificate-etcd-server": SIGNED_BY_ETCD_CA,
  "certificate-etcd-peer": SIGNED_BY_ETCD_CA,
  "certificate-etcd-healthcheck-client": SIGNED_BY_ETCD_CA,
  "certificate-apiserver-etcd-client": SIGNED_BY_ETCD_CA,
  "kubeconfig-admin": SIGNED_BY_CA,
  "kubeconfig-super-admin": SIGNED_BY_CA,
  "kubeconfig-controller-manager": SIGNED_BY_CA,
  "kubeconfig-scheduler": SIGNED_BY_CA,
  "kubelet-client-certificate": SIGNED_BY_CA,
  "kubelet-conf": ["kubelet-client-certificate", "certificate-ca", "etcd-data", "etcd-damage", "api-ready"],
  "etcd-answers": [
    ...(["etcd-data", "etcd-damage", "etcd-unit", "etcd-unit-file", "certificate-etcd-ca"] as const),
    ...(["certificate-etcd-server", "certificate-etcd-healthcheck-client", "manifest etcd"] as const),
  ],
  "etcd-members": ["etcd-answers", "api-ready"],
  "api-ready": [
    ...(["certificate-ca", "certificate-apiserver", "certificate-apiserver-etcd-client"] as const),
    ...(["certificate-etcd-ca", "service-account-key", "manifest kube-apiserver"] as const),
    ...(["etcd-answers", "admin-conf", "kubeconfig-admin"] as const),
  ],
  "admin-conf": ["kubeconfig-admin"],
  "api-certificate": ["certificate-ca", "certificate-apiserver", "api-ready"],
  "api-token": API,
  "controller-manager-leads": API,
  "scheduler-leads": API,
  "tokens-both-ways": API,
  "cluster-read": API,
  "root-ca": API,
  "trust-bundle": API,
  "cluster-info": API,
  "token-secrets": API,
  "node-lease": API,
  "node-ready": API,
  "node-reached": API,
  "node-returned": API,
  "pods-ready": API,
  "pods-fresh": API,
};

/** A file shows these by itself: no other file explains them. */
const OWN_STATES = ["missing", "key missing", "certificate missing", "unreadable"];

/** One act makes many of these: a date has passed, or somebody has deleted files. */
const TOGETHER = ["expired", "missing"];

/** The list with causes: what could not be asked for a known reason is "unknown", without severity and advice. */
export function withCauses(checks: readonly Check[]): Check[] {
  const bad = checks.filter(({ result }) => result === "failed");
  return nowIfAway(checks.map((check) => withCause(check, bad)));
}

function withCause(check: Check, bad: readonly Check[]): Check {
  const { thrown, needed: _, ...made } = check;
  const cause = check.result === "failed" ? rootOf(check, bad) : undefined;
  if (!cause) return made;
  if (!thrown) return { ...made, cause: cause.id };
  const { severity: _severity, works: _works, mend: _mend, ...row } = made;
  return { ...row, result: "unknown", state: "not looked at", cause: cause.id };
}

/** Files that a server has in memory do harm later; where the API is away because of them, they do it now. */
function nowIfAway(checks: Check[]): Check[] {
  if (!checks.some(({ id, cause }) => id === "api-ready" && cause)) return checks;
  return checks.map((check) =>
    check.result === "failed" && check.severity === "soon" && TOGETHER.includes(check.state ?? "")
      ? { ...check, severity: "outage" }
      : check,
  );
}

/** The first of what it needs, and what that one needs, to the root; undefined: it is a finding of its own. */
function rootOf(check: Check, bad: readonly Check[]): Check | undefined {
  const near = needsOf(check).flatMap((need) => bad.filter((one) => one !== check && isWanted(one, need)))[0];
  return near && (rootOf(near, bad) ?? near);
}

/** A finding without an error is explained only by what it cannot be judged without. */
function needsOf({ id, state, thrown, needed }: Check): readonly string[] {
  if (isOfDates(state)) return ["clock"];
  if (needed) return needed;
  return thrown || (state && !OWN_STATES.includes(state)) ? (NEEDS[id] ?? []) : [];
}

function isWanted({ id, what }: Check, need: string): boolean {
  const [of, name] = need.split(" ");
  return id === of && (name === undefined || what === KINDS[id].what.replace("…", name));
}

/* Rows. */

/** One cause: the checks that show it, and what follows from it. */
export interface Cause {
  /** Not empty. Several: the same state of several files, or several of a kind. */
  shown: Check[];
  follows: Check[];
}

/** In the order of `checks`. What is well, and what follows, has no row of its own. */
export function causesOf(checks: readonly Check[]): Cause[] {
  const rows = checks.filter(({ result, cause }) => result !== "ok" && cause === undefined);
  const groups = Map.groupBy(rows, keyOf);
  return [...groups.values()].map((shown) => {
    const ids = new Set(shown.map(({ id }) => id));
    return { shown, follows: checks.filter(({ cause }) => cause !== undefined && ids.has(cause)) };
  });
}

function keyOf({ id, result, state = "", severity, area }: Check): string {
  const isFile = area === "files" || area === "kubelet";
  return result === "failed" && isFile && TOGETHER.includes(state)
    ? state
    : [id, result, severity, state && result].join(" ");
}
