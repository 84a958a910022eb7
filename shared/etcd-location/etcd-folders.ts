/**
 * The folders of an etcd on this host, for its data and, if separate, its log; and their data, with encrypted values
 * opened by the EncryptionConfiguration on this node. The API server's flag has its path: in the manifest, the container
 * or a control plane node's mirror pod; if none names one, any file below /etc/kubernetes may be it. It is read once an
 * encrypted value is met, and counts only for values that it opens.
 */
import { statSync } from "node:fs";
import { type EtcdData, type KeyValue, readEtcdData, readSnapshotData } from "../etcd-data/data.ts";
import { believedNames } from "../etcd-data/members.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, hostPath, list, readKeptJson, stat } from "../files/files.ts";
import { tryFile } from "../files/root.ts";
import { smallText } from "../files/untrusted-file.ts";
import { hostFiles, mainContainer } from "../manifests/command.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import { type Rescue, rescuedEtcd, rescuedLog } from "../node/rescue-folder.ts";
import { lastRestore, movedHere } from "../node/words.ts";
import type { PodSpec } from "../objects/objects.ts";
import { CONFIG_FIRST, opened, SealedFail, sealedIn } from "../objects/stored.ts";
import { orUndefined } from "../pki/certificate.ts";
import type { EtcdClientFiles } from "../pki/certs.ts";
import { shell } from "../shell-line.ts";
import { readYaml } from "../yaml.ts";
import { withControlPlanes, withMoved, withNodeNames } from "./reach-etcd.ts";

export interface EtcdFolders {
  dir: string;
  /** etcd's --wal-dir; undefined: the log is in member/wal. */
  wal: string | undefined;
  /**
   * This node's API server, as its manifest or the runtime has it: it names the configuration that opens
   * encrypted values.
   */
  apiServer?: { spec: PodSpec } | undefined;
  /** Etcd on other machines: its data, in the place of folders. `dir` is then its address. */
  living?: LivingEtcd;
  unreached?: Fail;
  /** The data here is of a member that a worker hosts: nothing of it is this node's. */
  isHosted?: true;
}

export interface LivingEtcd extends EtcdClientFiles {
  endpoint: string;
  /** Its snapshot, as a path of this machine, and bytes. */
  file: string;
  size: number;
  about: SnapshotOf;
}

/** Whether etcd's data can be read here, from a folder or from other machines. */
export function isKnown({
  dir,
  living,
  isHosted,
}: Pick<EtcdFolders, "dir" | "living" | "isHosted">): boolean {
  return living !== undefined || (!isHosted && exists(dir));
}

/**
 * The data folder of a static pod of etcd: its container's flags or variables, through its mounts, as a path
 * of this host.
 */
export function foldersOfPod({ spec }: { spec: PodSpec }): EtcdFolders | undefined {
  const own = mainContainer({ spec });
  const files = own ? hostFiles({ spec: { ...spec, initContainers: [], containers: [own] } }) : [];
  const at = (...names: string[]) => files.find(({ namedBy }) => names.includes(namedBy))?.path;
  const dir = at("--data-dir", "env ETCD_DATA_DIR");
  return dir === undefined ? undefined : { dir, wal: at("--wal-dir", "env ETCD_WAL_DIR") };
}

/** Opens encrypted values if the configuration for them is here. Errors: as `readEtcdData`. */
export function readFolders({ dir, wal, living, apiServer }: EtcdFolders): EtcdData {
  const stored = living
    ? Object.assign(readSnapshotData(living.file), living.about)
    : readEtcdData(hostPath(dir), wal && hostPath(wal));
  return asSeen(stored, apiServer);
}

function asSeen(read: EtcdData, apiServer: EtcdFolders["apiServer"]): EtcdData {
  const data = withDecryption(read, apiServer);
  const named = data.elsewhere ? withControlPlanes : withNodeNames;
  const renamed = named(withMoved(data, movedHere()));
  // the members before restore.ts were control plane nodes
  const former = lastRestore()?.members ?? [];
  return former.length > 0 ? Object.create(renamed, { formerMembers: { value: former } }) : renamed;
}

/** The copy from the beginning of a repair. Errors: as `readEtcdData`. */
export function readRescued(rescue: Rescue, apiServer: EtcdFolders["apiServer"]): EtcdData {
  const [dir, wal] = [rescuedEtcd(rescue), rescuedLog(rescue)];
  if (exists(`${dir}/${SNAPSHOT}`)) return asSeen(readCopied(dir), apiServer);
  return readFolders({ dir, wal: exists(wal) ? wal : undefined, apiServer });
}

