/** Members of etcd that do not answer, or have no vote: what an operator can do about each of them. */
import { isNameless, type Member, memberName } from "../etcd-data/members.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { etcdctlLine } from "../facts/etcd-space.ts";
import { command } from "../facts/todo.ts";
import { Fail } from "../fail.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { retyped } from "../retyped.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { type EtcdClient, etcdClient } from "./client.ts";
import { silentMembers } from "./identity.ts";

type Named = Pick<Member, "id" | "name">;

/**
 * The way on without a member that does not answer; `of`: the script that goes on. One that never started is no node, so no script can run
 * there, and only part 2 leaves it out: it takes it out of etcd.
 */
export function wayWithout(member: Named, of: string): string {
  const name = memberName(member);
  const lost = (words: string) => retyped({ lost: [name] }, { of: words });
  if (isNameless(member))
    return `${name} never started: a join was cut off. Take it out, and that machine can join anew: ${lost("02-control-plane")}`;
  return `${name} does not answer: part 1 there first. If it is away for now: ${retyped({ without: [name] }, { of })}; if its data is lost for good: ${lost(of)}`;
}

/** Names members of etcd that do not answer, each with the way on without it: `of` again. Says nothing where this etcd does not answer. */
export async function saySilentMembers({ facts, data }: ControlPlaneNode, of: string, without: readonly string[]) {
  const client = etcdClient(facts);
  const [members] = await Promise.allSettled([client?.members()]);
  if (members.status === "rejected" || !members.value) return;
  const silent = await silentMembers(members.value, data, facts);
  for (const member of silent) if (!without.includes(memberName(member))) say(wayWithout(member, of));
}

/** What ends the join of a learner: typed where etcd answers. */
export function promotion({ id }: Pick<Member, "id">, { certificatesDir }: Pick<ClusterFacts, "certificatesDir">): string {
  return etcdctlLine(shell`member promote ${id}`, { certificatesDir });
}

/** Errors: Fail where this node's own member is a learner: etcd answers no client there. */
export async function refuseLearner(client: EtcdClient, { data, facts }: Pick<ControlPlaneNode, "data" | "facts">) {
  if (!(await client.status()).isLearner) return;
  const own = data.members.find(({ id }) => id === data.memberId);
  const out = command("02-control-plane", { lost: [own ? memberName(own) : data.memberId] });
  throw new Fail("This node's etcd has no vote, and answers no client: its join was cut off before etcd promoted it", {
    hint:
      `on a control plane node that is repaired: ${promotion({ id: data.memberId }, facts)}; then this script again here. ` +
      `Or stop its kubelet and its etcd, take it out there with ${out}, and RUNBOOK 2, "The same machine comes back"`,
  });
}
