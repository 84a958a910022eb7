/**
 * Rung 1 without a search: lost keys in an old folder beside, such as pki/_bk_2025, pki.bak or kubernetes.old. Only
 * fixed paths of a key in each folder beside the PKI folder and /etc/kubernetes, and in these two: no tree is walked,
 * no link is followed, and each folder and file is root's. A key counts only by a known public half, so one of another
 * cluster is not taken.
 */
import { dirname } from "node:path";
import { budgetOf } from "../budget.ts";
import { attempt, failOf } from "../fail.ts";
import { list } from "../files/files.ts";
import { entryAt } from "../files/root.ts";
import { isRoots, smallText } from "../files/untrusted-file.ts";
import { privateKeysIn } from "../pki/certificate.ts";
import type { PkiPlace } from "../pki/certs.ts";
import { say } from "../run.ts";
import type { FoundKeys } from "./found-keys.ts";

/** Folders beside that are looked into; /etc of a server has some hundred. */
const MOST_FOLDERS = 2000;

/** Where a key is below an old folder: a copy of the PKI folder, or of /etc/kubernetes. */
const BELOW = ["", "pki/"];

/** Takes lost keys that are proved; says which, and what was left out. Reads some fixed paths only. */
export async function searchBeside(
  foundKeys: FoundKeys,
  { certificatesDir }: Pick<PkiPlace, "certificatesDir">,
  budget = budgetOf("old folders beside", "give the folder with your copies: --backup DIR"),
) {
  if (foundKeys.missing().length === 0) return;
  const search = async () => {
    for (const folder of foldersBeside(certificatesDir))
      for (const { keyFile } of foundKeys.missing())
        for (const way of BELOW) {
          await budget.askAndListen();
          takeFrom(foundKeys, folder, `${way}${keyFile}`);
        }
  };
  const ended = await failOf(search);
  if (ended) say(`warning: ${ended.message}; ${ended.hint}`);
}

function foldersBeside(certificatesDir: string): string[] {
  const own = new Set([certificatesDir, CONF]);
  const neighbours = new Set([...own, ...[...own].map(dirname)]);
  const all = [...neighbours].flatMap((dir) => attempt(() => list(dir), []).map((name) => join(dir, name)));
  return [...new Set(all)].filter((path) => !own.has(path) && isOwnFolder(path)).slice(0, MOST_FOLDERS);
}

const CONF = "/etc/kubernetes";

function join(dir: string, name: string): string {
  return dir === "/" ? `/${name}` : `${dir}/${name}`;
}

function takeFrom(foundKeys: FoundKeys, folder: string, file: string) {
  const parts = file.split("/");
  const isWay = parts
    .slice(0, -1)
    .every((_, i) => isOwnFolder(`${folder}/${parts.slice(0, i + 1).join("/")}`));
  const path = `${folder}/${file}`;
  if (!isWay || !isOwn(path, "file")) return;
  const text = attempt(() => smallText(path), undefined) ?? "";
  for (const key of privateKeysIn(text)) foundKeys.accept(key, path);
}

function isOwnFolder(path: string): boolean {
  return isOwn(path, "folder");
}

/** It is root's, and no link. */
function isOwn(path: string, kind: "file" | "folder"): boolean {
  const entry = attempt(() => entryAt(path), undefined);
  return entry !== undefined && (kind === "file" ? entry.isFile() : entry.isDirectory()) && isRoots(path);
}
