/** What part 5 decides: each check of a cluster that is well, and what differs of one that is not. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { manifestText } from "../../../shared/manifests/on-disk.ts";
import { reduced } from "../../../shared/manifests/repair-changes.ts";
import { readNode } from "../../../shared/node/node.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueLeaf } from "../../../shared/pki/issue.ts";
import { serviceAccountKeyId } from "../../../shared/pki/sa-keys.ts";
import { verifyHere } from "../../../shared/verify/verify-here.ts";
import { type ApiOptions, status } from "../../pretend/api.ts";
import { ADDRESS, FACTS, healthyCp, manifest, mirrorPod, otherCa, write } from "../../pretend/cluster.ts";
import { decisions } from "../../pretend/decisions.ts";
import {
  type EtcdState,
  LOST,
  sameEtcd,
  serveEtcd,
  serveOtherMember,
  THIRD,
  THIRD_AT,
} from "../../pretend/etcd.ts";
import { agedText, expireCertificates, YEAR_MS } from "../../pretend/expired.ts";
import { lookAt, type PretendNode as Node } from "../../pretend/in-process.ts";
import { withM2 } from "../../pretend/lost-cp.ts";
import { pretendProcess } from "../../pretend/memory.ts";
import { MEMBER, type NodeOptions } from "../../pretend/node.ts";
import { newKeyOf, tokenBy } from "../../pretend/old-keys.ts";
import {
  knewCa,
  LEASES,
  lease,
  living,
  MANAGER_LEASE,
  oldPod,
  SCHEDULER_LEASE,
  serveRunning,
} from "../../pretend/running.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const { root: healthy } = await healthyCp();
const before = await otherCa();
const pki = (file: string) => readFileSync(`${healthy}/etc/kubernetes/pki/${file}`, "utf8");
const own = { key: pki("sa.key"), pub: pki("sa.pub") };

interface Row {
  what: string;
  on?: NodeOptions;
  change?: (node: Node) => unknown;
  /** Of the API; "off": nobody answers. */
  api?: Pick<ApiOptions, "objects" | "on"> | "off";
  /** Of etcd; "off": nobody answers. */
  etcd?: Partial<EtcdState> | "off";
  /** A server of another node that the test needs. */
  beside?: (node: Node) => Promise<Disposable> | Disposable;
}

const gone =
  (...paths: string[]) =>
  ({ root }: Node) => {
    for (const path of paths) rmSync(root + path, { recursive: true });
  };
const none: Disposable = { [Symbol.dispose]: () => undefined };
const CONF = "/etc/kubernetes";
const READY = { status: { conditions: [{ type: "Ready", status: "True" }] } };
const notReady = (state: string) => ({
  status: { conditions: [{ type: "Ready", status: state, message: "network not ready" }] },
});
const tokenSecret = (token: string, data = {}) => ({
  type: "kubernetes.io/service-account-token",
  data: { token: btoa(token), ...data },
});
const cni = ({ root }: Node) => {
  const plugins = [{ type: "calico", kubernetes: { kubeconfig: "/etc/cni/net.d/calico-kubeconfig" } }];
  const cluster = { server: `https://${ADDRESS}:6443`, "certificate-authority-data": btoa(before.cert) };
  write(`${root}/etc/cni/net.d/10-calico.conflist`, JSON.stringify({ name: "n", plugins }));
  write(
    `${root}/etc/cni/net.d/calico-kubeconfig`,
    JSON.stringify({ kind: "Config", clusters: [{ name: "local", cluster }] }),
  );
};
const giveUpKey = ({ root }: Node) => {
  const word = { at: "2026-01-01T00:00:00Z", by: "plan", on: "m1", files: [`${CONF}/pki/sa-2024.pub`] };
  const said = [{ ...word, option: "start-without", value: "service-account-key-file" }];
  write(`${root}/run/kube-pki-repair-words.json`, JSON.stringify({ made: word.at, said, over: [] }));
};
const OF_OTHER_KEY = {
  "/api/v1/namespaces/shop/secrets/other": tokenSecret(
    tokenBy(newKeyOf("ECDSA-P256"), { alg: "ES256", of: "shop:cart" }),
    { "ca.crt": btoa(pki("ca.crt")) },
  ),
};
const M2_AT = ADDRESS.replace(/11$/, "12");
const WITH_THIRD = { members: [MEMBER, THIRD] };

