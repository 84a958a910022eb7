/**
 * Takes lost files out of the operator's own copies: a folder that holds /etc/kubernetes, or a part of it, at any
 * depth. Only files that static pods' or the kubelet's flags name. That they are right is the operator's word.
 */
import { dirname } from "node:path";
import type { LostFile } from "../facts/lost-file.ts";
import { isLink } from "../files/file-tree.ts";
import { list, readBytes, stat } from "../files/files.ts";
import { isBelow, realPath } from "../files/root.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import type { FoundCopy } from "./found-copy.ts";

/** Limits of one lost file or folder: a larger one is no configuration, and would hold up the repair. */
const MOST = { entries: 2000, megabytes: 32 };

/** `folder` is one. What links out of it lead to is no copy of the operator's: it is left out, and named. */
export function copiesIn(folder: string, lost: readonly Pick<LostFile, "path" | "kind">[]): FoundCopy[] {
  return lost.flatMap(({ path, kind }) => (kind === "socket" ? [] : copiesOf(path, folder)));
}

/** `folder` may stand for /, /etc, /etc/kubernetes or a folder below: the longest end of the path counts. */
function copiesOf(path: string, folder: string): FoundCopy[] {
  const words = path.split("/").slice(1);
  const places = words.map((_, i) => `${folder}/${words.slice(i).join("/")}`);
  const place = places.find((one) => stat(one) !== undefined);
  if (place === undefined || leadsOut(place, folder)) return [];
  const copies: FoundCopy[] = [];
  let [entries, bytes] = [0, 0];
  for (const { copy, size } of below(place, path, folder)) {
    bytes += size;
    if (++entries > MOST.entries || bytes > MOST.megabytes << 20) return tooMuch(place, path);
    if (copy) copies.push(copy());
  }
  return copies;
}

function leadsOut(path: string, folder: string): boolean {
  const [top, real] = [realPath(folder), realPath(path)];
  if (isBelow(real, top)) return false;
  say(`warning: ${path}: left out: it leads out of ${folder}, to ${real}`);
  return true;
}

/**
 * Only the first folder that is a link counts: others may be loops. `size`: bytes; a folder has none.
 */
function* below(
  from: string,
  path: string,
  folder: string,
): Generator<{ size: number; copy?: () => FoundCopy }> {
  const info = stat(from);
  if (info?.kind === "file" && info.size > 0)
    return yield {
      size: info.size,
      copy: () => ({ path, content: readBytes(from)!, mode: modeOf(info.mode), from }),
    };
  yield { size: 0 };
  if (info?.kind !== "dir") return;
  for (const name of list(from)) {
    const entry = `${from}/${name}`;
    if (isLink(entry) && (leadsOut(entry, folder) || stat(entry)?.kind === "dir")) continue;
    yield* below(entry, `${path}/${name}`, folder);
  }
}

function tooMuch(place: string, path: string): FoundCopy[] {
  const byHand = shell`cp -a ${place} ${dirname(path)}/`;
  say(
    `warning: ${place}: left out: more than ${MOST.entries} files, or ${MOST.megabytes} MB. If all of it is right: ${byHand}`,
  );
  return [];
}

/**
 * A file system without permissions, as a stick's, shows all files as executable, or as writable for everybody.
 */
function modeOf(mode: number): number {
  return mode & 0o133 ? 0o600 : mode & 0o777;
}
