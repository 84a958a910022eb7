/**
 * Kubelets with a CA of their own, seen from a worker: only the API server knows whether it takes such a certificate. It is
 * asked, and where it refuses, the certificate is of another CA. A worker that joins is back with such a certificate.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync, symlinkSync } from "node:fs";
import { certRow } from "../../shared/pki/certs.ts";
import { issueClient, issueLeaf, type Pair } from "../../shared/pki/issue.ts";
import { kubeletKubeconfig } from "../../shared/pki/kubeconfigs.ts";
import { pretendApi, status } from "../pretend/api.ts";
import { ADDRESS, FACTS, otherCa, write } from "../pretend/cluster.ts";
import { join, LEASE, newCa, serve, writeToken } from "../pretend/joining.ts";
import { pretendNode } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const FOLDER = "/var/lib/kubelet/pki";
const CURRENT = `${FOLDER}/kubelet-client-current.pem`;
const kubeletsCa = await otherCa("kubelet-ca");

async function clientOf(ca: Pair): Promise<string> {
  const { cert, key } = await issueClient({ cn: "system:node:w1", o: "system:nodes" }, ca, FACTS);
  return cert + key;
}

async function give(root: string, ca: Pair) {
  const path = `${FOLDER}/kubelet-client-2026-05-05-05-05-05.pem`;
  write(root + path, await clientOf(ca));
  rmSync(root + CURRENT, { force: true });
  symlinkSync(path, root + CURRENT);
}

test.each([
  [401, 2],
  [403, 2],
  [undefined, 0],
])("the API's answer to the certificate decides: %p ends with %p", async (refuses, exitCode) => {
  using node = here(await pretendNode({ kind: "worker" }));
  await give(node.root, kubeletsCa);
  using _api = pretendApi({
    ...{ hostname: ADDRESS, port: 6443, tls: await issueLeaf(certRow("apiserver"), node.ca, FACTS) },
    objects: { "/api/v1/nodes/w1": {} },
    on: () => (refuses ? status(refuses, "no") : undefined),
  });
  for (const script of ["00-assess", "05-verify"]) {
    const { stdout, ...end } = await node.run(script);
    expect({ script, exitCode: end.exitCode }).toEqual({ script, exitCode });
    expect(/other CA/i.test(stdout)).toBe(exitCode !== 0);
  }
});

test("the certificate of another node's kubelet is none of this node's, whatever the API says", async () => {
  using node = here(await pretendNode({ kind: "worker" }));
  const { cert, key } = await issueClient({ cn: "system:node:w2", o: "system:nodes" }, kubeletsCa, FACTS);
  rmSync(node.root + CURRENT);
  write(node.root + CURRENT, cert + key);
  using _api = pretendApi({
    ...{ hostname: ADDRESS, port: 6443, tls: await issueLeaf(certRow("apiserver"), node.ca, FACTS) },
    objects: { "/api/v1/nodes/w1": {} },
  });
  expect(await node.run("00-assess")).toMatchObject({
    exitCode: 2,
    stdout: expect.stringMatching(/other CA/i),
  });
});

test("a worker joins, and the certificate that comes is of the kubelets' own CA", async () => {
  using node = here(await pretendNode({ kind: "worker" }));
  writeToken(node.root);
  using api = await serve(newCa);
  const running = node.run(join(), { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await Promise.race([node.called("systemctl start kubelet"), running]);
  api.objects.set("/api/v1/nodes/w1", { metadata: { name: "w1" } });
  await give(node.root, kubeletsCa);
  write(
    `${node.root}/etc/kubernetes/kubelet.conf`,
    kubeletKubeconfig({ server: `https://${ADDRESS}:6443`, ca: newCa.cert }),
  );
  api.objects.get(LEASE).spec.renewTime = new Date(Date.now() + 60_000).toISOString();
  const { exitCode, stderr } = await running;
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("renewed its Lease"),
  });
});
