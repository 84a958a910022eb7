/**
 * Reads and decrypts the Secret kube-system/kubeadm-certs. `kubeadm init --upload-certs` puts the shared keys there for two hours,
 * encrypted with a certificate key that only its terminal ever showed. Each value is AES-GCM: nonce 12 | ciphertext | tag 16 (kubeadm's
 * app/phases/copycerts, app/util/crypto).
 */
import { createDecipheriv } from "node:crypto";
import type { EtcdData } from "../etcd-data/data.ts";
import { Fail } from "../fail.ts";
import type { Secret } from "../k8s/objects.ts";
import { decodeObject, isObject } from "../k8s/storage.ts";
import { registryPrefix } from "../k8s/stored.ts";
import { SHARED_FILES } from "../pki/certs.ts";

const NONCE = 12;
const TAG = 16;

/** The Secret; after it was deleted, its last version, as long as etcd's history has it. Errors: Fail where it is encrypted at rest. */
export function findKubeadmCerts(data: EtcdData): Secret | undefined {
  const key = `${registryPrefix(data)}/secrets/kube-system/kubeadm-certs`;
  const last = data.history(key).find(({ deleted }) => !deleted);
  const decoded = last && decodeObject(last.value);
  if (!decoded || isObject(decoded)) return decoded;
  const why = "encrypted" in decoded ? `it is encrypted at rest (${decoded.encrypted})` : "it is of an unknown kind";
  throw new Fail(`The Secret kubeadm-certs cannot be read: ${why}`, {
    hint: "put the EncryptionConfiguration back first, or look for the keys in other places: ./bunw scripts/00-salvage.ts --help",
  });
}

/** Its decrypted files by their names below pki/, without those that kubeadm did not have. Errors: Fail where the key does not open it. */
export function openKubeadmCerts(secret: Secret, certificateKey: string): Map<string, string> {
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
      hint: "it has 64 characters of 0-9 and a-f, as kubeadm init --upload-certs printed it",
    });
  return Buffer.from(hex, "hex");
}

function decrypt(sealed: Buffer, key: Buffer, name: string): string {
  const cipher = createDecipheriv(`aes-${key.length * 8}-gcm` as "aes-256-gcm", key, sealed.subarray(0, NONCE));
  cipher.setAuthTag(sealed.subarray(-TAG));
  try {
    return Buffer.concat([cipher.update(sealed.subarray(NONCE, -TAG)), cipher.final()]).toString("utf8");
  } catch (cause) {
    throw new Fail(`The certificate key does not open ${name} of the Secret kubeadm-certs`, {
      hint: "each upload makes a new certificate key: is this the newest one? Look into the shell's history, and into the logs of your automation",
      cause,
    });
  }
}
