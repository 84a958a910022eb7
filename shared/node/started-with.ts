/**
 * How a program of this node is started: a unit of systemd, and the kubelet's flags with their drop-in folder.
 *
 * A unit: what systemd would start, by the unit and its drop-ins, one after the other, as `systemctl cat`
 * prints them. Sources: systemd.service(5) for ExecStart=, systemd.exec(5) for Environment= and
 * EnvironmentFile=, systemd.syntax(7) for words and quotes.
 *
 * The kubelet's flags are those of its process where it runs, as no file proves as much, or else of its unit.
 * The process is the unit's own (MainPID), so nobody but root chose them. In the folder (--config-dir) each
 * `*.conf`, and each below it, changes the KubeletConfiguration, in the order of their paths. Source:
 * cmd/kubelet/app/server.go, mergeKubeletConfigurations; a JSON merge patch (RFC 7386).
 */
import { basename } from "node:path";
import { $ } from "zx/core";
import { attempt, attemptLater, Fail } from "../fail.ts";
import { exists, list, readText, stat } from "../files/files.ts";
import { hostText } from "../files/untrusted-file.ts";
import { orUndefined } from "../pki/certificate.ts";
import { mode } from "../run.ts";
import { shell } from "../shell-line.ts";
import { sayWhile, waitFor } from "../wait-for.ts";
import { isMapping, readYaml } from "../yaml.ts";

export type KubeletFlags = ReadonlyMap<string, string>;

/**
 * Where kubeadm and people keep the kubelet's flags. Read where neither a process nor the unit tells: a unit
 * may start the kubelet by a shell.
 */
export const USUAL_FLAG_FILES = [
  "/var/lib/kubelet/kubeadm-flags.env",
  "/etc/default/kubelet",
  "/etc/sysconfig/kubelet",
];

/** Folders of systemd's units; the first that has the unit counts: systemd.unit(5). */
export const UNIT_FOLDERS = ["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"].map(
  (folder) => `${folder}/systemd/system`,
);

/**
 * The tool that has set this node up by kubeadm, if its files show that: kubespray's kubelet unit reads kubelet.env;
 * KubeKey has a folder of scripts, and since version 4 one of backups.
 */
export function installer(): "kubespray" | "KubeKey" | undefined {
  if (UNIT_FOLDERS.some((folder) => readable(`${folder}/kubelet.service`).includes("/kubelet.env")))
    return "kubespray";
  return ["/usr/local/bin/kube-scripts", "/etc/kubekey"].some((path) => exists(path)) ? "KubeKey" : undefined;
}

/** As systemd says. Who only looks asks once, with the node; who starts it asks anew. */
export async function seeKubelet() {
  const running = await attemptLater(runningKubelet, undefined);
  return { running, unit: await attemptLater(() => systemd("cat", "kubelet"), "") };
}

export type KubeletSeen = Awaited<ReturnType<typeof seeKubelet>>;

