/** Part 2 on this node: certificates and kubeconfigs of the API server, controller-manager and scheduler, then their static pods. */
import { type ControlPlaneNode, ensureOptions } from "../facts/control-plane-node.ts";
import { exists } from "../files/files.ts";
import { manifestPath } from "../manifests/on-disk.ts";
import { type Container, containers, stopContainers } from "../node/containers.ts";
import { ensureControlPlaneKubelet } from "../node/kubelet-certs.ts";
import { kubeletActive } from "../node/node.ts";
import { CERTS } from "../pki/certs.ts";
import { ensureMany } from "../pki/ensure.ts";
import { kubeconfigRows } from "../pki/kubeconfigs.ts";
import { say } from "../run.ts";
import { fitKubeletCa } from "./kubelet-ca.ts";
import { restartKubelet, restoreServers } from "./late-manager.ts";
import { mountsSuperAdmin, onlyOnPeers, SERVERS, staleReaders } from "./wanted-manifests.ts";

/** Files before manifests: where a static pod comes before its kubeconfig, the kubelet makes an empty one. Returns what was written. */
export async function issueForServers(cp: ControlPlaneNode, options: { superAdmin: boolean | undefined }): Promise<string[]> {
  const bundles = fitKubeletCa(cp);
  const superAdmin = options.superAdmin || mountsSuperAdmin(cp);
  const kubeconfigs = kubeconfigRows(cp.facts, { superAdmin }).filter((row) => row.name !== "kubelet");
  const { written } = await ensureMany({ certs: CERTS, kubeconfigs, serviceAccountKey: true }, cp.facts, ensureOptions(cp));
  return [...bundles, ...written];
}

/** Pods with new certificates or kubeconfigs start again, as they read them once. Returns when anything was started, or undefined. */
export async function startServers(cp: ControlPlaneNode, issued: readonly string[]): Promise<Date | undefined> {
  const began = new Date();
  const { node, facts, asideDir } = cp;
  const running = (await containers(node.runtimeEndpoint)).filter((c) => c.running);
  const watched = exists(node.kubelet.staticPodPath) && (await kubeletActive());
  const tried = SERVERS.some((name) => exists(manifestPath(cp, name)));
  const restored = restoreServers(cp);
  for (const { name, peer } of onlyOnPeers(cp))
    say(`${name}: ${peer} has this static pod; whether this node had it is not known. If it had: copy its manifest from there`);
  const stale = [...new Set([...(issued.length > 0 ? running.filter(isServer) : []), ...staleReaders(cp, running)])];
  if (stale.length > 0) await stopContainers(node.runtimeEndpoint, stale);
  const credentials = await ensureControlPlaneKubelet(node, facts, asideDir);
  // A kubelet whose folder of manifests was there all the time has seen them come; any other one looks again only after 20 s. One that
  // tried to start them without their certificates holds them back for up to five minutes, and forgets that when it starts anew.
  const restart = !watched || credentials || (tried && (issued.length > 0 || restored));
  if (restart) await restartKubelet(cp);
  return restored || restart || stale.length > 0 ? began : undefined;
}

function isServer({ namespace, name }: Container): boolean {
  return namespace === "kube-system" && SERVERS.some((server) => server === name);
}
