/** Rows of unlike.ts: releases of Kubernetes, halves of an upgrade, keys of other kinds, and how kubeadm-config is written. */
import { cpSync } from "node:fs";
import type { Manifest } from "../../shared/objects/objects.ts";
import type { ClusterFacts } from "../../shared/pki/certs.ts";
import { makeControlPlane, write } from "./cluster.ts";
import type { Unlike } from "./unlike.ts";
import type { Place } from "./unlike-cluster.ts";
import { editKubeadm, editPod, makeMaster, reissue, remove } from "./unlike-edits.ts";
import { usualObjects } from "./unlike-objects.ts";

const SERVERS = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
const MONTH_MS = 30 * 24 * 3600_000;

/** kubeadm-config with these fields. */
const withFields = (fields: object) => (place: Place) =>
  editKubeadm(place, (config) => void Object.assign(config, fields));

const inConfig = (kubernetesVersion: string) => withFields({ kubernetesVersion });

/** All of it made with other facts: another release, another kind of keys. */
const madeWith = (facts: Partial<ClusterFacts>) => async (place: Place) => {
  const { root, ca } = await makeControlPlane({ facts, now: new Date(Date.now() - MONTH_MS) });
  remove(place, "/etc", "/var/lib/kubelet");
  cpSync(root, place.root, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  Object.assign(place, { ca, objects: usualObjects(place.root, ca) });
};

/** A cluster of an older release; 1.23 has its kubelet's configuration in a ConfigMap of the release. */
const ofRelease = (version: string) => async (place: Place) => {
  await madeWith({ kubernetesVersion: version })(place);
  inConfig(version)(place);
  for (const name of SERVERS)
    editPod(place, name, ({ containers: [container] }) => {
      container!.image = container!.image!.replace(/:v.*/, `:${version}`);
    });
  const minor = version.split(".")[1];
  if (minor !== "23") return;
  const config = place.objects["configmaps/kube-system/kubelet-config"] as { metadata: { name: string } };
  delete place.objects["configmaps/kube-system/kubelet-config"];
  config.metadata.name = "kubelet-config-1.23";
  place.objects["configmaps/kube-system/kubelet-config-1.23"] = config;
  const words =
    "--container-runtime=remote --container-runtime-endpoint=unix:///run/containerd/containerd.sock";
  write(`${place.root}/var/lib/kubelet/kubeadm-flags.env`, `KUBELET_KUBEADM_ARGS="${words}"\n`);
};

export const RELEASES: Unlike[] = [
  {
    name: "kubeadm-config is of an older release than this node's static pods",
    who: "a kubeadm upgrade that was cut off before it wrote its ConfigMap",
    change: inConfig("v1.33.5"),
  },
  {
    name: "kubeadm-config is of a newer release than this node's static pods",
    who: "an upgrade of the first control plane node, and not of this one yet",
    change: inConfig("v1.35.0"),
  },
  {
    name: "kubeadm-config is of before 1.29, and the static pods are not",
    who: "an upgrade over the release that took system:masters from admin.conf",
    change: inConfig("v1.28.15"),
    lost: { without: /^(apiserver-kubelet|apiserver-etcd|etcd\/healthcheck)-client\.crt$/ },
  },
  {
    name: "Kubernetes 1.27",
    who: "clusters that nobody upgrades",
    change: ofRelease("v1.27.4"),
  },
  {
    name: "Kubernetes 1.23, with kubelet-config-1.23",
    who: "clusters that nobody dares to upgrade",
    change: ofRelease("v1.23.17"),
  },
  {
    name: "the certificates are of system:masters, as before 1.29",
    who: "clusters that were upgraded, and whose certificates were renewed by kubeadm certs renew",
    change: async (place) => {
      await reissue(place, "apiserver-kubelet-client", { kubernetesVersion: "v1.28.0" });
      await makeMaster(place);
    },
    lost: { without: /^apiserver-kubelet-client\.crt/ },
  },
  {
    name: "a vendor's build of Kubernetes",
    who: "VMware's Tanzu: v1.34.4+vmware.1",
    change: (place) => {
      inConfig("v1.34.4+vmware.1")(place);
      for (const name of SERVERS)
        editPod(place, name, ({ containers: [container] }) => {
          container!.image = `projects.registry.vmware.com/tkg/${name}:v1.34.4_vmware.1`;
        });
    },
  },
  {
    name: "RSA keys of 2048 bits everywhere",
    who: "kubeadm's default",
    change: madeWith({ keyAlgorithm: "RSA-2048" }),
  },
  {
    name: "keys on the curve P-384",
    who: "CAs of companies that follow CNSA",
    change: madeWith({ keyAlgorithm: "ECDSA-P384" }),
  },
  {
    name: "encryptionAlgorithm was changed after kubeadm init",
    who: "people who read of it later",
    change: withFields({ encryptionAlgorithm: "RSA-3072" }),
  },
  {
    name: "arguments are lists in kubeadm-config",
    who: "v1beta4: extraArgs with name and value",
    change: (place) =>
      editKubeadm(place, (config) => {
        config.apiServer = {
          extraArgs: [{ name: "audit-log-maxage", value: "30" }],
          extraEnvs: [{ name: "GOGC", value: "50" }],
          timeoutForControlPlane: "4m0s",
        };
        config.etcd.local.extraArgs = [{ name: "quota-backend-bytes", value: "8589934592" }];
      }),
  },
  {
    name: "the cluster is called Köln Produktion",
    who: "clusterName in kubeadm-config",
    change: withFields({ clusterName: "Köln Produktion" }),
  },
  {
    name: "kubeadm's annotations of static pods are missing",
    who: "manifests that Helm, Ansible or people have written anew",
    change: (place) => {
      for (const name of ["etcd", "kube-apiserver"])
        editPod(place, name, (_, { metadata }) => dropKubeadms(metadata));
    },
  },
  {
    name: "kubeadm's annotations of static pods are out of date",
    who: "manifests that were edited after an address had changed",
    change: (place) => {
      for (const name of ["etcd", "kube-apiserver"])
        editPod(place, name, (_, { metadata }) => {
          for (const key of Object.keys(metadata.annotations ?? {}).filter((one) => /^kubeadm\./.test(one)))
            metadata.annotations![key] = metadata.annotations![key]!.replace(
              /\d+\.\d+\.\d+\.\d+/,
              "10.1.1.1",
            );
        });
    },
  },
];

function dropKubeadms(metadata: Manifest["metadata"]) {
  for (const key of Object.keys(metadata.annotations ?? {}))
    if (key.startsWith("kubeadm.")) delete metadata.annotations![key];
}
