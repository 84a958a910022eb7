/**
 * What a drill decides: which files, servers and workloads would not come back as they are, and what to do
 * about it now.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { getPriority } from "node:os";
import { fieldsIn, printDrill } from "../../../scripts/drill.ts";
import { type Drill, drill, repairAndCompare } from "../../../shared/drill/drill.ts";
import { failOf } from "../../../shared/fail.ts";
import { markBackup } from "../../../shared/hand-over/operators-bundle.ts";
import { manifestText } from "../../../shared/manifests/on-disk.ts";
import { reduced } from "../../../shared/manifests/repair-changes.ts";
import { certRow, SHARED_FILES } from "../../../shared/pki/certs.ts";
import { issueClient, issueLeaf } from "../../../shared/pki/issue.ts";
import {
  FACTS,
  healthyCp,
  manifest,
  mirrorPod,
  type Objects,
  otherCa,
  write,
} from "../../pretend/cluster.ts";
import { commandOf, decisions } from "../../pretend/decisions.ts";
import { sameEtcd, serveEtcd } from "../../pretend/etcd.ts";
import { expireCertificates } from "../../pretend/expired.ts";
import { lookAt, type PretendNode as Node } from "../../pretend/in-process.ts";
import { longLives } from "../../pretend/long-lives.ts";
import { withM2 } from "../../pretend/lost-cp.ts";
import type { NodeOptions } from "../../pretend/node.ts";
import { newKeyOf } from "../../pretend/old-keys.ts";
import { knewCa, serveRunning } from "../../pretend/running.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

await healthyCp();
const before = await otherCa();
const CONF = "/etc/kubernetes";
const PKI = `${CONF}/pki`;
const POLICY = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None}]\n";

interface Row {
  what: string;
  etcd?: (objects: Objects) => void;
  on?: NodeOptions;
  /** The node's files, before its servers start. */
  files?: (node: Node) => unknown;
  /** And after that. */
  later?: (node: Node) => unknown;
  /** The copies, and the bundle, of the operator. */
  how?: Parameters<typeof repairAndCompare>[0];
  api?: "off";
}

const edited = (pod: ReturnType<typeof manifest>, word: string) => {
  pod.spec.containers[0]!.command!.push(word);
  return pod;
};
const put =
  (name: string, pod: ReturnType<typeof manifest>) =>
  ({ root }: Node) =>
    write(`${root}${CONF}/manifests/${name}.yaml`, manifestText(pod));

/** A server's pair, of the CA that it has, with other names. */
async function serverWith({ root }: Node, facts: Partial<typeof FACTS>, name = "apiserver") {
  const { file, ca = "ca" } = certRow(name);
  const [cert, key] = ["crt", "key"].map((end) =>
    readFileSync(`${root}${PKI}/${certRow(ca).file}.${end}`, "utf8"),
  );
  const leaf = await issueLeaf(certRow(name), { cert: cert!, key: key! }, { ...FACTS, ...facts });
  write(`${root}${PKI}/${file}.crt`, leaf.cert, 0o644);
  write(`${root}${PKI}/${file}.key`, leaf.key);
}

function unsigned(pod: ReturnType<typeof manifest>) {
  const [main] = pod.spec.containers;
  main!.command = main!.command!.filter((word) => !word.startsWith("--cluster-signing-"));
  return pod;
}

/** As hand-over pack leaves it. */
function packed({ root }: Node) {
  const files = SHARED_FILES.map((file): [string, Uint8Array] => [
    file,
    readFileSync(`${root}${PKI}/${file}`),
  ]);
  write(`${root}/root/keys.age`, "a bundle");
  const sha256 = createHash("sha256").update("a bundle").digest("hex");
  markBackup(new Map(files), { path: "/root/keys.age", sha256 }, { newest: true });
}

const copied = ({ root }: Node) => write(`${root}/srv/copies/audit/policy.yaml`, POLICY);

