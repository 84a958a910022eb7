/**
 * The trust of a worker, and its own way to the API, are saved before a join changes anything, and come back if the
 * join fails.
 *
 * A worker's kubelet.conf may lead to a balancer of its own (a static pod at 127.0.0.1:8443, a name of its network),
 * not to the cluster's endpoint. A join changes its CA and its client certificate, and no more.
 */
import { dirname } from "node:path";
import { KubeApi } from "../api/kube-api.ts";
import { waitForRenewal } from "../api/leases.ts";
import { refuseOtherTime } from "../evidence/server-clock.ts";
import { attempt, attemptLater, Fail, failOf } from "../fail.ts";
import { refuseUnwritable } from "../files/file-system.ts";
import { copyTree, restoreTree } from "../files/file-tree.ts";
import { exists, type Mark, readMark, readText, removeFile, writeFile, writeMark } from "../files/files.ts";
import { contentPath } from "../files/root.ts";
import { balancerHost, podsOnDisk } from "../manifests/on-disk.ts";
import { workloadContainers } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { newRescue, rescueFolders } from "../node/rescue-folder.ts";
import { systemctlKubelet, unfitKubelet } from "../node/systemctl-kubelet.ts";
import { hostAndPort, refuseInClear } from "../pki/addresses.ts";
import { certInfo } from "../pki/certificate.ts";
import { kubeletKubeconfig, readKubeconfig, serverIn, withTrust } from "../pki/kubeconfigs.ts";
import { whoAnswers } from "../pki/served.ts";
import { mode, say, tell } from "../run.ts";
import { shell } from "../shell-line.ts";
import { noteUnfinished } from "../this-run.ts";
import { waitFor } from "../wait-for.ts";
import { dropTokenFile, type TokenFile } from "./token-file.ts";

export interface SavedTrust {
  dir: string;
  files: { path: string; existed: boolean }[];
  /** Ids of the running containers: they must still run afterwards. Undefined: nothing here shows them. */
  containers: string[] | undefined;
}

const JOINING = "join";

/** After this the kubelet does the rest, without this run, too. */
export function passPointOfNoReturn() {
  noteUnfinished(
    JOINING,
    "this worker's kubelet has the new trust and continues by itself: it asks for its certificate, and renews its Lease with it. The same command again waits for that; where no certificate comes, it puts the old files back",
  );
}

/** A marker file in the rescue folder of a join that has not ended: neither well, nor by a roll back. */
const UNFINISHED = "join-unfinished";

interface UnfinishedMark extends Mark {
  files: SavedTrust["files"];
}

/** Takes the copy of a join that was cut off, if there is one. */
export async function saveTrust(node: Node): Promise<SavedTrust> {
  const all = await attemptLater(() => workloadContainers(node.runtimeEndpoint));
  if (all instanceof Fail)
    say(`${all.message}: the join continues, but cannot prove at its end that all of them still run`);
  const containers = all instanceof Fail ? undefined : all.map(({ id }) => id);
  const before = unfinished(node);
  if (before) say(`${before.dir}: a join was cut off here; this one continues with what it saved`);
  const saved = before ?? copyTrust(node);
  if (containers?.length) say(`${containers.length} containers run here and keep running`);
  return { ...saved, containers };
}

export function wasCutOff(node: Node): boolean {
  return unfinished(node) !== undefined;
}

/** Includes a join that was interrupted; undefined if there was no join. */
export function confBefore(node: Node): string | undefined {
  const { kubeconfig } = node.kubelet;
  const cutOff = unfinished(node);
  const path = cutOff ? `${cutOff.dir}/before${kubeconfig}` : kubeconfig;
  return attempt(() => readText(path), undefined) || undefined;
}

type Copied = Pick<SavedTrust, "dir" | "files">;

/**
 * Saved by a join that was cut off. Its bootstrap kubeconfig is the first file that it writes and the last that a roll
 * back removes: without it, the files in place are not half of each.
 */
function unfinished({ kubelet }: Node): Copied | undefined {
  if (!exists(kubelet.bootstrapKubeconfig)) return undefined;
  for (const { dir } of rescueFolders()) {
    const mark = readMark<UnfinishedMark>(`${dir}/${UNFINISHED}`);
    if (mark) return { dir, files: mark.files };
  }
  return undefined;
}

