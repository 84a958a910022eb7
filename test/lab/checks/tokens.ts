#!/usr/bin/env bun
/**
 * Part 4's tokens on a real API server and controller-manager: those that we sign equal the
 * controller-manager's own byte for byte, and renewing them leaves Secrets that the API accepts.
 */
import { isDeepStrictEqual } from "node:util";
import type { KubeApi } from "../../../shared/api/kube-api.ts";
import { legacyTokenSigner } from "../../../shared/pki/sa-keys.ts";
import { run } from "../../../shared/run.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import { renewTokens } from "../../../shared/workloads/renew-tokens.ts";
import { review, type TokenSecret, tokenSecrets } from "../../../shared/workloads/token-secrets.ts";
import { type ApiLab, apiLab } from "../machine/api-lab.ts";

const TYPE = "kubernetes.io/service-account-token";
const ACCOUNT_UID = "kubernetes.io/service-account.uid";
const NAMES = ["default", "with.dots", `long-${"x".repeat(200)}`];
const HINT = "see kube-controller-manager.log in the api-lab's folder";

let failures = 0;

async function main() {
  for (const keyAlgorithm of ["RSA-2048", "ECDSA-P256"] as const) {
    await using lab = await apiLab({ keyAlgorithm });
    await checkLab(lab, keyAlgorithm);
  }
  process.exitCode = failures === 0 ? 0 : 1;
}

async function checkLab(lab: ApiLab, algorithm: string) {
  const manager = await lab.controllerManager();
  const trust = { caPem: lab.caPem, saPub: lab.saPub, saKey: lab.saKey };
  const theirs = await tokensOfController(lab.admin);
  for (const secret of theirs) {
    const [header, payload, signature] = (await mint(secret, lab.saKey)).split(".");
    const own = tokenOf(secret).split(".");
    const same =
      header === own[0] && payload === own[1] && (algorithm !== "RSA-2048" || signature === own[2]);
    check(`${algorithm}: our token for ${short(secret)} equals the controller-manager's`, same);
  }
  await breakAll(lab.admin, theirs);
  const { renewed } = await renewTokens(lab.operator, trust);
  check(`${algorithm}: ${NAMES.length} tokens renewed`, renewed.length === NAMES.length);
  const after = await tokenSecrets(lab.admin);
  check(
    `${algorithm}: the API accepts all`,
    (await Promise.all(after.map((secret) => accepted(lab.admin, secret)))).every(Boolean),
  );
  const bare = ({ data }: TokenSecret) => ({ ...data, token: algorithm === "RSA-2048" ? data?.token : "" });
  check(`${algorithm}: all data as before`, isDeepStrictEqual(after.map(bare), theirs.map(bare)));
  const again = await renewTokens(lab.operator, trust);
  check(
    `${algorithm}: a second run changes nothing`,
    again.renewed.length === 0 && again.caOnly.length === 0,
  );

  await manager.stop();
  await makeOrphan(lab.admin, theirs[0]!);
  const { orphans, renewed: others } = await renewTokens(lab.operator, trust);
  check(
    `${algorithm}: a token of a deleted ServiceAccount is not changed, and reported`,
    orphans.join() === `default/${NAMES[0]}-token`,
  );
  check(`${algorithm}: all others are already renewed`, others.length === 0);
}

async function tokensOfController(api: KubeApi): Promise<TokenSecret[]> {
  for (const name of NAMES) {
    if (name !== "default")
      await api.create("/api/v1/namespaces/default/serviceaccounts", { metadata: { name } });
    const metadata = { name: `${name}-token`, annotations: { "kubernetes.io/service-account.name": name } };
    // The controller-manager makes the account of this name a little later.
    const create = () => api.create("/api/v1/namespaces/default/secrets", { metadata, type: TYPE });
    const there = () => api.find("/api/v1/namespaces/default/serviceaccounts/default");
    await waitFor("the ServiceAccount default", there, { seconds: 180, hint: HINT });
    await create();
  }
  const full = async () => {
    const secrets = await tokenSecrets(api);
    return secrets.every(({ data }) => data?.token) && secrets;
  };
  return (await waitFor("the controller-manager's tokens", full, { seconds: 180, hint: HINT })) ?? [];
}

/** Replaces the signature of each token. */
async function breakAll(api: KubeApi, secrets: TokenSecret[]) {
  for (const secret of secrets) {
    const [header, payload] = tokenOf(secret).split(".");
    const token = Buffer.from(`${header}.${payload}.${"A".repeat(342)}`).toString("base64");
    await api.patch(pathOf(secret), { data: { token, "ca.crt": null } });
  }
}

async function makeOrphan(api: KubeApi, secret: TokenSecret) {
  await breakAll(api, [secret]);
  await api.patch(pathOf(secret), { metadata: { annotations: { [ACCOUNT_UID]: crypto.randomUUID() } } });
}

async function mint({ metadata }: TokenSecret, saKey: string): Promise<string> {
  const sign = await legacyTokenSigner(saKey);
  const { annotations = {}, namespace = "", name } = metadata;
  const account = {
    serviceAccountName: annotations["kubernetes.io/service-account.name"]!,
    serviceAccountUid: annotations[ACCOUNT_UID]!,
  };
  return sign({ namespace, secretName: name, ...account });
}

async function accepted(api: KubeApi, secret: TokenSecret): Promise<boolean> {
  const account = secret.metadata.annotations?.["kubernetes.io/service-account.name"];
  return (await review(api, tokenOf(secret))) === `system:serviceaccount:default:${account}`;
}

function pathOf({ metadata }: TokenSecret): string {
  return `/api/v1/namespaces/${metadata.namespace}/secrets/${metadata.name}`;
}

function tokenOf({ data }: TokenSecret): string {
  return Buffer.from(data?.token ?? "", "base64").toString();
}

function short({ metadata }: TokenSecret): string {
  return metadata.name.length > 40 ? `${metadata.name.slice(0, 37)}…` : metadata.name;
}

function check(what: string, ok: boolean) {
  console.log(`${ok ? "ok" : "not ok"}: ${what}`);
  if (!ok) failures++;
}

if (import.meta.main) await run(main);
