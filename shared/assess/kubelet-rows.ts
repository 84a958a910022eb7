/** The rows of the damage table about the kubelet: whether it runs, and the credentials that it uses. */

import type { Todo } from "../again.ts";
import { type Answer, type Check, found, hasFailed } from "../checks/check.ts";
import type { CheckId } from "../checks/kinds.ts";
import { knownHere, stoppedProcesses } from "../evidence/owners.ts";
import type { PartialFacts } from "../facts/control-plane-node.ts";
import { HOLD } from "../facts/course.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { cniKubeconfigs, trustsOldCa } from "../node/cni-trust.ts";
import { type Container, isServerContainer } from "../node/containers.ts";
import { stateOfPem } from "../node/kubelet-certs.ts";
import { clientText } from "../node/kubelet-config.ts";
import { kubeletActive, kubeletState, kubeletStopped, type Node } from "../node/node.ts";
import { certInfo } from "../pki/certificate.ts";
import { certRow } from "../pki/certs.ts";
import { caText } from "../pki/examine.ts";
import { day } from "../pki/judge.ts";
import { readKubeconfig } from "../pki/kubeconfigs.ts";
import { trustsCa } from "../pki/trusted-keys.ts";
import type { CaReader } from "../renew/ca-readers.ts";
import { readerRows } from "../renew/reader-rows.ts";
import { holders } from "../salvage/memory/processes.ts";
import { row } from "./assessment.ts";

/**
 * The kubelet, and a second row where the containers cannot be looked at. `held`: part 0 says to stop it, as
 * this node is damaged.
 */
export async function kubeletRow(
  node: Node,
  running: Container[] | Fail,
  { held = false } = {},
): Promise<Check[]> {
  const runs = await kubeletActive();
  const state = runs ? "active" : await kubeletState();
  const loops = ENDS.includes(state) ? `systemd starts it, and it exits again (${state}): ${LOG}; ` : "";
  const stopped = (detail: string) =>
    held && state === "inactive"
      ? { warning: `${HELD}; ${detail}` }
      : { state: "stopped", failed: `${loops}${detail}` };
  const kubelet = (detail: string) => row("kubelet", "kubelet", runs ? detail : stopped(detail));
  const certificate = clientCertificate(node);
  if (running instanceof Fail)
    return [
      kubelet(certificate),
      row("containers", "containers", { warning: `${running.message}; ${running.hint}` }),
    ];
  if (running.length === 0) return [atOnce(kubelet(`no container runs; ${certificate}`))];
  const controlPlane = running.filter(isServerContainer);
  const counts = `${controlPlane.length} control-plane and ${running.length - controlPlane.length} other containers running`;
  return [kubelet(`${counts}; ${certificate}`)];
}

const HELD = "stopped, as part 0 says: part 1 starts it";
const ENDS = ["activating", "failed"];
const LOG = "journalctl -u kubelet -n 50";

/** After a reboot nothing is left that could run on. */
function atOnce(kubelet: Check): Check {
  return hasFailed(kubelet) ? { ...kubelet, severity: "outage", works: "nothing on this node" } : kubelet;
}

/**
 * What of part 0 is still to be typed on this node. Where the runtime cannot be asked, a controller-manager
 * may run.
 */
export async function holdHere(running: Container[] | Fail): Promise<Todo[]> {
  const pods = knownHere(running instanceof Fail ? [] : running);
  const managers = holders(pods).own.filter(({ name }) => name === MANAGER).length;
  const paused = stoppedProcesses(pods).filter(({ isManager }) => isManager).length;
  const isListed =
    running instanceof Fail || running.some((one) => isServerContainer(one) && one.name === MANAGER);
  const [stop, pause] = HOLD as [Todo, Todo];
  return [
    ...((await kubeletStopped()) ? [] : [stop]),
    ...(managers > paused || (isListed && paused === 0) ? [pause] : []),
  ];
}

