/** KubeKey 4's layout: with /etc/kubernetes the API server's pair for etcd is lost; etcd's own becomes its copy. */
import { kubekey4, OWN, PAIR } from "../machine/kubekey4.ts";
import { ageFile } from "../scene/expire.ts";
import { followGuide } from "../scene/follow-repair.ts";
import type { Scenario } from "../scene/scene.ts";
import { aYearPasses, TAGS as EXPIRED, expired } from "./expired.ts";
import { TAGS } from "./keys-in-memory.ts";
import { deleted, kept, kubesprayLost, stopped, wellBefore } from "./kubespray.ts";

const { look, asBefore } = kept();

export const kubekey4Lost: Scenario = {
  ...kubesprayLost,
  name: "kubekey4",
  title:
    "KubeKey 4's layout, etcd as a unit: the kubelet is stopped, then /etc/kubernetes is deleted on the control plane node, with the API server's pair for etcd; the keys come from memory",
  profile: () => kubekey4(),
  lines: [
    wellBefore,
    look,
    stopped,
    deleted,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, TAGS) },
    asBefore,
  ],
};

let installersKey = "";

/** The key of etcd's CA is on the installer's machine, and nobody brings it: etcd gets a new CA. */
export const kubekey4Expired: Scenario = {
  ...expired,
  name: "kubekey4-expired",
  title:
    "KubeKey 4's layout: no certificate is renewed for a year, etcd's own neither, then every machine restarts; the key of etcd's CA is nowhere",
  profile: () =>
    kubekey4({
      days: 365,
      keep: (key) => {
        installersKey = key;
      },
    }),
  lines: [
    {
      title: "etcd's certificates expire, those of the API server for it, too",
      async run({ lab }) {
        for (const node of lab.controlPlanes)
          for (const name of [OWN[1]!, PAIR[1]!]) await ageFile(node.path(name), installersKey);
      },
    },
    aYearPasses,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, EXPIRED) },
  ],
};
