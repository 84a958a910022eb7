/** Rung 1: searches the Secret kubeadm-certs for the lost keys. */
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { secretIn } from "../files/operator-files.ts";
import { keyMatches, privateKeyOf } from "../pki/certificate.ts";
import { ask } from "../prompt.ts";
import { say } from "../run.ts";
import type { FoundKeys } from "./found-keys.ts";
import { findKubeadmCerts, openKubeadmCerts } from "./kubeadm-certs.ts";

interface SecretOptions {
  keyFile: string | undefined;
  mayAsk: boolean;
  /** The way on where nobody has the certificate key. */
  otherwise: string;
}

/**
 * Each key is proved by what is known of the cluster. Of etcd's CA mostly nothing is known: there the certificate in the Secret proves the
 * key beside it. Returns whether the Secret was opened. Errors: Fail where the certificate key does not open it, or is none.
 */
export function openSecret(foundKeys: FoundKeys, data: EtcdData | undefined, options: SecretOptions): boolean {
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
    if (key && publicText && keyMatches(publicText, key)) foundKeys.learn(name, publicText, "the certificate beside it");
    return key !== undefined && foundKeys.accept(privateKeyOf(key), from);
  });
  if (taken.length === 0) say("the Secret opens, and holds none of the lost keys");
  return true;
}

function certificateKeyOf({ keyFile, mayAsk, otherwise }: SecretOptions): string | undefined {
  if (keyFile !== undefined) return secretIn(keyFile);
  const given = process.env.KUBE_PKI_REPAIR_CERTIFICATE_KEY;
  if (given || !mayAsk) return given;
  const answer = attempt(() => ask("Certificate key: "));
  if (!(answer instanceof Fail)) return answer;
  throw new Fail("No certificate key was given for the Secret kubeadm-certs", {
    hint: `give --certificate-key-file FILE, or run this in a terminal (ssh -t) and type it; if nobody has it: ${otherwise}`,
    cause: answer,
  });
}
