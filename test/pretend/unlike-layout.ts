/** Rows of unlike.ts: where files lie on the machine, who may read them, and how the kubelet is told. */
import { chmodSync, cpSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { parse } from "yaml";
import { issueClient } from "../../shared/pki/issue.ts";
import { FACTS, mirrorPod, otherCa, write } from "./cluster.ts";
import {
  commandsOf,
  ETCD_HOST,
  ETCD_PKI,
  ETCD_URL,
  external,
  KUBELET_ENV,
  KUBESPRAY_KUBELET,
  kubeletsJournal,
  layOut,
  type Maker,
  OTHER_MEMBER,
  UNIT_MEMBER,
} from "./etcd-as-unit.ts";
import { CRICTL, crictlPs, KUBEADM_UNIT } from "./node.ts";
import type { Unlike } from "./unlike.ts";
import type { Place } from "./unlike-cluster.ts";
import { editPod, editYaml, mount, PKI, read } from "./unlike-edits.ts";
import { staticPod } from "./unlike-host.ts";

const CONFIG = "/var/lib/kubelet/config.yaml";
const MIRROR = { "kubernetes.io/config.mirror": "1", "kubernetes.io/config.source": "file" };
const DROP_IN = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 200\n";

const withUnit = (from: string, to: string) => (place: Place) =>
  void place.node.commands!.push({
    command: "systemctl cat kubelet",
    stdout: KUBEADM_UNIT.replace(from, to),
  });

const withDropIns = (folder: string) => (place: Place) => {
  write(`${place.root}${folder}/10-pods.conf`, DROP_IN, 0o644);
  write(`${place.root}/etc/default/kubelet`, `KUBELET_EXTRA_ARGS=--config-dir=${folder}\n`, 0o644);
};

/** etcd beside kubeadm, as a unit of the node. */
const unit = (by: Maker) => beside(by, { elsewhere: false });
const elsewhere = (by: Maker) => beside(by, { elsewhere: true });
const beside = (by: Maker, where: { elsewhere: boolean }) => (place: Place) => {
  layOut(place.root, by, where);
  external(place.objects, by, where);
  place.node.commands!.push(...commandsOf(by, where));
  place.node.members = [where.elsewhere ? OTHER_MEMBER : UNIT_MEMBER];
  place.etcd = { ...ETCD_PKI, ...(where.elsewhere && { at: ETCD_HOST }) };
};

/** The certificates are in /etc/kubernetes/ssl, and pki is a link to it. */
function kubesprays(place: Place) {
  unit("kubespray")(place);
  const flags = KUBELET_ENV.replace("/etc/kubernetes/kubelet-config.yaml", CONFIG).replace("=w1", "=m1");
  write(`${place.root}/etc/kubernetes/kubelet.env`, flags);
  write(`${place.root}/run/kubelet.environ`, flags.replaceAll(/^#.*\n|"/gm, ""));
  // no flag of this kubelet's names it
  rmSync(`${place.root}/etc/kubernetes/kubelet-config.yaml`);
}

export const LAYOUTS: Unlike[] = [
  {
    name: "etcd is a unit, and the API server's files for it are beside etcd's own",
    who: "KubeKey 3",
    change: unit("KubeKey 3"),
  },
  {
    name: "etcd is a unit, and its CA is all that is left of its own files",
    who: "KubeKey 3, the CA brought from another host by hand",
    change: unit("KubeKey 3"),
    alsoLost: ["member", "node"].flatMap((of) =>
      ["", "-key"].map((end) => `/etc/ssl/etcd/ssl/${of}-m1${end}.pem`),
    ),
  },
  {
    name: "etcd is a unit, and the API server's files for it are in /etc/kubernetes",
    who: "KubeKey 4",
    change: unit("KubeKey"),
  },
  {
    name: "etcd is a unit, and the kubelet has its flags and its configuration from /etc/kubernetes",
    who: "kubespray",
    change: unit("kubespray"),
    lost: { refuses: ["01-etcd --new-cas", /kubelet\.env/], code: 1 },
    plays: { "lost, and the old keys found": { refuses: ["01-etcd", /kubelet\.env/], code: 1 } },
  },
  {
    name: "etcd is on another machine, and the API server's files for it are outside of /etc/kubernetes",
    who: "KubeKey 3 with etcd on hosts of its own",
    change: elsewhere("KubeKey 3"),
    lost: { adds: `--etcd-data ${ETCD_URL}` },
  },
  {
    name: "etcd is on another machine, and the API server's files for it are in /etc/kubernetes",
    who: "kubeadm with an external etcd",
    change: elsewhere("kubeadm"),
    lost: {
      adds: `--etcd-data ${ETCD_URL}`,
      refuses: ["01-etcd --new-cas", /no client pair for it is here/],
    },
  },
  {
    name: "the kubelet's flags are in a file of /etc/kubernetes, and the operator has kept them",
    who: "kubespray's unit, RUNBOOK-MORE 'Before you stop a kubelet'",
    change: (place) => {
      unit("KubeKey 3")(place);
      const flags = KUBELET_ENV.replace("kubelet-config.yaml", "no.yaml").replace(
        "/etc/kubernetes/no.yaml",
        CONFIG,
      );
      write(`${place.root}/etc/kubernetes/kubelet.env`, flags.replace("=w1", "=m1"));
      const kept = flags.replace("=w1", "=m1").replaceAll(/^#.*\n|"/gm, "");
      write(`${place.root}/run/kubelet.environ`, `LANG=C\n${kept}`);
      place.node.commands!.push({ command: "systemctl cat kubelet", stdout: KUBESPRAY_KUBELET });
    },
  },
  {
    name: "the certificates are in another folder, to which the usual one is a link, and a manifest is called kube-vip.yml",
    who: "kubespray",
    change: (place) => {
      kubesprays(place);
      staticPod(place, "kube-vip", "/etc/kubernetes/admin.conf");
      const folder = `${place.root}/etc/kubernetes/manifests`;
      renameSync(`${folder}/kube-vip.yaml`, `${folder}/kube-vip.yml`);
    },
  },
  {
    name: "the certificates are in another folder, and the usual one is an equal copy of it",
    who: "kubespray, after a backup that follows links: rsync -L, cp -rL",
    change: (place) => {
      kubesprays(place);
      rmSync(`${place.root}${PKI}`);
      cpSync(`${place.root}/etc/kubernetes/ssl`, `${place.root}${PKI}`, {
        recursive: true,
        preserveTimestamps: true,
      });
    },
  },
  {
    name: "the kubelet's flags are in its journal, and the operator has kept its configuration as it answered",
    who: "kubespray, and the kubelet had stopped before anybody came",
    change: (place) => {
      unit("kubespray")(place);
      const flags = KUBELET_ENV.replace("=w1", "=m1");
      write(`${place.root}/etc/kubernetes/kubelet.env`, flags);
      place.node.commands!.push({ command: "journalctl -u kubelet *", stdout: kubeletsJournal(flags) });
      const kubeletconfig = parse(read(place, CONFIG));
      write(`${place.root}/run/kubelet.configz`, JSON.stringify({ kubeletconfig }));
      place.objects["pods/kube-system/nginx-proxy-w1"] = {
        ...mirrorPod("kube-vip"),
        metadata: { name: "nginx-proxy-w1", namespace: "kube-system", annotations: MIRROR },
      };
    },
  },
  {
    name: "the kubelet's unit has no --bootstrap-kubeconfig",
    who: "own units of control plane nodes",
    change: withUnit("--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf ", ""),
  },
  {
    name: "the kubelet is started by a wrapper",
    who: "images of companies, RKE's and Photon's scripts",
    change: withUnit("ExecStart=/usr/bin/kubelet $", "ExecStart=/usr/local/bin/run-kubelet.sh $"),
  },
  {
    name: "drop-ins of the kubelet's configuration lie in /etc/kubernetes",
    who: "--config-dir since 1.28",
    change: withDropIns("/etc/kubernetes/kubelet.conf.d"),
    lost: { refuses: ["01-etcd --new-cas", /kubelet\.conf\.d/] },
  },
  {
    name: "drop-ins of the kubelet's configuration lie elsewhere",
    who: "--config-dir=/var/lib/kubelet/conf.d",
    change: withDropIns("/var/lib/kubelet/conf.d"),
  },
  {
    name: "the runtime's socket stands in the kubelet's instance-config.yaml",
    who: "kubeadm 1.35 with CRI-O",
    change: (place) => {
      const socket = "unix:///var/run/crio/crio.sock";
      editYaml(place, CONFIG, (config) => void delete config.containerRuntimeEndpoint);
      write(
        `${place.root}/var/lib/kubelet/instance-config.yaml`,
        `apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncontainerRuntimeEndpoint: ${socket}\n`,
        0o644,
      );
      const line = CRICTL.replace("unix:///run/containerd/containerd.sock", socket);
      place.node.commands!.push(
        { command: `${line} ps -a -o json`, stdout: crictlPs(place.node.containers) },
        { command: `${line} stop --timeout 0 *` },
      );
    },
  },
  {
    name: "the kubelet listens at each address, which its configuration spells out",
    who: "own kubelet configurations of IPv6: address",
    change: (place) =>
      editYaml(place, CONFIG, (config) => Object.assign(config, { address: "0:0:0:0:0:0:0:0" })),
  },
  {
    name: "static pods lie in /etc/kubelet.d",
    who: "own kubelet configurations: staticPodPath",
    change: (place) => {
      place.manifests = "/etc/kubelet.d";
      mkdirSync(`${place.root}/etc`, { recursive: true });
      renameSync(`${place.root}/etc/kubernetes/manifests`, `${place.root}/etc/kubelet.d`);
      editYaml(place, CONFIG, (config) => {
        config.staticPodPath = "/etc/kubelet.d";
      });
    },
  },
  {
    name: "the folder /etc/kubernetes is a link to another disk",
    who: "images with a data partition",
    change: (place) => {
      cpSync(`${place.root}/etc/kubernetes`, `${place.root}/data/kubernetes`, {
        recursive: true,
        preserveTimestamps: true,
      });
      rmSync(`${place.root}/etc/kubernetes`, { recursive: true });
      symlinkSync("../data/kubernetes", `${place.root}/etc/kubernetes`);
    },
  },
  {
    name: "every file of /etc/kubernetes has the mode 0600",
    who: "CIS benchmark 1.1",
    change: (place) => {
      const folder = `${place.root}/etc/kubernetes`;
      for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true }))
        if (entry.isFile()) chmodSync(`${entry.parentPath}/${entry.name}`, 0o600);
    },
  },
  {
    name: "kubeconfigs name files of certificate and key",
    who: "templates of Ansible, The Hard Way",
    change: (place) => {
      for (const name of ["admin", "controller-manager", "scheduler"]) {
        const folder = name === "admin" ? "/root/ssl" : "/etc/kubernetes/ssl";
        editYaml(place, `/etc/kubernetes/${name}.conf`, ({ users: [{ user }] }) => {
          for (const [field, end] of [
            ["client-certificate", "crt"],
            ["client-key", "key"],
          ]) {
            const path = `${folder}/${name}.${end}`;
            write(`${place.root}${path}`, Buffer.from(user[`${field}-data`], "base64"));
            delete user[`${field}-data`];
            user[field!] = path;
          }
        });
      }
    },
  },
  {
    name: "static pods have the proxy of the company in their environment",
    who: "kubeadm init in a shell with HTTP_PROXY: kubeadm copies it",
    change: (place) => {
      for (const name of ["kube-apiserver", "kube-controller-manager", "kube-scheduler"])
        editPod(place, name, ({ containers: [container] }) => {
          Object.assign(container!, {
            env: [
              { name: "HTTPS_PROXY", value: "http://proxy.example:3128" },
              { name: "NO_PROXY", value: "10.0.0.0/8" },
            ],
          });
        });
    },
  },
  {
    name: "the API server mounts a folder of the host that kubeadm does not know",
    who: "extraVolumes",
    change: (place) => mount(place, "kube-apiserver", "/opt/webhooks"),
  },
  {
    name: "the API server mounts a file of the host in /etc/kubernetes",
    who: "extraVolumes of the type File",
    change: (place) => {
      write(`${place.root}/etc/kubernetes/hosts.conf`, "own\n", 0o644);
      mount(place, "kube-apiserver", "/etc/kubernetes/hosts.conf", "File");
    },
    lost: { refuses: ["01-etcd --new-cas", /hosts\.conf/] },
  },
  {
    name: "the API server's pod has an init container",
    who: "own patches: it waits for a network",
    change: (place) =>
      editPod(place, "kube-apiserver", (spec) =>
        Object.assign(spec, {
          initContainers: [{ name: "wait", image: "registry.example/wait:v1", command: ["/wait"] }],
        }),
      ),
  },
  {
    name: "kube-vip reads super-admin.conf",
    who: "kube-vip in ARP mode on the first control plane node, since 1.29",
    change: async (place) => {
      const path = "/etc/kubernetes/super-admin.conf";
      write(`${place.root}${path}`, read(place, "/etc/kubernetes/admin.conf"));
      const user = { cn: "kubernetes-super-admin", o: "system:masters" };
      const pair = await issueClient(user, place.ca, FACTS);
      editYaml(place, path, ({ users: [{ user }] }) => {
        user["client-certificate-data"] = Buffer.from(pair.cert).toString("base64");
        user["client-key-data"] = Buffer.from(pair.key).toString("base64");
      });
      staticPod(place, "kube-vip", path);
    },
  },
  {
    name: "kubelets ask for serving certificates, and their ports are behind a firewall",
    who: "serverTLSBootstrap: true",
    change: (place) => {
      editYaml(place, CONFIG, (config) => {
        config.serverTLSBootstrap = true;
      });
      const map = place.objects["configmaps/kube-system/kubelet-config"] as { data: { kubelet: string } };
      map.data.kubelet = "serverTLSBootstrap: true\n";
    },
  },
  {
    name: "the rotation of the CA has begun: both are trusted, and the old one signs",
    who: "kubernetes.io: Manual Rotation of CA Certificates, steps 1 to 4",
    change: async (place) => {
      const both = `${place.ca.cert}${(await otherCa("kubernetes-ca-2")).cert}`;
      for (const name of ["admin", "kubelet", "controller-manager", "scheduler"])
        editYaml(place, `/etc/kubernetes/${name}.conf`, ({ clusters: [{ cluster }] }) => {
          cluster["certificate-authority-data"] = Buffer.from(both).toString("base64");
        });
    },
  },
];
