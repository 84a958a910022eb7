/** Whether this node's API server takes bootstrap tokens, as kubeadm has it by default: workers join with one. */

import { Refused } from "../fail.ts";
import { commandOf, flags } from "../manifests/command.ts";
import { manifestPath, readableManifest } from "../manifests/on-disk.ts";
import type { Manifest } from "../objects/objects.ts";
import type { ControlPlaneNode } from "./control-plane-node.ts";
import { refuseUndecided } from "./endpoint.ts";

const FLAG = "enable-bootstrap-token-auth";

/** Why no worker can join here; undefined where one can. Without `manifest`: the one on disk. */
export function joiningTrouble(cp: Pick<ControlPlaneNode, "node">, manifest?: Pick<Manifest, "spec">): Refused | undefined {
  const path = manifestPath(cp, "kube-apiserver");
  const now = manifest ?? readableManifest(path);
  if (!now || /^(1|t|true)$/i.test(flags(commandOf(now)).get(FLAG) ?? "")) return undefined;
  return new Refused(`The API server takes no bootstrap tokens (no --${FLAG}), so no worker can join with one`, {
    hint:
      `nothing was changed. For the time of part 3: --${FLAG}=true into ${path}, on each control plane node; its kubelet restarts the API server. ` +
      "Then this again, and take it out after close",
  });
}

/** Before a token is made. Errors: Refused where no worker can join with it; and as `refuseUndecided`. */
export function refuseNoJoining(cp: Pick<ControlPlaneNode, "node" | "endpoint">) {
  refuseUndecided(cp);
  const trouble = joiningTrouble(cp);
  if (trouble) throw trouble;
}
