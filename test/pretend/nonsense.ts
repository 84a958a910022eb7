/**
 * Each object and each file that scripts read, as nonsense: what a wrong edit, a full disk, a power cut or a bad copy
 * leaves. A row of NONSENSE is one of them in one form.
 */

import { lstatSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import type { Objects } from "./cluster.ts";
import { write } from "./cluster.ts";
import { keptWords } from "./kept-words.ts";
import { type Place, usualCluster } from "./unlike-cluster.ts";
import { setFlags } from "./unlike-edits.ts";
import { configMap, object } from "./unlike-objects.ts";

export interface Nonsense {
  /** "minions/m1: cut off". */
  name: string;
  /** What etcd has, before the cluster is served. */
  inEtcd?: (place: Place) => void;
  /** A file below /, while the cluster is served. */
  file?: { path: string; text: (before: string) => string };
}

const LARGE = 10 << 20;

type Form = readonly [name: string, change: (text: string) => string];

/** Of any text. */
const FORMS: readonly Form[] = [
  ["empty", () => ""],
  ["cut off", (text) => text.slice(0, text.length / 2)],
  ["of another kind", () => "apiVersion: v1\nkind: List\nitems: []\n"],
  ["10 MB", () => "x".repeat(LARGE)],
  ["a list", () => "- 1\n- a: 2\n"],
  ["no YAML", (text) => `${text}controlPlaneEndpoint: [fd00::1]:6443\n`],
];

/** Of an object in etcd. */
const STORED: readonly Form[] = [
  ...FORMS.slice(0, 2),
  ["of another kind", () => '{"apiVersion":"v1","kind":"List","items":[]}'],
  ["10 MB", () => "x".repeat(LARGE)],
  ["protobuf that is cut off", () => "k8s\0\u000a\u007f\u0001"],
  ["without fields", () => '{"metadata":null,"data":null,"spec":null,"status":null}'],
  ["of other types", () => '{"metadata":{"name":"x"},"data":"x","spec":[1],"status":"s"}'],
];

/** Beside the usual cluster: what scripts read as well, where it is there. */
function more({ objects, root }: Pick<Place, "objects" | "root">) {
  Object.assign(objects, {
    "configmaps/kube-system/kubelet-config": configMap("kube-system/kubelet-config", {
      kubelet: "serverTLSBootstrap: false\n",
    }),
    "secrets/kube-system/kubeadm-certs": object(
      "Secret",
      { name: "kubeadm-certs", namespace: "kube-system" },
      { data: { "ca.key": "bm9uZQ==" } },
    ),
    "secrets/kube-system/a-token": object(
      "Secret",
      { name: "a-token", namespace: "kube-system" },
      { type: "kubernetes.io/service-account-token", data: { token: "bm9uZQ==" } },
    ),
  });
  const kept = `${root}/root/kube-pki-repair-20260101T000000`;
  const files: Record<string, string> = {
    [`${root}/etc/kubernetes/admission.yaml`]:
      "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n",
    [`${root}/etc/default/kubelet`]: "KUBELET_EXTRA_ARGS=--v=2\n",
    [`${root}/etc/cni/net.d/10-x.conflist`]:
      '{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"calico","kubernetes":{"kubeconfig":"/etc/cni/net.d/x-kubeconfig"}}]}',
    [`${root}/etc/cni/net.d/x-kubeconfig`]: readFileSync(`${root}/etc/kubernetes/kubelet.conf`, "utf8"),
    [`${root}/var/lib/kubelet/instance-config.yaml`]:
      "containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n",
    [`${root}/root/.kube/config`]: readFileSync(`${root}/etc/kubernetes/admin.conf`, "utf8"),
    [`${kept}/containers.json`]: "[]\n",
    [`${kept}/words.json`]: keptWords(
      [{ option: "restored", value: "a snapshot", members: [] }],
      [{ option: "moved", value: "10.9.9.8=10.9.9.9" }],
    ),
  };
  for (const [path, text] of Object.entries(files)) write(path, text);
}

/** The cluster of all rows. */
export function withMore(place: Place) {
  more(place);
  setFlags(place, "kube-apiserver", "--admission-control-config-file=/etc/kubernetes/admission.yaml");
}

/** Rows of the same cluster: all objects, all values of ConfigMaps, all files. */
export async function nonsense(): Promise<Nonsense[]> {
  const usual = await usualCluster();
  withMore(usual);
  const { objects, root, others } = usual;
  const files = filesBelow(root);
  for (const one of others) one[Symbol.dispose]();
  return [...Object.keys(objects).flatMap(ofObject), ...valuesOf(objects), ...files.flatMap(ofFile)];
}

function ofObject(key: string): Nonsense[] {
  return STORED.map(([form, change]) => ({
    name: `${key}: ${form}`,
    inEtcd: ({ objects }) => {
      objects[key] = change(JSON.stringify(objects[key]));
    },
  }));
}

type Map = { data: Record<string, string> };

function valuesOf(objects: Objects): Nonsense[] {
  const maps = Object.keys(objects).filter((key) => key.startsWith("configmaps/kube-"));
  return maps.flatMap((key) =>
    Object.keys((objects[key] as Map).data).flatMap((name) =>
      FORMS.map(([form, change]) => ({
        name: `${key} ${name}: ${form}`,
        inEtcd: (place: Place) => {
          const { data } = place.objects[key] as Map;
          data[name] = change(data[name]!);
        },
      })),
    ),
  );
}

function filesBelow(root: string): string[] {
  const all = readdirSync(root, { recursive: true, encoding: "utf8" });
  return all.filter((path) => lstatSync(`${root}/${path}`).isFile()).map((path) => `/${path}`);
}

function ofFile(path: string): Nonsense[] {
  return FORMS.map(([form, text]) => ({ name: `${path}: ${form}`, file: { path, text } }));
}

/** Does it to the file of a node. */
export function damage(root: string, { path, text }: NonNullable<Nonsense["file"]>) {
  const file = root + path;
  const mode = statSync(file).mode & 0o777;
  writeFileSync(file, text(readFileSync(file, "utf8")), { mode });
}
