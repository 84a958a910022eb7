/**
 * The one place that stops and starts the kubelet. It starts none whose files are not back. A unit may read
 * all flags from a file that may be missing (kubespray: `EnvironmentFile=-/etc/kubernetes/kubelet.env`).
 * Without --kubeconfig the kubelet runs alone: it knows no pod of the cluster, and ends the containers of all
 * that it finds (cmd/kubelet/app/server.go, standaloneMode; pkg/kubelet/kubelet_pods.go, HandlePodCleanups).
 * Where a file is missing that a flag names, it only exits.
 */
import { $ } from "zx/core";
import { attemptLater, Fail } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { act, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { leaves } from "../signals.ts";
import { sayWhile } from "../wait-for.ts";
import { loggedConfig } from "./kubelet-config.ts";
import { kubeletStopped, type Node, otherName } from "./node.ts";
import { flagsOf, isKubelet, kubeletUnit, runningKubelet, unitIfAny } from "./started-with.ts";

const DONE = { stop: "stopped", start: "started", restart: "restarted" } as const;

const KUBELET_STOPPED =
  "this node's kubelet is stopped, its containers run on. It stays so until a run of this script starts it, or: systemctl start kubelet";

/**
 * Stops, starts or restarts the kubelet by systemd. Errors: Fail with what systemctl printed; and as
 * `refuseUnfitKubelet`.
 */
export async function systemctlKubelet(verb: keyof typeof DONE, note = "") {
  if (verb !== "stop") await refuseUnfitKubelet();
  const look = "systemctl status kubelet; journalctl -u kubelet -n 50";
  const turn = () => $({ quiet: true, nothrow: true })`systemctl ${verb} kubelet`;
  await act(`kubelet: ${DONE[verb]}${note}`, async () => {
    if (verb === "stop") leaves("kubelet", KUBELET_STOPPED);
    const { exitCode, stderr } = await sayWhile(shell`systemctl ${verb} kubelet`, look, turn);
    if (exitCode === 0) return verb === "stop" ? undefined : leaves("kubelet", undefined);
    throw new Fail(
      `${shell`systemctl ${verb} kubelet`} exited ${exitCode}: ${stderr.trim().split("\n").at(-1)}`,
      {
        hint: `${look}. Then run this script again: finished steps are skipped`,
      },
    );
  });
}

/** Unless it is stopped: one that ends by itself would come back in the middle. Errors: as `systemctlKubelet`. */
export async function stopKubelet() {
  if (await kubeletStopped()) say("kubelet: not running");
  else await systemctlKubelet("stop", " (containers run on without it)");
}

/**
 * Before anything is changed: what a repair writes (`of`) may still be missing. Errors: Fail where a start
 * would lose flags, or would fail.
 */
export async function refuseUnfitKubelet(of?: Node) {
  const unfit = await unfitKubelet(of);
  if (unfit) throw unfit;
}

/**
 * Why the kubelet must not be started; undefined where it may, and where nothing tells (no unit, or a unit
 * that starts another program). Errors: Fail where systemd does not answer.
 */
export async function unfitKubelet(of?: Node): Promise<Fail | undefined> {
  const unit = await kubeletUnit();
  if (!isKubelet(unit.command)) return undefined;
  const dangerous = (await flagsLost(unit)) ?? (of && otherName(of, flagsOf(unit.command)));
  if (dangerous) return dangerous;
  const comes = of ? [of.kubelet.kubeconfig, of.kubelet.bootstrapKubeconfig, of.kubelet.clientCaFile] : [];
  const isHere = (path: string) => comes.includes(path) || exists(path);
  const flags = flagsOf(unit.command);
  const missing = [
    ...unit.files
      .filter((file) => !file.isHere && !file.optional)
      .map(({ path }) => ({ path, why: "which its unit reads" })),
    ...named(flags, "config"),
    ...named(flags, "config-dir"),
    ...clientCa(flags),
  ].filter(({ path }) => !isHere(path));
  const credentials = ["kubeconfig", "bootstrap-kubeconfig"].flatMap((name) => flags.get(name) ?? []);
  const sentences = [
    ...missing.map(({ path, why }) => `"${path}" is missing, ${why}`),
    ...(credentials.some(isHere)
      ? []
      : [`there is no ${credentials.map((path) => `"${path}"`).join(" and no ")}`]),
  ];
  const dropIns = flags.get("config-dir");
  const isLost = dropIns !== undefined && missing.some(({ path }) => path === dropIns);
  return sentences.length > 0
    ? cannotStart(sentences.join("; "), isLost ? await aboutDropIns(dropIns) : "")
    : undefined;
}

/** Why a start would not fail, but lose flags; undefined where it would lose none, and where nothing tells. */
export async function kubeletsLostFlags(): Promise<Fail | undefined> {
  const unit = await unitIfAny();
  return isKubelet(unit.command) ? await attemptLater(() => flagsLost(unit), undefined) : undefined;
}

async function flagsLost({
  command,
  files,
}: Awaited<ReturnType<typeof kubeletUnit>>): Promise<Fail | undefined> {
  const flags = flagsOf(command);
  const lost = files.filter(({ isHere, optional }) => !isHere && optional).map(({ path }) => path);
  const process = await runningKubelet();
  const had = lost.length > 0 ? [...(process?.flags.keys() ?? [])] : [];
  const without = flags.has("kubeconfig") ? had.filter((name) => !flags.has(name)) : ["kubeconfig"];
  return without.length > 0 ? losesFlags(without, lost, process?.pid) : undefined;
}

function named(flags: ReadonlyMap<string, string>, name: string) {
  const path = flags.get(name);
  return path ? [{ path, why: `which --${name} names` }] : [];
}

/** A drop-in may name another one: then nothing is said. */
function clientCa(flags: ReadonlyMap<string, string>) {
  const [, inConfig] =
    /^[ \t]*clientCAFile: *["']?([^\s"']+)/m.exec(readText(flags.get("config") ?? "/dev/null") ?? "") ?? [];
  const path = flags.get("client-ca-file") ?? (flags.has("config-dir") ? undefined : inConfig);
  return path ? [{ path, why: "the CA that it trusts" }] : [];
}

function losesFlags(names: readonly string[], lost: readonly string[], pid: number | undefined): Fail {
  const end = names.includes("kubeconfig") ? ", and would end every pod of this node" : "";
  const files = lost.map((path) => `"${path}"`).join(" or ");
  const why = lost.length > 0 ? `${files} is missing, which its unit reads flags from` : "its unit has none";
  const save = `(umask 077; tr '\\0' '\\n' < /proc/${pid}/environ > /run/kubelet.environ)`;
  return new Fail(
    `The kubelet would be started without ${names.map((name) => `--${name}`).join(", ")}${end}: ${why}`,
    {
      hint:
        `never start this kubelet before the file is back${pid ? `. It still runs and has the file's variables: ${save}` : ""}. ` +
        `A backup has it, or another node: there --node-ip and --hostname-override are that node's own. RUNBOOK-MORE "A kubelet without its files"`,
    },
  );
}

/** The folder may have changed any field; some of them the kubelet has logged. */
async function aboutDropIns(folder: string): Promise<string> {
  const logged = await loggedConfig();
  const said =
    logged.length > 0
      ? `the kubelet's journal still says ${logged.join(" and ")}`
      : "the kubelet's journal says nothing of it";
  return (
    ` ${folder} may have set any field of the kubelet's configuration; ${said}. Another node has the same files, mostly. If nobody has ` +
    shell`them: mkdir -p ${folder}, and what the journal says into ${folder}/10-recovered.conf (apiVersion: kubelet.config.k8s.io/v1beta1, ` +
    "kind: KubeletConfiguration); the rest is lost."
  );
}

function cannotStart(why: string, more: string): Fail {
  return new Fail(`The kubelet cannot start: ${why}`, {
    hint: [
      "bring it back first: systemctl cat kubelet shows what the kubelet reads.",
      `${more} RUNBOOK-MORE "A kubelet without its files"`,
    ].join(""),
  });
}
