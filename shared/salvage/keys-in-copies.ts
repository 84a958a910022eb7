/**
 * Rung 1: lost keys in what others keep of them. Cluster API has the shared keys of each of its clusters in
 * the Secrets CLUSTER-ca, -sa, -etcd and -proxy (its util/secret, consts.go); those of a cluster that manages
 * itself are in that cluster's own etcd. And the operator may have a folder of copies, or a snapshot of this
 * disk. Whoever could write there could write any key: a key counts only by a known public half.
 */

import { join } from "node:path";
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { isLink } from "../files/copy-tree.ts";
import { exists, list, stat } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import type { Secret } from "../objects/objects.ts";
import { decodeObject, isObject } from "../objects/storage.ts";
import { readSeal, registryPrefix } from "../objects/stored.ts";
import { privateKeysIn } from "../pki/certificate.ts";
import { count } from "../progress.ts";
import { say } from "../run.ts";
import type { FoundKeys } from "./found-keys.ts";

/** Files, and folders in each other, that are looked into in a folder of copies. */
const MOST_FILES = 20_000;
const DEEPEST = 12;

/** All Secrets of all namespaces that can be read. Says what was found. */
export function searchSecrets(foundKeys: FoundKeys, data: EtcdData | undefined) {
  const prefix = data && attempt(() => `${registryPrefix(data)}/secrets/`);
  if (!data || prefix === undefined || prefix instanceof Fail || foundKeys.missing().length === 0) return;
  let [found, sealed] = [0, 0];
  for (const { key, value } of data.list(prefix)) {
    if (!mayHoldKey(value)) continue;
    const decoded = attempt(() => decodeObject(value));
    if (decoded instanceof Fail) continue;
    if ("encrypted" in decoded) sealed++;
    else if (isObject(decoded)) {
      const values = Object.values((decoded as Secret).data ?? {});
      const texts = values.map((value) => Buffer.from(value, "base64").toString("latin1"));
      found += takeKeys(foundKeys, texts, `${IN_SECRETS} ${key.slice(prefix.length)}`);
    }
  }
  if (sealed > 0) say(`Secrets in etcd's data: ${sealed} are encrypted at rest: not read`);
  if (found === 0) say("Secrets in etcd's data: none of them has a lost key");
}

/**
 * Whether a stored Secret may hold a private key, or is encrypted: most are much larger (releases of Helm),
 * and hold none, so they are not decoded. The API server stores bytes as they are; in JSON
 * (--storage-media-type) they are base64, which has three ways to write what is in the middle.
 */
export function mayHoldKey(value: Uint8Array): boolean {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return bytes.subarray(0, SEALED.length).equals(SEALED) || MARKS.some((mark) => bytes.includes(mark));
}

const SEALED = Buffer.from("k8s:enc:");
const MARK = "PRIVATE KEY-----";
const MARKS = [MARK, ...[0, 1, 2].map((before) => inBase64(MARK, before))];

/** The base64 of a text `before` bytes after a multiple of three: all but the letters that its neighbours change. */
function inBase64(text: string, before: number): string {
  const whole = Math.ceil(before / 3) * 3 - before;
  const rest = text.slice(whole);
  return Buffer.from(rest.slice(0, Math.floor(rest.length / 3) * 3)).toString("base64");
}

/** The place of a find in a Secret, in words. */
export const IN_SECRETS = "the Secret";

/** Every file below the folder, but nothing behind links. Errors: Fail if it is no folder. */
export function searchFolder(foundKeys: FoundKeys, folder: string) {
  if (stat(folder)?.kind !== "dir")
    throw new Fail(`"${folder}" is no folder`, { hint: "give the folder with your copies: --backup DIR" });
  let [found, files] = [0, 0];
  for (const path of filesBelow(folder, DEEPEST)) {
    if (++files > MOST_FILES)
      return say(`${folder}: more than ${MOST_FILES} files: name a folder in it that has pki/`);
    const text = attempt(() => smallText(path));
    if (typeof text === "string") found += takeKeys(foundKeys, [text], `your copy ${path}`);
  }
  say(`${folder}: files: ${count(files)}, lost keys among them: ${count(found)}`);
}

function* filesBelow(folder: string, deep: number): Generator<string> {
  for (const name of list(folder)) {
    const path = join(folder, name);
    if (isLink(path)) continue;
    const kind = stat(path)?.kind;
    if (kind === "file") yield path;
    else if (kind === "dir" && deep > 0) yield* filesBelow(path, deep - 1);
  }
}

/** How many of them were lost keys. */
function takeKeys(foundKeys: FoundKeys, texts: readonly string[], from: string): number {
  return texts.flatMap(privateKeysIn).filter((key) => foundKeys.accept(key, from)).length;
}

/**
 * Snapshots of this disk that still have a CA's or the service-account key, each by the path that stands for
 * its "/". The newest first.
 */
export function snapshotsWith(certificatesDir: string): string[] {
  const deployments = list("/ostree/deploy").flatMap((os) =>
    list(`/ostree/deploy/${os}/deploy`).map((one) => `/ostree/deploy/${os}/deploy/${one}`),
  );
  const snapper = list("/.snapshots").map((number) => `/.snapshots/${number}/snapshot`);
  const newestFirst = snapper.sort((a, b) => b.localeCompare(a, "en", { numeric: true }));
  return [...newestFirst, ...deployments].filter(
    (root) => exists(`${root}${certificatesDir}/ca.key`) || exists(`${root}${certificatesDir}/sa.key`),
  );
}

/**
 * kubeadm's own Secret with the shared keys, in etcd's data; after it was deleted, its last version, as long as etcd's
 * history has it. Errors: Fail if it is encrypted at rest.
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
