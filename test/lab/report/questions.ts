/**
 * The questions at the end of a rehearsal. `recovered` is true only if the answer to each is yes; no answer
 * is assumed.
 */
import { Fail } from "../../../shared/fail.ts";
import { kubectl, type Lab, type Machine } from "../machine/machine.ts";
import { controlPlaneSamples, type Scene, sayAndWait } from "../scene/scene.ts";
import { type measurePings, OLD_PODS, pingLine } from "./pings.ts";
import { joinedTooLate } from "./reduced.ts";
import type { Check, Heartbeat, NewPod, Step } from "./rehearsal.ts";
import { type Changes, type Item, list } from "./snapshot.ts";

/** Seconds; a kubelet renews its Lease every 10. */
const LEASE_PATIENCE = 40;

export const API_ANSWERS = "the API answers";

/**
 * What can only be asked while the cluster still stands. After a failed repair each question is asked once,
 * and none where the API does not answer. The first answer that is no makes the waits after it as short.
 */
export async function liveChecks(scene: Scene): Promise<Check[]> {
  const { lab } = scene;
  const api = scene.failed === undefined ? [] : [await check(API_ANSWERS, () => apiAnswers(lab))];
  const isSilent = api.some(({ ok }) => !ok);
  const ask = (name: string, question: () => Promise<string>) =>
    isSilent ? { name, ok: false, detail: "the API does not answer" } : check(name, question);
  const states = await Promise.all([
    ask("every node is Ready and renews its Lease", () => leasesAreFresh(scene)),
    ask("every pod is Ready", () => podsAreReady(scene)),
    ask("the metrics API answers, with numbers of every node", () => metricsAnswer(scene)),
  ]);
  const bad = states.find(({ ok }) => !ok);
  if (bad) scene.failed ??= `${bad.name}: ${bad.detail}`;
  const commands = await Promise.all(
    lab.nodes.flatMap((node) => [
      ask(`no process is left stopped on ${node.name}`, () => stoppedOn(node)),
      ask(`kubectl logs works on ${node.name}`, () => logs(lab, node)),
      ask(`kubectl exec works on ${node.name}`, () => exec(lab, node)),
    ]),
  );
  return [...api, ...states, ...commands];
}

/** SIGSTOP's state, T: what somebody paused and nobody continued looks well to everybody else. */
async function stoppedOn(node: Machine) {
  const line = `for one in /proc/[0-9]*; do grep -qs '^State:\tT' $one/status && tr '\\0' ' ' < $one/cmdline && echo; done; true`;
  const { stdout } = await node.run(["sh", "-c", line]);
  if (stdout.trim())
    throw new Fail(stdout.trim().replaceAll("\n", "; "), { hint: "kill -CONT, or restart its pod" });
  return "none";
}

async function apiAnswers(lab: Lab) {
  const { exitCode, stdout, stderr } = await kubectl(lab, [
    "get",
    "--raw",
    "/readyz",
    "--request-timeout=5s",
  ]);
  if (exitCode !== 0)
    throw new Fail(stderr.trim(), { hint: "crictl ps -a --name kube-apiserver, with --keep" });
  return stdout.trim();
}

/** A yes is returned with a detail; a no is thrown as a Fail. */
async function check(name: string, question: () => Promise<string>): Promise<Check> {
  try {
    return { name, ok: true, detail: await question() };
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    return { name, ok: false, detail: err.message };
  }
}

async function leasesAreFresh(scene: Scene) {
  // After a failed repair nothing is waited for: then a renewal of the last seconds is enough.
  const since = scene.failed === undefined ? Date.now() : Date.now() - LEASE_PATIENCE * 1000;
  const fresh = () => {
    const nodes = controlPlaneSamples(scene)[0]?.findLast((sample) => sample.nodes)?.nodes ?? [];
    return (
      nodes.length === scene.lab.nodes.length && nodes.every((node) => node.ready && node.renewed > since)
    );
  };
  const hint = "journalctl -u kubelet on the node, with --keep";
  await sayAndWait(scene, "a Lease renewal of each Ready node", fresh, { seconds: LEASE_PATIENCE, hint });
  return `${scene.lab.nodes.length} of ${scene.lab.nodes.length} nodes`;
}

async function podsAreReady(scene: Scene) {
  const hint = "kubectl get pods -A, with --keep";
  let pods: Item[] = [];
  const ready = async () => {
    pods = await list(scene.lab, "pods");
    const late = pods.filter((pod) => !isReady(pod));
    if (late.length > 0)
      throw new Fail(`not Ready: ${late.map((pod) => pod.metadata.name).join(", ")}`, { hint });
    return true;
  };
  await sayAndWait(scene, "every pod to be Ready", ready, { seconds: 180, hint });
  return `${pods.length} pods`;
}

/**
 * Trust both ways: the metrics server trusts the API server (front-proxy CA), and every kubelet trusts the
 * metrics server (its token).
 */
