#!/usr/bin/env bun
/**
 * `npm test`: every check, the quick ones first. All of them run, also after a red one; the last line is the
 * verdict. `npm run ok` and others run a part of it. The soaks take an hour, and are no part of `npm test`,
 * but for a sample.
 */
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { Glob } from "bun";
import { inParallel } from "../shared/api/many.ts";
import { run } from "../shared/run.ts";
import { ETCD_PROGRAMS } from "./lab/checks/etcd-releases.ts";
import { CALICO } from "./lab/machine/calico.ts";
import { CERT_MANAGER } from "./lab/machine/cert-manager.ts";
import { CACHE, isBuilt } from "./lab/machine/go-build.ts";
import type { GoBuild } from "./lab/machine/pins.ts";
import type { Rehearsal } from "./lab/report/rehearsal.ts";

const USAGE = `Usage: npm test [-- options]     ok, ok:scripts and the lab
       npm run ok [-- options]           format, lint, types, and the tests that run in process
       npm run ok:scripts [-- options]   the tests that run whole scripts and kits, and a sample of the soaks
       npm run soak [-- options]         the soaks, each to its end

  --only TEXT   only checks with TEXT in their name

Exit codes: 0 all passed · 1 some failed`;

const OPTIONS = { only: { type: "string" }, help: { type: "boolean" } } as const;

/**
 * When a check runs. First those of `ok`; then those `before the lab`, and `in the lab`, one after the other
 * as there is one lab. Those of `scripts` and `beside the lab` have the CPU that these leave them.
 */
type Runs = "ok" | "scripts" | "soak" | "before the lab" | "in the lab" | "beside the lab";

interface Check {
  name: string;
  command: string[];
  runs: Runs;
  env?: Record<string, string>;
  /** Programs that take longer to compile than this may: the check runs where they are built already. */
  built?: readonly GoBuild[];
  /** In a network of its own, where this machine gives one: nothing meets on the loopback. */
  isAlone?: boolean;
  /** Counts what passed and failed, where a check has several results. */
  count?: (output: string, exitCode: number) => Count;
}

interface Count {
  passed: number;
  failed: number;
  /** What failed, one line each. */
  red?: string[];
}

/**
 * Test files at a time: those of scripts wait for a script most of the time, so twice as many as cores keep the
 * cores busy; those in process wait seldom, and each process more has to load and make the same. Each keeps its
 * modules from file to file, as a plain `bun test` does.
 */
const TEST_FILES = 2 * availableParallelism();
const IN_PROCESS = availableParallelism() + 1;

/** Checks at a time, of those beside the lab, and beside the scripts. */
const BESIDE = availableParallelism();

/** Where the CPU is wanted, a process of this niceness gets a tenth of what another one gets. */
const NICE = ["nice", "-n", "10"];

/**
 * A loopback of its own, for tests that ask nothing of the machine's network: they serve there, and so do the
 * lab and another run of them.
 */
const OWN_NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"];
const hasOwnNetwork =
  Bun.which("unshare") !== null && Bun.spawnSync([...OWN_NETWORK, "true"], { stderr: "ignore" }).success;

const HOME = resolve(import.meta.dir, "..");
const RECORDS = mkdtempSync(join(tmpdir(), "rehearsals-"));

/** What the compiler remembers of the files that it has checked: those that are as they were it need not check again. */
const TYPES = "node_modules/.types";

/** How long each file took the last time, on this machine: those that take longest come first. */
const TIMES = join(CACHE, "test-times.json");

/**
 * Temporary files of tests. Bun ends its test processes without an "exit", so what one of them keeps for all
 * of its tests would stay.
 */
const LEFT = mkdtempSync(join(tmpdir(), "tests-"));
// as /tmp: tests are other users, too
chmodSync(LEFT, 0o1777);

/**
 * The folder says when a test runs: whole scripts and kits are in these two, soaks in one of their own, and
 * all others run in process.
 */
