/**
 * The screen before the first stop of parts 1 and 2: what will be stopped and written, whose API is away,
 * what was checked, and which sources know this cluster's CA. A dry run shows the same.
 *
 * And what ends with a living API server whose certificate's file is gone: what it shows is the only place
 * that still knows names by hand. It is kept in the rescue folder before the server ends.
 */

import { caIsNew, clusterCaSeen } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { certificatesBefore, namesByHand, shownCopy } from "../facts/names-before.ts";
import { attempt } from "../fail.ts";
import { exists, writeFile } from "../files/files.ts";
import { refuseMounted } from "../files/mounts.ts";
import { refuseUnwritable } from "../files/room.ts";
import { manifestPath, whereIs } from "../manifests/on-disk.ts";
import { controlPlaneContainers, isServerContainer } from "../node/containers.ts";
import { hasOwnClient, kubeletStopped } from "../node/node.ts";
import { actionForSigned, countOfKeys, type PkiAction } from "../pki/actions.ts";
import { endpointUrl } from "../pki/addresses.ts";
import { CERTS, certPath, certRow, isEtcds } from "../pki/certs.ts";
import { caText, pkiFindings } from "../pki/examine.ts";
import { makeKeysAhead } from "../pki/keys.ts";
import { readKubeconfig } from "../pki/kubeconfigs.ts";
import { servedPem } from "../pki/served.ts";
import { trustsCa } from "../pki/trusted-keys.ts";
import { say } from "../run.ts";
import { inTime } from "../wait-for.ts";
import { issuedPaths, mustIssue, runningHere, type ServersWork } from "./issue-and-start.ts";
import { onDisk } from "./manifest-trouble.ts";
import { type Coming, preflight, refuseWhereNothingFits } from "./preflight.ts";
import { areReadByServers, toRestart } from "./restarts.ts";
import { SERVERS, type WantedManifest, wantedManifests } from "./wanted-manifests.ts";

interface BeforeEtcd {
  /** Actions for the shared keys. */
  actions: readonly PkiAction[];
  /** How many of etcd's members have to run, in words; how many others run; whether they are enough. */
  others: { words: string; running: number; isEnough: boolean };
  imagesLater: boolean | undefined;
}

/** Part 1. Errors: as `preflight` and `refuseWhereNothingFits`. */
export async function beforeEtcdStops(cp: ControlPlaneNode, { actions, others, imagesLater }: BeforeEtcd) {
  await refuseWhereNothingFits(cp);
  const { leaves, toRun, toWrite } = refuseFixedAtEtcd(cp, actions);
  // they are made while programs stop and folders are copied
  makeKeysAhead(cp.facts.keyAlgorithm, countOfKeys([...actions, ...leaves]));
  const has = await preflight({ ...comingHere(cp, toRun), imagesLater });
  const running = (await controlPlaneContainers(cp.node.runtimeEndpoint)).map(({ name }) => name);
  const stops = [...((await kubeletStopped()) ? [] : ["kubelet"]), ...new Set(running)];
  sayScreen(cp, {
    stops: `${stops.join(", ") || "nothing: no server of the control plane runs"}; ${whoseApi(others, running)}`,
    writes: [...actions, ...leaves],
    pods: toWrite.filter(({ name }) => name === "etcd"),
    has: ["room on the disk", ...has],
  });
}

/** `actions`: those of the shared keys. Errors: as `refuseFixed`, for what part 1 writes. */
export function refuseFixedAtEtcd(cp: ControlPlaneNode, actions: readonly PkiAction[]) {
  const ca = actions.find(({ row }) => row?.name === "etcd-ca")?.todo;
  const leaves = pkiFindings({ certs: CERTS.filter(isEtcds) }, cp.facts).map((finding) =>
    actionForSigned(finding, ca),
  );
  const { toRun, toWrite } = lookOnDisk(allPods(cp), cp);
  // servers without certificates wait aside; a kubelet that restarts gets its controller-manager reduced
  const held = mustIssue(cp) ? SERVERS : [MANAGER];
  refuseFixed(cp, [...actions, ...leaves].filter(isWritten), [...toWrite.map(nameOf), ...held]);
  return { leaves, toRun, toWrite };
}

