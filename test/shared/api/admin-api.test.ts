/** What is said while this node's API server starts. */
import { expect, test } from "bun:test";
import { apiReady } from "../../../shared/api/admin-api.ts";
import { ApiError } from "../../../shared/api/api-error.ts";
import type { KubeApi } from "../../../shared/api/kube-api.ts";

const answering = (status: number, message: string) =>
  ({
    server: "https://cp1:6443",
    ready: () => Promise.reject(new ApiError(status, message)),
  }) as unknown as KubeApi;

test("that an API server which starts refuses every path is said as what it is; another answer is said as it came", async () => {
  const forbidden = 'forbidden: User "kubernetes-admin" cannot get path "/readyz"';
  const hint = "crictl ps -a";
  await expect(apiReady(answering(403, forbidden), { seconds: 0.01, hint })).rejects.toThrow(
    /: the API server has not read its roles yet, or has lost them \(403\)$/,
  );
  await expect(apiReady(answering(500, "etcd failed"), { seconds: 0.01, hint })).rejects.toThrow(
    /: etcd failed$/,
  );
});