const MANAGER = "kube-controller-manager";

function clientCertificate(node: Node): string {
  const pem = clientText(node.kubelet);
  if (!pem) return "no client certificate";
  const info = attempt(() => certInfo(pem));
  if (info instanceof Fail) return "a client certificate that cannot be read";
  return `client certificate ${info.notAfter < new Date() ? "expired on" : "until"} ${day(info.notAfter)}`;
}

/** Judged by the CA that this kubelet trusts: the best that is possible without etcd's data. */
export function clientPemRow({ kubelet }: Node): Check {
  const [what, detail, ca] = [
    kubelet.clientPem,
    "the kubelet's client certificate",
    attempt(() => readText(kubelet.clientCaFile)),
  ];
  const id = "kubelet-client-certificate";
  const read = () => clientText(kubelet);
  if (ca === undefined && attempt(read))
    return row(id, what, { warning: `${detail}; no CA is here to check it with` });
  const state = stateOfPem(read, ca instanceof Fail ? undefined : ca);
  return row(id, what, state ? { state, failed: detail } : detail);
}

/** What the kubelet trusts and uses, where it is wrong. Without a CA here it cannot be judged. */
export function kubeletTrustRows(node: Node, { facts }: PartialFacts): Check[] {
  const ca = facts && attempt(() => caText(certRow("ca"), facts.certificatesDir));
  if (!ca || ca instanceof Fail || attempt(() => certInfo(ca)) instanceof Fail) return [];
  const { kubeconfig, clientPem, serverPem, serverTlsBootstrap } = node.kubelet;
  const bad = (id: CheckId, what: string, state: string | undefined, failed: string) =>
    state ? [row(id, what, { state, failed })] : [];
  // where there is no serving certificate, the kubelet waits for an approval that not every cluster needs
  const serving =
    serverTlsBootstrap && exists(serverPem) ? stateOfPem(() => readText(serverPem), ca) : undefined;
  return [
    ...bad(
      "kubelet-conf",
      kubeconfig.replace("/etc/kubernetes/", ""),
      configState(kubeconfig, ca),
      "part 1 writes a new one",
    ),
    ...bad(
      "kubelet-client-certificate",
      clientPem,
      stateOfPem(() => clientText(node.kubelet), ca, node.name),
      CLIENT,
    ),
    ...bad("kubelet-serving-certificate", serverPem, serving, SERVING),
  ];
}

function configState(kubeconfig: string, ca: string): string | undefined {
  const config = attempt(() => readKubeconfig(kubeconfig));
  if (config instanceof Fail) return "unreadable";
  if (!config) return "missing";
  return trustsCa(config.caPem, ca) ? undefined : "other CA";
}

const CLIENT = "the kubelet's client certificate; part 1 issues a new one";
const SERVING = "the kubelet's serving certificate; the kubelet asks for a new one, part 3 approves it";

/** Kubeconfigs of the network plugin with the old CA: no part that issues certificates mends them. */
export async function cniRows({ kubelet }: Node): Promise<Check[]> {
  const ca = attempt(() => readText(kubelet.clientCaFile));
  if (!ca || ca instanceof Fail) return [];
  const rows: Check[] = [];
  for (const what of cniKubeconfigs())
    if (await trustsOldCa(what, ca))
      rows.push(row("cni-kubeconfig", what, { state: "old CA", failed: NO_NEW_POD }));
  return rows;
}

const NO_NEW_POD =
  "no new pod starts on this node, and none stops, until the network plugin's agent here has restarted";

/** Of a CA that was renewed: files and processes of this node that still have the certificate from before. */
export function heldRows(readers: readonly CaReader[]): Check[] {
  const rows = readerRows(readers).map(({ look, ...asked }) => found(asked, look() as Answer));
  return rows
    .filter(({ result }) => result !== "ok")
    .map((one) => ({ ...one, detail: `${one.detail}: ${one.mend}` }));
}
