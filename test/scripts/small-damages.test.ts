/**
 * Damages that people really meet, each on a pretend control plane node: 00-assess names the smallest repair,
 * and 01-etcd makes just that.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { issueClient } from "../../shared/pki/issue.ts";
import { FACTS, healthyCp, KUBELET_CONFIG, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { expireCertificates } from "../pretend/expired.ts";
import { leaveNode } from "../pretend/no-node.ts";
import { nodeHere } from "../pretend/typed-here.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);
afterAll(leaveNode);

const { ca } = await healthyCp();
const E = "/etc/kubernetes";
const LONG_AGO = new Date(Date.now() - 2 * 8760 * 3600_000);
const CLIENT = "/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem";

function remove(root: string, ...files: string[]) {
  for (const file of files) rmSync(`${root}${E}/${file}`, { recursive: true });
}

async function expireKubelet(root: string, name: string) {
  const { cert, key } = await issueClient({ cn: `system:node:${name}`, o: "system:nodes" }, ca, FACTS, {
    now: LONG_AGO,
  });
  writeFileSync(`${root}${CLIENT}`, cert + key);
}

interface Case {
  damage: (root: string) => Promise<void> | void;
  /** What 00-assess says of it, and the first command it gives. */
  says: RegExp;
  first: string;
  /** What 01-etcd writes below /etc/kubernetes and /var/lib/kubelet; undefined: it refuses. */
  writes?: RegExp;
}

const PLAIN = "./bunw scripts/01-etcd.ts";
const INTERNAL = `${PLAIN} --new-internal-cas`;
const LOST = "systemctl stop kubelet";

const CASES: Record<string, Case> = {
  "only pki/ is lost": {
    damage: (root) => remove(root, "pki"),
    says: /keys lost on this node: ca, front-proxy-ca, etcd-ca, sa/,
    first: LOST,
  },
  "the leaves of one control plane node have expired": {
    damage: expireCertificates,
    says: /CAs and the service-account key are here/,
    first: PLAIN,
    writes: /^pki\/etcd\/(server|peer|healthcheck-client)\.(crt|key)$/,
  },
  "the kubeconfigs are lost": {
    damage: (root) => remove(root, "admin.conf", "controller-manager.conf", "scheduler.conf"),
    ...{ says: /CAs and the service-account key are here/, first: PLAIN, writes: /^$/ },
  },
  "the manifests are lost": {
    damage: (root) => remove(root, "manifests"),
    says: /CAs and the service-account key are here/,
    first: PLAIN,
    writes: /^manifests\/etcd\.yaml$/,
  },
  "sa.key and sa.pub are lost": {
    damage: (root) => remove(root, "pki/sa.key", "pki/sa.pub"),
    says: /^keys lost on this node: sa\. Are they stored offline/,
    first: LOST,
  },
  "etcd's whole PKI is lost": {
    damage: (root) => remove(root, "pki/etcd"),
    ...{
      says: /^keys lost on this node: etcd-ca\. Only control plane nodes trust them/,
      first: INTERNAL,
      writes: /^pki\/etcd\//,
    },
  },
  "the front-proxy's are lost": {
    damage: (root) =>
      remove(
        root,
        "pki/front-proxy-ca.crt",
        "pki/front-proxy-ca.key",
        "pki/front-proxy-client.crt",
        "pki/front-proxy-client.key",
      ),
    ...{
      says: /^keys lost on this node: front-proxy-ca\. Only control plane nodes trust them/,
      first: INTERNAL,
      writes: /^pki\/front-proxy-ca\.(crt|key)$/,
    },
  },
  "kubelet.conf is lost and the kubelet's certificate has expired": {
    async damage(root) {
      remove(root, "kubelet.conf");
      await expireKubelet(root, "m1");
    },
    // nobody knows yet whether other kubelets have expired as well: the controller-manager begins reduced
    ...{
      says: /CAs and the service-account key are here/,
      first: PLAIN,
      writes: /^kubelet\.conf$|kubelet-client-|^manifests\/kube-controller-manager\.yaml$/,
    },
  },
  "everything but the CAs has expired for a year": {
    async damage(root) {
      await expireCertificates(root);
      await expireKubelet(root, "m1");
    },
    ...{
      says: /CAs and the service-account key are here/,
      first: PLAIN,
      writes: /^pki\/etcd\/(server|peer|healthcheck-client)\.(crt|key)$|kubelet-client-/,
    },
  },
  "ca.crt is cut off": {
    damage: (root) => writeFileSync(`${root}${E}/pki/ca.crt`, ca.cert.slice(0, 200)),
    // its kubelet starts anew, and so its controller-manager begins reduced
    ...{
      says: /CAs and the service-account key are here/,
      first: PLAIN,
      writes: /^pki\/ca\.crt$|^manifests\/kube-controller-manager\.yaml$/,
    },
  },
};