async function metricsAnswer(scene: Scene) {
  const { lab } = scene;
  let found = 0;
  const answered = async () => {
    const { stdout, stderr, exitCode } = await kubectl(lab, [
      "get",
      "--raw",
      "/apis/metrics.k8s.io/v1beta1/nodes",
    ]);
    if (exitCode !== 0)
      throw new Fail(stderr.trim(), {
        hint: "kubectl get apiservices; kubectl -n kube-system logs deploy/metrics-server",
      });
    found = (JSON.parse(stdout) as { items: unknown[] }).items.length;
    return found >= lab.nodes.length;
  };
  const hint = "kubectl -n kube-system logs deploy/metrics-server, with --keep";
  await sayAndWait(scene, `metrics of ${lab.nodes.length} nodes`, answered, { seconds: 180, hint });
  return `${found} nodes`;
}

function isReady(pod: Item): boolean {
  const conditions = (pod.status?.conditions ?? []) as { type: string; status: string }[];
  return (
    pod.status?.phase === "Succeeded" ||
    conditions.some(({ type, status }) => type === "Ready" && status === "True")
  );
}

/**
 * One that stays: a pod that a rolling update has replaced is Ready until it has ended, which may take half a
 * minute.
 */
async function podOn(lab: Lab, node: Machine) {
  const stays = (pod: Item) =>
    isReady(pod) && pod.status?.phase !== "Succeeded" && !pod.metadata.deletionTimestamp;
  const pods = (await list(lab, "pods")).filter((pod) => pod.spec.nodeName === node.nodeName && stays(pod));
  const pod = pods.find(({ metadata }) => metadata.namespace !== "kube-system") ?? pods[0];
  if (!pod)
    throw new Fail(`No Ready pod on ${node.nodeName}`, { hint: "kubectl get pods -A -o wide, with --keep" });
  return pod;
}

async function logs(lab: Lab, node: Machine) {
  const { metadata } = await podOn(lab, node);
  const { exitCode, stderr } = await kubectl(lab, [
    "logs",
    "-n",
    metadata.namespace!,
    metadata.name,
    "--tail=1",
  ]);
  if (exitCode !== 0)
    throw new Fail(stderr.trim(), {
      hint: "look at who signed apiserver-kubelet-client.crt, and at the CA that the kubelet trusts",
    });
  return `${metadata.namespace}/${metadata.name}`;
}

/**
 * The images hold few programs: "not found" from *inside the container* is an answer, too. An API server
 * whose client certificate was renewed while it runs closes all its connections to kubelets at the next one
 * that it opens, that one included (client-go transport/cert_rotation.go, loadClientCert): asked once more,
 * as a person would.
 */
async function exec(lab: Lab, node: Machine) {
  const { metadata } = await podOn(lab, node);
  const line = ["exec", "-n", metadata.namespace!, metadata.name, "--", "true"];
  let { exitCode, stderr } = await kubectl(lab, line);
  if (exitCode !== 0 && /use of closed network connection/.test(stderr))
    ({ exitCode, stderr } = await kubectl(lab, line));
  if (exitCode !== 0 && !/executable file not found|no such file/.test(stderr))
    throw new Fail(stderr.trim(), { hint: "see kubectl logs" });
  return `${metadata.namespace}/${metadata.name}`;
}

/** With the old keys, nothing outside the control plane may change. */
export function keptChecks(
  scene: Scene,
  { trustIs, restarted, oldTokensValid }: { trustIs: Trust; restarted: string[]; oldTokensValid: number },
): Check[] {
  const [was, is] = [scene.trustWas, trustIs].map((trust) => words(trust, scene.away));
  const tokens = `${oldTokensValid} of ${scene.oldTokens.length}`;
  return [
    {
      name: "the workers trust the same CA, and their kubelets were not restarted",
      ok: is === was,
      detail: is!,
    },
    {
      name: "no workload container restarted, part 4 included",
      ok: restarted.length === 0,
      detail: restarted.join("; ") || "none",
    },
    {
      name: "tokens from before the damage are still valid",
      ok: oldTokensValid === scene.oldTokens.length,
      detail: tokens,
    },
  ];
}

/** The cluster's CA, and since when each worker's kubelet runs, by their names. */
export type Trust = [name: string, is: string][];

function words(trust: Trust, away: readonly string[]): string {
  return trust.flatMap(([name, is]) => (away.includes(name) ? [] : `${name} ${is}`)).join("; ");
}

export async function trustOfWorkers({ controlPlanes, workers, profile }: Lab): Promise<Trust> {
  const ca = await controlPlanes[0]!.run(["sha256sum", `${profile.certificatesDir}/ca.crt`]);
  const since = workers.map(async (node): Promise<Trust[number]> => {
    const { stdout } = await node.run([
      "systemctl",
      "show",
      "kubelet",
      "--property=MainPID,ActiveEnterTimestampMonotonic",
    ]);
    return [node.name, stdout.trim().replaceAll("\n", " ")];
  });
  return [["CA", ca.stdout.slice(0, 12)], ...(await Promise.all(since))];
}