const SCRIPTS = /^test\/(scripts|kit)\//;
const SOAKS = /^test\/soak\//;
const FILES = [...new Glob("test/**/*.test.ts").scanSync(HOME)].sort();
const TESTS = {
  inProcess: FILES.filter((path) => !SCRIPTS.test(path) && !SOAKS.test(path)),
  scripts: FILES.filter((path) => path.startsWith("test/scripts/")),
  /** A kit has the Bun of other machines in it: it may come over the network. */
  kits: FILES.filter((path) => path.startsWith("test/kit/")),
  soaks: FILES.filter((path) => SOAKS.test(path)),
  /** Soaks that can be short. */
  sampled: FILES.filter(
    (path) => SOAKS.test(path) && readFileSync(join(HOME, path), "utf8").includes('from "./sample.ts"'),
  ),
};

/** Of those beside the lab the longest come first. */
// biome-ignore format: a table
const CHECKS: Check[] = [
  { name: "format and lint", command: ["x", "biome", "check", "."], runs: "ok" },
  { name: "types", command: ["x", "tsc", "-p", ".", "--incremental", "--tsBuildInfoFile", TYPES], runs: "ok" },
  { name: "tests in process", command: bunTest(TESTS.inProcess, IN_PROCESS), runs: "ok", isAlone: true, count: countTests },
  { name: "tests of scripts", command: bunTest(TESTS.scripts), runs: "scripts", isAlone: true, count: countTests },
  { name: "tests of kits", command: bunTest(TESTS.kits), runs: "scripts", count: countTests },
  { name: "a sample of the soaks", command: bunTest(TESTS.sampled), runs: "scripts", isAlone: true, env: { SAMPLE: "1" }, count: countTests },
  { name: "etcd's data, cut off and changed everywhere", command: bunTest(["test/shared/etcd-data/data.test.ts"]), runs: "soak", env: { EVERY_PLACE: "1" }, count: countTests },
  { name: "every cluster in every disaster, every object and file as nonsense", command: bunTest(["test/typed/unlike-plays.test.ts", "test/typed/unreadable.test.ts"]), runs: "soak", env: { EVERY_ROW: "1" }, count: countTests },
  { name: "lab: a member that was away, and all have moved", command: ["test/lab/checks/lagging-member.ts"], runs: "soak", count: countLines, built: ETCD_PROGRAMS },
  { name: "soaks", command: bunTest(TESTS.soaks), runs: "soak", count: countTests },
  { name: "lab: its programs are built", command: ["test/lab/machine/binaries.ts"], runs: "before the lab" },
  { name: "lab: the playbook's order, batches and gates", command: ["test/lab/checks/playbook.ts"], runs: "beside the lab", count: countLines },
  { name: "lab: a computed key accepts old tokens", command: ["test/lab/checks/old-tokens.ts"], runs: "beside the lab", count: countLines },
  { name: "lab: issuing equals kubeadm", command: ["test/lab/checks/kubeadm-equal.ts"], runs: "beside the lab" },
  { name: "lab: keys from the memory of real processes", command: ["test/lab/checks/process-memory.ts"], runs: "beside the lab", count: countLines },
  { name: "lab: part 3's token on a real API", command: ["test/lab/checks/joining.ts"], runs: "beside the lab", count: countLines },
  { name: "lab: the kit on arm64, without AVX2, with a busybox", command: ["test/lab/checks/kit.ts"], runs: "beside the lab", count: countLines },
  { name: "lab: tokens equal the controller-manager's", command: ["test/lab/checks/tokens.ts"], runs: "beside the lab", count: countLines },
  { name: "lab: the plan's page in a browser", command: ["test/lab/checks/plan-page.ts"], runs: "beside the lab", count: countLines },
  { name: "lab: the report in a browser", command: ["test/lab/checks/report-page.ts"], runs: "beside the lab", count: countLines },
  { name: "lab: age opens our bundles, we open age's", command: ["test/lab/checks/age-equal.ts"], runs: "beside the lab" },
  { name: "lab: YAML equals Kubernetes' own", command: ["test/lab/checks/yaml-equal.ts"], runs: "beside the lab", count: countLines },
  { name: "lab: keys from the free blocks of real file systems", command: ["test/lab/checks/disks.ts"], runs: "beside the lab", count: countTests },
  { name: "lab: a restored snapshot equals etcdutl's", command: ["test/lab/checks/restore.ts"], runs: "beside the lab", count: countLines, built: ETCD_PROGRAMS },
  { name: "lab: a lost member's data keeps what was acknowledged", command: ["test/lab/checks/survivor.ts"], runs: "beside the lab", count: countLines, built: ETCD_PROGRAMS },
  { name: "lab: members that have moved find each other", command: ["test/lab/checks/moved-members.ts"], runs: "beside the lab", count: countLines, built: ETCD_PROGRAMS },
  { name: "lab: rehearse all-lost", command: rehearsal("all-lost", "runbook"), runs: "in the lab", count: countChecks("all-lost") },
  { name: "lab: rehearse ha-all-lost", command: rehearsal("ha-all-lost"), runs: "in the lab", count: countChecks("ha-all-lost") },
  { name: "lab: rehearse interrupted", command: rehearsal("interrupted"), runs: "in the lab", count: countChecks("interrupted") },
  { name: "lab: rehearse field", command: rehearsal("field", "runbook"), runs: "in the lab", count: countChecks("field"), built: [CALICO, CERT_MANAGER] },
  { name: "lab: etcd read offline equals etcd", command: ["test/lab/checks/etcd.ts"], runs: "in the lab" },
];

