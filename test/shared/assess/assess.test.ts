/**
 * What 00-assess says of a node: the damage, what survives, the verdict and what comes next, of many damages
 * and clusters.
 */
import { setDefaultTimeout, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { chmodSync, copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { assess } from "../../../shared/assess/assess.ts";
import { type Assessment, assessmentAsJson } from "../../../shared/assess/assessment.ts";
import { lookHere } from "../../../shared/assess/look-here.ts";
import { newRescue, rescuedEtcd } from "../../../shared/node/rescue-folder.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import {
  ADDRESS,
  clusterObjects,
  FACTS,
  healthyCp,
  heardUntil,
  type Objects,
  otherCa,
  write,
} from "../../pretend/cluster.ts";
import { giveToCompany, ofCompany, renewedByCompany } from "../../pretend/company-ca.ts";
import { commandOf, decisions } from "../../pretend/decisions.ts";
import { agedText, expireCertificates } from "../../pretend/expired.ts";
import { gone, lookAt, type PretendNode as Node } from "../../pretend/in-process.ts";
import { withM2 } from "../../pretend/lost-cp.ts";
import { bigInt, POD_UID, podRecord, pretendProcess, unreadableProcess } from "../../pretend/memory.ts";
import { MEMBER, staticUid } from "../../pretend/node.ts";
import { tokenBy } from "../../pretend/old-keys.ts";
import { renewedOnly } from "../../pretend/renewed.ts";
import { knewCa } from "../../pretend/running.ts";

setDefaultTimeout(300_000);

const { root: healthy, ca } = await healthyCp();
const pki = (file: string) => readFileSync(`${healthy}/etc/kubernetes/pki/${file}`, "utf8");
const YEARS = 2 * 8760 * 3600_000;
const older = await issueCa(certRow("ca"), FACTS, { now: new Date(Date.now() - YEARS) });
const later = await otherCa();
const YESTERDAY = new Date(Date.now() - 86_400_000);
const ofCompanysUntil = await ofCompany(ca.cert, YESTERDAY);
const OWN_SA = { key: pki("sa.key"), pub: pki("sa.pub") };

type On = Parameters<typeof lookAt>[0];
interface Row {
  what: string;
  on?: On;
  how?: Parameters<typeof assess>[1];
}

const well = (change?: (node: Node) => unknown, more: On = {}): On => ({
  kind: "healthy control plane node",
  change,
  ...more,
});
const put =
  (file: string, text: string) =>
  ({ root }: Node) =>
    writeFileSync(`${root}/etc/kubernetes/${file}`, text);
const edit =
  (file: string, from: string | RegExp, to: string) =>
  ({ root }: Node) => {
    const [path, text] = [
      `${root}/etc/kubernetes/${file}`,
      readFileSync(`${root}/etc/kubernetes/${file}`, "utf8"),
    ];
    if (text.replace(from, to) === text) throw new Error(`nothing to edit in ${file}`);
    writeFileSync(path, text.replace(from, to));
  };
const both =
  (...changes: ((node: Node) => unknown)[]) =>
  async (node: Node) => {
    for (const change of changes) await change(node);
  };
const deepOf = (more: object = {}) => ({
  deep: { device: undefined, image: undefined, noDisk: true, ...more } as never,
});

/** As `kubeadm init --upload-certs` leaves it for two hours: encrypted with a key that was printed once. */
function withKubeadmCerts(objects: Objects) {
  objects["secrets/kube-system/kubeadm-certs"] = {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "kubeadm-certs", namespace: "kube-system" },
    data: Object.fromEntries(
      ["ca", "front-proxy-ca", "etcd-ca", "sa"].map((name) => [
        `${name}.key`,
        Buffer.alloc(64).toString("base64"),
      ]),
    ),
  };
}

/** Its node stays m1. */
const RENAMED = { commands: [{ command: "uname -n", stdout: "renamed\n" }] };
const FAILING = ["is-active --quiet kubelet", "is-active kubelet"].map((words) => ({
  ...{ command: `systemctl ${words}`, does: "echo activating; exit 3" },
}));
const OF_A_CLOUD =
  "ExecStart=/usr/bin/kubelet --kubeconfig=/etc/kubernetes/kubelet.conf --cloud-provider=vsphere\n";