/** Its process' flags, or its unit's; where neither tells, those of the usual files alone. */
export async function kubeletFlags({ running, unit: text }: KubeletSeen): Promise<KubeletFlags> {
  if (running?.flags.has("kubeconfig")) return running.flags;
  const unit = readUnit(text);
  const { command } = withRestoredEnv(unit, await lostEnv(unit));
  if (isKubelet(command)) return flagsOf(command);
  if (running) return running.flags;
  const files = USUAL_FLAG_FILES.flatMap((path) => attempt(() => readText(path), undefined) ?? []);
  const words = [text, ...files].join("\n").split(/["'\s]+|=(?=--)/);
  return flagsOf(words);
}

/** Empty where there is none. Errors: as `systemd`. */
export async function kubeletUnit(): Promise<Unit> {
  return readUnit(await systemd("cat", "kubelet"));
}

/** The process that runs now still has what a missing file has given it. Errors: as `systemd`. */
export async function runningKubelet(): Promise<{ pid: number; flags: KubeletFlags } | undefined> {
  const pid = await mainPid("kubelet");
  const command = pid > 0 ? (hostText(`/proc/${pid}/cmdline`) ?? "").split("\0") : [];
  return isKubelet(command) ? { pid, flags: flagsOf(command) } : undefined;
}

/** 0 if it does not run. Errors: as `systemd`. */
export async function mainPid(unit: string): Promise<number> {
  return Number((await systemd("show", "-p", "MainPID", "--value", unit)).trim());
}

const NOT_HERE = /^No files found for |System has not been booted with systemd/m;
const SYSTEMD = "systemctl status; journalctl -n 50 _PID=1";

/**
 * systemctl's output; "" where systemd knows no such unit, or does not run here. Errors: Fail where it does not answer
 * in time: a unit that cannot be read is not none.
 */
async function systemd(...words: string[]): Promise<string> {
  const ask = async () => {
    const { exitCode, stdout, stderr } = await $({ quiet: true, nothrow: true })`systemctl ${words}`;
    if (exitCode === 0) return stdout;
    // 127: by the shell that starts it
    if (exitCode === 127 || NOT_HERE.test(stderr)) return "";
    const why = stderr.trim().split("\n").at(-1);
    throw new Fail(`${shell`systemctl ${words}`} exited ${exitCode}: ${why}`, { hint: SYSTEMD });
  };
  if (mode.dryRun) return await ask();
  return (await waitFor("an answer of systemd", ask, { seconds: 15, hint: SYSTEMD }))!;
}

/** A shell or another program that starts it in the end tells nothing of its flags. */
export function isKubelet([program = ""]: readonly string[]): boolean {
  return basename(program.replace(/^[-@:+!|]+/, "")) === "kubelet";
}

type Fields = Record<string, unknown>;

/**
 * The configuration as the kubelet has it. A folder that is lost changes nothing. Errors: Fail where a
 * drop-in cannot be read.
 */
export function withDropIns<T extends object>(config: T, folder: string | undefined): T {
  return (folder ? dropInsIn(folder) : []).reduce<Fields>(
    (merged, path) => applyPatch(merged, readDropIn(path)),
    config as Fields,
  ) as T;
}

function dropInsIn(folder: string): string[] {
  return list(folder).flatMap((name) => {
    const path = `${folder}/${name}`;
    if (stat(path)?.kind === "dir") return dropInsIn(path);
    return name.endsWith(".conf") ? [path] : [];
  });
}

function readDropIn(path: string): Fields {
  const hint =
    "repair it, or move it away: the kubelet does not start with it either; journalctl -u kubelet -n 50";
  try {
    const fields = readYaml(readText(path) ?? "");
    if (isMapping(fields)) return fields;
  } catch (cause) {
    const why = (cause as Error).message.split("\n")[0];
    throw new Fail(`Cannot read the kubelet's drop-in "${path}": ${why}`, { hint, cause });
  }
  throw new Fail(`The kubelet's drop-in "${path}" is no KubeletConfiguration`, { hint });
}

/** null takes a field away; everything but an object replaces what was there. */
function applyPatch(target: Fields, patch: Fields): Fields {
  const result = { ...target };
  for (const [name, value] of Object.entries(patch)) {
    const old = Object.hasOwn(result, name) ? result[name] : undefined;
    const now = isMapping(value) ? applyPatch(isMapping(old) ? old : {}, value) : value;
    const plain = { value: now, enumerable: true, writable: true, configurable: true };
    if (value === null) delete result[name];
    else Object.defineProperty(result, name, plain);
  }
  return result;
}

interface LostEnv {
  path: string;
  variables: ReadonlyMap<string, string>;
  from: string;
}

/** Where RUNBOOK-MORE has an operator keep them, before he stops the kubelet: memory that only root writes. */
const KEPT_ENV = "/run/kubelet.environ";

/** Given by systemd to each unit: systemd.exec(5). */
const SYSTEMDS =
  /^(LANG|LC_\w+|USER|LOGNAME|HOME|SHELL|INVOCATION_ID|JOURNAL_STREAM|SYSTEMD_EXEC_PID|MANAGERPID|MAINPID|NOTIFY_SOCKET|WATCHDOG_\w+|MEMORY_PRESSURE_\w+|CREDENTIALS_DIRECTORY|TERM)$/;

/**
 * The one file that is lost of those that the kubelet's unit reads variables from, with the variables that it had: by
 * the kubelet's process, if it has a kubeconfig, as they were kept, or by the flags that its journal has. Undefined if
 * none is lost that the unit needs (kubeadm's own may be missing), if several are, or if nobody has them.
 */
export async function lostEnv(
  unit: Pick<Unit, "exec" | "files" | "variables">,
  pid?: number,
): Promise<LostEnv | undefined> {
  const lost = unit.files.filter(({ isHere, path }) => !isHere && !USUAL_FLAG_FILES.includes(path));
  if (lost.length !== 1) return undefined;
  const named = [...unit.exec.matchAll(/\$\{?(\w+)/g)].map(([, name]) => name!);
  const own = pid === undefined ? "" : (hostText(`/proc/${pid}/environ`) ?? "");
  const texts: [string, string][] = [
    [`the kubelet's process ${pid}`, own.replaceAll("\0", "\n")],
    [KEPT_ENV, readable(KEPT_ENV)],
  ];
  for (const [from, text] of texts) {
    const pairs = text.split("\n").map((line) => line.split(/=(.*)/s) as [string, string?]);
    const variables = new Map(
      pairs.flatMap(([name, value]) =>
        /^[A-Za-z_]\w*$/.test(name) &&
        value !== undefined &&
        !SYSTEMDS.test(name) &&
        unit.variables.get(name) !== value
          ? [[name, value] as const]
          : [],
      ),
    );
    const { path } = lost[0]!;
    // a file that was never there has given none of the unit's words
    const isUsed = named.some((name) => variables.has(name));
    if (isUsed && flagsOf(expanded(unit.exec, new Map([...unit.variables, ...variables]))).has("kubeconfig"))
      return { path, variables, from };
  }
  if (flagsOf(expanded(unit.exec, unit.variables)).has("kubeconfig")) return undefined;
  // one variable that is a word of its own takes all of them
  const alone = [...unit.exec.matchAll(/(?<=\s)\$(\w+)(?=\s|$)/g)].flatMap(([, name]) => name!);
  const name = alone.find((one) => one.includes("ARGS")) ?? alone.at(-1);
  const flags = name === undefined ? "" : (await loggedFlags()).join(" ");
  return flags
    ? {
        path: lost[0]!.path,
        variables: new Map([[name!, flags]]),
        from: "its journal, without flags that are fields of its configuration",
      }
    : undefined;
}

/**
 * Flags that are no fields of the kubelet's configuration: the journal has these with a default, too, which would
 * count more than the configuration. Some have a default that a kubelet without the flag has as well. Sources:
 * cmd/kubelet/app/options/options.go and pkg/kubelet/config/flags.go, v1.29 to v1.37.
 */
const COMMAND_LINE =
  "bootstrap-kubeconfig|cert-dir|cloud-config|cloud-provider|config|config-dir|container-runtime-endpoint|hostname-override|image-credential-provider-bin-dir|image-credential-provider-config|kubeconfig|node-ip|node-labels|pod-infra-container-image|root-dir|runtime-cgroups|v";
const LOGGED_FLAG = /^I\d{4} [\d:.]+ +\d+ flags\.go:\d+\] FLAG: --([\w-]+)="([^"\s]*)"$/;
const DEFAULTS = ["unix:///run/containerd/containerd.sock", "/var/lib/kubelet", "/var/lib/kubelet/pki"];

