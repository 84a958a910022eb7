/**
 * Checks of a control plane node that was lost and has joined again: is it as it was? kubeadm brings back no labels,
 * taints and hand edits.
 */
import type { KubeApi } from "../api/kube-api.ts";
import type { Answer, CheckRow } from "../checks/check.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { attempt, Fail } from "../fail.ts";
import { asItRan } from "../manifests/as-it-ran.ts";
import { manifestFromMirrorPod } from "../manifests/from-mirror-pod.ts";
import { withoutOldSaKey } from "../manifests/repair-changes.ts";
import type { Manifest, Pod } from "../objects/objects.ts";
import { asMoved } from "../pki/addresses.ts";
import { shell } from "../shell-line.ts";
import {
  type LostNode,
  lostNodes,
  movedSince,
  type NodeObject,
  putBackCommands,
  putManifest,
} from "../static-pods/lost-nodes.ts";
import { manifestDifferences } from "../static-pods/manifest-trouble.ts";

type ApiNode = NodeObject & { metadata: { name: string } };

/** A row for its labels, and one for each static pod. Errors: as KubeApi. */
export async function* returnedChecks(cp: ControlPlaneNode, api: KubeApi): AsyncGenerator<CheckRow> {
  const lost = lostNodes();
  if (lost.length === 0) return;
  const nodes = await api.list<ApiNode>("/api/v1/nodes");
  const pods = await api.list<Pod>("/api/v1/namespaces/kube-system/pods");
  for (const was of lost) {
    const now = nodes.find(({ metadata }) => metadata.name === was.name);
    // the Node of before: it is still to be deleted
    if (!now || now.metadata.uid === was.object.metadata.uid) continue;
    const row = (what: string, look: () => Answer): CheckRow => ({
      id: "node-returned",
      of: `${was.name}, which has joined again: ${what}`,
      look,
    });
    yield row("labels, taints, annotations", () => marksAnswer(was, now));
    for (const pod of was.pods) yield row(pod.name, () => podAnswer(was, pod, pods, cp));
  }
}

function marksAnswer(lost: LostNode, now: ApiNode): Answer {
  const commands = putBackCommands(lost, now);
  return commands.length === 0
    ? "as before"
    : { state: "changed", failed: `${commands.join("; ")}${orMeant(lost.folder)}` };
}

function podAnswer(
  lost: LostNode,
  pod: LostNode["pods"][number],
  pods: readonly Pod[],
  cp: ControlPlaneNode,
): Answer {
  const { name, folder } = lost;
  const moved = movedSince(lost, cp.data);
  const back = `${putManifest(pod.file, name, cp, moved)}${orMeant(folder)}`;
  const mirror = pods.find(
    ({ metadata, spec }) => metadata.name === `${pod.name}-${name.toLowerCase()}` && spec.nodeName === name,
  );
  const now = mirror && attempt(() => asItRan(manifestFromMirrorPod(mirror, name), mirror).manifest);
  if (!now || now instanceof Fail) return { state: "missing", failed: back };
  const lasting = (manifest: Manifest) => withoutOldSaKey(manifest, cp.facts.certificatesDir);
  const was = JSON.parse(asMoved(JSON.stringify(pod.manifest), moved)) as Manifest;
  const differences = manifestDifferences(lasting(now), lasting(was));
  return differences.length === 0
    ? "as before"
    : { state: "changed", failed: `${differences.join(" ")}: ${back}` };
}

function orMeant(folder: string) {
  return shell`; or, if it is to be so: rm -r ${folder}`;
}
