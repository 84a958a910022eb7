#!/usr/bin/env bun
/**
 * `npm test`: what each commit needs, the quick checks first. All of them run, also after a red one; the last
 * line is the verdict. `npm run ok` and others run a part of it; `npm run night` has all the rest, by turns.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Fail } from "../shared/fail.ts";
import { inParallel } from "../shared/in-parallel.ts";
import { run } from "../shared/run.ts";
import { allChecks, type Check, HOME, inOwnNetwork, isAsked, type Runs } from "./checks.ts";
import { type Cost, costTable, tooDear } from "./costs.ts";
import { type Count, countRecord } from "./counts.ts";
import { cpuOfLab } from "./lab/machine/cgroups.ts";
import { isBuilt } from "./lab/machine/go-build.ts";
import { commitOf, keepLastRun, oldestFirst, readLastRuns, shownRun } from "./last-runs.ts";
import { LAST_RUNS, lastRelease, notRehearsedSince, rehearsedLines } from "./rehearsed.ts";
import { IN_MEMORY, openFolder } from "./temporary.ts";

const USAGE = `Usage: npm test [-- options]     what each commit needs: ok, ok:scripts, one rehearsal, quick comparisons
       npm run ok [-- options]           format, lint, types, and the tests that run in process
       npm run ok:scripts [-- options]   the tests that run whole scripts and kits, and a sample of the soaks
       npm run soak [-- options]         the soaks, each to its end
       npm run night [-- options]        all that npm test leaves out: the other rehearsals and comparisons, the soaks

  --only TEXT   only checks with TEXT in their name
  --minutes N   of npm run night: about so long, those first that were not run for longest
  --list        run nothing: which checks would run, and when each ran last, on which commit

Exit codes: 0 all passed · 1 some failed`;

const OPTIONS = {
  only: { type: "string", default: "" },
  minutes: { type: "string", default: "Infinity" },
  list: { type: "boolean" },
  help: { type: "boolean" },
} as const;

const PARTS = ["ok", "scripts", "soak", "night"];

/** Checks at a time, of those beside the lab, and beside the scripts. */
const BESIDE = availableParallelism();

/** Where the CPU is wanted, a process of this niceness gets a tenth of what another one gets. */
const NICE = ["nice", "-n", "10"];

/**
 * Temporary files of tests. Bun ends its test processes without an "exit", so what one of them keeps for all
 * of its tests would stay.
 */
const LEFT = openFolder(tmpdir());
const LEFT_IN_MEMORY = openFolder(IN_MEMORY);
const RECORDS = mkdtempSync(join(tmpdir(), "rehearsals-"));
process.on("exit", () => {
  for (const folder of [RECORDS, LEFT, LEFT_IN_MEMORY]) rmSync(folder, { recursive: true });
});

async function main() {
  const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true });
  if (values.help) return console.log(USAGE);
  const [part] = positionals;
  const minutes = Number(values.minutes);
  if ((part && !PARTS.includes(part)) || !(minutes > 0))
    throw new Fail(`"${part && !PARTS.includes(part) ? part : values.minutes}" is not understood`, {
      hint: "./bunw test/all.ts --help",
    });
  const asked = (await allChecks()).filter(
    (check) => isAsked(check, part) && check.name.includes(values.only),
  );
  const possible = asked.filter(isPossible);
  const [first, others] = [possible.filter(isFirst), possible.filter((check) => !isFirst(check))];
  const chosen =
    part === "night" ? [...first, ...oldestFirst(others, readLastRuns(LAST_RUNS), minutes)] : possible;
  if (values.list || part === "night") list(asked, chosen);
  if (!values.list) await runChecks(chosen, part, Date.now() + 60_000 * minutes);
}

/** When each ran last; those that do not run now, with the reason. */
function list(asked: readonly Check[], chosen: readonly Check[]) {
  const runs = readLastRuns(LAST_RUNS);
  const line = ({ name, cpu }: Check) =>
    `  ${name}${cpu === undefined ? "" : ` (${cpu} s of CPU)`}: ran last: ${shownRun(runs[name])}`;
  console.log([`${chosen.length} checks would run:`, ...chosen.map(line)].join("\n"));
  const others = asked.filter((check) => isPossible(check) && !chosen.includes(check));
  if (others.length > 0)
    console.log([`${others.length} checks wait for more minutes:`, ...others.map(line)].join("\n"));
}

/** `until`: none is begun after that. */
async function runChecks(chosen: readonly Check[], part: string | undefined, until: number) {
  const total: Count & { red: string[]; costs: Cost[] } = { passed: 0, failed: 0, red: [], costs: [] };
  const commit = await commitOf(HOME);
  const runAll = (which: Runs, { width = 1, isBeside = false, only = (_: Check): boolean => true } = {}) =>
    inParallel(
      chosen.filter((check) => check.runs === which && only(check)),
      width,
      async (check) => {
        if (Date.now() > until) return console.log(`=== ${check.name}: not begun: the minutes are over`);
        const at = new Date().toISOString();
        const result = await runCheck(check, isBeside);
        keepResult(check, result, { at, commit });
        addTo(total, check, result);
      },
    );
  // format and types have the CPU that the tests leave: each waits for one thread for a while
  const isTests = ({ count }: Check) => count !== undefined;
  await Promise.all([
    runAll("ok", { only: isTests }),
    runAll("ok", { width: BESIDE, isBeside: true, only: (check) => !isTests(check) }),
  ]);
  const isWithLab = part === undefined || part === "night";
  const scripts = runAll("scripts", { isBeside: isWithLab });
  const soaks = runAll("soak", { width: BESIDE, isBeside: true });
  await runAll("before the lab");
  const others = runAll("beside the lab", { width: BESIDE, isBeside: true });
  await Promise.all([scripts, soaks, others, runAll("in the lab")]);
  console.log(`\n${costTable(total.costs).join("\n")}`);
  if (part === undefined) console.log(await nightLine());
  if (part === "night") console.log((await rehearsedSince()).join("\n"));
  for (const line of total.red) console.log(`not ok: ${line}`);
  console.log(`${total.passed} passed, ${total.failed} failed`);
  process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
}