/**
 * As words, of the last start that had a kubeconfig: from --v=1 on the kubelet logs them before all else. It logs later
 * what pods can word, over several lines, too: the output of a mount. So only a start counts that systemd itself has
 * noted, and of each flag the first line behind it.
 */
async function loggedFlags(): Promise<string[]> {
  const grep = `^Start|FLAG: --(${COMMAND_LINE})=`;
  const fields = "--output-fields=MESSAGE,_PID,INVOCATION_ID,_SYSTEMD_INVOCATION_ID";
  const search = () =>
    $({
      quiet: true,
      nothrow: true,
    })`journalctl -u kubelet -o json ${fields} --no-pager -r -n 4000 -g ${grep}`;
  const hint = "journalctl --disk-usage; it ends by itself";
  const { stdout } = await sayWhile("journalctl to search the kubelet's journal", hint, search);
  const starts = new Map<unknown, { isNoted: boolean; flags: Map<string, string> }>();
  for (const line of stdout.split("\n").reverse()) {
    const entry: unknown = orUndefined(() => JSON.parse(line));
    if (!isMapping(entry)) continue;
    const isNoted = entry._PID === "1";
    const id = isNoted ? entry.INVOCATION_ID : entry._SYSTEMD_INVOCATION_ID;
    const start = starts.get(id) ?? { isNoted: false, flags: new Map<string, string>() };
    starts.set(id, start);
    const [, name = "", value = ""] = LOGGED_FLAG.exec(String(entry.MESSAGE)) ?? [];
    if (isNoted) start.isNoted = true;
    else if (COMMAND_LINE.split("|").includes(name) && !start.flags.has(name)) start.flags.set(name, value);
  }
  const last = [...starts.values()].findLast(({ isNoted, flags }) => isNoted && flags.get("kubeconfig"));
  return [...(last?.flags ?? [])].flatMap(([name, value]) =>
    value === "" || DEFAULTS.includes(value) ? [] : `--${name}=${value}`,
  );
}

export function withRestoredEnv<U extends Unit>(unit: U, env: LostEnv | undefined): U {
  if (!env) return unit;
  const files = unit.files.map((file) => (file.path === env.path ? { ...file, isHere: true } : file));
  return { ...unit, files, command: expanded(unit.exec, new Map([...unit.variables, ...env.variables])) };
}

