/** One version of Bun, and one sum for each of its packages: in bunw, for the nodes, and for the types. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { BUN_VERSION, NODES_BUN } from "../../tools/pack/write-kit.ts";

const bunw = await Bun.file(join(import.meta.dir, "../../bunw")).text();
const pinned = new Map(
  [...bunw.matchAll(/^ +(bun-[\w-]+)\) echo ([0-9a-f]{128}) ;;$/gm)].map(([, name, sum]) => [name!, sum!]),
);

test("the version is one, in bunw, for the nodes, and for the types", () => {
  expect(bunw.match(/^version=(.+)$/m)![1]).toBe(BUN_VERSION);
  expect(packageJson.devDependencies["@types/bun"]).toBe(BUN_VERSION);
});

test("the sums of bunw and of the nodes' Bun agree, and each package that bunw may choose is pinned", () => {
  const inHex = (sum: string) => Buffer.from(sum, "base64").toString("hex");
  for (const { name, sum } of Object.values(NODES_BUN))
    expect([name, pinned.get(name.replace("@oven/", ""))]).toEqual([name, inHex(sum)]);
  const [, choice] = /^package\(\) \{\n([\s\S]+?)\n\}$/m.exec(bunw)!;
  const chosen = [...choice!.matchAll(/echo "?(bun-[\w-]+?)(\$libc)?(-baseline)?"?(?= |$|\n)/g)];
  const names = chosen.flatMap(([, name, libc, baseline = ""]) =>
    (libc ? ["", "-musl"] : [""]).map((c) => name + c + baseline),
  );
  expect([...pinned.keys()].sort()).toEqual(names.sort());
});
