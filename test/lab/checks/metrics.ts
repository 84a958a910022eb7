#!/usr/bin/env bun
/**
 * What 05-verify tells Prometheus, judged by Prometheus' own promtool: the metrics of a node that is well and
 * of one that is not, and the example alerts, which fire on the one and not on the other. systemd reads the
 * units.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { run } from "../../../shared/run.ts";
import { yamlText } from "../../../shared/yaml.ts";
import { sameEtcd, serveEtcd } from "../../pretend/etcd.ts";
import { pretendNode } from "../../pretend/node.ts";
import { serveRunning } from "../../pretend/running.ts";
import { installPackages } from "../machine/packages.ts";

const HOME = resolve(import.meta.dir, "../../..");
const RULES = join(HOME, "scripts/alerts.example.yaml");
const UNIT = "scripts/kube-pki-repair-verify";
const UNITS = ["verify.service", "verify.timer", "mail.service"];
const PLACE = "/var/lib/prometheus/node-exporter/kube-pki-repair.prom";

let failures = 0;

async function main() {
  await installPackages([
    ["/usr/bin/promtool", "prometheus"],
    ["/usr/bin/systemd-analyze", "systemd"],
  ]);
  const folder = mkdtempSync(join(tmpdir(), "metrics-"));
  const well = await metricsOf({});
  const notReady = { status: { conditions: [{ type: "Ready", status: "False" }] } };
  const bad = await metricsOf({ "/api/v1/nodes/w2": notReady });
  for (const [name, text] of Object.entries({ "a cluster that is well": well, "one with a lost node": bad }))
    await judged(`promtool accepts the metrics of ${name}`, ["promtool", "check", "metrics"], text);
  await judged("promtool accepts the example alerts", ["promtool", "check", "rules", RULES]);
  await judged("the alerts fire on what is bad, and on nothing else", [
    "promtool",
    "test",
    "rules",
    alertTests(folder, { well, bad }),
  ]);
  await judged("systemd accepts the services and the timer", [
    "systemd-analyze",
    "verify",
    ...unitsIn(folder),
  ]);
  rmSync(folder, { recursive: true });
  process.exitCode = failures === 0 ? 0 : 1;
}

/** What the service's own command writes on a pretend control plane node. */
async function metricsOf(objects: Record<string, object>): Promise<string> {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveRunning(node, { objects });
  mkdirSync(join(node.root, PLACE, ".."), { recursive: true });
  const command = /bunw scripts\/(.+)\.ts (.+ --metrics) "\$\$METRICS\/kube-pki-repair\.prom"/.exec(
    readFileSync(join(HOME, `${UNIT}.service`), "utf8"),
  );
  if (!command)
    throw new Fail(`No ExecStart in ${UNIT}.service that the check can read`, {
      hint: "see metricsOf in test/lab/checks/metrics.ts",
    });
  // `run` keeps its process for the next one, and this program would wait for it
  await node.runAlone(`${command[1]} ${command[2]} ${PLACE}`);
  return node.read(PLACE);
}

/**
 * A lost node, certificates and a CA that end soon, and a look of three days ago each have an alert of their
 * own.
 */
function alertTests(folder: string, { well, bad }: Record<"well" | "bad", string>): string {
  const looked = Number(/last_run_timestamp_seconds (\d+)/.exec(well)?.[1]);
  const ending = (text: string, path: string, days: number) =>
    text.replaceAll(
      new RegExp(`(expiry_timestamp_seconds\\{\\S*${path}"\\}) \\d+`, "g"),
      `$1 ${looked + days * DAY}`,
    );
  // two certificates: of the API server and of etcd
  const soon = ending(ending(well, "server.crt", 10), "pki/ca.crt", 100);
  const oldCa = [
    `holders{kind="process"} 1`,
    `expiry_timestamp_seconds{kind="process"} ${looked + 50 * DAY}`,
  ];
  const held = [well.trimEnd(), ...oldCa.map((line) => `kube_pki_repair_old_ca_${line}`), ""].join("\n");
  const tests = [
    firing("well, without a backup", { text: well, looked, hours: 25 }, { KubernetesPkiNoBackup: 1 }),
    firing(
      "a lost node",
      { text: bad, looked, hours: 25 },
      { KubernetesPkiNoBackup: 1, KubernetesPkiOutage: 1 },
    ),
    firing(
      "expires soon, three days ago",
      { text: soon, looked, hours: 72 },
      {
        ...{
          KubernetesCaEnds: 1,
          KubernetesCertificateEnds: 2,
          KubernetesPkiNoBackup: 1,
          KubernetesPkiNotLookedAt: 1,
        },
      },
    ),
  ];
  tests.push(
    firing(
      "a CA was renewed, and a process not restarted for eight days",
      { text: held, looked, hours: 8 * 24 },
      {
        ...{ KubernetesOldCaHeld: 1, KubernetesOldCaInMemory: 1 },
        ...{ KubernetesPkiNoBackup: 1, KubernetesPkiNotLookedAt: 1 },
      },
    ),
  );
  const file = join(folder, "alerts.test.yaml");
  writeFileSync(file, yamlText({ rule_files: [RULES], evaluation_interval: "1m", tests }));
  return file;
}

/** Seconds. */
const DAY = 86_400;

/**
 * How many alerts of each name fire so long after these metrics were written. promtool's time begins at 0, so
 * theirs is moved there.
 */
function firing(
  name: string,
  { text, looked, hours }: { text: string; looked: number; hours: number },
  alerts: Record<string, number>,
) {
  const samples = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  const input_series = samples.map((line) => {
    const [, metric, labels = "", value] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line)!;
    const moved = Number(value) - (metric!.endsWith("timestamp_seconds") ? looked : 0);
    return {
      series: `${metric}{${[labels, 'instance="cp1"'].filter(Boolean).join(",")}}`,
      values: `${moved}+0x${hours * 60 + 1}`,
    };
  });
  const exp_samples = Object.entries(alerts).map(([alert, value]) => ({
    labels: `{alertname="${alert}"}`,
    value,
  }));
  const expr = 'count by (alertname) (ALERTS{alertstate="firing"})';
  return {
    name,
    interval: "1m",
    input_series,
    promql_expr_test: [{ expr, eval_time: `${hours}h`, exp_samples }],
  };
}

/** The units with the kit's folder as it is here: systemd looks whether the program is there. */
function unitsIn(folder: string): string[] {
  return UNITS.map((name) => {
    const path = join(folder, `kube-pki-repair-${name}`);
    const text = readFileSync(join(HOME, `scripts/kube-pki-repair-${name}`), "utf8");
    writeFileSync(path, text.replaceAll("/opt/kube-pki-repair", HOME));
    return path;
  });
}

async function judged(what: string, command: string[], input = "") {
  const child = Bun.spawn(command, { stdin: Buffer.from(input), stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  const ok = (await child.exited) === 0 && !/\b(FAILED|warning)\b/i.test(stdout + stderr);
  if (!ok) failures++;
  console.log(`${ok ? "ok" : "not ok"}: ${what}${ok ? "" : `: ${stdout}${stderr}`}`);
}

if (import.meta.main) await run(main);
