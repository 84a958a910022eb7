/**
 * What a worker trusted before a join: it is saved before anything is changed, and comes back where the join
 * fails.
 */
import { dirname } from "node:path";
import { attempt, Fail, failOf } from "../fail.ts";
import { copyTree } from "../files/copy-tree.ts";
import { restoreTree } from "../files/file-tree.ts";
import { exists, type Mark, readMark, readText, removeFile, writeMark } from "../files/files.ts";
import { refuseUnwritable } from "../files/room.ts";
import { contentPath } from "../files/root.ts";
import { workloadContainers } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { newRescue, rescueFolders } from "../node/rescue-folder.ts";
import { systemctlKubelet, unfitKubelet } from "../node/systemctl-kubelet.ts";
import { mode, say, tell } from "../run.ts";
import { shell } from "../shell-line.ts";
import { leaves } from "../signals.ts";
import { dropTokenFile } from "./token-file.ts";

/** What is saved before a worker's trust is changed. */
export interface SavedTrust {
  /** The rescue folder. */
  dir: string;
  files: { path: string; existed: boolean }[];
  /** Ids of the running containers: they must still run afterwards. Undefined: nothing here shows them. */
  containers: string[] | undefined;
}

/** Its key for what a run leaves: see `leaves`. */
const JOINING = "join";

/** From here on the kubelet does the rest: without this run, too. */
export function passPointOfNoReturn() {
  leaves(
    JOINING,
    "this worker's kubelet has the new trust and continues by itself: it asks for its certificate, and renews its Lease with it. The same command again waits for that; where no certificate comes, it puts the old files back",
  );
}

/** In the rescue folder of a join that has not ended: neither well, nor by a roll back. */
const UNFINISHED = "join-unfinished";

interface UnfinishedMark extends Mark {
  files: SavedTrust["files"];
}

/**
 * Copies the kubelet's trust into a rescue folder, or takes the copy of a join that was cut off, and notes
 * which containers run.
 */
export async function saveTrust(node: Node): Promise<SavedTrust> {
  const containers = await workloadsHere(node);
  const before = unfinished(node);
  if (before) say(`${before.dir}: a join was cut off here; this one continues with what it saved`);
  const saved = before ?? copyTrust(node);
  if (containers) say(`${containers.length} containers run here and keep running`);
  return { ...saved, containers };
}

/** Ids of the running containers, for a report: undefined where nothing here shows them. */
async function workloadsHere(node: Node): Promise<string[] | undefined> {
  try {
    return (await workloadContainers(node.runtimeEndpoint)).map(({ id }) => id);
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    return void say(
      `${err.message}: the join continues, but cannot prove at its end that all of them still run`,
    );
  }
}

/** Whether a join was cut off here, also at its very end. */
export function wasCutOff(node: Node): boolean {
  return unfinished(node) !== undefined;
}

/**
 * This worker's kubelet.conf from before the join, also where one was cut off; undefined where there was
 * none.
 */
export function confBefore(node: Node): string | undefined {
  const { kubeconfig } = node.kubelet;
  const cutOff = unfinished(node);
  return (
    attempt(() => readText(cutOff ? `${cutOff.dir}/before${kubeconfig}` : kubeconfig), undefined) || undefined
  );
}

type Copied = Pick<SavedTrust, "dir" | "files">;

/**
 * What a join that was cut off has saved: the files from before. Its bootstrap kubeconfig is the first file
 * that it writes and the last that a roll back removes: without it, those in place are not half of each.
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
  // of a link both: the kubelet and the join replace the one or the other
  const places = [...new Set(paths.flatMap((path) => [path, contentPath(path)]))];
  const inPlace = [...places, clientPem].filter((path) => exists(path));
  refuseUnwritable([...[dir, ...places].map((path) => dirname(path)), dirname(clientPem), ...inPlace]);
  const files = places.map((path) => ({ path, existed: exists(path) }));
  for (const { path, existed } of files) if (existed) copyTree(path, `${dir}/before${path}`);
  writeMark<UnfinishedMark>(
    `${dir}/${UNFINISHED}`,
    { made: new Date().toISOString(), files },
    "until this join is done",
  );
  return { dir, files };
}

/**
 * This worker has joined, also where the run that brought it so far was cut off, and no longer needs the
 * token.
 */
export function endJoin({ kubelet }: Node, tokenFile: string) {
  leaves(JOINING, undefined);
  for (const { dir } of rescueFolders().filter(({ dir }) => exists(`${dir}/${UNFINISHED}`))) {
    if (exists(kubelet.bootstrapKubeconfig)) removeFile(kubelet.bootstrapKubeconfig);
    removeFile(`${dir}/${UNFINISHED}`);
  }
  dropTokenFile(tokenFile);
}

/**
 * Puts the files from before back, as they were, and restarts the kubelet. `unless`: what the kubelet may
 * have got until it was stopped; with that it starts again, and nothing is put back. Returns whether it is
 * all back. Errors: Fail where a file does not come back.
 */
export async function rollBack(saved: Copied, unless = () => false): Promise<boolean> {
  if (mode.dryRun) return true;
  tell("\n== Roll back: this worker's old files come back");
  const troubles = [await failOf(() => systemctlKubelet("stop"))];
  if (unless()) return await goOn();
  leaves(JOINING, undefined);
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
    hint: `repair the cause (${trouble.hint}); then run the same line again, or bring them back by hand: ${shell`cp -a ${saved.dir}/before/. /`} ; systemctl start kubelet`,
    cause: trouble,
  });
}

async function goOn(): Promise<boolean> {
  say("the kubelet has its certificate now: nothing is put back");
  await systemctlKubelet("start");
  return false;
}
