/** As whom a static pod's main container runs: by its own securityContext, or else its pod's (k8s.io/api/core/v1, SecurityContext). */
import type { PodSpec } from "../objects/objects.ts";
import { mainContainer } from "./command.ts";

export interface PodUser {
  uid: number;
  /** The first is its own; files of the others can be read as well. */
  gids: number[];
}

interface SecurityContext {
  runAsUser?: number;
  runAsGroup?: number;
  runAsNonRoot?: boolean;
  supplementalGroups?: number[];
  fsGroup?: number;
}

/** Root where nothing says otherwise, as in kubeadm's images; undefined where only the image knows: it must not be root. */
export function userOf({ spec }: { spec: PodSpec }): PodUser | undefined {
  const pod = (spec.securityContext ?? {}) as SecurityContext;
  const own = (mainContainer({ spec })?.securityContext ?? {}) as SecurityContext;
  const uid = own.runAsUser ?? pod.runAsUser;
  if (uid === undefined && (own.runAsNonRoot ?? pod.runAsNonRoot)) return undefined;
  const gid = own.runAsGroup ?? pod.runAsGroup ?? 0;
  return { uid: uid ?? 0, gids: [gid, ...(pod.supplementalGroups ?? []), ...(pod.fsGroup === undefined ? [] : [pod.fsGroup])] };
}
