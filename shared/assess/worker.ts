/** Looks at a worker, or at a control plane node that lost everything: the files of its kubelet, and the CA that its pods have. */

import { clusterCaSeen } from "../facts/ca-copies.ts";
import { lostOfKubelet } from "../facts/lost-files.ts";
import { command } from "../facts/todo.ts";
import type { Fail } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { lostPods } from "../manifests/on-disk.ts";
import type { Container } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { type Assessment, isDamage, type Row } from "./assessment.ts";
import { withWhatComes } from "./coming-rows.ts";
import { clientPemRow, cniRows, kubeletRow } from "./kubelet-rows.ts";
import { lostFileRows } from "./rows.ts";
import { eitherVerdict, filesFirst, workerVerdict } from "./worker-verdict.ts";

/** Of this worker's own static pods, such as a balancer in front of the API. */
const lostPod = ({ kubelet: { staticPodPath } }: Node) =>
  `it ran here, by the kubelet's records, and its manifest in ${staticPodPath} is lost. Its mirror pod has it: ${command("03-workers open")} keeps it on a control plane node`;

export async function assessWorker(node: Node, running: Container[] | Fail): Promise<Assessment> {
  const { kubelet } = node;
  const ca = readText(kubelet.clientCaFile);
  const files = lostOfKubelet(node);
  const damage: Row[] = [
    { id: "kubelet-ca", what: kubelet.clientCaFile, state: ca ? "ok" : "!MISSING!", detail: "the CA that this kubelet trusts" },
    { id: "kubelet-conf", what: kubelet.kubeconfig, state: exists(kubelet.kubeconfig) ? "ok" : "!MISSING!", detail: "" },
    clientPemRow(node),
    ...lostFileRows(files),
    ...lostPods(node).map((pod): Row => ({ id: "manifest", what: `static pod ${pod}`, state: "!MISSING!", detail: lostPod(node) })),
    ...(await kubeletRow(node, running)),
  ];
  const seen = clusterCaSeen(node);
  const strangers = seen.copies.filter(({ is }) => is === "another CA").map(({ what }) => what);
  const damaged = damage.some(isDamage) || strangers.length > 0;
  const network = await cniRows(node);
  return {
    node: node.name,
    kubernetes: undefined,
    cluster: undefined,
    ca: seen,
    damage: [
      ...withWhatComes(
        damage.map((row) => (row.state === "ok" && strangers.includes(row.what) ? { ...row, state: "!OTHER CA!" } : row)),
        node,
      ),
      ...network,
    ],
    survivors: [],
    damaged: damaged || network.length > 0,
    // a control plane node that lost everything has no kubelet.conf either
    ...filesFirst(files, exists(kubelet.kubeconfig) ? workerVerdict(damaged, network.length > 0) : eitherVerdict(node)),
  };
}
