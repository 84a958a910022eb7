/** Rows of unlike.ts: nodes, and what they say of themselves. */
import { ADDRESS, otherCa } from "./cluster.ts";
import { at, servedKubelet } from "./kubelet-ports.ts";
import { MEMBER } from "./node.ts";
import type { Unlike } from "./unlike.ts";
import type { Place } from "./unlike-cluster.ts";
import { addNode, editKubeadm, editObject } from "./unlike-edits.ts";
import { lease } from "./unlike-objects.ts";

/** The kubelets' serving certificates are the cluster CA's, and w1's port shows another one. */
const showsAnother = (cn: string) => async (place: Place) => {
  const config = place.objects["configmaps/kube-system/kubelet-config"] as { data: Record<string, string> };
  config.data.kubelet = "serverTLSBootstrap: true\n";
  editObject(place, "minions/w1", ({ status }) => {
    status.addresses[0].address = at(21);
  });
  const port = await servedKubelet(21, await otherCa(cn));
  place.others.push({ [Symbol.dispose]: () => void port.stop(true) });
};

const LABELS = { "node-role.kubernetes.io/control-plane": "" };

export const NODES: Unlike[] = [
  {
    name: "one worker's kubelet signs its serving certificate itself",
    who: "it joined before serverTLSBootstrap was set",
    change: showsAnother("w1-ca@1700000000"),
    ends: { "03-workers open": { code: 0, names: /part 3 has nothing to do/ } },
  },
  {
    name: "one worker's kubelet shows a certificate of the company",
    who: "tlsCertFile in its configuration",
    change: showsAnother("Example Corp CA"),
    ends: {
      "03-workers open": { code: 0, names: /part 3 has nothing to do/ },
      "05-verify": { code: 2, names: /w1/ },
    },
  },
  {
    name: "no node has a role's label",
    who: "labels that were removed to hide the control plane; kubeadm's skipped mark-control-plane phase",
    change: (place) =>
      editObject(place, "minions/m1", ({ metadata }) => Object.assign(metadata, { labels: {} })),
  },
  {
    name: "the control plane node has the label of before 1.20 alone",
    who: "clusters that were made before 1.20 and upgraded",
    change: (place) =>
      editObject(place, "minions/m1", ({ metadata }) =>
        Object.assign(metadata, { labels: { "node-role.kubernetes.io/master": "" } }),
      ),
  },
  {
    name: "a worker is cordoned and not Ready, but renews its Lease",
    who: "nodes under maintenance; a network plugin that is being exchanged",
    change: (place) =>
      editObject(place, "minions/w1", (node) => {
        node.spec = {
          unschedulable: true,
          taints: [{ key: "node.kubernetes.io/not-ready", effect: "NoSchedule" }],
        };
      }),
  },
  {
    name: "a worker has been switched off for months",
    who: "spare machines, laptops, autoscaled groups",
    change: (place) => {
      place.away.push("w2");
      editObject(place, "leases/kube-node-lease/w2", ({ spec }) =>
        Object.assign(spec, { renewTime: "2026-08-01T00:00:00.000000Z" }),
      );
      editObject(place, "minions/w2", ({ status }) =>
        Object.assign(status, { conditions: [{ type: "Ready", status: "Unknown" }] }),
      );
    },
    ends: {
      "03-workers open": {
        typed: "03-workers open --without w2",
        code: 0,
        names: /every kubelet but those of w2 renews its Lease/,
      },
      "03-workers close": { typed: "03-workers close --without w2", code: 0, names: /w1: back +2 \/ 2/ },
      "04-sa-tokens": { typed: "04-sa-tokens --without w2", code: 0, names: /w2/ },
      "05-verify": { code: 0, names: /all good but what you said: w2 is away/ },
    },
  },
  {
    name: "a node of a virtual kubelet, without a machine",
    who: "virtual-kubelet: Fargate, ACI, Liqo",
    change: (place) => {
      addNode(place, "virtual", "127.77.0.31", { labels: { type: "virtual-kubelet" } });
      editObject(place, "minions/virtual", ({ status }) =>
        Object.assign(status, {
          nodeInfo: { operatingSystem: "linux", kubeletVersion: "v1.19.10-vk-azure" },
        }),
      );
    },
  },
  {
    name: "a Windows node",
    who: "kubeadm's Windows workers",
    change: (place) => addNode(place, "win1", "127.77.0.32", { labels: { "kubernetes.io/os": "windows" } }),
  },
  {
    name: "nodes with dots in their names, a provider's id and addresses of two families",
    who: "AWS, GCE and dual-stack: ip-10-0-0-1.eu-west-1.compute.internal",
    change: (place) => {
      addNode(place, "ip-10-0-0-5.eu-west-1.compute.internal", "127.77.0.33");
      editObject(place, "minions/ip-10-0-0-5.eu-west-1.compute.internal", (node) => {
        node.spec = { providerID: "aws:///eu-west-1a/i-0123456789" };
        node.status.addresses.push(
          { type: "InternalIP", address: "fd00::5" },
          { type: "InternalIP", address: "fe80::5%eth0" },
          { type: "ExternalIP", address: "203.0.113.5" },
        );
      });
      editKubeadm(place, (config) => {
        config.networking.podSubnet = "10.244.0.0/16,fd00:10:244::/56";
      });
    },
  },
  {
    name: "nodes have IPv6 addresses alone",
    who: "IPv6 clusters",
    change: (place) => {
      for (const [name, address] of [
        ["w1", "fd00::21"],
        ["w2", "fd00::22"],
      ] as const)
        editObject(place, `minions/${name}`, ({ status }) =>
          Object.assign(status, { addresses: [{ type: "InternalIP", address }] }),
        );
    },
  },
  {
    name: "a Node without an address",
    who: "a cloud's node that its cloud controller has not initialized yet",
    change: (place) => {
      addNode(place, "fresh", "127.77.0.34");
      editObject(place, "minions/fresh", ({ status }) => Object.assign(status, { addresses: [] }));
    },
  },
  {
    name: "Leases of nodes that are gone",
    who: "nodes that were deleted while their kubelet ran",
    change: (place) => {
      place.objects["leases/kube-node-lease/gone"] = lease("kube-node-lease", "gone", "gone");
      place.away.push("gone");
    },
  },
  {
    name: "Cluster API made the nodes",
    who: "Cluster API: annotations on each Node; its Secrets in the management cluster",
    change: (place) => {
      for (const name of ["m1", "w1", "w2"])
        editObject(place, `minions/${name}`, ({ metadata }) =>
          Object.assign(metadata, {
            annotations: {
              "cluster.x-k8s.io/cluster-name": "prod",
              "cluster.x-k8s.io/cluster-namespace": "clusters",
            },
          }),
        );
    },
  },
  {
    name: "the member of etcd has another name than the node",
    who: "restored and renamed members, kubespray's etcd1",
    change: (place) => {
      place.node.members = [{ ...MEMBER, name: "etcd1", peerURLs: [`https://${ADDRESS}:2380`] }];
    },
  },
  {
    name: "a control plane node is cordoned, and a worker has the taint of one",
    who: "dedicated infrastructure nodes",
    change: (place) => {
      editObject(place, "minions/m1", (node) => {
        node.spec = { unschedulable: true };
        Object.assign(node.metadata, { labels: LABELS });
      });
      editObject(place, "minions/w1", (node) => {
        node.spec = { taints: [{ key: "node-role.kubernetes.io/control-plane", effect: "NoSchedule" }] };
      });
    },
  },
];
