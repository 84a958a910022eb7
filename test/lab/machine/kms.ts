/**
 * A cluster whose Secrets a KMS v2 plugin encrypts. The plugin is a static pod, as most projects describe it:
 * it starts without an API. Its key is outside of /etc/kubernetes; the encryption configuration names its
 * socket, and holds no key.
 */
import { randomBytes } from "node:crypto";
import { stringify } from "yaml";
import { KMS_IMAGE } from "./images.ts";
import { type Profile, samePlace, USUAL } from "./profile.ts";

const CONFIGURATION = "/etc/kubernetes/enc/encryption.yaml";
const KEY = "/var/lib/kmsplugin/key";
const SOCKETS = "/var/run/kmsplugin";
const SOCKET = `${SOCKETS}/socket.sock`;
const PLUGIN = "lab-kms";

/** So each value of the plugin's begins in etcd. */
export const SEALED_BY_PLUGIN = `k8s:enc:kms:v2:${PLUGIN}:`;

const ENCRYPTION = stringify({
  apiVersion: "apiserver.config.k8s.io/v1",
  kind: "EncryptionConfiguration",
  resources: [
    {
      resources: ["secrets"],
      providers: [
        { kms: { apiVersion: "v2", name: PLUGIN, endpoint: `unix://${SOCKET}`, timeout: "3s" } },
        { identity: {} },
      ],
    },
  ],
});

const STATIC_POD = stringify({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name: "kms-plugin",
    namespace: "kube-system",
    labels: { component: "kms-plugin", tier: "control-plane" },
  },
  spec: {
    containers: [
      {
        name: "kms-plugin",
        image: KMS_IMAGE,
        imagePullPolicy: "IfNotPresent",
        args: [`--key=${KEY}`, `--listen=unix://${SOCKET}`],
        volumeMounts: [
          { name: "key", mountPath: KEY, readOnly: true },
          { name: "sockets", mountPath: SOCKETS },
        ],
      },
    ],
    hostNetwork: true,
    priority: 2000001000,
    priorityClassName: "system-node-critical",
    volumes: [
      { name: "key", hostPath: { path: KEY, type: "File" } },
      { name: "sockets", hostPath: { path: SOCKETS, type: "DirectoryOrCreate" } },
    ],
  },
});

/** The key is this cluster's own. */
export function kms(): Profile {
  return {
    ...USUAL,
    apiServerFlags: [...USUAL.apiServerFlags, ["encryption-provider-config", CONFIGURATION]],
    apiServerVolumes: [
      ...USUAL.apiServerVolumes,
      samePlace("encryption", CONFIGURATION, "File"),
      samePlace("kms-plugin", SOCKETS, "DirectoryOrCreate"),
    ],
    controlPlaneFiles: {
      ...USUAL.controlPlaneFiles,
      [CONFIGURATION]: ENCRYPTION,
      [KEY]: `${randomBytes(32).toString("base64")}\n`,
    },
    staticPods: { "kms-plugin.yaml": STATIC_POD },
  };
}
