/** What `npm test`, its parts and `npm run night` run, and how much CPU each may take. */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, join, resolve } from "node:path";
import { Glob } from "bun";
import { type Count, countLines, countTests } from "./counts.ts";
import { ETCD_PROGRAMS } from "./lab/checks/etcd-releases.ts";
import { CALICO } from "./lab/machine/calico.ts";
import { CERT_MANAGER } from "./lab/machine/cert-manager.ts";
import { CACHE } from "./lab/machine/go-build.ts";
import { BBOLT_BUILD, type GoBuild } from "./lab/machine/pins.ts";
import { rehearsalName } from "./rehearsed.ts";

/**
 * When a check runs. First those of `ok`; then those `before the lab`, and `in the lab`, one after the other
 * as there is one lab. Those of `scripts`, `soak` and `beside the lab` have the CPU that these leave them.
 */
export type Runs = "ok" | "scripts" | "soak" | "before the lab" | "in the lab" | "beside the lab";

export interface Check {
  name: string;
  command: string[];
  runs: Runs;
  /** Only `npm run night` runs it, and its own command. Soaks are all so. */
  isNightly?: true;
  /** Budget, seconds of CPU with children. Unset: nobody has measured it, or it compiles what is not there yet. */
  cpu?: number;
  env?: Record<string, string>;
  /** Programs that take longer to compile than this may: the check runs where they are built already. */
  built?: readonly GoBuild[];
  /** In a network of its own, where this machine gives one: nothing meets on the loopback. */
  isAlone?: boolean;
  /** Its temporary files are in memory. */
  isInMemory?: boolean;
  /** The rehearsal of this scenario: each check of its record counts. */
  scenario?: string;
  /** Counts what passed and failed, where a check has several results. */
  count?: (output: string, exitCode: number) => Count;
}

/**
 * Test files at a time: in process as with scripts they wait a good part of the time, for answers that do not come. On two
 * cores 289 files took 123 s three at a time, and 102 s four. Each process keeps its modules from file to file, as a plain
 * `bun test` does.
 */
const TEST_FILES = 2 * availableParallelism();

/**
 * Code runs too seldom in a test for the last of JavaScriptCore's compilers: without it 221 tests took 25.1 and 25.9 s of
 * CPU, with it 28.4. Memory that was freed stays the process's, as the next test takes it again: side by side 142 tests
 * took 24.7 s, and 26.1 where it was given back, with two and a half times as many page faults.
 */
export const QUICK_BUN = { BUN_JSC_useFTLJIT: "0", MIMALLOC_PURGE_DELAY: "-1" };

/**
 * One checker asks for each type once; Go's collector, which would use a quarter of the CPU, waits for memory to get
 * scarce: side by side 11.9 s of CPU with that, 10.6 with both, and 16.4 without.
 */
const QUICK_GO = { GOGC: "off", GOMEMLIMIT: "2GiB" };

export const HOME = resolve(import.meta.dir, "..");

/** What the compiler remembers of the files that it has checked: those that are as they were it need not check again. */
const TYPES = "node_modules/.types";

