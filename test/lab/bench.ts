#!/usr/bin/env bun
/**
 * `npm run bench`: how fast the kit is on this machine, compared with what it replaces. One line for each
 * figure, on stdout.
 */
import { loadavg } from "node:os";
import { parseArgs } from "node:util";
import { rsaKey } from "../../shared/old-sa-key/old-sa-pub.ts";
import { readJwt } from "../../shared/pki/sa-keys.ts";
import { Progress } from "../../shared/progress.ts";
import { run } from "../../shared/run.ts";
import { testFacts } from "../pretend/facts.ts";
import { newKeyOf, tokenBy } from "../pretend/old-keys.ts";
import { benchBigEtcd, bigEtcdLine } from "./bench/big-etcd.ts";
import { benchCarve, carveLine } from "./bench/carve.ts";
import { joinsLine } from "./bench/client-joins.ts";
import { benchClose, closeLine } from "./bench/close.ts";
import { benchDrill, drillLine } from "./bench/drill-cost.ts";
import { benchIssue } from "./bench/issue.ts";
import { benchTokens, tokensLine } from "./bench/tokens.ts";
import { workersLines } from "./bench/workers.ts";
import { binaries } from "./machine/binaries.ts";
import { KUBERNETES } from "./machine/pins.ts";
import { peakMemory } from "./machine/program.ts";

const USAGE = `Usage: npm run bench [-- options]

  --only NAME     old-key, issue, carve, close, joins, tokens, workers, big-etcd or drill
  --gigabytes N   size of the disk for carve (default: 4)
  --etcd N,...    sizes of etcd for big-etcd, in gigabytes (default: 2; 8, etcd's own limit, needs 20 GB of disk and half an hour)
  --nodes N       nodes and requests for close; Nodes for drill, whose etcd is as large as --etcd says first (default: 5000)
  --joins N       workers that join at the same time for joins (default: 1000)
  --secrets N     token Secrets for tokens (default: 10000)
  --sample N      how many of them the article's line gets (default: 500)

Needs about 2 GB and some minutes. Nothing else should run at the same time.`;

const OPTIONS = {
  only: { type: "string" },
  gigabytes: { type: "string", default: "4" },
  etcd: { type: "string", default: "2" },
  nodes: { type: "string", default: "5000" },
  joins: { type: "string", default: "1000" },
  secrets: { type: "string", default: "10000" },
  sample: { type: "string", default: "500" },
  help: { type: "boolean" },
} as const;

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) return console.log(USAGE);
  const wants = (name: string) => (values.only ?? name) === name;
  console.log(`load before: ${loadavg()[0]!.toFixed(1)} on ${navigator.hardwareConcurrency} cores`);
  if (wants("old-key")) console.log(oldKeyLine());
  if (wants("issue")) console.log(await issueLine());
  if (wants("carve")) console.log(carveLine(await benchCarve(Number(values.gigabytes), 5)));
  if (wants("close")) console.log(closeLine(await benchClose(Number(values.nodes))));
  if (wants("joins")) console.log(await joinsLine(Number(values.joins)));
  if (wants("tokens"))
    console.log(tokensLine(await benchTokens(Number(values.secrets), Number(values.sample))));
  if (wants("workers")) console.log((await workersLines()).join("\n"));
  if (wants("drill"))
    console.log(drillLine(await benchDrill(Number(values.etcd.split(",")[0]), Number(values.nodes))));
  for (const size of wants("big-etcd") ? values.etcd.split(",") : [])
    console.log(bigEtcdLine(await benchBigEtcd(Number(size))));
}

/** Measured first, so that the process's peak of memory is its own. */
function oldKeyLine(): string {
  const pair = newKeyOf("RSA-2048");
  const [one, other] = ["one", "two"].map(
    (name) => readJwt(tokenBy(pair, { alg: "RS256", of: `kube-system:${name}` }))!,
  );
  const progress = new Progress("greatest common divisor, Mbit", 135);
  const [began, cpu] = [performance.now(), process.cpuUsage()];
  const [pem] = rsaKey(one!, other!, { progress: (done) => progress.show(Math.ceil(done / 1_000_000)) });
  const [seconds, { user, system }] = [(performance.now() - began) / 1000, process.cpuUsage(cpu)];
  const found = pem === pair.pub ? "" : "NOT FOUND, ";
  return `old sa.pub, RSA-2048, from two tokens: ${found}${seconds.toFixed(1)} s (${((user + system) / 1e6).toFixed(1)} s of processor), at most ${peakMemory()} MB`;
}

async function issueLine(): Promise<string> {
  const facts = testFacts({ kubernetesVersion: KUBERNETES, keyAlgorithm: "RSA-2048" });
  const { kubeadm, process, ratio } = await benchIssue((await binaries()).get("kubeadm")!, facts, 9);
  return `issuing a full PKI: ${Math.round(process)} ms, kubeadm ${Math.round(kubeadm)} ms, ratio ${ratio.toFixed(2)} (medians of 9)`;
}

if (import.meta.main) await run(main);
