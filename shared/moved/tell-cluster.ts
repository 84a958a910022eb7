/**
 * Objects of the cluster that name an old address, and that nobody else rewrites: kubeadm-config, without
 * which the next `kubeadm upgrade` or `join` brings the old ones back; cluster-info; kube-proxy's kubeconfig.
 * A Node's addresses, the Service kubernetes and its EndpointSlice follow by themselves.
 */
import { changeClusterInfo } from "../api/cluster-trust.ts";
import type { KubeApi } from "../api/kube-api.ts";
import type { KubeObject } from "../api/kube-object.ts";
import { Fail } from "../fail.ts";
import { asMoved, endpointPutIn, type Moved } from "../pki/addresses.ts";
import { act, say } from "../run.ts";

/** Of kube-system. */
const CONFIG_MAPS = ["kubeadm-config", "kube-proxy"];

type ConfigMap = KubeObject & { data?: Record<string, string> };

export async function tellCluster(api: KubeApi, moved: Moved) {
  for (const name of CONFIG_MAPS) {
    const path = `/api/v1/namespaces/kube-system/configmaps/${name}`;
    const now = (await api.find<ConfigMap>(path))?.data;
    const changed = Object.entries(now ?? {}).flatMap(([key, text]) => {
      const today = withEndpoint(key, asMoved(text, moved), moved);
      return today === text ? [] : [[key, today] as const];
    });
    if (!now) say(`${name}: not there`);
    else if (changed.length === 0) say(`unchanged ${name}: no old address in it`);
    else
      await act("update", `addresses in ${name}: ${changed.map(([key]) => key).join(", ")}`, () =>
        api.patch(path, { data: Object.fromEntries(changed) }),
      );
  }
  await changeClusterInfo(api, (before) => asMoved(before, moved));
}

/** kubeadm's own text has it once, at the beginning of a line, or not at all. */
function withEndpoint(key: string, text: string, moved: Moved): string {
  const putIn = endpointPutIn(moved);
  if (!putIn || key !== "ClusterConfiguration") return text;
  const line = `controlPlaneEndpoint: ${putIn}\n`;
  if (text.trimStart().startsWith("{"))
    throw new Fail(`ClusterConfiguration cannot be given "${line.trim()}": it is not as kubeadm writes it`, {
      hint: "kubectl -n kube-system edit configmap kubeadm-config; then the same line again",
    });
  return /^controlPlaneEndpoint:/m.test(text)
    ? text.replace(/^controlPlaneEndpoint:.*\n?/m, line)
    : `${text.replace(/\n?$/, "\n")}${line}`;
}
