/** Leases of kubelets: whose kubelets renew theirs. */
import { expect, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { nodeLeases } from "../../../shared/api/leases.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";

const LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const renewed = (secondsAgo: number) => ({ spec: { renewTime: new Date(Date.now() - secondsAgo * 1000).toISOString() } });

test("nodeLeases() gives a kubelet the time to find an API that was away, and looks once if all have renewed their Lease", async () => {
  let asked = 0;
  using api = pretendApi({
    objects: { [`${LEASES}/m1`]: renewed(3), [`${LEASES}/w1`]: renewed(90), [`${LEASES}/gone`]: renewed(4000) },
    on: (_, { objects }) => {
      if (++asked === 3) Object.assign(objects.get(`${LEASES}/w1`), renewed(0));
      return undefined;
    },
  });
  const client = new KubeApi({ server: api.url, ca: NO_TLS });
  expect((await nodeLeases(client, ["m1", "w1"])).notRenewed).toEqual([]);
  expect(asked).toBe(3);
  await nodeLeases(client, ["m1", "w1"]);
  expect(asked).toBe(4);
});

test("a node whose clock is late counts when its Lease is renewed while we look", async () => {
  let asked = 0;
  using api = pretendApi({
    objects: { [`${LEASES}/late`]: renewed(600) },
    on: (_, { objects }) => {
      Object.assign(objects.get(`${LEASES}/late`), renewed(600 - ++asked));
      return undefined;
    },
  });
  expect((await nodeLeases(new KubeApi({ server: api.url, ca: NO_TLS }), ["late"])).notRenewed).toEqual([]);
});
