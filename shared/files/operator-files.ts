/**
 * Files that the operator names, some of them with a secret. He may be in a folder where others write, such
 * as /tmp: their links must not choose what root reads, or where root writes. This is the kernel's rule for
 * links (fs.protected_symlinks) and ssh's for keys.
 */
import * as fs from "node:fs";
import { dirname } from "node:path";
import { Fail, Refused } from "../fail.ts";
import { type Parsed, parseWords, type ScriptConfig, typed } from "../options.ts";
import { start } from "../run.ts";
import { shell } from "../shell-line.ts";
import { readText, stat, type WriteOptions, writeFile } from "./files.ts";
import { entryAt, hostEntry, linkChain, tryFile } from "./root.ts";

/**
 * The purpose of a typed path decides who else may have touched it. `secret`, `trusted` (its content counts
 * by the operator's word), `written`: nobody. `proved` (its content has to prove itself): the file's owner
 * may also have made the links to it. `public` (written, no secret, read by others): the folder and the
 * replaced file may be a service's; a link is refused.
 */
export type PathUse = "secret" | "trusted" | "proved" | "written" | "public";

/** Keyed by sub-command; "": without one. */
type UseOf = PathUse | Partial<Record<string, PathUse>>;

/**
 * As `parseWords`. The value of an option with `path: USE` is made absolute, that of one with `file: USE`
 * stays as it was typed; `file` of the whole configuration is the word after the sub-command. All of them are
 * judged before the script does anything, defaults as well. Errors: as `parseWords`, `refuseOthers`.
 */
export function parseOptions<T extends ScriptConfig>(config: T): Parsed<T> {
  const parsed = parseWords(config);
  const words = parsed.positionals as string[];
  const command = "file" in config && typeof (config.file as UseOf) === "string" ? "" : (words[0] ?? "");
  const judge = (use: unknown, path: unknown) => {
    const own = typeof use === "string" ? use : (use as Partial<Record<string, PathUse>>)[command];
    for (const one of own ? [path].flat() : [])
      if (typeof one === "string") refuseOthers(typed(one), own as PathUse);
  };
  const values = parsed.values as Record<string, unknown>;
  for (const [name, option] of Object.entries(config.options ?? {}))
    for (const key of ["path", "file"])
      if (key in option) judge(option[key as keyof typeof option], values[name]);
  if ("file" in config) judge(config.file, words[command ? 1 : 0]);
  return parsed;
}

export type OptionValues<O extends ScriptConfig["options"]> = Parsed<{ options: O & {} }>["values"];

/** Begins a script that changes the node: its command line, its first line, its lock. */
export function begin<const T extends ScriptConfig>(script: string, config: T, lock: () => void): Parsed<T> {
  const parsed = parseOptions(config);
  start(script, parsed.values);
  lock();
  return parsed;
}

/** Errors: Fail if it is not there, or if others can read it; as `refuseOthers`. */
export function secretIn(file: string): string {
  const place = refuseOthers(typed(file), "secret");
  const info = stat(place);
  const text = info && readText(place);
  if (text === undefined) throw new Fail(`There is no file "${file}"`, { hint: "look for the file: ls -l" });
  if (info!.mode & 0o077) throw new Fail(`Others can read "${file}"`, { hint: shell`chmod 600 ${file}` });
  return text;
}

/** The new file is ours, whoever owned an old one. Errors: as `refuseOthers`. */
export function writeTyped(
  path: string,
  content: string | Uint8Array,
  {
    use = "written",
    ...options
  }: Pick<WriteOptions, "note" | "folderMode"> & { mode: number; use?: PathUse },
) {
  writeFile(refuseOthers(typed(path), use), content, { ...options, replace: true });
}

interface Entry {
  path: string;
  info: fs.Stats;
}

/**
 * Returns the path of the content, without links on the way. Errors: Refused if somebody else may have written or
 * linked it.
 */
export function refuseOthers(path: string, use: PathUse): string {
  const way = tryFile("look at", path, () => linkChain(path), true)!;
  const entries = way.flatMap((entry): Entry[] => {
    const info = entryAt(entry);
    return info ? [{ path: entry, info }] : [];
  });
  const place = way.at(-1) ?? "/";
  const content = entries.at(-1)?.path === place ? entries.at(-1) : undefined;
  for (const entry of entries) {
    const why = faultOf(entry, use, content);
    if (why) throw refusal(path, entry, why, use);
  }
  return place;
}

function faultOf({ path, info }: Entry, use: PathUse, content: Entry | undefined): string | undefined {
  if (info.isSymbolicLink()) {
    const mayLink = isOurs(info.uid) || (use === "proved" && info.uid === content?.info.uid);
    return mayLink ? undefined : `it is a link of user ${info.uid} to "${fs.readlinkSync(hostEntry(path))}"`;
  }
  if (use === "proved" || use === "public") return undefined;
  if (!isOurs(info.uid)) return `it belongs to user ${info.uid}`;
  const mayReplace = () => (info.mode & 0o1000) === 0 && fs.statfsSync(hostEntry(path)).type !== V9FS;
  const isOpen = othersMayWrite(info) && (info.isDirectory() ? mayReplace() : use === "trusted");
  return isOpen ? "others can write there" : undefined;
}

/** Root, and the user that runs this; with sudo, the user that typed it. */
export function isOurs(uid: number): boolean {
  return [0, process.getuid?.(), bySudo("SUDO_UID")].includes(uid);
}

function bySudo(name: "SUDO_UID" | "SUDO_GID"): number | undefined {
  return process.getuid?.() === 0 && process.env[name] ? Number(process.env[name]) : undefined;
}

/** With umask 002 each user has a group of his own. */
function othersMayWrite({ mode, gid }: fs.Stats): boolean {
  const isOurGroup = [0, process.getgid?.(), bySudo("SUDO_GID")].includes(gid);
  return (mode & 0o002) !== 0 || ((mode & 0o020) !== 0 && !isOurGroup);
}

/** statfs(2): a Windows disk below WSL, whose folders all claim that everybody may write. */
const V9FS = 0x01021997;

function refusal(path: string, { path: entry, info }: Entry, why: string, use: PathUse): Refused {
  const isWrite = use === "written" || use === "public";
  const ifRight = info.isSymbolicLink()
    ? shell`; or, if it is right: chown -h root ${entry}`
    : info.isDirectory()
      ? ""
      : isWrite
        ? shell`; or, if nobody needs it: rm ${entry}`
        : shell`; or, if it is right: chown root ${entry}; chmod go-w ${entry}`;
  const other = `${isWrite ? "Name a place in" : "Copy it to"} a folder where nobody else can write, such as your home`;
  const look = shell`ls -ld ${dirname(entry)} ${entry}`;
  const place = entry === path ? "" : ` "${entry}":`;
  return new Refused(`Cannot ${isWrite ? "write" : "take"} "${path}":${place} ${why}`, {
    unchanged: true,
    hint: `see who made it: ${look}. ${other}${ifRight}. Then run the same line again`,
  });
}