/** How long each file took the last time, on this machine: those that take longest come first. */
export const TIMES = join(CACHE, "test-times.json");

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
  { name: "format and lint", cpu: 20, command: ["x", "biome", "check", "."], runs: "ok" },
  { name: "types", cpu: 20, command: ["x", "tsc", "-p", ".", "--checkers", "1", "--incremental", "--tsBuildInfoFile", TYPES], runs: "ok", env: QUICK_GO },
  { name: "tests in process", cpu: 260, command: bunTest(TESTS.inProcess), runs: "ok", isAlone: true, isInMemory: true, env: QUICK_BUN, count: countTests },
  { name: "tests of scripts", cpu: 320, command: bunTest(TESTS.scripts), runs: "scripts", isAlone: true, count: countTests },
  { name: "tests of kits", cpu: 45, command: bunTest(TESTS.kits), runs: "scripts", count: countTests },
  { name: "a sample of the soaks", cpu: 70, command: bunTest(TESTS.sampled), runs: "scripts", isAlone: true, env: { SAMPLE: "1" }, count: countTests },
  { name: "etcd's data, cut off and changed everywhere", command: bunTest(["test/shared/etcd-data/data.test.ts", "test/shared/etcd-data/old-roots.test.ts"]), runs: "soak", env: { EVERY_PLACE: "1" }, count: countTests },
  { name: "lab: etcd's data damaged, and what each tool brings back", command: ["test/lab/checks/damage-table.ts"], runs: "soak", count: countLines, built: [...ETCD_PROGRAMS, BBOLT_BUILD] },
  { name: "lab: etcd and bbolt judge what is read and written of damaged data", command: ["test/lab/checks/damage-matrix.ts"], runs: "soak", count: countLines, built: [...ETCD_PROGRAMS, BBOLT_BUILD] },
  { name: "lab: a member that was away, and all have moved", command: ["test/lab/checks/lagging-member.ts"], runs: "soak", count: countLines, built: ETCD_PROGRAMS },
  ...TESTS.soaks.map((path): Check => ({ name: `soak: ${basename(path, ".test.ts")}`, command: bunTest([path]), runs: "soak", count: countTests })),
  { name: "lab: its programs are built", command: ["test/lab/machine/binaries.ts"], runs: "before the lab" },
  { name: "lab: the playbook's order, batches and gates", cpu: 80, command: ["test/lab/checks/playbook.ts"], runs: "beside the lab", count: countLines },
  { name: "lab: a computed key accepts old tokens", cpu: 100, command: ["test/lab/checks/old-tokens.ts"], runs: "beside the lab", isNightly: true, count: countLines },
  { name: "lab: issuing equals kubeadm", cpu: 50, command: ["test/lab/checks/kubeadm-equal.ts"], runs: "beside the lab" },
  { name: "lab: keys from the memory of real processes", cpu: 80, command: ["test/lab/checks/process-memory.ts"], runs: "beside the lab", isNightly: true, count: countLines },
  { name: "lab: part 3's token on a real API", cpu: 18, command: ["test/lab/checks/joining.ts"], runs: "beside the lab", count: countLines },
  { name: "lab: the kit on arm64, without AVX2, with a busybox", command: ["test/lab/checks/kit.ts"], runs: "beside the lab", isNightly: true, count: countLines },
  { name: "lab: tokens equal the controller-manager's", cpu: 25, command: ["test/lab/checks/tokens.ts"], runs: "beside the lab", count: countLines },
  { name: "lab: the plan's page in a browser", command: ["test/lab/checks/plan-page.ts"], runs: "beside the lab", isNightly: true, count: countLines },
  { name: "lab: metrics and alerts, by Prometheus' own programs", cpu: 30, command: ["test/lab/checks/metrics.ts"], runs: "beside the lab", isNightly: true, count: countLines },
  { name: "lab: the report in a browser", command: ["test/lab/checks/report-page.ts"], runs: "beside the lab", isNightly: true, count: countLines },
  { name: "lab: age opens our bundles, we open age's", cpu: 8, command: ["test/lab/checks/age-equal.ts"], runs: "beside the lab" },
  { name: "lab: YAML equals Kubernetes' own", cpu: 6, command: ["test/lab/checks/yaml-equal.ts"], runs: "beside the lab", count: countLines },
  { name: "lab: keys from the free blocks of real file systems", command: ["test/lab/checks/disks.ts"], runs: "beside the lab", isNightly: true, count: countTests },
  { name: "lab: a log's size is etcd's", cpu: 5, command: ["test/lab/checks/etcd-source.ts"], runs: "beside the lab", count: countLines },
  { name: "lab: a restored snapshot equals etcdutl's", command: ["test/lab/checks/restore.ts"], runs: "beside the lab", isNightly: true, count: countLines, built: ETCD_PROGRAMS },
  { name: "lab: damaged data of a lost member has a way back", command: ["test/lab/checks/ways-back.ts"], runs: "beside the lab", isNightly: true, count: countLines, built: ETCD_PROGRAMS },
  { name: "lab: a lost member's data keeps what was acknowledged", command: ["test/lab/checks/survivor.ts"], runs: "beside the lab", isNightly: true, count: countLines, built: ETCD_PROGRAMS },
  { name: "lab: an etcd that lives is proved, and copied by its own snapshot", command: ["test/lab/checks/living-etcd.ts"], runs: "beside the lab", isNightly: true, count: countLines, built: ETCD_PROGRAMS },
  { name: "lab: members that have moved find each other", command: ["test/lab/checks/moved-members.ts"], runs: "beside the lab", isNightly: true, count: countLines, built: ETCD_PROGRAMS },
  { name: rehearsalName("all-lost", "runbook"), cpu: 300, ...rehearsal("all-lost", "runbook") },
  { name: "lab: etcd read offline equals etcd", cpu: 120, command: ["test/lab/checks/etcd.ts"], runs: "in the lab" },
];

/** Other people's ways, for comparison: they need not end well. */
const COMPARED = ["article", "by-kubeadm"];

/** All checks, with a row for each scenario of the lab: loading these takes a moment. */
export async function allChecks(): Promise<Check[]> {
  const { SCENARIOS } = await import("./lab/rehearse.ts");
  const rows = SCENARIOS.filter(({ name }) => !COMPARED.includes(name)).map(({ name }): Check => {
    const built = [...(OF_CALICO.test(name) ? [CALICO] : []), ...(/field/.test(name) ? [CERT_MANAGER] : [])];
    const guide = name === "field" ? "runbook" : "repair";
    return {
      name: rehearsalName(name, guide),
      isNightly: true,
      ...rehearsal(name, guide),
      built,
    };
  });
  return [...CHECKS, ...rows];
}

const OF_CALICO = /calico|field|third-away/;

/** Part: "ok", "scripts", "soak" or "night"; undefined: what each commit needs. */
export function isAsked({ runs, isNightly }: Check, part: string | undefined): boolean {
  if (part === "night") return isNightly === true || runs === "soak" || runs === "before the lab";
  return part === undefined ? runs !== "soak" && !isNightly : runs === part;
}

export function bunTest(files: readonly string[], width = TEST_FILES): string[] {
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

function rehearsal(scenario: string, follow: string): Pick<Check, "command" | "runs" | "scenario"> {
  const words = ["--scenario", scenario, "--follow", follow, "--html", "rehearsal.html"];
  return { command: ["test/lab/rehearse.ts", ...words], runs: "in the lab", scenario };
}

/**
 * Before a command: a loopback of its own, for tests that ask nothing of the machine's network: they serve
 * there, and so do the lab and another run of them. Nothing, where this machine gives none.
 */
export function inOwnNetwork(): string[] {
  const words = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"];
  const isThere = Bun.which("unshare") !== null;
  return isThere && Bun.spawnSync([...words, "true"], { stderr: "ignore" }).success ? words : [];
}
