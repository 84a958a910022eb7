/** Writes one token Secret among thousands: nobody else's change is lost by it, and no other Secret is hit. */
import { insist } from "../api/insist.ts";
import { ApiError, type KubeApi } from "../api/kube-api.ts";
import { ACCOUNT_UID } from "./token-accounts.ts";
import { nameOf, type TokenSecret } from "./token-secrets.ts";

/** Parts of a Secret, in base64; undefined takes one out. */
type Data = Record<string, string | undefined>;

/** How often a Secret is read again because somebody else has written to it meanwhile. */
const CONFLICTS = 5;

/**
 * Puts exactly this Secret back as it was read, with new data; a PUT is less work for an API server than any PATCH. Where somebody else has
 * written to it meanwhile, once more from what there is then. Undefined where it is gone, or is another of the same name.
 */
export async function writeTokenSecret(
  api: KubeApi,
  { secret, accountUid }: { secret: TokenSecret; accountUid: string },
  data: Data,
): Promise<TokenSecret | undefined> {
  const { namespace, name, uid } = secret.metadata;
  const path = `/api/v1/namespaces/${namespace}/secrets/${name}`;
  let now: TokenSecret | undefined = secret;
  for (let conflicts = 0; now && now.metadata.uid === uid; now = await api.find<TokenSecret>(path)) {
    const body = withData(now, data, accountUid);
    try {
      return await insist(`${nameOf(secret)} to be written`, () => api.replace<TokenSecret>(path, body));
    } catch (err) {
      const again = err instanceof ApiError && (err.status === 404 || (err.status === 409 && conflicts++ < CONFLICTS));
      if (!again) throw err;
    }
  }
  return undefined;
}

/** Annotation and namespace as the controller-manager's. Who owns which field stays as it is, as it does for whoever does not say it. */
function withData({ metadata, data, ...rest }: TokenSecret, changes: Data, accountUid: string) {
  const annotations = { ...metadata.annotations, [ACCOUNT_UID]: accountUid };
  return {
    ...rest,
    metadata: { ...metadata, annotations, managedFields: undefined },
    data: { namespace: encoded(metadata.namespace ?? ""), ...data, ...changes },
  };
}

export function encoded(text: string): string {
  return Buffer.from(text).toString("base64");
}
