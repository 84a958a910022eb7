/**
 * Rung 1: lost keys in what others keep of them. Cluster API has the shared keys of each of its clusters in
 * the Secrets CLUSTER-ca, -sa, -etcd and -proxy (its util/secret, consts.go); those of a cluster that manages
 * itself are in that cluster's own etcd. And the operator may have a folder of copies, or a snapshot of this
 * disk. Whoever could write there could write any key: a key counts only by a known public half.
 *
 * `kubeadm init --upload-certs` puts the shared keys into the Secret kube-system/kubeadm-certs for two hours,
 * encrypted with a certificate key that only its terminal ever showed. Each value is AES-GCM: nonce 12 |
 * ciphertext | tag 16 (kubeadm's app/phases/copycerts, app/util/crypto).
 */
import { command } from "../again.ts";
import { type Budget, budgetOf } from "../budget.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail, failOf } from "../fail.ts";
import { filesBelow } from "../files/file-tree.ts";
import { exists, list, stat } from "../files/files.ts";
import { secretIn } from "../files/operator-files.ts";
import { smallText } from "../files/untrusted-file.ts";
import type { Secret } from "../objects/objects.ts";
import { decodeObject, isObject } from "../objects/storage.ts";
import { openAesGcm, readSeal, registryPrefix } from "../objects/stored.ts";
import { keyMatches, privateKeyOf, privateKeysIn } from "../pki/certificate.ts";
import { SHARED_FILES } from "../pki/certs.ts";
import { formatNumber } from "../progress.ts";
import { ask } from "../prompt.ts";
import { say } from "../run.ts";
import type { FoundKeys } from "./found-keys.ts";

/** Files, and folders in each other, that are looked into in a folder of copies. */
const MOST_FILES = 20_000;
const DEEPEST = 12;

/**
 * All Secrets of all namespaces that can be read. Says what was found. Errors: Fail where the budget is spent: a tenant
 * may have made any number of keys.
 */
