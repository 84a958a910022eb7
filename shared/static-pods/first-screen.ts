/**
 * The screen before the first stop of parts 1 and 2: what will be stopped and written, whose API is away,
 * what was checked, and which sources know this cluster's CA. A dry run shows the same.
 *
 * And what ends with a living API server whose certificate's file is gone: what it shows is the only place
 * that still knows names by hand. It is kept in the rescue folder before the server ends.
 */
import { caIsNew, clusterCaSeen } from "../facts/ca-copies.ts";
import { certificatesBefore, namesByHand, servedCertificateCopy } from "../facts/names-before.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { attempt, Fail } from "../fail.ts";
import { refuseFixed } from "../files/file-system.ts";
import { exists, writeFile } from "../files/files.ts";
import { type Foretold, foretell } from "../files/foretell.ts";
import { manifestPath, whereIs } from "../manifests/on-disk.ts";
import { managerIsReduced } from "../manifests/repair-changes.ts";
import { controlPlaneContainers } from "../node/containers.ts";
import { hasOwnClient, stateOfConf } from "../node/kubelet-conf.ts";
import { countOfKeys, keysToMake, type PkiAction } from "../pki/actions.ts";
import { endpointUrl } from "../pki/addresses.ts";
import { certPath, certRow } from "../pki/certs.ts";
import { caText } from "../pki/examine.ts";
import { makeKeysAhead } from "../pki/keys.ts";
import { servedPem } from "../pki/served.ts";
import { mode, say } from "../run.ts";
import { inTime } from "../wait-for.ts";
import { changedOnNode, sayFilesNamed } from "./files-named.ts";
import { firstServedCertificate } from "./first-questions.ts";
import { type Coming, preflight, refuseWhereNothingFits } from "./preflight.ts";
import { SERVERS, wantedManifests } from "./wanted-manifests.ts";
import { mustIssue, toWrite, type Work } from "./work.ts";

interface BeforeEtcd {
  /** How many of etcd's members have to run; how many others do. */
  others: { words: string; running: number; isEnough: boolean };
  imagesLater: boolean | undefined;
  /** etcd is a unit of this node, and is stopped, too. */
  unitRestarts?: boolean;
  /** Nothing is stopped. */
  healthy: boolean;
  /** The steps of the part that change this node. */
  steps: () => Promise<unknown>;
}

/**
 * Part 1; says nothing if nothing is to be done. Errors: as `preflight` and `refuseWhereNothingFits`, and what would stop
 * the steps.
 */
export async function beforeEtcdStops(cp: ControlPlaneNode, work: Work, coming: BeforeEtcd) {
  if (coming.healthy) return await beforeLittleWork(cp, work, coming);
  const { others, imagesLater, unitRestarts, steps } = coming;
  await refuseWhereNothingFits(cp);
  refuseFixedAtEtcd(cp, work);
  const lacks = attempt(() => wantedManifests(cp));
  if (lacks instanceof Fail)
    say(`warning: ${lacks.message}, and part 2 stops there. Before it: ${lacks.hint}`);
  // they are made while programs stop and folders are copied
  makeKeysAhead(cp.facts.keyAlgorithm, countOfKeys(work.pki));
  const has = await preflight({ ...podsToRun(cp, work), imagesLater });
  const changes = await changesOf(cp, steps);
  const { files, stops } = changes;
  const runsOn = cp.facts.externalEtcd !== undefined && !unitRestarts;
  sayScreen(cp, {
    keys: work.pki,
    stops: runsOn ? stopsBesideEtcd(changes) : stopsWithEtcd(stops, others),
    files,
    has: ["room on the disk", ...has],
  });
}

function stopsBesideEtcd({ stops, isReduced }: Changes): string {
  const begin = stops.length > 0 ? `${stops.map(withReduced(isReduced)).join(", ")};` : "nothing:";
  return `${begin} kubeadm did not make this etcd, and it runs on`;
}

function stopsWithEtcd(stops: readonly string[], others: BeforeEtcd["others"]): string {
  const names = stops.join(", ") || "nothing: no server of the control plane runs";
  return `${names}; ${whoseApi(others, stops)}`;
}

/** etcd runs on: files are written all the same, where a shared key or a client's certificate is lost. */
async function beforeLittleWork(cp: ControlPlaneNode, { pki }: Work, { steps }: BeforeEtcd) {
  const changes = await changesOf(cp, steps);
  const { files, stops } = changes;
  if (files.length + stops.length === 0) return;
  if (stops.length > 0) say(`will stop: ${stopsOfServers(changes)}`);
  sayNewKeys(pki);
  sayFilesNamed(files, cp.rescue);
}

function sayNewKeys(actions: readonly PkiAction[]) {
  const names = keysToMake(actions).map(({ name }) => name);
  if (names.length > 0) say(`will make new keys: ${names.join(", ")}`);
}

interface Changes extends Foretold {
  /** The controller-manager is so afterwards. */
  isReduced: boolean;
}

/** All that the steps end and change, but for files of the rescue folder. Errors: those of the steps; as `refuseFixed`. */
async function changesOf(cp: ControlPlaneNode, steps: () => Promise<unknown>): Promise<Changes> {
  const {
    files: all,
    stops,
    value,
  } = await foretell(async () => {
    await steps();
    return managerIsReduced(cp);
  });
  const files = changedOnNode(all, cp.rescue);
  refuseFixed(files.map(({ path }) => path).filter(exists));
  return { files, stops, isReduced: value };
}

