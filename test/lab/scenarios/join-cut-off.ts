import { Fail } from "../../../shared/fail.ts";
import { askGateway, GATEWAY_PACKAGES } from "../scene/etcd-gateway.ts";
import { followRunbook } from "../scene/follow.ts";
import { note, type Scenario, type Scene, type } from "../scene/scene.ts";
import { allLost, everythingDeleted, TAGS } from "./all-lost.ts";

/** No machine has this address. */
const ADDRESS = "10.250.0.99";

/**
 * A `kubeadm join --control-plane` ended after its first request to etcd: there is a learner whose etcd never
 * ran. Then the disaster comes.
 */
export const joinCutOff: Scenario = {
  ...allLost,
  name: "join-cut-off",
  title:
    "A second control plane node was joining when /etc/kubernetes was deleted: etcd has a learner that never started",
  packages: GATEWAY_PACKAGES,
  lines: [
    { title: "A join is cut off: etcd has a member more, which never starts", run: cutOffJoin },
    ...everythingDeleted,
    {
      title: "The operator follows RUNBOOK.md up to part 1",
      run: (scene) => followRunbook(scene, TAGS, { parts: [0, 1] }),
    },
    { title: "The operator types the line that part 1 printed", run: takeOutByPrinted },
    {
      title: "The operator goes on with RUNBOOK.md from part 3",
      run: (scene) => followRunbook(scene, TAGS, { parts: [3, 4, 5] }),
    },
    { title: "etcd has its own member alone", run: countMembers },
  ],
};

/**
 * As kubeadm does (cmd/kubeadm/app/util/etcd/etcd.go, AddMemberAsLearner), before it starts etcd on the new
 * node.
 */
async function cutOffJoin(scene: Scene) {
  await askGateway(scene.lab.controlPlanes[0]!, "cluster/member/add", {
    peerURLs: [`https://${ADDRESS}:2380`],
    isLearner: true,
  });
  note(scene, `etcd has a learner at ${ADDRESS}, and no machine is there`);
}

async function takeOutByPrinted(scene: Scene) {
  const printed = scene.steps
    .map(({ stderr }) => /never started: a join was cut off\. .*: (\.\/bunw .*)$/m.exec(stderr)?.[1])
    .find(Boolean);
  if (!printed)
    throw new Fail("Part 1 printed no line that takes the learner out", {
      hint: "look at its output in the record",
    });
  await type(scene, scene.lab.controlPlanes[0]!, printed, { part: 2 });
}

async function countMembers(scene: Scene) {
  const { members } = (await askGateway(scene.lab.controlPlanes[0]!, "cluster/member/list", {})) as {
    members: { name?: string }[];
  };
  const detail = members.map(({ name = "one that never started" }) => name).join(", ");
  scene.checks.push({ name: "etcd has its own member alone", ok: members.length === 1, detail });
}
