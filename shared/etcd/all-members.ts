/** Every member of etcd, not only this node's: in stacked clusters each API server serves what its own member holds. */

import { command } from "../facts/next.ts";
import { Fail } from "../fail.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { act, say, waitFor } from "../run.ts";
import type { EtcdClient, LiveMember } from "./client.ts";
import { etcdClient } from "./identity.ts";
import { type Peer, quorumOf } from "./peers.ts";

/**
 * Proves that each other member answers with today's certificates, belongs to the same cluster, and holds the same keys as this one (by
 * etcd's own hash at a common revision). Members in `without` are left out.
 * Errors: Fail that names the first one that does not.
 */
export async function proveMembers(own: EtcdClient, facts: ClusterFacts, options: { peers: readonly Peer[]; without: readonly string[] }) {
  const { clusterId } = await own.status();
  const { without } = options;
  for (const { name, host } of options.peers.filter((peer) => !without.includes(peer.name))) {
    const theirs = etcdClient(facts, host)!;
    const status = await answerOf({ name, without }, () => theirs.status());
    if (status.clusterId !== clusterId) {
      throw new Fail(`etcd on ${name} is another cluster: "${status.clusterId}", here "${clusterId}"`, {
        hint: `it was started without its data. On ${name}: mv /etc/kubernetes/manifests/etcd.yaml /root/, then RUNBOOK 1, "If a member has no data"`,
      });
    }
    const { revision } = await own.status();
    // A member that was away first takes in what was written meanwhile. Until then it does not know this revision.
    await waitFor(`etcd on ${name} to catch up with revision ${revision}`, async () => (await theirs.status()).revision >= revision, {
      seconds: 120,
      hint: `crictl logs of etcd on ${name}; then run this script again`,
    });
    const [here, there] = await Promise.all([own.hashAt(revision), answerOf({ name, without }, () => theirs.hashAt(revision))]);
    if (here !== there) {
      throw new Fail(`etcd on ${name} holds other keys at revision ${revision} than this one`, {
        hint: "stop here; restore one of them from the other: RUNBOOK 1",
      });
    }
    say(`${name}: same cluster, the same keys at revision ${revision}`);
  }
}

/**
 * Takes out members that are lost for good, so that a new machine can take their place, and says who remains. A member that is out already
 * is no error. `own`: unset in a dry run before etcd has its certificates.
 */
export async function removeMembers(
  members: readonly Pick<LiveMember, "id" | "name">[],
  names: readonly string[],
  own: EtcdClient | undefined,
) {
  for (const name of names) {
    const member = members.find((candidate) => candidate.name === name);
    if (!member) say(`${name}: is no member of etcd any more`);
    else await act(`${name}: taken out of etcd's members for good: no command brings it back`, () => own!.removeMember(member.id));
  }
  const left = members.flatMap(({ id, name }) => (names.includes(name) ? [] : [name || id]));
  if (names.length > 0 && left.length > 1)
    say(`then etcd has the members ${left.join(", ")}, and answers while ${quorumOf(left.length)} of them run`);
  else if (names.length > 0) say(`then etcd has the member ${left.join("")}, and answers while it runs`);
}

async function answerOf<T>({ name, without }: { name: string; without: readonly string[] }, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (err) {
    throw new Fail(`etcd on ${name} does not answer: ${(err as Error).message}`, {
      hint: `${name} does not answer: part 1 there first. If its data is lost, go on without it: ${command("02-control-plane", [...without, name])}`,
      cause: err,
    });
  }
}
