/** What the cluster keeps about its CA, written by several control plane nodes at the same moment. */
import { expect, test } from "bun:test";
import { publishClusterInfo } from "../../../shared/api/cluster-trust.ts";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { readYaml } from "../../../shared/yaml.ts";
import { type ApiOptions, NO_TLS, pretendApi, status } from "../../pretend/api.ts";
import { healthyCp } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { leadingTo } from "../../pretend/endpoint.ts";
import { onNode } from "../../pretend/no-node.ts";

const INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

/**
 * Another control plane node writes first: the first try to change a thing is refused, and by then the thing
 * is there as that one wrote it.
 */
function overtaken(wanted: Map<string, unknown>): NonNullable<ApiOptions["on"]> {
  const refused = new Set<string>();
  return ({ method, path, body }, { objects }) => {
    const target = method === "POST" ? `${path}/${body.metadata.name}` : path;
    if (method === "GET" || refused.has(target)) return undefined;
    refused.add(target);
    wanted.set(target, body);
    objects.set(target, body);
    return status(409, "the object has been modified");
  };
}

test("control plane nodes side by side: what another one has just written is no stop, and is not written again", async () => {
  const { root } = await healthyCp();
  await onNode(root, async () => {
    const cp = controlPlaneOf(await pretendData());
    const wanted = new Map<string, unknown>();
    using api = pretendApi({
      objects: { [INFO]: { data: { kubeconfig: "of the old CA" } } },
      on: overtaken(wanted),
    });
    const client = new KubeApi({ server: api.url, ca: NO_TLS });
    await publishClusterInfo(cp, client);
    expect(wanted.size).toBe(1);
    expect(api.changes().length).toBe(1);
    for (const [path, body] of wanted) expect(api.objects.get(path)).toEqual(body as never);
  });
});

test("cluster-info keeps its server, and all else but the CA; what is no kubeconfig is written whole", async () => {
  const { root, ca } = await healthyCp();
  await onNode(root, async () => {
    const cp = controlPlaneOf(await pretendData());
    const before = leadingTo("https://inner.example:8443", "of the old CA");
    using api = pretendApi({ objects: { [INFO]: { data: { kubeconfig: before } } } });
    const client = new KubeApi({ server: api.url, ca: NO_TLS });
    await publishClusterInfo(cp, client);
    const text: string = api.objects.get(INFO).data.kubeconfig;
    expect(readYaml(text)).toEqual(readYaml(leadingTo("https://inner.example:8443", ca.cert)) as never);
    await publishClusterInfo(cp, client);
    expect(api.changes()).toEqual([`PUT ${INFO}`]);
  });
});
