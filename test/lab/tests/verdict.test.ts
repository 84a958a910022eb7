/**
 * A rehearsal judged on a pretend cluster: what is well is seen as well, and one thing that is not makes it
 * "not recovered".
 */
import { afterAll, expect, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { EXAMPLE, filesOf } from "../../fixtures/kept-runs-example.ts";
import { write } from "../../pretend/cluster.ts";
import type { Lab, Machine } from "../machine/machine.ts";
import { USUAL } from "../machine/profile.ts";
import { transcriptChecks } from "../report/left-by-runs.ts";
import type { Step } from "../report/rehearsal.ts";
import { takeSnapshot } from "../report/snapshot.ts";
import { judge } from "../report/verdict.ts";
import type { Sample } from "../report/watch.ts";
import { allLost } from "../scenarios/all-lost.ts";
import { type Scene, startClock } from "../scene/scene.ts";

const folder = mkdtempSync(join(tmpdir(), "verdict-"));
afterAll(() => rmSync(folder, { recursive: true }));

const ready = { conditions: [{ type: "Ready", status: "True" }] };
const OBJECTS: Record<string, unknown[]> = {
  "--raw": [{}, {}], // metrics of both nodes
  nodes: ["cp1", "w1"].map((name) => ({
    metadata: { name, uid: `uid-${name}` },
    status: { ...ready, nodeInfo: { kubeletVersion: "v1.34.4" } },
  })),
  pods: ["cp1", "w1"].map((nodeName) => ({
    metadata: { name: `agent-${nodeName}`, namespace: "shop", uid: nodeName },
    spec: { nodeName },
    status: ready,
  })),
  configmaps: [{ metadata: { name: "db", namespace: "shop" }, data: { a: "1" } }],
  secrets: [{ metadata: { name: "db", namespace: "shop" }, type: "Opaque", data: { a: "MQ==" } }],
};

function machine(name: string): Machine {
  const root = join(folder, name);
  for (const path of ["etc/kubernetes/manifests", "var/lib/kubelet", "var/log/heartbeat"])
    mkdirSync(join(root, path), { recursive: true });
  writeFileSync(
    `${root}/etc/kubernetes/manifests/etcd.yaml`,
    "spec: {containers: [{name: etcd, command: [etcd, --data-dir=/var/lib/etcd]}]}\n",
  );
  writeFileSync(`${root}/etc/kubernetes/audit-policy.yaml`, "rules: []\n");
  writeFileSync(`${root}/var/lib/kubelet/config.yaml`, "kind: KubeletConfiguration\n");
  for (const [file, text] of EXAMPLE.filter(({ node }) => node === name).flatMap(filesOf))
    write(`${root}/root/${file}`, text);
  const run = async (command: string[]) => {
    if (command[0] === "sh")
      return {
        stdout: command.at(-1) === "cat report.html" ? "<b>cp1</b> <b>w1</b>" : "",
        stderr: "",
        exitCode: 0,
      };
    const kind = command[command.indexOf("get") + 1]!;
    const stdout = command.includes("get") ? JSON.stringify({ items: OBJECTS[kind] }) : "false";
    return { stdout, stderr: "", exitCode: 0 };
  };
  return {
    name,
    nodeName: name,
    ip: "10.250.0.11",
    path: (path) => join(root, path),
    run,
    kill: async () => {},
    boot: async () => {},
  };
}

const containers = { c1: "shop/agent-cp1/agent", c2: "kube-system/etcd-cp1/etcd" };
const pods = [{ uid: "p", name: "shop/agent-cp1", ready: true, leaving: false, mirror: false }];

/** The API and etcd go for some seconds; afterwards both nodes renew their Leases. */
function samplesSince(zero: number): Sample[] {
  const seen = (renewed: number) => ({
    nodes: ["cp1", "w1"].map((name) => ({ name, ready: true, renewed })),
    pods,
    endpoints: { "shop/web": 2 },
  });
  return [
    { t: zero - 500, etcd: true, api: true, containers, ...seen(zero - 600) },
    { t: zero + 1000, etcd: true, api: false, containers },
    { t: zero + 2000, etcd: false, api: false },
    { t: zero + 3000, etcd: true, api: false, containers: { c1: containers.c1 } },
    { t: zero + 4000, etcd: true, api: true, ...seen(zero + 4500) },
    { t: zero + 5000, etcd: true, api: true, ...seen(Date.now() + 1000), containers: { c1: containers.c1 } },
  ];
}

function step(part: number, command: string, start: number, seconds: number): Step {
  return {
    part,
    node: "cp1",
    command,
    start,
    seconds,
    exitCode: 0,
    ok: true,
    hung: false,
    stdout: "",
    stderr: "",
  };
}

async function scene(): Promise<Scene> {
  const [cp1, w1] = [machine("cp1"), machine("w1")];
  const lab: Lab = { nodes: [cp1, w1], controlPlanes: [cp1], workers: [w1], profile: USUAL };
  const zero = Date.now() - 6000;
  const beats = Array.from({ length: 331 }, (_, i) => `{"t":${zero - 200 + i * 200},"ok":true}\n`);
  writeFileSync(w1.path("/var/log/heartbeat/shop-caller.log"), beats.join(""));
  const steps = [
    step(1, "./bunw scripts/01-etcd.ts", 2.5, 1),
    step(4, "./bunw scripts/04-sa-tokens.ts", 4.6, 0.5),
    step(5, "./bunw scripts/05-verify.ts", 5.1, 0.2),
  ];
  const watcher = { samples: () => samplesSince(zero), stop: async () => {} };
  return {
    ...{
      lab,
      guide: "runbook" as const,
      zero,
      steps,
      moments: [],
      leaks: [],
      checks: [],
      kit: "",
      trustWas: [],
      replaced: [],
      away: [],
      say: () => {},
      oldTokens: ["old"],
    },
    before: await takeSnapshot(lab),
    watchers: [
      { machine: cp1, watcher },
      { machine: w1, watcher: { samples: () => [], stop: async () => {} } },
    ],
  };
}

test("judge() says recovered when everything it asks is well, with the times it saw", async () => {
  const record = await judge(await scene(), allLost, 10);
  expect(record.checks.filter((check) => !check.ok)).toEqual([]);
  expect(record.recovered).toBe(true);
  expect(record.seconds).toEqual({
    damageToEtcd: 3,
    damageToApi: 4,
    damageToNodesReady: 4.5,
    damageToWorkloadsOk: 0,
    repairCommands: 2,
    commandsToWorkloadsOk: 0,
  });
  expect(record).toMatchObject({
    ratio: 0.2,
    kubernetes: "v1.34.4",
    oldTokens: 1,
    oldTokensValid: 0,
    workloadContainersRestarted: 0,
    podsEvicted: 0,
  });
  expect(record.lanes.map((lane) => lane.name)).toEqual(["etcd", "API", "node cp1", "node w1"]);
});

test("a repair before this damage counts neither as this one's beginning nor as its part 4", async () => {
  const second = await scene();
  const [zero, steps] = [second.zero, second.steps];
  const earlier = {
    zero: zero - 60_000,
    steps: [step(1, "./bunw scripts/01-etcd.ts", 3, 1), step(4, "./bunw scripts/04-sa-tokens.ts", 20, 5)],
  };
  const clock = { ...earlier, moments: [{ at: 2, what: "the first damage", detail: "" }] };
  startClock(clock);
  const passed = (clock.zero - zero) / 1000; // the pretend damage was done some seconds ago
  expect(clock.steps[0]!.start + passed).toBeCloseTo(-57);
  expect(clock.moments[0]!.at + passed).toBeCloseTo(-58);
  second.steps = [...clock.steps, ...steps];
  const record = await judge(second, allLost, 10);
  expect(record.seconds.repairCommands).toBe(2);
  expect(record.checks.filter((check) => !check.ok)).toEqual([]);
});

test("pods that a run restarted by its own step are of no repair: by its transcript, where no step was typed in full", async () => {
  const cut = await scene();
  cut.steps = cut.steps.filter(({ part }) => part !== 4);
  const gone = samplesSince(cut.zero).map((sample) =>
    sample.t === cut.zero + 5000 ? { ...sample, containers: {}, pods: [] } : sample,
  );
  cut.watchers[0]!.watcher = { samples: () => gone, stop: async () => {} };
  const failed = async () =>
    (await judge(cut, allLost, 10)).checks.filter(({ ok }) => !ok).map(({ detail }) => detail);
  expect(await failed()).toEqual(["shop/agent-cp1", "shop/agent-cp1/agent"]);
  const lines = (title: string) =>
    [
      { at: new Date(cut.zero + 4500), what: "run", format: 1, script: "04-sa-tokens", args: [] },
      { at: new Date(cut.zero + 4600), what: "step", title },
    ].map((line) => `${JSON.stringify(line)}\n`);
  const runs = `${cut.lab.nodes[0]!.path("/root")}/kube-pki-repair-20261203T000000/runs`;
  const keep = (title: string) => {
    write(`${runs}/20261203T000000-04-sa-tokens-7.txt`, "");
    write(`${runs}/20261203T000000-04-sa-tokens-7.jsonl`, lines(title).join(""));
  };
  keep("2.4 Write the API server's certificate");
  expect(await failed()).toContain("shop/agent-cp1/agent");
  for (const title of ["4.5 Restart the pods", "M.6 Restart what keeps an old address in memory"]) {
    keep(title);
    expect(await failed()).not.toContain("shop/agent-cp1/agent");
  }
  rmSync(runs, { recursive: true });
});

test("judge() says not recovered, and why, when a file, a flag or a container is lost", async () => {
  const lost = await scene();
  const node = lost.lab.controlPlanes[0]!;
  cpSync(node.path("/etc/kubernetes/manifests/etcd.yaml"), node.path("/etc/kubernetes/etcd.yaml.old"));
  rmSync(node.path("/etc/kubernetes/audit-policy.yaml"));
  writeFileSync(
    node.path("/etc/kubernetes/manifests/etcd.yaml"),
    "spec: {containers: [{name: etcd, command: [etcd]}]}\n",
  );
  const samples = samplesSince(lost.zero).map((sample) =>
    sample.etcd === false ? { ...sample, containers: {} } : sample,
  );
  lost.watchers[0]!.watcher = { samples: () => samples, stop: async () => {} };
  const record = await judge(lost, allLost, 10);
  expect(record.recovered).toBe(false);
  expect(record.filesNotRestored).toEqual(["cp1: /etc/kubernetes/audit-policy.yaml"]);
  expect(record.checks.filter((check) => !check.ok).map(({ detail }) => detail)).toEqual([
    "cp1: manifests/etcd.yaml lost .spec.containers[etcd].command[--data-dir]=--data-dir=/var/lib/etcd",
    "shop/agent-cp1/agent",
  ]);
});

test("judge() looks once, and ends at once, when the repair has failed: no API, and a node that is off with its watcher", async () => {
  const failed = await scene();
  failed.failed = "part 1 failed";
  const [typed, said]: string[][] = [[], []];
  failed.say = (line) => void said!.push(line);
  for (const node of failed.lab.nodes)
    node.run = async (command) => {
      typed!.push(command.join(" "));
      return { stdout: "", stderr: "connection refused", exitCode: 1 };
    };
  failed.watchers[1]!.watcher.stop = () =>
    Promise.reject(new Fail("the watcher ended early", { hint: "boot w1" }));
  writeFileSync(
    failed.lab.workers[0]!.path("/var/log/heartbeat/shop-caller.log"),
    `{"t":${failed.zero},"ok":true}\n`,
  );
  const record = await judge(failed, allLost, 10);
  expect(typed).toEqual([expect.stringContaining("get --raw /readyz")]);
  expect(said).toEqual([]);
  expect(record.recovered).toBe(false);
  expect(record.checks[0]).toEqual({ name: "the API answers", ok: false, detail: "connection refused" });
});

test("kubectl logs and exec are asked of a pod that runs, not of one that is just leaving, or has ended", async () => {
  const [stays] = OBJECTS.pods as { metadata: object; spec: object }[];
  const leaving = {
    ...stays,
    metadata: { ...stays!.metadata, name: "old-agent", deletionTimestamp: "2026-01-01T00:00:00Z" },
  };
  const ended = { ...stays, metadata: { ...stays!.metadata, name: "task" }, status: { phase: "Succeeded" } };
  OBJECTS.pods!.unshift(leaving, ended);
  const { checks } = await judge(await scene(), allLost, 10);
  OBJECTS.pods!.splice(0, 2);
  expect(checks.flatMap(({ name, detail }) => (/^kubectl .* on cp1$/.test(name) ? [detail] : []))).toEqual(
    Array(2).fill("shop/agent-cp1"),
  );
});

test("judge() sees a run without its transcript, and a secret of a node in one", async () => {
  const one = await scene();
  const [cp1, w1] = one.lab.nodes as [Machine, Machine];
  const key = `-----BEGIN ${"PRIVATE"} KEY-----\n${"k".repeat(40)}\n-----END ${"PRIVATE"} KEY-----\n`;
  writeFileSync(cp1.path("/etc/kubernetes/a.key"), key);
  const leaked = EXAMPLE.filter(({ script }) => script === "02-control-plane").flatMap(filesOf);
  for (const [file, text] of leaked)
    write(cp1.path(`/root/${file}`), file.endsWith(".txt") ? `${"k".repeat(40)}\n` : text);
  one.steps.push({
    ...step(1, "./bunw scripts/01-etcd.ts", 5, 1),
    node: w1.name,
    stderr: "  wrote /etc/kubernetes/pki/ca.crt\n",
  });
  const checks = await transcriptChecks(one);
  expect(checks.map(({ ok, detail }) => [ok, detail.split(";")[0]])).toEqual([
    [false, "w1: ./bunw scripts/01-etcd.ts"],
    [false, "a private key, of cp1:/etc/kubernetes/a.key"],
    [true, ""],
  ]);
  rmSync(cp1.path("/etc/kubernetes/a.key"));
  for (const [file, text] of leaked) write(cp1.path(`/root/${file}`), text);
});
