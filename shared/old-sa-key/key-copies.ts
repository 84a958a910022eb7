/** Public keys that somebody saved: faster than computing one. They count only if they fit the old tokens. */
import { createPublicKey } from "node:crypto";
import { Fail } from "../fail.ts";
import { list, readText } from "../files/files.ts";
import { publicKeysIn } from "../pki/certificate.ts";
import { oldSaPub, todaysSaPub } from "../pki/sa-keys.ts";

/** Copies by part 1 and by kubeadm, the output of an earlier run, and the file that the operator names. */
export function keyCopies(
  certificatesDir: string,
  named: string | undefined,
): { path: string; pems: string[] }[] {
  if (named !== undefined && readText(named) === undefined)
    throw new Fail(`There is no "${named}"`, {
      hint: "give a public key in PEM, or the cluster's published keys (JWKS): --from FILE",
    });
  const asides = list("/root").filter((name) => name.startsWith("kube-pki-repair-"));
  const backups = list("/etc/kubernetes/tmp");
  const paths = [
    ...(named ? [named] : []),
    oldSaPub(certificatesDir),
    ...(todaysSaPub(certificatesDir) ? [] : [`${certificatesDir}/sa.pub`]),
    ...asides.map((name) => `/root/${name}/aside${certificatesDir}/sa.pub`),
    ...backups.flatMap((name) => [
      `/etc/kubernetes/tmp/${name}/sa.pub`,
      `/etc/kubernetes/tmp/${name}/pki/sa.pub`,
    ]),
  ];
  return paths.map((path) => ({ path, pems: keysIn(path) })).filter(({ pems }) => pems.length > 0);
}

/** Keys in PEM, or those of a JWKS (RFC 7517), as the API server publishes them at /openid/v1/jwks. */
function keysIn(path: string): string[] {
  const text = readText(path) ?? "";
  if (!text.trimStart().startsWith("{")) return publicKeysIn(text);
  try {
    const { keys } = JSON.parse(text) as { keys?: JsonWebKey[] };
    return (keys ?? []).map((key) =>
      String(createPublicKey({ key, format: "jwk" }).export({ type: "spki", format: "pem" })),
    );
  } catch (cause) {
    throw new Fail(`There are no published keys (JWKS) in "${path}"`, {
      hint: "kubectl get --raw /openid/v1/jwks writes such a file",
      cause,
    });
  }
}
