/** kubeadm's own Secret with the shared keys, in etcd's data. */
import type { EtcdData } from "../etcd-data/data.ts";
import { Fail } from "../fail.ts";
import type { Secret } from "../objects/objects.ts";
import { decodeObject, isObject } from "../objects/storage.ts";
import { readSeal, registryPrefix } from "../objects/stored.ts";

/**
 * The Secret; after it was deleted, its last version, as long as etcd's history has it. Errors: Fail where it
 * is encrypted at rest.
 */
export function findKubeadmCerts(data: EtcdData): Secret | undefined {
  const key = `${registryPrefix(data)}/secrets/kube-system/kubeadm-certs`;
  const last = data.history(key).find(({ deleted }) => !deleted);
  const decoded = last && decodeObject(last.value);
  if (!decoded || isObject(decoded)) return decoded;
  const seal = "encrypted" in decoded ? readSeal(decoded.encrypted) : undefined;
  throw new Fail(`The Secret kubeadm-certs cannot be read: ${seal?.words ?? "it is of an unknown kind"}`, {
    hint: `${seal?.byPlugin ? "" : "put the EncryptionConfiguration back first, or "}look for the keys in other places: ./bunw scripts/00-salvage.ts --help`,
  });
}
