/**
 * Times the two steps that grow with a cluster on a real API server, etcd and controller-manager without nodes: `03-workers close` over
 * thousands of nodes, and part 4's token Secrets beside the article's line of kubectl on the same cluster.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { inParallel } from "../../shared/api/in-parallel.ts";
import type { KubeApi } from "../../shared/api/kube-api.ts";
import { Fail } from "../../shared/fail.ts";
import { count } from "../../shared/progress.ts";
import { waitFor } from "../../shared/run.ts";
import { reduced } from "../../shared/static-pods/reduced-controllers.ts";
import { tokenVerifier } from "../../shared/workloads/legacy-token.ts";
import { isCurrent, type TokenSecret } from "../../shared/workloads/sa-tokens.ts";
import { type ApiLab, apiLab } from "./api-lab.ts";
import type { Job, Measured } from "./bench-scale-run.ts";
import { KUBERNETES } from "./pins.ts";
import { askForServing, pretendNodes } from "./pretend-kubelets.ts";

const SECRETS = "/api/v1/secrets?fieldSelector=type%3Dkubernetes.io/service-account-token";
const CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const TYPE = "kubernetes.io/service-account-token";
const ACCOUNTS_PER_NAMESPACE = 100;
const WIDTH = 50;

export interface CloseTimes extends Measured {
  nodes: number;
  issued: number;
  /** The requests that nobody may approve are still as they were. */
  foreignLeftAlone: boolean;
  apiserverMemory: number;
}

export interface TokenTimes extends Measured {
  secrets: number;
  /** Tokens that verify afterwards, and carry the CA. */
  valid: number;
  /** The article's line: how many Secrets it was measured on, its seconds, and how many times as long as ours one Secret takes it. */
  sample: number;
  articleSeconds: number;
  ratio: number;
}

/** `03-workers close` over `nodes` nodes with a controller-manager that is reduced as by part 2, or, with `lifted` false, as slow as usual. */
export async function benchClose(nodes: number, lifted = true): Promise<CloseTimes> {
  await using lab = await apiLab();
  await lab.controllerManager((command) => (lifted ? reducedCommand(command) : command));
  const job = await jobFile(lab, nodes);
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "pretend-kubelets.ts"), job, String(nodes)], { stderr: "inherit" });
  try {
    for await (const chunk of child.stdout) if (Buffer.from(chunk).includes("asked")) break;
    await askForStrangers(job);
    const measured = await measure("close", job);
    return { ...measured, nodes, apiserverMemory: lab.apiserver.peakMemory(), ...(await csrsAfter(lab.admin)) };
  } finally {
    child.kill();
    await child.exited;
  }
}

function reducedCommand(command: string[]): string[] {
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "kube-controller-manager" },
    spec: { containers: [{ name: "c", command }] },
  };
  return reduced(pod as never, KUBERNETES).spec.containers[0]!.command!;
}

/** One of a node that etcd did not know, one that names another node's address, one of somebody who is no node. */
async function askForStrangers(job: string) {
  const file = (await Bun.file(job).json()) as Job;
  const keys = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  const [one, other] = pretendNodes(2) as [ReturnType<typeof pretendNodes>[0], ReturnType<typeof pretendNodes>[0]];
  await askForServing(file, "stranger", { ...one, name: "stranger", names: ["stranger"] }, keys);
  await askForServing(file, one.name, { ...one, ips: other.ips }, keys);
  await askForServing(file, one.name, one, keys, "system:masters");
}

async function csrsAfter(api: KubeApi) {
  let [issued, pending] = [0, 0];
  for await (const { status } of api.items<{ status?: { certificate?: string; conditions?: unknown[] } }>(CSRS)) {
    if (status?.certificate) issued++;
    else if (!status?.conditions?.length) pending++;
  }
  return { issued, foreignLeftAlone: pending === 3 };
}

/** Part 4 over `secrets` token Secrets whose tokens are of another key, beside the article's line on the same ones. */
export async function benchTokens(secrets: number, sample: number): Promise<TokenTimes> {
  await using lab = await apiLab();
  await lab.controllerManager();
  await makeSecrets(lab, secrets);
  const job = await jobFile(lab, 0);
  const measured = await measure("tokens", job);
  const valid = await countValid(lab);
  const articleSeconds = await articleLine(lab, sample);
  const ratio = articleSeconds / sample / (measured.seconds / secrets);
  return { ...measured, secrets, valid, sample, articleSeconds, ratio };
}