function whoseApi({ words, running, isEnough }: BeforeEtcd["others"], stops: readonly string[]): string {
  const is = stops.includes("kube-apiserver") ? "is" : "stays";
  if (words.startsWith("1 of")) return `the API of the whole cluster ${is} unavailable until part 2`;
  if (isEnough) return `etcd keeps running with its ${running} other members, and so does their nodes' API`;
  return `the API of the whole cluster is unavailable: ${words} have to run, and ${running} other ${running === 1 ? "runs" : "run"}`;
}

interface BeforeServers extends Pick<BeforeEtcd, "steps"> {
  "images-later"?: boolean | undefined;
  /** The value that etcd reports. */
  isFull: boolean;
}

/**
 * Part 2; says nothing if nothing is to be done. Errors: as `preflight`, and what would stop the steps.
 */
export async function beforeServersStop(
  cp: ControlPlaneNode,
  work: Work,
  { "images-later": imagesLater, isFull, steps }: BeforeServers,
) {
  const changes = await changesOf(cp, steps);
  const { files, stops } = changes;
  const later = changes.isReduced ? STOPS_LATER : undefined;
  if (files.length + stops.length === 0 && !isFull) return later && say(later);
  const has = await preflight({ ...podsToRun(cp, work), part: 2, imagesLater, isFull });
  sayScreen(cp, { stops: stopsOfServers(changes), later, files, has });
}

/** Each of them starts again in the same step. */
function stopsOfServers({ stops, isReduced }: Changes): string {
  if (stops.length === 0) return "nothing";
  const api = stops.includes("kube-apiserver") ? ", and this node's API is unavailable until then" : "";
  const start = stops.length > 1 ? "they start" : "it starts";
  return `${stops.map(withReduced(isReduced)).join(", ")}; ${start} again at once${api}`;
}

/** Beside an etcd that runs on: until then it was in full. */
function withReduced(isReduced: boolean): (name: string) => string {
  return (name) => (isReduced && name === MANAGER ? `${name} (it starts reduced)` : name);
}

/** Errors: as `refuseFixed`, for the files that part 1 writes. */
export function refuseFixedAtEtcd(cp: ControlPlaneNode, work: Work) {
  const { pki, pods } = toWrite(work);
  const { kubeconfig, clientCaFile, clientPem } = cp.node.kubelet;
  const kubelets = keepsKubelet(cp) ? [] : [kubeconfig, clientCaFile, clientPem];
  // servers without certificates wait aside; a kubelet that restarts gets its controller-manager reduced
  const also = mustIssue(cp) ? SERVERS : [MANAGER];
  const all = [
    ...pki.flatMap(({ finding }) => finding.paths),
    ...[...pods.map(({ name }) => name), ...also].map((name) => whereIs(manifestPath(cp, name))),
    ...kubelets,
  ];
  refuseFixed(all.filter(exists));
}

/** One of its files that cannot be read is written, too. */
function keepsKubelet({ node, facts }: ControlPlaneNode): boolean {
  const isKept = () => {
    const ca = caText("ca", facts.certificatesDir);
    return ca !== undefined && stateOfConf(node, ca) === undefined && hasOwnClient(node, ca, facts);
  };
  return attempt(isKept, false);
}

/** Before part 1, the pods as they will run. */
export function podsToRun(cp: ControlPlaneNode, work: Work): Coming {
  const pods = work.pods.map(({ name, next }) => ({ name, manifest: next }));
  return { cp, part: 1, pods, imagesLater: undefined, isFull: cp.data.isFull };
}

const MANAGER = "kube-controller-manager";

/** At the end of part 2, which cannot know yet which nodes will answer. */
const STOPS_LATER = `will stop later: ${MANAGER} (it starts in full), when each node renews its Lease or is named as away`;

interface Screen {
  keys?: readonly PkiAction[];
  stops: string;
  later?: string | undefined;
  files: Foretold["files"];
  has: readonly string[];
}

function sayScreen(cp: ControlPlaneNode, { keys = [], stops, later, files, has }: Screen) {
  say(`will stop: ${stops}`);
  if (later) say(later);
  sayNewKeys(keys);
  sayFilesNamed(files, cp.rescue);
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

/** Only what the cluster's CA has signed counts, so whoever answers there decides nothing. */
export async function keepServedCertificate(cp: ControlPlaneNode) {
  const row = certRow("apiserver");
  const { facts, rescue } = cp;
  if (exists(certPath(row, facts.certificatesDir))) return;
  const shown = await shownHere(cp);
  if (shown === undefined) return say(NOT_SHOWN);
  const names = namesByHand(shown, row, cp);
  if (names.length === 0) return;
  const note = `the API server shows it; it is for ${names.join(", ")}, too, which kubeadm-config does not have`;
  writeFile(servedCertificateCopy(rescue, row, facts), shown[0]!, { mode: 0o600, folderMode: 0o700, note });
}

/**
 * The certificate that the API server here shows; none if none runs, or if a copy of its certificate has the names
 * already. One that runs may only be busy: undefined if it shows nothing in time.
 */
async function shownHere(cp: ControlPlaneNode): Promise<string[] | undefined> {
  const { advertiseAddress: host, bindPort } = cp.facts;
  const look = async () => {
    const [shown] = await Promise.allSettled([
      mode.dryRun ? firstServedCertificate(cp) : servedPem(host, bindPort),
    ]);
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
