/**
 * etcd's data directory, read offline, has what etcd itself answers, key by key: while etcd runs, and after
 * everything on the node was killed. The API server is frozen meanwhile, so that nothing is written between
 * the answer and the comparison. Then the same of a large one that is written to all the time.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { run } from "../../../shared/run.ts";
import { binaries } from "../machine/binaries.ts";
import { Cluster } from "../machine/cluster.ts";
import type { Node } from "../machine/node.ts";
import { readBusyEtcd } from "./busy-etcd.ts";
import { askEtcd, compareWithEtcd, type EtcdAnswers } from "./etcd-equal.ts";

async function main() {
  const [mode, pki, out] = process.argv.slice(2);
  if (mode === "ask") return await ask(pki!, out!);
  await using cluster = await Cluster.up({
    controlPlanes: 1,
    workers: 1,
    onProgress: (line) => console.error(`  ${line}`),
  });
  const [cp] = cluster.controlPlanes as [Node];
  await cp.must(["pkill", "-STOP", "-x", "kube-apiserver"]);
  const answers = await answersOf(cp);
  // A lease that expires meanwhile would be one more write.
  await cp.must(["pkill", "-STOP", "-x", "etcd"]);
  compare("while it runs", cp, answers);
  await cp.kill();
  compare("after SIGKILL", cp, answers);
  console.log(await readBusyEtcd((await binaries()).get("etcd")!));
}

/** Asked from the node's network by a process that sees our files. */
async function answersOf(cp: Node): Promise<EtcdAnswers> {
  const folder = mkdtempSync(join(tmpdir(), "etcd-answers-"));
  const out = join(folder, "answers.json");
  const inner = [
    "ip",
    "netns",
    "exec",
    `kpr-${cp.name}`,
    process.execPath,
    import.meta.path,
    "ask",
    cp.path("/etc/kubernetes/pki/etcd"),
    out,
  ];
  try {
    if ((await Bun.spawn(inner, { stdout: "inherit", stderr: "inherit" }).exited) !== 0)
      throw new Fail("etcd could not be asked", { hint: "see the lines above" });
    const answers = JSON.parse(readFileSync(out, "utf8")) as Omit<EtcdAnswers, "keys"> & {
      keys: [string, string][];
    };
    return { ...answers, keys: new Map(answers.keys) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function ask(pki: string, out: string) {
  const read = (file: string) => readFileSync(`${pki}/${file}`, "utf8");
  const answers = await askEtcd("https://127.0.0.1:2379", {
    tls: { ca: read("ca.crt"), cert: read("server.crt"), key: read("server.key") },
  });
  writeFileSync(out, JSON.stringify({ ...answers, keys: [...answers.keys] }));
}

function compare(when: string, cp: Node, answers: EtcdAnswers) {
  const differences = compareWithEtcd(cp.path("/var/lib/etcd"), answers);
  for (const { what, etcd, offline } of differences.slice(0, 10))
    console.error(`  ${what}: etcd says ${etcd}, its files say ${offline}`);
  if (differences.length > 0)
    throw new Fail(`${differences.length} differences ${when}`, {
      hint: "test/lab/checks/etcd-equal.ts compares",
    });
  console.log(`etcd ${when}: ${answers.keys.size} keys at revision ${answers.revision}, all equal`);
}

if (import.meta.main) await run(main);