const ROWS: Row[] = [
  { what: "/etc/kubernetes is gone" },
  {
    what: "the same, and its servers still run",
    on: { containers: ["etcd", "kube-apiserver", "kube-controller-manager"] },
  },
  { what: "the same, and the runtime cannot be asked", on: { without: ["crictl"] } },
  { what: "all is well", on: well() },
  {
    what: "etcd's CA and the front proxy's are lost",
    on: well(gone("pki/etcd/ca.key", "pki/front-proxy-ca.key")),
  },
  { what: "ca.key is lost", on: well(gone("pki/ca.key")) },
  { what: "sa.key is lost", on: well(gone("pki/sa.key")) },
  { what: "sa.pub is lost", on: well(gone("pki/sa.pub")) },
  { what: "ca.crt is lost", on: well(gone("pki/ca.crt")) },
  {
    what: "an older CA is in the place of the cluster's",
    on: well(both(put("pki/ca.crt", older.cert), put("pki/ca.key", older.key))),
  },
  {
    what: "a later CA is in its place",
    on: well(both(put("pki/ca.crt", later.cert), put("pki/ca.key", later.key))),
  },
  {
    what: "a later CA, and sa.key is lost",
    on: well(both(put("pki/ca.crt", later.cert), put("pki/ca.key", later.key), gone("pki/sa.key"))),
  },
  { what: "one certificate is lost", on: well(gone("pki/apiserver.crt")) },
  { what: "all certificates have expired", on: well(({ root }) => expireCertificates(root)) },
  { what: "one has expired", on: well(({ root }) => expireCertificates(root, [certRow("apiserver")])) },
  {
    what: "CAs that a company has signed have expired",
    on: well(({ root }) => giveToCompany(root, YESTERDAY), {
      etcd: (objects) => Object.assign(objects, clusterObjects(ofCompanysUntil)),
    }),
  },
  {
    what: "the same, and what the company has signed since is in place",
    on: well(({ root }) => renewedByCompany(root, YESTERDAY), {
      etcd: (objects) => Object.assign(objects, clusterObjects(ofCompanysUntil), heardUntil("m1", YESTERDAY)),
    }),
  },
  { what: "the host has another name, and the kubelet runs", on: well(undefined, RENAMED) },
  {
    what: "the host has another name, and the kubelet does not run",
    on: well(undefined, { commands: [...RENAMED.commands, ...FAILING] }),
  },
  {
    what: "a worker's host has another name, which its cloud has given it",
    on: {
      kind: "worker",
      commands: [...RENAMED.commands, { command: "systemctl cat kubelet", stdout: OF_A_CLOUD }],
    },
  },
  {
    what: "etcd's CA was renewed, and etcd not restarted",
    on: well((node) => renewedOnly(node, 100)),
  },
  {
    what: "the same, and the one before has expired",
    on: well((node) => renewedOnly(node, -1)),
  },
  {
    what: "the same, and a certificate is lost",
    on: well(both(gone("pki/apiserver.crt"), (node) => renewedOnly(node, -1))),
  },
  {
    what: "admin.conf has expired, and another certificate is lost",
    on: well(
      both(gone("pki/apiserver.crt"), async ({ root }) =>
        writeFileSync(
          `${root}/etc/kubernetes/admin.conf`,
          (await agedText(readFileSync(`${root}/etc/kubernetes/admin.conf`, "utf8"), ca.key))!,
        ),
      ),
    ),
  },
  {
    what: "admin.conf is lost, and another config garbage",
    on: well(both(gone("admin.conf"), put("scheduler.conf", "{ garbage"))),
  },
  { what: "kubelet.conf is lost", on: well(gone("kubelet.conf")) },
  {
    what: "kubelet.conf has another CA",
    on: well(
      edit(
        "kubelet.conf",
        /certificate-authority-data: \S+/,
        `certificate-authority-data: ${btoa(later.cert)}`,
      ),
    ),
  },
  {
    what: "the kubelet's certificate is lost",
    on: well(({ root }) => rmSync(`${root}/var/lib/kubelet/pki/kubelet-client-current.pem`)),
  },
  {
    what: "the kubelet's certificate is garbage",
    on: well(({ root }) =>
      writeFileSync(`${root}/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem`, "garbage"),
    ),
  },
  { what: "the kubelet is stopped", on: well(({ env }) => writeFileSync(`${env.FAKE}/stopped`, "")) },
  {
    what: "manifests: one is lost, one empty, one cut off, one changed",
    on: well(
      both(
        gone("manifests/etcd.yaml"),
        put("manifests/kube-scheduler.yaml", ""),
        put(
          "manifests/kube-controller-manager.yaml",
          "apiVersion: v1\nkind: Pod\nmetadata:\n  name: kube-con",
        ),
        edit(
          "manifests/kube-apiserver.yaml",
          "--authorization-mode=Node,RBAC",
          "--authorization-mode=AlwaysAllow",
        ),
      ),
    ),
  },
  {
    what: "a manifest that cannot be read",
    on: well(put("manifests/kube-scheduler.yaml", "{ garbage\n\t: [")),
  },
  {
    what: "a second manifest of one pod",
    on: well(({ root }) =>
      write(
        `${root}/etc/kubernetes/manifests/copy.yaml`,
        readFileSync(`${root}/etc/kubernetes/manifests/etcd.yaml`, "utf8"),
      ),
    ),
  },
  {
    what: "others can read a key and a kubeconfig",
    on: well(({ root }) => {
      chmodSync(`${root}/etc/kubernetes/pki/ca.key`, 0o644);
      chmodSync(`${root}/etc/kubernetes/admin.conf`, 0o640);
    }),
  },
  {
    what: "others can read the kubelet's key, and a super-admin.conf that no static pod needs",
    on: well(({ root }) => {
      const [conf, pem] = [
        "etc/kubernetes/super-admin.conf",
        "var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem",
      ];
      copyFileSync(`${root}/etc/kubernetes/admin.conf`, `${root}/${conf}`);
      for (const path of [conf, pem]) chmodSync(`${root}/${path}`, 0o644);
      // it names the file of its key: nobody learns the key by it
      chmodSync(`${root}/etc/kubernetes/kubelet.conf`, 0o644);
    }),
  },
  { what: "a file that the API server names is lost", on: well(gone("audit/policy.yaml")) },
  { what: "etcd's database is full", on: well(undefined, { isFull: true }) },
  {
    what: "a member that never started, and one without a vote",
    on: well(undefined, {
      members: [
        MEMBER,
        { id: "1b", name: "", peerURLs: ["https://127.77.0.31:2380"] },
        { id: "2b", name: "m3", peerURLs: ["https://127.77.0.32:2380"], isLearner: true },
      ],
    }),
  },
  {
    what: "a worker with the label of a control plane node",
    on: well(undefined, {
      members: [MEMBER],
      etcd: (objects) => {
        const labels = { "node-role.kubernetes.io/control-plane": "" };
        Object.assign((objects["minions/w1"] as { metadata: object }).metadata, { labels });
      },
    }),
  },
  {
    what: "one of two control plane nodes is damaged",
    on: well(gone("pki/apiserver.crt", "pki/ca.key"), { etcd: withM2 }),
  },
  { what: "one of two is well", on: well(undefined, { etcd: withM2 }) },
  {
    what: "the other one is lost for good",
    on: well(undefined, { etcd: withM2 }),
    how: { lost: { names: ["m2"], away: [], controlPlanes: ["m2"], silent: [] } },
  },
  {
    what: "the other one is lost for good, and a third is silent",
    on: well(undefined, { etcd: withM2 }),
    how: { lost: { names: ["m2"], away: [], controlPlanes: ["m2"], silent: ["m3"] } },
  },
  { what: "the CA is new", on: well(undefined, { etcd: knewCa(older.cert) }) },
  {
    what: "part 2 is done with a new CA, and the old key of tokens is kept",
    on: well(
      (node) => {
        cpSync(`${node.root}/var/lib/etcd`, node.root + rescuedEtcd(newRescue()), { recursive: true });
        put("pki/sa-old.pub", OWN_SA.pub)(node);
      },
      { etcd: knewCa(older.cert) },
    ),
  },
  {
    what: "the data is encrypted",
    on: {
      etcd: (objects) => {
        for (const key of Object.keys(objects))
          if (!key.startsWith("minions")) objects[key] = "k8s:enc:aescbc:v1:key1:\u0001\u0002";
      },
    },
  },
  {
    what: "the data is of no Kubernetes cluster",
    on: {
      etcd: (objects) => {
        for (const key of Object.keys(objects)) delete objects[key];
        objects["/something/else"] = "1";
      },
    },
  },
  {
    what: "the machine has another address",
    on: {
      commands: [
        {
          command: "ip -j addr",
          stdout: JSON.stringify([{ addr_info: [{ scope: "global", local: "10.9.9.9" }] }]),
        },
      ],
    },
  },
  {
    what: "etcd's data is lost",
    on: well(({ root }) => rmSync(`${root}/var/lib/etcd`, { recursive: true })),
  },
  {
    what: "etcd's data and all files are lost, and the kubelet's record of a static pod is here",
    on: well(({ root }) => {
      for (const path of ["/var/lib/etcd", "/etc/kubernetes"]) rmSync(root + path, { recursive: true });
      mkdirSync(`${root}/var/lib/kubelet/pods/${staticUid("kube-apiserver")}/containers/kube-apiserver`, {
        recursive: true,
      });
    }),
  },
  {
    what: "etcd is external",
    on: well(
      both(
        ({ root }) => {
          for (const path of [
            "/var/lib/etcd",
            "/etc/kubernetes/manifests/etcd.yaml",
            "/etc/kubernetes/pki/etcd",
          ])
            rmSync(root + path, { recursive: true });
        },
        edit("manifests/kube-apiserver.yaml", /--etcd-servers=\S+/, "--etcd-servers=https://127.0.0.31:2379"),
      ),
    ),
  },
  {
    what: "the CA is external, and its key was never here",
    on: well(gone("pki/ca.key", "pki/apiserver.crt"), {
      etcd: (objects) => {
        const key = "pods/kube-system/kube-controller-manager-m1";
        objects[key] = JSON.parse(
          JSON.stringify(objects[key]).replaceAll(/"--cluster-signing-(cert|key)-file=[^"]*",/g, ""),
        );
      },
    }),
  },
  {
    what: "the clock is late",
    on: well(undefined, {
      commands: [{ command: "timedatectl show --property=NTPSynchronized --value", stdout: "no\n" }],
      etcd: (objects) => {
        objects["leases/kube-node-lease/m1"] = {
          apiVersion: "coordination.k8s.io/v1",
          kind: "Lease",
          metadata: { name: "m1" },
          spec: { renewTime: new Date(Date.now() + 7200_000).toISOString() },
        };
        withM2(objects);
        objects["leases/kube-node-lease/m2"] = {
          apiVersion: "coordination.k8s.io/v1",
          kind: "Lease",
          metadata: { name: "m2" },
          spec: { renewTime: new Date(Date.now() + 7200_000).toISOString() },
        };
      },
    }),
  },
  {
    what: "the network plugin has the old CA",
    on: well(({ root }) => {
      write(
        `${root}/etc/cni/net.d/10-calico.conflist`,
        JSON.stringify({
          name: "n",
          plugins: [{ type: "calico", kubernetes: { kubeconfig: "/etc/cni/net.d/calico-kubeconfig" } }],
        }),
      );
      write(
        `${root}/etc/cni/net.d/calico-kubeconfig`,
        JSON.stringify({
          kind: "Config",
          clusters: [
            {
              name: "local",
              cluster: { server: `https://${ADDRESS}:6443`, "certificate-authority-data": btoa(older.cert) },
            },
          ],
        }),
      );
    }),
  },
  {
    what: "a signal has stopped a server, and the controller-manager",
    on: well(({ root }) => {
      pretendProcess(root, { pid: 31, comm: "kube-controller", state: "T" });
      pretendProcess(root, { pid: 32, comm: "kube-apiserver", state: "T" });
    }),
  },
  {
    what: "a signal has stopped a server, and a program of somebody's pod",
    on: well(({ root }) => {
      pretendProcess(root, { pid: 32, comm: "kube-apiserver", state: "T" });
      podRecord(root, "shop", "cart-0", POD_UID);
      const cgroup = `/kubepods/pod${POD_UID}/${"d".repeat(64)}`;
      pretendProcess(root, { pid: 33, comm: "java", state: "T", cgroup });
    }),
  },
  {
    what: "a server and a pod of kube-system are stopped beside a stopped kubelet",
    on: well(({ root, env }) => {
      writeFileSync(`${env.FAKE}/stopped`, "");
      pretendProcess(root, { pid: 32, comm: "kube-apiserver", state: "T" });
    }),
  },
  {
    what: "the controller-manager is paused beside a stopped kubelet",
    on: well(({ root, env }) => {
      writeFileSync(`${env.FAKE}/stopped`, "");
      pretendProcess(root, { pid: 31, comm: "kube-controller", state: "T" });
    }),
  },
  {
    what: "ca.key is lost; the operator has stopped the kubelet and paused the controller-manager, as part 0 says",
    on: well(
      both(gone("pki/ca.key"), ({ root, env }) => {
        writeFileSync(`${env.FAKE}/stopped`, "");
        pretendProcess(root, { pid: 31, comm: "kube-controller", state: "T" });
      }),
    ),
  },
  {
    what: "ca.key is lost, the kubelet is stopped, and no controller-manager runs here",
    on: well(
      both(gone("pki/ca.key"), ({ env }) => writeFileSync(`${env.FAKE}/stopped`, "")),
      { containers: ["etcd", "kube-apiserver"] },
    ),
  },
  {
    what: "ca.key is lost, and the kubelet starts again and again",
    on: well(gone("pki/ca.key"), {
      commands: [{ command: "systemctl is-active kubelet", stdout: "activating\n", exit: 3 }],
    }),
  },
  {
    what: "one certificate is lost, and the operator has stopped the kubelet",
    on: well(both(gone("pki/apiserver.crt"), ({ env }) => writeFileSync(`${env.FAKE}/stopped`, ""))),
  },
  { what: "a worker is well", on: { kind: "worker" } },
  { what: "a worker without its CA", on: { kind: "worker", change: gone("pki/ca.crt") } },
  { what: "a worker with another CA", on: { kind: "worker", change: put("pki/ca.crt", later.cert) } },
  { what: "a worker without kubelet.conf", on: { kind: "worker", change: gone("kubelet.conf") } },
  {
    what: "a worker without a file that its kubelet names",
    on: {
      kind: "worker",
      change: ({ root }) =>
        write(
          `${root}/etc/default/kubelet`,
          "KUBELET_EXTRA_ARGS=--config-dir=/etc/kubernetes/kubelet.conf.d\n",
        ),
    },
  },
  { what: "deep: nothing is left", how: deepOf() },
  {
    what: "deep: memory holds the keys",
    on: {
      change: ({ root }) =>
        pretendProcess(root, {
          pid: 31,
          comm: "kube-controller",
          holds: [bigInt(createPrivateKey(pki("ca.key"))), bigInt(createPrivateKey(pki("sa.key")))],
        }),
    },
    how: deepOf(),
  },
  {
    what: "deep: memory holds one key, and another key is in its place",
    on: well(
      both(put("pki/ca.key", pki("etcd/ca.key")), ({ root }) =>
        pretendProcess(root, {
          pid: 31,
          comm: "kube-controller",
          holds: [bigInt(createPrivateKey(pki("ca.key")))],
        }),
      ),
    ),
    how: deepOf(),
  },
  {
    what: "deep: the controller-manager's memory cannot be read",
    on: { change: ({ root }) => unreadableProcess(root, { pid: 31, comm: "kube-controller" }) },
    how: deepOf(),
  },
  { what: "deep: one of two control plane nodes", on: { etcd: withM2 }, how: deepOf() },
  { what: "deep: kubeadm's Secret", on: { etcd: withKubeadmCerts }, how: deepOf() },
  {
    what: "deep: kubeadm's Secret, and another control plane node",
    on: {
      etcd: (objects) => {
        withM2(objects);
        withKubeadmCerts(objects);
      },
    },
    how: deepOf(),
  },
  {
    what: "deep: kubeadm's Secret, and memory has the keys",
    on: {
      etcd: withKubeadmCerts,
      change: ({ root }) =>
        pretendProcess(root, {
          pid: 31,
          comm: "kube-controller",
          holds: [bigInt(createPrivateKey(pki("ca.key")))],
        }),
    },
    how: deepOf(),
  },
  {
    what: "deep: sa.key alone, and old tokens",
    on: well(
      both(gone("pki/sa.key", "pki/sa.pub"), ({ root }) => {
        podRecord(root, "kube-system", "kube-proxy-x", POD_UID);
        write(
          `${root}/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/kube-api-access/token`,
          tokenBy(OWN_SA, { alg: "ES256", of: "kube-system:kube-proxy", issuedAt: 1000 }),
        );
      }),
      {
        etcd: (objects) => {
          const token = tokenBy(OWN_SA, { alg: "ES256", of: "kube-system:default" });
          objects["secrets/kube-system/t"] = {
            apiVersion: "v1",
            kind: "Secret",
            type: "kubernetes.io/service-account-token",
            metadata: { name: "t", namespace: "kube-system" },
            data: { token: btoa(token) },
          };
        },
      },
    ),
    how: deepOf(),
  },
  {
    what: "deep: the internal CAs",
    on: well(gone("pki/etcd/ca.key", "pki/front-proxy-ca.key")),
    how: deepOf(),
  },
  { what: "deep: nothing is lost", on: well(), how: deepOf() },
];

