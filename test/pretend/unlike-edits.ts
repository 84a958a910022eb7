/** What rows of unlike-*.ts do to the usual cluster, in one word each. */

import { readFileSync, rmSync, statSync } from "node:fs";
import { parse, stringify } from "yaml";
import type { Manifest } from "../../shared/objects/objects.ts";
import { type ClusterFacts, certRow } from "../../shared/pki/certs.ts";
import { issueClient, issueLeaf } from "../../shared/pki/issue.ts";
import { FACTS, write } from "./cluster.ts";
import type { Place } from "./unlike-cluster.ts";
import { lease, object } from "./unlike-objects.ts";

// biome-ignore lint/suspicious/noExplicitAny: objects and files of every kind
type Any = any;

export const PKI = "/etc/kubernetes/pki";

export function read(place: Pick<Place, "root">, path: string): string {
  return readFileSync(place.root + path, "utf8");
}

/** Changes a file's text; its mode stays. */
export function editFile(place: Place, path: string, change: (text: string) => string) {
  const before = read(place, path);
  const after = change(before);
  if (after === before) throw new Error(`${path}: nothing changes`);
  write(place.root + path, after, statSync(place.root + path).mode & 0o777);
}

/** Changes a YAML file: a kubeconfig, the kubelet's configuration. */
export function editYaml(place: Place, path: string, change: (content: Any) => void) {
  editFile(place, path, (text) => {
    const content = parse(text);
    change(content);
    return stringify(content, { lineWidth: 0 });
  });
}

/** Changes a static pod: its manifest on the disk and its mirror pod. */
export function editPod(place: Place, name: string, change: (spec: Manifest["spec"], pod: Manifest) => void) {
  editYaml(place, `/etc/kubernetes/manifests/${name}.yaml`, (pod) => change(pod.spec, pod));
  const mirror = place.objects[`pods/kube-system/${name}-m1`] as Manifest;
  change(mirror.spec, mirror);
}

/**
 * Gives a static pod these flags: "--secure-port=8443" takes the place of another value, "--audit-log-path="
 * that of the flag.
 */
export function setFlags(place: Place, name: string, ...flags: string[]) {
  editPod(place, name, ({ containers }) => {
    for (const flag of flags) {
      const [key, value] = [flag.slice(0, flag.indexOf("=") + 1), flag.slice(flag.indexOf("=") + 1)];
      const command = containers[0]!.command!;
      const at = command.findIndex((word) => word.startsWith(key));
      if (at < 0) command.push(flag);
      else command.splice(at, 1, ...(value ? [flag] : []));
    }
  });
}

/** Adds a volume of the host to a static pod. */
export function mount(place: Place, name: string, path: string, type = "DirectoryOrCreate") {
  editPod(place, name, ({ containers, ...spec }) => {
    const volume = path.replaceAll(/\W+/g, "-").replace(/^-/, "");
    containers[0]!.volumeMounts!.push({ name: volume, mountPath: path });
    spec.volumes!.push({ name: volume, hostPath: { path, type } });
  });
}

/** Changes a ConfigMap's value; `of`: "kube-system/kubeadm-config". */
export function editConfigMap(place: Place, of: string, key: string, change: (text: string) => string) {
  const map = place.objects[`configmaps/${of}`] as { data: Record<string, string> };
  const after = change(map.data[key]!);
  if (after === map.data[key]) throw new Error(`${of}: nothing changes`);
  map.data[key] = after;
}

/** Gives admin.conf a user of system:masters, as kubeadm did before 1.29. */
export async function makeMaster(place: Place) {
  const { cert, key } = await issueClient({ cn: "kubernetes-admin", o: "system:masters" }, place.ca, FACTS);
  editYaml(place, "/etc/kubernetes/admin.conf", ({ users: [{ user }] }) => {
    user["client-certificate-data"] = Buffer.from(cert).toString("base64");
    user["client-key-data"] = Buffer.from(key).toString("base64");
  });
}

/** Issues a certificate anew by the CA on the disk, with other facts. */
export async function reissue(
  place: Pick<Place, "root">,
  name: string,
  facts: Partial<ClusterFacts>,
  options: Parameters<typeof issueLeaf>[3] = {},
) {
  const row = certRow(name);
  const issuer = certRow(row.ca!).file;
  const ca = { cert: read(place, `${PKI}/${issuer}.crt`), key: read(place, `${PKI}/${issuer}.key`) };
  const { cert, key } = await issueLeaf(row, ca, { ...FACTS, ...facts }, options);
  write(`${place.root}${PKI}/${row.file}.crt`, cert, 0o644);
  write(`${place.root}${PKI}/${row.file}.key`, key);
}

export function remove(place: Place, ...paths: string[]) {
  for (const path of paths) rmSync(place.root + path, { recursive: true });
}

/** Lets kubeconfigs lead to another server: "admin", "kubelet", … */
export function setServer(place: Place, url: string, ...names: string[]) {
  for (const name of names)
    editYaml(place, `/etc/kubernetes/${name}.conf`, ({ clusters }) => {
      clusters[0].cluster.server = url;
    });
}

/** The server of the ConfigMaps that name one: cluster-info, which joining nodes read, and kube-proxy's. */
export function setServerOfCluster(place: Place, url: string) {
  for (const [of, key] of [
    ["kube-public/cluster-info", "kubeconfig"],
    ["kube-system/kube-proxy", "kubeconfig.conf"],
  ] as const)
    editConfigMap(place, of, key, (text) => text.replace(/server: .*/, `server: ${url}`));
}

/** Changes kubeadm's ClusterConfiguration. */
export function editKubeadm(place: Place, change: (content: Any) => void) {
  editConfigMap(place, "kube-system/kubeadm-config", "ClusterConfiguration", (text) => {
    const content = parse(text);
    change(content);
    return stringify(content);
  });
}

/** One more Node, with a Lease that its kubelet renews. */
export function addNode(place: Place, name: string, address: string, metadata: Any = {}): void {
  const addresses = [
    { type: "InternalIP", address },
    { type: "Hostname", address: name },
  ];
  place.objects[`minions/${name}`] = object("Node", { name, ...metadata }, { status: { addresses } });
  place.objects[`leases/kube-node-lease/${name}`] = lease("kube-node-lease", name, name);
}

/** Changes an object: "minions/w1". */
export function editObject(place: Place, key: string, change: (content: Any) => void) {
  change(place.objects[key]);
}
