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

async function optionsOf(
  path: string,
): Promise<{ options: Record<string, Option>; file: string | undefined }> {
  const text = await Bun.file(`${HOME}/${path}`).text();
  const [, block] = /\nconst OPTIONS = (\{[\s\S]+?\n\}) as const;/.exec(text)!;
  const known = {
    DISK_MINUTES: 1,
    PLACES: ["memory"],
    packageJson: { version: "1" },
    DEFAULT_ARCHS: ["x64"],
  };
  const options = new Function(...Object.keys(known), `return ${block}`)(...Object.values(known));
  return { options, file: /\bfile: (\{[^}]+\}|"\w+")/.exec(text.replace(block!, ""))?.[1] };
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
  .flatMap(({ script, options, file }): TypedPath[] => {
    const line = (words: string[], use: PathUse) => ({
      line: [script.replace(".ts", ""), ...words].filter(Boolean).join(" "),
      use,
    });
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
