/** Reads objects from etcd's data by their place in the API server: `configmaps/kube-system/kubeadm-config`, `minions/`. */
import type { EtcdData } from "../etcd-data/data.ts";
import { Fail } from "../fail.ts";
import { decodeObject } from "./storage.ts";

/** A value that the API server has encrypted, and that no configuration on this node opens. */
export class SealedFail extends Fail {
  /** The name of the key that sealed it; undefined where a KMS plugin did. */
  readonly keyName: string | undefined;

  /** `seal`: "secretbox:v1:key1", "kms:v2:vault". */
  constructor(etcdKey: string, seal: string) {
    const { byPlugin, name, words } = readSeal(seal);
    super(`Cannot read "${etcdKey}": ${words}`, { hint: byPlugin ? BY_HAND : `${CONFIG_FIRST}: scp -p root@NODE:FILE FILE` });
    this.keyName = byPlugin ? undefined : name;
  }
}

/** Who opens what is sealed so: a key of this name, or a KMS plugin. */
export function readSeal(seal: string): { byPlugin: boolean; name: string; words: string } {
  const [provider, , name = ""] = seal.split(":");
  const byPlugin = provider === "kms";
  return { byPlugin, name, words: `it is encrypted at rest (${seal})${byPlugin ? `, and only the KMS plugin "${name}" opens it` : ""}` };
}

export const CONFIG_FIRST = "bring the EncryptionConfiguration back first, from a backup or another control plane node";

const BY_HAND = `by hand, as this kit cannot read this cluster's facts: kubeadm init phase certs all --config FILE, and what else RUNBOOK 1, "If a KMS plugin has encrypted ConfigMaps" says; lost keys come first`;

/** The object under `/registry/…`, decoded, or undefined. Errors: Fail where it is encrypted. */
export function readObject<T>(data: EtcdData, path: string): T | undefined {
  const stored = data.get(`${registryPrefix(data)}/${path}`);
  return stored && (decode(stored.key, stored.value) as T);
}

/** All objects under `/registry/…/`, decoded one after the other, as all of them may not fit. Errors: as `readObject`. */
export function readObjects<T>(data: EtcdData, path: string): IteratorObject<T, undefined> {
  return data.list(`${registryPrefix(data)}/${path}`).map((stored) => decode(stored.key, stored.value) as T);
}

function decode(key: string, value: Uint8Array): unknown {
  const object = decodeObject(value);
  if ("encrypted" in object) throw new SealedFail(key, object.encrypted);
  return object;
}

/** Where the API server keeps its objects, "/registry" unless --etcd-prefix says otherwise. */
export function registryPrefix(data: EtcdData): string {
  const suffix = "/namespaces/kube-system";
  if (data.get(`/registry${suffix}`)) return "/registry";
  // a namespace may be called "namespaces", and an object in it kube-system: such a key is longer
  const [key] = data
    .keys("")
    .filter((key) => key.endsWith(suffix))
    .sort((a, b) => a.length - b.length);
  if (key) return key.slice(0, -suffix.length);
  throw new Fail(`No Kubernetes cluster in this etcd data: none of its ${data.keyCount} keys ends in "${suffix}"`, {
    hint: "it is a new etcd's, or another's. If this machine has the cluster's data elsewhere, name its folder: --etcd-data DIR; or restore a snapshot",
  });
}
