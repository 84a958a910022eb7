/** A worker before its join: it is no control plane node, and whether it has joined already. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { failOf } from "../../../shared/fail.ts";
import type { Container } from "../../../shared/node/containers.ts";
import { readNode } from "../../../shared/node/node.ts";
import { certInfo } from "../../../shared/pki/certificate.ts";
import { kubeletKubeconfig } from "../../../shared/pki/kubeconfigs.ts";
import { joinedCa, readWorker, refuseControlPlane } from "../../../shared/workers/join.ts";
import { tokenNotes } from "../../../shared/workers/token-file.ts";
import { healthyCp, otherCa, write } from "../../pretend/cluster.ts";
import { NODE } from "../../pretend/control-plane-node.ts";
import { agedText } from "../../pretend/expired.ts";
import { lookAt, type PretendNode } from "../../pretend/in-process.ts";
import { staticUid } from "../../pretend/node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const WORKER = { ...NODE, name: "w1" };
const OF_API = "0b0e3d7c-1111-4222-8333-444455556666";

interface Case {
  what: string;
  files?: readonly (readonly [path: string, text: string])[];
  all?: readonly Container[];
  etcdData?: string;
  kubelet?: Partial<typeof NODE.kubelet>;
  isWorker?: boolean;
}

async function refusal({ files = [], all = [], etcdData, kubelet, isWorker = false }: Case) {
  using box = sandbox();
  for (const [path, text] of files) write(box.dir + path, text);
  const node = { ...WORKER, kubelet: { ...NODE.kubelet, ...kubelet } };
  return await failOf(() => refuseControlPlane(node, { etcdData, all, isWorker }));
}

function container(name: string, podUid: string, pod = `${name}-w1`, namespace = "kube-system"): Container {
  return { id: "c", name, pod, namespace, podUid, running: false, created: new Date() };
}

const file = (path: string, text = "x") => [[path, text]] as const;
const UNIT = "[Service]\nExecStart=/usr/bin/etcd --data-dir=/srv/etcd";
const OF_CLUSTER = `${UNIT} --cert-file=/etc/ssl/etcd.pem\n`;

const REFUSED: [why: string, Case][] = [
  [
    "/etc/kubernetes/manifests/etcd.yaml",
    { what: "etcd's manifest", files: file("/etc/kubernetes/manifests/etcd.yaml") },
  ],
  [
    "/srv/manifests/kube-apiserver.yaml",
    {
      what: "a manifest where this kubelet has them",
      files: file("/srv/manifests/kube-apiserver.yaml"),
      kubelet: { staticPodPath: "/srv/manifests" },
    },
  ],
  [
    `/var/lib/kubelet/pods/${staticUid("etcd")}/containers/etcd`,
    {
      what: "the kubelet's folder of etcd",
      files: file(`/var/lib/kubelet/pods/${staticUid("etcd")}/containers/etcd/1`),
    },
  ],
  [
    "the kubelet's record of etcd",
    {
      what: "logs of etcd",
      files: file(`/var/log/pods/kube-system_etcd-w1_${staticUid("etcd")}/etcd/0.log`),
    },
  ],
  [
    "the container kube-apiserver",
    { what: "a container that has ended", all: [container("kube-apiserver", staticUid("kube-apiserver"))] },
  ],
  ["/etc/kubernetes/pki/sa.key", { what: "a key", files: file("/etc/kubernetes/pki/sa.key") }],
  [
    "/etc/kubernetes/ssl/ca.key",
    {
      what: "a key in another folder",
      files: file("/etc/kubernetes/ssl/ca.key"),
      kubelet: { clientCaFile: "/etc/kubernetes/ssl/ca.crt" },
    },
  ],
  [
    "/etc/kubernetes/controller-manager.conf",
    { what: "a kubeconfig", files: file("/etc/kubernetes/controller-manager.conf") },
  ],
  [
    "/var/lib/etcd/member",
    { what: "data where kubeadm has it", files: file("/var/lib/etcd/member/snap/db") },
  ],
  ["/data/etcd/member", { what: "data on a disk of its own", files: file("/data/etcd/member/snap/db") }],
  [
    "/mnt/member",
    { what: "data where the operator says", files: file("/mnt/member/snap/db"), etcdData: "/mnt" },
  ],
  [
    "/etc/kubernetes/pki/ca.key",
    {
      what: "a key, whatever the operator says of etcd's data",
      files: file("/etc/kubernetes/pki/ca.key"),
      etcdData: "/nothing",
    },
  ],
  [
    "/etc/systemd/system/etcd.service",
    {
      what: "a unit of the cluster's etcd, with data",
      files: [...file("/etc/systemd/system/etcd.service", OF_CLUSTER), ...file("/srv/etcd/member/snap/db")],
    },
  ],
  [
    "/etc/kubernetes/pki/ca.key",
    {
      what: "a key, though open has made a token for it",
      files: [...file("/etc/kubernetes/pki/ca.key"), ...file("/etc/systemd/system/etcd.service", OF_CLUSTER)],
      isWorker: true,
    },
  ],
  [
    "/var/lib/etcd/member",
    {
      what: "data without a unit, though open has made a token for it",
      files: file("/var/lib/etcd/member/snap/db"),
      isWorker: true,
    },
  ],
  [
    "/etc/kubernetes/pki/ca.key",
    {
      what: "a key, beside an empty folder",
      files: [...file("/etc/kubernetes/pki/ca.key"), ...file("/var/lib/etcd/lost+found/a")],
    },
  ],
];

test.each(REFUSED.map(([why, one]) => ({ why, ...one })))(
  "a control plane node by $what may not",
  async ({ why, ...one }) => {
    const fail = await refusal(one);
    expect(fail).toMatchObject({
      message: `This is a control plane node (${why}): join is for workers`,
      exitCode: 3,
    });
    expect(fail!.hint).toStartWith("run part 2, which gives its kubelet a certificate: ");
  },
);

test.each<Case>([
  { what: "nothing" },
  { what: "an empty folder where etcd's data would be", files: file("/var/lib/etcd/lost+found/a") },
  { what: "a copy of admin.conf", files: file("/etc/kubernetes/admin.conf") },
  {
    what: "etcd of the cluster as a unit beside it, and a token of its own,",
    files: [...file("/etc/systemd/system/etcd.service", OF_CLUSTER), ...file("/srv/etcd/member/snap/db")],
    isWorker: true,
  },
  { what: "a unit of etcd that has never run", files: file("/etc/systemd/system/etcd.service", OF_CLUSTER) },
  {
    what: "a distribution's own etcd, which is of no cluster",
    files: [...file("/etc/systemd/system/etcd.service", UNIT), ...file("/srv/etcd/member/snap/db")],
  },
  {
    what: "a tenant's etcd, in records and containers",
    files: [
      ...file(`/var/lib/kubelet/pods/${OF_API}/containers/etcd/1`),
      ...file(`/var/log/pods/tenant_etcd-0_${OF_API}/etcd/0.log`),
    ],
    all: [container("etcd", OF_API, "etcd-0", "tenant")],
  },
  {
    what: "the etcd of Cilium's clustermesh-apiserver, in kube-system",
    files: [
      ...file(`/var/lib/kubelet/pods/${OF_API}/containers/etcd/1`),
      ...file(`/var/log/pods/kube-system_clustermesh-apiserver-7d-x_${OF_API}/etcd/0.log`),
    ],
    all: [container("etcd", OF_API, "clustermesh-apiserver-7d-x")],
  },
  {
    what: "data of another program, where the operator says that it is none of this cluster's",
    files: file("/data/etcd/member/snap/db"),
    etcdData: "/none",
  },
])("a worker with $what may join", async (one) => {
  expect(await refusal(one)).toBeUndefined();
});

const { ca } = await healthyCp();
const YEARS = 11 * 365 * 86_400_000;
const expired = (await agedText(ca.cert, ca.key, YEARS))!;

/** Both files that the kubelet trusts by. */
const trusting =
  (clientCa: string, inConf: string) =>
  ({ root }: PretendNode) => {
    writeFileSync(`${root}/etc/kubernetes/pki/ca.crt`, clientCa);
    const conf = kubeletKubeconfig({ server: "https://127.77.0.11:6443", ca: inConf });
    writeFileSync(`${root}/etc/kubernetes/kubelet.conf`, conf);
  };

