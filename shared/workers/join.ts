/**
 * A worker changes its trust: it gets the new CA and a bootstrap kubeconfig, and the kubelet does the rest
 * (TLS bootstrapping). Unlike `kubeadm join`, this does not touch the kubelet's configuration. If it fails,
 * the old files come back.
 */
import { command, type LeftOut, leftNames } from "../again.ts";
import { ApiError } from "../api/api-error.ts";
import { KubeApi } from "../api/kube-api.ts";
import { waitForRenewal } from "../api/leases.ts";
import {
  controlPlaneTraces,
  isClusters,
  readEtcdUnit,
  tracesOf,
  USUAL_DATA,
} from "../etcd-location/etcd-unit.ts";
import { apiAccepts } from "../facts/api-accepts.ts";
import { attempt, Fail, failOf, Refused } from "../fail.ts";
import { moveToRescue } from "../files/file-tree.ts";
import { exists, readText, writeTogether } from "../files/files.ts";
import { certificatesDirOn, lostPods } from "../manifests/on-disk.ts";
import { type Container, containersInTime, workloadContainers } from "../node/containers.ts";
import { dropClientPems, dropForeignServing, trusted, withOtherCas } from "../node/credentials.ts";
import { clientText } from "../node/kubelet-config.ts";
import { kubeletActive, type Node, readNode } from "../node/node.ts";
import { putKubeletsFilesBack, refuseUnfitKubelet, systemctlKubelet } from "../node/systemctl-kubelet.ts";
import {
  certInfo,
  certificatesIn,
  isValidNow,
  trustedKeys,
  trustedText,
  trustsCa,
} from "../pki/certificate.ts";
import { bootstrapKubeconfig, readKubeconfig } from "../pki/kubeconfigs.ts";
import { mode, say } from "../run.ts";
import { undisturbed } from "../this-run.ts";
import { inTime, waitFor } from "../wait-for.ts";
import {
  confBefore,
  leadAsBefore,
  passPointOfNoReturn,
  rollBack,
  type SavedTrust,
  serverBefore,
} from "./saved-trust.ts";
import { APPROVER_LOG, leaveFormer, tokenNotes } from "./token-file.ts";

/**
 * `etcdData`: as typed. `paste`: what `open` gave it; or that etcd's data here calls it a worker. Errors: as
 * `readNode`, `refuseControlPlane` and `refuseUnfitKubelet`.
 */
export async function readWorker(
  etcdData: string | undefined,
  by?: "repair",
  paste: { file: string; hashes: readonly string[] } | { isHosted?: true } = {},
): Promise<Node> {
  const node = await readNode();
  const notes = "file" in paste ? tokenNotes(paste.file) : undefined;
  const isWorker =
    "file" in paste
      ? notes?.owner === node.name || Boolean(await joinedCa(node, paste.hashes))
      : paste.isHosted === true;
  refuseControlPlane(node, { etcdData, all: await containersInTime(node), isWorker });
  await refuseUnfitKubelet({ node, by });
  for (const pod of lostPods(node, notes?.pods))
    say(
      `${pod}: a static pod that ran here, and its manifest is lost. The rescue folder on the node of open has it (workers/): open printed the line. With a balancer of this node's own back before this join, kubelet.conf leads to it`,
    );
  return node;
}

/**
 * A control plane node must not join by a bootstrap token: it would come back as a worker. This opens no data of
 * etcd's: a worker needs none of what reads that. `etcdData`: as typed, in the place of the usual folders. `all`: also
 * containers that have ended. `isWorker`: `open`, which knows the cluster, has made a token for this node, or it has
 * joined: then etcd that is no static pod may run beside it. Errors: Refused on a control plane node.
 */
export function refuseControlPlane(
  node: Node,
  {
    etcdData,
    all,
    isWorker = false,
  }: { etcdData: string | undefined; all: readonly Container[]; isWorker?: boolean },
) {
  const found = readEtcdUnit();
  const unit = found && isClusters(found) && tracesOf("etcd", node, all).length === 0 ? found : undefined;
  const usual = unit?.dataDir ? [unit.dataDir, ...USUAL_DATA] : USUAL_DATA;
  const data = (etcdData === undefined ? usual : [etcdData]).map((dir) => `${dir}/member`).filter(exists);
  // a unit without certificates and data has never run
  const units = unit && [...unit.files, ...data].some(exists) ? [unit.path] : [];
  const ofEtcd = isWorker && unit ? [] : [...units, ...data];
  const [trace] = [...controlPlaneTraces(node, all, certificatesDirOn(node)), ...ofEtcd];
  if (trace === undefined) return;
  const besides = ofEtcd.includes(trace)
    ? "A worker with etcd beside it joins with a token of its own: open without --one-token. "
    : "";
  throw new Refused(`This is a control plane node (${trace}): join is for workers`, {
    hint: `run part 2, which gives its kubelet a certificate: ./bunw scripts/02-control-plane.ts. ${besides}See what is to be done here: ./bunw scripts/00-assess.ts`,
  });
}

