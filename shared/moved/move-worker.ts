/**
 * Moves a worker whose own address, or whose cluster's, has changed: kubelet.conf gets the new server, and
 * the kubelet its new address. No token, no CSR, no join: its certificate names no address. If the kubelet
 * then does not renew its Lease, the old files come back.
 */
import { KubeApi } from "../api/kube-api.ts";
import { waitForRenewal } from "../api/leases.ts";
import { Fail, failOf } from "../fail.ts";
import { writeFile } from "../files/files.ts";
import { refuseUnwritable } from "../files/room.ts";
import { kubeletActive, type Node } from "../node/node.ts";
import { asideOf, newRescue } from "../node/rescue-folder.ts";
import { refuseUnfitKubelet, systemctlKubelet } from "../node/systemctl-kubelet.ts";
import type { Moved } from "../pki/addresses.ts";
import { readKubeconfig } from "../pki/kubeconfigs.ts";
import { mode, say, step } from "../run.ts";
import { orUndo } from "../signals.ts";
import { proveServer } from "../workers/saved-trust.ts";
import { namedInFiles, sayStillNamed } from "./still-named.ts";
import { renewHostPodIps } from "./tell-cluster.ts";
import { changesHere, type FileChange, writeChanges } from "./this-machine.ts";

export async function moveWorker(node: Node, moved: Moved) {
  const changes = await step("M.1 Look at this worker's files", async () => {
    const found = await changesHere(node, moved);
    for (const { path } of found) say(`will change ${path}`);
    if (found.length === 0) say("no file of this worker changes");
    else await refuseUnfitKubelet({ node, renames: true });
    refuseUnwritable(found.map(({ path }) => path));
    return found;
  });
  const putBack = async () => {
    if (mode.dryRun) return;
    for (const { path, before } of changes) writeFile(path, before, { note: "as before" });
    await systemctlKubelet("restart");
  };
  // a run may have been cut off before it started the kubelet again
  if (changes.length > 0 || !(await kubeletActive()))
    await step("M.2 Put the new addresses in, and restart the kubelet", () =>
      orUndo(() => restartWith(node, changes), putBack),
    );
  await step("M.3 See that pods in this machine's own network have its new address", async () => {
    const why = await failOf(() => renewHostPodIps(KubeApi.from(confOf(node)), node.name, moved));
    if (why) say(`not checked: ${why.message}. When the API server answers, type the same line again`);
  });
  await step("M.4 Say what still names an old address here", () =>
    mode.dryRun
      ? say("would check this node's files")
      : sayStillNamed(namedInFiles(moved), "no file of this node names one", "on this node"),
  );
}

function confOf({ kubelet: { kubeconfig } }: Node) {
  const conf = readKubeconfig(kubeconfig);
  if (conf) return conf;
  throw new Fail(`"${kubeconfig}" cannot be read`, {
    hint: "./bunw scripts/00-assess.ts says what is lost here",
  });
}

async function restartWith(node: Node, changes: readonly FileChange[]) {
  await systemctlKubelet("stop", " (containers keep running)");
  writeChanges(changes, asideOf(newRescue()));
  const conf = confOf(node);
  if (!mode.dryRun) await proveServer(conf.server, conf.caPem);
  const [since, hint] = [new Date(), "journalctl -u kubelet -n 50"];
  await systemctlKubelet("start");
  await waitForRenewal(KubeApi.from(conf), node.name, since, { seconds: 90, hint });
  if (!mode.dryRun) say(`${node.name}: renewed its Lease`);
}
