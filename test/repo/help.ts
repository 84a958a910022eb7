/** What a script's --help says. Each is asked once in a process. */
import { basename, join } from "node:path";
import { Glob } from "bun";
import { typeHere } from "../pretend/typed-here.ts";

const HOME = join(import.meta.dir, "../..");
const asked = new Map<string, Promise<string>>();

/** "scripts/00-assess.ts" and so on. */
export const SCRIPTS = [...new Glob("scripts/*.ts").scanSync(HOME)].sort();

export function helpOf(script: string): Promise<string> {
  const help =
    asked.get(script) ?? typeHere(`${basename(script, ".ts")} --help`).then(({ stdout }) => stdout);
  asked.set(script, help);
  return help;
}
