/**
 * What the tenant creates in his namespace: Secrets, ConfigMaps, pods on every node, and pods that look like
 * mirror pods.
 */
import { createHash } from "node:crypto";
import { LAB_IMAGE } from "../machine/images.ts";
import type { Machine } from "../machine/machine.ts";
import { type Attacker, attackerPki, TEAM } from "./attacker.ts";
import { bundled, litter, pod } from "./litter.ts";

export const ACCOUNT = "tenant";
export const TENANT = `system:serviceaccount:${TEAM}:${ACCOUNT}`;

/** Kinds of attack; `HOSTILE=tokens,mirrors npm run rehearse -- --scenario hostile` plays only those. */
export const KINDS = [
  "tokens",
  "processes",
  "secrets",
  "mirrors",
  "disk",
  "worker",
  "folder",
  "user",
] as const;
export type Kind = (typeof KINDS)[number];

export function plays(kind: Kind): boolean {
  return (process.env.HOSTILE || KINDS.join()).split(",").includes(kind);
}

/** The administrators give him a namespace with the strictest profile, and rights in it. */
export function givenByAdministrators(): object[] {
  const of = (name: string) => ({ name, namespace: TEAM });
  const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
  const rules = [
    { apiGroups: [""], resources: ["pods", "configmaps", "secrets"], verbs: ["create", "get", "list"] },
  ];
  const role = { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: ACCOUNT };
  return [
    { apiVersion: "v1", kind: "Namespace", metadata: { name: TEAM, labels } },
    { apiVersion: "v1", kind: "ServiceAccount", metadata: of(ACCOUNT) },
    { apiVersion: "rbac.authorization.k8s.io/v1", kind: "Role", metadata: of(ACCOUNT), rules },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "RoleBinding",
      metadata: of(ACCOUNT),
      roleRef: role,
      subjects: [{ kind: "ServiceAccount", ...of(ACCOUNT) }],
    },
  ];
}

export function configMapsAndSecrets(
  attacker: Attacker,
  tokens: Record<string, string>,
  controlPlanes: readonly Machine[],
): object[] {
  const configMap = (name: string, data: Record<string, string>) => ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name, namespace: TEAM },
    data,
  });
  return [
    configMap("tokens", tokens),
    configMap("loot", attackerPki(attacker)),
    configMap("litter", { litter: bundled(litter(attacker)) }),
    configMap(
      "mirrors",
      Object.fromEntries(
        mirrorPods(controlPlanes).map((mirror) => [`${mirror.metadata.name}.json`, JSON.stringify(mirror)]),
      ),
    ),
    ...(plays("secrets") ? tokenSecrets(attacker, tokens) : []),
  ];
}

function tokenSecrets({ ca }: Attacker, tokens: Record<string, string>): object[] {
  return ["newest", "another-kind", "constructor", "none"].map((name) => ({
    apiVersion: "v1",
    kind: "Secret",
    type: "kubernetes.io/service-account-token",
    metadata: {
      name: `token-${name}`,
      namespace: TEAM,
      annotations: { "kubernetes.io/service-account.name": ACCOUNT },
    },
    stringData: { token: tokens[name], "ca.crt": ca.cert, namespace: "kube-system" },
  }));
}

const SECURITY = {
  allowPrivilegeEscalation: false,
  runAsNonRoot: true,
  runAsUser: 65532,
  capabilities: { drop: ["ALL"] },
  seccompProfile: { type: "RuntimeDefault" },
};

/**
 * What a process named kube-controller-manager puts where the kit looks for kubeconfigs; see
 * programs/workload.
 */
const TRICKS = ["fifo", "links", "sparse"];

export const squatterOn = (nodeName: string) => `squatter-${nodeName}`;