/** Its text: systemd.exec(5), EnvironmentFile=. */
export function envText({ variables }: LostEnv): string {
  return [...variables]
    .map(([name, value]) => `${name}="${value.replaceAll(/["\\`$]/g, "\\$&")}"\n`)
    .join("");
}

/** Letters: Linux gives a program no more (ARG_MAX, execve(2)). */
const LONGEST_COMMAND = 2 ** 21;

/** Variables beyond the longest command are left out: a text could name a long one any number of times. */
function expanded(exec: string, variables: ReadonlyMap<string, string>): string[] {
  let left = LONGEST_COMMAND;
  const lookUp = (name: string) => {
    const value = variables.get(name) ?? "";
    left -= value.length;
    return left < 0 ? "" : value;
  };
  return wordsOf(exec).flatMap((word) => expandWord(word, lookUp));
}

export interface Unit {
  /** The program and its arguments, variables put in; none where the unit has no ExecStart=. */
  command: string[];
  /** The same as it stands in the unit. */
  exec: string;
  /** Those of files come last, as with systemd. */
  variables: Map<string, string>;
  files: EnvironmentFile[];
  user: string;
}

interface EnvironmentFile {
  path: string;
  /** `EnvironmentFile=-PATH`: without the file it starts all the same, and without its variables. */
  optional: boolean;
  isHere: boolean;
}

/** Reads the files that it names, too. */
export function readUnit(text: string): Unit {
  const [variables, files] = [new Map<string, string>(), [] as EnvironmentFile[]];
  let [exec, user] = ["", "root"];
  for (const [name, value] of assignments(text)) {
    if (name === "ExecStart") exec = value;
    if (name === "User") user = value || "root";
    if (name === "Environment") value ? assign(variables, wordsOf(value)) : variables.clear();
    if (name === "EnvironmentFile") value ? files.push(environmentFile(value)) : files.splice(0);
  }
  for (const { path } of files)
    for (const [name, value] of assignments(readable(path))) variables.set(name, unquote(value));
  return { command: expanded(exec, variables), exec, variables, files, user };
}

/**
 * The flags of a command, without dashes: "true" where one has no value. The last one of a name counts, and
 * `_` is a dash, as for Kubernetes' programs (component-base's WordSepNormalizeFunc).
 */
export function flagsOf(command: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const [i, word] of command.entries()) {
    const [, name, value] = /^--([\w-]+)(?:=(.*))?$/s.exec(word) ?? [];
    const next = command[i + 1] ?? "-";
    if (name) found.set(name.replaceAll("_", "-"), value ?? (next.startsWith("-") ? "true" : next));
  }
  return found;
}

/** `NAME=value` lines; a line that ends in a backslash goes on in the next one. */
function* assignments(text: string): Generator<[name: string, value: string]> {
  const lines = text.split("\n").filter((line) => !/^\s*[#;]/.test(line));
  for (const line of lines.join("\n").replaceAll("\\\n", " ").split("\n")) {
    const [, name, value] = /^\s*([A-Za-z_]\w*)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (name) yield [name, value!];
  }
}

function assign(variables: Map<string, string>, words: readonly string[]) {
  for (const word of words) variables.set(word.split("=")[0]!, word.slice(word.indexOf("=") + 1));
}

function environmentFile(value: string): EnvironmentFile {
  const path = unquote(value).replace(/^-/, "");
  // a pattern or a specifier names no one file
  return { path, optional: value.startsWith("-"), isHere: /[*?[%]/.test(path) || exists(path) };
}

function readable(path: string): string {
  return attempt(() => readText(path), "") ?? "";
}

function wordsOf(text: string): string[] {
  return (text.match(/(?:"[^"\\]*(?:\\.[^"\\]*){0,9999}"|'[^']*'|\\.|[^\s"'\\]+)+/gs) ?? []).map(unquote);
}

function unquote(word: string): string {
  return word.replaceAll(
    /"([^"\\]*(?:\\.[^"\\]*){0,9999})"|'([^']*)'|\\(.)/gs,
    (_, double?: string, single?: string, escaped?: string) => {
      return double?.replaceAll(/\\(.)/gs, "$1") ?? single ?? escaped ?? "";
    },
  );
}

/** `$NAME` alone becomes as many words as its value has; `${NAME}` stays part of its word. */
function expandWord(word: string, lookUp: (name: string) => string): string[] {
  const [, alone] = /^\$(\w+)$/.exec(word) ?? [];
  if (alone) return wordsOf(lookUp(alone));
  return [word.replaceAll(/\$\{(\w+)\}/g, (_, name: string) => lookUp(name))];
}
