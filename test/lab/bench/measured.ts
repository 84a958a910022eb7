#!/usr/bin/env bun
import { KubeApi } from "../../../shared/api/kube-api.ts";
/**
 * What close.ts and tokens.ts measure, in a process of its own so that its memory is its own: measured.ts
 * close|tokens JOB-FILE. Prints one line of JSON.
 */
import { madeAt } from "../../../shared/pki/certificate.ts";
import { identities } from "../../../shared/workers/identities.ts";
import { waitForNodes } from "../../../shared/workers/wait.ts";
import { renewTokens } from "../../../shared/workloads/renew-tokens.ts";
import { peakMemory, processorSeconds } from "../machine/program.ts";
import { type LabFile, pretendNodes } from "./pretend-kubelets.ts";

export type Job = LabFile & { nodes: number; saKey: string; saPub: string };

export interface Measured {
  seconds: number;
  /** The same, of processor time. */
  processor: number;
  /** The most memory it had, in MB. */
  memory: number;
  /** close */
  back: number;
  approved: number;
  refused: number;
  unreachable: number;
  /** tokens */
  renewed: number;
}

async function main() {
  const [what, file = ""] = process.argv.slice(2);
  const job = (await Bun.file(file).json()) as Job;
  const api = new KubeApi(job);
  const [begun, before] = [performance.now(), processorSeconds()];
  const figures = what === "close" ? await close(api, job) : await tokens(api, job);
  const [seconds, processor] = [(performance.now() - begun) / 1000, processorSeconds() - before];
  console.log(JSON.stringify({ seconds, processor, memory: peakMemory(), ...figures }));
}

async function close(api: KubeApi, { nodes, ca }: Job) {
  const known = pretendNodes(nodes);
  // All pretend nodes are on this machine, so loopback addresses are allowed here.
  const own = {
    proved: new Map(),
    apiNames: [],
    serviceSubnets: ["10.96.0.0/12"],
    dnsDomain: "cluster.local",
    services: [],
    nobodys: [],
  };
  const asked = identities({ nodes: known, ...own });
  const returned = await waitForNodes({
    api,
    expected: known,
    identities: asked,
    caPem: ca,
    since: madeAt(ca),
    serving: true,
    seconds: 600,
  });
  const { back, approved, refused, unreachable } = returned;
  return { back, approved, refused: refused.length, unreachable: unreachable.length };
}

async function tokens(api: KubeApi, { ca, saPub, saKey }: Job) {
  const { renewed } = await renewTokens(api, { caPem: ca, saPub, saKey });
  return { renewed: renewed.length };
}

if (import.meta.main) await main();
