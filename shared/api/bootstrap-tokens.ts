/**
 * How workers get in (k8s.io/cluster-bootstrap): a bootstrap token (a Secret), and a ClusterRoleBinding: its holders may ask for a
 * certificate. Their group is the kit's own, not kubeadm's, so no rule of the cluster approves their CSRs. `closeJoining` removes both.
 */
import { randomInt } from "node:crypto";
import { Fail } from "../fail.ts";
import { act, say } from "../run.ts";
import { unlessRefused } from "./api-error.ts";
import { ensureBindings, RBAC } from "./cluster-trust.ts";
import type { KubeApi } from "./kube-api.ts";
import type { KubeObject } from "./kube-object.ts";

/** The group of all holders of the kit's token. */
export const TOKEN_GROUP = "system:bootstrappers:kube-pki-repair";

const SECRETS = "/api/v1/namespaces/kube-system/secrets";
const TYPE = "bootstrap.kubernetes.io/token";
const DESCRIPTION = "kube-pki-repair: workers come back";
export const TOKEN_HOURS = 2;

/** What a joining kubelet must be allowed: to make a CSR and to read it. */
const BINDING = { name: "kube-pki-repair:kubelet-bootstrap", role: "system:node-bootstrapper" };

type Secret = KubeObject & { data?: Record<string, string> };

/**
 * Makes a token and returns it, `id.secret`; the former one is revoked. Its holders can authenticate, but it does not sign cluster-info. It
 * expires after two hours. Errors: Fail if a rule of the cluster would approve every CSR of its holders.
 */
export async function openJoining(api: KubeApi): Promise<string> {
  const [id, secret] = [letters(6), letters(16)];
  await refuseAutoApproval(api, userOf(id));
  await revokeTokens(api);
  await ensureBindings(api, [{ ...BINDING, subject: { kind: "Group", name: TOKEN_GROUP } }]);
  await api.create(SECRETS, {
    apiVersion: "v1",
    kind: "Secret",
    type: TYPE,
    metadata: { name: `bootstrap-token-${id}`, namespace: "kube-system" },
    stringData: {
      description: DESCRIPTION,
      "token-id": id,
      "token-secret": secret,
      expiration: new Date(Date.now() + TOKEN_HOURS * 3600_000).toISOString().replace(/\.\d+/, ""),
      "usage-bootstrap-authentication": "true",
      "auth-extra-groups": TOKEN_GROUP,
    },
  });
  return `${id}.${secret}`;
}

/** Removes what `openJoining` made, in this run or an earlier one. */
export async function closeJoining(api: KubeApi) {
  if ((await revokeTokens(api)) === 0) say("no token of this kit is left");
  const path = `${RBAC}/clusterrolebindings/${BINDING.name}`;
  if (await api.find(path)) await act(`ClusterRoleBinding ${BINDING.name}: removed`, () => remove(api, path));
}

/** Whether something of `openJoining` is still there. */
export async function joiningIsOpen(api: KubeApi): Promise<boolean> {
  return (await ourSecrets(api)).length > 0 || (await api.find(`${RBAC}/clusterrolebindings/${BINDING.name}`)) !== undefined;
}

/** The users, `system:bootstrap:ID`, as whom the API server knows the holders of the kit's valid tokens: one, or none. */
export async function tokenUsers(api: KubeApi): Promise<string[]> {
  return (await ourSecrets(api)).flatMap(({ metadata, data }) => {
    const expires = new Date(textOf(data?.expiration));
    return expires.getTime() > Date.now() ? [userOf(metadata.name.replace(/^bootstrap-token-/, ""))] : [];
  });
}

async function revokeTokens(api: KubeApi): Promise<number> {
  const ours = await ourSecrets(api);
  for (const { metadata } of ours) await act(`${metadata.name}: revoked`, () => remove(api, `${SECRETS}/${metadata.name}`));
  return ours.length;
}

async function ourSecrets(api: KubeApi): Promise<Secret[]> {
  const secrets = await api.list<Secret>(`${SECRETS}?fieldSelector=type%3D${TYPE}`);
  return secrets.filter(({ data }) => textOf(data?.description) === DESCRIPTION);
}

/** The controller-manager approves a CSR if its maker may "create" the subresource nodeclient. It asks the API server the same question. */
async function refuseAutoApproval(api: KubeApi, user: string) {
  const spec = {
    user,
    groups: ["system:bootstrappers", TOKEN_GROUP, "system:authenticated"],
    resourceAttributes: { group: "certificates.k8s.io", resource: "certificatesigningrequests", subresource: "nodeclient", verb: "create" },
  };
  const review = { apiVersion: "authorization.k8s.io/v1", kind: "SubjectAccessReview", spec };
  const answer = await api.create<{ status?: { allowed?: boolean } }>("/apis/authorization.k8s.io/v1/subjectaccessreviews", review);
  if (!answer.status?.allowed) return;
  throw new Fail(`A rule of this cluster approves every node's certificate for the holder of any bootstrap token ("${user}")`, {
    hint: "kubectl get clusterrolebindings -o wide | grep nodeclient: remove the group system:bootstrappers or system:authenticated from that binding until close is done; then run this again",
  });
}

/** Another control plane node may run close in the same moment. */
function remove(api: KubeApi, path: string) {
  return unlessRefused([404], () => api.delete(path));
}

function userOf(id: string): string {
  return `system:bootstrap:${id}`;
}

function textOf(base64: string | undefined): string {
  return Buffer.from(base64 ?? "", "base64").toString();
}

function letters(count: number): string {
  const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
  return Array.from({ length: count }, () => alphabet[randomInt(alphabet.length)]).join("");
}