const ROWS: Row[] = [
  { what: "all is well" },
  { what: "the host has another name", on: { commands: [{ command: "uname -n", stdout: "renamed\n" }] } },
  { what: "etcd's database is full", etcd: { alarms: [{ memberID: "1", alarm: "NOSPACE" }] } },
  { what: "nobody answers", api: "off", etcd: "off" },
  { what: "admin.conf is gone", change: gone(`${CONF}/admin.conf`) },
  { what: "admin.conf is gone, and nobody answers", change: gone(`${CONF}/admin.conf`), api: "off" },
  {
    what: "all certificates have expired",
    change: ({ root }) => expireCertificates(root),
    api: "off",
    etcd: "off",
  },
  {
    what: "one certificate has expired",
    change: ({ root }) => expireCertificates(root, [certRow("front-proxy-client")]),
  },
  {
    what: "a key, a kubeconfig and a manifest are gone",
    change: gone(`${CONF}/pki/ca.key`, `${CONF}/scheduler.conf`, `${CONF}/manifests/kube-scheduler.yaml`),
  },
  {
    what: "root's kubectl has a copy of admin.conf from before, which has expired",
    async change({ root }) {
      const admin = readFileSync(`${root}${CONF}/admin.conf`, "utf8");
      write(`${root}/root/.kube/config`, (await agedText(admin, pki("ca.key"), 3 * YEAR_MS))!);
    },
  },
  {
    what: "root's kubectl has another cluster's kubeconfig, which has expired",
    async change({ root }) {
      const admin = readFileSync(`${root}${CONF}/admin.conf`, "utf8");
      const other = (await agedText(admin, pki("ca.key"), 3 * YEAR_MS))!;
      write(
        `${root}/root/.kube/config`,
        other.replaceAll(/server: .*/g, "server: https://other.example:6443"),
      );
    },
  },
  { what: "a file that a manifest names is gone", change: gone(`${CONF}/audit/policy.yaml`) },
  {
    what: "a manifest mounts a folder that is not there, and says no type: it is empty then",
    change({ root }) {
      const scheduler = manifest("kube-scheduler");
      const { spec } = scheduler as {
        spec: { volumes?: object[]; containers: { volumeMounts?: object[] }[] };
      };
      spec.volumes?.push({ name: "more", hostPath: { path: "/srv/more" } });
      spec.containers[0]!.volumeMounts?.push({ name: "more", mountPath: "/srv/more" });
      write(`${root}${CONF}/manifests/kube-scheduler.yaml`, manifestText(scheduler));
    },
  },
  {
    what: "the kubelet's certificate is gone",
    change: gone("/var/lib/kubelet/pki/kubelet-client-current.pem"),
  },
  { what: "kubelet.conf is gone", change: gone(`${CONF}/kubelet.conf`) },
  {
    what: "a bootstrap kubeconfig is still there",
    change: ({ root }) => write(`${root}${CONF}/bootstrap-kubelet.conf`, "apiVersion: v1\nkind: Config\n"),
  },
  { what: "the network plugin has the old CA", change: cni },
  {
    what: "a signal has stopped a server",
    change: ({ root }) => pretendProcess(root, { pid: 32, comm: "kube-apiserver", state: "T" }),
  },
  {
    what: "the controller-manager is still reduced",
    change: ({ root }) =>
      write(
        `${root}${CONF}/manifests/kube-controller-manager.yaml`,
        manifestText(reduced(manifest("kube-controller-manager"), FACTS.kubernetesVersion)),
      ),
  },
  {
    what: "the API server shows another certificate than the one on disk",
    beside: async ({ root, ca }) => {
      const { cert, key } = await issueLeaf(certRow("apiserver"), ca, FACTS);
      write(`${root}${CONF}/pki/apiserver.crt`, cert, 0o644);
      write(`${root}${CONF}/pki/apiserver.key`, key);
      return none;
    },
  },
  {
    what: "the API server is not ready",
    api: { on: ({ path }) => (path.startsWith("/readyz") ? status(500, "no") : undefined) },
  },
  {
    what: "nobody leads",
    api: { objects: { [SCHEDULER_LEASE]: lease(4000), [MANAGER_LEASE]: lease(4000) } },
  },
  { what: "a node does not renew its Lease", api: { objects: { [`${LEASES}/w2`]: lease(4000) } } },
  { what: "a node never renewed one", api: { on: (_, { objects }) => void objects.delete(`${LEASES}/w2`) } },
  { what: "a Node is gone", api: { on: (_, { objects }) => void objects.delete("/api/v1/nodes/w2") } },
  { what: "a Node is not Ready", api: { objects: { "/api/v1/nodes/w2": notReady("False") } } },
  { what: "a Node is unknown", api: { objects: { "/api/v1/nodes/w2": notReady("Unknown") } } },
  {
    what: "the API server does not reach a kubelet",
    api: { on: ({ path }) => (path === "/api/v1/nodes/w1/proxy/healthz" ? status(503, "gone") : undefined) },
  },
  {
    what: "the API server may not ask a kubelet",
    api: {
      on: ({ path }) => (path === "/api/v1/nodes/w1/proxy/healthz" ? status(403, "Forbidden") : undefined),
    },
  },
  {
    what: "a namespace has another CA",
    api: {
      objects: { "/api/v1/namespaces/shop/configmaps/kube-root-ca.crt": { data: { "ca.crt": before.cert } } },
    },
  },
  {
    what: "cluster-info has another CA",
    api: {
      objects: {
        "/api/v1/namespaces/kube-public/configmaps/cluster-info": {
          data: {
            kubeconfig: JSON.stringify({
              clusters: [{ name: "", cluster: { "certificate-authority-data": btoa(before.cert) } }],
            }),
          },
        },
      },
    },
  },
  {
    what: "there is no cluster-info",
    api: {
      on: (_, { objects }) => void objects.delete("/api/v1/namespaces/kube-public/configmaps/cluster-info"),
    },
  },
  {
    what: "token Secrets: one of today, one of another key, one empty",
    api: {
      objects: {
        "/api/v1/namespaces/shop/secrets/today": tokenSecret(
          tokenBy(own, { alg: "ES256", of: "shop:cart" }),
          {
            "ca.crt": btoa(pki("ca.crt")),
          },
        ),
        "/api/v1/namespaces/shop/secrets/other": tokenSecret(
          tokenBy(newKeyOf("ECDSA-P256"), { alg: "ES256", of: "shop:cart" }),
        ),
        "/api/v1/namespaces/shop/secrets/empty": { type: "kubernetes.io/service-account-token" },
      },
    },
  },
  {
    what: "a token Secret of a key that was given up",
    change: giveUpKey,
    api: { objects: OF_OTHER_KEY },
  },
  {
    what: "a token Secret of another key, where one was given up, and sa.key is new",
    change: (node) => {
      giveUpKey(node);
      const mark = { made: "2026-01-01T00:00:00Z", kid: serviceAccountKeyId(own.pub) };
      write(`${node.root}${CONF}/.kube-pki-repair-new-sa-key`, JSON.stringify(mark));
    },
    api: { objects: OF_OTHER_KEY },
  },
  {
    what: "a token Secret of the key before",
    change: ({ root }) => write(`${root}${CONF}/pki/sa-old.pub`, own.pub, 0o644),
    api: {
      objects: {
        "/api/v1/namespaces/shop/secrets/old": tokenSecret(tokenBy(own, { alg: "ES256", of: "shop:cart" }), {
          "ca.crt": btoa(pki("ca.crt")),
        }),
      },
    },
  },
  {
    what: "an old pod, of a repaired cluster",
    on: { etcd: knewCa(before.cert) },
    api: {
      objects: {
        "/api/v1/namespaces/shop/pods/web-1": oldPod("web-1", { kind: "DaemonSet", name: "web" }),
        "/apis/apps/v1/namespaces/shop/daemonsets/web": {},
      },
    },
  },
  {
    what: "pods that are not Ready",
    api: {
      objects: {
        "/api/v1/namespaces/shop/pods/waits": {
          metadata: { name: "waits" },
          spec: { nodeName: "w1" },
          status: { phase: "Pending" },
        },
        "/api/v1/namespaces/kube-system/pods/fails": {
          metadata: { name: "fails" },
          spec: { nodeName: "w1" },
          status: { phase: "Running", conditions: [{ type: "Ready", status: "False" }] },
        },
        "/api/v1/namespaces/shop/pods/done": {
          metadata: { name: "done" },
          spec: { nodeName: "w1" },
          status: { phase: "Succeeded" },
        },
      },
    },
  },
  {
    what: "a member of etcd does not answer",
    on: { members: [MEMBER, LOST] },
    etcd: { members: [MEMBER, LOST] },
  },
  {
    what: "a member of etcd has no Node",
    on: WITH_THIRD,
    etcd: WITH_THIRD,
    beside: ({ root, stored }) =>
      serveOtherMember(root, { ...sameEtcd(stored), members: [MEMBER, THIRD] }, THIRD_AT),
  },
  {
    what: "a member of etcd has no vote",
    on: WITH_THIRD,
    etcd: { members: [MEMBER, { ...THIRD, isLearner: true }] },
  },
  { what: "etcd had one more member", on: { members: [MEMBER, LOST] } },
  { what: "a member of etcd that never started", etcd: { members: [MEMBER, { id: "1b", name: "" }] } },
  { what: "etcd's gateway is off", etcd: { gateway: "off" } },
  {
    what: "a second control plane node",
    on: { etcd: withM2 },
    api: { objects: { "/api/v1/nodes/m2": READY, [`${LEASES}/m2`]: lease(0) }, on: living(["m2"]) },
  },
  {
    what: "a second control plane node's API server has another key",
    on: {
      etcd: (objects) => {
        const as = (value: object, address: string) =>
          JSON.parse(JSON.stringify(value).replaceAll(ADDRESS, address).replaceAll('m1"', 'm2"'));
        objects["minions/m2"] = as(objects["minions/m1"] as object, "127.77.9.12");
        objects["pods/kube-system/kube-apiserver-m2"] = as(mirrorPod("kube-apiserver"), M2_AT);
      },
    },
    api: { objects: { "/api/v1/nodes/m2": READY } },
    beside: async (node) => {
      const tls = await issueLeaf(certRow("apiserver"), node.ca, {
        ...FACTS,
        nodeName: "m2",
        advertiseAddress: M2_AT,
      });
      return serveRunning(node, {
        hostname: M2_AT,
        tls,
        on: ({ path }) =>
          path.endsWith("/tokenreviews") ? Response.json({ status: { authenticated: false } }) : undefined,
      });
    },
  },
  { what: "the worker's look", on: { kind: "worker" }, api: "off", etcd: "off" },
  { what: "etcd's data is gone", change: gone("/var/lib/etcd"), etcd: "off" },
  {
    what: "a rescue folder, and a backup",
    change: ({ root }) => {
      mkdirSync(`${root}/root/kube-pki-repair-20260101T000000/etcd/member`, { recursive: true });
      chmodSync(`${root}/root`, 0o700);
      writeFileSync(`${root}/root/kube-pki-repair-20260101T000000/x`, "");
    },
  },
];