interface Findings {
  changes: Changes;
  heartbeats: Heartbeat[];
  dataPlaneFailures: number;
  pings: ReturnType<typeof measurePings>;
  dnsLostSeconds: number;
  restarted: string[];
  evicted: string[];
  endpointsLost: { seconds: number; services: string[] };
  /** The scenario follows our runbook, so our promises must hold. */
  byRunbook: boolean;
  /** Machines failed: what this did to workloads says nothing about the repair. */
  machinesFail: boolean;
  /** As the scenario's own. */
  kubeletsRestart: boolean;
  goesBack: boolean;
}

/** What the record says. */
export function recordedChecks(scene: Pick<Scene, "steps" | "leaks">, findings: Findings): Check[] {
  const { changes, heartbeats } = findings;
  const none = (name: string, items: string[], good = "none") => ({
    name,
    ok: items.length === 0,
    detail: items.join("; ") || good,
  });
  const failed = scene.steps
    .filter((step) => !step.ok)
    .map((step) => `${step.node}# ${step.command}: exit ${step.exitCode}`);
  const silent = heartbeats
    .filter(({ gaps, calls }) => calls === 0 || gaps.some((gap) => gap.to === null))
    .map(({ name }) => name);
  return [
    none("every command ended as expected", failed, `${scene.steps.length} commands`),
    ...(findings.byRunbook ? [verified(scene.steps)] : []),
    none("no secret stands in a transcript", scene.leaks),
    none("ConfigMaps are as before", changes.configMapsChanged, "all equal"),
    none("Secrets are as before", changes.secretsLost, "all equal"),
    none(
      "static pod manifests are as before: CIDRs, extra arguments, hand edits",
      changes.manifestsChanged,
      "all equal",
    ),
    none("the API server's certificate has all its names", changes.namesLost, "all there"),
    none("the kubelets' configuration is unchanged", changes.kubeletFilesChanged, "all equal"),
    none("Nodes have the same UIDs as before", changes.uidsChanged, "all equal"),
    ...(findings.byRunbook
      ? [none("no worker had to join while a controller-manager ran in full", joinedTooLate(scene.steps))]
      : []),
    ...(findings.goesBack ? [] : [none("no pod was evicted", findings.evicted)]),
    ...(findings.machinesFail ? [] : undisturbed(findings)),
    ...(findings.pings.rows.length > 0 ? reached(findings) : []),
    none("every heartbeat beats again", silent, heartbeats.map(({ name }) => name).join(", ")),
  ];
}

function undisturbed({
  restarted,
  endpointsLost: { seconds, services },
  dataPlaneFailures,
  kubeletsRestart,
}: Findings): Check[] {
  const without = [`${seconds.toFixed(1)} s without endpoints`, ...services].join("; ");
  return [
    {
      name: "no workload container restarted before part 4",
      ok: restarted.length === 0,
      detail: restarted.join("; ") || "none",
    },
    ...(kubeletsRestart
      ? []
      : [{ name: "no Service lost its endpoints", ok: seconds === 0, detail: without }]),
    {
      name: "no call from pod to Service failed before part 4",
      ok: dataPlaneFailures === 0,
      detail: `${dataPlaneFailures} failed`,
    },
  ];
}

/**
 * Seconds: how long a new pod, and the cluster's DNS, may be without what they need. A plugin's own restart
 * takes less.
 */
const NEW_POD_WAITS = 15;
const DNS_MAY_LACK = 30;

function reached({ pings: { rows, newPods }, dnsLostSeconds, machinesFail }: Findings): Check[] {
  const lost = rows.filter(({ name }) => name === OLD_PODS).flatMap(({ spans }) => spans);
  const late = newPods.filter(({ firstAnswer }) => firstAnswer === null || firstAnswer > NEW_POD_WAITS);
  const first = ({ name, firstAnswer }: NewPod) =>
    `${name} ${firstAnswer === null ? "never" : `${firstAnswer.toFixed(1)} s`}`;
  const undisturbed: Check[] = [
    {
      name: "no ping between old pods was lost",
      ok: lost.length === 0,
      detail: rows.map(pingLine).join("; "),
    },
    {
      name: `another pod answers each new pod at most ${NEW_POD_WAITS} s after its start`,
      ok: late.length === 0,
      detail: (late.length > 0 ? late : newPods).map(first).join("; ") || "no new pod",
    },
  ];
  return [
    ...(machinesFail ? [] : undisturbed),
    {
      name: `the cluster's DNS lacked ready endpoints for at most ${DNS_MAY_LACK} s`,
      ok: dnsLostSeconds <= DNS_MAY_LACK,
      detail: `${dnsLostSeconds.toFixed(1)} s`,
    },
  ];
}

function verified(steps: Step[]): Check {
  const last = steps.findLast((step) => step.command.includes("05-verify"));
  return {
    name: "05-verify is green",
    ok: last?.exitCode === 0,
    detail: last ? `exit ${last.exitCode}` : "05-verify was never run",
  };
}
