/**
 * Times part 4's token Secrets and the article's kubectl line on the same API server, etcd and
 * controller-manager. On a busy machine seconds say little: the processor time of each program for one Secret
 * says more.
 */
import { join } from "node:path";
import { watch } from "../../../shared/api/many.ts";
import { Fail } from "../../../shared/fail.ts";
import { inParallel } from "../../../shared/in-parallel.ts";
import { tokenVerifier } from "../../../shared/pki/sa-keys.ts";
import { formatNumber } from "../../../shared/progress.ts";
import { isCurrent, TOKEN_SECRETS, type TokenSecret } from "../../../shared/workloads/token-secrets.ts";
import { type ApiLab, apiLab } from "../machine/api-lab.ts";
import { jobFile, measure } from "./close.ts";
import type { Measured } from "./measured.ts";

const TYPE = "kubernetes.io/service-account-token";
const ACCOUNTS_PER_NAMESPACE = 100;
const WIDTH = 50;

interface TokenTimes extends Measured {
  secrets: number;
  /** Tokens that verify afterwards, and carry the CA. */
  valid: number;
  /** Processor time of each program for one Secret, in milliseconds. */
  costs: Map<string, number>;
  /**
   * The article's line: how many Secrets it got, its seconds, and its time for one Secret divided by ours.
   */
  sample: number;
  articleSeconds: number;
  ratio: number;
}

/**
 * Part 4 over `secrets` token Secrets with tokens of another key, and the article's line on the same ones.
 */
export async function benchTokens(secrets: number, sample: number): Promise<TokenTimes> {
  await using lab = await apiLab();
  await lab.controllerManager();
  await makeSecrets(lab, secrets);
  const job = await jobFile(lab, 0);
  const before = lab.started.map(({ processor }) => processor());
  const measured = await measure("tokens", job);
  const spent = lab.started.map(({ name, processor }, i) => [name, processor() - before[i]!] as const);
  const valid = await countValid(lab);
  const costs = new Map(
    [["ours", measured.processor] as const, ...spent].map(([name, seconds]) => [
      name,
      (seconds / secrets) * 1000,
    ]),
  );
  const articleSeconds = await articleLine(lab, sample);
  const ratio = articleSeconds / sample / (measured.seconds / secrets);
  return { ...measured, secrets, valid, costs, sample, articleSeconds, ratio };
}

async function countValid(lab: ApiLab): Promise<number> {
  const verifies = tokenVerifier(lab.saPub);
  let valid = 0;
  for await (const secret of lab.admin.items<TokenSecret>(TOKEN_SECRETS))
    if (isCurrent(secret, lab, verifies)) valid++;
  return valid;
}

/**
 * ServiceAccounts and a Secret for each, a hundred to a namespace, with a token that a lost key signed. The
 * CA beside it is today's, as the reduced controller-manager has left it by part 4; it is also whose fields
 * they are, as in a cluster.
 */
async function makeSecrets({ admin, caPem }: ApiLab, secrets: number) {
  const names = Array.from({ length: secrets }, (_, i) => ({
    namespace: `ns-${Math.floor(i / ACCOUNTS_PER_NAMESPACE)}`,
    name: `sa-${i}`,
  }));
  const namespaces = [...new Set(names.map(({ namespace }) => namespace))];
  await inParallel(namespaces, WIDTH, (name) => admin.create("/api/v1/namespaces", { metadata: { name } }));
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  await inParallel(names, WIDTH, async ({ namespace, name }) => {
    const account = await admin.create(`/api/v1/namespaces/${namespace}/serviceaccounts`, {
      metadata: { name },
    });
    const sub = `system:serviceaccount:${namespace}:${name}`;
    const token = `${part({ alg: "RS256", kid: "lost" })}.${part({ iss: "kubernetes/serviceaccount", sub, uid: account.metadata.uid })}.${"A".repeat(342)}`;
    const annotations = {
      "kubernetes.io/service-account.name": name,
      "kubernetes.io/service-account.uid": account.metadata.uid,
    };
    await admin.create(`/api/v1/namespaces/${namespace}/secrets?fieldManager=kube-controller-manager`, {
      metadata: { name: `${name}-token`, annotations },
      type: TYPE,
      data: { token: base64(token), namespace: base64(namespace), "ca.crt": base64(caPem) },
    });
  });
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

/**
 * The article's line with its quotes mended, as it would not run otherwise, until the controller-manager has
 * written the tokens that it emptied. For `sample` Secrets only: for all 10,000 it takes more than a quarter
 * of an hour. Not for a few: the controller-manager's client has 30 requests in hand, then 20 a second, and a
 * token takes two.
 */
async function articleLine(lab: ApiLab, sample: number): Promise<number> {
  const line = `kubectl get secret -A | awk '/service-account-token/ { print "kubectl patch secret -n", $1, $2, "-p \\047{\\"data\\":{\\"token\\":null}}\\047" }' | head -n ${sample} | sh -x`;
  const env = {
    PATH: `${join(lab.programs.get("kubectl")!, "..")}:${process.env.PATH}`,
    KUBECONFIG: lab.kubeconfig,
    HOME: lab.folder,
  };
  const begun = performance.now();
  const child = Bun.spawn(["sh", "-c", line], { env, stdout: "pipe", stderr: "ignore" });
  const patched = [...(await new Response(child.stdout).text()).matchAll(/^secret\/(\S+) patched/gm)].map(
    ([, name]) => name!,
  );
  if (patched.length !== sample)
    throw new Fail(`The article's line patched ${patched.length} of ${sample} Secrets`, {
      hint: `by hand: ${line}`,
    });
  await written(lab, new Set(patched), 60 + sample);
  return (performance.now() - begun) / 1000;
}

/** Watches the Secrets, so that the API server need not list thousands again and again. */
async function written(lab: ApiLab, empty: Set<string>, seconds: number) {
  for await (const { object } of watch<TokenSecret>(
    lab.admin,
    TOKEN_SECRETS,
    AbortSignal.timeout(seconds * 1000),
  )) {
    if (object.data?.token) empty.delete(object.metadata.name);
    if (empty.size === 0) return;
  }
  throw new Fail(`The controller-manager has left ${empty.size} tokens empty`, {
    hint: "see kube-controller-manager.log",
  });
}

export function tokensLine({
  secrets,
  valid,
  seconds,
  memory,
  costs,
  sample,
  articleSeconds,
  ratio,
}: TokenTimes): string {
  const total = [...costs.values()].reduce((sum, cost) => sum + cost, 0);
  const parts = [...costs].map(([name, cost]) => `${name} ${cost.toFixed(2)}`).join(", ");
  return [
    `04 tokens: ${formatNumber(valid)} of ${formatNumber(secrets)} valid after ${seconds.toFixed(1)} s (${formatNumber(Math.round(secrets / seconds))}/s), ${memory} MB`,
    `${total.toFixed(2)} ms of processor for a Secret (${parts})`,
    `the article's line ${(sample / articleSeconds).toFixed(1)}/s on ${sample} of them: ${Math.round(ratio)} times as long per Secret`,
  ].join("; ");
}
