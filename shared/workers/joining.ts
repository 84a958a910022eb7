/**
 * `open` of 03-workers lets workers join, and `close` ends it: the files with their tokens, and `approve` in the
 * background of the first control plane node, a systemd unit that is gone after a boot or when its work is done.
 *
 * `open` also keeps the static pods that workers have of their own, such as a balancer in front of the API
 * (kubespray, KubeKey, sealos). If /etc/kubernetes is lost there, too, only their mirror pods in etcd's data still
 * have the manifests, until those kubelets are back and delete them. A worker's kubelet has written them, so they
 * decide nothing: they are kept as text, and go back to that same worker by the operator's hand.
 */
import { join } from "node:path";
import { $ } from "zx/core";
import { again, type LeftOut } from "../again.ts";
import { ANY_WORKER, closeJoining, TOKEN_HOURS } from "../api/bootstrap-tokens.ts";
import type { KubeApi } from "../api/kube-api.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { attempt, Fail } from "../fail.ts";
import { selinuxEnforces } from "../files/file-system.ts";
import { list, writeFile } from "../files/files.ts";
import { refuseOthers, writeTyped } from "../files/operator-files.ts";
import { manifestName } from "../manifests/on-disk.ts";
import { typed } from "../options.ts";
import { listed, quoteUntrusted } from "../plain.ts";
import { act, mode, say, silently, tell } from "../run.ts";
import { onOther, shell } from "../shell-line.ts";
import { inTime, sayWhile } from "../wait-for.ts";
import { removeFormers } from "./csr-rules.ts";
import { type WorkersPods, workersManifest } from "./own-pods.ts";
import {
  APPROVER,
  APPROVER_LOG,
  dropTokenFile,
  type TokenFile,
  tokenPlace,
  tokenText,
} from "./token-file.ts";

/**
 * Writes the files that token-file.ts reads on the workers; `make` gives each node's bootstrap token. `at`: this node's
 * own API server. The files of earlier runs go: those tokens are revoked. Errors: as `refuseOthers`, with none made.
 */
export async function writeTokenFiles(
  file: string,
  make: () => Promise<ReadonlyMap<string, string>>,
  { ca, at, pods }: Pick<TokenFile, "ca" | "at"> & { pods: WorkersPods | Fail },
) {
  for (const place of [file, `${file}.d`]) refuseOthers(typed(place), "written");
  const tokens = await make();
  await silently(async () => {
    for (const node of [ANY_WORKER, ...list(typed(`${file}.d`))])
      if (!tokens.has(node)) dropTokenFile(placeFor(file, node));
    for (const [node, token] of tokens) {
      const own = pods instanceof Fail ? [] : (pods.get(node) ?? []);
      const owner = node === ANY_WORKER ? undefined : node;
      const text = tokenText({ token, owner, at, pods: own.map(({ name }) => name), ca });
      writeTyped(placeFor(file, node), text, { mode: 0o600, folderMode: 0o700 });
    }
  });
  sayTokens(file, [...tokens.keys()]);
}

export function sayTokens(file: string, nodes: readonly string[]) {
  const verb = mode.dryRun ? "would write" : "wrote";
  const rest = `valid for ${TOKEN_HOURS} h, and the CA: copy it there with scp, so that no token is ever on a screen`;
  if (nodes.includes(ANY_WORKER))
    say(
      `${verb} ${file} (a bootstrap token for all workers, ${rest}. Each can ask in another's name with it)`,
    );
  else
    say(
      `${verb} ${tokenPlace(file, "NODE")} for ${listed(nodes)} (to each its own bootstrap token, ${rest})`,
    );
}

function placeFor(file: string, node: string): string {
  return node === ANY_WORKER ? file : tokenPlace(file, node);
}

/** The name of its step: once its log has it, it has read etcd's data and asked the API. */
export const APPROVES = "Approve the certificates that workers ask for with the token";

const KEPT = ["PATH", "HOME", "XDG_CACHE_HOME", "KUBE_PKI_REPAIR_CLOCK", "KUBE_PKI_REPAIR_PATIENCE"];

interface Asked extends LeftOut {
  "etcd-data"?: string | undefined;
}

/** `asked`: the options of `open`. Errors: Fail with the reason and the line for a second window. */
export async function startApprover(asked: Asked) {
  const { without, lost, "etcd-data": etcdData = false } = asked;
  const line = again({ "etcd-data": etcdData, without, lost }, { of: "03-workers approve" });
  const byHand = `run this in a second window on this node, until all workers have joined: ${line}. The token is made, but nothing approves the certificates of workers yet`;
  const what = `${APPROVER}, which approves the certificates that workers ask for with the token: ${APPROVER_LOG}`;
  const options = { "etcd-data": asked["etcd-data"], without: without.join(","), lost: lost.join(",") };
  const words = Object.entries(options).flatMap(([name, value]) => (value ? [`--${name}`, value] : []));
  await act("start", what, async () => {
    await stopUnit();
    const began = Date.now();
    const why =
      (await systemdRun(["scripts/03-workers.ts", "approve", ...words])) ?? (await whyNotRunning(began));
    if (why) throw new Fail(why, { hint: `${byHand}${selinuxHint(why)}` });
  });
}

/**
 * Why systemd-run has started nothing; undefined if it has. With Type=exec (since systemd 240) it also reports a
 * program that cannot be executed.
 */
