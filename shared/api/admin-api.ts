/** This master's own API server, as its admin; what parts 3 and 4 work with. */
import { Fail } from "../fail.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { localServer, readKubeconfig } from "../pki/kubeconfigs.ts";
import { waitFor } from "../run.ts";
import { KubeApi } from "./kube-api.ts";

/** Once it is ready: a machine that has just booted takes a moment. Errors: Fail where part 2 has not been here, or it does not come. */
export async function adminApi({ facts }: { facts: ClusterFacts }): Promise<KubeApi> {
  const admin = readKubeconfig("/etc/kubernetes/admin.conf");
  if (!admin) throw new Fail("There is no /etc/kubernetes/admin.conf", { hint: "part 2 first: ./bunw scripts/02-control-plane.ts" });
  const api = KubeApi.from(admin, localServer(facts));
  const hint = "crictl ps -a --name kube-apiserver; crictl logs ID; or part 2 again: ./bunw scripts/02-control-plane.ts";
  await waitFor(`${api.server}/readyz`, () => api.ready(), { seconds: 90, hint });
  return api;
}
