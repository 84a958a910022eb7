/** Who outside of the cluster has to learn a new CA. */
import { expect, test } from "bun:test";
import { holdersOf } from "../../../shared/facts/ca-holders.ts";

const PLACE = { oldHashes: ["sha256:a", "sha256:b"], certificatesDir: "/etc/kubernetes/pki" };

test("a management cluster gets all four pairs anew, by the names of its Secrets", () => {
  const [first, ...others] = holdersOf({ managed: { namespace: "fleet", name: "shop" }, ...PLACE });
  expect(first).toContain("in its namespace fleet, put tls.crt and tls.key of the Secrets");
  expect(first).toContain("the Secrets shop-ca, shop-etcd, shop-proxy, shop-sa anew");
  expect(others).toEqual(holdersOf({ managed: undefined, ...PLACE }));
  expect(others).toEqual([expect.stringContaining("search it for sha256:a and sha256:b, ")]);
});
