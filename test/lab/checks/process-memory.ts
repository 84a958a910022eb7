#!/usr/bin/env bun
import { createPublicKey } from "node:crypto";
import { rmSync } from "node:fs";
/**
 * Keys from the memory of a real controller-manager and a real API server after their files are deleted, of
 * each kind that kubeadm makes: ca.key by the CA's certificate, sa.key by its ID in a token.
 */
import { keyKind, privateKeyOf, publicKeyHash } from "../../../shared/pki/certificate.ts";
import { KEY_ALGORITHMS } from "../../../shared/pki/certs.ts";
import { run } from "../../../shared/run.ts";
import type { Process } from "../../../shared/salvage/memory/processes.ts";
import { searchProcess } from "../../../shared/salvage/memory-search.ts";
import type { Target } from "../../../shared/salvage/wanted-keys.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import { newToken } from "../../../shared/workloads/token-secrets.ts";
import { type ApiLab, apiLab } from "../machine/api-lab.ts";

let failures = 0;

async function main() {
  for (const keyAlgorithm of KEY_ALGORITHMS) {
    await using lab = await apiLab({ keyAlgorithm });
    await checkLab(lab, keyAlgorithm);
  }
  process.exitCode = failures === 0 ? 0 : 1;
}

async function checkLab(lab: ApiLab, algorithm: string) {
  const manager: Process = { pid: (await lab.controllerManager()).pid, name: "kube-controller-manager" };
  const apiserver: Process = { pid: lab.apiserver.pid, name: "kube-apiserver" };
  const publicKey = createPublicKey(lab.caPem);
  const ca: Target = { hash: publicKeyHash(publicKey), kind: keyKind(publicKey)!, publicKey };
  const sa = await fromToken(lab, ca.kind);

  // It becomes the leader first, and reads ca.key some seconds later, when the signing controllers start.
  const loaded = async () => (await searchProcess(manager, [ca])).keys.size > 0;
  await waitFor("the controller-manager to read ca.key", loaded, {
    seconds: 180,
    hint: "see kube-controller-manager.log",
  });
  rmSync(`${lab.folder}/pki`, { recursive: true });

  for (const [process, targets] of [
    [manager, [ca, sa]],
    [apiserver, [sa]],
    [apiserver, [ca]],
  ] as const) {
    const { keys, megabytes, seconds } = await searchProcess(process, targets);
    const names = targets.map((target) => (target === ca ? "ca.key" : "sa.key")).join(" and ");
    const figures = `${megabytes.toFixed(0)} MB, ${seconds.toFixed(2)} s`;
    if (process === apiserver && targets[0] === ca)
      check(`${algorithm}: ${names} is not in ${process.name}: ${figures}`, keys.size === 0);
    else check(`${algorithm}: ${names} from ${process.name}: ${figures}`, keys.size === targets.length);
    const found = keys.get(sa.hash);
    if (found) check(`${algorithm}: sa.key equals the deleted one`, found.equals(privateKeyOf(lab.saKey)));
  }
}

/** The hash of the signing key, from the ID in a token. */
async function fromToken({ admin }: ApiLab, kind: Target["kind"]): Promise<Target> {
  const hint = "the controller-manager makes the ServiceAccount: see kube-controller-manager.log";
  const token = (await waitFor("a token", () => newToken(admin), { seconds: 180, hint }))!;
  const head = JSON.parse(Buffer.from(token.split(".")[0]!, "base64url").toString()) as { kid: string };
  return { hash: `sha256:${Buffer.from(head.kid, "base64url").toString("hex")}`, kind };
}

function check(what: string, ok: boolean) {
  console.log(`${ok ? "ok" : "not ok"}: ${what}`);
  if (!ok) failures++;
}

if (import.meta.main) await run(main);
