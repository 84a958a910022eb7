/**
 * A control plane node must not join by a bootstrap token: it would come back as a worker. This looks at what
 * is left of one, and opens no data of etcd's: a worker needs none of what reads that. Reads only.
 */
import { controlPlaneTraces, tracesOf, USUAL_DATA } from "../etcd-location/control-plane-traces.ts";
import { isClusters, isUnitHere, readEtcdUnit, UNIT_BY_HAND } from "../etcd-location/etcd-unit.ts";
import { Refused } from "../fail.ts";
import { exists } from "../files/files.ts";
import { certificatesDirOn } from "../manifests/on-disk.ts";
import type { Container } from "../node/containers.ts";
import type { Node } from "../node/node.ts";

interface Here {
  /** As typed: it takes the place of the folders where etcd mostly has its data. */
  etcdData: string | undefined;
  /** Also those that have ended; none where no runtime answers. */
  all: readonly Container[];
}

/** Errors: Refused on a control plane node. */
export function refuseControlPlane(node: Node, { etcdData, all }: Here) {
  const found = readEtcdUnit();
  const unit = found && isClusters(found) && tracesOf("etcd", node, all).length === 0 ? found : undefined;
  const [trace] = [
    ...controlPlaneTraces(node, all, certificatesDirOn(node)),
    ...dataIn(etcdData, unit?.dataDir),
  ];
  if (trace === undefined) return;
  if (unit) throw new Refused(isUnitHere(unit), { unchanged: true, hint: UNIT_BY_HAND });
  throw new Refused(`This is a control plane node (${trace}): join is for workers`, {
    hint: "run part 2, which gives its kubelet a certificate: ./bunw scripts/02-control-plane.ts. See what is to be done here: ./bunw scripts/00-assess.ts",
  });
}

function dataIn(typed: string | undefined, ofUnit: string | undefined): string[] {
  const folders = typed === undefined ? [...(ofUnit ? [ofUnit] : []), ...USUAL_DATA] : [typed];
  return folders.map((dir) => `${dir}/member`).filter((path) => exists(path));
}
