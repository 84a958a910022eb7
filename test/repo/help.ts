/** What a script's --help says. Each is asked once in a process. */
import { basename, join } from "node:path";
import { Glob } from "bun";
import { typeHere } from "../pretend/typed-here.ts";

const HOME = join(import.meta.dir, "../..");
const asked = new Map<string, Promise<string>>();

/** "scripts/00-assess.ts" and so on. */
export const SCRIPTS = [...new Glob("scripts/*.ts").scanSync(HOME)].sort();

/** `npm run pack`, which stays with the checkout. */
export const PACKER = "tools/pack/pack-kit.ts";

/** One after the other: what is printed is caught for the whole process. */
let before: Promise<unknown> = Promise.resolve();

export function helpOf(script: string): Promise<string> {
  const known = asked.get(script);
  if (known) return known;
  const help = before.then(() => typeHere(`${basename(script, ".ts")} --help`)).then(({ stdout }) => stdout);
  asked.set(script, help);
  before = help;
  return help;
}
