/**
 * Proof that an EncryptionConfiguration is the one that etcd's data was encrypted with: it opens a value. Formats: apiserver
 * pkg/storage/value/encrypt, `k8s:enc:PROVIDER:v1:KEY:` and then aescbc: IV and PKCS#7 blocks; aesgcm: nonce, data and tag, bound to the etcd key.
 */
import { createDecipheriv } from "node:crypto";
import type { EtcdData } from "../etcd/data.ts";
import { Fail } from "../fail.ts";
import { attempt } from "../pki/verdicts.ts";

export interface EncryptionConfiguration {
  resources?: { resources?: string[]; providers?: Record<string, Provider | undefined>[] }[];
}

interface Provider {
  keys?: { name?: string; secret?: string }[];
}

interface Sealed {
  etcdKey: string;
  provider: string;
  keyName: string;
  bytes: Buffer;
}

const PREFIX = /^k8s:enc:([a-z]+):v1:([^:]+):/;

type Open = (key: Buffer, sealed: Sealed) => Buffer;

const OPENERS: Record<string, Open> = { aescbc: openCbc, aesgcm: openGcm };

/** "opens": a value of each key in use was opened. "names": it has keys of their names, of a provider that cannot be tried here. */
export type Proof = "opens" | "names" | "does not fit";

/** How a configuration stands to what is in etcd. Nothing encrypted there: undefined, as nothing can be proved. */
export function proveEncryption(config: EncryptionConfiguration, data: EtcdData): Proof | undefined {
  const samples = sealedIn(data);
  if (samples.length === 0) return undefined;
  const proofs = samples.map((sealed) => proofOf(config, sealed));
  return proofs.find((proof) => proof === "does not fit") ?? proofs.find((proof) => proof === "names") ?? "opens";
}

/** One value of each provider and key. */
function sealedIn(data: EtcdData): Sealed[] {
  const samples = new Map<string, Sealed>();
  for (const { key, value } of data.list("/")) {
    const [prefix, provider, keyName] = PREFIX.exec(Buffer.from(value.subarray(0, 300)).toString("latin1")) ?? [];
    if (prefix && !samples.has(prefix))
      samples.set(prefix, { etcdKey: key, provider: provider!, keyName: keyName!, bytes: Buffer.from(value.subarray(prefix.length)) });
  }
  return [...samples.values()];
}

function proofOf({ resources = [] }: EncryptionConfiguration, sealed: Sealed): Proof {
  const providers = resources.flatMap(({ providers = [] }) => providers.flatMap((one) => one[sealed.provider] ?? []));
  const keys = providers.flatMap(({ keys = [] }) => keys).filter(({ name }) => name === sealed.keyName);
  const open = OPENERS[sealed.provider];
  if (!open) return keys.length > 0 || providers.length > 0 ? "names" : "does not fit";
  return keys.some(({ secret = "" }) => opens(open, Buffer.from(secret, "base64"), sealed)) ? "opens" : "does not fit";
}

/** What comes out is an object as the API server stores it: protobuf with its magic, or JSON. */
function opens(open: Open, key: Buffer, sealed: Sealed): boolean {
  const plain = attempt(() => opened(open, key, sealed));
  return !(plain instanceof Fail) && /^(k8s\0|\{)/.test(plain.subarray(0, 4).toString("latin1"));
}

function opened(open: Open, key: Buffer, sealed: Sealed): Buffer {
  try {
    return open(key, sealed);
  } catch (cause) {
    throw new Fail("The key does not open the value", { hint: "another generation of the configuration", cause });
  }
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
