/**
 * A file of variables that the kubelet's unit reads, and that is lost: its variables come back from the kubelet's process, as an
 * operator has kept them, or as flags from the journal.
 */

import { $ } from "zx/core";
import { hostText } from "../files/untrusted-file.ts";
import { orUndefined } from "../pki/certificate.ts";
import { sayWhile } from "../wait-for.ts";
import { isMapping } from "../yaml.ts";
import { expanded, flagsOf, textOrNone, type Unit } from "./systemd-unit.ts";

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
    [KEPT_ENV, textOrNone(KEPT_ENV)],
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

/**
 * Where kubeadm and people keep the kubelet's flags. Read where neither a process nor the unit tells: a unit
 * may start the kubelet by a shell.
 */
export const USUAL_FLAG_FILES = [
  "/var/lib/kubelet/kubeadm-flags.env",
  "/etc/default/kubelet",
  "/etc/sysconfig/kubelet",
];