const ROWS: Row[] = [
  { what: "all of it would come back", files: copied, later: packed, how: { backup: "/srv/copies" } },
  {
    what: "the same, and the CAs are in the second half of their life",
    etcd: longLives,
    files: copied,
    later: packed,
    how: { backup: "/srv/copies" },
  },
  {
    what: "the bundle is another one",
    files: copied,
    later: (node) => {
      packed(node);
      write(`${node.root}/root/keys.age`, "another");
    },
    how: { backup: "/srv/copies", bundle: "/root/keys.age" },
  },
  { what: "a file that nobody can rebuild, and no backup" },
  {
    what: "a copy of that file",
    files: ({ root }) => write(`${root}/srv/copies/audit/policy.yaml`, POLICY),
    how: { backup: "/srv/copies" },
  },
  {
    what: "a copy of it of another time",
    files: ({ root }) => write(`${root}/srv/copies/audit/policy.yaml`, "kind: Policy\n"),
    how: { backup: "/srv/copies" },
  },
  {
    what: "that file behind a link",
    files: ({ root }) => {
      renameSync(`${root}${CONF}/audit/policy.yaml`, `${root}/root/policy.yaml`);
      symlinkSync("../../../root/policy.yaml", `${root}${CONF}/audit/policy.yaml`);
    },
  },
  { what: "a bundle that is not there", how: { bundle: "/mnt/keys.age" } },
  {
    what: "a hand edit that etcd knows",
    etcd: (objects) => {
      objects["pods/kube-system/kube-scheduler-m1"] = edited(mirrorPod("kube-scheduler"), "--v=7");
    },
    files: put("kube-scheduler", edited(manifest("kube-scheduler"), "--v=7")),
  },
  {
    what: "a hand edit that it does not know",
    files: put("kube-scheduler", edited(manifest("kube-scheduler"), "--v=7")),
  },
  {
    what: "names that the cluster's record does not have",
    files: (node) => serverWith(node, { certSANs: ["api.old.example", "10.9.9.9"] }),
  },
  {
    what: "a server that shows another certificate than its file",
    files: (node) => serverWith(node, { certSANs: ["served.example"] }),
    later: (node) => serverWith(node, {}),
  },
  {
    what: "an etcd that shows clients and peers another certificate than its file",
    files: (node) => serverWith(node, { etcdServerCertSANs: ["served.example"] }, "etcd-server"),
    later: (node) => serverWith(node, {}, "etcd-server"),
  },
  {
    what: "admin.conf of another group",
    files: ({ root }) => symlinkSync("admin.conf", `${root}${CONF}/super-admin.conf`),
  },
  {
    what: "files that nothing names, and our own marks",
    files: ({ root }) => {
      write(`${root}${CONF}/tmp/backup.yaml`, "old\n");
      write(`${root}${CONF}/.kube-pki-repair-x`, "ours\n");
    },
  },
  {
    what: "pods that are encrypted",
    etcd: (objects) => {
      objects["pods/shop/task"] = "k8s:enc:aescbc:v1:key1:\u0001\u0002";
    },
  },
  { what: "a second control plane node", etcd: withM2 },
  {
    what: "a kubelet's certificate with the key that kubeadm init made, until it rotates",
    files: async ({ root, ca }) => {
      const pair = await issueClient({ cn: "system:node:m1", o: "system:nodes" }, ca, {
        ...FACTS,
        keyAlgorithm: "RSA-2048",
      });
      write(`${root}/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem`, pair.cert + pair.key);
    },
  },
  {
    what: "an external CA",
    etcd: (objects) => {
      objects["pods/kube-system/kube-controller-manager-m1"] = unsigned(mirrorPod("kube-controller-manager"));
    },
    files: (node) => {
      rmSync(`${node.root}${PKI}/ca.key`);
      put("kube-controller-manager", unsigned(manifest("kube-controller-manager")))(node);
    },
  },
  {
    what: "refused: a lost certificate",
    files: ({ root }) => rmSync(`${root}${PKI}/front-proxy-client.crt`),
  },
  { what: "refused: all certificates have expired", files: ({ root }) => expireCertificates(root) },
  { what: "refused: a lost service-account key", files: ({ root }) => rmSync(`${root}${PKI}/sa.key`) },
  { what: "refused: a lost kubeconfig", files: ({ root }) => rmSync(`${root}${CONF}/scheduler.conf`) },
  {
    what: "refused: a lost manifest, and one that cannot be read",
    files: ({ root }) => {
      rmSync(`${root}${CONF}/manifests/kube-scheduler.yaml`);
      write(`${root}${CONF}/manifests/kube-controller-manager.yaml`, "{ garbage\n\t: [");
    },
  },
  {
    what: "refused: a reduced controller-manager",
    files: put(
      "kube-controller-manager",
      reduced(manifest("kube-controller-manager"), FACTS.kubernetesVersion),
    ),
  },
  {
    what: "refused: a lost file that the API server names",
    files: ({ root }) => rmSync(`${root}${CONF}/audit`, { recursive: true }),
  },
  { what: "refused: the CA is new", etcd: knewCa(before.cert) },
  {
    what: "another service-account key, which is sound",
    files: ({ root }) => {
      const { key, pub } = newKeyOf("ECDSA-P256");
      write(`${root}${PKI}/sa.key`, key);
      write(`${root}${PKI}/sa.pub`, pub);
    },
  },
  { what: "refused: nobody answers", api: "off" },
  { what: "refused: a worker", on: { kind: "worker" }, api: "off" },
];

