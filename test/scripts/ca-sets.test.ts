/**
 * The cluster's CA is a set of certificates, in any order: the CA of before beside today's ("Manual Rotation
 * of CA Certificates"), or an intermediate CA beside its root. What the cluster has published and what ca.crt
 * holds need not be the same.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { healthyCp, type Objects, otherCa, write } from "../pretend/cluster.ts";
import { companyRoot, ofCompany } from "../pretend/company-ca.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { unkept } from "../pretend/kept.ts";
import { type NodeOptions, pretendNode } from "../pretend/node.ts";
import { LEASES, lease, MANAGER_LEASE, SCHEDULER_LEASE, serveRunning } from "../pretend/running.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const { ca: today } = await healthyCp();
const old = await otherCa();
const intermediate = await ofCompany(today.cert);
const CA = "/etc/kubernetes/pki/ca.crt";
const AGGREGATED = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
const BINDING = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/kubeadm:cluster-admins";
const SERVERS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/** What the cluster's pods trust, by kube-root-ca.crt. */
function published(caPem: string, more: (objects: Objects) => void = () => {}) {
  return (objects: Objects) => {
    Object.assign(objects["configmaps/kube-system/kube-root-ca.crt"] as object, {
      data: { "ca.crt": caPem },
    });
    more(objects);
  };
}

async function clusterOf({ pods, file }: { pods: string; file: string }, options: NodeOptions = {}) {
  const node = await pretendNode({
    kind: "healthy control plane node",
    containers: SERVERS,
    etcd: published(pods),
    ...options,
  });
  write(node.root + CA, file, 0o644);
  return node;
}

type Node = Awaited<ReturnType<typeof pretendNode>>;

/** The API of a cluster whose every namespace has these CAs. */
function serve(node: Node, pods: string, objects: Record<string, object> = {}) {
  const maps = ["default", "kube-system", "shop"].map(
    (name) => `/api/v1/namespaces/${name}/configmaps/kube-root-ca.crt`,
  );
  let asked = 0;
  return serveRunning(node, {
    objects: {
      [BINDING]: {},
      ...Object.fromEntries(maps.map((path) => [path, { data: { "ca.crt": pods } }])),
      ...objects,
    },
    // every kubelet, and who leads, renews its Lease while a script looks
    on: ({ path }, api) => {
      for (const leader of [MANAGER_LEASE, SCHEDULER_LEASE])
        Object.assign(api.objects.get(leader).spec, lease(0).spec);
      if (path.startsWith(LEASES))
        for (const name of ["m1", "w1", "w2"])
          Object.assign(api.objects.get(`${LEASES}/${name}`), lease(-++asked));
      return undefined;
    },
  });
}

const isChange = (call: string) => /systemctl (stop|start|restart)|crictl .* stop|systemd-run/.test(call);
const notAsked = (change: string) => !/\/token$|\/tokenreviews$/.test(change);

// biome-ignore format: a table
const WELL = [
  ["the old CA and today's; ca.crt has today's alone", old.cert + today.cert, today.cert],
  ["the current CA and the old one; ca.crt has today's alone", today.cert + old.cert, today.cert],
  ["today's alone; ca.crt has the old CA and today's", today.cert, old.cert + today.cert],
  ["both, and ca.crt too, the old one first", old.cert + today.cert, old.cert + today.cert],
  ["both, and ca.crt too, each in another order", old.cert + today.cert, today.cert + old.cert],
  ["an intermediate CA and its root, and ca.crt too", intermediate + companyRoot, intermediate + companyRoot],
  ["a root and its intermediate CA, and ca.crt too", companyRoot + intermediate, companyRoot + intermediate],
] as const;

test.each(WELL)(
  "a cluster that is well, whose pods trust %s: all scripts say so and change nothing",
  async (_, pods, file) => {
    using node = await clusterOf({ pods, file });
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    // the API server only adds to it
    using api = serve(node, pods, { [AGGREGATED]: { data: { "client-ca-file": today.cert + old.cert } } });
    const before = node.fingerprint();
    const said: Record<string, string> = {};
    for (const line of [
      "00-assess",
      "01-etcd",
      "02-control-plane",
      "03-workers open",
      "04-sa-tokens",
      "05-verify",
    ]) {
      const { exitCode, stdout, stderr } = await node.run(line);
      expect({ line, exitCode, stdout, stderr }).toMatchObject({ line, exitCode: 0 });
      said[line] = stdout + stderr;
    }
    expect(unkept(node.fingerprint())).toEqual(unkept(before));
    expect(node.calls().filter(isChange)).toEqual([]);
    expect(api.changes().filter(notAsked)).toEqual([]);
    expect(said["00-assess"]).toContain("verdict: nothing is damaged on this node\n");
    expect(said["03-workers open"]).toContain("part 3 has nothing to do");
    expect(said["04-sa-tokens"]).toContain("  none: the cluster knew its CA before, no pod has to restart\n");
    expect(said["05-verify"]).not.toMatch(/^ {2}(failed|warning) .*CA/m);
    const several =
      /^ {2}\S.* {3}kube-root-ca.crt holds 2 CAs, and pods trust all of them; number [12] is the one that signs$/m;
    const count = pods.split("BEGIN CERTIFICATE").length - 1;
    for (const line of ["00-assess", "05-verify"])
      expect({ line, isNamed: several.test(said[line]!) }).toEqual({ line, isNamed: count > 1 });
  },
);