test.each(Object.entries(CASES))("%s", async (_, { damage, says, first, writes }) => {
  using node = await nodeHere({ kind: "healthy control plane node" });
  await damage(node.root);
  const { stdout, exitCode } = await node.run("00-assess --json");
  const { verdict, next } = JSON.parse(stdout) as { verdict: string; next: string[] };
  expect([exitCode, verdict, next[0]]).toEqual([2, expect.stringMatching(says), first]);
  const before = node.fingerprint();
  if (!writes) {
    expect((await node.run("01-etcd")).stderr).toContain("is needed and cannot be used");
    expect(node.fingerprint()).toEqual(before);
    return;
  }
  const part1 = node.run(first.replace("./bunw scripts/", "").replace(".ts", ""), {
    KUBE_PKI_REPAIR_PATIENCE: "1",
  });
  await Promise.race([node.called("systemctl restart kubelet"), part1]);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { exitCode: code, stderr } = await part1;
  expect({ code, stderr }).toMatchObject({ code: 0 });
  const was = new Set(before);
  const changed = node
    .fingerprint()
    .filter((line) => !was.has(line) && line.split(" ")[1]!.startsWith("100"));
  // the controller-manager waits for part 2, and all servers do whose certificates it issues
  const files = changed
    .map((line) => line.split(" ")[0]!)
    .filter((file) => !/^root\/|\/\.kube-[a-z-]+\.yaml$/.test(file));
  expect(
    files.map((file) => file.replace("etc/kubernetes/", "")).filter((file) => !writes.test(file)),
  ).toEqual([]);
  if (writes.source !== "^$") expect(files.length).toBeGreaterThan(0);
});

test("a worker whose kubelet's certificate has expired is distinguished from one of another CA", async () => {
  using node = await nodeHere({ kind: "worker" });
  await expireKubelet(node.root, "w1");
  const { stdout, exitCode } = await node.run("00-assess");
  expect([exitCode, stdout]).toEqual([2, expect.stringMatching(/kubelet-client-current\.pem +!EXPIRED!/)]);
  expect(stdout).toStartWith(
    "verdict: the kubelet's client certificate has expired: this worker has to join again. Its containers run on\n",
  );
});

test("a control plane node whose kubelet's serving certificate has expired is reported, where the cluster's CA issues it", async () => {
  using node = await nodeHere({ kind: "healthy control plane node" });
  const server = "/var/lib/kubelet/pki/kubelet-server-current.pem";
  const pem = await issueClient({ cn: "system:node:m1", o: "system:nodes" }, ca, FACTS, { now: LONG_AGO });
  write(node.root + server, pem.cert + pem.key);
  expect((await node.run("00-assess")).exitCode).toBe(0);
  write(`${node.root}/var/lib/kubelet/config.yaml`, `${KUBELET_CONFIG}serverTLSBootstrap: true\n`);
  const { stdout, exitCode } = await node.run("00-assess");
  expect([exitCode, stdout]).toEqual([2, expect.stringMatching(/kubelet-server-current\.pem +!EXPIRED!/)]);
});
