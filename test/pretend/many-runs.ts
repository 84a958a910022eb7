/**
 * Runs whole scripts one after the other in one process: starting one, and compiling our 300 files, takes
 * longer than most runs. Each run begins as in a process of its own (module-state.ts), but for its commands:
 * those need no bash (without-shell.ts). A run that ends by itself leaves nothing to the next one. After one
 * that was stopped in the middle, what it was doing may still go on: its process is for others only when
 * nothing of it waits any more.
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { format } from "node:util";
import { $ } from "zx/core";
import { resetModules, resettable } from "./module-state.ts";
import { ofNow } from "./programs.ts";
import { quickPassphrases, SEALED } from "./quick-passphrases.ts";
import { withoutShell } from "./without-shell.ts";

const HOME = resolve(import.meta.dir, "../..");

export interface Run {
  /** As an operator types it: "03-workers close --dry-run". */
  line: string;
  env: Record<string, string>;
}

export interface RunResult {
  exitCode: number;
  stdout: string;
  stderr: string;
}

const PACKAGES = /^(@|age-encryption|reflect-metadata|yaml|zx)/;

/** As the last line of each script has it. */
const STARTS = "if (import.meta.main) await run(main);";

/** Where a script that is loaded puts how it is started; its name → that. */
const MAINS = "mainsOfScripts";
const mains: Record<string, () => Promise<unknown>> = {};
Object.assign(globalThis, { [MAINS]: mains });

/** The scripts, and what they share, as files of JavaScript; removed at the end of this process. */
async function built(): Promise<string> {
  const outdir = mkdtempSync(join(tmpdir(), "scripts-"));
  process.on("exit", () => rmSync(outdir, { recursive: true, force: true }));
  const entrypoints = [...new Bun.Glob("*.ts").scanSync({ cwd: `${HOME}/scripts`, absolute: true })];
  await Bun.build({
    ...{ entrypoints, outdir, target: "bun", naming: "[name].[ext]", splitting: true },
    plugins: [
      {
        name: "as in the checkout",
        setup(build) {
          build.onResolve({ filter: PACKAGES }, ({ path, importer }) => ({
            path: Bun.resolveSync(path, dirname(importer)),
            external: true,
          }));
          build.onLoad({ filter: /\/(scripts|shared)\/.*\.ts$/ }, async ({ path }) => {
            const own = await Bun.file(path).text();
            const text = SEALED.test(path) ? quickPassphrases(own) : own;
            const main = `globalThis.${MAINS}[${JSON.stringify(basename(path, ".ts"))}] = () => run(main);`;
            const placed = text
              .replace(STARTS, main)
              .replaceAll("import.meta.dir", JSON.stringify(dirname(path)));
            return { contents: resettable(placed, path), loader: "ts" };
          });
        },
      },
    ],
  });
  return outdir;
}

/** Thrown where a script calls process.exit. */
class Exit extends Error {
  code: number;
  constructor(code: number) {
    super("process.exit");
    this.code = code;
  }
}

function keptIn(said: Record<string, string>, where: string) {
  return (...words: unknown[]) => {
    said[where] += `${format(...words)}\n`;
  };
}

const EVENTS = ["exit", "SIGHUP", "SIGINT", "SIGTERM"] as const;

