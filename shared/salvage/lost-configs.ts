/** Finds lost configuration files that the API server's flags name. kubeadm never made them, so only a copy brings them back. */
import { createDecipheriv } from "node:crypto";
import { xsalsa20poly1305 } from "@noble/ciphers/salsa.js";
import type { EtcdData } from "../etcd-data/data.ts";
import type { LostFile } from "../facts/lost-files.ts";
import { attempt, Fail } from "../fail.ts";
import { isCborMap } from "../k8s/cbor.ts";
import { decodeObject } from "../k8s/storage.ts";
import { orUndefined } from "../pki/certificate.ts";
import { readYaml } from "../yaml.ts";
import type { ConfigFind } from "./disk/finds.ts";
import { isMapping, listOf } from "./disk/yaml-document.ts";
import type { TextFind } from "./disk-search.ts";

/** What each flag's file holds. */
const KINDS: Record<string, readonly string[]> = {
  "--encryption-provider-config": ["EncryptionConfiguration", "EncryptionConfig"],
  "--audit-policy-file": ["Policy"],
  "--admission-control-config-file": ["AdmissionConfiguration"],
  "--authentication-config": ["AuthenticationConfiguration"],
  "--authorization-config": ["AuthorizationConfiguration"],
  "--egress-selector-config-file": ["EgressSelectorConfiguration"],
  "--tracing-config-file": ["TracingConfiguration"],
};

export interface LostConfig {
  /** On this node. */
  path: string;
  flag: string;
  kinds: readonly string[];
}

/** Those that a search of a disk knows by their kind. */
export function lostConfigs(files: readonly LostFile[]): LostConfig[] {
  return files.flatMap(({ path, namedBy }) => {
    const kinds = Object.hasOwn(KINDS, namedBy) ? KINDS[namedBy] : undefined;
    return kinds ? [{ path, flag: namedBy, kinds }] : [];
  });
}

/**
 * What was found for a lost file: the content that is proved, or all complete texts of its kind, which prove nothing. Everybody can lay out
 * such a file. Only an EncryptionConfiguration can be proved: it opens a value of each key that encrypted etcd's data; nobody else has these
 * keys. Of a KMS plugin it names the plugin; that alone proves nothing. Not proved where nothing is encrypted.
 */
export function chooseConfig({ kinds }: LostConfig, finds: readonly TextFind[], data: EtcdData | undefined) {
  const whole = finds.filter((find): find is ConfigFind => find.kind === "config" && kinds.includes(find.configKind) && find.complete);
  const versions = [...new Map(whole.map((find) => [find.text.trim(), find])).values()];
  const isProvable = data !== undefined && versions.length > 0 && kinds.includes("EncryptionConfiguration");
  const samples = isProvable ? sealedIn(data) : [];
  // parsing never fails here: `judge` has parsed the text before
  const proved = versions.find(({ text }) => samples.some(isTried) && opensAll(readYaml(text), samples));
  return { proved: proved?.text, unproved: proved ? [] : versions };
}

/** Whether an encryption configuration, of whatever origin, does not open what etcd's data holds. Errors: none; no YAML opens nothing. */
export function opensNothing({ kinds }: LostConfig, text: string, data: EtcdData | undefined): boolean {
  const samples = data !== undefined && kinds.includes("EncryptionConfiguration") ? sealedIn(data) : [];
  return (
    samples.length > 0 &&
    !opensAll(
      orUndefined(() => readYaml(text)),
      samples,
    )
  );
}

function opensAll(config: unknown, samples: readonly Sealed[]): boolean {
  return samples.every((sealed) => (isTried(sealed) ? isOpened(config, sealed) : namesPlugin(config, sealed)));
}

/** Whether it can be opened here: a KMS plugin keeps its key. */
function isTried({ provider }: Sealed): boolean {
  return provider !== "kms";
}

/**
 * A value of etcd's data that is encrypted at rest. Formats: apiserver pkg/storage/value/encrypt, `k8s:enc:PROVIDER:v1:KEY:` and then
 * aescbc: IV and PKCS#7 blocks; aesgcm: nonce, data and tag, bound to the etcd key; secretbox: nonce and box.
 */