const holds = decisions("assess");

/** What is decided, without the sentences. */
function decidedOf(assessment: Assessment) {
  const { role, damage, survivors, deep, verdict, next, filesBack, course, ca, ...said } = assessment;
  const shown = assessmentAsJson(assessment).damage;
  const bad = damage
    .map((row, i) => ({ ...row, state: shown[i]!.state }))
    .filter(({ state }) => state !== "ok");
  return {
    is: [role, ...(said.damaged ? ["damaged"] : []), ...(said.well ? ["well"] : [])].join(", "),
    rows: bad.map((row) => {
      const { severity, mend, works } = row;
      const until = works?.includes("The first certificate") && "until a day";
      const now = row.serversStopped && "at once";
      return [row.state, row.id, row.what, now, row.until && "dated", severity, until, mend && `→ ${mend}`]
        .filter(Boolean)
        .join(" ");
    }),
    hopes: survivors.map(({ where, hope }) => `${where}: ${hope}`),
    places: deep?.keys.map(
      ({ file, places }) =>
        `${file}: ${places.map((place) => Object.values(place).join(" ")).join(", ") || "nowhere"}`,
    ),
    unread: deep?.unread,
    ...{ rung: said.rung, lost: said.lost, way: said.way },
    verdict: verdict.split(/[.:;]/)[0]!.replace(/\d{4}(-\d\d){2}/, "DATE"),
    next: next.map(commandOf),
    back: filesBack?.map(commandOf),
    course: course?.join(" "),
    otherCas: ca.copies.filter(({ is }) => is !== "the cluster's").map(({ what, is }) => `${what}: ${is}`),
  };
}

test.each(ROWS)("$what", async ({ what, on = {}, how }) => {
  holds(what, decidedOf(await lookAt(on, async () => assess(await lookHere(undefined), how))));
});
