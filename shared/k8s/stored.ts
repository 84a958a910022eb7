/** Objects out of etcd's data by where the API server keeps them: `configmaps/kube-system/kubeadm-config`, `minions/`. */
import type { EtcdData } from "../etcd-data/data.ts";
import { Fail } from "../fail.ts";
import { registryPrefix } from "../manifests/from-mirror-pod.ts";
import { decodeObject } from "./storage.ts";

/** The object under `/registry/…`, decoded, or undefined. Errors: Fail where it is encrypted. */
export function readObject<T>(data: EtcdData, path: string): T | undefined {
  const stored = data.get(`${registryPrefix(data)}/${path}`);
  return stored && (decode(stored.key, stored.value) as T);
}

/** All objects under `/registry/…/`, decoded. Errors: as `readObject`. */
export function readObjects<T>(data: EtcdData, path: string): T[] {
  return data.list(`${registryPrefix(data)}/${path}`).map((stored) => decode(stored.key, stored.value) as T);
}

function decode(key: string, value: Uint8Array): unknown {
  const object = decodeObject(value);
  if ("encrypted" in object) {
    throw new Fail(`Cannot read "${key}": it is encrypted at rest (${object.encrypted})`, {
      hint: "bring the EncryptionConfiguration back first, from a backup or another master: scp root@MASTER:FILE FILE",
    });
  }
  return object;
}
