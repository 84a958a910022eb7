/**
 * Takes lost files out of the operator's own copies: a folder that holds /etc/kubernetes, or a part of it, at any depth. Only files that the
 * static pods' or the kubelet's flags name are taken. That they are right is the operator's word.
 */
import type { LostFile } from "../facts/lost-files.ts";
import { list, readBytes, stat } from "../files/files.ts";

interface Copy {
  path: string;
  content: Uint8Array;
  /** Permission bits of the copy, where they can be meant. */
  mode: number;
  /** Where the copy is. */
  from: string;
}

/** `folder` is one. */
export function copiesIn(folder: string, lost: readonly LostFile[]): Copy[] {
  return lost.flatMap(({ path, kind }) => (kind === "socket" ? [] : copiesOf(path, folder)));
}

/** `folder` may stand for /, /etc, /etc/kubernetes or a folder below: the longest end of the path that is there counts. */
function copiesOf(path: string, folder: string): Copy[] {
  const words = path.split("/").slice(1);
  const places = words.map((_, i) => `${folder}/${words.slice(i).join("/")}`);
  const place = places.find((one) => stat(one) !== undefined);
  return place === undefined ? [] : below(place, path);
}

function below(from: string, path: string): Copy[] {
  const info = stat(from);
  if (info?.kind === "dir") return list(from).flatMap((name) => below(`${from}/${name}`, `${path}/${name}`));
  const content = info?.kind === "file" ? readBytes(from) : undefined;
  return info && content && content.length > 0 ? [{ path, content, mode: modeOf(info.mode), from }] : [];
}

/**
 * A file system without permissions, as a stick's, shows all files as executable, or as writable for everybody: that says nothing about who
 * may read a secret or rewrite what the API server obeys.
 */
function modeOf(mode: number): number {
  return mode & 0o133 ? 0o600 : mode & 0o777;
}