function whoseApi({ words, running, isEnough }: BeforeEtcd["others"], here: readonly string[]): string {
  const is = here.includes("kube-apiserver") ? "is" : "stays";
  if (words.startsWith("1 of")) return `the API of the whole cluster ${is} unavailable until part 2`;
  if (isEnough) return `etcd keeps running with its ${running} other members, and so does their nodes' API`;
  return `the API of the whole cluster is unavailable: ${words} have to run, and ${running} other ${running === 1 ? "runs" : "run"}`;
}

/**
 * Part 2; says nothing if nothing is to be done. `isFull`: as etcd says. Errors: as `preflight`.
 */
export async function beforeServersStop(
  cp: ControlPlaneNode,
  { actions, wanted }: ServersWork,
  { "images-later": imagesLater, isFull }: { "images-later"?: boolean | undefined; isFull: boolean },
) {
  const writes = actions.filter(isWritten);
  const { toRun, toWrite } = lookOnDisk(wanted, cp);
  const issued = issuedPaths(actions);
  // asked again: it may have taken minutes until etcd answered, and containers end and start meanwhile
  const running = await runningHere(cp);
  const { stale } = await toRestart(cp, { running, issued });
  const stops = [...new Set(stale.map(({ name }) => name))];
  if (writes.length + toWrite.length + stops.length === 0 && !isFull) return;
  // a kubelet that starts again reads what is written, and its controller-manager ends before
  const restarts = areReadByServers(cp, issued) || toWrite.length > 0;
  refuseFixed(cp, writes, [...toWrite.map(nameOf), ...(restarts ? [MANAGER] : [])]);
  const ends = restarts && !stops.includes(MANAGER);
  if (ends && running.some((one) => isServerContainer(one) && one.name === MANAGER))
    stops.push(`${MANAGER} (with the kubelet, and reduced)`);
  const has = await preflight({ cp, part: 2, pods: toRun, imagesLater, isFull });
  const api = stops.includes("kube-apiserver")
    ? "; they start again at once, and this node's API is unavailable until then"
    : "";
  sayScreen(cp, { stops: `${stops.join(", ") || "nothing"}${api}`, writes, pods: toWrite, has });
}

const isWritten = ({ todo }: PkiAction) => todo !== "keep";
const nameOf = ({ name }: WantedManifest) => name;

/** `manifests`: names of static pods. Errors: as `refuseUnwritable`, where a file that will be replaced cannot be. */
function refuseFixed(cp: ControlPlaneNode, writes: readonly PkiAction[], manifests: readonly string[]) {
  const { kubeconfig, clientCaFile, clientPem } = cp.node.kubelet;
  const keepsKubelet = () => {
    const ca = caText(certRow("ca"), cp.facts.certificatesDir);
    const conf = readKubeconfig(kubeconfig);
    return Boolean(ca && conf && trustsCa(conf.caPem, ca) && hasOwnClient(cp.node, ca));
  };
  // one of its files that cannot be read is written, too
  const kubelets = attempt(keepsKubelet, false) ? [] : [kubeconfig, clientCaFile, clientPem];
  const all = [
    ...writes.flatMap(({ finding }) => finding.paths),
    ...manifests.map((name) => whereIs(manifestPath(cp, name))),
    ...kubelets,
  ];
  const files = all.filter(exists);
  refuseUnwritable(files);
  refuseMounted(files);
}

/** The pods as they will run, and those whose manifest on disk cannot stay. */
function lookOnDisk(pods: readonly WantedManifest[], cp: ControlPlaneNode) {
  const seen = pods.map((one) => ({ one, ...onDisk(one, cp) }));
  const toRun = seen.map(({ one, next }) => ({ name: one.name, manifest: next }));
  return { toRun, toWrite: seen.flatMap(({ one, trouble }) => (trouble ? [one] : [])) };
}

/** None if a mirror pod is gone, or cannot be read: the step that needs it says so. */
function allPods(cp: ControlPlaneNode): WantedManifest[] {
  return [["etcd"], undefined].flatMap((names) => attempt(() => wantedManifests(cp, names), []));
}

/** The input of `preflight` before part 1, for callers that only look. */
export function comingHere(cp: ControlPlaneNode, pods = lookOnDisk(allPods(cp), cp).toRun): Coming {
  return { cp, part: 1, pods, imagesLater: undefined, isFull: cp.data.isFull };
}