/** What this run has left out: nobody should believe that it was all. */
async function nightLine(): Promise<string> {
  const runs = readLastRuns(LAST_RUNS);
  const nightly = (await allChecks()).filter((check) => isAsked(check, "night") && !isFirst(check));
  const [oldest] = oldestFirst(nightly, runs);
  const never = nightly.filter(({ name }) => !runs[name]).length;
  return `left to npm run night: ${nightly.length} checks; ${never} of them never ran here; next: ${oldest?.name}: ran last: ${shownRun(runs[oldest?.name ?? ""])}`;
}

/** Scenarios that this release has not seen green. It makes nothing red: the check before a release reads it. */
async function rehearsedSince(): Promise<string[]> {
  const all = [...new Set((await allChecks()).flatMap(({ scenario }) => scenario ?? []))];
  const since = await lastRelease(HOME);
  return rehearsedLines(notRehearsedSince(readLastRuns(LAST_RUNS), all, since), all, since);
}

/** What all of the lab needs has no turn. */
function isFirst({ runs }: Check): boolean {
  return runs === "before the lab";
}

function isPossible({ name, command, built = [] }: Check): boolean {
  if (built.every(isBuilt)) return true;
  console.log(
    `=== ${name}: not run, its programs are not built here. To build them, and run it: ./bunw ${command.slice(0, 3).join(" ")}`,
  );
  return false;
}

interface Result extends Count {
  beside: string[];
  seconds: number;
  cpu: number;
}

function keepResult(
  { name }: Check,
  { passed, failed, seconds, cpu }: Result,
  when: { at: string; commit: string },
) {
  keepLastRun(LAST_RUNS, name, { ...when, passed, failed, seconds, cpu });
}

function addTo(total: Count & { red: string[]; costs: Cost[] }, check: Check, result: Result) {
  const { passed, failed, red, beside, cpu, seconds } = result;
  const cost = { check, cpu, seconds };
  const dear = tooDear(cost);
  total.costs.push(cost);
  total.passed += passed;
  total.failed += failed + (dear ? 1 : 0);
  if (dear) total.red.push(`${check.name}: ${dear}`);
  if (failed === 0) return;
  total.red.push(...(red?.length ? red.map((line) => `${check.name}: ${line}`) : [check.name]));
  if (beside.length > 0) total.red.push(`${check.name}: beside it ran: ${beside.join("; ")}`);
}

/** Name → what has run at the same time; of those that run now. */
const running = new Map<string, Set<string>>();

/**
 * Shows the check's output at once, or whole at its end where it runs beside another one, and says that the
 * check still runs when it prints nothing for a while. `beside`: what ran at the same time.
 */
async function runCheck(check: Check, isBeside: boolean): Promise<Result> {
  const { name } = check;
  const beside = new Set(running.keys());
  for (const others of running.values()) others.add(name);
  running.set(name, beside);
  if (!isBeside) console.log(`\n=== ${name}`);
  const began = Date.now();
  const record = join(RECORDS, `${check.scenario}.json`);
  const lab = check.runs === "in the lab" ? cpuOfLab() : undefined;
  const child = startCheck(check, [...(isBeside ? NICE : []), ...(lab?.join ?? [])], record);
  const { output, exitCode } = await outputOf(child, name, isBeside);
  running.delete(name);
  if (isBeside) console.log(`\n=== ${name}\n${output.trimEnd()}`);
  const seconds = (Date.now() - began) / 1000;
  const cpu = lab?.end() ?? Number(child.resourceUsage()?.cpuTime.total ?? 0) / 1e6;
  const result = check.scenario ? countRecord(record, exitCode) : counted(check, output, exitCode);
  console.log(
    `=== ${name}: ${result.passed} passed, ${result.failed} failed, ${seconds.toFixed(1)} s, ${cpu.toFixed(1)} s of CPU`,
  );
  return { ...result, beside: [...beside], seconds, cpu };
}

function startCheck(
  { command, env, isAlone, isInMemory, scenario }: Check,
  before: string[],
  record: string,
) {
  const own = isAlone ? inOwnNetwork() : [];
  const words = [...before, ...own, process.execPath, ...command, ...(scenario ? ["--json", record] : [])];
  return Bun.spawn(words, {
    ...{ cwd: HOME, stdout: "pipe", stderr: "pipe" },
    env: {
      ...process.env,
      ...(command[0] === "test" ? { TMPDIR: isInMemory ? LEFT_IN_MEMORY : LEFT } : {}),
      ...env,
    },
  });
}

function counted({ count }: Check, output: string, exitCode: number): Count {
  const isWell = exitCode === 0 ? 1 : 0;
  return count?.(output, exitCode) ?? { passed: isWell, failed: 1 - isWell };
}

async function outputOf(child: Bun.Subprocess<"ignore", "pipe", "pipe">, name: string, isBeside: boolean) {
  const began = Date.now();
  let output = "";
  let lastSaid = began;
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
  return { output, exitCode };
}

/** Milliseconds; in CI, minutes without output look like a hang. */
const QUIET = 30_000;

if (import.meta.main) await run(main);