/** Errors: Refused if `open` leaves this node out: nobody approves its certificate. */
export function refuseLeftOut({ name }: Pick<Node, "name">, out: LeftOut) {
  if (!leftNames(out).includes(name)) return;
  const others = (names: readonly string[]) => names.filter((other) => other !== name);
  throw new Refused(`"${name}" is this node, but the line says that it is away or lost`, {
    unchanged: true,
    hint: `type on the first control plane node: ${command("03-workers open", { without: others(out.without), lost: others(out.lost) })}; then the line that it prints`,
  });
}

/**
 * The CA with these fingerprints, if everything that the kubelet trusts and uses is of it, and it runs: one whose
 * client CA is lost cannot start.
 */
export async function joinedCa(node: Node, hashes: readonly string[]): Promise<string | undefined> {
  const { kubelet } = node;
  const trusts = [() => readText(kubelet.clientCaFile), () => readKubeconfig(kubelet.kubeconfig)?.caPem];
  const cas = trusts.map((read) => attempt(() => caWith(hashes, read() ?? "")));
  const [ca] = cas.filter((pem) => typeof pem === "string");
  const isAll = cas.every((pem) => typeof pem === "string");
  const isOf = () => cas.every((pem) => trustedText(clientText(kubelet), pem as string));
  return isAll && (isOf() || (await apiAccepts(node))) && (await kubeletActive()) ? ca : undefined;
}

/**
 * The certificates of a text with these fingerprints; undefined if one of them is missing. An expired one does not
 * count: the kubelet trusts no server by it, though its own certificate may be of the renewed CA.
 */
function caWith(hashes: readonly string[], text: string): string | undefined {
  const infos = certificatesIn(text).map((pem) => certInfo(pem));
  const all = infos.flatMap((one) => (hashes.includes(one.publicKeyHash) && isValidNow(one) ? one.pem : []));
  return hashes.every((hash) => trustedKeys(all.join("")).has(hash)) ? all.join("") : undefined;
}

interface NewTrust {
  server: string;
  /** It, and the others that a run before may have taken. */
  any: readonly string[];
  ca: string;
  token: string;
}

/**
 * Writes the new trust and lets the kubelet bootstrap with it. The files that need room come first: a full
 * disk changes nothing. A kubelet that asks with it already is left alone: its key is in its memory, and `approve`
 * gives it no second certificate.
 */
export async function swapTrust(node: Node, trust: NewTrust, saved: SavedTrust) {
  const { kubelet } = node;
  if (await asksAlready(node, trust)) say("unchanged kubelet: it asks with this trust already");
  else {
    const aside = `${saved.dir}/aside`;
    await putKubeletsFilesBack();
    await systemctlKubelet("stop", " (containers keep running)");
    const [content, note] = [bootstrapKubeconfig(trust), "used once, removed below"];
    writeTogether([
      { path: kubelet.bootstrapKubeconfig, content, mode: 0o600, note },
      { path: kubelet.clientCaFile, content: withOtherCas(node, trust.ca), mode: 0o644 },
    ]);
    dropOldCredentials(node, trust.ca, aside);
    dropForeignServing(node, trust.ca, aside);
    await systemctlKubelet("start");
  }
  passPointOfNoReturn();
}

async function asksAlready({ kubelet }: Node, trust: NewTrust): Promise<boolean> {
  const { bootstrapKubeconfig: path, clientCaFile, clientPem, kubeconfig } = kubelet;
  const isOurs = (server: string) =>
    attempt(() => readText(path)) === bootstrapKubeconfig({ ...trust, server });
  return (
    trust.any.some(isOurs) &&
    holds(() => readText(clientCaFile), trust.ca) &&
    (!exists(clientPem) || trusted(clientPem, trust.ca)) &&
    // the kubelet writes it before it has its certificate
    (!exists(kubeconfig) || holds(() => readKubeconfig(kubeconfig)?.caPem, trust.ca)) &&
    (await kubeletActive())
  );
}

function holds(read: () => string | undefined, ca: string): boolean {
  return attempt(() => trustsCa(read(), ca)) === true;
}

/**
 * Before the kubelet stops. Errors: as `refuseUnfitKubelet`, if the kubelet has to ask for a certificate; Fail where
 * the API server does not take its bootstrap token.
 */
