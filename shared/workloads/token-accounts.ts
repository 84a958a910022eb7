/** The ServiceAccounts that token Secrets stand for: the API refuses a token whose account is gone, whatever key signed it. */
import type { KubeApi } from "../api/kube-api.ts";
import { nameOf, type TokenSecret } from "./token-secrets.ts";

export const ACCOUNT_NAME = "kubernetes.io/service-account.name";
export const ACCOUNT_UID = "kubernetes.io/service-account.uid";

/**
 * Tells the UID of the ServiceAccount that a Secret is for; undefined where that is gone, or is another of the same name now. They are read
 * as a whole when the first is asked for, so never before the Secrets: a new pair of both is not taken for one that lacks its account.
 */
export function accountUids(api: KubeApi): (secret: TokenSecret) => Promise<string | undefined> {
  let reading: Promise<Map<string, string>> | undefined;
  return async ({ metadata: { namespace, annotations } }) => {
    reading ??= readUids(api);
    const uid = (await reading).get(`${namespace}/${annotations?.[ACCOUNT_NAME]}`);
    return (annotations?.[ACCOUNT_UID] ?? uid) === uid ? uid : undefined;
  };
}

/** Names of those whose ServiceAccount is there. */
export async function liveAccounts(api: KubeApi, secrets: readonly TokenSecret[]): Promise<string[]> {
  const uidFor = accountUids(api);
  const live: string[] = [];
  for (const secret of secrets) if ((await uidFor(secret)) !== undefined) live.push(nameOf(secret));
  return live;
}

/** `namespace/name` → UID of every ServiceAccount. */
async function readUids(api: KubeApi): Promise<Map<string, string>> {
  const uids = new Map<string, string>();
  for await (const account of api.items("/api/v1/serviceaccounts")) uids.set(nameOf(account), account.metadata.uid ?? "");
  return uids;
}
