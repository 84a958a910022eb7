/**
 * A cluster in the layout of kubespray, in our own words: kubeadm's, with etcd as a systemd unit beside the control plane,
 * certificates in /etc/kubernetes/ssl, and a kubelet whose flags and configuration all lie below /etc/kubernetes.
 * The facts are from kubespray's roles (reference/systemd-etcd.md); none of its files is here.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { stringify } from "yaml";
import { minorOf } from "../../../shared/pki/certs.ts";
import { apiBalancer, BALANCER_IMAGE } from "./field.ts";
import { extraArgs, kubeletConfiguration } from "./kubeadm-config.ts";
import { addressOf } from "./layout.ts";
import { haproxyConfig } from "./network.ts";
import { KUBERNETES } from "./pins.ts";
import { type Profile, samePlace, USUAL } from "./profile.ts";
import { sh } from "./shell.ts";

export const SSL = "/etc/ssl/etcd/ssl";
const CERTIFICATES = "/etc/kubernetes/ssl";
const KUBELET_ENV = "/etc/kubernetes/kubelet.env";
export const KUBELET_CONFIG = "/etc/kubernetes/kubelet-config.yaml";
const SCHEDULER_CONFIG = "/etc/kubernetes/kubescheduler-config.yaml";
const UNITS = "/etc/systemd/system";
const NGINX_CONFIG = "/etc/nginx/nginx.conf";
const RUNTIME = "unix:///var/run/containerd/containerd.sock";

/** Releases of kubespray that differ in what it lays out; each knows three releases of Kubernetes. */
export type Generation = "2.26" | "2.29" | "2.30" | "2.31";

const before = (generation: Generation, release: Generation) => Number(generation) < Number(release);

/** Who installs this Kubernetes today: 2.26 has up to 1.30, 2.27 1.31, 2.29 up to 1.33, 2.30 up to 1.34. */
export function generationFor(kubernetes: string): Generation {
  const minor = minorOf(kubernetes);
  return minor <= 31 ? "2.26" : minor <= 33 ? "2.29" : minor <= 34 ? "2.30" : "2.31";
}

export async function kubespray({
  controlPlanes = 1,
  generation = generationFor(KUBERNETES),
  days = 36500,
}: {
  controlPlanes?: number;
  generation?: Generation;
  /** How long etcd's certificates are valid. */
  days?: number;
} = {}): Promise<Profile> {
  const nodes = Array.from({ length: controlPlanes }, (_, i) => addressOf(`cp${i + 1}`));
  const first = nodes[0]!.name;
  const [caFile, certFile, keyFile] = ["ca.pem", `node-${first}.pem`, `node-${first}-key.pem`].map(
    (name) => `${SSL}/${name}`,
  );
  const endpoints = nodes.map(({ ip }) => `https://${ip}:2379`);
  return {
    ...USUAL,
    certificatesDir: CERTIFICATES,
    links: { "/etc/kubernetes/pki": CERTIFICATES },
    clusterConfiguration: {
      clusterName: "cluster.local",
      etcd: { external: { endpoints, caFile, certFile, keyFile } },
      scheduler: {
        extraArgs: extraArgs([
          ["config", SCHEDULER_CONFIG],
          ["profiling", "false"],
        ]),
        extraVolumes: [samePlace("kubescheduler-config", SCHEDULER_CONFIG, "File")],
      },
    },
    apiServerFlags: [
      ...USUAL.apiServerFlags,
      ...(before(generation, "2.29") ? [["bind-address", "0.0.0.0"] as [string, string]] : []),
    ],
    certSANs: ["localhost", "127.0.0.1", "::1"],
    addOns: [apiBalancer],
    workerStaticPods: { "nginx-proxy.yml": balancerPod("nginx-proxy", NGINX_CONFIG) },
    controlPlaneFiles: {
      ...USUAL.controlPlaneFiles,
      ...(await etcdsPki(nodes, days)),
      [SCHEDULER_CONFIG]: stringify({
        apiVersion: "kubescheduler.config.k8s.io/v1",
        kind: "KubeSchedulerConfiguration",
        clientConnection: { kubeconfig: "/etc/kubernetes/scheduler.conf" },
        leaderElection: { leaderElect: true, leaseDuration: "15s", renewDeadline: "10s" },
      }),
      [`${UNITS}/etcd.service`]: ETCD_UNIT,
    },
    nodeFiles: { [KUBELET_CONFIG]: kubeletsOwn(generation), [`${UNITS}/kubelet.service`]: KUBELET_UNIT },
    beforeKubeadm: [
      // as on a machine: the lab's systemd writes to its console
      [/./, "systemctl log-target journal"],
      [/./, kubeletEnv(generation)],
      [
        /^cp/,
        `${etcdEnv(nodes)}${before(generation, "2.31") ? "; echo ETCD_ENABLE_V2=true >> /etc/etcd.env" : ""}`,
      ],
      [/^cp/, `${owners(generation)}\nsystemctl daemon-reload\nsystemctl enable --quiet --now etcd`],
      [
        /^w/,
        `install -D -m 755 /dev/stdin ${NGINX_CONFIG} <<'END'\n${haproxyConfig("127.0.0.1:6443", nodes)}END`,
      ],
    ],
    nodeLines: [
      // since 2.31 they are as kubeadm writes them
      [/^cp/, before(generation, "2.31") ? LEAD_HERE : "true"],
      [
        /^cp/,
        `install -D -m 600 /etc/kubernetes/admin.conf /root/.kube/config
cd /etc/kubernetes/manifests; [ ! -e kube-vip.yaml ] || mv kube-vip.yaml kube-vip.yml; systemctl restart kubelet`,
      ],
      [/^w/, leadTo("localhost:6443")],
    ],
  };
}

