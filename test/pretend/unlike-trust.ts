/** Rows of unlike.ts: who signs in how, and by whose word: the aggregation layer, the kubelets' CA, kubelet.conf. */
import { certRow } from "../../shared/pki/certs.ts";
import { issueClient, issueLeaf, type Pair } from "../../shared/pki/issue.ts";
import { FACTS, otherCa, write } from "./cluster.ts";
import { KUBEADM_UNIT } from "./node.ts";
import type { Unlike } from "./unlike.ts";
import type { Place } from "./unlike-cluster.ts";
import { editPod, editYaml, PKI, read, remove, setFlags } from "./unlike-edits.ts";

const FRONT_PROXY = /^--(requestheader-|proxy-client-)/;
const CLIENT_PEM = "/var/lib/kubelet/pki/kubelet-client-current.pem";
const KUBELET_CERT = "/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem";

type Data = { data: Record<string, string> };

/** No server takes users by the headers of a proxy, nor is one itself. */
export function withoutAggregation(place: Place) {
  for (const name of ["kube-apiserver", "kube-controller-manager"])
    editPod(place, name, ({ containers: [container] }) => {
      container!.command = container!.command!.filter((word) => !FRONT_PROXY.test(word));
    });
  const map = place.objects["configmaps/kube-system/extension-apiserver-authentication"] as Data;
  for (const key of Object.keys(map.data)) if (key.startsWith("requestheader-")) delete map.data[key];
}

const FRONT_PROXY_FILES = ["front-proxy-ca", "front-proxy-client"].flatMap((file) =>
  ["crt", "key"].map((end) => `${PKI}/${file}.${end}`),
);

/** The user of kubelet.conf signs in so; the unit has no --bootstrap-kubeconfig, so the kubelet starts with it. */
const signsIn = (by: object) => (place: Place) => {
  place.node.commands!.push({
    command: "systemctl cat kubelet",
    stdout: KUBEADM_UNIT.replace("--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf ", ""),
  });
  kubeletSignsIn(place, by);
};

export function kubeletSignsIn(place: Place, by: object) {
  editYaml(place, "/etc/kubernetes/kubelet.conf", ({ users: [entry] }) => {
    entry.user = by;
  });
}

/** A new text for the file to which kubelet-client-current.pem leads. */
function writeClientPem(place: Place, { cert, key }: Pair) {
  write(place.root + KUBELET_CERT, cert + key);
}

/** The controller-manager signs kubelets' certificates by a CA of their own, and the API server trusts both. */
async function kubeletsCa(place: Place) {
  const ca = await otherCa("kubelet-ca");
  write(`${place.root}${PKI}/kubelet-ca.crt`, ca.cert, 0o644);
  write(`${place.root}${PKI}/kubelet-ca.key`, ca.key);
  write(`${place.root}${PKI}/clients.crt`, place.ca.cert + ca.cert, 0o644);
  setFlags(place, "kube-apiserver", `--client-ca-file=${PKI}/clients.crt`);
  // its validation takes the general pair beside none of the four (pkg/controller/certificates/signer/config)
  const signs = (signer: string, by: string) =>
    ["cert-file=x.crt", "key-file=x.key"].map(
      (end) => `--cluster-signing-${signer}-${end.replace("x", `${PKI}/${by}`)}`,
    );
  setFlags(
    place,
    "kube-controller-manager",
    ...["--cluster-signing-cert-file=", "--cluster-signing-key-file="],
    ...signs("kubelet-client", "kubelet-ca"),
    ...["kubelet-serving", "kube-apiserver-client", "legacy-unknown"].flatMap((one) => signs(one, "ca")),
  );
  const map = place.objects["configmaps/kube-system/extension-apiserver-authentication"] as Data;
  map.data["client-ca-file"] = read(place, `${PKI}/clients.crt`);
  writeClientPem(place, await issueClient({ cn: "system:node:m1", o: "system:nodes" }, ca, FACTS));
}

export const TRUST: Unlike[] = [
  {
    name: "the aggregation layer is off, and there are no certificates for it",
    who: "CIS-hardened and small clusters; kubernetes.io: Configure the Aggregation Layer",
    change: (place) => {
      withoutAggregation(place);
      remove(place, ...FRONT_PROXY_FILES);
    },
  },
  {
    name: "the aggregation layer is off, and kubeadm's certificates for it were left",
    who: "kubeadm's extraArgs with empty --requestheader-client-ca-file",
    change: withoutAggregation,
    // nothing reads them, and no part makes new ones
    lost: { without: /^front-proxy-/ },
  },
  {
    name: "kubelet.conf runs a program that signs in, and the kubelet has a certificate all the same",
    who: "kubelets with aws-iam-authenticator or a company's agent: exec",
    change: signsIn({
      exec: {
        apiVersion: "client.authentication.k8s.io/v1",
        command: "node-agent",
        interactiveMode: "Never",
      },
    }),
  },
  {
    name: "kubelet.conf has a token, and the kubelet has a certificate all the same",
    who: "kubelets that were set up by hand with a token of a static file",
    change: signsIn({ token: "a-token-of-m1" }),
  },
  {
    name: "kubelets have a CA of their own",
    who: "--cluster-signing-kubelet-client-cert-file, so that no kubelet's CSR is signed by the cluster's CA",
    change: kubeletsCa,
    lost: { refuses: ["01-etcd --new-cas", /kubelet-ca\.(crt|key)/] },
  },
  {
    name: "the ports of kubelets show certificates of a CA of their own",
    who: "--cluster-signing-kubelet-serving-cert-file, with --kubelet-certificate-authority",
    change: async (place) => {
      const ca = await otherCa("kubelet-serving-ca");
      write(`${place.root}${PKI}/kubelet-serving-ca.crt`, ca.cert, 0o644);
      setFlags(place, "kube-apiserver", `--kubelet-certificate-authority=${PKI}/kubelet-serving-ca.crt`);
      editYaml(place, "/var/lib/kubelet/config.yaml", (config) => {
        config.serverTLSBootstrap = true;
      });
      const { cert, key } = await issueLeaf(certRow("apiserver"), ca, FACTS);
      write(`${place.root}/var/lib/kubelet/pki/kubelet-server-current.pem`, cert + key);
    },
    lost: { refuses: ["01-etcd --new-cas", /kubelet-serving-ca\.crt/] },
  },
  {
    name: "the kubelet has a token, and no certificate at all",
    who: "rotateCertificates: false with a token of a static file",
    change: (place) => {
      signsIn({ token: "a-token-of-m1" })(place);
      remove(place, CLIENT_PEM, KUBELET_CERT);
      editYaml(place, "/var/lib/kubelet/config.yaml", (config) => {
        config.rotateCertificates = false;
      });
    },
  },
];
