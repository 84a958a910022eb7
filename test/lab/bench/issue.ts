#!/usr/bin/env bun
/**
 * Times a full PKI with all kubeconfigs: made by kubeadm (two commands), by our process (from its start), and
 * in this process, in turn. Prints the medians and their ratio.
 *
 * By hand: ./bunw test/lab/bench/issue.ts KUBEADM [VERSION [ALGORITHM [ROUNDS]]]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { $ } from "zx/core";
import type { ClusterFacts, KeyAlgorithm } from "../../../shared/pki/certs.ts";
import { testFacts } from "../../pretend/facts.ts";

interface IssueTimes {
  /** Medians in milliseconds. */
  kubeadm: number;
  process: number;
  inProcess: number;
  /** Our process's median divided by kubeadm's. */
  ratio: number;
}

/** Runs `rounds` rounds, the three ways in turn. */
export async function benchIssue(kubeadm: string, facts: ClusterFacts, rounds: number): Promise<IssueTimes> {
  const { runKubeadm, runOurs } = await import("../checks/kubeadm-equal.ts");
  const times: [number, number, number][] = [];
  const quiet = $({ quiet: true });
  for (let round = 0; round < rounds; round++) {
    times.push([
      await timed((dir) => runKubeadm(kubeadm, facts, dir)),
      await timed(
        (dir) =>
          quiet`${process.execPath} ${import.meta.dir}/issue-all.ts ${dir} ${facts.kubernetesVersion} ${facts.keyAlgorithm}`,
      ),
      await timed((dir) => muted(() => runOurs(facts, dir))),
    ]);
  }
  const [theirs, ours, inProcess] = [0, 1, 2].map((way) => median(times.map((row) => row[way]!))) as [
    number,
    number,
    number,
  ];
  return { kubeadm: theirs, process: ours, inProcess, ratio: ours / theirs };
}

async function timed(action: (dir: string) => Promise<unknown>): Promise<number> {
  const dir = mkdtempSync(join(tmpdir(), "bench-issue-"));
  const start = performance.now();
  await action(dir);
  const time = performance.now() - start;
  rmSync(dir, { recursive: true });
  return time;
}

async function muted(action: () => Promise<void>) {
  const write = console.error;
  console.error = () => {};
  try {
    await action();
  } finally {
    console.error = write;
  }
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1]!;
}

if (import.meta.main) {
  const [kubeadm = "kubeadm", version = "v1.34.4", algorithm = "RSA-2048", rounds = "9"] =
    process.argv.slice(2);
  const facts = testFacts({ kubernetesVersion: version, keyAlgorithm: algorithm as KeyAlgorithm });
  const times = await benchIssue(kubeadm, facts, Number(rounds));
  const [a, b, c] = [times.kubeadm, times.process, times.inProcess].map((ms) => `${Math.round(ms)} ms`);
  console.log(
    `${version} ${algorithm}, median of ${rounds}: kubeadm ${a}, ours ${b} (in process ${c}), ratio ${times.ratio.toFixed(2)}`,
  );
}
