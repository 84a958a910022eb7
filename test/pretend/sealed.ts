/**
 * Values as the API server encrypts them at rest (apiserver pkg/storage/value/encrypt), and the configuration
 * that opens them.
 */
import { createCipheriv, randomBytes } from "node:crypto";
import { xsalsa20poly1305 } from "@noble/ciphers/salsa.js";

type Seal = (plain: Buffer, key: Buffer, etcdKey: string) => Buffer;

export const SEALS: Record<string, Seal> = {
  aescbc: (plain, key) => {
    const iv = randomBytes(16);
    const cipher = createCipheriv("aes-256-cbc", key, iv);
    return Buffer.concat([iv, cipher.update(plain), cipher.final()]);
  },
  aesgcm: (plain, key, etcdKey) => {
    const nonce = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(Buffer.from(etcdKey));
    return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  },
  secretbox: (plain, key) => {
    const nonce = randomBytes(24);
    return Buffer.concat([nonce, xsalsa20poly1305(key, nonce).encrypt(plain)]);
  },
};

/** The key's name is "key1". */
export function sealed(provider: string, plain: Buffer, key: Buffer, etcdKey: string): Uint8Array {
  return Buffer.concat([Buffer.from(`k8s:enc:${provider}:v1:key1:`), SEALS[provider]!(plain, key, etcdKey)]);
}

export function encryptionConfig(provider: string, key: Buffer): string {
  const keys = `[{name: key1, secret: ${key.toString("base64")}}]`;
  return `kind: EncryptionConfiguration\nresources: [{providers: [{${provider}: {keys: ${keys}}}, {kms: {name: vault}}]}]\n`;
}