const holds = decisions("drill");

test.each(ROWS)("$what", async ({ what, etcd, on, files, later, how = {}, api }) => {
  const none: Disposable = { [Symbol.dispose]: () => undefined };
  const decided = await lookAt(
    { kind: "healthy control plane node", ...(etcd && { etcd }), ...on, change: files },
    async (node, said) => {
      using _etcd = api === "off" ? none : serveEtcd(node.root, sameEtcd(node.stored));
      using _api = api === "off" ? none : serveRunning(node);
      await later?.(node);
      const found: Drill[] = [];
      const refused = await failOf(async () => void found.push(await repairAndCompare(how)));
      if (refused) return { refused: refused.message.replace(/ \(.*|: No answer.*/, "") };
      const from = said.length;
      printDrill(found[0]!);
      const lines = said.slice(from).join("\n").split("\n");
      return {
        ...decidedBy(found[0]!),
        screen: [lines.length, lines.filter((line) => /![A-Z ]+!/.test(line)).length].join(" lines, bad: "),
      };
    },
  );
  holds(what, decided);
});

function decidedBy(found: Drill) {
  const { files, servers, lost, backup, others, stops, todo } = found;
  const changed = files.filter(({ differences, note }) => differences.length > 0 || note);
  return {
    allBack: found.allBack,
    compared: {
      files: files.length,
      both: files.filter(({ here, back }) => here && back).length,
      some: fieldsIn(found) > 200,
    },
    changed: changed.map(({ path, is, differences, note }) =>
      [is, path, ...differences, ...(note ? ["no loss"] : [])].join(" "),
    ),
    servers: servers.flatMap(({ server, differences }) =>
      differences.map((one) => `${server} ${one.split(":")[0]}`),
    ),
    lost: lost.map(({ path, kept }) => `${kept} ${path}`),
    ...{
      backup: backup?.fits,
      ...(found.due && {
        due: `${found.due.files.join(", ")} in ${found.due.first.getUTCFullYear() - new Date().getUTCFullYear()} years`,
      }),
      others,
      stops: stops.map(({ byCopies }) => (byCopies ? "by copies" : "stop")),
    },
    todo: todo.map((line) => commandOf(line.split("\n")[1]!)),
  };
}

test("programs give a drill the lowest priority: a process of tests, which runs others after it, keeps its own", async () => {
  const before = getPriority();
  const programs = ["renice 19 -p", "ionice -c 3 -p"];
  const commands = programs.map((command) => ({ command: `${command} *` }));
  await lookAt({ kind: "no node", commands }, async ({ calls }) => {
    expect(await failOf(() => drill({}))).toBeDefined();
    const asked = programs.map((command) =>
      calls().find((call) => call.startsWith(`${command} ${process.pid}`)),
    );
    expect(asked.every(Boolean)).toBe(true);
  });
  expect(getPriority()).toBe(before);
});
