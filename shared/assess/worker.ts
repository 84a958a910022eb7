/**
 * Looks at a worker, or at a control plane node that lost everything: the files of its kubelet, and the CA
 * that its pods have.
 */
import { dirname } from "node:path";
import { command } from "../again.ts";
import { hasFailed } from "../checks/check.ts";
import type { ClusterCa } from "../facts/ca-copies.ts";
import { type LostFile, lostOfKubelet } from "../facts/lost-files.ts";
import { withoutNode } from "../facts/no-etcd-data.ts";
import type { Fail } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { lostPods } from "../manifests/on-disk.ts";
import type { Container } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { kubeletCaReader } from "../renew/ca-readers.ts";
import { shell } from "../shell-line.ts";
import { type Assessment, type Judged, row, withWhatComes } from "./assessment.ts";
import { clientPemRow, cniRows, heldRows, kubeletRow } from "./kubelet-rows.ts";
import { seen } from "./look-here.ts";
import { lostFileRows } from "./rows.ts";
import { NO_NEW_POD, OLD_CA_HELD } from "./verdict.ts";

/** Of this worker's own static pods, such as a balancer in front of the API. */
const lostPod = ({ kubelet: { staticPodPath } }: Node) =>
  `it ran here, by the kubelet's records, and its manifest in ${staticPodPath} is lost. Its mirror pod has it: ${command("03-workers open")} keeps it on a control plane node`;

/** `ca`: the CAs on this node. */
export async function assessWorker(node: Node, running: Container[] | Fail, ca: ClusterCa): Promise<Judged> {
  const { clientCaFile, kubeconfig } = node.kubelet;
  const strangers = ca.copies.filter(({ is }) => is === "another CA").map(({ what }) => what);
  const judge = (path: string, isThere: boolean, detail = "") => {
    const state = isThere ? strangers.includes(path) && "other CA" : "missing";
    return state ? { state, failed: detail } : detail;
  };
  const files = lostOfKubelet(node);
  const damage = [
    row(
      "kubelet-ca",
      clientCaFile,
      judge(clientCaFile, Boolean(readText(clientCaFile)), "the CA that this kubelet trusts"),
    ),
    row("kubelet-conf", kubeconfig, judge(kubeconfig, exists(kubeconfig))),
    ...strangers
      .filter((path) => path !== clientCaFile && path !== kubeconfig)
      .map((path) => row("kubelet-ca", path, judge(path, true))),
    clientPemRow(node),
    ...lostFileRows(files),
    ...lostPods(node).map((pod) =>
      row("manifest", `static pod ${pod}`, { state: "missing", failed: lostPod(node) }),
    ),
    ...(await kubeletRow(node, running)),
  ];
  const held = heldRows(await kubeletCaReader(node, seen(running)));
  const network = await cniRows(node);
  // a control plane node that lost everything has no kubelet.conf either
  const verdict = exists(kubeconfig)
    ? workerVerdict(damage.some(hasFailed), network.length > 0, held.some(hasFailed))
    : eitherVerdict(node);
  return {
    cluster: undefined,
    damage: [...withWhatComes([...damage, ...held], node), ...network],
    ...filesFirst(files, verdict),
  };
}

/* The conclusion for a worker, and for a node of which nothing tells whether it is one. */

type Verdict = Pick<Assessment, "role" | "verdict" | "next">;

function workerVerdict(damaged: boolean, noNewPod: boolean, oldCa: boolean): Verdict {
  const verdict = damaged ? JOINS_AGAIN : oldCa ? OLD_CA_HELD : noNewPod ? NO_NEW_POD : NOTHING_DAMAGED;
  return { role: "worker", ...verdict };
}

const JOIN = `parts 1 and 2 on the control plane nodes, then the line that ${command("03-workers open")} prints there`;

const JOINS_AGAIN: Pick<Verdict, "verdict" | "next"> = {
  verdict: "this worker has to join again. Its containers run on",
  next: [JOIN],
};

const NOTHING_DAMAGED: Pick<Verdict, "verdict" | "next"> = {
  verdict:
    "nothing is damaged here. If the control plane nodes have a new CA now, this worker has to join again nevertheless",
  next: [],
};

/** Joined as a worker, a control plane node would be lost. */
function eitherVerdict({ name, nameFrom }: Node): Verdict {
  return {
    role: "unknown",
    verdict:
      `this is a worker, or a control plane node that lost everything: nothing here shows which. Its name is "${name}" (from ${nameFrom}). ` +
      `${command("00-assess")} on a control plane node names all of them, in its line "cluster"`,
    next: [`if ${name} is not among them: ${JOIN}`, `if ${name} is among them: ${withoutNode(name)}`],
  };
}

/** Without these files its kubelet does not start again, so they come back before anything else. */
function filesFirst(files: readonly LostFile[], verdict: Verdict): Verdict {
  const copies = files.map(
    ({ path }) =>
      shell`scp -rp root@NODE:${path} ${dirname(path)}/   # NODE: mostly another worker has the same, or a backup`,
  );
  return { ...verdict, next: [...copies, ...verdict.next] };
}
