/**
 * `npm run pack`: the nodes' Bun by its sum, from the registry once and then from the cache; the same kit on
 * every laptop.
 */
import { afterAll, beforeEach, expect, test } from "bun:test";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { $ } from "bun";
import { packFolder, packTarball, UNPACK } from "../../tools/pack/pack-kit.ts";
import { type Arch, BUN_VERSION, NODES_BUN } from "../../tools/pack/write-kit.ts";
import { onNode } from "../pretend/no-node.ts";
import { type FakeCommand, fakePath } from "../pretend/programs.ts";
import { OWN_ARCH } from "./own-arch.ts";

const HOME = join(import.meta.dir, "../..");
const folder = mkdtempSync(join(tmpdir(), "pack-test-"));
const tarball = join(folder, "kit.tar.gz");
const cache = join(folder, "cache");
afterAll(() => rmSync(folder, { recursive: true }));
beforeEach(() => {
  for (const path of [cache, out]) rmSync(path, { recursive: true, force: true });
});

/** On this machine, as on a laptop. */
const packHere = (file: string, arch: Arch) => onNode("/", () => packTarball(file, [arch]));

/** From the registry, if it was never fetched on this machine. */
await packHere(tarball, OWN_ARCH);

const fileOf = (arch: Arch) => `nodes-bun-${BUN_VERSION}/${NODES_BUN[arch].name.replace("@oven/", "")}.tgz`;
const kept = join(cache, fileOf(OWN_ARCH));
const CACHE =
  process.env.KUBE_PKI_REPAIR_CACHE ||
  join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "kube-pki-repair");
const real = join(CACHE, fileOf(OWN_ARCH));

/** Packs with the programs that a test names; without any at all if it names none. */
async function pack(args: string[], commands: FakeCommand[] = []) {
  using programs = fakePath(commands);
  const none = commands.length === 0 ? { PATH: programs.folder } : {};
  const child = Bun.spawn([process.execPath, join(HOME, "tools/pack/pack-kit.ts"), ...args], {
    ...{
      cwd: folder,
      env: { ...programs.env, ...none, KUBE_PKI_REPAIR_CACHE: cache },
      stdout: "pipe",
      stderr: "pipe",
    },
  });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { exitCode: await child.exited, said: stdout + stderr, calls: programs.calls() };
}

/** A folder is not compressed, which takes seconds. */
const out = join(folder, "out");
const OUT = ["--arch", OWN_ARCH, "--out", out];
const SPEC = `${NODES_BUN[OWN_ARCH].name}@${BUN_VERSION}`;
const brings = (file: string): FakeCommand => ({
  command: `npm pack --loglevel=error ${SPEC}`,
  does: `cp ${file} x.tgz`,
  stdout: "x.tgz\n",
});

/** The one program that packing asks: which commit this is. */
const GIT: FakeCommand = { command: "git *", does: `exec ${Bun.which("git")} "$@"` };

test("nothing of the kit depends on the machine: packed anew, by no program but git, from the cache, it is the same", async () => {
  cpSync(real, kept, { recursive: true });
  const words = ["--arch", OWN_ARCH, "--out", join(folder, "other.tar.gz")];
  const { exitCode, said, calls } = await pack(words, [GIT]);
  expect([exitCode, said]).toEqual([0, expect.stringMatching(/^.*other\.tar\.gz: \d+ MB, for \S+$/m)]);
  expect(calls.filter((call) => !call.startsWith("git "))).toEqual([]);
  expect(said).toContain(`SHA256 ${new Bun.SHA256().update(readFileSync(tarball)).digest("hex")}: the same`);
  // what to type next stands there: first what keeps the old keys alive, then the line to each node, then the
  // plan
  const next = said.slice(
    said.indexOf("next, if anything was deleted"),
    said.indexOf("./bunw scripts/plan.ts") + 22,
  );
  expect(next).toContain(`\nssh root@NODE '${UNPACK}' < ${join(folder, "other.tar.gz")}\n`);
  expect(
    ["systemctl stop kubelet", "ssh root@NODE", "scripts/plan.ts"].map((words) => next.split(words).length),
  ).toEqual([2, 2, 2]);
  expect(next).toEndWith("./bunw scripts/plan.ts");
  expect(Buffer.compare(readFileSync(join(folder, "other.tar.gz")), readFileSync(tarball))).toBe(0);
});