function copyTrust({ kubelet }: Node): Copied {
  const { kubeconfig, bootstrapKubeconfig, clientCaFile, clientPem } = kubelet;
  const paths = [kubeconfig, clientCaFile, dirname(clientPem), bootstrapKubeconfig];
  const { dir } = newRescue();
  // a link and its target: the kubelet and the join replace the one or the other
  const places = [...new Set(paths.flatMap((path) => [path, contentPath(path)]))];
  const inPlace = [...places, clientPem].filter((path) => exists(path));
  refuseUnwritable([...[dir, ...places].map((path) => dirname(path)), dirname(clientPem), ...inPlace]);
  const files = places.map((path) => ({ path, existed: exists(path) }));
  for (const { path, existed } of files) if (existed) copyTree(path, `${dir}/before${path}`);
  const mark = { made: new Date().toISOString(), files };
  writeMark<UnfinishedMark>(`${dir}/${UNFINISHED}`, mark, "until this join is done");
  return { dir, files };
}

/** Works even if the run that reached this state was interrupted. */
export function endJoin({ kubelet }: Node, tokenFile: string) {
  noteUnfinished(JOINING, undefined);
  for (const { dir } of rescueFolders().filter(({ dir }) => exists(`${dir}/${UNFINISHED}`))) {
    if (exists(kubelet.bootstrapKubeconfig)) removeFile(kubelet.bootstrapKubeconfig);
    removeFile(`${dir}/${UNFINISHED}`);
  }
  dropTokenFile(tokenFile);
}

/**
 * `unless`: whether the kubelet has got its certificate until it was stopped; then it starts again, and nothing is put
 * back. Returns whether all is back. Errors: Fail if a file does not come back.
 */
export async function rollBack(
  saved: Copied,
  unless: () => boolean | Promise<boolean> = () => false,
): Promise<boolean> {
  if (mode.dryRun) return true;
  tell("", "== Roll back: this worker's old files come back");
  const troubles = [await failOf(() => systemctlKubelet("stop"))];
  if (await unless()) {
    say("the kubelet has its certificate now: nothing is put back");
    await systemctlKubelet("start");
    return false;
  }
  noteUnfinished(JOINING, undefined);
  for (const { path, existed } of saved.files)
    troubles.push(
      await failOf(() =>
        restoreTree(existed ? `${saved.dir}/before${path}` : undefined, path, `${saved.dir}/failed`),
      ),
    );
  // as before: without kubelet.conf it did not start either
  const unfit = await unfitKubelet();
  if (unfit) say(`unchanged kubelet, which is stopped. ${unfit.message}; ${unfit.hint}`);
  else troubles.push(await failOf(() => systemctlKubelet("start")));
  const [trouble] = troubles.filter((one) => one !== undefined);
  if (!trouble) {
    removeFile(`${saved.dir}/${UNFINISHED}`);
    return true;
  }
  throw new Fail(`Not all old files are back: ${trouble.message}`, {
    hint: `repair the cause (${trouble.hint}); then run the same line again, or bring the old files back by hand: ${shell`cp -a ${saved.dir}/before/. /`} ; systemctl start kubelet`,
    cause: trouble,
  });
}

/**
 * The server that this worker's kubelet.conf led to. Where that is lost: a balancer of its own, if a static pod is
 * here; a worker has no other server, and it counts only once it answers with the CA.
 */
export function serverBefore(node: Node, given: string): string | undefined {
  const own = serverIn(confBefore(node) ?? "");
  if (own !== undefined || podsOnDisk({ node }).size === 0) return own;
  return `https://${balancerHost()}:${hostAndPort(given).port}`;
}

/**
 * The server where this worker joins, the first that answers with the new CA: that of its old kubelet.conf, `given`, of
 * the line of `open`, and `at`, of its file. The first two may be a balancer of this worker's own: a static pod, which
 * does not run before the kubelet does, and a name that /etc/hosts leads there (KubeKey). `any`: all of them; a run that
 * was cut off may have joined at another one. Errors: as `proveServer`.
 */
