/** Every path that an operator can type: from the table of options of each script. */
import { basename, join } from "node:path";
import type { PathUse } from "../../shared/files/operator-files.ts";
import { PACKER, SCRIPTS } from "./help.ts";

const HOME = join(import.meta.dir, "../..");
const FILES = [...SCRIPTS, PACKER];

type Option = { type: string; of?: string[] } & Partial<
  Record<"path" | "file", PathUse | Record<string, PathUse>>
>;

export interface TypedPath {
  /** "hand-over pack --out" */
  line: string;
  use: PathUse;
}

async function optionsOf(path: string): Promise<{
  options: Record<string, Option>;
  commands: Record<string, string[]>;
  file: string | undefined;
}> {
  const text = await Bun.file(`${HOME}/${path}`).text();
  const [, block] = /\nconst OPTIONS = (\{[\s\S]+?\n\}) as const;/.exec(text)!;
  const known = {
    DISK_MINUTES: 1,
    PLACES: ["memory"],
    packageJson: { version: "1" },
    DEFAULT_ARCHS: ["x64"],
  };
  const options = new Function(...Object.keys(known), `return ${block}`)(...Object.values(known));
  const listed = /\bcommands: (\{.+\}),\n|\nconst COMMANDS = (\{\n[\s\S]+?\n\});/.exec(text);
  const commands = listed ? new Function(`return ${listed[1] ?? listed[2]}`)() : {};
  return { options, commands, file: /\bfile: (\{[^}]+\}|"\w+")/.exec(text.replace(block!, ""))?.[1] };
}

export const tables = await Promise.all(
  FILES.map(async (path) => ({ script: basename(path), ...(await optionsOf(path)) })),
);

function usesOf(
  uses: PathUse | Record<string, PathUse>,
  of: readonly string[] = [""],
): [command: string, use: PathUse][] {
  return typeof uses === "string" ? of.slice(0, 1).map((command) => [command, uses]) : Object.entries(uses);
}

/** Of the scripts that a node gets. */
export const PATHS = tables
  .filter(({ script }) => script !== basename(PACKER))
  .flatMap(({ script, options, file, commands }): TypedPath[] => {
    const line = ([command = "", ...words]: string[], use: PathUse) => ({
      line: [script.replace(".ts", ""), ...wholeCommand(command, words), ...words].filter(Boolean).join(" "),
      use,
    });
    const first = Object.keys(commands)[0] ?? "";
    // the word after an option is its value, so the sub-command's own word stands before it
    const wholeCommand = (command: string, words: readonly string[]) =>
      command === "" ? [first] : [command, ...(words.length > 0 ? (commands[command] ?? []) : [])];
    const byOption = Object.entries(options).flatMap(([name, { of, path, file }]) =>
      (path ?? file)
        ? usesOf((path ?? file)!, of).map(([command, use]) => line([command, `--${name}`], use))
        : [],
    );
    const byWord =
      file === undefined
        ? []
        : usesOf(new Function(`return ${file}`)()).map(([command, use]) => line([command], use));
    return [...byOption, ...byWord];
  });
