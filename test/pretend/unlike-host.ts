/** Rows of unlike.ts: the host, its kubelet, its programs and static pods of others. */
import { chmodSync, cpSync, rmSync, symlinkSync, utimesSync } from "node:fs";
import { stringify } from "yaml";
import type { Manifest } from "../../shared/objects/objects.ts";
import { ADDRESS, manifest, mirrorPod, write } from "./cluster.ts";
import { CRICTL, crictlPs, KUBEADM_UNIT } from "./node.ts";
import type { Unlike } from "./unlike.ts";
import { balancer, type Place } from "./unlike-cluster.ts";
import { editPod, editYaml, mount, PKI, reissue, setFlags } from "./unlike-edits.ts";

const MANIFESTS = "/etc/kubernetes/manifests";
const CONFIG = "/var/lib/kubelet/config.yaml";

/** A static pod of others, on the disk and as a mirror pod. `path`: a file of the host that it reads. */
export function staticPod(place: Place, name: string, path: string) {
  const pod = manifest("kube-vip");
  const mirror = mirrorPod("kube-vip");
  for (const { metadata, spec } of [pod, mirror]) {
    metadata.name = metadata.name.replace("kube-vip", name);
    spec.containers = [
      {
        name,
        image: `registry.example/${name}:v1`,
        args: ["-f", path],
        volumeMounts: [{ name: "own", mountPath: path }],
      },
    ];
    spec.volumes = [{ name: "own", hostPath: { path, type: "FileOrCreate" } }];
  }
  write(`${place.root}${MANIFESTS}/${name}.yaml`, stringify(pod), 0o644);
  place.objects[`pods/kube-system/${name}-m1`] = mirror;
}

/** Containers of kube-system's control plane, and one of this name in another pod. */
function withStranger(place: Place, name: string, namespace: string, pod: string) {
  const { containers } = JSON.parse(crictlPs(place.node.containers));
  const labels = {
    "io.kubernetes.pod.name": pod,
    "io.kubernetes.pod.namespace": namespace,
    "io.kubernetes.pod.uid": `uid-of-${pod}`,
  };
  containers.push({ ...containers[0], id: `${pod}-id`, metadata: { name }, labels });
  place.node.commands!.push({ command: `${CRICTL} ps -a -o json`, stdout: JSON.stringify({ containers }) });
}