async function systemdRun(line: readonly string[]): Promise<string | undefined> {
  const kit = join(import.meta.dir, "../..");
  const unit = ["--quiet", "--collect", `--unit=${APPROVER}`, `--property=WorkingDirectory=${kit}`];
  // `open` was started with them; a unit gets nothing of a shell's
  for (const name of KEPT) if (process.env[name]) unit.push(`--setenv=${name}=${process.env[name]}`);
  for (const type of [["--property=Type=exec"], []]) {
    const start = [...unit, ...type, `${kit}/bunw`, ...line];
    const { exitCode, stderr } = await program(["systemd-run", ...start], `systemctl status ${APPROVER}`);
    if (exitCode === 0) return undefined;
    const lastLine = quoteUntrusted(stderr.trim().split("\n").at(-1) ?? "");
    if (type.length === 0 || !/\bType\b|property/i.test(lastLine))
      return `systemd-run exited ${exitCode}: ${lastLine}`;
  }
  return undefined;
}

/** Seconds until it has begun, or has ended; without a journal that says so, it counts that it still runs. */
const TO_BEGIN = 15;

/**
 * Seconds for one whose journal has lines. It reads etcd's data and its copy: 16 GB, at 50 MB/s, take five minutes,
 * and a worker that joins waits for two.
 */
const TO_READ = 900;

/** Undefined if it runs. systemd-run itself reports no program that ends at once. */
async function whyNotRunning(began: number): Promise<string | undefined> {
  let ended = false;
  const own = ["--unit", APPROVER, "--since", `@${Math.floor(began / 1000)}`];
  const log = async () =>
    (await program(["journalctl", "--quiet", "--output", "cat", ...own], "wait: it ends by itself")).stdout;
  const look = async () => {
    ended = !(await isActive());
    return ended || (await log()).includes(APPROVES);
  };
  const begun = async (seconds: number) =>
    await inTime(`${APPROVER} to begin`, look, { seconds, hint: APPROVER_LOG });
  if (!(await begun(TO_BEGIN)) && (await log())) await begun(TO_READ);
  if (!ended) return undefined;
  const lines = (await log()).split("\n").filter(Boolean);
  const reason = lines.findLast((line) => /error:|denied|failed/i.test(line)) ?? lines.at(-1);
  return `${APPROVER} was started, and has exited: ${reason ? quoteUntrusted(reason) : `see ${APPROVER_LOG}`}`;
}

/** systemd may start no program with the label of a file in memory (systemd issue 35804). */
function selinuxHint(why: string): string {
  if (!selinuxEnforces() || !/denied|EXEC|exec/.test(why)) return "";
  return ". SELinux is enforcing, and lets systemd start nothing from memory: chcon -R -t bin_t bunw bun in the kit's folder, then open again";
}

async function isActive(): Promise<boolean> {
  const hint = "see whether systemd answers: systemctl status";
  return (await program(["systemctl", "is-active", "--quiet", APPROVER], hint)).exitCode === 0;
}

function program(words: string[], hint: string) {
  return sayWhile(`${words[0]} for ${APPROVER}`, hint, () => $({ quiet: true, nothrow: true })`${words}`);
}

/** `approve` ends with exit code 0 when systemd, or an operator, tells it to. */
export function endBySignal() {
  const end = () => {
    tell("stopped: from now on nothing is approved");
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, end);
}

/**
 * Nobody joins any more, and nothing that `open` and `join` have made in the cluster stays. Errors: Fail if the unit
 * on this node cannot be stopped.
 */
export async function endJoining(api: KubeApi) {
  if (await isActive())
    await act("stop", APPROVER, async () => {
      const { exitCode, stderr } = await stopUnit();
      if (exitCode !== 0)
        throw new Fail(`${shell`systemctl stop ${APPROVER}`} exited ${exitCode}: ${quoteUntrusted(stderr)}`, {
          hint: `systemctl status ${APPROVER}; then run the same line again`,
        });
    });
  await closeJoining(api);
  await removeFormers(api);
}

/** A failed unit must be reset, too: otherwise the next one cannot start. */
async function stopUnit() {
  const kill = `systemctl kill ${APPROVER}`;
  const stopped = await program(["systemctl", "stop", APPROVER], kill);
  await program(["systemctl", "reset-failed", APPROVER], kill);
  return stopped;
}

const MANIFESTS = "/etc/kubernetes/manifests";

/** Keeps each different manifest once, in the rescue folder, and says whose it is and how it goes back. */
export function keepWorkersPods({ rescue }: Pick<ControlPlaneNode, "rescue">, pods: WorkersPods | Fail) {
  if (pods instanceof Fail) return say(`static pods of workers: ${pods.message}`);
  const texts = [...pods].flatMap(([worker, all]) =>
    all.flatMap(({ name, pod }) => {
      return attempt(() => [{ name, worker, text: workersManifest({ pod }, worker) }], []);
    }),
  );
  for (const [name, all] of Map.groupBy(texts, (one) => one.name)) {
    for (const [i, [text, same]] of [...Map.groupBy(all, (one) => one.text)].entries()) {
      const file = `${rescue.dir}/workers/${name}${i > 0 ? `-${i + 1}` : ""}.yaml`;
      const owners = listed(same.map(({ worker }) => worker));
      const note = `a static pod of ${owners}, as their kubelets reported it`;
      writeFile(file, text, { mode: 0o600, folderMode: 0o700, note });
      say(
        `${name}, a static pod of ${owners}: if it is missing in ${MANIFESTS} there, read that file, then, before 03-join there: ${onOther("NODE", shell`mkdir -p ${MANIFESTS} && cat > ${MANIFESTS}/${manifestName(name)}`)} < ${shell`${file}`}`,
      );
    }
  }
}
