/**
 * Healthy clusters that are reached at another place than kubeadm-config says: nothing is damaged, nothing is
 * stopped, no byte changes.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import { ADDRESS, FACTS, otherCa } from "../pretend/cluster.ts";
import { BALANCER, certify, lead, leadingTo, OLD, said, serveBalancer } from "../pretend/endpoint.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { type NodeOptions, pretendNode } from "../pretend/node.ts";
import { lease, serveRunning } from "../pretend/running.ts";
import { expectRefusal, REFUSED } from "../pretend/wrong-hands.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

type Node = Awaited<ReturnType<typeof pretendNode>>;

const CONTAINERS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"];
const LB = `${BALANCER}:6443`;

/** A node that is well, with the servers of its cluster. */
async function well(etcd: NodeOptions["etcd"], change: (node: Node) => unknown = () => undefined) {
  const node = await pretendNode({
    kind: "healthy control plane node",
    containers: CONTAINERS,
    ...(etcd && { etcd }),
  });
  await change(node);
  const [servers, api] = [
    serveEtcd(node.root, sameEtcd(node.stored)),
    serveRunning(node, { objects: wholeObjects(node), on: renewing }),
  ];
  return Object.assign(node, {
    api,
    end: () => {
      for (const one of [servers, api, node]) one[Symbol.dispose]();
    },
  });
}

/** What a cluster has that was never repaired: nothing is left to be written. */
function wholeObjects(node: Node): Record<string, object> {
  const [ca, frontProxy] = [node.ca.cert, node.read("/etc/kubernetes/pki/front-proxy-ca.crt")];
  return {
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/kubeadm:cluster-admins": {},
    "/api/v1/namespaces/kube-public/configmaps/cluster-info": {
      data: { kubeconfig: leadingTo(`https://${LB}`, ca) },
    },
    "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication": {
      data: { "client-ca-file": ca, "requestheader-client-ca-file": frontProxy },
    },
  };
}

/** Every kubelet and every leader renews its Lease, all the time. */
const renewing = (_: unknown, { objects }: { objects: Map<string, { spec?: object }> }) => {
  for (const [path, object] of objects)
    if (path.includes("/leases/")) Object.assign(object.spec!, lease(-60).spec);
  return undefined;
};

const TOUCHES = /systemctl (stop|start|restart)|crictl .* (stop|rm)|systemd-run/;

/**
 * Each script as typed: its exit code is `code`, and nothing of the node or the cluster changes. Returns what it
 * said.
 */
async function untouched(node: Awaited<ReturnType<typeof well>>, line: string, code = 0) {
  const [before, changes] = [node.fingerprint(), node.api.changes().length];
  const { exitCode, stdout, stderr } = await node.run(line);
  expect({ line, exitCode, stdout, stderr }).toMatchObject({ exitCode: code });
  const changed = node.fingerprint().filter((one) => !before.includes(one));
  expect(changed.length > 0 ? { stderr, changed } : {}).toEqual({});
  expect(node.calls().filter((call) => TOUCHES.test(call))).toEqual([]);
  const own = /\/(token|tokenreviews)$/;
  expect(
    node.api
      .changes()
      .slice(changes)
      .filter((change) => !own.test(change)),
  ).toEqual([]);
  return { stdout, stderr };
}

const SCRIPTS = ["00-assess", "01-etcd", "02-control-plane", "03-workers open", "05-verify"];

const moved = async (node: Node) => {
  await certify(node, { controlPlaneEndpoint: LB });
  for (const name of ["admin.conf", "controller-manager.conf", "scheduler.conf"])
    lead(node, name, `https://${LB}`);
};

const ROWS: [string, NodeOptions["etcd"], (node: Node) => unknown, RegExp][] = [
  [
    "kubeadm-config has the endpoint of before",
    said({ kubeadm: `${OLD}:6443`, clusterInfo: LB, kubeProxy: LB }),
    moved,
    /endpoint +kubeadm-config: 127\.\d+\.\d+\.16:6443 \(does not answer\) +cluster-info, kube-proxy, admin.conf, .*:6443 \(answers\)\n/,
  ],
  [
    "the balancer came later, and kubeadm-config has none",
    said({ clusterInfo: LB, kubeProxy: LB }),
    moved,
    /endpoint +kubeadm-config: none/,
  ],
  [
    "all kubeconfigs lead to 127.0.0.1, as kubespray's",
    undefined,
    async (node) => {
      await certify(node, { certSANs: ["127.0.0.1"] });
      for (const name of ["admin.conf", "controller-manager.conf", "scheduler.conf"])
        lead(node, name, "https://127.0.0.1:6443");
    },
    /127\.0\.0\.1:6443/,
  ],
  [
    "admin.conf leads to an old place that still answers",
    undefined,
    async (node) => {
      await certify(node, { certSANs: [BALANCER] });
      lead(node, "admin.conf", `https://${LB}`);
    },
    /admin\.conf/,
  ],
  [
    "kubeadm-config has a name that the certificate has not",
    said({ kubeadm: "api.example:6443", clusterInfo: `${ADDRESS}:6443`, kubeProxy: `${ADDRESS}:6443` }),
    () => undefined,
    /api\.example/,
  ],
];

for (const [what, etcd, change, said] of ROWS)
  test(`healthy, and ${what}: well, and nothing is touched`, async () => {
    const node = await well(etcd, change);
    using balancer = serveBalancer(node);
    try {
      const assessed = await untouched(node, "00-assess");
      expect(assessed.stdout).toMatch(/^well: \d+ files/m);
      expect(assessed.stdout).toContain("differs from what kubeadm-config says, and works (nothing to do)\n");
      expect(assessed.stdout).toMatch(said);
      for (const line of SCRIPTS.slice(1)) await untouched(node, line);
      expect(balancer.changes()).toEqual([]);
    } finally {
      node.end();
    }
  });