/** In the process of the runs. */
async function runHere(folder: string, { line, env }: Run): Promise<RunResult> {
  const [script = "", ...args] = line.split(" ");
  const said = { stdout: "", stderr: "" };
  const [log, error, exit] = [console.log, console.error, process.exit];
  const before = new Map(EVENTS.map((event) => [event, process.listeners(event as "exit")]));
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, env);
  // zx has looked for it on the PATH of the first run
  $.shell = Bun.which("bash", { PATH: env.PATH ?? "" }) ?? "bash";
  process.argv = [process.argv[0]!, `${HOME}/scripts/${script}.ts`, ...args];
  console.log = keptIn(said, "stdout");
  console.error = keptIn(said, "stderr");
  process.exit = (code) => {
    throw new Exit(Number(code ?? process.exitCode ?? 0));
  };
  process.exitCode = 0;
  let code: number;
  try {
    if (!mains[script]) await import(`${folder}/${script}.js`);
    resetModules();
    await mains[script]!();
    code = Number(process.exitCode);
  } catch (err) {
    if (!(err instanceof Exit)) throw err;
    code = err.code;
  }
  for (const event of EVENTS) {
    for (const listener of process
      .listeners(event as "exit")
      .filter((one) => !before.get(event)!.includes(one))) {
      if (event === "exit") listener(code);
      process.removeListener(event, listener);
    }
  }
  Object.assign(console, { log, error });
  process.exit = exit;
  process.exitCode = 0;
  return { exitCode: code, ...said };
}

/** The scripts are the same for all runners of a test process. */
let folder: Promise<string> | undefined;

/** Those that do nothing now. */
const idle: ReturnType<typeof runner>[] = [];

/** Runs a script in a process that has run others; in one more where a test runs two at once. */
export async function runInTurn(run: Run): Promise<RunResult> {
  const one = idle.pop() ?? runner();
  try {
    return await one.run(run);
  } finally {
    idle.push(one);
  }
}

/** A process for runs, started when there is one to do. */
export function runner() {
  let child: Awaited<ReturnType<typeof startProcess>> | undefined;
  const end = () => {
    child?.kill();
    child = undefined;
  };
  return {
    async run(run: Run): Promise<RunResult> {
      folder ??= built();
      child ??= startProcess(await folder);
      const result = await child.run(run).catch((err) => {
        end();
        throw err;
      });
      const isStopped = result.exitCode === 1 || result.exitCode > 4;
      if (isStopped && !(await child.isIdle())) end();
      return result;
    },
    [Symbol.dispose]: end,
  };
}

const READY = "ready";
/** A question: is nothing waited for there but the parent? */
const IS_IDLE = "is idle";

/** An answer is asked for so often, as a connection takes a moment to close; then another process is. */
const QUESTIONS = 20;

function startProcess(folder: string) {
  const ready = Promise.withResolvers<void>();
  let waiting: PromiseWithResolvers<unknown> | undefined;
  const child = Bun.spawn([process.execPath, import.meta.path, folder], {
    cwd: HOME,
    stdio: ["ignore", "inherit", "inherit"],
    ipc: (message: unknown) => (message === READY ? ready.resolve() : waiting?.resolve(message)),
    onExit(_, code) {
      const err = new Error(`the process of the runs has ended by itself (${code})`);
      waiting?.reject(err);
      ready.reject(err);
    },
  });
  const answer = async (message: Run | typeof IS_IDLE) => {
    // what is sent before it listens may be lost
    await ready.promise;
    waiting = Promise.withResolvers();
    child.send(message);
    const answered = await waiting.promise;
    waiting = undefined;
    return answered;
  };
  return {
    run: (run: Run) => answer(run) as Promise<RunResult>,
    async isIdle() {
      for (let asked = 0; asked < QUESTIONS; asked++) if (await answer(IS_IDLE)) return true;
      return false;
    },
    kill: () => child.kill(),
  };
}

if (import.meta.main) {
  const [folder] = process.argv.slice(2);
  if (!folder || !existsSync(folder)) throw new Error("it is started by runner()");
  Object.assign(Bun, { spawn: ofNow(Bun.spawn), spawnSync: ofNow(Bun.spawnSync) });
  withoutShell();
  process.on("disconnect", () => process.exit());
  let isIdle = false;
  // it comes when nothing but the parent is waited for
  process.on("beforeExit", () => {
    process.channel?.ref();
    isIdle = true;
  });
  process.on("message", async (message: Run | typeof IS_IDLE) => {
    if (message === IS_IDLE) return process.send!(isIdle);
    process.channel?.ref();
    process.send!(await runHere(folder, message));
    isIdle = false;
    process.channel?.unref();
  });
  process.send!(READY);
}