const LEAD_HERE = `for name in admin kubelet controller-manager scheduler; do
  file=/etc/kubernetes/$name.conf
  # the same file: static pods have mounted it
  sed 's#server: https://.*#server: https://127.0.0.1:6443#' $file > /root/changed.conf; cat /root/changed.conf > $file
done
rm /root/changed.conf`;

/** A proxy in front of the API that is no nginx here: what counts is whose manifest and configuration are where. */
function balancerPod(name: string, config: string): string {
  return stringify({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "kube-system", labels: { "k8s-app": name } },
    spec: {
      containers: [
        {
          name,
          image: BALANCER_IMAGE,
          imagePullPolicy: "IfNotPresent",
          args: ["-db", "-f", config],
          resources: { requests: { cpu: "25m", memory: "32M" } },
          volumeMounts: [{ name: "config", mountPath: dirname(config), readOnly: true }],
        },
      ],
      hostNetwork: true,
      priority: 2000001000,
      priorityClassName: "system-node-critical",
      volumes: [{ name: "config", hostPath: { path: dirname(config) } }],
    },
  });
}

/** When the balancer answers there: kubelet.conf leads to it, in the same file. */
function leadTo(place: string): string {
  return `until curl -sk https://${place}/readyz | grep -q ok; do sleep 0.5; done
sed -i 's|server: https://.*|server: https://${place}|' /etc/kubernetes/kubelet.conf; systemctl restart kubelet`;
}

export const ETCD_UNIT = `[Unit]
Description=etcd
After=network.target

[Service]
Type=notify
User=root
EnvironmentFile=/etc/etcd.env
ExecStart=/usr/local/bin/etcd
NotifyAccess=all
Restart=always
RestartSec=10s
LimitNOFILE=20000

[Install]
WantedBy=multi-user.target
`;

const KUBELET_UNIT = `[Unit]
Description=Kubernetes Kubelet Server
After=containerd.service
Wants=containerd.service

[Service]
EnvironmentFile=-${KUBELET_ENV}
ExecStart=/usr/local/bin/kubelet \\
\t\t$KUBE_LOG_LEVEL \\
\t\t$KUBELET_ADDRESS \\
\t\t$KUBELET_HOSTNAME \\
\t\t$KUBELET_ARGS \\
\t\t$KUBELET_CLOUDPROVIDER
Restart=always
RestartSec=10s

[Install]
WantedBy=multi-user.target
`;

/** `$NAME`, `$IP` and `$NUMBER` are the node's. */
function kubeletEnv(generation: Generation): string {
  const args = [
    "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
    `--config=${KUBELET_CONFIG}`,
    "--kubeconfig=/etc/kubernetes/kubelet.conf",
    ...(before(generation, "2.29") ? [`--container-runtime-endpoint=${RUNTIME}`] : []),
    "--runtime-cgroups=/system.slice/containerd.service",
  ];
  return `rm -r ${UNITS}/kubelet.service.d
cat > ${KUBELET_ENV} <<END
KUBE_LOG_LEVEL="--v=2"
KUBELET_ADDRESS="--node-ip=$IP"
KUBELET_HOSTNAME="--hostname-override=$NAME"
KUBELET_ARGS="${args.join(" ")} "
KUBELET_CLOUDPROVIDER=""
PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin
END
chmod 600 ${KUBELET_ENV}
systemctl daemon-reload`;
}