const holds = decisions("verify");

/** What each check decides; of a cluster that is well, all of them. */
async function decided({ on, change, api = {}, etcd = {}, beside }: Row) {
  return await lookAt({ kind: "healthy control plane node", ...on, change }, async (node) => {
    using _api = api === "off" ? none : serveRunning(node, api);
    using _etcd = etcd === "off" ? none : serveEtcd(node.root, { ...sameEtcd(node.stored), ...etcd });
    using _beside = (await beside?.(node)) ?? none;
    const { checks } = await verifyHere(await readNode(), { etcdData: undefined, mustEnd: true });
    return checks.map(({ id, what, result, severity, mend }) =>
      [result, id, what, severity, mend && `→ ${mend}`].filter(Boolean).join(" "),
    );
  });
}

const well = await decided({ what: "all is well" });

test.each(ROWS)("$what", async (row) => {
  const said = await decided(row);
  const differs = {
    more: said.filter((line) => !well.includes(line)),
    not: well.filter((line) => !said.includes(line)),
  };
  holds(row.what, row.what === "all is well" ? said : differs);
});

test("where the cluster's objects cannot be read, it stops, unless it must end", async () => {
  const etcd = (objects: Record<string, object | string>) => {
    for (const name of Object.keys(objects))
      if (!name.startsWith("minions")) objects[name] = "k8s:enc:aescbc:v1:key1:\u0001\u0002";
  };
  await lookAt({ kind: "healthy control plane node", etcd }, async (node) => {
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    const verified = async (mustEnd: boolean) =>
      (await verifyHere(await readNode(), { etcdData: undefined, mustEnd })).checks.flatMap(
        ({ id, detail }) => (id === "cluster-read" ? [detail] : []),
      );
    const why = expect.stringContaining("encrypted");
    expect(await verified(true)).toEqual([why]);
    await expect(verified(false)).rejects.toThrow(expect.objectContaining({ message: why }));
  });
});

