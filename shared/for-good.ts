/**
 * Irreversible actions. One sentence says it before each, also in a dry run. RUNBOOK.md has the same
 * sentences; words in capitals stand for values.
 */
import { say } from "./run.ts";

interface Row {
  what: string;
  /** Unset: there is none. */
  back?: string;
}

export const FOR_GOOD = {
  newKeys: {
    what: "new shared keys (KEYS): what the old ones signed is rejected until parts 3 and 4 have renewed it",
    back: "until part 3, if the old keys turn up: put them into the place of the new ones, and part 1 again",
  },
  memberOut: {
    what: "NODE is taken out of etcd's members, and what only its data holds is lost: a machine of that name joins as a new, empty one",
  },
  fullManager: {
    what: "the controller-manager runs in full again: it evicts pods of nodes that do not renew their Lease, after five minutes",
    back: "none for an evicted pod; to stop it before: mv /etc/kubernetes/manifests/kube-controller-manager.yaml /root/",
  },
  tokens: {
    what: "copies of renewed tokens outside of the cluster stop working",
    back: "none for them; the old tokens are in the copy of etcd's data in the rescue folder",
  },
  restarts: {
    what: "a pod that restarts loses what it holds in memory and in emptyDir volumes",
    back: "none; --only-system, --namespace and --skip choose whose pods restart now",
  },
  oldKey: {
    what: "tokens that the old service-account key signed are rejected from now on",
    back: "mv DIR/sa-old.pub back into its place, and part 2 again",
  },
  bundle: { what: "FILE is overwritten: keys that only this bundle holds are lost" },
} as const satisfies Record<string, Row>;

/** Prints the sentence before the action. `values`: for the words in capitals. */
export function forGood(act: keyof typeof FOR_GOOD, values: Record<string, string> = {}) {
  say(inForGoodWords(act, values));
}

/** The sentence alone, without a full stop. */
export function inForGoodWords(act: keyof typeof FOR_GOOD, values: Record<string, string> = {}): string {
  const { what, back }: Row = FOR_GOOD[act];
  const filled = (text: string) =>
    Object.entries(values).reduce((done, [word, value]) => done.replace(word, () => value), text);
  return `irreversible: ${filled(what)}. ${back ? `Way back: ${filled(back)}` : "There is no way back"}`;
}
