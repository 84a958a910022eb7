/**
 * etcd's data with the values that the API server has encrypted, opened with the EncryptionConfiguration on this node. Its path is the one
 * that the API server's flag names, in its mirror pod or in its manifest: root alone can have written the file.
 */
import type { EtcdData, KeyValue } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import type { PodSpec } from "../k8s/objects.ts";
import { asPod } from "../k8s/pod-shape.ts";
import { opened, sealedIn } from "../k8s/sealed-value.ts";
import { decodeObject, isObject } from "../k8s/storage.ts";
import { registryPrefix } from "../k8s/stored.ts";
import { hostFiles } from "../manifests/command.ts";
import { readManifest } from "../manifests/on-disk.ts";
import { readYaml } from "../yaml.ts";

const FLAG = "--encryption-provider-config";
const MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml";

/** The data itself where there is no such configuration here. What it does not open stays as it is. */
export function withOpened(data: EtcdData): EtcdData {
  const configs = pathsOf(data).flatMap((path) => {
    const config = attempt(() => configIn(path));
    return config instanceof Fail || config === undefined ? [] : [config];
  });
  if (configs.length === 0) return data;
  const open = <T extends KeyValue | undefined>(stored: T): T => {
    const sealed = stored && sealedIn(stored.key, stored.value);
    const plain = sealed && configs.map((config) => opened(config, sealed)).find(Boolean);
    return plain ? { ...stored, value: new Uint8Array(plain) } : stored;
  };
  // its fields change where it reads the directory again, so they are not copied
  return Object.assign(Object.create(data) as EtcdData, {
    get: (key: string) => open(data.get(key)),
    *list(prefix: string) {
      for (const stored of data.list(prefix)) yield open(stored);
    },
  });
}

function configIn(path: string): unknown {
  const text = readText(path);
  try {
    return text === undefined ? undefined : readYaml(text);
  } catch (cause) {
    throw new Fail(`Cannot read "${path}": ${(cause as Error).message.split("\n")[0]}`, {
      hint: "bring the right EncryptionConfiguration back, from a backup or another control plane node: scp -p root@NODE:FILE FILE",
      cause,
    });
  }
}

/** Where the API servers have it, each path once. */
function pathsOf(data: EtcdData): string[] {
  const onDisk = attempt(() => readManifest(MANIFEST));
  const pods = [...(onDisk instanceof Fail || !onDisk ? [] : [onDisk]), ...apiServersIn(data)];
  return [...new Set(pods.flatMap((pod) => hostFiles(pod).flatMap(({ path, namedBy }) => (namedBy === FLAG ? [path] : []))))];
}

/** The API servers' mirror pods, of all control plane nodes; none where pods are encrypted. */
function apiServersIn(data: EtcdData): { spec: PodSpec }[] {
  const prefix = attempt(() => registryPrefix(data));
  if (prefix instanceof Fail) return [];
  return data.keys(`${prefix}/pods/kube-system/kube-apiserver-`).flatMap((key) => {
    const pod = attempt(() => podIn(data, key));
    return pod instanceof Fail || !pod ? [] : [pod];
  });
}

function podIn(data: EtcdData, key: string): { spec: PodSpec } | undefined {
  const object = decodeObject(data.get(key)?.value ?? new Uint8Array());
  const hint = "it is not asked for the place of the encryption configuration";
  return isObject(object) ? asPod(object, (why) => new Fail(`"${key}" is no pod: ${why}`, { hint })) : undefined;
}
