/** Rows of unlike.ts: what runs in the cluster, and what admission makes of it. */
import type { Unlike } from "./unlike.ts";
import type { Place } from "./unlike-cluster.ts";
import { editConfigMap, editObject, editPod } from "./unlike-edits.ts";
import { configMap, object, workload } from "./unlike-objects.ts";

/** Removes a workload with all that it made. */
function drop(place: Place, name: string) {
  for (const key of Object.keys(place.objects))
    if (
      new RegExp(`^(daemonsets|deployments|replicasets|pods|configmaps)/kube-system/${name}(-|$)`).test(key)
    )
      delete place.objects[key];
}

/** A webhook whose Service has a pod on w1. */
function webhook(place: Place, kind: string, name: string, resources: string[]) {
  Object.assign(place.objects, workload("Deployment", name, name, ["w1"]), {
    [`namespaces/${name}`]: object("Namespace", { name }, { status: { phase: "Active" } }),
    [`configmaps/${name}/kube-root-ca.crt`]: configMap(`${name}/kube-root-ca.crt`, {
      "ca.crt": place.ca.cert,
    }),
    [`services/specs/${name}/${name}`]: object(
      "Service",
      { name, namespace: name },
      { spec: { selector: { "k8s-app": name } } },
    ),
    [`${kind}/${name}`]: object(
      "ValidatingWebhookConfiguration",
      { name },
      {
        webhooks: [
          {
            ...{
              name: `${name}.example.com`,
              failurePolicy: "Fail",
              sideEffects: "None",
              admissionReviewVersions: ["v1"],
            },
            clientConfig: { service: { name, namespace: name }, caBundle: btoa(place.ca.cert) },
            rules: [{ apiGroups: ["*"], apiVersions: ["*"], operations: ["*"], resources }],
          },
        ],
      },
    ),
  });
}

/** All that needs the cluster's facts refuses, and nothing is called damaged. */
function withoutConfiguration(names: RegExp): Pick<Unlike, "ends" | "lost"> {
  const scripts = [
    "01-etcd",
    "02-control-plane",
    "03-workers open",
    "03-workers close",
    "04-sa-tokens",
    "05-verify",
  ];
  const says = new RegExp(`nothing is damaged on this node. A repair cannot begin: .*${names.source}`);
  return {
    ends: {
      ...Object.fromEntries(scripts.map((script) => [script, { names }])),
      "00-assess": { code: 0, names: says },
    },
    lost: { refuses: ["01-etcd --new-cas", names] },
  };
}

