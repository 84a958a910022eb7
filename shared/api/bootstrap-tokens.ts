/** Bootstrap tokens (Secrets of type bootstrap.kubernetes.io/token; k8s.io/cluster-bootstrap): what a kubelet shows to ask for a certificate. */
import { randomInt } from "node:crypto";
import { resolve } from "node:path";
import { act, say } from "../run.ts";
import { ApiError, type KubeApi, type KubeObject } from "./kube-api.ts";

const SECRETS = "/api/v1/namespaces/kube-system/secrets";
const DESCRIPTION = "kube-pki-repair: workers come back";
const HOURS = 2;

/** Makes a token and returns it, `id.secret`. It may sign in, not sign cluster-info for others; it ends by itself after two hours. */
export async function createToken(api: KubeApi): Promise<string> {
  const [id, secret] = [letters(6), letters(16)];
  await api.create(SECRETS, {
    apiVersion: "v1",
    kind: "Secret",
    type: "bootstrap.kubernetes.io/token",
    metadata: { name: `bootstrap-token-${id}`, namespace: "kube-system" },
    stringData: {
      description: DESCRIPTION,
      "token-id": id,
      "token-secret": secret,
      expiration: new Date(Date.now() + HOURS * 3600_000).toISOString().replace(/\.\d+/, ""),
      "usage-bootstrap-authentication": "true",
      "usage-bootstrap-signing": "true",
      "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
    },
  });
  return `${id}.${secret}`;
}

/** Deletes the tokens that `createToken` made, in this run or an earlier one. */
export async function revokeTokens(api: KubeApi) {
  const secrets = await api.list<KubeObject & { type?: string; data?: Record<string, string> }>(
    `${SECRETS}?fieldSelector=type%3Dbootstrap.kubernetes.io/token`,
  );
  const ours = secrets.filter(({ data }) => Buffer.from(data?.description ?? "", "base64").toString() === DESCRIPTION);
  if (ours.length === 0) return say("no token of this kit is left");
  for (const { metadata } of ours) await act(`${metadata.name}: revoked`, () => revoke(api, metadata.name));
}

/** Another master may close part 3 in the same moment. */
async function revoke(api: KubeApi, name: string) {
  try {
    await api.delete(`${SECRETS}/${name}`);
  } catch (err) {
    if (!(err instanceof ApiError && err.status === 404)) throw err;
  }
}

/** A token file's path, from the folder the script is run in. */
export function tokenFile(file: string): string {
  return resolve(process.env.PWD ?? ".", file);
}

function letters(count: number): string {
  const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
  return Array.from({ length: count }, () => alphabet[randomInt(alphabet.length)]).join("");
}
