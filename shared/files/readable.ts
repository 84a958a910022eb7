import { attempt } from "../fail.ts";
import { readText } from "./files.ts";

/** The text, "" (which is no certificate) if it may not be read, undefined if there is no file. */
export function readable(path: string): string | undefined {
  return attempt(() => readText(path), "");
}
