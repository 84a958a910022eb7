/** Rung 1: what the Secret kubeadm-certs brings to a haul. */
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { secretIn } from "../files/operator-files.ts";
import { keyMatches, privateKeyOf } from "../pki/certificate.ts";
import { ask } from "../prompt.ts";
import { say } from "../run.ts";
import type { FoundKeys } from "./found-keys.ts";
import { findKubeadmCerts, openKubeadmCerts } from "./kubeadm-certs.ts";

/**
 * A key proves itself by what is known of the cluster; that of etcd's CA, of which mostly nothing is, by the certificate that lies beside it.
 * Returns whether it was opened. Errors: Fail where the certificate key does not open it, or is none.
 */
export function openSecret(
  foundKeys: FoundKeys,
  data: EtcdData | undefined,
  options: { keyFile: string | undefined; mayAsk: boolean },
): boolean {
  const secret = data && findKubeadmCerts(data);
  const certificateKey = secret && certificateKeyOf(options);
  if (!secret || certificateKey === undefined) {
    say(
      secret
        ? "it is there: ./bunw scripts/00-salvage.ts secret opens it with its certificate key"
        : "it is not in etcd's data: kubeadm leaves it there for two hours",
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
  if (taken.length === 0) say("it opens, and holds none of the lost keys");
  return true;
}

function certificateKeyOf({ keyFile, mayAsk }: { keyFile: string | undefined; mayAsk: boolean }): string | undefined {
  if (keyFile !== undefined) return secretIn(keyFile);
  const given = process.env.KUBE_PKI_REPAIR_CERTIFICATE_KEY;
  if (given || !mayAsk) return given;
  const answer = attempt(() => ask("Certificate key: "));
  if (!(answer instanceof Fail)) return answer;
  throw new Fail("There is no certificate key to open the Secret kubeadm-certs with", {
    hint: "--certificate-key-file FILE, or run it in a terminal (ssh -t) and type it; if nobody has it: ./bunw scripts/00-assess.ts --deep says what is left",
    cause: answer,
  });
}