/** One pod for each node, control plane nodes included, which does everything at once. */
export function squatter(nodeName: string, tokens: Record<string, string>) {
  const forged = plays("tokens") ? Object.keys(tokens) : [];
  const tricks = plays("processes") ? TRICKS : [];
  const mount = (name: string, mountPath: string) => ({ name, mountPath });
  const container = (name: string, args: string[], volumeMounts: object[]) => ({
    ...{ name, image: LAB_IMAGE, args, volumeMounts, securityContext: SECURITY },
  });
  const containers = [
    container(
      "tokens",
      ["sleep"],
      [...forged, "downward"].map((name) => mount(`forged-${name}`, `/forged/${name}`)),
    ),
    container(
      "litter",
      ["litter", "/litter/litter", "/disk"],
      [mount("litter", "/litter"), mount("disk", "/disk")],
    ),
    ...tricks.map((trick) =>
      container(
        trick,
        ["impostor", trick],
        [
          mount("loot", "/loot"),
          mount(`etc-${trick}`, "/etc/kubernetes"),
          mount(`bin-${trick}`, "/bin-of-mine"),
        ],
      ),
    ),
  ];
  const emptyDir = (name: string) => ({ name, emptyDir: {} });
  const from = (name: string) => ({ name, configMap: { name } });
  return tenantsPod(squatterOn(nodeName), {
    annotations: { [`${TEAM}/token`]: tokens.newest! },
    spec: {
      nodeName,
      containers,
      volumes: [
        ...forged.map(forgedVolume),
        {
          name: "forged-downward",
          projected: { sources: [{ downwardAPI: { items: [annotation("token", `${TEAM}/token`)] } }] },
        },
        from("litter"),
        from("loot"),
        emptyDir("disk"),
        ...tricks.flatMap((trick) => [emptyDir(`etc-${trick}`), emptyDir(`bin-${trick}`)]),
      ],
    },
  });
}

/** A projected volume like a ServiceAccount's: `token` and `ca.crt`, both from ConfigMaps. */
function forgedVolume(name: string) {
  const source = (configMap: string, key: string, path: string) => ({
    configMap: { name: configMap, items: [{ key, path }] },
  });
  return {
    name: `forged-${name}`,
    projected: { sources: [source("tokens", name, "token"), source("loot", "ca.crt", "ca.crt")] },
  };
}

function annotation(path: string, name: string) {
  return { path, fieldRef: { fieldPath: `metadata.annotations['${name}']` } };
}

/** Makes his mirror pods, and makes them again whenever a kubelet deletes them. */
export function mirrorMaker(nodeName: string) {
  const volumeMounts = [{ name: "mirrors", mountPath: "/mirrors" }];
  return tenantsPod("mirror-maker", {
    spec: {
      nodeName,
      serviceAccountName: ACCOUNT,
      containers: [
        {
          name: "maker",
          image: LAB_IMAGE,
          args: ["mirrors", "/mirrors"],
          volumeMounts,
          securityContext: SECURITY,
        },
      ],
      volumes: [{ name: "mirrors", configMap: { name: "mirrors" } }],
    },
  });
}

const STATIC_PODS = [
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
  "etcd",
  "kube-vip",
  "evil",
];

/** Like a kubelet's mirror pods by name, node and annotations, but in his namespace. */
export function mirrorPods(controlPlanes: readonly Pick<Machine, "nodeName">[]) {
  return controlPlanes.flatMap(({ nodeName }) =>
    STATIC_PODS.map((name) => {
      const hash = createHash("md5").update(`${TEAM} ${name}`).digest("hex");
      const annotations = {
        "kubernetes.io/config.mirror": hash,
        "kubernetes.io/config.hash": hash,
        "kubernetes.io/config.source": "file",
        "kubernetes.io/config.seen": "2026-01-01T00:00:00.000000000Z",
        "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": "203.0.113.66:6666",
        "kubeadm.kubernetes.io/etcd.advertise-client-urls": "https://203.0.113.66:2379",
      };
      const container = {
        name,
        image: LAB_IMAGE,
        args: ["sleep"],
        env: [{ name: "OWNER", value: TEAM }],
        securityContext: SECURITY,
      };
      const made = tenantsPod(`${name}-${nodeName}`, {
        annotations,
        spec: { nodeName, containers: [container] },
      });
      return { ...made, metadata: { ...made.metadata, labels: { component: name, tier: "control-plane" } } };
    }),
  );
}

function tenantsPod(
  name: string,
  { annotations = {}, spec }: { annotations?: Record<string, string>; spec: object },
) {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: TEAM, annotations },
    spec: { tolerations: [{ operator: "Exists" }], terminationGracePeriodSeconds: 1, ...spec },
  };
}

/**
 * A mirror pod in kube-system, bound to this node, as a kubelet may make one. `hash` names the folder of its
 * volumes: with the UID of the tenant's pod it claims that the volumes of that pod are kube-system's.
 */
export function mirrorPodOfKubelet(
  name: string,
  node: { nodeName: string; uid: string },
  hash = "a".repeat(32),
) {
  const owner = { apiVersion: "v1", kind: "Node", name: node.nodeName, uid: node.uid, controller: true };
  const made = pod(name) as { metadata: object; spec: object };
  const annotations = {
    "kubernetes.io/config.mirror": hash,
    "kubernetes.io/config.hash": hash,
    "kubernetes.io/config.source": "file",
  };
  const metadata = { ...made.metadata, annotations, ownerReferences: [owner] };
  return { ...made, metadata, spec: { ...made.spec, nodeName: node.nodeName } };
}
