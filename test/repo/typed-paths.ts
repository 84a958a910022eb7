/** Every path that an operator can type: from the table of options of each script. */
import { join } from "node:path";
import { Glob } from "bun";
import type { PathUse } from "../../shared/files/operator-files.ts";

const HOME = join(import.meta.dir, "../..");
const SCRIPTS = [...new Glob("*.ts").scanSync(`${HOME}/scripts`)].sort();

type Option = { type: string; of?: string[] } & Partial<
  Record<"path" | "file", PathUse | Record<string, PathUse>>
>;

export interface TypedPath {
  /** "hand-over pack --out" */
  line: string;
  use: PathUse;
}

async function optionsOf(
  script: string,
): Promise<{ options: Record<string, Option>; file: string | undefined }> {
  const text = await Bun.file(`${HOME}/scripts/${script}`).text();
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
  SCRIPTS.map(async (script) => ({ script, ...(await optionsOf(script)) })),
);

function usesOf(
  uses: PathUse | Record<string, PathUse>,
  of: readonly string[] = [""],
): [command: string, use: PathUse][] {
  return typeof uses === "string" ? of.slice(0, 1).map((command) => [command, uses]) : Object.entries(uses);
}

export const PATHS = tables.flatMap(({ script, options, file }): TypedPath[] => {
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
