/** KubeKey 4's layout: with /etc/kubernetes the API server's pair for etcd is lost; etcd's own becomes its copy. */
import { kubekey4 } from "../machine/kubekey4.ts";
import { followGuide } from "../scene/follow-plan.ts";
import type { Scenario } from "../scene/scene.ts";
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
