/**
 * Workers that are well and differ from the usual one in one thing; test/scripts/unlike-workers.test.ts runs
 * every script of a worker on each.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { parse, stringify } from "yaml";
import { certRow } from "../../shared/pki/certs.ts";
import { issueClient, issueLeaf } from "../../shared/pki/issue.ts";
import { FACTS, otherCa, write } from "./cluster.ts";
import { BALANCER, lead } from "./endpoint.ts";
import { CRICTL, crictlPs, KUBEADM_UNIT, type pretendNode } from "./node.ts";
import type { FakeCommand } from "./programs.ts";
import { USUAL } from "./unlike.ts";

type Worker = Awaited<ReturnType<typeof pretendNode>>;

export interface UnlikeWorker {
  /** What is different, as a sentence about the worker. */
  name: string;
  who: string;
  change: (worker: Worker) => Promise<void> | void;
  /** What its programs answer otherwise. */
  commands?: FakeCommand[];
  without?: string[];
}

const CONF = "/etc/kubernetes/kubelet.conf";
const CONFIG = "/var/lib/kubelet/config.yaml";
const FOLDER = "/var/lib/kubelet/pki";
const CURRENT = `${FOLDER}/kubelet-client-current.pem`;
const DATED = `${FOLDER}/kubelet-client-2026-01-02-03-04-05.pem`;
const CA = "/etc/kubernetes/pki/ca.crt";

// biome-ignore lint/suspicious/noExplicitAny: files of every kind
function editYaml({ root }: Worker, path: string, change: (content: any) => void) {
  const content = parse(readFileSync(root + path, "utf8"));
  change(content);
  writeFileSync(root + path, stringify(content, { lineWidth: 0 }));
}

function move({ root }: Worker, from: string, to: string) {
  mkdirSync(dirname(root + to), { recursive: true });
  renameSync(root + from, root + to);
}

/** The kubelet's unit with one more flag. */
function withFlag(flag: string): FakeCommand[] {
  return [
    {
      command: "systemctl cat kubelet",
      stdout: KUBEADM_UNIT.replaceAll("$KUBELET_EXTRA_ARGS", `$KUBELET_EXTRA_ARGS ${flag}`),
    },
  ];
}

/** Its certificate and its key, each in PEM. */
function credentials({ root }: Worker): [cert: string, key: string] {
  const pem = readFileSync(root + DATED, "utf8");
  const at = pem.indexOf("-----BEGIN", 10);
  return [pem.slice(0, at), pem.slice(at)];
}

function dropRotated({ root }: Worker) {
  rmSync(root + FOLDER, { recursive: true });
}

// biome-ignore lint/suspicious/noExplicitAny: a user of a kubeconfig
function setUser(worker: Worker, user: any) {
  editYaml(worker, CONF, (config) => {
    config.users[0].user = user;
  });
}

const base64 = (text: string) => Buffer.from(text).toString("base64");

