/** Rows of unlike.ts: ranges, endpoints, names in certificates, and where etcd listens. */
import { ADDRESS } from "./cluster.ts";
import { MEMBER } from "./node.ts";
import type { Unlike } from "./unlike.ts";
import { balancer, type Place } from "./unlike-cluster.ts";
import { editKubeadm, reissue, setFlags, setServer, setServerOfCluster } from "./unlike-edits.ts";
import { object } from "./unlike-objects.ts";

const BOTH = ["fd00:97::/112", "10.97.0.0/16"];

/** As `place.api` listens elsewhere: the endpoint in kubeadm-config. */
const endpoint = (text: string) => (place: Place) =>
  editKubeadm(place, (config) => {
    config.controlPlaneEndpoint = text;
  });

/** etcd's member known at one host, listening at others. */
const etcdAt =
  (known: string, ...hosts: string[]) =>
  async (place: Place) => {
    const urls = (port: number) => hosts.map((host) => `https://${host}:${port}`).join(",");
    place.node.members = [{ ...MEMBER, peerURLs: [`https://${known}:2380`] }];
    setFlags(
      place,
      "etcd",
      ...[`--listen-client-urls=${urls(2379)}`, `--listen-peer-urls=${urls(2380)}`],
      ...[
        `--advertise-client-urls=https://${known}:2379`,
        `--initial-advertise-peer-urls=https://${known}:2380`,
      ],
    );
  };

export const NETWORKS: Unlike[] = [
  {
    name: "the endpoint in kubeadm-config has no port",
    who: "kubeadm init --control-plane-endpoint=NAME",
    change: endpoint(ADDRESS),
  },
  {
    name: "the endpoint is a name in capitals, which this node does not resolve",
    who: "DNS that only workers and people ask",
    change: async (place) => {
      endpoint("API.Example.com:6443")(place);
      await reissue(place, "apiserver", { certSANs: ["api.example.com"] });
      setServer(place, `https://${ADDRESS}:6443`, "admin");
      setServerOfCluster(place, "https://API.Example.com:6443");
    },
    lost: { without: /^(admin\.conf: server|apiserver\.crt)/ },
  },
  {
    name: "the API's endpoint has port 443, and the kubeconfigs name none",
    who: "balancers of clouds",
    change: async (place) => {
      const lb = ADDRESS.replace(/11$/, "50");
      balancer(place, lb, 443);
      await reissue(place, "apiserver", { certSANs: [lb] });
      endpoint(`${lb}:443`)(place);
      setServer(place, `https://${lb}`, "admin", "kubelet");
      setServerOfCluster(place, `https://${lb}`);
    },
    lost: { without: /^(kubelet|admin)\.conf: server/ },
  },
  {
    name: "Services have two families, IPv6 first",
    who: "dual stack",
    change: async (place) => {
      for (const name of ["kube-apiserver", "kube-controller-manager"])
        setFlags(place, name, `--service-cluster-ip-range=${BOTH}`);
      editKubeadm(place, (config) => {
        config.networking.serviceSubnet = String(BOTH);
      });
      await reissue(place, "apiserver", { serviceSubnets: BOTH });
    },
  },
  {
    name: "Services have a second range by the flags alone",
    who: "dual stack that came later",
    change: (place) => {
      for (const name of ["kube-apiserver", "kube-controller-manager"])
        setFlags(place, name, `--service-cluster-ip-range=10.97.0.0/16,${BOTH[0]}`);
    },
  },
  {
    name: "the API server's certificate has wildcards",
    who: "certSANs: *.example.com",
    change: async (place) => {
      await reissue(place, "apiserver", { certSANs: ["*.example.com"] });
      editKubeadm(place, (config) => {
        config.apiServer = { certSANs: ["*.example.com"] };
      });
    },
  },
  {
    name: "etcd listens at 127.0.0.1 alone, and is known there",
    who: "kubeadm before 1.14",
    change: async (place) => {
      for (const port of [2379, 2380]) balancer(place, "127.0.0.1", port, () => port);
      await etcdAt("127.0.0.1", "127.0.0.1")(place);
    },
  },
  {
    name: "etcd listens everywhere",
    who: "0.0.0.0 for monitoring and backups from outside",
    change: etcdAt(ADDRESS, "0.0.0.0"),
  },
  {
    name: "etcd is known by a name",
    who: "own set-ups: URLs with DNS names",
    change: async (place) => {
      await etcdAt("m1.etcd.example", "127.0.0.1", ADDRESS)(place);
      const names = ["m1.etcd.example"];
      for (const name of ["etcd-server", "etcd-peer"])
        await reissue(place, name, { etcdServerCertSANs: names, etcdPeerCertSANs: names });
    },
  },
  {
    name: "every namespace refuses what is not allowed by a NetworkPolicy",
    who: "default-deny",
    change: (place) => {
      for (const namespace of ["shop", "kube-system"])
        place.objects[`networkpolicies/${namespace}/default-deny`] = object(
          "NetworkPolicy",
          { name: "default-deny", namespace },
          { spec: { podSelector: {}, policyTypes: ["Ingress", "Egress"] } },
        );
    },
  },
];