export async function refuseCannotAsk(node: Node, trust: Pick<NewTrust, "ca" | "server" | "token">) {
  if (exists(node.kubelet.kubeconfig) && keepsConf(node, trust.ca)) return;
  await refuseUnfitKubelet({ node, by: "join" });
  if (!trusted(node.kubelet.clientPem, trust.ca)) await refuseEndedToken(node, trust);
}

/**
 * 401 alone says that nobody has this token; what its holder may do, `open` has decided. An API server behind a
 * balancer may hear of a new token some seconds later than the one that made it.
 */
async function refuseEndedToken(node: Node, { server, ...by }: Pick<NewTrust, "ca" | "server" | "token">) {
  const isKnown = async () => {
    const answer = await failOf(() => new KubeApi({ server, ...by }).get("/version"));
    return !(answer instanceof ApiError && answer.status === 401);
  };
  const hint = `type on the first control plane node: ./bunw scripts/03-workers.ts open. Then copy the new token of ${node.name} here, and run the same line again`;
  if (await inTime("the API server to know this worker's bootstrap token", isKnown, { seconds: 10, hint }))
    return;
  throw new Fail(
    `"${server}" does not take this worker's bootstrap token: it has expired, or open ran again`,
    {
      hint,
      unchanged: true,
    },
  );
}

function keepsConf({ kubelet: { kubeconfig, clientPem } }: Node, ca: string): boolean {
  return trusted(clientPem, ca) && holds(() => readKubeconfig(kubeconfig)?.caPem, ca);
}

/** A certificate of the new CA stays: `approve` would give this node no second one. */
function dropOldCredentials(node: Node, ca: string, aside: string) {
  const { kubeconfig, clientPem } = node.kubelet;
  const hasCertificate = trusted(clientPem, ca);
  const fault = exists(clientPem) ? "is not of the current CA, or has expired" : "was missing";
  const why = hasCertificate
    ? "it trusted another CA"
    : `the client certificate of this kubelet, ${clientPem}, ${fault}`;
  if (exists(kubeconfig) && !keepsConf(node, ca)) moveToRescue(kubeconfig, aside, why);
  if (!hasCertificate) dropClientPems(node, aside);
}

export async function proveKubelet(
  node: Node,
  { ca, saved, given }: { ca: string; saved: SavedTrust; given: string },
) {
  const { kubelet } = node;
  const before = { before: confBefore(node), own: serverBefore(node, given) ?? given };
  const since = new Date();
  await orRollBack(node, { ca, saved });
  if (mode.dryRun) return;
  say(`${kubelet.clientPem}: ${certInfo(readText(kubelet.clientPem)!).subject}`);
  const self = KubeApi.from(readKubeconfig(kubelet.kubeconfig)!);
  const hint =
    "journalctl -u kubelet -n 50. The kubelet's certificate stays, and nothing is rolled back. When the cause is repaired, run the same line again: it only waits for the Lease";
  await waitForRenewal(self, node.name, since, { seconds: 60, hint });
  say(`${node.name}: renewed its Lease with the new certificate`);
  await leaveFormer(node, self, saved.dir);
  await leadAsBefore(node, { ...before, ca });
  if (!saved.containers?.length) return;
  const running = new Set((await workloadContainers(node.runtimeEndpoint)).map((container) => container.id));
  const ended = saved.containers.filter((id) => !running.has(id));
  say(
    ended.length === 0
      ? `all ${saved.containers.length} containers still run`
      : `warning: ${ended.length} containers have exited since: ${ended.map((id) => id.slice(0, 13))}`,
  );
}

/**
 * Waits for the certificate. If it does not come, the old files come back; a signal leaves the kubelet as it is.
 * Errors: Fail that names `open`: the key that asked is gone, and nobody knows whether it was given its certificate.
 */
async function orRollBack(node: Node, { ca, saved }: { ca: string; saved: SavedTrust }) {
  const { clientPem, kubeconfig } = node.kubelet;
  const hasIt = async () => exists(kubeconfig) && (trusted(clientPem, ca) || (await apiAccepts(node)));
  const hint = `journalctl -u kubelet -n 50. On the first control plane node, ${APPROVER_LOG} shows what the approver refused, and why. There, kubectl get csr shows the request, and crictl ps shows whether a controller-manager runs: it has to`;
  try {
    await waitFor("the kubelet to get its certificate", hasIt, { seconds: 120, hint });
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    if (!(await undisturbed(() => rollBack(saved, hasIt)))) return;
    const again =
      "Each token is good for one request, and this node may have made that request. Run ./bunw scripts/03-workers.ts open on that control plane node, which starts the approver again, too. Then run here the line that open prints, with the new token file";
    throw new Fail(err.message, { hint: `${hint}. The old files are back. ${again}`, cause: err });
  }
}
