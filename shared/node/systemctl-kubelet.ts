/**
 * The one place that stops and starts the kubelet. It starts none whose files are not back. A unit may read
 * all flags from a file that may be missing (kubespray: `EnvironmentFile=-/etc/kubernetes/kubelet.env`).
 * Without --kubeconfig the kubelet runs alone: it knows no pod of the cluster, and ends the containers of all
 * that it finds (cmd/kubelet/app/server.go, standaloneMode; pkg/kubelet/kubelet_pods.go, HandlePodCleanups).
 * Where a file is missing that a flag names, it only exits.
 *
 * With --bootstrap-kubeconfig the kubelet looks for a certificate in kubelet.conf alone, whatever it has rotated since: if
 * that has expired, or none is there beside a program or a token, and the bootstrap file is away, it exits
 * (pkg/kubelet/certificate/bootstrap, LoadClientConfig, isClientConfigStillValid; kubeadm issue 1753). So it is told its own
 * before each start.
 */
import { isIP } from "node:net";
import { $ } from "zx/core";
import { noteState, noteStop } from "../as-if.ts";
import { attempt, attemptLater, Fail, Refused } from "../fail.ts";
import { copyToRescue } from "../files/file-tree.ts";
import { exists, writeFile } from "../files/files.ts";
import { canonicalIp, isEachAddress } from "../pki/addresses.ts";
import { day, infosIn } from "../pki/certificate.ts";
import { readKubeconfig } from "../pki/kubeconfigs.ts";
import { act, mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { noteUnfinished } from "../this-run.ts";
import { sayWhile } from "../wait-for.ts";
import { withRotated } from "./credentials.ts";
import { KEPT_CONFIG, keptConfig, kubeadmsConfig, readKubelet } from "./kubelet-config.ts";
import { envText, lostEnv, withRestoredEnv } from "./lost-environment.ts";
import { allAddresses, kubeletStopped, type Node, otherName } from "./node.ts";
import { asideOf, rescueOfRun } from "./rescue-folder.ts";
import {
  isKubelet,
  type KubeletFlags,
  type KubeletSeen,
  kubeletUnit,
  runningKubelet,
  seeKubelet,
} from "./started-with.ts";
import { flagsOf, readUnit, type Unit } from "./systemd-unit.ts";

const KUBELET_STOPPED =
  "this node's kubelet is stopped, its containers run on. It stays so until a run of this script starts it, or: systemctl start kubelet";

/** Errors: Fail with what systemctl printed; and as `refuseUnfitKubelet`. */
export async function systemctlKubelet(verb: "stop" | "start" | "restart", note = "") {
  if (verb !== "stop") {
    const unit = await kubeletUnit();
    await refuseUnfitKubelet(undefined, unit);
    await mendKubeletConf(unit);
  }
  const ends = mode.dryRun && verb !== "start" && !(await kubeletStopped());
  const look = "systemctl status kubelet; journalctl -u kubelet -n 50";
  const turn = () => $({ quiet: true, nothrow: true })`systemctl ${verb} kubelet`;
  await act(verb, `kubelet${note}`, async () => {
    if (verb === "stop") noteUnfinished("kubelet", KUBELET_STOPPED);
    const { exitCode, stderr } = await sayWhile(shell`systemctl ${verb} kubelet`, look, turn);
    if (exitCode === 0) return verb === "stop" ? undefined : noteUnfinished("kubelet", undefined);
    const why = stderr.trim().split("\n").at(-1);
    throw new Fail(`${shell`systemctl ${verb} kubelet`} exited ${exitCode}: ${why}`, {
      hint: `${look}. Then run the same line again: finished steps are skipped`,
    });
  });
  if (ends) noteStop("kubelet", "kubelet");
  if (verb !== "stop") noteState("kubelet", "runs");
}

/** Unless it is stopped: one that ends by itself would come back in the middle. Errors: as `systemctlKubelet`. */
export async function stopKubelet() {
  if (await kubeletStopped()) say("kubelet: not running");
  else await systemctlKubelet("stop", " (containers keep running)");
}

interface Coming {
  node: Node;
  /** Writes files before the start; a join takes kubelet.conf away. */
  by?: "repair" | "join" | undefined;
  /** The kubelet is told its node's name before. */
  renames?: true;
}

/** Errors: Fail where a start would lose flags, or would fail. */
export async function refuseUnfitKubelet(coming?: Coming, unit?: Unit) {
  const unfit = await unfitKubelet(coming, unit);
  if (unfit) throw unfit;
}

/**
 * Why the kubelet must not be started; undefined where it may, and where nothing tells (no unit, or a unit
 * that starts another program). Errors: Fail where systemd does not answer.
 */
export async function unfitKubelet(coming?: Coming, knownUnit?: Unit): Promise<Fail | undefined> {
  const [found, running] = [knownUnit ?? (await kubeletUnit()), await runningKubelet()];
  const env = coming?.by ? await lostEnv(found, running?.pid) : undefined;
  const unit = withRestoredEnv(found, env);
  const ended = coming?.by ? undefined : await endedInConf(unit.command, running);
  if (ended && ended.mended === undefined) return ended.fail;
  if (!isKubelet(unit.command)) return undefined;
  const flags = flagsOf(unit.command);
  const dangerous =
    (await flagsLost(unit, running)) ?? (coming && !coming.renames && otherName(coming.node, flags));
  if (dangerous) return dangerous;
  const own = attempt(() => readKubelet(flags, { mayBeGone: true }));
  if (own instanceof Fail) return own;
  const config = coming?.by && keptConfig(flags);
  const comes = [...filesOf(coming), ...(config ? [config.path] : [])];
  const isHere = (path: string) => comes.includes(path) || exists(path);
  const needs = (path: string | undefined, why: string) => (path ? [{ path, why }] : []);
  // what is lost of its configuration may name another CA
  const isWhole = own.files.every(({ path, flag }) => !flag.startsWith("--config") || isHere(path));
  const missing = [
    ...unit.files.flatMap((file) =>
      file.isHere || file.optional ? [] : needs(file.path, "which its unit reads"),
    ),
    ...own.files.flatMap(({ path, flag }) => needs(path, `which ${flag} names`)),
    ...needs(own.resolvConf || undefined, "which resolvConf names"),
    ...needs(isWhole ? own.namedCa : undefined, "the CA that it trusts"),
  ].filter(({ path }) => !isHere(path));
  const credentials = ["kubeconfig", "bootstrap-kubeconfig"].flatMap((name) => flags.get(name) || []);
  if (coming?.by === "join" && credentials.length < 2) return cannotJoin(unit.exec);
  const sentences = missing.map(({ path, why }) => `"${path}" is missing, ${why}`);
  if (!credentials.some(isHere))
    sentences.push(`there is no ${credentials.map((path) => `"${path}"`).join(" and no ")}`);
  if (
    own.address &&
    isIP(own.address) &&
    !isEachAddress(own.address) &&
    !(await allAddresses()).includes(canonicalIp(own.address))
  )
    sentences.push(`its configuration has the address ${own.address}, which is none of this machine`);
  if (sentences.length === 0) return undefined;
  const dropIns = flags.get("config-dir");
  const isLost = dropIns !== undefined && missing.some(({ path }) => path === dropIns);
  const lostConfig = missing.find(({ why }) => why === "which --config names")?.path;
  const more = isLost ? aboutDropIns(dropIns) : lostConfig ? aboutConfig(lostConfig) : "";
  return new Fail(`The kubelet cannot start: ${sentences.join("; ")}`, {
    hint: [
      "bring it back first: systemctl cat kubelet shows what the kubelet reads.",
      `${more} RUNBOOK-MORE "A kubelet without its files"`,
    ].join(""),
  });
}

function filesOf({ node, by }: Partial<Coming> = {}): string[] {
  if (!node || !by) return [];
  const { kubeconfig, bootstrapKubeconfig, clientCaFile } = node.kubelet;
  return [clientCaFile, by === "join" ? bootstrapKubeconfig : kubeconfig];
}

function aboutConfig(path: string): string {
  const own = "kubectl get --raw /api/v1/nodes/NODE/proxy/configz";
  const last = kubeadmsConfig(path);
  return (
    ` Another node has it, with that node's own address and reserved resources. While this kubelet runs and the API reaches it: ${own}, on a control plane node, into ${KEPT_CONFIG} here.` +
    (last ? ` If nobody has it: ${last.command} (${last.note})` : "")
  );
}

type Running = KubeletSeen["running"];

/** Why kubelet.conf ends the kubelet's next start. */
export interface EndedConf {
  path: string;
  /** Its certificate has expired; if not, it has none, and its user signs in otherwise. */
  isExpired: boolean;
  /** Its text with the certificate that the kubelet rotates; undefined where that is not valid either. */
  mended: string | undefined;
  fail: Fail;
}

/** Whether the next start ends at a certificate in kubelet.conf; a wrapper tells its flags by the kubelet that runs. */
async function endedInConf(command: readonly string[], running?: Running): Promise<EndedConf | undefined> {
  const ask = async () => running ?? (await attemptLater(runningKubelet, undefined));
  const flags: KubeletFlags = (isKubelet(command) ? undefined : await ask())?.flags ?? flagsOf(command);
  const [path, bootstrap] = ["kubeconfig", "bootstrap-kubeconfig"].map((name) => flags.get(name));
  if (!path || !bootstrap || attempt(() => readKubeconfig(bootstrap), undefined)) return undefined;
  const conf = attempt(() => readKubeconfig(path), undefined);
  const ended = infosIn(conf?.clientCertPem).find(({ notAfter }) => notAfter < new Date());
  if (!ended && !conf?.signsInBy) return undefined;
  const { clientPem } = readKubelet(flags, { mayBeGone: true });
  const mended = withRotated({ kubeconfig: path, clientPem });
  const why = ended
    ? `The certificate in "${path}" has expired (${day(ended.notAfter)})`
    : `There is no certificate in "${path}" (its user signs in by ${conf?.signsInBy}), and "${bootstrap}" is missing`;
  const hint = mended ? leadByHand(path, clientPem) : ASSESS;
  const fail = new Fail(`${why}: the kubelet does not start again`, { hint });
  return { path, isExpired: ended !== undefined, mended, fail };
}

const ASSESS = "./bunw scripts/00-assess.ts says what gives this kubelet a new one";

function leadByHand(path: string, clientPem: string): string {
  const config = shell`kubectl config --kubeconfig ${path}`;
  const user = `"$(${config} view --minify -o jsonpath='{.users[0].name}')"`;
  return `${config} set-credentials ${user} ${shell`--client-certificate=${clientPem} --client-key=${clientPem}`}`;
}

/** A kubelet.conf that each start by this kit mends, and no other start. */
export async function endedConf({ unit, running }: KubeletSeen): Promise<EndedConf | undefined> {
  const ended = await attemptLater(() => endedInConf(readUnit(unit).command, running), undefined);
  return ended?.mended === undefined ? undefined : ended;
}

export async function mendKubeletConf(unit?: Unit) {
  const ended = await endedInConf((unit ?? (await kubeletUnit())).command);
  if (ended) writeEnded(ended, asideOf(rescueOfRun()));
}

/** Returns whether it could be mended. */
export function writeEnded({ path, mended, isExpired }: EndedConf, asideDir: string): boolean {
  if (mended === undefined) return false;
  copyToRescue(path, asideDir);
  writeFile(path, mended, { mode: 0o600, note: isExpired ? ROTATED : NONE_IN_IT });
  return true;
}

/**
 * Writes the file of variables that the kubelet's unit has lost, if its process, its journal or who stopped it has kept
 * them; and the file of its configuration, if that was kept.
 */
export async function putKubeletsFilesBack() {
  const { unit: text, running } = await seeKubelet();
  const unit = readUnit(text);
  const env = await lostEnv(unit, running?.pid);
  if (env) writeFile(env.path, envText(env), { mode: 0o600, note: `the kubelet's flags, from ${env.from}` });
  const config = keptConfig(flagsOf(withRestoredEnv(unit, env).command));
  if (config)
    writeFile(config.path, config.text, {
      mode: 0o600,
      note: `the kubelet's configuration, from ${config.from}`,
    });
}

const ROTATED = "with the certificate that the kubelet rotates: the one in it has expired";
const NONE_IN_IT =
  "with the certificate that the kubelet rotates: there was none in it, and the kubelet exits without one";

/** Why a start would not fail, but lose flags; undefined where it would lose none, and where nothing tells. */
export async function kubeletsLostFlags(kubelet: KubeletSeen): Promise<Fail | undefined> {
  const unit = readUnit(kubelet.unit);
  const look = () => flagsLost(unit, kubelet.running);
  return isKubelet(unit.command) ? attemptLater(look, undefined) : undefined;
}

async function flagsLost(unit: Unit, process: Running): Promise<Fail | undefined> {
  const { command, files } = unit;
  const flags = flagsOf(command);
  const lost = files.filter(({ isHere, optional }) => !isHere && optional).map(({ path }) => path);
  const had = lost.length > 0 ? [...(process?.flags.keys() ?? [])] : [];
  const without = flags.has("kubeconfig") ? had.filter((name) => !flags.has(name)) : ["kubeconfig"];
  if (without.length === 0) return undefined;
  return losesFlags(without, lost, { process, from: (await lostEnv(unit, process?.pid))?.from });
}

/** Behind all other drop-ins: the whole line, as a flag can only be added so. */
function cannotJoin(exec: string): Fail {
  const folder = "/etc/systemd/system/kubelet.service.d";
  const line = `ExecStart=${exec} --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf`;
  const write = shell`mkdir -p ${folder} && printf ${"%s\\n"} ${"[Service]"} ${"ExecStart="} ${line} > ${`${folder}/zz-bootstrap-kubeconfig.conf`} && systemctl daemon-reload`;
  return new Refused("The kubelet's unit has no --bootstrap-kubeconfig, so it cannot join", {
    unchanged: true,
    hint: `${write}; then run the same line again. The kubelet that runs does not notice`,
  });
}

/** It runs alone, and has stopped every pod of this node. */
export class StartedWithoutFlags extends Fail {}

function losesFlags(
  names: readonly string[],
  lost: readonly string[],
  { process, from }: { process: Running; from: string | undefined },
): Fail {
  const end = names.includes("kubeconfig") ? ", and would stop every pod of this node" : "";
  const files = lost.map((path) => `"${path}"`).join(" or ");
  const why = lost.length > 0 ? `${files} is missing, which its unit reads flags from` : "its unit has none";
  const save = `(umask 077; tr '\\0' '\\n' < /proc/${process?.pid}/environ > /run/kubelet.environ)`;
  const isLate = process !== undefined && !process.flags.has("kubeconfig");
  const now = isLate
    ? "stop it: systemctl stop kubelet. Images, volumes and /var/lib/kubelet are left: with the file it starts the pods of this node"
    : `do not start this kubelet before the file is back${process ? `. It still runs and has the file's variables: ${save}` : ""}`;
  return new (isLate ? StartedWithoutFlags : Fail)(
    isLate && lost.length > 0
      ? `The kubelet was started without --kubeconfig, and has stopped every pod of this node: ${why}`
      : `The kubelet would be started without ${names.map((name) => `--${name}`).join(", ")}${end}: ${why}`,
    {
      hint: `${now}. ${from ? `Parts 1 and 2 and 03-join write it, from ${from}` : "Neither its journal nor /run/kubelet.environ has its flags. A backup has the file, or another node: there --node-ip and --hostname-override are that node's own"}. RUNBOOK-MORE "A kubelet without its files"`,
    },
  );
}

/** The kubelet logs two of its paths when it starts: pkg/kubelet/kubelet.go; apiserver's dynamic_cafile_content.go. */
function aboutDropIns(folder: string): string {
  return (
    ` ${folder} may have set any field of the kubelet's configuration. Another node has the same files, mostly. ` +
    shell`If nobody has them: mkdir -p ${folder}, and into ${folder}/10-recovered.conf (apiVersion: kubelet.config.k8s.io/v1beta1, ` +
    "kind: KubeletConfiguration) staticPodPath and authentication.x509.clientCAFile, if the kubelet's journal still has them: " +
    'journalctl -u kubelet -o cat | grep -oE "static pod path.*|client-ca-bundle::[^ ]*" | sort -u; the rest is lost.'
  );
}
