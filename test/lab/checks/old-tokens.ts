#!/usr/bin/env bun
/**
 * A token from before the disaster is accepted after it, on a real API server: its key is computed from
 * tokens in etcd's data, read offline, and given to an API server with a new sa.key. RSA keys have 1024 bits
 * here, which takes half a minute; with RSA-2048 on the command line, the real size, a minute.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { readEtcdData } from "../../../shared/etcd-data/data.ts";
import { computeKey } from "../../../shared/old-sa-key/old-sa-pub.ts";
import { collectTokens, tokensOfLastKey } from "../../../shared/old-sa-key/old-tokens.ts";
import { run } from "../../../shared/run.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import { renewTokens } from "../../../shared/workloads/renew-tokens.ts";
import {
  newToken,
  review,
  type TokenSecret,
  tokenOf,
  tokenSecrets,
} from "../../../shared/workloads/token-secrets.ts";
import { newKeyOf } from "../../pretend/old-keys.ts";
import { type ApiLab, apiLab } from "../machine/api-lab.ts";
import { peakMemory } from "../machine/program.ts";

const TYPE = "kubernetes.io/service-account-token";
const HINT = "see kube-controller-manager.log in the api-lab's folder";

/** Seconds. */
const HOUR = 3600;

let failures = 0;

async function main() {
  const { positionals } = parseArgs({ allowPositionals: true });
  for (const algorithm of positionals.length > 0 ? positionals : ["ECDSA-P256", "RSA-1024"]) {
    await using lab = await apiLab({ keyAlgorithm: "ECDSA-P256" });
    await checkLab(lab, algorithm);
  }
  process.exitCode = failures === 0 ? 0 : 1;
}

async function checkLab(lab: ApiLab, algorithm: string) {
  const pki = `${lab.folder}/pki`;
  const before = newKeyOf(algorithm);
  writeFileSync(`${pki}/before.key`, before.key, { mode: 0o600 });
  writeFileSync(`${pki}/before.pub`, before.pub);
  await lab.restartApi((flags) =>
    flags.map((flag) => flag.replace("/sa.pub", "/before.pub").replace("/sa.key", "/before.key")),
  );
  const manager = await lab.controllerManager((command) =>
    command.map((flag) => flag.replace("/sa.key", "/before.key")),
  );
  const secrets = await tokensOfController(lab);
  // on a busy machine the key takes long to compute
  const bound = await newToken(lab.admin, HOUR);
  await manager.stop();

  const old = tokensOfLastKey(
    collectTokens(readEtcdData(`${lab.folder}/etcd`), `${lab.folder}/no-kubelet`).found,
  );
  const began = performance.now();
  const { pem } = computeKey(old);
  console.log(
    `${algorithm}: ${((performance.now() - began) / 1000).toFixed(1)} s, at most ${peakMemory()} MB`,
  );
  check(
    `${algorithm}: the key computed from ${secrets.length} tokens in etcd's data is the old sa.pub`,
    pem === before.pub,
  );

  const tokens = [bound, ...secrets.map(tokenOf)];
  const accepted = async () =>
    (await Promise.all(tokens.map((token) => review(lab.admin, token)))).filter(Boolean).length;
  await lab.restartApi();
  check(`${algorithm}: with a new sa.key alone no old token is accepted`, (await accepted()) === 0);
  writeFileSync(`${pki}/sa-old.pub`, pem);
  await lab.restartApi((flags) => [...flags, `--service-account-key-file=${pki}/sa-old.pub`]);
  check(
    `${algorithm}: with the computed key beside it all ${tokens.length} old tokens are accepted`,
    (await accepted()) === tokens.length,
  );
  check(
    `${algorithm}: a new token is accepted, too`,
    (await review(lab.admin, await newToken(lab.admin))) !== undefined,
  );
  const { keys } = await lab.operator.get<{ keys: { kid: string }[] }>("/openid/v1/jwks");
  check(
    `${algorithm}: the API publishes both keys`,
    keys.length === 2 && keys.some(({ kid }) => kid === old.kid),
  );
  await renewTokens(lab.operator, { caPem: lab.caPem, saPub: lab.saPub, saKey: lab.saKey });
  // The API server remembers for ten seconds what it has accepted.
  const onlyBound = async () => (await accepted()) === 1;
  await waitFor("the API to refuse tokens that no Secret holds any more", onlyBound, {
    seconds: 180,
    hint: "see kube-apiserver.log",
  });
  check(
    `${algorithm}: a token is refused once its Secret holds another, a pod's token is not`,
    await onlyBound(),
  );
}

/** Two, in kube-system, where only administrators write. */
async function tokensOfController({ admin }: ApiLab): Promise<TokenSecret[]> {
  const accounts = "/api/v1/namespaces/kube-system/serviceaccounts";
  const there = () => admin.find(`${accounts}/default`);
  await waitFor("the ServiceAccount default", there, { seconds: 180, hint: HINT });
  for (const name of ["one", "two"]) {
    const metadata = { name, annotations: { "kubernetes.io/service-account.name": "default" } };
    await admin.create("/api/v1/namespaces/kube-system/secrets", { metadata, type: TYPE });
  }
  const full = async () => {
    const secrets = await tokenSecrets(admin);
    return secrets.length === 2 && secrets.every(({ data }) => data?.token) && secrets;
  };
  return (await waitFor("the controller-manager's tokens", full, { seconds: 180, hint: HINT })) || [];
}

function check(what: string, ok: boolean) {
  console.log(`${ok ? "ok" : "not ok"}: ${what}`);
  if (!ok) failures++;
}

if (import.meta.main) await run(main);