interface Sealed {
  etcdKey: string;
  provider: string;
  keyName: string;
  bytes: Buffer;
}

/** KMS writes v1 or v2, all others v1. */
const PREFIX = /^k8s:enc:([a-z]+):v[12]:([^:]+):/;

type Open = (key: Buffer, sealed: Sealed) => Buffer;

const OPENERS: Record<string, Open> = { aescbc: openCbc, aesgcm: openGcm, secretbox: openBox };

/** One value of each provider and key. */
function sealedIn(data: EtcdData): Sealed[] {
  const samples = new Map<string, Sealed>();
  for (const etcdKey of data.keys("/")) {
    const head = Buffer.from(data.valueHead(etcdKey, 300) ?? []).toString("latin1");
    const [prefix, provider, keyName] = PREFIX.exec(head) ?? [];
    if (!prefix || samples.has(prefix)) continue;
    const bytes = Buffer.from(data.get(etcdKey)!.value.subarray(prefix.length));
    samples.set(prefix, { etcdKey, provider: provider!, keyName: keyName!, bytes });
  }
  return [...samples.values()];
}

/** Keys that are tried for one value. kube-apiserver's guide has a handful; a stranger may list very many, so that one fits by chance. */
const MOST_KEYS = 64;

function providersOf(config: unknown): unknown[] {
  return listOf(field(config, "resources")).flatMap((resource) => listOf(field(resource, "providers")));
}

/** Only the plugin has the key: its name is all that a configuration can say. */
function namesPlugin(config: unknown, { keyName }: Sealed): boolean {
  return providersOf(config).some((provider) => field(field(provider, "kms"), "name") === keyName);
}

function isOpened(config: unknown, sealed: Sealed): boolean {
  const open = Object.hasOwn(OPENERS, sealed.provider) ? OPENERS[sealed.provider] : undefined;
  const keys = providersOf(config).flatMap((provider) => listOf(field(field(provider, sealed.provider), "keys")));
  const named = keys.filter((key) => field(key, "name") === sealed.keyName).slice(0, MOST_KEYS);
  return open !== undefined && named.some((key) => opens(open, Buffer.from(String(field(key, "secret")), "base64"), sealed));
}

function field(value: unknown, name: string): unknown {
  return isMapping(value) && Object.hasOwn(value, name) ? value[name] : undefined;
}

/**
 * An opened value is an object as the API server stores it: protobuf, whole JSON or whole CBOR. aesgcm and secretbox open nothing with
 * another key; AES-CBC itself proves nothing, so all of the value has to be one.
 */
function opens(open: Open, key: Buffer, sealed: Sealed): boolean {
  const plain = orUndefined(() => open(key, sealed));
  if (plain === undefined) return false;
  const isProtobuf = plain.toString("latin1", 0, 4) === "k8s\0" && !(attempt(() => decodeObject(plain)) instanceof Fail);
  return isProtobuf || isCborMap(plain) || isMapping(orUndefined(() => JSON.parse(plain.toString("utf8")) as unknown));
}

function openCbc(key: Buffer, { bytes }: Sealed): Buffer {
  const cipher = createDecipheriv(`aes-${key.length * 8}-cbc`, key, bytes.subarray(0, 16));
  return Buffer.concat([cipher.update(bytes.subarray(16)), cipher.final()]);
}

function openGcm(key: Buffer, { bytes, etcdKey }: Sealed): Buffer {
  const [nonce, body, tag] = [bytes.subarray(0, 12), bytes.subarray(12, -16), bytes.subarray(-16)];
  const cipher = createDecipheriv(`aes-${key.length * 8}-gcm` as "aes-256-gcm", key, nonce);
  cipher.setAAD(Buffer.from(etcdKey)).setAuthTag(tag);
  return Buffer.concat([cipher.update(body), cipher.final()]);
}

/** XSalsa20 and Poly1305, as NaCl's secretbox: nonce of 24 bytes, then tag and data. */
function openBox(key: Buffer, { bytes }: Sealed): Buffer {
  return Buffer.from(xsalsa20poly1305(key, bytes.subarray(0, 24)).decrypt(bytes.subarray(24)));
}