test.each([
  ["today's", ca.cert, ca.cert, true],
  ["one that has expired, of the same key, in both files", expired, expired, false],
  ["one that has expired in kubelet.conf alone", ca.cert, expired, false],
  ["both, side by side", expired + ca.cert, ca.cert, true],
] as const)("a kubelet whose certificate is good trusts by %s", async (_, clientCa, inConf, isJoined) => {
  const look = async () => await joinedCa(await readNode(), [certInfo(ca.cert).publicKeyHash]);
  const found = await lookAt({ kind: "worker", change: trusting(clientCa, inConf) }, look);
  expect(found).toBe(isJoined ? certInfo(ca.cert).pem : undefined);
});

test("where the cluster has two CAs, a kubelet that trusts one of them has not joined", async () => {
  const second = (await otherCa()).cert;
  const hashes = [ca.cert, second].map((pem) => certInfo(pem).publicKeyHash);
  const look = async () => await joinedCa(await readNode(), hashes);
  const joined = (trusts: string) => lookAt({ kind: "worker", change: trusting(trusts, trusts) }, look);
  expect(await joined(ca.cert)).toBeUndefined();
  expect(await joined(ca.cert + second)).toBe(certInfo(ca.cert).pem + certInfo(second).pem);
});

test.each([
  ["its token is here", true, "# w1", expired],
  ["another worker's token is here", false, "# w2", expired],
  ["no token is here, as after its join, and it has joined", true, "", ca.cert],
  ["no token is here, and it has not joined", false, "", expired],
])("a worker with the cluster's etcd beside it, and %s: it may join: %p", async (_, may, owner, trusts) => {
  const change = (node: PretendNode) => {
    trusting(trusts, trusts)(node);
    write(`${node.root}/etc/systemd/system/etcd.service`, OF_CLUSTER);
    write(`${node.root}/srv/etcd/member/snap/db`, "x");
    if (owner) write(`${node.root}/root/token`, `abcdef.0123456789abcdef\n${owner}\n`);
  };
  const paste = { file: "/root/token", hashes: [certInfo(ca.cert).publicKeyHash] };
  const look = () => failOf(async () => void (await readWorker(undefined, "repair", paste)));
  const fail = await lookAt({ kind: "worker", change }, look);
  expect(fail?.message).toBe(
    (may
      ? undefined
      : "This is a control plane node (/etc/systemd/system/etcd.service): join is for workers") as never,
  );
});

test("a kubelet that does not run has not joined, whatever it trusts", async () => {
  const look = async () => await joinedCa(await readNode(), [certInfo(ca.cert).publicKeyHash]);
  const commands = [{ command: "systemctl is-active --quiet kubelet", exit: 3 }];
  const change = trusting(ca.cert, ca.cert);
  expect(await lookAt({ kind: "worker", commands, change }, look)).toBeUndefined();
});

test.each([
  ["abcdef.0123456789abcdef\n# w1\n-----BEGIN", "w1"],
  ["abcdef.0123456789abcdef\r\n# w1\r\n", "w1"],
  ["abcdef.0123456789abcdef\n-----BEGIN\n# w1\n", undefined],
  ["# w1\nabcdef.0123456789abcdef\n", undefined],
])("the node for which a token was made stands in the second line of its file: %j", (text, owner) => {
  using box = sandbox();
  write(`${box.dir}/root/token`, text);
  expect(tokenNotes("/root/token").owner).toBe(owner);
});
