/**
 * 03-join on a worker that reaches the API by a balancer of its own: its CA and its client certificate
 * change, and no more.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import { kubeletKubeconfig, serverIn } from "../../shared/pki/kubeconfigs.ts";
import { pretendApi, status } from "../pretend/api.ts";
import { ADDRESS, FACTS, write } from "../pretend/cluster.ts";
import { BALANCER, lead } from "../pretend/endpoint.ts";
import { bootstrap, join, LEASE, newCa, serve, TOKEN, writeToken } from "../pretend/joining.ts";
import { pretendNode } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";
import { expectRefusal } from "../pretend/wrong-hands.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const CONF = "/etc/kubernetes/kubelet.conf";
const OWN = `https://${BALANCER}:6443`;
const renewed = () => ({ metadata: {}, spec: { renewTime: new Date(Date.now() + 60_000).toISOString() } });

/** The worker's own balancer, as it answers under the new CA: the token may see the version alone. */
async function serveOwn() {
  return pretendApi({
    hostname: BALANCER,
    port: 6443,
    tls: await issueLeaf(certRow("apiserver"), newCa, { ...FACTS, certSANs: [BALANCER] }),
    on: ({ path, token }) => {
      if (path === LEASE) return Response.json(renewed());
      return path === "/version" && token === TOKEN ? Response.json({}) : status(401, "Unauthorized");
    },
  });
}

async function worker() {
  const node = here(await pretendNode({ kind: "worker" }));
  lead(node, "kubelet.conf", OWN);
  writeToken(node.root);
  return node;
}

/** What the kubelet makes of a bootstrap kubeconfig: its own form, with that server. */
async function itsKubelet(node: Awaited<ReturnType<typeof worker>>) {
  await node.written("/etc/kubernetes/bootstrap-kubelet.conf");
  await node.called("systemctl start kubelet");
  const server = serverIn(node.read("/etc/kubernetes/bootstrap-kubelet.conf"))!;
  await bootstrap(node);
  write(`${node.root}${CONF}`, kubeletKubeconfig({ server, ca: newCa.cert }));
}

const PATIENT = { KUBE_PKI_REPAIR_PATIENCE: "1" };

test("where its own balancer answers with the new CA it joins there, and --server is not even asked", async () => {
  using node = await worker();
  using _own = await serveOwn();
  const [run] = await Promise.all([node.run(join(), PATIENT), itsKubelet(node)]);
  expect(run).toMatchObject({ exitCode: 0 });
  expect(run.stderr).toContain(
    ":6443, this worker's own address of the API: only the CA and the client certificate change\n",
  );
  expect(serverIn(node.read(CONF))).toBe(OWN);
});

test("where its own balancer comes with the kubelet it joins at --server, and then leads where it led before", async () => {
  using node = await worker();
  using api = await serve(newCa);
  api.objects.set(LEASE, renewed());
  const joining = node.run(join(), PATIENT);
  await itsKubelet(node);
  using _own = await serveOwn();
  const { exitCode, stderr } = await joining;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(": does not answer with the new CA yet; this worker joins at https://");
  expect(stderr).toContain(`  unchanged server in ${CONF}: https://`);
  expect(serverIn(node.read(CONF))).toBe(OWN);
  expect(node.read(CONF)).toContain(Buffer.from(newCa.cert).toString("base64"));
});

/** KubeKey after a reboot: /etc/hosts leads the cluster's name to the worker's own balancer, which its kubelet starts. */
test.each([
  ["kubelet.conf leads there, too", OWN],
  ["kubelet.conf is lost", undefined],
])(
  "where --server is its own balancer, which comes with the kubelet, it joins at the address in the token file: %s",
  async (_, before) => {
    using node = here(await pretendNode({ kind: "worker" }));
    if (before) lead(node, "kubelet.conf", before);
    else rmSync(`${node.root}${CONF}`);
    writeToken(node.root, newCa.cert, `https://${ADDRESS}:6443`);
    using api = await serve(newCa);
    api.objects.set(LEASE, renewed());
    const joining = node.run(join(undefined, OWN), PATIENT);
    await itsKubelet(node);
    using _own = await serveOwn();
    const { exitCode, stderr } = await joining;
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stderr).toContain(`this worker joins at https://`);
    expect(serverIn(node.read(CONF))).toBe(OWN);
  },
);

test("where its own balancer never answers it leads to --server, and says so with the way back", async () => {
  using node = await worker();
  using api = await serve(newCa);
  api.objects.set(LEASE, renewed());
  const [run] = await Promise.all([node.run(join(), { KUBE_PKI_REPAIR_PATIENCE: "0.1" }), itsKubelet(node)]);
  expect(run).toMatchObject({ exitCode: 0 });
  expect(run.stderr).toMatch(
    /warning: \S+kubelet.conf has the server https:\S+ now, as https:\S+ does not answer: wait until the API answers at https:\S+\. Then write that address/,
  );
  expect(serverIn(node.read(CONF))).toBe(`https://${ADDRESS}:6443`);
});

/** Each process has its own: the balancer's address is loopback's, whoever else runs here. */
const PORT = 20_000 + (process.pid % 10_000);
const POD = "/etc/kubernetes/manifests/haproxy.yaml";

test.each([
  ["a static pod of this worker that answers with the CA", true, true],
  ["no static pod, whoever answers there", false, true],
  ["a static pod, but nobody answers with the CA", true, false],
])("where kubelet.conf is lost, with %s", async (_, hasPod, answers) => {
  using node = here(await pretendNode({ kind: "worker" }));
  for (const file of ["kubelet.conf", "pki/ca.crt"]) rmSync(`${node.root}/etc/kubernetes/${file}`);
  writeToken(node.root);
  if (hasPod)
    write(
      `${node.root}${POD}`,
      "metadata: {name: haproxy, namespace: kube-system}\nspec: {containers: []}\n",
    );
  const tls = await issueLeaf(certRow("apiserver"), newCa, { ...FACTS, certSANs: ["127.0.0.1"] });
  const served = { port: PORT, tls, objects: { [LEASE]: renewed() } };
  using _api = pretendApi({ ...served, hostname: ADDRESS });
  const joining = node.run(join().replace(":6443", `:${PORT}`), {
    KUBE_PKI_REPAIR_PATIENCE: answers ? "1" : "0.1",
  });
  await itsKubelet(node);
  using _own = answers ? pretendApi({ ...served, hostname: "127.0.0.1" }) : undefined;
  const { exitCode, stderr } = await joining;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(serverIn(node.read(CONF))).toBe(`https://${hasPod && answers ? "127.0.0.1" : ADDRESS}:${PORT}`);
});

test("join: a server that is not https gets no token", async () => {
  using node = here(await pretendNode({ kind: "worker" }));
  writeToken(node.root);
  await expectRefusal(
    node,
    join().replace("https://", "http://"),
    /^"http:\/\/\S+" is no address that begins with https:\/\/: a token would go there in clear$/,
    /Nothing was sent$/,
    3,
  );
});