async function main() {
  const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true });
  if (values.help) return console.log(USAGE);
  const chosen = CHECKS.filter(
    ({ name, runs }) => isAsked(runs, positionals[0]) && name.includes(values.only ?? ""),
  );
  for (const { name, command } of chosen.filter((check) => !isPossible(check)))
    console.log(
      `=== ${name}: not run, its programs are not built here. To build them, and run it: ./bunw ${command.slice(0, 3).join(" ")}`,
    );
  const total: Count & { red: string[] } = { passed: 0, failed: 0, red: [] };
  const runAll = (which: Runs, { width = 1, isBeside = false } = {}) =>
    inParallel(
      chosen.filter((check) => check.runs === which && isPossible(check)),
      width,
      async (check) => {
        const { passed, failed, red, beside } = await runCheck(check, isBeside);
        total.passed += passed;
        total.failed += failed;
        if (failed === 0) return;
        total.red.push(...(red?.length ? red.map((line) => `${check.name}: ${line}`) : [check.name]));
        if (beside.length > 0) total.red.push(`${check.name}: beside it ran: ${beside.join("; ")}`);
      },
    );
  for (const which of ["ok", "soak"] as const) await runAll(which);
  const scripts = runAll("scripts", { isBeside: positionals[0] === undefined });
  await runAll("before the lab");
  const others = runAll("beside the lab", { width: BESIDE, isBeside: true });
  await Promise.all([scripts, others, runAll("in the lab")]);
  for (const folder of [RECORDS, LEFT]) rmSync(folder, { recursive: true });
  for (const line of total.red) console.log(`not ok: ${line}`);
  console.log(`${total.passed} passed, ${total.failed} failed`);
  process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
}

/** Part: "ok", "scripts" or "soak"; undefined for all but the soaks. */
function isAsked(runs: Runs, part: string | undefined): boolean {
  return part === undefined ? runs !== "soak" : runs === part;
}

function isPossible({ built = [] }: Check): boolean {
  return built.every(isBuilt);
}

/** Name → what has run at the same time; of those that run now. */
const running = new Map<string, Set<string>>();

/**
 * Shows the check's output at once, or whole at its end where it runs beside another one, and says that the
 * check still runs when it prints nothing for a while. `beside`: what ran at the same time.
 */
