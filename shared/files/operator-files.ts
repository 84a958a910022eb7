/** Files that the operator names, some of them with a secret. */
import { Fail } from "../fail.ts";
import { typed } from "../options.ts";
import { shell } from "../shell-line.ts";
import { readText, stat } from "./files.ts";

/** The text of a file with a secret. Errors: Fail where it is not there, or where others can read it. */
export function secretIn(file: string): string {
  const info = stat(typed(file));
  const text = info && readText(typed(file));
  if (text === undefined) throw new Fail(`There is no file "${file}"`, { hint: "is it in this folder? ls -l" });
  if (info!.mode & 0o077) throw new Fail(`Others can read "${file}"`, { hint: shell`chmod 600 ${file}` });
  return text;
}
