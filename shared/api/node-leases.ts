/** The Leases of all nodes at once: who renews, who does not, and who does at this moment. */
import { madeAt } from "../pki/certificate.ts";
import { listed } from "../plain.ts";
import { mode } from "../run.ts";
import { undefinedOnTimeout, waitFor } from "../wait-for.ts";
import type { KubeApi } from "./kube-api.ts";
import { type Lease, mayBeAlive, NODE_LEASES, renewalRefused, renewed } from "./leases.ts";
import { readAll } from "./many.ts";
import { watch } from "./watch.ts";

/** Seconds in which every living kubelet renews its Lease, even if the API was away and has just come back. */
export const RENEWAL_SECONDS = 25;

/** When each kubelet last renewed its Lease, by node name. */
export async function allRenewals(api: KubeApi): Promise<Map<string, Date>> {
  const renewals = new Map<string, Date>();
  await readAll("Leases", api.items<Lease>(NODE_LEASES), (lease) => renewals.set(lease.metadata.name, renewed(lease)));
  return renewals;
}

/**
 * Of these nodes: whether somebody listens at the kubelet's port; undefined where that cannot be told. A kubelet whose certificate has
 * expired does not start, so its port is closed; and a port that is open shows that the kubelet of a last renewal still runs.
 */
export type Listening = (nodes: readonly string[]) => Promise<ReadonlyMap<string, boolean | undefined>>;

/** Looks in a row (about two seconds) at a closed port; a kubelet that starts has opened it by then. */
const CLOSED_LOOKS = 12;

interface LooksAt {
  since: Date;
  onlyNew?: boolean;
  listening?: Listening;
  notAwaited?: readonly string[];
}

/**
 * When each kubelet last renewed its Lease, `deaf`: the webhook for which nobody can, and `notRenewed`: which of these nodes do not renew theirs, neither within the last minute nor
 * while we look (that node's clock may differ from ours). A kubelet that must first find the API gets the time for it, unless its port is
 * closed. `onlyNew`: a kubelet may have died since its last renewal, so only one while we look counts, or one of the last minute where the
 * port is open; a dry run does not wait and takes all. `since`: an older renewal proves nothing, as that kubelet may not trust today's CA.
 * `notAwaited`: these are looked at, and nobody waits for them.
 */
export async function nodeLeases(api: KubeApi, nodes: readonly string[], { onlyNew = false, listening, since, notAwaited = [] }: LooksAt) {
  const first = await allRenewals(api);
  const ports = portsSeen(listening);
  const compare = (renewals: Map<string, Date>) => {
    const isGood = (name: string) => {
      const [time, last] = [renewals.get(name), first.get(name)];
      // another time, not a later one: a clock may have been set back
      const isNew = time !== undefined && time.getTime() !== last?.getTime();
      return isNew || (mayBeAlive(time, since) && (!onlyNew || mode.dryRun || ports.isOpen(name)));
    };
    return { renewals, notRenewed: nodes.filter((name) => !isGood(name)) };
  };
  let leases = compare(first);
  const awaited = () => leases.notRenewed.filter((name) => !notAwaited.includes(name));
  const nothingToWaitFor = async () => {
    await ports.look(leases.notRenewed);
    leases = compare(await allRenewals(api));
    return awaited().every(ports.isClosed);
  };
  const options = { seconds: RENEWAL_SECONDS, hint: "journalctl -u kubelet there" };
  const what = () => `the kubelets of ${listed(awaited())} to renew their Leases`;
  if (leases.notRenewed.length > 0) await undefinedOnTimeout(waitFor(what, nothingToWaitFor, options));
  const [silent] = leases.notRenewed;
  return { ...leases, deaf: silent === undefined ? undefined : await renewalRefused(api, silent) };
}

/** What was seen of the kubelets' ports. A port that is open, or of which nothing can be told, is asked once. */
function portsSeen(listening: Listening | undefined) {
  const open = new Map<string, boolean | undefined>();
  const closedLooks = new Map<string, number>();
  return {
    async look(nodes: readonly string[]) {
      const asked = nodes.filter((name) => !open.has(name) || open.get(name) === false);
      for (const [name, isOpen] of (await listening?.(asked)) ?? []) {
        open.set(name, isOpen);
        closedLooks.set(name, isOpen === false ? (closedLooks.get(name) ?? 0) + 1 : 0);
      }
    },
    isOpen: (name: string) => open.get(name) === true,
    isClosed: (name: string) => (closedLooks.get(name) ?? 0) >= CLOSED_LOOKS,
  };
}

/** The nodes whose kubelets renew their Lease, at the moment they do: each node comes again and again. `onListed`: as `watch`. */
export async function* watchRenewals(api: KubeApi, caPem: string, signal: AbortSignal, onListed: () => void) {
  const made = madeAt(caPem);
  for await (const { type, object } of watch<Lease>(api, NODE_LEASES, signal, onListed)) {
    const time = renewed(object);
    // A change while we watch is a renewal now, whatever that node's clock says. A Lease that was there before is judged by its time.
    const isGood = type === "MODIFIED" || (type !== "DELETED" && mayBeAlive(time, made));
    if (isGood) yield { name: object.metadata.name, time };
  }
}
