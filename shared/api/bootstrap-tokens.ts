/**
 * How workers get in (k8s.io/cluster-bootstrap): a bootstrap token for each (a Secret, which says for which
 * node), and a ClusterRoleBinding: its holders may ask for a certificate. Their group is the kit's own, not
 * kubeadm's, so no rule of the cluster approves their CSRs. `closeJoining` removes all.
 */
import { randomInt } from "node:crypto";
import { Fail } from "../fail.ts";
import { inParallel } from "../in-parallel.ts";
import { FEW } from "../plain.ts";
import { act, say } from "../run.ts";
import { sayWhile } from "../wait-for.ts";
import { NO_ANSWER_HINT, unlessRefused } from "./api-error.ts";
import { ensureBindings, RBAC } from "./cluster-trust.ts";
import type { KubeApi } from "./kube-api.ts";
import type { KubeObject } from "./kube-object.ts";

export const TOKEN_GROUP = "system:bootstrappers:kube-pki-repair";

const SECRETS = "/api/v1/namespaces/kube-system/secrets";
const TYPE = "bootstrap.kubernetes.io/token";
/** In place of a node's name: any worker may use the token. */
export const ANY_WORKER = "";
const OF_ANY = "kube-pki-repair: workers come back";
const OF_NODE = /^kube-pki-repair: (\S+) comes back$/;

/** Maximum number of concurrent requests. */
const WRITES = 50;

export const TOKEN_HOURS = 2;

/** Allows a joining kubelet to make a CSR and to read it. */
const BINDING = { name: "kube-pki-repair:kubelet-bootstrap", role: "system:node-bootstrapper" };
const BINDING_PATH = `${RBAC}/clusterrolebindings/${BINDING.name}`;

type Secret = KubeObject & { type?: string; data?: Record<string, string> };

/**
 * Returns them, `id.secret`, by node; former ones are revoked. Their holders can authenticate, but they do not sign
 * cluster-info. They expire after two hours. Errors: Fail if a rule of the cluster would approve every CSR of their
 * holders.
 */
export async function openJoining(api: KubeApi, nodes: readonly string[]): Promise<Map<string, string>> {
  await refuseAutoApproval(api, userOf(randomLetters(6)));
  await revokeTokens(api);
  await ensureBindings(api, [{ ...BINDING, subject: { kind: "Group", name: TOKEN_GROUP } }]);
  const tokens = new Map<string, string>();
  const make = async (node: string) => void tokens.set(node, await makeToken(api, node));
  await sayWhile(`${nodes.length} tokens to be made`, NO_ANSWER_HINT, () => inParallel(nodes, WRITES, make));
  return tokens;
}

async function makeToken(api: KubeApi, node: string): Promise<string> {
  const [id, secret] = [randomLetters(6), randomLetters(16)];
  await api.create(SECRETS, {
    apiVersion: "v1",
    kind: "Secret",
    type: TYPE,
    metadata: { name: `bootstrap-token-${id}`, namespace: "kube-system" },
    stringData: {
      description: node === ANY_WORKER ? OF_ANY : `kube-pki-repair: ${node} comes back`,
      "token-id": id,
      "token-secret": secret,
      expiration: new Date(Date.now() + TOKEN_HOURS * 3600_000).toISOString().replace(/\.\d+/, ""),
      "usage-bootstrap-authentication": "true",
      "auth-extra-groups": TOKEN_GROUP,
    },
  });
  return `${id}.${secret}`;
}

export async function closeJoining(api: KubeApi) {
  if ((await revokeTokens(api)) === 0) say("no token of this kit is left");
  if (await api.find(BINDING_PATH))
    await act("remove", `ClusterRoleBinding ${BINDING.name}`, () => remove(api, BINDING_PATH));
}

export async function joiningIsOpen(api: KubeApi): Promise<boolean> {
  return (await ourSecrets(api)).length > 0 || (await api.find(BINDING_PATH)) !== undefined;
}

/**
 * The users, `system:bootstrap:ID`, as whom the API server knows the holders of the kit's valid tokens; by
 * each its node, or ANY_WORKER.
 */
export async function tokenUsers(api: KubeApi): Promise<Map<string, string>> {
  return new Map((await ourSecrets(api)).flatMap(valid));
}

/** Whether this user's token is still a valid one of the kit: one request, however many tokens there are. */
export async function isTokenUser(api: KubeApi, user: string): Promise<boolean> {
  const id = user.slice(USER.length);
  if (user !== userOf(id) || !/^[a-z0-9]{6}$/.test(id)) return false;
  const secret = await api.find<Secret>(`${SECRETS}/bootstrap-token-${id}`);
  return secret !== undefined && secret.type === TYPE && valid(secret).length > 0;
}

function valid({ metadata, data }: Secret): [string, string][] {
  const node = nodeOf(textOf(data?.description));
  const expires = new Date(textOf(data?.expiration));
  return node !== undefined && expires.getTime() > Date.now()
    ? [[userOf(metadata.name.replace(/^bootstrap-token-/, "")), node]]
    : [];
}

/** Returns undefined if the token was not made by this kit. */
function nodeOf(description: string): string | undefined {
  return description === OF_ANY ? ANY_WORKER : OF_NODE.exec(description)?.[1];
}

async function revokeTokens(api: KubeApi): Promise<number> {
  const ours = await ourSecrets(api);
  const revoke = ({ metadata }: Secret) => remove(api, `${SECRETS}/${metadata.name}`);
  if (ours.length > FEW)
    await act("revoke", `${ours.length} bootstrap tokens`, () => inParallel(ours, WRITES, revoke));
  else for (const one of ours) await act("revoke", one.metadata.name, () => revoke(one));
  return ours.length;
}

async function ourSecrets(api: KubeApi): Promise<Secret[]> {
  const secrets = await api.list<Secret>(`${SECRETS}?fieldSelector=type%3D${TYPE}`);
  return secrets.filter(({ data }) => nodeOf(textOf(data?.description)) !== undefined);
}

/**
 * The controller-manager approves a CSR if its maker may "create" the subresource nodeclient. It asks the API
 * server the same question.
 */
async function refuseAutoApproval(api: KubeApi, user: string) {
  const groups = ["system:bootstrappers", TOKEN_GROUP, "system:authenticated"];
  const csrs = { group: "certificates.k8s.io", resource: "certificatesigningrequests" };
  const resourceAttributes = { ...csrs, subresource: "nodeclient", verb: "create" };
  const answer = await api.create<{ status?: { allowed?: boolean } }>(
    "/apis/authorization.k8s.io/v1/subjectaccessreviews",
    {
      ...{ apiVersion: "authorization.k8s.io/v1", kind: "SubjectAccessReview" },
      spec: { user, groups, resourceAttributes },
    },
  );
  if (!answer.status?.allowed) return;
  throw new Fail(
    `A rule of this cluster approves every node's certificate for the holder of any bootstrap token ("${user}")`,
    {
      hint: "kubectl get clusterrolebindings -o wide | grep nodeclient: remove the group system:bootstrappers or system:authenticated from that binding until close is done; then run the same line again",
    },
  );
}

/** Another control plane node may run close in the same moment. */
function remove(api: KubeApi, path: string) {
  return unlessRefused([404], () => api.delete(path));
}

const USER = "system:bootstrap:";

function userOf(id: string): string {
  return USER + id;
}

function textOf(base64: string | undefined): string {
  return Buffer.from(base64 ?? "", "base64").toString();
}

function randomLetters(count: number): string {
  const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
  return Array.from({ length: count }, () => alphabet[randomInt(alphabet.length)]).join("");
}