export const HOSTS: Unlike[] = [
  {
    name: "root's shell has a proxy, and no exception for the node",
    who: "companies: /etc/environment, profile.d",
    change: (place) => {
      for (const name of ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"])
        place.env[name] = "http://127.77.0.98:3128";
    },
  },
  {
    name: "the kubelet's flags are in /etc/sysconfig, and its name is given by hand",
    who: "RPM systems; --hostname-override, clouds",
    change: (place) => {
      place.node.commands!.push({
        command: "systemctl cat kubelet",
        stdout: KUBEADM_UNIT.replace("/etc/default/kubelet", "/etc/sysconfig/kubelet"),
      });
      write(
        `${place.root}/etc/sysconfig/kubelet`,
        `KUBELET_EXTRA_ARGS="--hostname-override=m1 --node-ip=${ADDRESS} --v=2"\n`,
        0o644,
      );
    },
  },
  {
    name: "the kubelet is hardened: read-only port off, protected kernel defaults, TLS 1.3, own eviction limits",
    who: "CIS benchmark 4.2",
    change: (place) =>
      editYaml(place, CONFIG, (config) =>
        Object.assign(config, {
          readOnlyPort: 0,
          protectKernelDefaults: true,
          makeIPTablesUtilChains: true,
          tlsMinVersion: "VersionTLS13",
          eventRecordQPS: 5,
          evictionHard: { "memory.available": "300Mi" },
          featureGates: { RotateKubeletServerCertificate: true },
        }),
      ),
  },
  {
    name: "CRI-O is the container runtime",
    who: "OpenShift's relatives; kubeadm with CRI-O",
    change: (place) => {
      const socket = "unix:///var/run/crio/crio.sock";
      editYaml(place, CONFIG, (config) =>
        Object.assign(config, { containerRuntimeEndpoint: socket, cgroupDriver: "systemd" }),
      );
      const line = CRICTL.replace("unix:///run/containerd/containerd.sock", socket);
      place.node.commands!.push({
        command: `${line} ps -a -o json`,
        stdout: crictlPs(place.node.containers),
      });
      place.node.commands!.push({ command: `${line} stop --timeout 0 *` });
    },
  },
  {
    name: "a bootstrap kubeconfig of the join was left, with a token that has ended",
    who: "kubelets that were joined by other tools than kubeadm",
    change: (place) =>
      write(
        `${place.root}/etc/kubernetes/bootstrap-kubelet.conf`,
        "apiVersion: v1\nkind: Config\nclusters: []\nusers: []\ncontexts: []\n",
      ),
  },
  {
    name: "a balancer of the node's own is a static pod",
    who: "kubespray's nginx-proxy, KubeKey's and kubeadm's manual's haproxy, sealos' lvscare",
    change: (place) => {
      write(`${place.root}/etc/haproxy/haproxy.cfg`, "defaults\n", 0o644);
      staticPod(place, "haproxy", "/etc/haproxy/haproxy.cfg");
    },
  },
  {
    name: "keepalived and etcd's backup run as static pods",
    who: "kubeadm's manual of software load balancing",
    change: (place) => {
      for (const name of ["keepalived", "etcd-backup"]) {
        write(`${place.root}/etc/${name}/config`, "own\n", 0o644);
        staticPod(place, name, `/etc/${name}/config`);
      }
    },
  },
  {
    name: "a second scheduler is a static pod",
    who: "batch and GPU set-ups",
    change: (place) => {
      const path = "/etc/own-scheduler/config.yaml";
      write(`${place.root}${path}`, "own\n", 0o644);
      staticPod(place, "second-scheduler", path);
    },
  },
  {
    name: "a tenant's etcd runs in a container of the same name",
    who: "Milvus, APISIX, vcluster; Cilium's clustermesh-apiserver",
    change: (place) => withStranger(place, "etcd", "tenant", "milvus-etcd-0"),
  },
  {
    name: "a tenant's controller-manager and API server run in containers of the same names",
    who: "Kamaji, vcluster, Cluster API's nested control planes",
    change: (place) => withStranger(place, "kube-apiserver", "tenant", "control-plane-7f-x"),
  },
  {
    name: "the clock follows no time server that systemd knows",
    who: "chrony, ntpd, PTP, virtual machines with the host's clock",
    change: (place) =>
      void place.node.commands!.push({
        command: "timedatectl show --property=NTPSynchronized --value",
        stdout: "no\n",
      }),
  },
  {
    name: "certificates and kubeconfigs were touched, edited and renewed since their servers started",
    who: "editors, backup programs, configuration management; kubeadm certs renew without a restart",
    change: async (place) => {
      const { containers } = JSON.parse(crictlPs(place.node.containers));
      for (const one of containers) one.createdAt = `${Date.now() - 3600_000}000000`;
      place.node.commands!.push({
        command: `${CRICTL} ps -a -o json`,
        stdout: JSON.stringify({ containers }),
      });
      await reissue(place, "front-proxy-client", {});
      const later = new Date(Date.now() - 600_000);
      for (const file of [
        "scheduler.conf",
        "controller-manager.conf",
        "pki/apiserver.crt",
        "pki/front-proxy-client.crt",
      ])
        utimesSync(`${place.root}/etc/kubernetes/${file}`, later, later);
    },
    ends: {
      "02-control-plane": {
        code: 0,
        names: /unchanged kube-scheduler: it runs since before .*scheduler\.conf was changed by others/,
      },
    },
  },
  {
    name: "the folder pki is a link to another disk",
    who: "images with a data partition; appliances",
    change: (place) => {
      cpSync(`${place.root}/etc/kubernetes`, `${place.root}/data/kubernetes`, {
        recursive: true,
        preserveTimestamps: true,
      });
      rmSync(`${place.root}/etc/kubernetes/pki`, { recursive: true });
      symlinkSync("../../data/kubernetes/pki", `${place.root}/etc/kubernetes/pki`);
    },
    // nothing that is left says where to
    lost: { without: /^pki: link$/ },
  },
  {
    name: "backups of manifests lie beside them, with names that a kubelet passes over",
    who: "editors and careful people: .kube-apiserver.yaml.swp, kubeadm's own tmp folders",
    change: (place) => {
      write(`${place.root}${MANIFESTS}/.kube-apiserver.yaml.swp`, "b0VIM 8.2\n");
      write(
        `${place.root}/etc/kubernetes/tmp/kubeadm-backup-manifests-2026-01-01-00-00-00/etcd.yaml`,
        "apiVersion: v1\nkind: Pod\n",
      );
    },
  },
  {
    name: "the node's name differs from the host's",
    who: "kubeadm init --node-name, which tells the kubelet, too (phases/kubelet/flags.go): the host is called ip-10-0-0-1",
    change: (place) => {
      place.node.commands!.push({ command: "uname -n", stdout: "ip-10-0-0-1.internal\n" });
      const args =
        "--container-runtime-endpoint=unix:///run/containerd/containerd.sock --hostname-override=m1";
      write(`${place.root}/var/lib/kubelet/kubeadm-flags.env`, `KUBELET_KUBEADM_ARGS="${args}"\n`);
    },
  },
  {
    name: "half a kubeadm upgrade: etcd's file is newer than its mirror pod, and it runs",
    who: "a kubeadm upgrade that was cut off before its API server came: kubelets write mirror pods through it",
    change: (place) => {
      const [container] = (place.objects["pods/kube-system/etcd-m1"] as Manifest).spec.containers;
      container!.image = container!.image!.replace(/:3\.6\..*/, ":3.5.21-0");
    },
    lost: { without: /^etcd\/etcd$/ },
  },
  {
    name: "there is no timedatectl",
    who: "minimal images, dbus off",
    change: (place) =>
      void place.node.commands!.push({
        command: "timedatectl show --property=NTPSynchronized --value",
        exit: 1,
        stderr: "Failed to connect to bus",
      }),
  },
  {
    name: "etcd does not run as root: the group of its keys reads them",
    who: "kubeadm's RootlessControlPlane, STIG",
    change: (place) => {
      editPod(place, "etcd", (spec) => {
        spec.securityContext = {
          seccompProfile: { type: "RuntimeDefault" },
          runAsUser: 2001,
          runAsGroup: process.getgid!(),
        };
      });
      for (const file of ["server.key", "peer.key"]) chmodSync(`${place.root}${PKI}/etcd/${file}`, 0o640);
    },
  },
  {
    name: "etcd listens for its own JSON clients at another port",
    who: "etcd's advice for many watches: --listen-client-http-urls",
    change: (place) => {
      setFlags(place, "etcd", `--listen-client-http-urls=https://${ADDRESS}:2382`);
      balancer(place, ADDRESS, 2382, () => 2379);
    },
  },
  {
    name: "the API server writes its audit log into a folder of the host that others rotate",
    who: "logrotate, fluent-bit",
    change: (place) => {
      setFlags(place, "kube-apiserver", "--audit-log-path=/var/log/kube-audit/audit.log");
      mount(place, "kube-apiserver", "/var/log/kube-audit");
    },
  },
];
