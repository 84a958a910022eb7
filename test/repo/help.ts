/** What a script's --help says. Each is asked once in a process. */
import { join } from "node:path";
import { $, Glob } from "bun";

const HOME = join(import.meta.dir, "../..");
const asked = new Map<string, Promise<string>>();

/** "scripts/00-assess.ts" and so on. */
export const SCRIPTS = [...new Glob("scripts/*.ts").scanSync(HOME)].sort();

export function helpOf(script: string): Promise<string> {
  const help = asked.get(script) ?? $`./bunw ${script} --help`.cwd(HOME).text();
  asked.set(script, help);
  return help;
}
