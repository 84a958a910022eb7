import type { Machine } from "../machine/machine.ts";
import { list } from "../report/snapshot.ts";
import { followRunbook } from "../scene/follow.ts";
import { type Scenario, type Scene, sayAndWait } from "../scene/scene.ts";
import { allLost, everythingDeleted, TAGS } from "./all-lost.ts";

/** After a repair: the runbook once more. */
export const secondRun = [{ title: "The operator follows it a second time", run: followAgain }];

/**
 * The second time all keys are there and nothing is left to do: no byte changes, and no other container
 * restarts than the controller-manager.
 */
export const repairedTwice: Scenario = {
  ...allLost,
  name: "repaired-twice",
  title: "/etc/kubernetes is deleted on every node; the operator follows RUNBOOK.md twice",
  lines: [
    ...everythingDeleted,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followRunbook(scene, TAGS) },
    ...secondRun,
  ],
};

async function followAgain(scene: Scene) {
  const name = "a second run of the runbook changes no byte and restarts nothing but the controller-manager";
  await sayAndWait(scene, "the old pods to be gone", () => settled(scene), {
    seconds: 60,
    hint: "kubectl get pods -A: which one is still Terminating?",
  });
  const before = await fingerprints(scene);
  await followRunbook(scene, ["old-cas"]);
  const after = await fingerprints(scene);
  const changed = [...new Set([...before, ...after])].filter(
    (line) => !(before.has(line) && after.has(line)),
  );
  return scene.checks.push({
    name,
    ok: changed.length === 0,
    detail: changed.join("; ") || `${before.size} files and containers`,
  });
}

/** A replaced pod may run on for a while before it ends. */
async function settled({ lab }: Scene): Promise<boolean> {
  return (await list(lab, "pods")).every(({ metadata }) => !metadata.deletionTimestamp);
}

/**
 * What a second run must not change: content, mode, owner and time of each file, and each running container.
 * The controller-manager alone may leave and come back, as part 0 pauses it: it begins reduced, and its
 * manifest is the same again when every node renews its Lease.
 */
const FINGERPRINT = `set -e
find /etc/kubernetes /var/lib/kubelet/pki /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env \\
  -path /etc/kubernetes/manifests -printf '%p %m %U:%G\\n' -o -name kube-controller-manager.yaml -printf '%p %m %U:%G\\n' -o -printf '%p %m %U:%G %T@ %l\\n'
find /etc/kubernetes /var/lib/kubelet/pki -type f -exec sha256sum {} +
crictl ps -q | grep -vxF "$(crictl ps -q --name '^kube-controller-manager$')"`;

async function fingerprints(scene: Scene): Promise<Set<string>> {
  const lines = await Promise.all(
    scene.lab.nodes.map(async (node) => (await fingerprint(node)).map((line) => `${node.name}: ${line}`)),
  );
  return new Set(lines.flat());
}

async function fingerprint(node: Machine) {
  const { stdout, stderr, exitCode } = await node.run(["bash", "-c", FINGERPRINT]);
  if (exitCode !== 0) throw new Error(`${node.name}: ${stderr}`);
  return stdout.trim().split("\n");
}
