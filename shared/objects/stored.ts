/**
 * Reads objects from etcd's data by their place in the API server: `configmaps/kube-system/kubeadm-config`,
 * `minions/`.
 *
 * Values that the API server has encrypted at rest are opened with an EncryptionConfiguration. Formats:
 * apiserver pkg/storage/value/encrypt, `k8s:enc:PROVIDER:v1:KEY:` and then aescbc: IV and PKCS#7 blocks;
 * aesgcm: nonce, data and tag, bound to the etcd key; secretbox: nonce and box. A KMS plugin alone opens its
 * own values.
 */

import { createDecipheriv } from "node:crypto";
import { xsalsa20poly1305 } from "@noble/ciphers/salsa.js";
import { command } from "../again.ts";
import { type Budget, sharedBudget } from "../budget.ts";
import type { EtcdData, KeyValue } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { orUndefined } from "../pki/certificate.ts";
import { isMapping, listOf } from "../yaml.ts";
import { DAMAGED_VALUE, decodeObject, isCborMap } from "./storage.ts";

/** The ConfigMap with what aggregated API servers trust: the API servers' own. */
export const AGGREGATED_TRUST = "kube-system/extension-apiserver-authentication";

/** A value that the API server has encrypted, and that no configuration on this node opens. */
export class SealedFail extends Fail {
  /** The name of the key that sealed it; undefined if a KMS plugin did. */
  readonly keyName: string | undefined;

  /** `seal`: "secretbox:v1:key1", "kms:v2:vault". */
  constructor(etcdKey: string, seal: string) {
    const { byPlugin, name, words } = readSeal(seal);
    super(`Cannot read "${etcdKey}": ${words}`, {
      hint: byPlugin ? BY_HAND : `${CONFIG_FIRST}: scp -p root@NODE:FILE FILE`,
    });
    this.keyName = byPlugin ? undefined : name;
  }
}

/** The key or KMS plugin that opens this seal. */
export function readSeal(seal: string) {
  const [provider, , name = ""] = seal.split(":");
  const byPlugin = provider === "kms";
  return {
    byPlugin,
    name,
    words: `it is encrypted at rest (${seal})${byPlugin ? `, and only the KMS plugin "${name}" opens it` : ""}`,
  };
}

export const CONFIG_FIRST =
  "bring the EncryptionConfiguration back first, from a backup or another control plane node";

const BY_HAND = `bring lost keys back first. Then renew by hand, as this kit cannot read this cluster's facts: kubeadm init phase certs all --config FILE. RUNBOOK-MORE "If a KMS plugin has encrypted ConfigMaps" has all steps`;

/** Errors: Fail if it is encrypted, or is no such object. */
export function readObject<T>(data: EtcdData, path: string): T | undefined {
  const stored = data.get(`${registryPrefix(data)}/${path}`);
  return stored && (decodeStored(data, stored) as T);
}

/** One after the other, as all of them may not fit. Errors: as `readObject`; Spent where there are too many. */
export function readObjects<T>(
  data: EtcdData,
  path: string,
  budget = rowsBudget(data, path),
): IteratorObject<T, undefined> {
  return data.list(`${registryPrefix(data)}/${path}`).map((stored) => {
    budget.ask();
    return decodeStored(data, stored) as T;
  });
}

/** The limit of all readings of what is below this path: "pods/kube-system/". */
export function rowsBudget(data: EtcdData, path: string): Budget {
  return sharedBudget(data, `${path} in etcd's data`, FEWER);
}

const FEWER = `delete with kubectl what is too many there; or name data that has less: --etcd-data DIR; or go back: ${command("restore")} --help`;

/** Errors: as `readObject`. */
export function decodeStored(data: EtcdData, { key, value }: KeyValue): unknown {
  const object = attempt(() => decodeObject(value));
  if (object instanceof Fail)
    throw new Fail(`Cannot read "${key}": ${object.message}`, { hint: object.hint });
  if ("encrypted" in object) throw new SealedFail(key, object.encrypted);
  const wrong = "undecoded" in object ? object.undecoded : wrongField(object);
  if (wrong === undefined) return data.asToday(object);
  const reason = wrong ? `it is ${wrong}, which is not what belongs there` : `it is no object of Kubernetes`;
  throw new Fail(`Cannot read "${key}": ${reason} (${value.length} bytes)`, { hint: DAMAGED_VALUE });
}

/** Fields that code reads without a check, as every API server has checked them. */
function wrongField(object: object): string | undefined {
  const { metadata, ...rest } = object as Record<string, unknown>;
  const wrong = ["data", "spec", "status"].find(
    (name) => (rest[name] ?? undefined) !== undefined && !isMapping(rest[name]),
  );
  return !isMapping(metadata)
    ? "an object without metadata"
    : wrong && `an object whose ${wrong} has no fields`;
}

/** A ConfigMap's data; `of`: "kube-system/kubeadm-config". Undefined if there is none. Errors: as `readObject`. */
export function configMapIn(data: EtcdData, of: string): Record<string, string> | undefined {
  return readObject<{ data?: Record<string, string> }>(data, `configmaps/${of}`)?.data;
}

/** The API server's prefix of its objects, "/registry" unless --etcd-prefix says otherwise. */
export function registryPrefix(data: EtcdData): string {
  const suffix = "/namespaces/kube-system";
  if (data.get(`/registry${suffix}`)) return "/registry";
  // a namespace may be called "namespaces", and an object in it kube-system: such a key is longer
  const [key] = data
    .keys("")
    .filter((key) => key.endsWith(suffix))
    .sort((a, b) => a.length - b.length);
  if (key) return key.slice(0, -suffix.length);
  throw new Fail(
    `No Kubernetes cluster in this etcd data: none of its ${data.keyCount} keys ends in "${suffix}"`,
    {
      hint: "name the folder, if this machine has the cluster's data elsewhere: --etcd-data DIR. Or restore a snapshot. This data is a new etcd's, or another cluster's",
    },
  );
}

