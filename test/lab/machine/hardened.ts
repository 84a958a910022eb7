/**
 * A cluster as the CIS benchmark and hardening guides want it (Kubernetes 1.34 or newer): the API lets nobody
 * in without credentials except at health paths, its settings are in files that kubeadm did not make, and
 * nothing lies where kubeadm puts it by default.
 */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { LAB_IMAGE } from "./images.ts";
import { AUDIT_POLICY, type ExtraVolume, type Profile, samePlace, USUAL } from "./profile.ts";

const API_SERVER = "apiserver.config.k8s.io/v1";
const CERTIFICATES = "/etc/kubernetes/ssl";
const DROP_INS = "/etc/kubernetes/kubelet.conf.d";
const FORWARDER = "/etc/kubernetes/forwarder/forwarder.conf";

/**
 * Each file of the API server: its flag, its volume (a file or a folder, as the guides have it), and what is
 * in it.
 */
export const FILES: { flag: string; path: string; volume: ExtraVolume; text: () => string }[] = [
  file("audit-policy-file", "/etc/kubernetes/policies/audit.yaml", () => AUDIT_POLICY),
  file("authentication-config", "/etc/kubernetes/authn/authentication.yaml", () =>
    configuration("AuthenticationConfiguration", {
      anonymous: { enabled: true, conditions: ["/livez", "/readyz", "/healthz"].map((path) => ({ path })) },
    }),
  ),
  file("authorization-config", "/etc/kubernetes/authz/authorization.yaml", () =>
    configuration("AuthorizationConfiguration", {
      authorizers: ["Node", "RBAC"].map((type) => ({ type, name: type.toLowerCase() })),
    }),
  ),
  folder("admission-control-config-file", "/etc/kubernetes/admission/admission.yaml", "Directory", () =>
    configuration("AdmissionConfiguration", {
      plugins: [{ name: "PodSecurity", configuration: RESTRICTED }],
    }),
  ),
  folder(
    "encryption-provider-config",
    "/etc/kubernetes/enc/encryption.yaml",
    "DirectoryOrCreate",
    encryption,
  ),
];

const RESTRICTED = {
  apiVersion: "pod-security.admission.config.k8s.io/v1",
  kind: "PodSecurityConfiguration",
  defaults: { enforce: "restricted", "enforce-version": "latest", audit: "restricted", warn: "restricted" },
  exemptions: { namespaces: ["kube-system"] },
};

/** Two kinds of objects, each with keys of its own; the second keys are from before the last rotation. */
function encryption(): string {
  const key = (name: string) => ({ keys: [{ name, secret: randomBytes(32).toString("base64") }] });
  const secretbox = { secretbox: key("box-2026") };
  const aescbc = { aescbc: key("cbc-2024") };
  return configuration("EncryptionConfiguration", {
    resources: [
      { resources: ["secrets"], providers: [secretbox, aescbc, { identity: {} }] },
      { resources: ["configmaps"], providers: [aescbc, { identity: {} }] },
    ],
  });
}

/** In a drop-in folder the kubelet reads every `.conf` file, in the order of their names. */
const KUBELET_DROP_IN = stringify({
  apiVersion: "kubelet.config.k8s.io/v1beta1",
  kind: "KubeletConfiguration",
  serverTLSBootstrap: true,
  rotateCertificates: true,
  tlsMinVersion: "VersionTLS12",
  streamingConnectionIdleTimeout: "5m0s",
  eventRecordQPS: 5,
});

/** Runs beside the API server in its pod, and needs a file of its own. */
const SIDECAR = {
  name: "audit-forwarder",
  image: LAB_IMAGE,
  imagePullPolicy: "IfNotPresent",
  args: ["sleep"],
  volumeMounts: [
    { name: "forwarder", mountPath: "/etc/forwarder.conf", readOnly: true },
    { name: "audit-log", mountPath: "/var/log/kubernetes", readOnly: true },
  ],
};

/** The keys are this cluster's own. */
export function hardened(): Profile {
  return {
    ...USUAL,
    certificatesDir: CERTIFICATES,
    etcdDataDir: "/data/etcd",
    nodeDomain: ".lab.example",
    clusterConfiguration: { encryptionAlgorithm: "ECDSA-P256" },
    apiServerFlags: [
      ...FILES.map(({ flag, path }): [string, string] => [flag, path]),
      ["kubelet-certificate-authority", `${CERTIFICATES}/ca.crt`],
      // The first one is in new tokens; the second one was, before the cluster got a public address.
      ["service-account-issuer", "https://issuer.lab.example"],
      ["service-account-issuer", "https://kubernetes.default.svc.cluster.local"],
    ],
    apiServerVolumes: FILES.map(({ volume }) => volume),
    apiServerPatch: [
      { op: "add", path: "/spec/containers/-", value: SIDECAR },
      {
        op: "add",
        path: "/spec/volumes/-",
        value: { name: "forwarder", hostPath: { path: FORWARDER, type: "File" } },
      },
    ],
    kubeletFlags: { "config-dir": DROP_INS },
    kubeletConfiguration: { serverTLSBootstrap: undefined },
    controlPlaneFiles: {
      ...Object.fromEntries(FILES.map(({ path, text }) => [path, text()])),
      [FORWARDER]: "to = audit.lab.example\n",
    },
    nodeFiles: { [`${DROP_INS}/10-hardening.conf`]: KUBELET_DROP_IN },
    anonymousDiscovery: false,
    // From then on nobody gets a node's certificate without an operator.
    afterJoin: [["delete", "clusterrolebinding", "kubeadm:node-autoapprove-bootstrap"]],
    objects: [readFileSync(join(import.meta.dir, "hardened.yaml"), "utf8")],
  };
}

function configuration(kind: string, fields: object): string {
  return stringify({ apiVersion: API_SERVER, kind, ...fields });
}

function file(flag: string, path: string, text: () => string) {
  return { flag, path, volume: samePlace(flag, path, "File"), text };
}

function folder(flag: string, path: string, pathType: string, text: () => string) {
  return { flag, path, volume: samePlace(flag, path.slice(0, path.lastIndexOf("/")), pathType), text };
}