/** The copy of an etcd that ran on: its snapshot, and beside it what no snapshot has. */
export const SNAPSHOT = "snapshot.db";
export const SNAPSHOT_OF = "members.json";
export type SnapshotOf = Pick<EtcdData, "clusterId" | "memberId" | "members" | "elsewhere">;

function readCopied(dir: string): EtcdData {
  return Object.assign(
    readSnapshotData(hostPath(`${dir}/${SNAPSHOT}`)),
    readKeptJson<SnapshotOf>(`${dir}/${SNAPSHOT_OF}`),
  );
}

/** Parts of etcd's data that a link may put on a disk of their own; "" is all of it. */
const PARTS = ["", "/member", "/member/snap", "/member/snap/db", "/member/wal"];

/**
 * Whether a rescue folder holds a link to the current data instead of a copy: then it does not show the old
 * data.
 */
export function linksToCurrentData(rescue: Rescue, { dir, wal }: EtcdFolders): boolean {
  const isSame = (a: string, b: string) => exists(a) && keyOf(a) === keyOf(b);
  return (
    PARTS.some((part) => isSame(`${rescuedEtcd(rescue)}${part}`, `${dir}${part}`)) ||
    (wal !== undefined && isSame(rescuedLog(rescue), wal))
  );
}

/** Whether a member's data is there. A folder that only root may list may have some. */
export function holdsData({ dir }: EtcdFolders): boolean {
  const found = attempt(() => exists(`${dir}/member/snap`));
  return found instanceof Fail || found;
}

/** The same key for a folder under two names, by a link or a mount. */
export function keyOf(dir: string): string {
  const info = attempt(() => tryFile("look at", dir, () => statSync(hostPath(dir))));
  return info instanceof Fail || !info ? dir.replace(/(?<!\/)\/+$/, "") : `${info.dev}:${info.ino}`;
}

const FLAG = "--encryption-provider-config";
const FOLDER = "/etc/kubernetes";

type ApiServer = { spec: PodSpec } | undefined;

/** `apiServer`: this node's. Values that no configuration here opens stay encrypted. */
export function withDecryption(data: EtcdData, apiServer?: ApiServer): EtcdData {
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
  // the original's fields change when it reads the directory again, so they are not copied
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

/** No configuration of this node opens etcd's data; it has to be at each of these paths. */
export class ConfigMissing extends Fail {
  readonly paths: readonly string[];

  constructor(fail: Fail, hint: string, paths: readonly string[]) {
    super(fail.message, { hint, cause: fail });
    this.paths = paths;
  }
}

/** Adds the path at which the configuration has to be. `etcd`: the data and this node's API server. */
export function withHintAboutFolder(
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
  return new ConfigMissing(fail, hint, paths);
}

const copied = (path: string) => shell`scp -p root@NODE:${path} ${path}`;

const NO_PATH = `Nothing here names its path. So put it anywhere below ${FOLDER}; when it is read, the right path is known, and 00-assess says it`;

function configsFor(data: EtcdData, apiServer: ApiServer): unknown[] {
  const named = pathsOf(data, apiServer);
  const paths = named.length > 0 ? named : maybeConfigs(FOLDER);
  return paths.flatMap((path) => orUndefined(() => readYaml(smallText(path) ?? "")) ?? []);
}

/** Depth of the search below the folder. */
const DEPTH = 5;

/** Files that look like one by their text. */
function maybeConfigs(folder: string, depth = DEPTH): string[] {
  return list(folder).flatMap((name) => {
    const path = `${folder}/${name}`;
    const info = attempt(() => stat(path));
    if (info instanceof Fail || !info) return [];
    if (info.kind === "dir") return depth > 0 ? maybeConfigs(path, depth - 1) : [];
    return /\bEncryptionConfig(uration)?\b/.test(smallText(path) ?? "") ? [path] : [];
  });
}

/** Its paths in the API servers' flags, this node's first, each once. Mirror pods that cannot be read name none. */
function pathsOf(data: EtcdData, apiServer: ApiServer): string[] {
  const mirrors = believedNames(data).flatMap((node) => attempt(() => findMirrorPods(data, node), []));
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