/** So many more workers, all of them well. */
function manyWorkers(howMany: number) {
  const names = Array.from({ length: howMany }, (_, i) => `n${i}`);
  const minion = (name: string) => ({ kind: "Node", metadata: { name, uid: `uid-of-${name}` } });
  return {
    names,
    etcd: (objects: Record<string, object | string>) =>
      void Object.assign(objects, Object.fromEntries(names.map((name) => [`minions/${name}`, minion(name)]))),
    objects: Object.fromEntries(
      names.flatMap((name) => [
        [`/api/v1/nodes/${name}`, READY],
        [`${LEASES}/${name}`, lease(0)],
      ]),
    ),
  };
}

const HEALTHZ = /\/nodes\/(\w+)\/proxy\/healthz$/;

test("kubelets are asked fifty at a time: no answer waits for the first one's, and the results stand in order", async () => {
  const { etcd, objects, names } = manyWorkers(117);
  const full = Promise.withResolvers<void>();
  let [inFlight, most] = [0, 0];
  const api: ApiOptions["on"] = async ({ path }) => {
    if (!HEALTHZ.test(path)) return undefined;
    most = Math.max(most, ++inFlight);
    if (inFlight === 50) setImmediate(full.resolve);
    await full.promise;
    inFlight--;
    return new Response("ok");
  };
  await lookAt({ kind: "healthy control plane node", etcd }, async (node) => {
    using _api = serveRunning(node, { objects, on: api });
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    const { checks } = await verifyHere(await readNode(), { etcdData: undefined });
    const reached = checks.filter(({ id }) => id === "node-reached");
    expect(reached.filter(({ result }) => result !== "ok")).toEqual([]);
    expect(reached.map(({ what }) => what.split(" ")[0]!).sort()).toEqual(
      ["m1", "w1", "w2", ...names].sort(),
    );
    const nodes = checks.filter(({ id }) => id.startsWith("node-")).map(({ what }) => what.split(" ")[0]);
    expect(nodes.filter((name, i) => name !== nodes[i - 1])).toHaveLength(120);
    expect(most).toBe(50);
  });
});

test("a node that does not renew its Lease is asked for nothing; what was well is not asked again in the next look", async () => {
  const asked: string[] = [];
  const on: ApiOptions["on"] = ({ path }) => {
    const name = HEALTHZ.exec(path)?.[1];
    if (name) asked.push(name);
    return name === "w1" ? status(403, "Forbidden") : undefined;
  };
  await lookAt({ kind: "healthy control plane node" }, async (node) => {
    using _api = serveRunning(node, { objects: { [`${LEASES}/w2`]: lease(4000) }, on });
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    const how = { etcdData: undefined, well: new Map() };
    const looks = [await verifyHere(await readNode(), how), await verifyHere(await readNode(), how)];
    const results = looks.map(({ checks }) =>
      checks
        .filter(({ id }) => id === "node-reached")
        .map(({ what, result }) => `${what.split(" ")[0]} ${result}`),
    );
    expect(results).toEqual([
      ["m1 ok", "w1 failed"],
      ["m1 ok", "w1 failed"],
    ]);
    expect(asked.sort()).toEqual(["m1", "w1", "w1"]);
  });
});
