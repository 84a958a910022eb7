/**
 * A network plugin whose program on a node still trusts the CA of before: no new pod starts there. What only
 * looks like it is no fault.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { ADDRESS, healthyCp, otherCa, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { pretendNode } from "../pretend/node.ts";
import { serveRunning } from "../pretend/running.ts";

setDefaultTimeout(300_000);

const { ca: today } = await healthyCp();
const before = await otherCa();
const CNI = "/etc/cni/net.d";
const FILE = `${CNI}/calico-kubeconfig`;

/** As calico-node's install-cni writes it. */
function kubeconfig(cluster: object): string {
  return JSON.stringify({
    kind: "Config",
    clusters: [{ name: "local", cluster: { server: `https://${ADDRESS}:6443`, ...cluster } }],
  });
}

const ca = (...pems: string[]) => ({ "certificate-authority-data": btoa(pems.join("")) });
const conflist = (plugin: object) =>
  JSON.stringify({ name: "k8s-pod-network", plugins: [plugin, { type: "portmap" }] });
const CALICO = conflist({ type: "calico", ipam: { type: "calico-ipam" }, kubernetes: { kubeconfig: FILE } });
const OLD = { "10-calico.conflist": CALICO, "calico-kubeconfig": kubeconfig(ca(before.cert)) };

/** A node with these files of CNI, whose API is well. */
async function nodeWith(kind: "healthy control plane node" | "worker", files: Record<string, string>) {
  const node = await pretendNode({ kind });
  for (const [name, text] of Object.entries(files)) write(`${node.root}${CNI}/${name}`, text, 0o600);
  return node;
}

test("a control plane node says that no new pod starts there, in 00-assess and 05-verify, and that part 4 mends it", async () => {
  using node = await nodeWith("healthy control plane node", OLD);
  using _api = serveRunning(node);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const assess = await node.run("00-assess");
  expect(assess.exitCode).toBe(2);
  expect(assess.stdout).toMatch(
    /\/etc\/cni\/net\.d\/calico-kubeconfig +!OLD CA! +no new pod starts on this node, and none stops/,
  );
  expect(assess.stdout).toContain("./bunw scripts/04-sa-tokens.ts --only-system");
  expect(assess.stdout).not.toMatch(/01-etcd|02-control-plane/);
  const verify = await node.run("05-verify");
  expect(verify.exitCode).toBe(2);
  expect(verify.stdout).toContain("failed   node: /etc/cni/net.d/calico-kubeconfig: trusts the old CA");
  expect(verify.stdout).toMatch(
    /outage now\. .*No other new pod starts on this node, and none stops\n +repair: after part 3: .*04-sa-tokens\.ts --only-system/,
  );
});

test("a worker says it, too, and that it need not join again", async () => {
  using node = await nodeWith("worker", OLD);
  const cp = await pretendNode({ kind: "healthy control plane node" });
  using _api = serveRunning(cp);
  const { exitCode, stdout } = await node.run("00-assess");
  expect([exitCode, stdout]).toEqual([2, expect.stringContaining("!OLD CA!")]);
  expect(stdout).toContain(
    "on a control plane node, after part 3: ./bunw scripts/04-sa-tokens.ts --only-system",
  );
  expect(stdout).not.toContain("join");
  cp[Symbol.dispose]();
});

test.each<[string, Record<string, string>]>([
  [
    "has the current CA beside the old one",
    { ...OLD, "calico-kubeconfig": kubeconfig(ca(before.cert, today.cert)) },
  ],
  [
    "verifies nothing",
    { ...OLD, "calico-kubeconfig": kubeconfig({ "insecure-skip-tls-verify": true, ...ca(before.cert) }) },
  ],
  [
    "asks a server that nobody knows",
    { ...OLD, "calico-kubeconfig": kubeconfig({ server: "nowhere", ...ca(before.cert) }) },
  ],
  ["is of a plugin that was used before", { ...OLD, "05-cilium.conflist": conflist({ type: "cilium-cni" }) }],
  [
    "is named by a file that the runtime does not read",
    { ...OLD, "10-calico.conflist": "{", "20-bridge.conf": '{"type":"bridge"}' },
  ],
  ["is not there", { "10-calico.conflist": CALICO }],
  ["is no kubeconfig", { "10-calico.conflist": CALICO, "calico-kubeconfig": "\u0000: [" }],
])("a kubeconfig of CNI that %s is no fault", async (_, files) => {
  using node = await nodeWith("healthy control plane node", files);
  using _api = serveRunning(node);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const assess = await node.run("00-assess");
  expect({ exitCode: assess.exitCode, stdout: assess.stdout }).toMatchObject({
    exitCode: 0,
    stdout: expect.not.stringContaining("!OLD CA!"),
  });
  expect((await node.run("05-verify")).stdout).not.toContain("trusts the old CA");
});
