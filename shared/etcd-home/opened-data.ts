/**
 * etcd's data with the values that the API server has encrypted, opened with the EncryptionConfiguration on this node. Its path is the one
 * that the API server's flag names, in its manifest, its container or its mirror pod: root alone can have written the file. Where nothing
 * names a path, any file below /etc/kubernetes may be it. It counts only for the values that it opens.
 */
import type { EtcdData, KeyValue } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, list, readText, stat } from "../files/files.ts";
import type { PodSpec } from "../k8s/objects.ts";
import { asPod } from "../k8s/pod-shape.ts";
import { opened, sealedIn } from "../k8s/sealed-value.ts";
import { decodeObject, isObject } from "../k8s/storage.ts";
import { CONFIG_FIRST, registryPrefix, SealedFail } from "../k8s/stored.ts";
import { hostFiles } from "../manifests/command.ts";
import { readYaml } from "../yaml.ts";

const FLAG = "--encryption-provider-config";
const FOLDER = "/etc/kubernetes";

type ApiServer = { spec: PodSpec } | undefined;

/** `apiServer`: this node's. What no configuration here opens stays as it is. */
export function withOpened(data: EtcdData, apiServer?: ApiServer): EtcdData {
  const paths = pathsOf(data, apiServer);
  let configs = paths.length > 0 ? configsIn(paths) : undefined;
  const shown = (key: string, value: Uint8Array): Uint8Array => {
    const sealed = sealedIn(key, value);
    if (!sealed) return value;
    configs ??= configsIn(maybeConfigs(FOLDER));
    const plain = configs.map((config) => opened(config, sealed)).find(Boolean);
    return plain ? new Uint8Array(plain) : value;
  };
  const open = <T extends Pick<KeyValue, "key" | "value">>(stored: T): T => ({ ...stored, value: shown(stored.key, stored.value) });
  // its fields change where it reads the directory again, so they are not copied
  return Object.assign(Object.create(data) as EtcdData, {
    shown,
    get: (key: string) => {
      const stored = data.get(key);
      return stored && open(stored);
    },
    *list(prefix: string) {
      for (const stored of data.list(prefix)) yield open(stored);
    },
    history: (key: string) => data.history(key).map(open),
  });
}

/** The same error, with the place where the configuration has to lie. `etcd`: the data and this node's API server. */
export function withItsPlace(fail: Fail, { data, apiServer }: { data: EtcdData; apiServer?: ApiServer }): Fail {
  if (!(fail instanceof SealedFail) || fail.keyName === undefined) return fail;
  const paths = pathsOf(data, apiServer);
  const wrong = paths
    .filter((path) => exists(path))
    .map((path) => `. The one in ${path} does not open it: it lacks the key "${fail.keyName}"`);
  const hint = paths.length > 0 ? `${CONFIG_FIRST}: ${paths.map(copied).join("; ")}${wrong.join("")}` : `${CONFIG_FIRST}. ${NO_PATH}`;
  return new Fail(fail.message, { hint, cause: fail });
}

const copied = (path: string) => `scp -p root@NODE:${path} ${path}`;

const NO_PATH = `Nothing here names its path. So put it anywhere below ${FOLDER}; when it is read, the right path is known, and 00-assess says it`;

function configsIn(paths: readonly string[]): unknown[] {
  return paths.flatMap((path) => {
    const config = attempt(() => configIn(path));
    return config instanceof Fail || config === undefined ? [] : [config];
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

/** How deep below the folder, and the size of a file in bytes, at most. */
const DEPTH = 5;
const MAX_SIZE = 1 << 20;

/** Files whose text says that they are one. */
function maybeConfigs(folder: string, depth = DEPTH): string[] {
  return list(folder).flatMap((name) => {
    const path = `${folder}/${name}`;
    const info = attempt(() => stat(path));
    if (info instanceof Fail || !info) return [];
    if (info.kind === "dir") return depth > 0 ? maybeConfigs(path, depth - 1) : [];
    const isOne = info.kind === "file" && info.size <= MAX_SIZE && /\bEncryptionConfig(uration)?\b/.test(readText(path) ?? "");
    return isOne ? [path] : [];
  });
}

/** Where the API servers have it, this node's first, each path once. */
function pathsOf(data: EtcdData, apiServer: ApiServer): string[] {
  const pods = [...(apiServer ? [apiServer] : []), ...apiServersIn(data)];
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