export const ADDONS: Unlike[] = [
  {
    name: "there is no kube-proxy: the network plugin does its work",
    who: "Cilium, kube-router: kubeadm init --skip-phases=addon/kube-proxy",
    change: (place) => {
      drop(place, "kube-proxy");
      Object.assign(
        place.objects,
        workload("DaemonSet", "kube-system", "cilium", ["m1", "w1", "w2"], { hostNetwork: true }),
      );
      place.node.containers = place.node.containers.filter((name) => name !== "kube-proxy");
    },
  },
  {
    name: "kube-proxy uses IPVS and has a hash of the node's cache for DNS beside it",
    who: "large clusters: mode ipvs, NodeLocal DNSCache",
    change: (place) => {
      editConfigMap(place, "kube-system/kube-proxy", "config.conf", (text) =>
        text.replace('mode: ""', "mode: ipvs"),
      );
      Object.assign(
        place.objects,
        workload("DaemonSet", "kube-system", "node-local-dns", ["m1", "w1", "w2"], { hostNetwork: true }),
      );
    },
  },
  {
    name: "CoreDNS is not there",
    who: "kubeadm init --skip-phases=addon/coredns and a DNS of one's own",
    change: (place) => drop(place, "coredns"),
  },
  {
    name: "Calico by its operator, in namespaces of its own, with Typha",
    who: "Tigera's operator",
    change: (place) =>
      void Object.assign(
        place.objects,
        ...["calico-system", "tigera-operator"].map((name) => ({
          [`namespaces/${name}`]: object("Namespace", { name }, { status: { phase: "Active" } }),
          [`configmaps/${name}/kube-root-ca.crt`]: configMap(`${name}/kube-root-ca.crt`, {
            "ca.crt": place.ca.cert,
          }),
        })),
        workload("DaemonSet", "calico-system", "calico-node", ["m1", "w1", "w2"], { hostNetwork: true }),
        workload("Deployment", "calico-system", "calico-typha", ["m1", "w1"], { hostNetwork: true }),
        workload("Deployment", "calico-system", "calico-kube-controllers", ["m1"]),
        workload("Deployment", "tigera-operator", "tigera-operator", ["w1"]),
      ),
  },
  {
    name: "there is no ConfigMap kubeadm-config",
    who: "clusters that no kubeadm made, or whose ConfigMap was deleted",
    change: (place) => void delete place.objects["configmaps/kube-system/kubeadm-config"],
    ...withoutConfiguration(/kubeadm-config/),
  },
  {
    name: "kubeadm-config is no YAML any more",
    who: "one wrong kubectl edit: an IPv6 endpoint without quotes",
    change: (place) =>
      editConfigMap(place, "kube-system/kubeadm-config", "ClusterConfiguration", (text) =>
        text.replace(/controlPlaneEndpoint: .*/, "controlPlaneEndpoint: [fd00::1]:6443"),
      ),
    ...withoutConfiguration(/kubeadm-config in etcd's data is no YAML: .* at line \d+, column \d+/),
  },
  {
    name: "a field of kubeadm-config is of another kind",
    who: "a version without quotes and without its v",
    change: (place) =>
      editConfigMap(place, "kube-system/kubeadm-config", "ClusterConfiguration", (text) =>
        text.replace(/kubernetesVersion: .*/, "kubernetesVersion: 1.34"),
      ),
    ...withoutConfiguration(/kubeadm-config in etcd's data has kubernetesVersion as a number, not a string/),
  },
  {
    name: "there is no ConfigMap cluster-info",
    who: "CIS hardening: kubeadm's own advice after the last join",
    change: (place) => void delete place.objects["configmaps/kube-public/cluster-info"],
  },
  {
    name: "cluster-info has signatures of bootstrap tokens",
    who: "clusters whose join tokens still live",
    change: (place) =>
      editObject(place, "configmaps/kube-public/cluster-info", ({ data }) =>
        Object.assign(data, { "jws-kubeconfig-abcdef": "eyJh..c2ln" }),
      ),
  },
  {
    name: "webhooks that fail closed watch all objects",
    who: "Kyverno, Gatekeeper, cert-manager with failurePolicy Fail",
    change: (place) => {
      webhook(place, "validatingwebhookconfigurations", "kyverno", ["*/*"]);
      webhook(place, "mutatingwebhookconfigurations", "cert-manager", ["secrets", "configmaps"]);
    },
  },
  {
    name: "an aggregated API server serves metrics",
    who: "metrics-server, prometheus-adapter",
    change: (place) =>
      void Object.assign(place.objects, workload("Deployment", "kube-system", "metrics-server", ["w1"]), {
        "apiregistration.k8s.io/apiservices/v1beta1.metrics.k8s.io": object(
          "APIService",
          { name: "v1beta1.metrics.k8s.io" },
          {
            spec: {
              service: { name: "metrics-server", namespace: "kube-system" },
              insecureSkipTLSVerify: true,
            },
          },
        ),
      }),
  },
  {
    name: "budgets allow no pod to be evicted, and quotas no pod to be made",
    who: "careful teams; ResourceQuota in kube-system",
    change: (place) =>
      void Object.assign(place.objects, {
        "poddisruptionbudgets/shop/cart": object(
          "PodDisruptionBudget",
          { name: "cart", namespace: "shop" },
          {
            spec: { minAvailable: "100%", selector: { matchLabels: { "k8s-app": "cart" } } },
            status: { disruptionsAllowed: 0 },
          },
        ),
        "resourcequotas/kube-system/quota": object(
          "ResourceQuota",
          { name: "quota", namespace: "kube-system" },
          { spec: { hard: { pods: "4" } } },
        ),
      }),
  },
  {
    name: "admission has changed the mirror pods: images are always pulled, and a limit was added",
    who: "AlwaysPullImages (CIS), a LimitRange in kube-system",
    change: (place) => {
      for (const name of ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]) {
        const pod = place.objects[`pods/kube-system/${name}-m1`] as {
          metadata: { annotations: Record<string, string> };
          spec: { containers: Record<string, unknown>[] };
        };
        const [container] = pod.spec.containers;
        Object.assign(container!, {
          imagePullPolicy: "Always",
          resources: { ...(container!.resources as object), limits: { memory: "512Mi" } },
        });
        pod.metadata.annotations["kubernetes.io/limit-ranger"] =
          `LimitRanger plugin set: memory limit for container ${name}`;
      }
    },
  },
  {
    name: "namespaces enforce restricted pods, and one is being removed",
    who: "PodSecurity; a finalizer that nobody removes",
    change: (place) => {
      editObject(place, "namespaces/shop", ({ metadata }) =>
        Object.assign(metadata, { labels: { "pod-security.kubernetes.io/enforce": "restricted" } }),
      );
      place.objects["namespaces/ending"] = object(
        "Namespace",
        { name: "ending", deletionTimestamp: "2026-01-01T00:00:00Z" },
        { status: { phase: "Terminating" } },
      );
    },
  },
  {
    name: "a namespace's kube-root-ca.crt is immutable",
    who: "tenants who may write ConfigMaps",
    change: (place) =>
      editObject(place, "configmaps/shop/kube-root-ca.crt", (map) => Object.assign(map, { immutable: true })),
  },
  {
    name: "static pods have labels, annotations and a priority of others",
    who: "Prometheus' annotations, Datadog's, own patches",
    change: (place) => {
      for (const name of ["etcd", "kube-apiserver"])
        editPod(place, name, (_, { metadata }) => {
          metadata.annotations = { ...metadata.annotations, "prometheus.io/scrape": "true" };
          metadata.labels = { ...metadata.labels, team: "platform" };
        });
    },
  },
];
