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
import { attempt, Fail } from "../fail.ts";
import { refuseFixed } from "../files/file-system.ts";
import { exists, writeFile } from "../files/files.ts";
import { manifestPath, whereIs } from "../manifests/on-disk.ts";
import { controlPlaneContainers, isServerContainer } from "../node/containers.ts";
import { hasOwnClient, stateOfConf } from "../node/kubelet-conf.ts";
import { kubeletStopped } from "../node/node.ts";
import { countOfKeys } from "../pki/actions.ts";
import { endpointUrl } from "../pki/addresses.ts";
import { certPath, certRow } from "../pki/certs.ts";
import { caText } from "../pki/examine.ts";
import { makeKeysAhead } from "../pki/keys.ts";
import { servedPem } from "../pki/served.ts";
import { say } from "../run.ts";
import { inTime } from "../wait-for.ts";
import { type Coming, preflight, refuseWhereNothingFits } from "./preflight.ts";
import { areReadByServers, toRestart } from "./restarts.ts";
import { SERVERS, wantedManifests } from "./wanted-manifests.ts";
import { issuedPaths, mustIssue, runningHere, toWrite, type Work } from "./work.ts";

interface BeforeEtcd {
  /** How many of etcd's members have to run; how many others do. */
  others: { words: string; running: number; isEnough: boolean };
  imagesLater: boolean | undefined;
  /** etcd is a unit of this node, and is stopped, too. */
  unitRestarts?: boolean;
}

/** Part 1. Errors: as `preflight` and `refuseWhereNothingFits`. */
export async function beforeEtcdStops(
  cp: ControlPlaneNode,
  work: Work,
  { others, imagesLater, unitRestarts }: BeforeEtcd,
) {
  await refuseWhereNothingFits(cp);
  refuseFixedAtEtcd(cp, work);
  const lacks = attempt(() => wantedManifests(cp));
  if (lacks instanceof Fail)
    say(`warning: ${lacks.message}, and part 2 stops there. Before it: ${lacks.hint}`);
  // they are made while programs stop and folders are copied
  makeKeysAhead(cp.facts.keyAlgorithm, countOfKeys(work.pki));
  const has = await preflight({ ...comingHere(cp, work), imagesLater });
  const running = (await controlPlaneContainers(cp.node.runtimeEndpoint)).map(({ name }) => name);
  const kubelet = (await kubeletStopped()) ? [] : ["kubelet"];
  const stops = [...kubelet, ...new Set(running), ...(unitRestarts ? ["etcd.service"] : [])];
  const stopped = `${stops.join(", ") || "nothing: no server of the control plane runs"}; ${whoseApi(others, running)}`;
  sayScreen(cp, {
    stops:
      cp.facts.externalEtcd && !unitRestarts
        ? "nothing: kubeadm did not make this etcd, and it runs on"
        : stopped,
    writes: { ...work, pods: work.pods.filter(({ name }) => name === "etcd") },
    has: ["room on the disk", ...has],
  });
}

/** Errors: as `refuseFixed`, for the files that part 1 writes. */
export function refuseFixedAtEtcd(cp: ControlPlaneNode, work: Work) {
  // servers without certificates wait aside; a kubelet that restarts gets its controller-manager reduced
  refuseFixedWork(cp, work, mustIssue(cp) ? SERVERS : [MANAGER]);
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
  work: Work,
  { "images-later": imagesLater, isFull }: { "images-later"?: boolean | undefined; isFull: boolean },
) {
  const writes = toWrite(work);
  const issued = issuedPaths(work);
  // asked again: it may have taken minutes until etcd answered, and containers end and start meanwhile
  const running = await runningHere(cp);
  const { stale } = await toRestart(cp, { running, issued });
  const stops = [...new Set(stale.map(({ name }) => name))];
  if (writes.pki.length + writes.pods.length + stops.length === 0 && !isFull) return;
  // a kubelet that starts again reads what is written, and its controller-manager ends before
  const restarts = areReadByServers(cp, issued) || writes.pods.length > 0;
  refuseFixedWork(cp, work, restarts ? [MANAGER] : []);
  const ends = restarts && !stops.includes(MANAGER);
  if (ends && running.some((one) => isServerContainer(one) && one.name === MANAGER))
    stops.push(`${MANAGER} (with the kubelet, and reduced)`);
  const has = await preflight({ ...comingHere(cp, work), part: 2, imagesLater, isFull });
  const api = stops.includes("kube-apiserver")
    ? "; they start again at once, and this node's API is unavailable until then"
    : "";
  sayScreen(cp, { stops: `${stops.join(", ") || "nothing"}${api}`, writes, has });
}

/**
 * `also`: more static pods whose manifest changes. Errors: as `refuseFixed`.
 */
function refuseFixedWork(cp: ControlPlaneNode, work: Work, also: readonly string[]) {
  const { pki, pods } = toWrite(work);
  const { kubeconfig, clientCaFile, clientPem } = cp.node.kubelet;
  const kubelets = keepsKubelet(cp) ? [] : [kubeconfig, clientCaFile, clientPem];
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
export function comingHere(cp: ControlPlaneNode, work: Work): Coming {
  const pods = work.pods.map(({ name, next }) => ({ name, manifest: next }));
  return { cp, part: 1, pods, imagesLater: undefined, isFull: cp.data.isFull };
}

const MANAGER = "kube-controller-manager";

interface Screen {
  stops: string;
  writes: Work;
  has: readonly string[];
}

function sayScreen(cp: ControlPlaneNode, { stops, writes, has }: Screen) {
  say(`will stop: ${stops}`);
  const kubelets = keepsKubelet(cp) ? [] : ["the kubelet's certificate"];
  say(`will write: ${[...inWords(toWrite(writes)), ...kubelets].join("; ") || "nothing"}`);
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

/** "new keys ca, sa", "etcd/server.crt and .key", "4 kubeconfigs", "manifests/etcd.yaml". */
function inWords({ pki, pods }: Work): string[] {
  const made = pki.filter(({ todo }) => todo === "make").map(({ finding }) => finding.name);
  const [certs, configs, others] = [[], [], []] as [string[], string[], string[]];
  for (const { todo, row } of pki) {
    if (todo === "make") continue;
    if (!row) others.push("sa.pub");
    else if ("path" in row) configs.push(row.path.replace("/etc/kubernetes/", ""));
    else certs.push(`${row.file}.crt and .key`);
  }
  const manifests = pods.map(({ name }) => `manifests/${name}.yaml`);
  const few = (names: string[], kind: string) => (names.length > 2 ? [`${names.length} ${kind}`] : names);
  const kinds = made.length > 0 ? [`new keys ${made.join(", ")}`] : [];
  kinds.push(...few(certs, "certificates"), ...few(configs, "kubeconfigs"), ...others);
  kinds.push(...few(manifests, "manifests"));
  return kinds;
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