export const WORKERS: UnlikeWorker[] = [
  { name: USUAL, who: "kubeadm join", change: () => undefined },
  {
    name: "a balancer of its own leads to the API, as a static pod",
    who: "kubespray's nginx-proxy, KubeKey's haproxy, sealos' lvscare",
    change: (worker) => {
      lead(worker, "kubelet.conf", `https://${BALANCER}:6443`);
      write(`${worker.root}/etc/haproxy/haproxy.cfg`, "defaults\n", 0o644);
      write(
        `${worker.root}/etc/kubernetes/manifests/haproxy.yaml`,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: haproxy, namespace: kube-system}\nspec: {containers: []}\n",
      );
    },
  },
  {
    name: "its kubelet signs its serving certificate itself",
    who: "kubeadm's default: no serverTLSBootstrap",
    change: async ({ root }) => {
      const pair = await issueLeaf(certRow("apiserver"), await otherCa(), FACTS);
      write(`${root}${FOLDER}/kubelet.crt`, pair.cert, 0o644);
      write(`${root}${FOLDER}/kubelet.key`, pair.key);
    },
  },
  {
    name: "its kubelet has another folder for its pods",
    who: "--root-dir on a disk of its own",
    commands: withFlag("--root-dir=/data/kubelet"),
    change: ({ root }) => void mkdirSync(`${root}/data/kubelet/pods`, { recursive: true }),
  },
  {
    name: "its kubelet has its certificates in another folder",
    who: "--cert-dir; own units",
    commands: withFlag("--cert-dir=/etc/kubelet/certs"),
    change: (worker) => {
      const [cert, key] = credentials(worker);
      dropRotated(worker);
      write(`${worker.root}/etc/kubelet/certs/kubelet-client-current.pem`, cert + key);
      const path = "/etc/kubelet/certs/kubelet-client-current.pem";
      setUser(worker, { "client-certificate": path, "client-key": path });
    },
  },
  {
    name: "kubelet.conf has its certificate inside, and it is not rotated",
    who: "KubeKey, sealos, rotateCertificates: false",
    change: (worker) => {
      const [cert, key] = credentials(worker);
      dropRotated(worker);
      setUser(worker, { "client-certificate-data": base64(cert), "client-key-data": base64(key) });
      editYaml(worker, CONFIG, (config) => {
        config.rotateCertificates = false;
      });
    },
  },
  {
    name: "kubelet.conf names a certificate and a key that others renew",
    who: "Ansible, Puppet, Vault agents: certificates of kubelets from a tool of their own",
    change: (worker) => {
      const [cert, key] = credentials(worker);
      dropRotated(worker);
      write(`${worker.root}/etc/kubernetes/ssl/node.crt`, cert, 0o644);
      write(`${worker.root}/etc/kubernetes/ssl/node.key`, key);
      setUser(worker, {
        "client-certificate": "/etc/kubernetes/ssl/node.crt",
        "client-key": "/etc/kubernetes/ssl/node.key",
      });
    },
  },
  {
    name: "kubelet.conf names others' certificate, and a rotated one of years ago was left in its folder",
    who: "who has turned the rotation off later",
    change: async (worker) => {
      const [cert, key] = credentials(worker);
      write(`${worker.root}/etc/kubernetes/ssl/node.crt`, cert, 0o644);
      write(`${worker.root}/etc/kubernetes/ssl/node.key`, key);
      setUser(worker, {
        "client-certificate": "/etc/kubernetes/ssl/node.crt",
        "client-key": "/etc/kubernetes/ssl/node.key",
      });
      editYaml(worker, CONFIG, (config) => {
        config.rotateCertificates = false;
      });
      const old = await issueLeaf(certRow("apiserver-kubelet-client"), worker.ca, FACTS, {
        now: new Date("2020-01-01"),
      });
      rmSync(worker.root + CURRENT);
      write(worker.root + CURRENT, old.cert + old.key);
    },
  },
  {
    name: "the CA that its kubelet's port trusts is in another file",
    who: "kubespray: /etc/kubernetes/ssl/ca.crt",
    change: (worker) => {
      move(worker, CA, "/etc/kubernetes/ssl/ca.crt");
      editYaml(worker, CONFIG, (config) => {
        config.authentication = {
          ...config.authentication,
          x509: { clientCAFile: "/etc/kubernetes/ssl/ca.crt" },
        };
      });
    },
  },
  {
    name: "its CA file has the company's CA before the cluster's",
    who: "monitoring that asks kubelets with certificates of the company",
    change: async ({ root, ca }) => write(root + CA, (await otherCa()).cert + ca.cert, 0o644),
  },
  {
    name: "kubelets have a CA of their own",
    who: "--cluster-signing-kubelet-client-cert-file; the API server's --client-ca-file has both CAs",
    change: async ({ root }) => {
      const { cert, key } = await issueClient(
        { cn: "system:node:w1", o: "system:nodes" },
        await otherCa("kubelet-ca"),
        FACTS,
      );
      write(root + DATED, cert + key);
    },
  },
  {
    name: "kubelet.conf names the CA's file in place of its content",
    who: "kubespray's and own templates",
    change: (worker) =>
      editYaml(worker, CONF, ({ clusters: [{ cluster }] }) => {
        delete cluster["certificate-authority-data"];
        cluster["certificate-authority"] = CA;
      }),
  },
  {
    name: "the bootstrap kubeconfig of its join was left",
    who: "kubelets that other tools than kubeadm have joined",
    change: ({ root }) =>
      write(
        `${root}/etc/kubernetes/bootstrap-kubelet.conf`,
        "apiVersion: v1\nkind: Config\nclusters: []\nusers: []\ncontexts: []\n",
      ),
  },
  {
    name: "it has no crictl",
    who: "Flatcar, own images: kubeadm needs none",
    without: ["crictl"],
    change: () => undefined,
  },
  {
    name: "a tenant's etcd and API server run on it",
    who: "Milvus, vcluster, Kamaji",
    commands: [
      {
        command: `${CRICTL} ps -a -o json`,
        stdout: crictlPs(
          ["kube-proxy"],
          ["etcd", "kube-apiserver"].map((name) => ({ name, namespace: "tenant", pod: `${name}-0` })),
        ),
      },
    ],
    change: () => undefined,
  },
];
