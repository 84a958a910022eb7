/** Rows of unlike.ts: CAs, certificates, service-account keys, and who trusts them. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { CERTS, certRow } from "../../shared/pki/certs.ts";
import { issueCa, issueClient, issueLeaf } from "../../shared/pki/issue.ts";
import { FACTS, otherCa, write } from "./cluster.ts";
import { newKeyOf, tokenBy } from "./old-keys.ts";
import { SCRIPTS, type Unlike } from "./unlike.ts";
import type { Place } from "./unlike-cluster.ts";
import {
  editConfigMap,
  editFile,
  editPod,
  editYaml,
  makeMaster,
  PKI,
  read,
  reissue,
  remove,
  setFlags,
} from "./unlike-edits.ts";
import { configMap, object } from "./unlike-objects.ts";

const LEAVES = CERTS.filter((row) => row.ca).map(({ name }) => name);
const DAY_MS = 24 * 3600_000;

/** What every namespace knows as the cluster's CA, since now. */
function publish(place: Place, text: string) {
  const managedFields = [
    { manager: "kube-controller-manager", time: new Date().toISOString(), fieldsV1: { "f:data": {} } },
  ];
  for (const [key, value] of Object.entries(place.objects)) {
    if (!key.endsWith("/kube-root-ca.crt")) continue;
    const { metadata } = value as { metadata: object };
    Object.assign(metadata, {
      creationTimestamp: new Date(Date.now() - 30 * DAY_MS).toISOString(),
      managedFields,
    });
    Object.assign(value, { data: { "ca.crt": text } });
  }
}

function tokenSecret(
  place: Place,
  name: string,
  key: ReturnType<typeof newKeyOf>,
  data: Record<string, string> = {},
) {
  const annotations = {
    "kubernetes.io/service-account.name": name,
    "kubernetes.io/service-account.uid": `uid-of-${name}`,
  };
  const token = btoa(tokenBy(key, { alg: "ES256", of: `shop:${name}` }));
  place.objects[`secrets/shop/${name}-token`] = object(
    "Secret",
    { name: `${name}-token`, namespace: "shop", annotations },
    {
      type: "kubernetes.io/service-account-token",
      data: { token, "ca.crt": btoa(place.ca.cert), namespace: btoa("shop"), ...data },
    },
  );
}

const account = (place: Place, name: string) => {
  place.objects[`serviceaccounts/shop/${name}`] = object("ServiceAccount", { name, namespace: "shop" });
};

