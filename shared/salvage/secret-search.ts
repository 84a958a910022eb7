/**
 * Rung 1: searches the Secret kube-system/kubeadm-certs for the lost keys. `kubeadm init --upload-certs` puts
 * the shared keys there for two hours, encrypted with a certificate key that only its terminal ever showed.
 * Each value is AES-GCM: nonce 12 | ciphertext | tag 16 (kubeadm's app/phases/copycerts, app/util/crypto).
 */

import { createDecipheriv } from "node:crypto";
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { secretIn } from "../files/operator-files.ts";
import type { Secret } from "../objects/objects.ts";
import { keyMatches, privateKeyOf } from "../pki/certificate.ts";
import { SHARED_FILES } from "../pki/certs.ts";
import { ask } from "../prompt.ts";
import { say } from "../run.ts";
import type { FoundKeys } from "./found-keys.ts";
import { findKubeadmCerts } from "./keys-in-copies.ts";

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
        ? "the Secret is there: ./bunw scripts/00-salvage.ts secret opens it with its certificate key"
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
    hint: `give --certificate-key-file FILE. Or run this in a terminal (ssh -t) and type it. If nobody has it: ${otherwise}`,
    cause: answer,
  });
}

/**
 * Its decrypted files by their names below pki/, without those that kubeadm did not have. Errors: Fail where
 * the key does not open it.
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
  const cipher = createDecipheriv(
    `aes-${key.length * 8}-gcm` as "aes-256-gcm",
    key,
    sealed.subarray(0, NONCE),
  );
  cipher.setAuthTag(sealed.subarray(-TAG));
  try {
    return Buffer.concat([cipher.update(sealed.subarray(NONCE, -TAG)), cipher.final()]).toString("utf8");
  } catch (cause) {
    throw new Fail(`The certificate key does not open ${name} of the Secret kubeadm-certs`, {
      hint: "look for the newest one, as each upload makes a new certificate key: into the shell's history, and into the logs of your automation",
      cause,
    });
  }
}
