/** What part 1 gives the kubelet of a control plane node. */

import { expect, test } from "bun:test";
import { cpSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { list, readText, writeFile } from "../../../shared/files/files.ts";
import { ensureControlPlaneKubelet } from "../../../shared/node/control-plane-kubelet.ts";
import { infoOf } from "../../../shared/pki/certificate.ts";
import { localServer, readKubeconfig } from "../../../shared/pki/kubeconfigs.ts";
import { healthyCp, otherCa } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

/** A control plane node whose kubelet.conf is lost; API clients reach the cluster by a balancer. */
async function withoutKubeletConf() {
  const { root } = await healthyCp();
  const cp = controlPlaneOf(await pretendData());
  const box = sandbox();
  cpSync(`${root}/etc`, `${box.dir}/etc`, { recursive: true });
  rmSync(`${box.dir}${cp.node.kubelet.kubeconfig}`);
  return { box, cp, facts: { ...cp.facts, controlPlaneEndpoint: "balancer.example:6443" } };
}

test.each(["v1.29.15", "v1.34.4"])(
  "%s: its kubelet asks its own API server, not a balancer that has none yet",
  async (kubernetesVersion) => {
    const { box, cp, facts } = await withoutKubeletConf();
    using _ = box;
    expect(await ensureControlPlaneKubelet(cp.node, { ...facts, kubernetesVersion }, cp.asideDir)).toBe(true);
    expect(readKubeconfig(cp.node.kubelet.kubeconfig)?.server).toBe(localServer(facts));
    expect(await ensureControlPlaneKubelet(cp.node, { ...facts, kubernetesVersion }, cp.asideDir)).toBe(
      false,
    );
  },
);

test.each(["RSA-2048", "RSA-4096", "ECDSA-P384"] as const)(
  "where the cluster's keys are %s its certificate has the kind of key that a kubelet makes",
  async (keyAlgorithm) => {
    const { box, cp, facts } = await withoutKubeletConf();
    using _ = box;
    rmSync(`${box.dir}/var`, { recursive: true, force: true });
    await ensureControlPlaneKubelet(cp.node, { ...facts, keyAlgorithm }, cp.asideDir);
    const [pem] = list(dirname(cp.node.kubelet.clientPem)).filter((name) => /client-\d/.test(name));
    const text = readText(`${dirname(cp.node.kubelet.clientPem)}/${pem}`)!;
    expect(infoOf(text)?.algorithm).toBe("ECDSA-P256");
    expect(text).toContain("-----BEGIN EC PRIVATE KEY-----");
  },
);

test.each([
  ["the balancer", "https://balancer.example:6443", true],
  ["a proxy of its own", "https://127.0.0.1:8443", false],
])("a kubelet.conf that is well and leads to %s", async (_, server, changes) => {
  const { box, cp, facts } = await withoutKubeletConf();
  using _box = box;
  await ensureControlPlaneKubelet(cp.node, facts, cp.asideDir);
  const { kubeconfig } = cp.node.kubelet;
  const text = readText(kubeconfig)!.replace(localServer(facts), server);
  writeFile(kubeconfig, text);
  expect(await ensureControlPlaneKubelet(cp.node, facts, cp.asideDir)).toBe(changes);
  expect(readKubeconfig(kubeconfig)?.server).toBe(changes ? localServer(facts) : server);
  expect(readText(`${cp.asideDir}${kubeconfig}`)).toBe(changes ? text : undefined);
});

test.each<[string, (ca: string, other: string) => string | undefined, boolean]>([
  ["the current CA", (ca) => ca, false],
  ["nothing", () => undefined, false],
  ["another CA", (_, other) => other, true],
])(
  "the kubelet's own client CA file has %s: it has today's then, and what was replaced is kept",
  async (_, was, isKept) => {
    const { box, cp, facts } = await withoutKubeletConf();
    using _box = box;
    const [ca, other] = [readText("/etc/kubernetes/pki/ca.crt")!, (await otherCa()).cert];
    const clientCaFile = "/var/lib/kubelet/clients.crt";
    const node = { ...cp.node, kubelet: { ...cp.node.kubelet, clientCaFile } };
    const before = was(ca, other);
    if (before !== undefined) writeFile(clientCaFile, before);
    await ensureControlPlaneKubelet(node, facts, cp.asideDir);
    expect(readText(clientCaFile)).toContain(ca.trim());
    expect(readText(`${cp.asideDir}${clientCaFile}`)).toBe(isKept ? before : undefined);
  },
);