export const CAS: Unlike[] = [
  {
    name: "kube-root-ca.crt holds the CA of before beside today's",
    who: "kubernetes.io: Manual Rotation of CA Certificates, which leaves --root-ca-file with both",
    change: async (place) => {
      const both = `${(await otherCa()).cert}${place.ca.cert}`;
      write(`${place.root}${PKI}/root-cas.crt`, both, 0o644);
      setFlags(place, "kube-controller-manager", `--root-ca-file=${PKI}/root-cas.crt`);
      publish(place, both);
    },
  },
  {
    name: "kube-root-ca.crt holds the current CA and then the one of before",
    who: "the same manual, the other order",
    change: async (place) => {
      const both = `${place.ca.cert}${(await otherCa()).cert}`;
      write(`${place.root}${PKI}/root-cas.crt`, both, 0o644);
      setFlags(place, "kube-controller-manager", `--root-ca-file=${PKI}/root-cas.crt`);
      publish(place, both);
    },
  },
  {
    name: "ca.crt holds the signing CA and another that is trusted, too",
    who: "companies with two CAs, clusters in the middle of a rotation",
    change: async (place) => {
      const both = `${place.ca.cert}${(await otherCa()).cert}`;
      write(`${place.root}${PKI}/ca.crt`, both, 0o644);
      publish(place, both);
    },
  },
  {
    name: "the cluster's CA was renewed with its own key; pods and kubeconfigs have its old certificate",
    who: "who renews a CA that ends, by openssl x509 -signkey or the like",
    change: async (place) => {
      const pub = newKeyPair(place);
      const renewed = await issueCa(certRow("ca"), FACTS, { key: pub, now: new Date(Date.now() - 60_000) });
      write(`${place.root}${PKI}/ca.crt`, renewed.cert, 0o644);
      publish(place, renewed.cert);
    },
  },
  {
    name: "clients are trusted by a file with the cluster's CA and the company's",
    who: "administrators with certificates of the company: --client-ca-file",
    change: async (place) => {
      const both = `${place.ca.cert}${(await otherCa()).cert}`;
      write(`${place.root}${PKI}/clients.crt`, both, 0o644);
      setFlags(place, "kube-apiserver", `--client-ca-file=${PKI}/clients.crt`);
      (place.objects["configmaps/kube-system/extension-apiserver-authentication"] as { data: object }).data =
        {
          "client-ca-file": both,
          "requestheader-client-ca-file": read(place, `${PKI}/front-proxy-ca.crt`),
        };
    },
  },
  {
    name: "proxies of the API are trusted by a file with the front proxy's CA and another",
    who: "a gateway of the company before the API: --requestheader-client-ca-file",
    change: async (place) => {
      const both = `${read(place, `${PKI}/front-proxy-ca.crt`)}${(await otherCa()).cert}`;
      write(`${place.root}${PKI}/proxies.crt`, both, 0o644);
      setFlags(place, "kube-apiserver", `--requestheader-client-ca-file=${PKI}/proxies.crt`);
      editConfigMap(
        place,
        "kube-system/extension-apiserver-authentication",
        "requestheader-client-ca-file",
        () => both,
      );
    },
  },
  {
    name: "the keys of etcd's CA and the front proxy's are kept offline",
    who: "security teams: nothing but an expired certificate needs them",
    change: (place) => remove(place, `${PKI}/etcd/ca.key`, `${PKI}/front-proxy-ca.key`),
    says: /etcd\/ca\.key.*stored offline/,
    // what they sign is lost as well: somebody brings them, or part 1 makes new ones
    plays: {
      "lost, and the old keys found": { refuses: ["01-etcd", /front-proxy-ca.*key missing/], code: 1 },
    },
  },
  {
    name: "admin.conf is of system:masters, and the group kubeadm:cluster-admins has no rights any more",
    who: "clusters from before 1.29 whose rights were taken away on purpose",
    change: async (place) => {
      await makeMaster(place);
      delete place.objects["clusterrolebindings/kubeadm:cluster-admins"];
    },
  },
  {
    name: "every certificate is valid for a hundred years",
    who: "KubeKey, sealos, kubeadm built anew",
    change: async (place) => {
      for (const name of LEAVES) await reissue(place, name, { certificateValidityHours: 100 * 8760 });
    },
  },
  {
    name: "the certificates have RSA keys of 4096 bits under a CA with another kind of key",
    who: "security guides; a kubeadm whose encryptionAlgorithm was changed",
    change: async (place) => {
      for (const name of ["apiserver", "front-proxy-client"])
        await reissue(place, name, { keyAlgorithm: "RSA-4096" });
    },
    lost: { without: /^(apiserver|front-proxy-client)\.crt$/ },
  },
  {
    name: "the API server's and etcd's certificates have more names than kubeadm-config says",
    who: "certificates renewed by hand with kubeadm init phase certs --apiserver-cert-extra-sans",
    change: async (place) => {
      await reissue(place, "apiserver", { certSANs: ["api.old.example", "203.0.113.9"] });
      await reissue(place, "etcd-server", { etcdServerCertSANs: ["etcd.example"] });
    },
    lost: { without: /^(apiserver|etcd\/server)\.crt$/ },
  },
  {
    name: "one CA has signed everything: etcd and the front proxy have no CA of their own",
    who: "RKE and older kubespray set-ups that were taken over",
    change: async (place) => {
      for (const file of ["etcd/ca", "front-proxy-ca"])
        for (const end of ["crt", "key"])
          write(
            `${place.root}${PKI}/${file}.${end}`,
            read(place, `${PKI}/ca.${end}`),
            end === "crt" ? 0o644 : 0o600,
          );
      for (const name of LEAVES) await reissue(place, name, {});
      (
        place.objects["configmaps/kube-system/extension-apiserver-authentication"] as {
          data: Record<string, string>;
        }
      ).data["requestheader-client-ca-file"] = place.ca.cert;
    },
    // new CAs are made, one for each
    lost: { without: /^(front-proxy-ca|etcd\/ca)\.crt/ },
  },
  {
    name: "the API server shows a certificate of the company",
    who: "--tls-cert-file of a corporate or public CA on the main port",
    change: async (place) => {
      const company = await otherCa();
      const served = await issueLeaf(certRow("apiserver"), company, FACTS);
      write(`${place.root}${PKI}/company.crt`, served.cert, 0o644);
      write(`${place.root}${PKI}/company.key`, served.key);
      write(`${place.root}${PKI}/company-ca.crt`, company.cert, 0o644);
      setFlags(
        place,
        "kube-apiserver",
        `--tls-cert-file=${PKI}/company.crt`,
        `--tls-private-key-file=${PKI}/company.key`,
      );
      place.api.tls = served;
      for (const name of ["admin", "kubelet", "controller-manager", "scheduler"])
        editYaml(place, `/etc/kubernetes/${name}.conf`, ({ clusters: [{ cluster }] }) => {
          cluster["certificate-authority-data"] = Buffer.from(place.ca.cert + company.cert).toString(
            "base64",
          );
        });
    },
    ends: Object.fromEntries(SCRIPTS.slice(1, -1).map((script) => [script, { names: /company\.crt/ }])),
    lost: { refuses: ["01-etcd --new-cas", /company\.crt/] },
  },
  {
    name: "a second certificate for another name of the API server, of the company",
    who: "--tls-sni-cert-key for api.example.com",
    change: async (place) => {
      const served = await issueLeaf(certRow("apiserver"), await otherCa(), FACTS);
      write(`${place.root}${PKI}/sni.crt`, served.cert, 0o644);
      write(`${place.root}${PKI}/sni.key`, served.key);
      setFlags(place, "kube-apiserver", `--tls-sni-cert-key=${PKI}/sni.crt,${PKI}/sni.key:api.example.com`);
    },
    lost: { refuses: ["01-etcd --new-cas", /sni\.(crt|key)/] },
  },
  {
    name: "a second service-account key is accepted, and a token Secret is signed by it",
    who: "a service-account key that was rotated: two --service-account-key-file",
    change: (place) => {
      const old = newKeyOf("ECDSA-P256");
      write(`${place.root}${PKI}/sa-2024.pub`, old.pub, 0o644);
      editPod(
        place,
        "kube-apiserver",
        ({ containers }) =>
          void containers[0]!.command!.push(`--service-account-key-file=${PKI}/sa-2024.pub`),
      );
      account(place, "deployer");
      tokenSecret(place, "deployer", old);
    },
    lost: { refuses: ["01-etcd --new-cas", /sa-2024\.pub/] },
  },
  {
    name: "a token Secret of a ServiceAccount that is gone",
    who: "Secrets made by hand or by Helm, whose chart was removed",
    change: (place) =>
      tokenSecret(place, "gone", { key: read(place, `${PKI}/sa.key`), pub: read(place, `${PKI}/sa.pub`) }),
  },
  {
    name: "a Secret of a token whose controller has not filled it yet, and one of the type tls with the cluster's CA",
    who: "Helm charts; ingress and webhook set-ups",
    change: (place) => {
      account(place, "fresh");
      tokenSecret(place, "fresh", newKeyOf("ECDSA-P256"));
      const secret = place.objects["secrets/shop/fresh-token"] as { data?: object };
      delete secret.data;
      place.objects["secrets/shop/ca-copy"] = object(
        "Secret",
        { name: "ca-copy", namespace: "shop" },
        { type: "kubernetes.io/tls", data: { "ca.crt": btoa(place.ca.cert), "tls.crt": "", "tls.key": "" } },
      );
    },
  },
  {
    name: "a tenant has added a CA to the kube-root-ca.crt of a namespace",
    who: "people who may write ConfigMaps; corporate proxies",
    change: async (place) => {
      const both = `${place.ca.cert}${(await otherCa()).cert}`;
      place.objects["configmaps/shop/kube-root-ca.crt"] = configMap("shop/kube-root-ca.crt", {
        "ca.crt": both,
      });
    },
  },
  {
    name: "certificates have passphrase-free keys in PKCS#8, and Windows' line ends",
    who: "openssl genpkey, files that were carried through mail or a wiki",
    change: (place) => {
      for (const file of ["ca", "apiserver", "etcd/server", "front-proxy-client"]) {
        const key = createPrivateKey(read(place, `${PKI}/${file}.key`)).export({
          type: "pkcs8",
          format: "pem",
        }) as string;
        editFile(place, `${PKI}/${file}.key`, () => key.replaceAll("\n", "\r\n"));
        editFile(
          place,
          `${PKI}/${file}.crt`,
          (text) => `subject=CN = ${file}\r\n${text.replaceAll("\n", "\r\n")}`,
        );
      }
    },
  },
  {
    name: "the API server's certificate has its CA's behind it, and admin.conf holds the CA twice",
    who: "full chains of a tool: cfssl bundle, cert-manager",
    change: (place) => {
      editFile(place, `${PKI}/apiserver.crt`, (text) => text + place.ca.cert);
      editYaml(place, "/etc/kubernetes/admin.conf", ({ clusters: [{ cluster }] }) => {
        cluster["certificate-authority-data"] = Buffer.from(place.ca.cert + place.ca.cert).toString("base64");
      });
    },
  },
  {
    name: "admin.conf is of a person, by name and group",
    who: "companies with a group of their own bound to cluster-admin: O=platform-admins",
    change: async (place) => {
      const pair = await issueClient(
        { cn: "jane", o: "platform-admins" },
        { cert: place.ca.cert, key: read(place, `${PKI}/ca.key`) },
        FACTS,
      );
      editYaml(place, "/etc/kubernetes/admin.conf", ({ users: [{ user }] }) => {
        user["client-certificate-data"] = Buffer.from(pair.cert).toString("base64");
        user["client-key-data"] = Buffer.from(pair.key).toString("base64");
      });
    },
    says: /admin\.conf.* its user is "jane" of "platform-admins"/,
  },
  {
    name: "other certificates lie in the folder pki",
    who: "people and charts that put theirs beside kubeadm's",
    change: async (place) => {
      const pair = await issueLeaf(certRow("apiserver"), await otherCa(), FACTS, {
        now: new Date(Date.now() - 900 * DAY_MS),
      });
      write(`${place.root}${PKI}/registry.crt`, pair.cert, 0o644);
      write(`${place.root}${PKI}/ca.crt.2024`, pair.cert, 0o644);
      write(`${place.root}${PKI}/ca.srl`, "01\n");
    },
    // a file of people's, that nothing names
    lost: { without: /^registry\.crt$/ },
  },
];

/** The cluster CA's own key, for one more certificate of it. */
function newKeyPair(place: Place) {
  const key = readFileSync(`${place.root}${PKI}/ca.key`, "utf8");
  const pub = new X509Certificate(place.ca.cert).publicKey.export({ type: "spki", format: "pem" }) as string;
  return { key, pub };
}
