/** Whether a worker can join here with a bootstrap token. */
import { Refused } from "../fail.ts";
import { podFlags } from "../manifests/command.ts";
import { manifestPath, readableManifest } from "../manifests/on-disk.ts";
import type { Manifest } from "../objects/objects.ts";
import { refuseUndecided } from "./endpoint.ts";
import type { ControlPlaneNode } from "./node-facts.ts";

const FLAG = "enable-bootstrap-token-auth";

/** Why no worker can join here; undefined where one can. Without `manifest`: the one on disk. */
export function joiningTrouble(
  cp: Pick<ControlPlaneNode, "node">,
  manifest?: Pick<Manifest, "spec">,
): Refused | undefined {
  const path = manifestPath(cp, "kube-apiserver");
  const now = manifest ?? readableManifest(path);
  if (!now || /^(1|t|true)$/i.test(podFlags(now).get(FLAG) ?? "")) return undefined;
  return new Refused(
    `The API server takes no bootstrap tokens (no --${FLAG}), so no worker can join with one`,
    {
      unchanged: true,
      hint:
        `add --${FLAG}=true to ${path} until close is done, on each control plane node; its kubelet restarts the API server. ` +
        "Then run the same line again",
    },
  );
}

export function refuseNoJoining(cp: Pick<ControlPlaneNode, "node" | "endpoint">) {
  refuseUndecided(cp);
  const trouble = joiningTrouble(cp);
  if (trouble) throw trouble;
}