async function runCheck(
  { name, command, count, env, isAlone }: Check,
  isBeside: boolean,
): Promise<Count & { beside: string[] }> {
  const beside = new Set(running.keys());
  for (const others of running.values()) others.add(name);
  running.set(name, beside);
  if (!isBeside) console.log(`\n=== ${name}`);
  const began = Date.now();
  const before = [...(isBeside ? NICE : []), ...(isAlone && hasOwnNetwork ? OWN_NETWORK : [])];
  const child = Bun.spawn([...before, process.execPath, ...command], {
    ...{ cwd: HOME, stdout: "pipe", stderr: "pipe" },
    env: { ...process.env, ...(command[0] === "test" ? { TMPDIR: LEFT } : {}), ...env },
  });
  let output = "";
  let lastSaid = Date.now();
  const pass = async (stream: ReadableStream<Uint8Array>) => {
    for await (const chunk of stream.pipeThrough(
      new TextDecoderStream() as never,
    ) as ReadableStream<string>) {
      output += chunk;
      if (isBeside) continue;
      lastSaid = Date.now();
      process.stdout.write(chunk);
    }
  };
  const pulse = setInterval(() => {
    if (Date.now() - lastSaid > QUIET)
      console.log(`... ${name}: ${Math.round((Date.now() - began) / 1000)} s`);
  }, QUIET);
  const [exitCode] = await Promise.all([child.exited, pass(child.stdout), pass(child.stderr)]);
  clearInterval(pulse);
  running.delete(name);
  if (isBeside) console.log(`\n=== ${name}\n${output.trimEnd()}`);
  const result = count?.(output, exitCode) ?? {
    passed: exitCode === 0 ? 1 : 0,
    failed: exitCode === 0 ? 0 : 1,
  };
  console.log(
    `=== ${name}: ${result.passed} passed, ${result.failed} failed, ${((Date.now() - began) / 1000).toFixed(1)} s`,
  );
  return { ...result, beside: [...beside] };
}

/** Milliseconds; in CI, minutes without output look like a hang. */
const QUIET = 30_000;

function bunTest(files: readonly string[], width = TEST_FILES): string[] {
  return [
    "test",
    `--parallel=${width}`,
    "--no-isolate",
    `--timings=${TIMES}`,
    "--update-timings",
    "--timeout=300000",
    ...files.map((path) => `./${path}`),
  ];
}

/** Bun's own figures. A file that cannot be loaded is a failure, too, and so are missing figures. */
function countTests(output: string, exitCode: number): Count {
  const figure = (word: string) => Number(output.match(new RegExp(`^ *(\\d+) ${word}$`, "m"))?.[1] ?? 0);
  const failed = Math.max(figure("fail"), exitCode === 0 ? 0 : 1);
  const red = new Map<string, string>();
  for (const { index, 1: name } of output.matchAll(/^\(fail\) (.+?)(?: \[[\d.]+m?s\])?$/gm)) {
    // Bun lists the failures a second time at the end of a long run, without their errors.
    if (!red.has(name!)) red.set(name!, [name, ...errorBefore(output.slice(0, index))].join("\n    "));
  }
  return { passed: figure("pass"), failed, red: [...red.values()] };
}

/**
 * The lines that Bun printed of a test's error, before its name, without the source: CI keeps only the end of
 * what we print.
 */
function errorBefore(output: string): string[] {
  const lines = output.slice(-5000).trimEnd().split("\n");
  const ended = lines.findLastIndex((line) => /^\((pass|fail|skip)\)|\.test\.ts:$/.test(line));
  return lines
    .slice(ended + 1)
    .filter((line) => !/^ *(\d+ \||\^?$)/.test(line))
    .slice(0, 12);
}

/** `ok: …` and `not ok: …`, one line each. A check that stops before its end is a failure, too. */
function countLines(output: string, exitCode: number): Count {
  const red = [...output.matchAll(/^not ok: (.+)$/gm)].map((match) => match[1]!);
  return {
    passed: output.match(/^ok: /gm)?.length ?? 0,
    failed: Math.max(red.length, exitCode === 0 ? 0 : 1),
    red,
  };
}

function rehearsal(scenario: string, follow = "plan") {
  return [
    "test/lab/rehearse.ts",
    "--scenario",
    scenario,
    "--follow",
    follow,
    "--json",
    record(scenario),
    "--html",
    "rehearsal.html",
  ];
}

function record(scenario: string) {
  return join(RECORDS, `${scenario}.json`);
}

/** Each check of the rehearsal counts. A rehearsal without a record is one failure. */
function countChecks(scenario: string) {
  return (_: string, exitCode: number): Count => {
    if (!existsSync(record(scenario)))
      return { passed: 0, failed: 1, red: [`stopped with exit code ${exitCode}`] };
    const { checks } = JSON.parse(readFileSync(record(scenario), "utf8")) as Rehearsal;
    const red = checks.filter(({ ok }) => !ok).map(({ name, detail }) => `${name}: ${detail}`);
    return { passed: checks.length - red.length, failed: Math.max(red.length, exitCode === 0 ? 0 : 1), red };
  };
}

if (import.meta.main) await run(main);
