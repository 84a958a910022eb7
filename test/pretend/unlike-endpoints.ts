/** Rows of unlike.ts: where the API is, by whom, and how kubeconfigs lead there. */
import { ADDRESS, otherCa } from "./cluster.ts";
import { routesOf } from "./node.ts";
import type { Unlike } from "./unlike.ts";
import { balancer, type Place } from "./unlike-cluster.ts";
import {
  editConfigMap,
  editKubeadm,
  editYaml,
  PKI,
  read,
  reissue,
  remove,
  setFlags,
  setServer,
  setServerOfCluster,
} from "./unlike-edits.ts";

/** In place of the 11 of m1: a balancer's address, and one that nobody has. */
const BALANCER = ADDRESS.replace(/11$/, "50");
const DEAD = "127.77.0.99";
/** To this node's own API server: kubeadm itself writes it so since 1.33. */
const LOCAL = /^kubelet\.conf: server/;
/** What has only expired says where it led, though nobody answers there. */
const WHERE_IT_LED: Unlike["plays"] = { "all expired": {}, "the CAs have ended": {} };
const ALL = ["admin", "kubelet", "controller-manager", "scheduler"];

/** The cluster is reached through a balancer, and its certificate has the balancer's name. */
async function behindBalancer(place: Place, port = 6443) {
  balancer(place, BALANCER, port);
  await ledToBalancer(place, port);
}

async function ledToBalancer(place: Place, port = 6443) {
  await reissue(place, "apiserver", { certSANs: [BALANCER] });
  setServer(place, `https://${BALANCER}:${port}`, "admin", "kubelet");
  setServerOfCluster(place, `https://${BALANCER}:${port}`);
}

/** One more address at m1's card, behind its own; the API server listens there, too. */
function alsoHere(place: Place, local: string, prefixlen: number) {
  balancer(place, local, 6443);
  place.node.commands!.push(
    ...routesOf([
      { local: ADDRESS, prefixlen: 24 },
      { local, prefixlen },
    ]),
  );
}

/** An endpoint at this very machine that only cluster-info, kube-proxy and the certificate know. */
const hereWithoutEndpoint =
  (prefixlen: number, ...kubeconfigs: string[]) =>
  async (place: Place) => {
    alsoHere(place, BALANCER, prefixlen);
    await reissue(place, "apiserver", { certSANs: [BALANCER] });
    setServer(place, `https://${BALANCER}:6443`, ...kubeconfigs);
    setServerOfCluster(place, `https://${BALANCER}:6443`);
    editKubeadm(place, (config) => void delete config.controlPlaneEndpoint);
  };