/** This machine's necessities are in both files; the rest only in the one that the kubelet reads. */
function kubeletsOwn(generation: Generation): string {
  return stringify({
    ...kubeletConfiguration(USUAL),
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: `${CERTIFICATES}/ca.crt` },
    },
    authorization: { mode: "Webhook" },
    staticPodPath: "/etc/kubernetes/manifests",
    clusterDNS: ["10.97.0.10"],
    clusterDomain: "cluster.local",
    ...(before(generation, "2.29") ? {} : { containerRuntimeEndpoint: RUNTIME }),
    rotateCertificates: true,
    maxPods: 120,
    eventRecordQPS: 50,
    maxParallelImagePulls: 1,
  });
}

/** `own`: etcd's CA, certificate and key. */
export function etcdEnv(
  nodes: readonly { name: string; ip: string }[],
  {
    nameOf = numbered,
    own = ["ca.pem", "member-$NAME.pem", "member-$NAME-key.pem"].map((name) => `${SSL}/${name}`),
  }: { nameOf?: typeof numbered; own?: string[] } = {},
): string {
  const cluster = nodes.map((node, i) => `${nameOf(node.name, i + 1)}=https://${node.ip}:2380`).join(",");
  const pair = (prefix: string) =>
    ["TRUSTED_CA_FILE", "CERT_FILE", "KEY_FILE"].map((name, i) => `${prefix}${name}=${own[i]}`).join("\n");
  return `cat > /etc/etcd.env <<END
ETCD_DATA_DIR=/var/lib/etcd
ETCD_ADVERTISE_CLIENT_URLS=https://$IP:2379
ETCD_INITIAL_ADVERTISE_PEER_URLS=https://$IP:2380
ETCD_INITIAL_CLUSTER_STATE=new
ETCD_LISTEN_METRICS_URLS=http://127.0.0.1:2381
ETCD_LISTEN_CLIENT_URLS=https://$IP:2379,https://127.0.0.1:2379
ETCD_ELECTION_TIMEOUT=5000
ETCD_HEARTBEAT_INTERVAL=250
ETCD_INITIAL_CLUSTER_TOKEN=k8s_etcd
ETCD_LISTEN_PEER_URLS=https://$IP:2380
ETCD_NAME=${nameOf("$NAME", "$NUMBER")}
ETCD_INITIAL_CLUSTER=${cluster}
ETCD_AUTO_COMPACTION_RETENTION=8
ETCD_SNAPSHOT_COUNT=100000
${pair("ETCD_")}
ETCD_CLIENT_CERT_AUTH=true
${pair("ETCD_PEER_")}
ETCD_PEER_CLIENT_CERT_AUTH=True
END
chmod 640 /etc/etcd.env`;
}

/** Members by their place in the installer's list. */
const numbered = (_: string, number: number | string) => `etcd${number}`;

/**
 * KubeKey 3: kubeadm's own paths and unit; the kubelet's own flags in its drop-in; etcd beside it as kubespray's, under
 * names of its nodes; the API by a name that only /etc/hosts knows, and a balancer on workers as 127.0.0.1.
 */