async function countValid(lab: ApiLab): Promise<number> {
  const verifies = tokenVerifier(lab.saPub);
  let valid = 0;
  for await (const secret of lab.admin.items<TokenSecret>(SECRETS)) if (isCurrent(secret, lab, verifies)) valid++;
  return valid;
}

/**
 * ServiceAccounts and a Secret for each, a hundred to a namespace, with a token that a lost key signed. The CA beside it is today's, as the
 * reduced controller-manager has left it by part 4.
 */
async function makeSecrets({ admin, caPem }: ApiLab, secrets: number) {
  const names = Array.from({ length: secrets }, (_, i) => ({ namespace: `ns-${Math.floor(i / ACCOUNTS_PER_NAMESPACE)}`, name: `sa-${i}` }));
  const namespaces = [...new Set(names.map(({ namespace }) => namespace))];
  await inParallel(namespaces, WIDTH, (name) => admin.create("/api/v1/namespaces", { metadata: { name } }));
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  await inParallel(names, WIDTH, async ({ namespace, name }) => {
    const account = await admin.create(`/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name } });
    const sub = `system:serviceaccount:${namespace}:${name}`;
    const token = `${part({ alg: "RS256", kid: "lost" })}.${part({ iss: "kubernetes/serviceaccount", sub, uid: account.metadata.uid })}.${"A".repeat(342)}`;
    const annotations = { "kubernetes.io/service-account.name": name, "kubernetes.io/service-account.uid": account.metadata.uid };
    await admin.create(`/api/v1/namespaces/${namespace}/secrets`, {
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
 * The article's line with its quotes mended, as it would not run otherwise, until the controller-manager has written the tokens that it
 * emptied. For `sample` Secrets only: for all 10,000 it takes more than a quarter of an hour.
 */
async function articleLine(lab: ApiLab, sample: number): Promise<number> {
  const line = `kubectl get secret -A | awk '/service-account-token/ { print "kubectl patch secret -n", $1, $2, "-p \\047{\\"data\\":{\\"token\\":null}}\\047" }' | head -n ${sample} | sh -x`;
  const env = { PATH: `${join(lab.programs.get("kubectl")!, "..")}:${process.env.PATH}`, KUBECONFIG: lab.kubeconfig, HOME: lab.folder };
  const begun = performance.now();
  const child = Bun.spawn(["sh", "-c", line], { env, stdout: "pipe", stderr: "ignore" });
  const patched = (await new Response(child.stdout).text()).match(/ patched/g)?.length ?? 0;
  if (patched !== sample) throw new Fail(`The article's line patched ${patched} of ${sample} Secrets`, { hint: `by hand: ${line}` });
  const empty = "the controller-manager to write the tokens";
  const written = async () => (await emptyTokens(lab.admin)) === 0;
  await waitFor(empty, written, { seconds: 60 + sample, hint: "see kube-controller-manager.log" });
  return (performance.now() - begun) / 1000;
}

async function emptyTokens(api: KubeApi): Promise<number> {
  let empty = 0;
  for await (const { data } of api.items<TokenSecret>(SECRETS)) if (!data?.token) empty++;
  return empty;
}

async function jobFile({ folder, caPem: ca, server, saKey, saPub, operatorPair }: ApiLab, nodes: number): Promise<string> {
  const file = join(folder, "job.json");
  writeFileSync(file, JSON.stringify({ server, ca, ...operatorPair, nodes, saKey, saPub } satisfies Job), { mode: 0o600 });
  return file;
}

async function measure(what: "close" | "tokens", job: string): Promise<Measured> {
  const command = [process.execPath, join(import.meta.dir, "bench-scale-run.ts"), what, job];
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
  const output = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Fail(`${what} stopped`, { hint: "its own words stand above" });
  return JSON.parse(output) as Measured;
}

export function closeLine(times: CloseTimes): string {
  const { nodes, approved, issued, refused, foreignLeftAlone, seconds, memory } = times;
  return `03 close: ${count(nodes)} nodes back in ${seconds.toFixed(1)} s (${count(Math.round(nodes / seconds))}/s), ${count(approved)} CSRs approved, ${count(issued)} issued, ${refused} left alone${foreignLeftAlone ? " and still pending" : " (NOT as they were)"}; ${memory} MB`;
}

export function tokensLine({ secrets, valid, seconds, memory, sample, articleSeconds, ratio }: TokenTimes): string {
  return `04 tokens: ${count(valid)} of ${count(secrets)} valid after ${seconds.toFixed(1)} s (${count(Math.round(secrets / seconds))}/s), ${memory} MB; the article's line ${(sample / articleSeconds).toFixed(1)}/s on ${sample} of them: ${Math.round(ratio)} times as long per Secret`;
}