test("the tarball holds what the folder holds, in the same modes, all of it root's", async () => {
  const [packed, unpacked] = [join(folder, "packed"), join(folder, "unpacked")];
  await packFolder(packed, [OWN_ARCH]);
  mkdirSync(unpacked);
  await $`sh -c ${`umask 077; tar -C ${unpacked} -xzf ${tarball}`}`;
  const look = async (path: string) =>
    (await $`find . -printf ${"%p %m %s %y\n"} | grep -v " d$" | sort`.cwd(path).text()).trim();
  const folders = async (path: string) =>
    (await $`find . -type d -printf ${"%p %m\n"} | sort`.cwd(path).text()).trim();
  expect([await look(unpacked), await folders(unpacked)]).toEqual([
    await look(packed),
    await folders(packed),
  ]);
  await $`sha256sum --quiet -c SHA256SUMS`.cwd(unpacked);
  expect((await $`tar --numeric-owner -tvzf ${tarball} | grep -v " 0/0 "`.nothrow().text()).trim()).toBe("");
});

test("what npm brings is held against the pinned sum, kept, and not asked for again", async () => {
  const first = await pack(OUT, [brings(real)]);
  expect([first.exitCode, first.calls]).toEqual([0, [`npm pack --loglevel=error ${SPEC}`]]);
  expect(readdirSync(join(cache, `nodes-bun-${BUN_VERSION}`))).toEqual([fileOf(OWN_ARCH).split("/")[1]!]);
  rmSync(out, { recursive: true });
  const second = await pack(OUT, [brings(real)]);
  expect([second.exitCode, second.calls]).toEqual([0, []]);
});

test("another package than the pinned one is refused, and not kept", async () => {
  const other = join(folder, "other.tgz");
  await $`cp ${real} ${other} && printf x >> ${other}`;
  const { exitCode, said } = await pack(OUT, [brings(other)]);
  expect([exitCode, said]).toEqual([
    1,
    expect.stringContaining(`error: npm brought another file as "${SPEC}" than the pinned one`),
  ]);
  expect(readdirSync(join(cache, `nodes-bun-${BUN_VERSION}`))).toEqual([]);
  expect(existsSync(out)).toBe(false);
});

test("a file of the cache that was cut off is fetched anew", async () => {
  cpSync(real, kept, { recursive: true });
  truncateSync(kept, 1_000_000);
  const { exitCode, calls } = await pack(OUT, [brings(real)]);
  expect([exitCode, calls.length, statSync(kept).size]).toEqual([0, 1, statSync(real).size]);
});

test.each([
  ["no npm", [], /npm, which fetches ".*", is missing here\nhint: install npm/],
  [
    "no registry",
    [{ command: "npm pack *", exit: 1, stderr: "npm error network\n" }],
    /npm cannot fetch ".*", exit code 1: network\nhint: /,
  ],
  ["nothing that it brings", [{ command: "npm pack *" }], /npm cannot fetch ".*", exit code 0/],
] as [string, FakeCommand[], RegExp][])(
  "without a cache and with %s, it says what to do",
  async (_, commands, said) => {
    const run = await pack(OUT, commands);
    expect([run.exitCode, run.said]).toEqual([1, expect.stringMatching(said)]);
  },
);

test.each(["amd64", "x64,mips", "toString"])("there is no kit for %p", async (arch) => {
  const { exitCode, said } = await pack(["--arch", arch]);
  expect([exitCode, said]).toEqual([
    1,
    expect.stringMatching(
      /There is no kit for ".*"\nhint: npm run pack -- --arch x64,arm64,x64-musl,arm64-musl/,
    ),
  ]);
});

test("each of the usual machines takes less than 60 MB of a kit", async () => {
  const other: Arch = OWN_ARCH === "x64" ? "arm64" : "x64";
  await packHere(join(folder, "other.tar.gz"), other);
  for (const file of [tarball, join(folder, "other.tar.gz")]) expect(statSync(file).size).toBeLessThan(60e6);
});
