/**
 * What a kit runs leaves no file but those it names: the disk's free blocks may hold the lost keys. Bun
 * itself would keep a cache of the scripts.
 */
import { expect, test } from "bun:test";
import { lstatSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Glob } from "bun";
import { elsewhere, home, kit, layOut, place, withKit } from "../pretend/laid-out-kit.ts";
import { pretendNode } from "../pretend/node.ts";
import { OWN_ARCH } from "./own-arch.ts";

withKit();

const HOME = join(import.meta.dir, "../..");
const SCRIPTS = [...new Glob("scripts/*.ts").scanSync(HOME)].sort();
const FOLDERS = {
  HOME: home,
  TMPDIR: `${elsewhere}/tmp`,
  XDG_CACHE_HOME: `${home}/.cache`,
  XDG_DATA_HOME: `${home}/.data`,
};

/** Every path below, with what changes when somebody writes. */
function listing(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .sort()
    .map((path) => {
      const { mode, size, mtimeMs, ino } = lstatSync(join(folder, path));
      return [path, mode.toString(8), size, mtimeMs, ino].join(" ");
    });
}

async function run(args: string[], env: Record<string, string> = {}) {
  const child = Bun.spawn([`${kit}/bunw`, ...args], {
    ...{
      cwd: elsewhere,
      env: { ...FOLDERS, PATH: "/usr/bin:/bin", ...env },
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
    },
  });
  const stderr = await new Response(child.stderr).text();
  return { exitCode: await child.exited, stderr };
}

async function laidOut() {
  await layOut();
  mkdirSync(FOLDERS.TMPDIR);
}

test.each(SCRIPTS)(
  "%s --help changes no file, in the home, for temporary files, where it is called from, or in the kit",
  async (script) => {
    await laidOut();
    const before = listing(place);
    expect(await run([script, "--help"])).toEqual({ exitCode: 0, stderr: "" });
    expect(listing(place)).toEqual(before);
  },
);

test("00-assess over a node that was wiped changes no file, on that node neither", async () => {
  await laidOut();
  // bunw asks it, too.
  using node = await pretendNode({
    commands: [{ command: "uname -m", stdout: OWN_ARCH === "x64" ? "x86_64" : "aarch64" }],
  });
  const [before, nodeBefore] = [listing(place), node.fingerprint()];
  const env = {
    KUBE_PKI_REPAIR_ROOT: node.root,
    KUBE_PKI_REPAIR_PATIENCE: "0.0005",
    ...node.env,
    PATH: `${node.env.PATH}:/usr/bin:/bin`,
  };
  const { exitCode } = await run(["scripts/00-assess.ts"], env);
  expect(exitCode).toBe(2);
  expect([listing(place), node.fingerprint()]).toEqual([before, nodeBefore]);
});

test("without the kit's setting Bun would write: the test sees it", async () => {
  await laidOut();
  const bunw = readFileSync(`${kit}/bunw`, "utf8");
  const without = bunw.replace(/^.*BUN_RUNTIME_TRANSPILER_CACHE_PATH=0\n/m, "");
  expect(without).not.toBe(bunw);
  await Bun.write(`${kit}/bunw`, without);
  const before = listing(place);
  expect((await run(["scripts/00-assess.ts", "--help"])).exitCode).toBe(0);
  expect(listing(place).length).toBeGreaterThan(before.length);
});