const MANAGER = "kube-controller-manager";

interface Screen {
  stops: string;
  writes: readonly PkiAction[];
  /** Pods whose manifest is written. */
  pods: readonly WantedManifest[];
  has: readonly string[];
}

function sayScreen(cp: ControlPlaneNode, { stops, writes, pods, has }: Screen) {
  say(`will stop: ${stops}`);
  say(`will write: ${inWords(writes, pods)}`);
  say(`checked: ${has.join(", ")}`);
  const { from, copies } = clusterCaSeen(cp.node, { ...cp, certificatesDir: cp.facts.certificatesDir });
  const agree = copies.filter((copy) => copy.is === "the cluster's").map(({ what }) => what);
  const not = copies.filter((copy) => copy.is !== "the cluster's" && copy.is !== "not compared");
  const others =
    not.length > 0 && !caIsNew(cp)
      ? `; not: ${not.map((copy) => `${copy.what} (${copy.is})`).join(", ")}`
      : "";
  say(`cluster CA known from: ${[from, ...agree].join(", ")}${others}`);
}

/** "new keys ca, sa; etcd/server.crt and .key; 4 kubeconfigs; manifests/etcd.yaml" */
function inWords(actions: readonly PkiAction[], pods: readonly WantedManifest[]): string {
  const made = actions.filter(({ todo }) => todo === "make").map(({ finding }) => finding.name);
  const [certs, configs, others] = [[], [], []] as [string[], string[], string[]];
  for (const { todo, row } of actions) {
    if (todo === "keep" || todo === "make") continue;
    if (!row) others.push("sa.pub");
    else if ("path" in row) configs.push(row.path.replace("/etc/kubernetes/", ""));
    else certs.push(`${row.file}.crt and .key`);
  }
  const manifests = pods.map(({ name }) => `manifests/${name}.yaml`);
  // two names at most, else their number
  const few = (names: string[], kind: string) => (names.length > 2 ? [`${names.length} ${kind}`] : names);
  const kinds = made.length > 0 ? [`new keys ${made.join(", ")}`] : [];
  kinds.push(...few(certs, "certificates"), ...few(configs, "kubeconfigs"), ...others);
  kinds.push(...few(manifests, "manifests"));
  return kinds.join("; ") || "nothing";
}

/** Only what the cluster's CA has signed counts, so whoever answers there decides nothing. */
export async function keepShown(cp: ControlPlaneNode) {
  const row = certRow("apiserver");
  const { facts, rescue } = cp;
  if (exists(certPath(row, facts.certificatesDir))) return;
  const shown = await shownHere(cp);
  if (shown === undefined) return say(NOT_SHOWN);
  const names = namesByHand(shown, row, cp);
  if (names.length === 0) return;
  const note = `the API server shows it; it is for ${names.join(", ")}, too, which kubeadm-config does not have`;
  writeFile(shownCopy(rescue, row, facts), shown[0]!, { mode: 0o600, folderMode: 0o700, note });
}

/**
 * The certificate that the API server here shows; none if none runs, or if a copy of its certificate has the names
 * already. One that runs may only be busy: undefined if it shows nothing in time.
 */
async function shownHere(cp: ControlPlaneNode): Promise<string[] | undefined> {
  const { advertiseAddress: host, bindPort } = cp.facts;
  const look = async () => {
    const [shown] = await Promise.allSettled([servedPem(host, bindPort)]);
    if (shown.status === "fulfilled") return [shown.value];
    // without the file none can begin to listen
    const nobody = (shown.reason as NodeJS.ErrnoException).code === "ECONNREFUSED";
    if (nobody || certificatesBefore(certRow("apiserver"), cp).length > 0) return [];
    const running = await controlPlaneContainers(cp.node.runtimeEndpoint);
    if (running.some(({ name }) => name === "kube-apiserver")) throw shown.reason;
    return [];
  };
  const hint = "crictl ps -a --name kube-apiserver; crictl logs ID";
  return await inTime(`${endpointUrl(host, bindPort)} to show its certificate`, look, { seconds: 15, hint });
}

const NOT_SHOWN =
  "warning: kube-apiserver runs here, and does not show its certificate: the new one has no names that somebody gave it by hand. If clients use such a name: into apiServer.certSANs of kubeadm-config with it, then move apiserver.crt away, and run part 2 once more";