export interface Sealed {
  etcdKey: string;
  provider: string;
  keyName: string;
  bytes: Buffer;
}

/** KMS writes v1 or v2, all others v1. */
const PREFIX = /^k8s:enc:([a-z]+):v[12]:([^:]+):/;

const COLON = 0x3a;

/** The prefix of a value that is encrypted, from its first bytes; undefined if it is not. */
export function sealOf(head: Uint8Array): string | undefined {
  // protobuf begins with "k8s\0", JSON and CBOR with another byte
  return head[3] !== COLON
    ? undefined
    : PREFIX.exec(Buffer.from(head.subarray(0, 300)).toString("latin1"))?.[0];
}

export function sealedIn(etcdKey: string, value: Uint8Array): Sealed | undefined {
  const [prefix, provider, keyName] = PREFIX.exec(sealOf(value) ?? "") ?? [];
  return prefix
    ? { etcdKey, provider: provider!, keyName: keyName!, bytes: Buffer.from(value.subarray(prefix.length)) }
    : undefined;
}

type Open = (key: Buffer, sealed: Sealed) => Buffer;

const OPENERS: Record<string, Open> = {
  aescbc: openCbc,
  aesgcm: (key, { bytes, etcdKey }) => openAesGcm(key, bytes, etcdKey),
  secretbox: openBox,
};

/**
 * Most keys tried for one value. kube-apiserver's guide has a handful; a stranger may list very many, so that
 * one fits by chance.
 */
const MOST_KEYS = 64;

/** The unsealed object as the API server stores it; undefined if no key of the configuration opens it. */
export function opened(config: unknown, sealed: Sealed): Buffer | undefined {
  const open = Object.hasOwn(OPENERS, sealed.provider) ? OPENERS[sealed.provider] : undefined;
  if (!open) return undefined;
  const keys = providersOf(config).flatMap((provider) =>
    listOf(field(field(provider, sealed.provider), "keys")),
  );
  const named = keys.filter((key) => field(key, "name") === sealed.keyName).slice(0, MOST_KEYS);
  for (const key of named) {
    const plain = orUndefined(() => open(Buffer.from(String(field(key, "secret")), "base64"), sealed));
    if (plain !== undefined && isStored(plain)) return plain;
  }
  return undefined;
}

/** Only the plugin has the key: its name is all that a configuration can say. */
export function namesPlugin(config: unknown, { keyName }: Sealed): boolean {
  return providersOf(config).some((provider) => field(field(provider, "kms"), "name") === keyName);
}

/**
 * Whether new values of its resources would be stored in clear: the first provider writes. A single
 * `identity` excludes a resource.
 */
export function writesCleartext(config: unknown): boolean {
  const ofEach = listOf(field(config, "resources")).map((resource) => listOf(field(resource, "providers")));
  return ofEach.some(
    (providers) => providers.length > 1 && isMapping(providers[0]) && Object.hasOwn(providers[0], "identity"),
  );
}

/** The key of new values, for the operator: "aescbc key2". */
export function writerIn(config: unknown): string {
  const [first] = providersOf(config).filter(isMapping);
  const [name = "nothing"] = Object.keys(first ?? {});
  const key = field(listOf(field(field(first, name), "keys"))[0], "name");
  return typeof key === "string" ? `${name} ${key}` : name;
}

function providersOf(config: unknown): unknown[] {
  return listOf(field(config, "resources")).flatMap((resource) => listOf(field(resource, "providers")));
}

function field(value: unknown, name: string): unknown {
  return isMapping(value) && Object.hasOwn(value, name) ? value[name] : undefined;
}

/**
 * Whether it is protobuf, whole JSON or whole CBOR. aesgcm and secretbox open nothing with another key;
 * AES-CBC itself proves nothing, so the whole value has to be one.
 */
function isStored(plain: Buffer): boolean {
  const isProtobuf =
    plain.toString("latin1", 0, 4) === "k8s\0" && !(attempt(() => decodeObject(plain)) instanceof Fail);
  return (
    isProtobuf ||
    isCborMap(plain) ||
    isMapping(orUndefined(() => JSON.parse(plain.toString("utf8")) as unknown))
  );
}

function openCbc(key: Buffer, { bytes }: Sealed): Buffer {
  const cipher = createDecipheriv(`aes-${key.length * 8}-cbc`, key, bytes.subarray(0, 16));
  return Buffer.concat([cipher.update(bytes.subarray(16)), cipher.final()]);
}

/** Nonce, data, tag. `bound`: covered by the tag, too. */
export function openAesGcm(key: Buffer, sealed: Uint8Array, bound = ""): Buffer {
  const cipher = createDecipheriv(`aes-${key.length * 8}-gcm` as "aes-256-gcm", key, sealed.subarray(0, 12));
  cipher.setAAD(Buffer.from(bound)).setAuthTag(sealed.subarray(-16));
  return Buffer.concat([cipher.update(sealed.subarray(12, -16)), cipher.final()]);
}

/** XSalsa20 and Poly1305, as NaCl's secretbox: nonce of 24 bytes, then tag and data. */
function openBox(key: Buffer, { bytes }: Sealed): Buffer {
  return Buffer.from(xsalsa20poly1305(key, bytes.subarray(0, 24)).decrypt(bytes.subarray(24)));
}
