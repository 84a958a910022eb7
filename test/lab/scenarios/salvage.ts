import { followRunbook, nodesAt, note, type Scenario, type Scene, workloadsLeft, wreck } from "../scene.ts";

/** The shared keys that a salvage from memory brings back. */
const OLD = ["ca.crt", "ca.key", "sa.key", "sa.pub"].map((file) => `/etc/kubernetes/pki/${file}`);

/** Their fingerprints on the first master, for a comparison: `sha256sum` says nothing else of them. */
async function sums(scene: Scene): Promise<string> {
  const { stdout, stderr } = await nodesAt(scene.lab, "first-master")[0]!.run(["sha256sum", ...OLD]);
  return stdout + stderr;
}

/** The masters' kubelets were stopped in time: their control plane runs on with the old keys in memory, and the runbook takes them from there. */
export const salvage: Scenario = {
  name: "salvage",
  title: "kubelets of the masters stopped, rm -rf /etc/kubernetes on them; then RUNBOOK.md, with ca.key and sa.key out of memory",
  masters: 1,
  workers: 1,
  byRunbook: true,
  lines: lines(),
};

function lines(): Scenario["lines"] {
  let before = "";
  return [
    {
      title: "Stop the masters' kubelets, then delete /etc/kubernetes there",
      async run(scene) {
        before = await sums(scene);
        for (const node of scene.lab.masters) await node.run(["systemctl", "stop", "kubelet"]);
        await wreck(scene, scene.lab.masters);
        note(scene, "the control plane runs on, with the old keys in memory", workloadsLeft(scene));
      },
    },
    { title: "Follow RUNBOOK.md", run: (scene) => followRunbook(scene, ["salvage"]) },
    {
      title: "Hold the keys against those from before",
      async run(scene) {
        const after = await sums(scene);
        const detail = after === before ? `${OLD.length} files, every byte` : after.trim();
        scene.checks.push({ name: "the old CA and service-account key are back", ok: after === before, detail });
      },
    },
  ];
}