export async function searchSecrets(
  foundKeys: FoundKeys,
  data: EtcdData | undefined,
  { stop, budget = budgetOf("the Secrets of etcd's data", ELSEWHERE, stop) }: Bounds = {},
) {
  const prefix = data && attempt(() => `${registryPrefix(data)}/secrets/`);
  if (!data || prefix === undefined || prefix instanceof Fail || foundKeys.missing().length === 0) return;
  let [found, sealed] = [0, 0];
  for (const { key, value } of data.list(prefix)) {
    if (!mayHoldKey(value)) continue;
    await budget.askAndListen();
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
  if (found === 0) say("Secrets in etcd's data: no readable Secret has a lost key");
}

interface Bounds {
  stop?: AbortSignal | undefined;
  budget?: Budget;
}

const ELSEWHERE = `look for the keys in other places: ${command("00-salvage")} --help`;

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

/** Every file below the folder, but nothing behind links; says what is left out. Errors: Fail if it is no folder. */
export async function searchFolder(
  foundKeys: FoundKeys,
  folder: string,
  { stop, budget = budgetOf(folder, SMALLER, stop) }: Bounds = {},
) {
  if (stat(folder)?.kind !== "dir")
    throw new Fail(`"${folder}" is no folder`, { hint: "give the folder with your copies: --backup DIR" });
  let [found, files] = [0, 0];
  const ended = await failOf(async () => {
    for (const path of filesBelow(folder, DEEPEST)) {
      if (files === MOST_FILES) throw tooMany(folder);
      await budget.askAndListen();
      files++;
      const text = attempt(() => smallText(path));
      if (typeof text === "string") found += takeKeys(foundKeys, [text], `your copy ${path}`);
    }
  });
  say(`${folder}: files: ${formatNumber(files)}, lost keys among them: ${formatNumber(found)}`);
  if (ended) say(`warning: ${ended.message}; ${ended.hint}`);
}

const SMALLER = "name a folder in it that has pki/: --backup DIR";

function tooMany(folder: string): Fail {
  return new Fail(`${folder} has more than ${MOST_FILES} files: the others are not read`, { hint: SMALLER });
}

function takeKeys(foundKeys: FoundKeys, texts: readonly string[], from: string): number {
  return texts.flatMap(privateKeysIn).filter((key) => foundKeys.accept(key, from)).length;
}

/** Each by the path that stands for its "/". The newest first. */
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
 * The one in etcd's data; after it was deleted, its last version, as long as etcd's history has it. Errors: Fail if
 * it is encrypted at rest.
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

const NONCE = 12;
const TAG = 16;

interface SecretOptions {
  keyFile: string | undefined;
  mayAsk: boolean;
  /** The way on where nobody has the certificate key. */
  otherwise: string;
}

/**
 * Each key is proved by the public keys that the cluster knows. It mostly knows none of etcd's CA: there the
 * certificate in the Secret proves the key beside it. Returns whether the Secret was opened. Errors: Fail
 * if the certificate key does not open it, or is none.
 */
export function openSecret(
  foundKeys: FoundKeys,
  data: EtcdData | undefined,
  options: SecretOptions,
): boolean {
  const secret = data && findKubeadmCerts(data);
  const certificateKey = secret && certificateKeyOf(options);
  if (!secret || certificateKey === undefined) {
    say(
      secret
        ? "the Secret is there: ./bunw scripts/00-salvage.ts secret decrypts it with its certificate key"
        : "the Secret is not in etcd's data: kubeadm keeps it there for two hours",
    );
    return false;
  }
  const from = "the Secret kubeadm-certs";
  const files = openKubeadmCerts(secret, certificateKey);
  const taken = foundKeys.missing().filter(({ name, keyFile, publicFile }) => {
    const [key, publicText] = [files.get(keyFile), files.get(publicFile)];
    if (key && publicText && keyMatches(publicText, key))
      foundKeys.learn(name, publicText, "the certificate beside it");
    return key !== undefined && foundKeys.accept(privateKeyOf(key), from);
  });
  if (taken.length === 0) say("the Secret opens, and holds none of the lost keys");
  return true;
}

function certificateKeyOf({ keyFile, mayAsk, otherwise }: SecretOptions): string | undefined {
  if (keyFile !== undefined) return secretIn(keyFile);
  if (!mayAsk) return undefined;
  const answer = attempt(() => ask("Certificate key: "));
  if (!(answer instanceof Fail)) return answer;
  throw new Fail("No certificate key was given for the Secret kubeadm-certs", {
    hint: `give --certificate-key-file FILE. Or run this script in a terminal (ssh -t) and type the key. If nobody has the key: ${otherwise}`,
    cause: answer,
  });
}

/**
 * Their names below pki/, without those that kubeadm did not have. Errors: Fail where the key does not open it.
 */
function openKubeadmCerts(secret: Secret, certificateKey: string): Map<string, string> {
  const key = keyBytes(certificateKey);
  const files = new Map<string, string>();
  for (const name of SHARED_FILES) {
    const sealed = Buffer.from(secret.data?.[name.replace("/", "-")] ?? "", "base64");
    if (sealed.length > NONCE + TAG) files.set(name, decrypt(sealed, key, name));
  }
  return files;
}

/** 16, 24 or 32 bytes, as kubeadm takes them: AES-128, AES-192 or AES-256. */
function keyBytes(text: string): Buffer {
  const hex = text.trim();
  if (!/^([0-9a-f]{32}|[0-9a-f]{48}|[0-9a-f]{64})$/i.test(hex))
    throw new Fail("This is not a certificate key", {
      hint: "give the key that kubeadm init --upload-certs printed: 64 characters of 0-9 and a-f",
    });
  return Buffer.from(hex, "hex");
}

function decrypt(sealed: Buffer, key: Buffer, name: string): string {
  try {
    return openAesGcm(key, sealed).toString("utf8");
  } catch (cause) {
    throw new Fail(`The certificate key does not open ${name} of the Secret kubeadm-certs`, {
      hint: "look for the newest one, as each upload makes a new certificate key: into the shell's history, and into the logs of your automation",
      cause,
    });
  }
}
