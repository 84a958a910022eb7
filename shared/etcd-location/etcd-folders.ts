/**
 * The folders of an etcd on this host: where its data is, and its log, where that has a folder of its own;
 * and their data, read with the values that the API server has encrypted, opened with the
 * EncryptionConfiguration on this node. Its path is the one that the API server's flag names, in its
 * manifest, its container or the mirror pod of a control plane node. Where none of them names a path, any
 * file below /etc/kubernetes may be it. Nothing is read before an encrypted value is met, and what is read
 * counts only for the values that it opens.
 */
import { statSync } from "node:fs";
import { type EtcdData, type KeyValue, readEtcdData } from "../etcd-data/data.ts";
import { believedNames } from "../evidence/control-planes.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, hostPath, list, stat } from "../files/files.ts";
import { tryFile } from "../files/try-file.ts";
import { smallText } from "../files/untrusted-file.ts";
import { hostFiles, mainContainer } from "../manifests/command.ts";
import { findMirrorPods, type MirrorPod } from "../manifests/mirror-pods.ts";
import { type Rescue, rescuedEtcd, rescuedLog } from "../node/rescue-folder.ts";
import { lastRestore, movedHere } from "../node/words.ts";
import type { PodSpec } from "../objects/objects.ts";
import { CONFIG_FIRST, opened, SealedFail, sealedIn } from "../objects/stored.ts";
import { orUndefined } from "../pki/certificate.ts";
import { shell } from "../shell-line.ts";
import { readYaml } from "../yaml.ts";
import { withMoved } from "./reach-etcd.ts";

export interface EtcdFolders {
  /** etcd's --data-dir. */
  dir: string;
  /** etcd's --wal-dir; undefined: the log is in member/wal. */
  wal: string | undefined;
  /**
   * This node's API server, as its manifest or the runtime has it: it says how to open what is encrypted in
   * the data.
   */
  apiServer?: { spec: PodSpec } | undefined;
}

/**
 * Where a static pod of etcd has its data: its own container's flags or variables, through its mounts, on
 * this host.
 */
export function foldersOfPod({ spec }: { spec: PodSpec }): EtcdFolders | undefined {
  const own = mainContainer({ spec });
  const files = own ? hostFiles({ spec: { ...spec, initContainers: [], containers: [own] } }) : [];
  const at = (...names: string[]) => files.find(({ namedBy }) => names.includes(namedBy))?.path;
  const dir = at("--data-dir", "env ETCD_DATA_DIR");
  return dir === undefined ? undefined : { dir, wal: at("--wal-dir", "env ETCD_WAL_DIR") };
}

/** What is encrypted in it is opened where the configuration for that is here. Errors: as `readEtcdData`. */
export function readFolders({ dir, wal, apiServer }: EtcdFolders): EtcdData {
  const data = withOpened(readEtcdData(hostPath(dir), wal && hostPath(wal)), apiServer);
  return withFormer(withMoved(data, movedHere()), lastRestore()?.members ?? []);
}

/** Who etcd's members were before restore.ts: they were control plane nodes. */
function withFormer(data: EtcdData, formerMembers: readonly string[]): EtcdData {
  if (formerMembers.length === 0) return data;
  return Object.create(data, { formerMembers: { value: formerMembers } }) as EtcdData;
}

/** The copy from the beginning of a repair. Errors: as `readEtcdData`. */
export function readRescued(rescue: Rescue, apiServer: EtcdFolders["apiServer"]): EtcdData {
  const wal = rescuedLog(rescue);
  return readFolders({ dir: rescuedEtcd(rescue), wal: exists(wal) ? wal : undefined, apiServer });
}

/** Parts of etcd's data that may be on a disk of their own, by a link; "" is all of it. */
const PARTS = ["", "/member", "/member/snap", "/member/snap/db", "/member/wal"];

/**
 * Whether a rescue folder holds, instead of a copy, a link to the data of today: what was before is not known
 * by it.
 */
export function showsToday(rescue: Rescue, { dir, wal }: EtcdFolders): boolean {
  const same = (a: string, b: string) => exists(a) && keyOf(a) === keyOf(b);
  return (
    PARTS.some((part) => same(`${rescuedEtcd(rescue)}${part}`, `${dir}${part}`)) ||
    (wal !== undefined && same(rescuedLog(rescue), wal))
  );
}