export const ENDPOINTS: Unlike[] = [
  {
    name: "a VIP is at this very card, and kubeadm-config has no endpoint",
    who: "kube-vip or keepalived that came later, on the node that leads",
    change: hereWithoutEndpoint(32, "admin", "kubelet"),
    lost: { without: LOCAL },
  },
  {
    name: "a public and a private address at one card, and kubeadm-config has no endpoint",
    who: "clouds: workers of other networks reach the public one",
    change: hereWithoutEndpoint(24),
    lost: { without: /^admin\.conf: server/ },
  },
  {
    name: "a VIP is at this very card, and it is the endpoint in kubeadm-config",
    who: "kube-vip from the first day",
    change: async (place) => {
      alsoHere(place, BALANCER, 32);
      await ledToBalancer(place);
      editKubeadm(place, (config) => {
        config.controlPlaneEndpoint = `${BALANCER}:6443`;
      });
    },
    lost: { without: LOCAL },
  },
  {
    name: "a balancer in front of the API, at another port than the API server's",
    who: "haproxy with keepalived on the control plane nodes, port 8443 or 16443",
    change: async (place) => {
      await behindBalancer(place, 16443);
      editKubeadm(place, (config) => {
        config.controlPlaneEndpoint = `${BALANCER}:16443`;
      });
    },
    lost: { without: LOCAL },
  },
  {
    name: "the endpoint in kubeadm-config is out of date: nobody answers there",
    who: "a balancer or a name that was replaced; kubeadm reads the ConfigMap only at the next upgrade",
    change: async (place) => {
      await behindBalancer(place);
      editKubeadm(place, (config) => {
        config.controlPlaneEndpoint = `${DEAD}:6443`;
      });
    },
    lost: { without: LOCAL },
  },
  {
    name: "kubeadm-config has no endpoint: the balancer came later",
    who: "clusters of one control plane node that grew",
    change: async (place) => {
      await behindBalancer(place);
      editKubeadm(place, (config) => void delete config.controlPlaneEndpoint);
    },
    lost: { without: LOCAL },
  },
  {
    name: "every kubeconfig of the node leads to another address of the node itself",
    who: "kubespray: https://127.0.0.1:6443",
    change: async (place) => {
      balancer(place, BALANCER, 6443);
      await reissue(place, "apiserver", { certSANs: [BALANCER] });
      setServer(place, `https://${BALANCER}:6443`, ...ALL);
    },
    // nothing outside of the lost files knows of it
    lost: { without: /^((admin|kubelet|controller-manager|scheduler)\.conf: server|apiserver\.crt)/ },
  },
  {
    name: "cluster-info leads elsewhere than kubeadm-config, and both answer",
    who: "an outer and an inner balancer; clouds with a public and a private address",
    change: async (place) => {
      balancer(place, BALANCER, 6443);
      await reissue(place, "apiserver", { certSANs: [BALANCER] });
      editConfigMap(place, "kube-public/cluster-info", "kubeconfig", (text) =>
        text.replace(`//${ADDRESS}:`, `//${BALANCER}:`),
      );
    },
  },
  {
    name: "the balancer cannot be reached from the control plane node itself",
    who: "Azure's internal balancer and others that do not lead a server back to itself",
    change: async (place) => {
      await reissue(place, "apiserver", { certSANs: [DEAD] });
      editKubeadm(place, (config) => {
        config.controlPlaneEndpoint = `${DEAD}:6443`;
      });
      setServer(place, `https://${ADDRESS}:6443`, "admin");
      setServerOfCluster(place, `https://${DEAD}:6443`);
    },
    lost: { without: /^admin\.conf: server/ },
  },
  {
    name: "the API server has another port than kubeadm-config says",
    who: "a port that was changed by hand, as 443 beside a balancer without ports",
    change: (place) => {
      place.api.port = 8443;
      setFlags(place, "kube-apiserver", "--secure-port=8443");
      setServer(place, `https://${ADDRESS}:8443`, ...ALL);
      setServerOfCluster(place, `https://${ADDRESS}:8443`);
      editKubeadm(place, (config) => {
        config.controlPlaneEndpoint = `${ADDRESS}:8443`;
      });
    },
  },
  {
    name: "the API server finds its address by itself",
    who: "own manifests without --advertise-address",
    change: (place) => setFlags(place, "kube-apiserver", "--advertise-address="),
  },
  {
    name: "admin.conf has contexts of other clusters beside its own",
    who: "people who merge their kubeconfigs on the control plane node",
    change: (place) =>
      editYaml(place, "/etc/kubernetes/admin.conf", (config) => {
        config.clusters.unshift({ name: "other", cluster: { server: "https://192.0.2.7:6443" } });
        config.users.unshift({ name: "other", user: { token: "none" } });
        config.contexts.unshift({ name: "other", context: { cluster: "other", user: "other" } });
      }),
  },
  {
    name: "kubeconfigs name the CA's file in place of its content",
    who: "kubeadm before 1.8, kubespray's and own templates",
    change: (place) => {
      for (const name of ALL)
        editYaml(place, `/etc/kubernetes/${name}.conf`, ({ clusters: [{ cluster }] }) => {
          delete cluster["certificate-authority-data"];
          cluster["certificate-authority"] = `${PKI}/ca.crt`;
        });
    },
  },
  {
    name: "kubeconfigs name another server name for the certificate",
    who: "NAT and tunnels: tls-server-name",
    change: async (place) => {
      balancer(place, BALANCER, 6443);
      setServer(place, `https://${BALANCER}:6443`, "admin");
      editYaml(place, "/etc/kubernetes/admin.conf", ({ clusters: [{ cluster }] }) => {
        cluster["tls-server-name"] = "kubernetes";
      });
    },
    lost: { without: /^admin.conf: (tls-)?server/ },
    plays: WHERE_IT_LED,
  },
  {
    name: "administrators sign in at an OIDC provider: admin.conf runs a program and has no certificate",
    who: "companies that allow no client certificates: kubelogin, teleport",
    change: (place) =>
      editYaml(place, "/etc/kubernetes/admin.conf", (config) => {
        config.users[0].user = {
          exec: { apiVersion: "client.authentication.k8s.io/v1", command: "kubectl", args: ["oidc-login"] },
        };
      }),
    says: /admin\.conf.* signs in by the program kubectl/,
    // kubeadm's takes its place: nothing outside of the lost file knows of it
  },
  {
    name: "admin.conf leads through a proxy of the company, with its CA and its program, and kubeadm's binding of administrators is gone",
    who: "teleport, Pinniped, OpenUnison: no client certificates at all",
    change: async (place) => {
      const company = await otherCa();
      editYaml(place, "/etc/kubernetes/admin.conf", (config) => {
        config.clusters[0].cluster = {
          server: "https://teleport.example:443",
          "certificate-authority-data": Buffer.from(company.cert).toString("base64"),
        };
        config.users[0].user = { exec: { apiVersion: "client.authentication.k8s.io/v1", command: "tsh" } };
      });
      delete place.objects["clusterrolebindings/kubeadm:cluster-admins"];
    },
    says: /admin\.conf.* signs in by the program tsh/,
    lost: { without: /^admin\.conf: server/ },
  },
  {
    name: "kubelet.conf has its certificate inside, and the kubelet does not rotate it",
    who: "KubeKey, sealos and kubeadm before 1.13; rotateCertificates: false",
    change: (place) => {
      const pem = read(place, "/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem");
      const [cert, key] = [
        pem.slice(0, pem.indexOf("-----BEGIN", 10)),
        pem.slice(pem.indexOf("-----BEGIN", 10)),
      ];
      editYaml(place, "/etc/kubernetes/kubelet.conf", ({ users: [{ user }] }) => {
        for (const name of Object.keys(user)) delete user[name];
        user["client-certificate-data"] = Buffer.from(cert).toString("base64");
        user["client-key-data"] = Buffer.from(key).toString("base64");
      });
      remove(
        place,
        "/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem",
        "/var/lib/kubelet/pki/kubelet-client-current.pem",
      );
      editYaml(place, "/var/lib/kubelet/config.yaml", (config) => {
        config.rotateCertificates = false;
      });
    },
  },
];
