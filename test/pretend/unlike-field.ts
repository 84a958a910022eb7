/** Rows of unlike.ts: what clusters of the field have and kubeadm does not, each beside a usual one. */
import { cpSync, mkdirSync, renameSync, symlinkSync } from "node:fs";
import { parse } from "yaml";
import { CERTS, certRow } from "../../shared/pki/certs.ts";
import { issueLeaf, type Pair } from "../../shared/pki/issue.ts";
import { FACTS, otherCa, write } from "./cluster.ts";
import type { Unlike } from "./unlike.ts";
import type { Place } from "./unlike-cluster.ts";
import {
  addNode,
  editFile,
  editKubeadm,
  editObject,
  editPod,
  PKI,
  read,
  reissue,
  setFlags,
} from "./unlike-edits.ts";
import { object } from "./unlike-objects.ts";

const SERVERS = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
const KUBELET = "/var/lib/kubelet";

const kubeletOf = (place: Place, node: string, kubeletVersion: string) =>
  editObject(place, `minions/${node}`, ({ status }) =>
    Object.assign(status, { nodeInfo: { kubeletVersion } }),
  );

const imagesOf = (place: Place, names: readonly string[], change: (image: string) => string) => {
  for (const name of names)
    editPod(place, name, ({ containers: [container] }) => {
      container!.image = change(container!.image!);
    });
};

/** A folder of another cluster's keys beside this one's. */
async function othersPki(place: Place, folder: string) {
  const other: Pair = await otherCa();
  write(`${place.root}${folder}/ca.crt`, other.cert, 0o644);
  write(`${place.root}${folder}/ca.key`, other.key);
  const leaf = await issueLeaf(certRow("apiserver"), other, FACTS);
  write(`${place.root}${folder}/apiserver.crt`, leaf.cert, 0o644);
  write(`${place.root}${folder}/apiserver.key`, leaf.key);
}