/** Whether a member's data is there. A folder that nobody but root may look into may have some. */
export function holdsData({ dir }: EtcdFolders): boolean {
  const there = attempt(() => exists(`${dir}/member/snap`));
  return there instanceof Fail || there;
}

/** The same folder under two names, by a link or a mount, has one key. */
export function keyOf(dir: string): string {
  const info = attempt(() => tryFile("look at", dir, () => statSync(hostPath(dir))));
  return info instanceof Fail || !info ? dir.replace(/(?<!\/)\/+$/, "") : `${info.dev}:${info.ino}`;
}

const FLAG = "--encryption-provider-config";
const FOLDER = "/etc/kubernetes";

type ApiServer = { spec: PodSpec } | undefined;

/** `apiServer`: this node's. What no configuration here opens stays as it is. */
export function withOpened(data: EtcdData, apiServer?: ApiServer): EtcdData {
  let configs: unknown[] | undefined;
  const shown = (key: string, value: Uint8Array): Uint8Array => {
    const sealed = sealedIn(key, value);
    if (!sealed) return value;
    configs ??= configsFor(data, apiServer);
    const plain = configs.map((config) => opened(config, sealed)).find(Boolean);
    return plain ? new Uint8Array(plain) : value;
  };
  const open = <T extends Pick<KeyValue, "key" | "value">>(stored: T): T => ({
    ...stored,
    value: shown(stored.key, stored.value),
  });
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

/**
 * The same error, with the place where the configuration has to lie. `etcd`: the data and this node's API
 * server.
 */
export function withItsPlace(
  fail: Fail,
  { data, apiServer }: { data: EtcdData; apiServer?: ApiServer },
): Fail {
  if (!(fail instanceof SealedFail) || fail.keyName === undefined) return fail;
  const paths = pathsOf(data, apiServer);
  const wrong = paths
    .filter((path) => exists(path))
    .map((path) => `. The one in ${path} does not open it: it is missing the key "${fail.keyName}"`);
  const hint =
    paths.length > 0
      ? `${CONFIG_FIRST}: ${paths.map(copied).join("; ")}${wrong.join("")}`
      : `${CONFIG_FIRST}. ${NO_PATH}`;
  return new Fail(fail.message, { hint, cause: fail });
}

const copied = (path: string) => shell`scp -p root@NODE:${path} ${path}`;

const NO_PATH = `Nothing here names its path. So put it anywhere below ${FOLDER}; when it is read, the right path is known, and 00-assess says it`;

function configsFor(data: EtcdData, apiServer: ApiServer): unknown[] {
  const named = pathsOf(data, apiServer);
  const paths = named.length > 0 ? named : maybeConfigs(FOLDER);
  return paths.flatMap((path) => orUndefined(() => readYaml(smallText(path) ?? "")) ?? []);
}

/** How deep below the folder, at most. */
const DEPTH = 5;

/** Files whose text says that they are one. */
function maybeConfigs(folder: string, depth = DEPTH): string[] {
  return list(folder).flatMap((name) => {
    const path = `${folder}/${name}`;
    const info = attempt(() => stat(path));
    if (info instanceof Fail || !info) return [];
    if (info.kind === "dir") return depth > 0 ? maybeConfigs(path, depth - 1) : [];
    return /\bEncryptionConfig(uration)?\b/.test(smallText(path) ?? "") ? [path] : [];
  });
}

/**
 * Where the API servers have it, this node's first, each path once. Mirror pods name none where they are
 * encrypted.
 */
function pathsOf(data: EtcdData, apiServer: ApiServer): string[] {
  const mirrors = believedNames(data).flatMap((node) => mirrorsOf(node, data));
  const pods = [
    ...(apiServer ? [apiServer] : []),
    ...mirrors.flatMap(({ name, pod }) => (name === "kube-apiserver" ? [pod] : [])),
  ];
  return [
    ...new Set(
      pods.flatMap((pod) => hostFiles(pod).flatMap(({ path, namedBy }) => (namedBy === FLAG ? [path] : []))),
    ),
  ];
}

/** None where one of them cannot be read. */
function mirrorsOf(node: string, data: EtcdData): MirrorPod[] {
  return attempt(() => findMirrorPods(data, node), []);
}
