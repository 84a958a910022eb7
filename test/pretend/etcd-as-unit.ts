/**
 * Control plane nodes as kubespray and KubeKey make them: kubeadm's, but etcd is a systemd unit beside it,
 * with its files outside of /etc/kubernetes. Facts are from both projects' sources; the texts are our own.
 */
import { readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { certRow } from "../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../shared/pki/issue.ts";
import { ADDRESS, FACTS, type Objects, write } from "./cluster.ts";
import { MEMBER, type NodeOptions, pretendNode } from "./node.ts";

/** A whole unit, no drop-in; every flag is in a file below /etc/kubernetes that may be missing. */
export const KUBESPRAY_KUBELET = `# /etc/systemd/system/kubelet.service
[Service]
EnvironmentFile=-/etc/kubernetes/kubelet.env
ExecStart=/usr/local/bin/kubelet \\
\t\t$KUBE_LOG_LEVEL \\
\t\t$KUBELET_HOSTNAME \\
\t\t$KUBELET_ARGS \\
\t\t$KUBELET_CLOUDPROVIDER
Restart=always
`;

export const KUBELET_ENV = `KUBE_LOG_LEVEL="--v=2"
KUBELET_HOSTNAME="--hostname-override=w1"
# all of it in one variable
KUBELET_ARGS="--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --config=/etc/kubernetes/kubelet-config.yaml --kubeconfig=/etc/kubernetes/kubelet.conf"
KUBELET_CLOUDPROVIDER=""
`;

/** The journal, newest first, of a kubelet that was started with the flags of a file of variables. */
export function kubeletsJournal(env: string): string {
  const flags = [...env.matchAll(/--([\w-]+)=([^\s"]+)/g)].map(([, name, value]) => ({
    _SYSTEMD_INVOCATION_ID: "a1",
    MESSAGE: `I1201 03:10:00.123456     812 flags.go:64] FLAG: --${name}="${value}"`,
  }));
  return [{ _PID: "1", INVOCATION_ID: "a1", MESSAGE: "Started kubelet.service" }, ...flags]
    .toReversed()
    .map((line) => JSON.stringify(line))
    .join("\n");
}

const SSL = "/etc/ssl/etcd/ssl";

/** [CA, certificate, key] of etcd, and the API server's three, as each project calls them. */
const NAMES = {
  kubespray: [
    [`${SSL}/ca.pem`, `${SSL}/member-m1.pem`, `${SSL}/member-m1-key.pem`],
    [`${SSL}/ca.pem`, `${SSL}/node-m1.pem`, `${SSL}/node-m1-key.pem`],
  ],
  "KubeKey 3": [
    [`${SSL}/ca.pem`, `${SSL}/member-m1.pem`, `${SSL}/member-m1-key.pem`],
    [`${SSL}/ca.pem`, `${SSL}/node-m1.pem`, `${SSL}/node-m1-key.pem`],
  ],
  KubeKey: [
    [`${SSL}/ca.crt`, `${SSL}/server.crt`, `${SSL}/server.key`],
    ["ca.crt", "client.crt", "client.key"].map((file) => `/etc/kubernetes/pki/etcd/${file}`),
  ],
  /** Always elsewhere: kubeadm's own guide. */
  kubeadm: [
    [],
    ["etcd/ca.crt", "apiserver-etcd-client.crt", "apiserver-etcd-client.key"].map(
      (file) => `/etc/kubernetes/pki/${file}`,
    ),
  ],
} as const;

/** The address of an etcd on another machine. */
export const ETCD_HOST = ADDRESS.replace(/11$/, "31");
export const ETCD_URL = `https://${ETCD_HOST}:2379`;

interface AsUnit extends NodeOptions {
  /** /etc/kubernetes was deleted. */
  wiped?: boolean;
  /** etcd is on other machines: no unit and no data here. */
  elsewhere?: boolean;
}

export const ETCD_PKI = await (async () => {
  const ca = await issueCa(certRow("etcd-ca"), FACTS);
  // each certificate is for all members
  const etcdServerCertSANs = [...[2, 3].map((n) => ADDRESS.replace(/1$/, String(n))), ETCD_HOST];
  return {
    ca: ca.cert,
    caKey: ca.key,
    ...(await issueLeaf(certRow("etcd-server"), ca, { ...FACTS, etcdServerCertSANs })),
  };
})();

export type Maker = keyof typeof NAMES;

/** Members have names of their own. */
export const UNIT_MEMBER = { ...MEMBER, name: "etcd1" };
export const OTHER_MEMBER = { ...UNIT_MEMBER, peerURLs: [`https://${ETCD_HOST}:2380`] };

export async function nodeOf(
  by: Maker,
  { wiped = false, elsewhere = false, commands = [], ...options }: AsUnit = {},
) {
  const node = await pretendNode({
    kind: "healthy control plane node",
    etcd: (objects) => external(objects, by, { elsewhere }),
    members: [elsewhere ? OTHER_MEMBER : UNIT_MEMBER],
    commands: [...commands, ...commandsOf(by, { elsewhere })],
    ...options,
  });
  layOut(node.root, by, { elsewhere });
  if (wiped) rmSync(`${node.root}/etc/kubernetes`, { recursive: true });
  return node;
}

export function commandsOf(by: Maker, { elsewhere = false }: Pick<AsUnit, "elsewhere"> = {}) {
  return [
    ...(by === "kubespray" ? [{ command: "systemctl cat kubelet", stdout: KUBESPRAY_KUBELET }] : []),
    { command: "systemctl is-active --quiet etcd", ...(elsewhere ? { exit: 3 } : {}) },
  ];
}

function placesOf(by: Maker, { elsewhere = false }: Pick<AsUnit, "elsewhere">) {
  const servers = `https://${elsewhere ? ETCD_HOST : ADDRESS}:2379`;
  return { servers, certificatesDir: by === "kubespray" ? "/etc/kubernetes/ssl" : "/etc/kubernetes/pki" };
}

/** Changes the files of a healthy control plane node of kubeadm's below `root`. */
export function layOut(root: string, by: Maker, { elsewhere = false }: Pick<AsUnit, "elsewhere"> = {}) {
  const [own, client] = NAMES[by];
  const { servers, certificatesDir } = placesOf(by, { elsewhere });
  const put = (path: string, content: string, mode?: number) => write(root + path, content, mode);
  const read = (path: string) => readFileSync(root + path, "utf8");
  const kubeadms = [
    "pki/etcd",
    "pki/apiserver-etcd-client.crt",
    "pki/apiserver-etcd-client.key",
    "manifests/etcd.yaml",
  ];
  for (const path of kubeadms) rmSync(`${root}/etc/kubernetes/${path}`, { recursive: true });
  // on every etcd host: kubespray, roles/etcd/tasks/gen_certs_script.yml
  if (!elsewhere && own[0]?.endsWith("ca.pem")) put(`${SSL}/ca-key.pem`, ETCD_PKI.caKey);
  for (const [ca, cert, key] of elsewhere ? [client] : [own, client]) {
    put(ca!, ETCD_PKI.ca, 0o644);
    put(cert!, ETCD_PKI.cert, 0o644);
    put(key!, ETCD_PKI.key);
  }
  for (const name of ["kube-apiserver", "kube-controller-manager"]) {
    const path = `/etc/kubernetes/manifests/${name}.yaml`;
    put(path, withClient(inDir(read(path), certificatesDir), client, servers));
  }
  if (by === "kubespray") {
    renameSync(`${root}/etc/kubernetes/pki`, `${root}/etc/kubernetes/ssl`);
    symlinkSync("ssl", `${root}/etc/kubernetes/pki`);
    put("/var/lib/kubelet/config.yaml", inDir(read("/var/lib/kubelet/config.yaml"), certificatesDir), 0o644);
    put("/etc/systemd/system/kubelet.service", KUBESPRAY_KUBELET);
    put("/etc/kubernetes/kubelet.env", KUBELET_ENV);
    put("/etc/kubernetes/kubelet-config.yaml", read("/var/lib/kubelet/config.yaml"));
  } else if (by !== "kubeadm")
    put("/etc/kubekey/backup/kubernetes/kubeadm-config-2026.yaml", "kind: ClusterConfiguration\n");
  if (elsewhere) rmSync(`${root}/var/lib/etcd`, { recursive: true, force: true });
  else {
    put(
      "/etc/systemd/system/etcd.service",
      "[Service]\nEnvironmentFile=/etc/etcd.env\nExecStart=/usr/local/bin/etcd\n",
      0o644,
    );
    put("/etc/etcd.env", settings(own));
  }
}

function settings([ca, cert, key]: readonly string[]): string {
  return [
    "ETCD_DATA_DIR=/var/lib/etcd",
    "ETCD_NAME=etcd1",
    `ETCD_LISTEN_CLIENT_URLS=https://${ADDRESS}:2379,https://127.0.0.1:2379`,
    `ETCD_ADVERTISE_CLIENT_URLS=https://${ADDRESS}:2379`,
    ...[`ETCD_TRUSTED_CA_FILE=${ca}`, `ETCD_CERT_FILE=${cert}`, `ETCD_KEY_FILE=${key}`],
    ...[`ETCD_PEER_TRUSTED_CA_FILE=${ca}`, `ETCD_PEER_CERT_FILE=${cert}`, `ETCD_PEER_KEY_FILE=${key}`, ""],
  ].join("\n");
}

function inDir(text: string, certificatesDir: string): string {
  return text.replaceAll("/etc/kubernetes/pki", certificatesDir);
}

function withClient(text: string, [ca, cert, key]: readonly string[], servers: string): string {
  const flags = { "etcd-cafile": ca, "etcd-certfile": cert, "etcd-keyfile": key, "etcd-servers": servers };
  return Object.entries(flags).reduce(
    (all, [name, value]) => all.replace(new RegExp(`--${name}=[^\\s",]+`), `--${name}=${value}`),
    text,
  );
}

/** What etcd holds of such a cluster: an external etcd, the API server's own files, no mirror pod of etcd. */
export function external(objects: Objects, by: Maker, where: Pick<AsUnit, "elsewhere"> = {}) {
  const client = NAMES[by][1];
  const { certificatesDir, servers } = placesOf(by, where);
  const edit = (key: string, change: (text: string) => string) => {
    objects[key] = JSON.parse(change(JSON.stringify(objects[key])));
  };
  const [caFile, certFile, keyFile] = client;
  const config = `external:\\n    endpoints: [\\"${servers}\\"]\\n    caFile: ${caFile}\\n    certFile: ${certFile}\\n    keyFile: ${keyFile}`;
  edit("configmaps/kube-system/kubeadm-config", (text) =>
    text
      .replace("local:\\n    dataDir: /var/lib/etcd", config)
      .replace("/etc/kubernetes/pki", certificatesDir),
  );
  for (const key of Object.keys(objects)) {
    if (/^pods\/kube-system\/kube-(apiserver|controller-manager)-m\d$/.test(key))
      edit(key, (text) => withClient(inDir(text, certificatesDir), client, servers));
    if (/^pods\/kube-system\/etcd-m\d$/.test(key)) delete objects[key];
  }
  if (where.elsewhere) objects[`/registry/masterleases/${ADDRESS}`] = { kind: "Endpoints", metadata: {} };
}
