/**
 * Times `03-workers close` over thousands of nodes on a real API server, etcd and controller-manager without
 * nodes.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { KubeApi } from "../../../shared/api/kube-api.ts";
import { Fail } from "../../../shared/fail.ts";
import { reduced } from "../../../shared/manifests/repair-changes.ts";
import { formatNumber } from "../../../shared/progress.ts";
import { type ApiLab, apiLab } from "../machine/api-lab.ts";
import { KUBERNETES } from "../machine/pins.ts";
import type { Job, Measured } from "./measured.ts";
import { askForServing, pretendNodes } from "./pretend-kubelets.ts";

const CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

interface CloseTimes extends Measured {
  nodes: number;
  issued: number;
  /** The CSRs that nobody may approve are still pending. */
  foreignLeftAlone: boolean;
  apiserverMemory: number;
}

/**
 * `03-workers close` over `nodes` nodes, with the controller-manager that part 2 reduces; `lifted` false:
 * with its usual limits.
 */
export async function benchClose(nodes: number, lifted = true): Promise<CloseTimes> {
  await using lab = await apiLab();
  await lab.controllerManager((command) => (lifted ? reducedCommand(command) : command));
  const job = await jobFile(lab, nodes);
  const child = Bun.spawn(
    [process.execPath, join(import.meta.dir, "pretend-kubelets.ts"), job, String(nodes)],
    { stderr: "inherit" },
  );
  try {
    for await (const chunk of child.stdout) if (Buffer.from(chunk).includes("asked")) break;
    await askForStrangers(job);
    const measured = await measure("close", job);
    return {
      ...measured,
      nodes,
      apiserverMemory: lab.apiserver.peakMemory(),
      ...(await csrsAfter(lab.admin)),
    };
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

/** A node that etcd does not know, a node with another node's address, and a user that is no node. */
async function askForStrangers(job: string) {
  const file = (await Bun.file(job).json()) as Job;
  const keys = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, [
    "sign",
    "verify",
  ]);
  const [one, other] = pretendNodes(2) as [
    ReturnType<typeof pretendNodes>[0],
    ReturnType<typeof pretendNodes>[0],
  ];
  await askForServing(
    file,
    "stranger",
    { ...one, name: "stranger", claimed: { ...one.claimed, names: ["stranger"] } },
    keys,
  );
  await askForServing(file, one.name, { ...one, claimed: { ...one.claimed, ips: other.claimed.ips } }, keys);
  await askForServing(file, one.name, one, keys, "system:masters");
}

async function csrsAfter(api: KubeApi) {
  let [issued, pending] = [0, 0];
  for await (const { status } of api.items<{ status?: { certificate?: string; conditions?: unknown[] } }>(
    CSRS,
  )) {
    if (status?.certificate) issued++;
    else if (!status?.conditions?.length) pending++;
  }
  return { issued, foreignLeftAlone: pending === 3 };
}

export async function jobFile(
  { folder, caPem: ca, server, saKey, saPub, operatorPair }: ApiLab,
  nodes: number,
): Promise<string> {
  const file = join(folder, "job.json");
  writeFileSync(file, JSON.stringify({ server, ca, ...operatorPair, nodes, saKey, saPub } satisfies Job), {
    mode: 0o600,
  });
  return file;
}

/** One of the two in a process of its own. */
export async function measure(what: "close" | "tokens", job: string): Promise<Measured> {
  const command = [process.execPath, join(import.meta.dir, "measured.ts"), what, job];
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
  const output = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Fail(`${what} stopped`, { hint: "see its output above" });
  return JSON.parse(output) as Measured;
}

export function closeLine(times: CloseTimes): string {
  const { nodes, approved, issued, refused, foreignLeftAlone, seconds, memory } = times;
  return `03 close: ${formatNumber(nodes)} nodes back in ${seconds.toFixed(1)} s (${formatNumber(Math.round(nodes / seconds))}/s), ${formatNumber(approved)} CSRs approved, ${formatNumber(issued)} issued, ${refused} left alone${foreignLeftAlone ? " and still pending" : " (NOT as they were)"}; ${memory} MB`;
}
