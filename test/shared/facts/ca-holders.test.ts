/** Who outside of the cluster has to learn a new CA. */
import { expect, test } from "bun:test";
import type { KubeObject } from "../../../shared/api/kube-object.ts";
import { holdersOf, managedNode } from "../../../shared/facts/ca-copies.ts";
import { pretendData } from "../../pretend/control-plane-node.ts";

const PLACE = { oldHashes: ["sha256:a", "sha256:b"], certificatesDir: "/etc/kubernetes/pki" };

test("a management cluster gets all four pairs anew, by the names of its Secrets", () => {
  const [first, ...others] = holdersOf({ managed: { namespace: "fleet", name: "shop" }, ...PLACE });
  expect(first).toContain("in its namespace fleet, put tls.crt and tls.key of the Secrets");
  expect(first).toContain("the Secrets shop-ca, shop-etcd, shop-proxy, shop-sa again");
  expect(others).toEqual(holdersOf({ managed: undefined, ...PLACE }));
  expect(others).toEqual([expect.stringContaining("search it for sha256:a and sha256:b, ")]);
});

const OF_CLUSTER_API = {
  "cluster.x-k8s.io/cluster-name": "shop",
  "cluster.x-k8s.io/cluster-namespace": "fleet",
};

test.each<[string, Record<string, string>, ReturnType<typeof managedNode>]>([
  ["by both annotations", OF_CLUSTER_API, { namespace: "fleet", name: "shop" }],
  ["not without a namespace", { "cluster.x-k8s.io/cluster-name": "shop" }, undefined],
  ["not by a name that is none", { ...OF_CLUSTER_API, "cluster.x-k8s.io/cluster-name": "$(id)" }, undefined],
  [
    "not by a namespace that is none",
    { ...OF_CLUSTER_API, "cluster.x-k8s.io/cluster-namespace": "a;b" },
    undefined,
  ],
  ["not without annotations", {}, undefined],
])("whether Cluster API made a node is told %s", async (_, annotations, managed) => {
  using data = await pretendData((objects) => {
    Object.assign((objects["minions/m1"] as KubeObject).metadata, { annotations });
  });
  expect(managedNode(data, "m1")).toEqual(managed);
});