export async function kubekey({ controlPlanes = 1, days = 36500 } = {}): Promise<Profile> {
  const nodes = Array.from({ length: controlPlanes }, (_, i) => addressOf(`cp${i + 1}`));
  const [caFile, certFile, keyFile] = [
    "ca.pem",
    `node-${nodes[0]!.name}.pem`,
    `node-${nodes[0]!.name}-key.pem`,
  ].map((name) => `${SSL}/${name}`);
  const endpoints = nodes.map(({ ip }) => `https://${ip}:2379`);
  const dropIn = `${UNITS}/kubelet.service.d/10-kubeadm.conf`;
  return {
    ...USUAL,
    clusterConfiguration: {
      clusterName: "cluster.local",
      controlPlaneEndpoint: `${KUBEKEYS}:6443`,
      etcd: { external: { endpoints, caFile, certFile, keyFile } },
    },
    // the lab itself asks by lab-api
    certSANs: [KUBEKEYS, "lab-api", "localhost", "127.0.0.1"],
    addOns: [apiBalancer],
    workerStaticPods: { "haproxy.yaml": balancerPod("haproxy", HAPROXY_CONFIG) },
    controlPlaneFiles: {
      ...USUAL.controlPlaneFiles,
      ...(await etcdsPki(nodes, days)),
      [`${UNITS}/etcd.service`]: ETCD_UNIT,
    },
    beforeKubeadm: [
      [
        /./,
        `echo '${nodes[0]!.ip} ${KUBEKEYS}' >> /etc/hosts; mkdir -p /etc/kubekey
echo "Environment=\\"KUBELET_EXTRA_ARGS=--node-ip=$IP --hostname-override=$NAME\\"" >> ${dropIn}; systemctl daemon-reload`,
      ],
      [/^cp/, etcdEnv(nodes, { nameOf: (name) => `etcd-${name}` })],
      [/^cp/, `${owners("2.30")}\nsystemctl daemon-reload\nsystemctl enable --quiet --now etcd`],
      [
        /^w/,
        `install -D -m 755 /dev/stdin ${HAPROXY_CONFIG} <<'END'\n${haproxyConfig("127.0.0.1:6443", nodes)}END`,
      ],
    ],
    nodeLines: [
      [/^w/, leadTo("127.0.0.1:6443")],
      [
        /^w/,
        `sed 's/^[0-9.]* ${KUBEKEYS}/127.0.0.1 ${KUBEKEYS}/' /etc/hosts > /root/hosts; cat /root/hosts > /etc/hosts; rm /root/hosts`,
      ],
    ],
  };
}

const KUBEKEYS = "lb.kubesphere.local";
const HAPROXY_CONFIG = "/etc/kubekey/haproxy/haproxy.cfg";

/** All are etcd's and 0700 up to 2.29, and root's as openssl makes them since. */
function owners(generation: Generation): string {
  const users =
    "echo 'etcd:x:989:989::/nonexistent:/sbin/nologin' >> /etc/passwd; echo 'etcd:x:989:' >> /etc/group";
  const modes = before(generation, "2.30")
    ? `chown -R etcd:root /etc/ssl/etcd; chmod -R 700 ${SSL}`
    : `chown etcd:root ${SSL}; chmod 700 ${SSL}; chmod 644 ${SSL}/*.pem; chmod 600 ${SSL}/*-key.pem`;
  return `${users}; ${modes}; install -D -m 640 ${SSL}/ca.pem /usr/local/share/ca-certificates/etcd-ca.crt`;
}

/** A CA of openssl's, and the leaves of each node: all have all hosts' names, and no keyUsage. */
export async function etcdsPki(
  nodes: readonly { name: string; ip: string }[],
  days = 36500,
): Promise<Record<string, string>> {
  const folder = mkdtempSync(join(tmpdir(), "etcd-pki-"));
  const names = ["localhost", "etcd", "etcd.kube-system", ...nodes.map(({ name }) => name)];
  const sans = [
    ...names.map((name) => `DNS:${name}`),
    ...["127.0.0.1", "::1", ...nodes.map(({ ip }) => ip)].map((ip) => `IP:${ip}`),
  ];
  const leaf = (file: string, cn: string) => `
openssl req -new -newkey rsa:2048 -nodes -keyout ${file}-key.pem -subj /CN=${cn} -out csr 2>/dev/null
openssl x509 -req -in csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days ${days} -sha256 -extfile ext -out ${file}.pem 2>/dev/null
rm csr`;
  const script = `set -e
openssl req -x509 -newkey rsa:2048 -nodes -days 36500 -keyout ca-key.pem -out ca.pem -subj /CN=etcd-ca 2>/dev/null
printf '%s\\n' 'basicConstraints=CA:FALSE' 'extendedKeyUsage=clientAuth,serverAuth' 'subjectAltName=${sans.join(",")}' > ext
${nodes.flatMap(({ name }) => ["member", "admin", "node"].map((kind) => leaf(`${kind}-${name}`, `etcd-${kind}-${name}`))).join("\n")}`;
  try {
    await sh(["bash", "-c", script], { cwd: folder });
    const files = readdirSync(folder).filter((name) => name.endsWith(".pem"));
    return Object.fromEntries(
      files.map((name) => [`${SSL}/${name}`, readFileSync(join(folder, name), "utf8")]),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}
