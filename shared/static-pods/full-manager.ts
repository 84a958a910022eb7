/** The reduced controller-manager runs in full again on this node: the end of part 3. */
import { waitForEndpoints } from "../api/endpoints.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { dropLease, leaderOf, nextLeader } from "../api/leader-leases.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { forGood } from "../for-good.ts";
import { manifestPath } from "../manifests/on-disk.ts";
import { full } from "../manifests/reduced-controllers.ts";
import { controlPlaneContainers } from "../node/containers.ts";
import { mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { waitFor } from "../wait-for.ts";
import { exchangeManifest, manifestBeforeOrAfter } from "./exchange.ts";

/** Turns on again what was reduced. Each control plane node sees in its own manifest what was reduced. */
export async function fullControllerManager(cp: ControlPlaneNode, api: KubeApi) {
  const name = "kube-controller-manager";
  const path = manifestPath(cp, name);
  const now = manifestBeforeOrAfter(path);
  if (!now) throw new Fail(`There is no "${path}"`, { hint: "part 2 first: ./bunw scripts/02-control-plane.ts" });
  const manifest = full(now);
  if (manifest === now && exists(path)) return say(`${path}: kept, nothing in it is reduced`);
  await waitForEndpoints(api);
  forGood("fullManager");
  await exchangeManifest(cp, name, { manifest, note: "node-lifecycle, taint eviction and pod collection are on again" });
  if (mode.dryRun) return;
  const last = await leaderOf(api, name);
  if (last?.holder.startsWith(`${cp.node.hostName}_`)) await dropLease(api, name, last.holder);
  const hint = shell`crictl ps -a --name ${name}; crictl logs ID`;
  await waitFor("the kubelet to start it again", () => runs(cp, name), { seconds: 60, hint });
  say(`${await nextLeader(api, name, last, { seconds: 90, hint })}: leads`);
}

async function runs({ node }: ControlPlaneNode, name: string): Promise<boolean> {
  return (await controlPlaneContainers(node.runtimeEndpoint)).some((container) => container.name === name);
}
