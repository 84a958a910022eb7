/** Rows of unlike.ts: machines whose public address is at no card of theirs, as NAT has it. */
import { ADDRESS } from "./cluster.ts";
import { MEMBER } from "./node.ts";
import { PLAYS, type Unlike } from "./unlike.ts";
import { balancer, type Place } from "./unlike-cluster.ts";
import { editKubeadm, editPod, reissue, setFlags, setServer, setServerOfCluster } from "./unlike-edits.ts";

/** In place of the 11 of m1: what others know it by. */
const PUBLIC = ADDRESS.replace(/11$/, "20");
const ALL = ["admin", "kubelet", "controller-manager", "scheduler"];

/** As kubeadm writes all for the public address, but that etcd listens where it can: somebody has edited its manifest. */
const natHas = (clients: string[], peers: string[]) => async (place: Place) => {
  balancer(place, PUBLIC, 6443);
  for (const port of [2379, 2380]) balancer(place, "127.0.0.1", port, () => port);
  place.node.members = [{ ...MEMBER, peerURLs: [`https://${PUBLIC}:2380`] }];
  for (const name of ["etcd", "kube-apiserver"])
    editPod(place, name, (spec) => {
      spec.containers = JSON.parse(JSON.stringify(spec.containers).replaceAll(ADDRESS, PUBLIC));
    });
  const urls = (hosts: string[], port: number) => hosts.map((host) => `https://${host}:${port}`).join(",");
  setFlags(place, "etcd", `--listen-client-urls=${urls(clients, 2379)}`);
  setFlags(place, "etcd", `--listen-peer-urls=${urls(peers, 2380)}`);
  for (const name of ["apiserver", "etcd-server", "etcd-peer"])
    await reissue(place, name, { advertiseAddress: PUBLIC, controlPlaneEndpoint: `${PUBLIC}:6443` });
  setServer(place, `https://${PUBLIC}:6443`, ...ALL);
  setServerOfCluster(place, `https://${PUBLIC}:6443`);
  editKubeadm(place, (config) => {
    config.controlPlaneEndpoint = `${PUBLIC}:6443`;
  });
};

/** Nothing but the operator's word tells it from a machine that has moved. */
const BY_WORD = { adds: `--endpoint ${PUBLIC}:6443` };

/** While no API server answers. What leads to the endpoint leads there then, as the operator has said. */
const TOLD = { ...BY_WORD, without: /^(admin\.conf: server|apiserver\.crt)$/ };

const SAID = /is at no card of this machine, NAT leads it here/;

export const NAT: Unlike[] = [
  {
    name: "NAT has the API server's public address, and etcd listens at the private one",
    who: "kubeadm init --apiserver-advertise-address=PUBLIC on a cloud machine, with etcd.yaml edited",
    change: natHas(["127.0.0.1", ADDRESS], [ADDRESS]),
    says: SAID,
    // etcd's get the address at which it listens, too
    lost: { without: /^etcd\/(server|peer)\.crt$/ },
  },
  {
    name: "NAT has the API server's public address, and etcd listens at 127.0.0.1 alone",
    who: "the well-known recipe for such machines",
    change: natHas(["127.0.0.1"], ["127.0.0.1"]),
    says: SAID,
    lost: BY_WORD,
  },
  {
    name: "NAT has the API server's public address, and etcd listens everywhere",
    who: "the other recipe: 0.0.0.0",
    change: natHas(["0.0.0.0"], ["0.0.0.0"]),
    says: SAID,
    lost: BY_WORD,
  },
  {
    name: "the API server advertises a public address that NAT has, and nothing else names it",
    who: "--advertise-address by hand on a cloud machine, for pods of other networks",
    change: (place) => {
      balancer(place, PUBLIC, 6443);
      setFlags(place, "kube-apiserver", `--advertise-address=${PUBLIC}`);
    },
    says: SAID,
    lost: TOLD,
    plays: Object.fromEntries(Object.keys(PLAYS).map((play) => [play, TOLD])),
  },
];