export const FIELD: Unlike[] = [
  {
    name: "kubelets of three releases",
    who: "an upgrade that goes on for months: kubelets may be three minors behind",
    change: (place) => {
      kubeletOf(place, "m1", "v1.34.4");
      kubeletOf(place, "w1", "v1.33.5");
      kubeletOf(place, "w2", "v1.31.9");
    },
  },
  {
    name: "an upgrade has stopped inside the node: the API server is new, the others are not",
    who: "kubeadm upgrade apply that was cut off",
    change: (place) =>
      imagesOf(place, ["kube-apiserver"], (image) => image.replace(/:v1\.34\.\d+/, ":v1.35.0")),
  },
  {
    name: "certificates live for 90 days, and the API server has variables of kubeadm-config",
    who: "certificateValidityPeriod and extraEnvs of v1beta4",
    change: async (place) => {
      editKubeadm(place, (config) => {
        config.certificateValidityPeriod = "2160h0m0s";
        config.apiServer = { ...config.apiServer, extraEnvs: [{ name: "GOMEMLIMIT", value: "2GiB" }] };
      });
      for (const { name } of CERTS.filter((row) => row.ca))
        await reissue(place, name, { certificateValidityHours: 2160 });
      editPod(place, "kube-apiserver", ({ containers: [container] }) =>
        Object.assign(container!, { env: [{ name: "GOMEMLIMIT", value: "2GiB" }] }),
      );
    },
  },
  {
    name: "a cloud's controllers run outside, and a new node waits for them",
    who: "clouds: the taint uninitialized until the cloud's controller-manager has seen the node",
    change: (place) => {
      addNode(place, "fresh", "127.77.0.41");
      editObject(place, "minions/fresh", (node) => {
        const key = "node.cloudprovider.kubernetes.io/uninitialized";
        node.spec = { taints: [{ key, value: "true", effect: "NoSchedule" }] };
      });
      write(`${place.root}/etc/default/kubelet`, "KUBELET_EXTRA_ARGS=--cloud-provider=external\n", 0o644);
    },
  },
  {
    name: "a folder of another cluster's keys lies beside this cluster's",
    who: "pki.bak and kubernetes.old of a machine that was in another cluster",
    change: async (place) => {
      await othersPki(place, "/etc/kubernetes/pki.bak");
      await othersPki(place, "/etc/kubernetes.old/pki");
    },
  },
  {
    name: "kubeadm's leftovers lie in its tmp folder",
    who: "each kubeadm upgrade: /etc/kubernetes/tmp",
    change: (place) =>
      cpSync(
        `${place.root}/etc/kubernetes/manifests`,
        `${place.root}/etc/kubernetes/tmp/kubeadm-backup-manifests-2026-01-01-00-00-00`,
        { recursive: true },
      ),
  },
  {
    name: "images are named by their digest alone",
    who: "companies that pin what they run",
    change: (place) =>
      imagesOf(place, SERVERS, (image) => image.replace(/:v.*/, `@sha256:${"ab".repeat(32)}`)),
  },
  {
    name: "manifests begin with --- and a comment",
    who: "Ansible and Helm",
    change: (place) => {
      for (const name of ["etcd", ...SERVERS])
        editFile(place, `/etc/kubernetes/manifests/${name}.yaml`, (text) => `---\n# managed\n${text}`);
    },
  },
  {
    name: "manifests are JSON",
    who: "tools that write what they have read from the API",
    change: (place) => {
      for (const name of SERVERS)
        editFile(place, `/etc/kubernetes/manifests/${name}.yaml`, (text) => JSON.stringify(parse(text)));
    },
  },
  {
    name: "static pods have SELinux's level and AppArmor's profile",
    who: "hardened hosts of Red Hat and Ubuntu",
    change: (place) => {
      for (const name of SERVERS)
        editPod(place, name, (spec) => {
          spec.securityContext = {
            ...(spec.securityContext as object),
            seLinuxOptions: { level: "s0:c123,c456", type: "spc_t" },
            appArmorProfile: { type: "RuntimeDefault" },
          };
        });
    },
  },
  {
    name: "etcd has flags of 3.6, and asks for no names of its peers",
    who: "--feature-gates and --peer-skip-client-san-verification",
    change: (place) =>
      setFlags(
        place,
        "etcd",
        "--peer-skip-client-san-verification=true",
        "--feature-gates=InitialCorruptCheck=true",
      ),
  },
  {
    name: "the kubelet's folder is a link to another disk",
    who: "machines with a small root disk",
    change: (place) => {
      mkdirSync(`${place.root}/data`);
      renameSync(`${place.root}${KUBELET}`, `${place.root}/data/kubelet`);
      symlinkSync("../../data/kubelet", `${place.root}${KUBELET}`);
    },
  },
  {
    name: "root's shell is Turkish",
    who: "LANG=tr_TR.UTF-8: a capital I has a dot there",
    change: (place) => void Object.assign(place.env, { LANG: "tr_TR.UTF-8", LC_ALL: "tr_TR.UTF-8" }),
  },
  {
    name: "the network plugin reaches the API by an address of its own, not by kube-proxy",
    who: "Cilium with k8sServiceHost",
    change: (place) => {
      place.objects["configmaps/kube-system/cilium-config"] = object(
        "ConfigMap",
        { name: "cilium-config", namespace: "kube-system" },
        { data: { "k8s-service-host": place.api.hostname, "k8s-service-port": "6443" } },
      );
    },
  },
  {
    name: "a ClusterTrustBundle of the cluster's CA",
    who: "Kubernetes 1.33 with projected trust bundles",
    change: (place) => {
      place.objects["clustertrustbundles/kubernetes.io:kube-apiserver-serving:1"] = object(
        "ClusterTrustBundle",
        { name: "kubernetes.io:kube-apiserver-serving:1" },
        {
          spec: {
            signerName: "kubernetes.io/kube-apiserver-serving",
            trustBundle: read(place, `${PKI}/ca.crt`),
          },
        },
      );
    },
  },
];
