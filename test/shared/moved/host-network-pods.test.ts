/** A second restart of the kubelet, where it remembers an old podIP of pods in its own network; and none elsewhere. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { renewHostPodIps } from "../../../shared/moved/tell-cluster.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";
import { lookAt } from "../../pretend/in-process.ts";

setDefaultTimeout(300_000);

const [OLD, NEW] = ["10.66.0.11", "10.66.0.111"];
const RESTART = "systemctl restart kubelet";

function pod(podIP: string, { hostNetwork = true, nodeName = "w1" } = {}) {
  return {
    "/api/v1/namespaces/shop/pods/agent": {
      spec: { hostNetwork, nodeName },
      status: { podIP, podIPs: [{ ip: podIP }] },
    },
  };
}

/** `named`: what the Node says of its address. A kubelet that starts anew says the same of its pods, unless it is `stubborn`. */
async function renew(pods: object, { named = NEW, stubborn = false } = {}) {
  return await lookAt({ kind: "worker" }, async (node, said) => {
    const restarted = () => node.calls().includes(RESTART);
    using server = pretendApi({
      objects: { "/api/v1/nodes/w1": { status: { addresses: [{ address: named }] } }, ...pods },
      on(_request, { objects }) {
        const agent = objects.get("/api/v1/namespaces/shop/pods/agent");
        if (restarted() && !stubborn) agent.status = { podIP: named };
        return undefined;
      },
    });
    const api = new KubeApi({ server: server.url, ca: NO_TLS });
    const end = await renewHostPodIps(api, "w1", new Map([[OLD, NEW]])).catch((err: unknown) => err);
    return { end, said: said.join("\n"), restarted: restarted(), changes: server.changes() };
  });
}

test("a kubelet that remembers an old podIP is restarted once more, and no pod is touched", async () => {
  const { end, said, restarted, changes } = await renew(pod(OLD));
  expect({ end, restarted, changes }).toEqual({ end: undefined, restarted: true, changes: [] });
  expect(said).toContain("it remembers an old podIP of shop/agent");
});

for (const [what, pods] of [
  ["the new podIP", pod(NEW)],
  ["a podIP of the pods' network", pod(OLD, { hostNetwork: false })],
  ["another node's", pod(OLD, { nodeName: "w2" })],
] as const)
  test(`${what}: nothing is restarted`, async () => {
    expect(await renew(pods)).toMatchObject({ end: undefined, restarted: false });
  });

test("as long as its Node names the old address a restart would change nothing: it is said", async () => {
  const { end, said, restarted } = await renew(pod(OLD), { named: OLD });
  expect({ end, restarted }).toEqual({ end: undefined, restarted: false });
  expect(said).toContain("Node w1 still names an old address: journalctl");
});

test("a restart that changes nothing is no success, and no end of the move: others may write a pod's status", async () => {
  const { end, said, restarted } = await renew(pod(OLD), { stubborn: true });
  expect({ end, restarted }).toEqual({ end: undefined, restarted: true });
  expect(said).toContain(
    "warning: the status of shop/agent still names an old podIP: Services may lead there",
  );
});