export async function wayToApi(
  node: Node,
  given: string,
  { ca, at }: Pick<TokenFile, "ca" | "at">,
): Promise<{ server: string; any: readonly string[] }> {
  const own = serverBefore(node, given);
  const any = [...new Set([own, given, at].filter((server) => server !== undefined))];
  const answers = async (server: string) => (await whoAnswers(server, ca)) === "ours";
  const server = (await firstThat(any, answers)) ?? given;
  await proveServer(server, ca);
  const silent = any.slice(0, any.indexOf(server));
  if (silent.length > 0)
    say(`${silent.join(", ")}: does not answer with the new CA yet; this worker joins at ${server}`);
  else if (server === own && own !== given)
    say(
      `unchanged ${server}, this worker's own address of the API: only the CA and the client certificate change`,
    );
  return { server, any };
}

async function firstThat<T>(all: readonly T[], isSo: (one: T) => Promise<boolean>): Promise<T | undefined> {
  for (const one of all) if (await isSo(one)) return one;
  return undefined;
}

/**
 * The server has a certificate of this CA, and its key; it may refuse us. Errors: Fail if another server answers, or
 * none, or if its clock and ours differ.
 */
export async function proveServer(server: string, ca: string) {
  refuseInClear(server);
  await refuseOtherTime(server, ca);
  try {
    await new KubeApi({ server, ca }).reach("/version");
  } catch (cause) {
    throw new Fail(`Cannot reach "${server}" with that CA: ${(cause as Error).message}`, {
      hint: "check that the address is right and reachable from here (curl -k SERVER/version). If the certificate is of another CA: run part 2 on the control plane node that answers there",
      cause,
    });
  }
  say(`${server}: has a certificate of the CA ${certInfo(ca).publicKeyHash}`);
}

/**
 * Once the kubelet has its certificate: kubelet.conf leads to the server that it led to `before`, or to that of the
 * line of `open`, as soon as that answers with the new CA. If it does not, or the Lease is not renewed by it, kubelet.conf leads where the worker has
 * joined, and the screen says so.
 */
export async function leadAsBefore(
  node: Node,
  { before, own, ca }: { before: string | undefined; own: string; ca: string },
) {
  const { kubeconfig, clientPem } = node.kubelet;
  const joined = readText(kubeconfig);
  if (mode.dryRun || !joined || own === serverIn(joined)) return;
  const hint = `wait until the API answers at ${own}. Then write that address into ${kubeconfig} in the place of ${serverIn(joined)}, and run: systemctl restart kubelet`;
  const answers = () => whoAnswers(own, ca).then((who) => who === "ours");
  // seconds: the kubelet's static pods, which it starts first, need no API
  const limit = { seconds: 30, hint };
  const silent = await failOf(() => waitFor(`${own} to answer with the new CA`, answers, limit));
  const content =
    before === undefined
      ? kubeletKubeconfig({ server: own, ca, clientPem })
      : withTrust(before, { ca, clientPem });
  if (silent || !content)
    return say(
      `warning: ${kubeconfig} has the server ${serverIn(joined)} now, as ${own} does not answer: ${hint}`,
    );
  const trouble = await failOf(() => exchangeConf(node, content));
  if (!trouble) return say(`unchanged server in ${kubeconfig}: ${own}`);
  await exchangeConf(node, joined);
  say(
    `warning: ${kubeconfig} leads to ${serverIn(joined)}: by ${own} the kubelet did not renew its Lease: ${hint}`,
  );
}

/** Errors: Fail if the kubelet does not renew its Lease with it. */
async function exchangeConf(node: Node, content: string) {
  const { kubeconfig } = node.kubelet;
  await systemctlKubelet("stop", " (containers keep running)");
  writeFile(kubeconfig, content, { mode: 0o600 });
  const since = new Date();
  await systemctlKubelet("start");
  const self = KubeApi.from(readKubeconfig(kubeconfig)!);
  const hint = "journalctl -u kubelet -n 50";
  await waitForRenewal(self, node.name, since, { seconds: 60, hint });
}
