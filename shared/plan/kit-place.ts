/** Where a kit lies on a node. */

/** Below /run, where only root can make folders. */
export const KIT_PLACE = "/run/kube-pki-repair";