test.each([
  ["kubeadm-config has none", undefined],
  ["kubeadm-config has this node", `${ADDRESS}:6443`],
])(
  "healthy, the balancer came later, %s, and the balancer is silent to this node: nothing is led past it",
  async (_, kubeadm) => {
    const node = await well(said({ kubeadm, clusterInfo: LB, kubeProxy: LB }), moved);
    try {
      const { stdout } = await untouched(node, "00-assess");
      expect(stdout).toMatch(
        /endpoint +kubeadm-config: .*cluster-info, kube-proxy, admin.conf, .*:6443 \(does not answer\)/,
      );
      for (const line of SCRIPTS.slice(1)) await untouched(node, line);
    } finally {
      node.end();
    }
  },
);

/** Who answers at the balancer's address and is not this cluster's API for that name. */
const ANSWERS: [string, (node: Node) => Disposable | Promise<Disposable>, RegExp][] = [
  [
    "a stranger",
    async (node) => serveBalancer(node, { tls: await issueLeaf(API, await otherCa(), FACTS) }),
    /answers with an unknown certificate/,
  ],
  [
    "a kubelet of this cluster, with a certificate of the cluster's CA for another name",
    async (node) => serveBalancer(node, { tls: await issueLeaf(KUBELETS, node.ca, FACTS) }),
    /answers with a certificate that is not for this name/,
  ],
  [
    "an error page without TLS",
    () => {
      const page = Bun.serve({ ...AT, fetch: () => new Response("no backend", { status: 503 }) });
      return { [Symbol.dispose]: () => void page.stop(true) };
    },
    /does not answer/,
  ],
];

const API = certRow("apiserver");
const KUBELETS = { ...API, cn: "system:node:w1", names: () => ({ dns: ["w1"], ips: ["127.77.0.99"] }) };
const AT = { hostname: BALANCER, port: 6443 };

const TOLD: [string, string | undefined][] = [
  ["has none", undefined],
  ["has this node", `${ADDRESS}:6443`],
  ["has the balancer", LB],
];

for (const [who, serve, words] of ANSWERS)
  test.each(TOLD)(
    `healthy, and at the balancer's address ${who} answers; kubeadm-config %s: nothing is led past it`,
    async (_, kubeadm) => {
      const node = await well(said({ kubeadm, clusterInfo: LB, kubeProxy: LB }), moved);
      using _other = await serve(node);
      try {
        const { stdout } = await untouched(node, "00-assess");
        expect(stdout).toMatch(/^well: \d+ files/m);
        expect(stdout).toMatch(words);
        for (const line of [...SCRIPTS.slice(1), "02-control-plane --dry-run", "plan"])
          await untouched(node, line);
        // its audit policy and a backup are missing, whoever answers
        const { stdout: drill } = await untouched(node, "drill", 2);
        expect(drill).toMatch(/4 kubeconfigs +ok +the same server/);
      } finally {
        node.end();
      }
    },
  );

test("the API server behind the balancer lacks its name: the certificate is made anew, and no kubeconfig is led past the balancer", async () => {
  const node = await well(said({ clusterInfo: LB, kubeProxy: LB }), (node) =>
    lead(node, "admin.conf", `https://${LB}`),
  );
  using _balancer = serveBalancer(node);
  try {
    const { stdout } = await node.run("00-assess");
    expect(stdout).toContain("answers with a certificate that is not for this name");
    expect(stdout).toMatch(/apiserver\.crt, \S+ +!WRONG NAMES! +it is not valid for \S+\.15\n/);
    expect(stdout).not.toContain("WRONG SERVER");
  } finally {
    node.end();
  }
});

test("lost, and nothing decides: refused before anything is stopped, with what each witness says; --endpoint decides and is kept", async () => {
  using node = await pretendNode({ etcd: said({ kubeadm: `${OLD}:6443`, clusterInfo: LB }) });
  const what =
    /^Nothing decides the address of this cluster's API: kubeadm-config: \S+:6443 \(does not answer\) {3}cluster-info: \S+:6443 /;
  const again = /^give the API's address: \.\/bunw scripts\/01-etcd\.ts --new-cas --endpoint HOST:PORT$/;
  await expectRefusal(node, "01-etcd --new-cas", what, again, REFUSED);
  expect(await node.run(`01-etcd --dry-run --new-cas --endpoint ${LB}`)).toMatchObject({ exitCode: 0 });
  using later = await pretendNode({ kind: "healthy control plane node" });
  const { stderr } = await later.run(`02-control-plane --endpoint ${LB}`);
  expect(stderr).toEndWith("hint: run part 1 first: ./bunw scripts/01-etcd.ts\n");
  expect((await later.run("01-etcd --dry-run")).stderr).toContain(
    `(02-control-plane, on m1): the API is reached at ${LB}\n`,
  );
});

test("lost, and what runs with it agrees: kubeadm-config's old place is left, and 01 says which counts", async () => {
  using node = await pretendNode({ etcd: said({ kubeadm: `${OLD}:6443`, clusterInfo: LB, kubeProxy: LB }) });
  const { exitCode, stderr } = await node.run("01-etcd --dry-run --new-cas");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toMatch(
    /endpoint: kubeadm-config: \S+\.16:6443 \(does not answer\) {3}cluster-info, kube-proxy: \S+\.15:6443 .*; https:\/\/\S+\.15:6443 counts\n/,
  );
});
