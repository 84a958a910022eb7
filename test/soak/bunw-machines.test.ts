/**
 * Which Bun `bunw` takes: in a checkout on the laptops that people have, in a kit on the nodes. Other
 * machines are those that `uname` says.
 */
import { afterEach, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { chmodSync, copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { $ } from "bun";
import { BUN_VERSION } from "../../tools/pack/write-kit.ts";
import { OWN_ARCH } from "../kit/own-arch.ts";
import { ASSESS, elsewhere, kit, layOut, withKit, worksAndNoMore, write } from "../pretend/laid-out-kit.ts";
import { type FakeCommand, fakePath } from "../pretend/programs.ts";

withKit();

const BUNW = join(import.meta.dir, "../../bunw");
const programs: ReturnType<typeof fakePath>[] = [];
afterEach(() => {
  for (const one of programs.splice(0)) one[Symbol.dispose]();
});

const MUSL = { command: "ldd --version", stderr: "musl libc (x86_64)\nVersion 1.2.5\n", exit: 1 };
const GLIBC = { command: "ldd --version", stdout: "ldd (Debian GLIBC 2.36-9) 2.36\n" };

function machine(system: string, processor: string, more: FakeCommand[] = [GLIBC]) {
  const own = fakePath([
    { command: "uname -m", stdout: `${processor}\n` },
    { command: "uname -s", stdout: `${system}\n` },
    ...more,
  ]);
  programs.push(own);
  return own;
}

async function run(bunw: string, args: string[], env: Record<string, string>) {
  const child = Bun.spawn(["/bin/sh", bunw, ...args], {
    cwd: "/",
    env,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { stdout, stderr, exitCode: await child.exited, ran: false };
}

const AVX2 = { command: "grep -q avx2 /proc/cpuinfo" };
const NO_AVX2 = { ...AVX2, exit: 1 };
const NO_LDD = { command: "ldd *", exit: 127, stderr: "sh: ldd: not found\n" };

const LAPTOPS: [what: string, system: string, processor: string, more: FakeCommand[], name: string][] = [
  ["a Mac with Apple's processor", "Darwin", "arm64", [NO_LDD], "bun-darwin-aarch64"],
  ["a Mac with Intel's", "Darwin", "x86_64", [NO_LDD], "bun-darwin-x64-baseline"],
  ["Linux, and WSL", "Linux", "x86_64", [GLIBC, AVX2], "bun-linux-x64"],
  ["Linux without AVX2", "Linux", "x86_64", [GLIBC, NO_AVX2], "bun-linux-x64-baseline"],
  ["Linux on arm64", "Linux", "aarch64", [GLIBC], "bun-linux-aarch64"],
  ["Alpine", "Linux", "x86_64", [MUSL, AVX2], "bun-linux-x64-musl"],
  ["Alpine without AVX2", "Linux", "x86_64", [MUSL, NO_AVX2], "bun-linux-x64-musl-baseline"],
  ["Alpine on arm64", "Linux", "aarch64", [MUSL], "bun-linux-aarch64-musl"],
];

/** A package as npm packs it, with this program in it, and its sum. */
async function tarballOf(program: string): Promise<{ path: string; sum: string }> {
  const folder = join(elsewhere, "of-npm");
  write(`${folder}/package/bin/bun`, `#!/bin/sh\n${program}\n`);
  chmodSync(`${folder}/package/bin/bun`, 0o755);
  await $`tar -czf bun.tgz package`.cwd(folder).quiet();
  const path = `${folder}/bun.tgz`;
  return { path, sum: createHash("sha512").update(readFileSync(path)).digest("hex") };
}

const npm = (path: string): FakeCommand => ({
  command: "npm pack --loglevel=error *",
  does: `cp ${path} oven-bun.tgz; echo oven-bun.tgz`,
});
const SHA512: FakeCommand[] = [{ command: "sha512sum *", does: `exec ${Bun.which("sha512sum")}` }];

/** The sum that bunw has for a package: test/repo/bun-version.test.ts. */
function pinnedSum(name: string): string {
  return new RegExp(`^ +${name}\\) echo ([0-9a-f]{128}) ;;$`, "m").exec(readFileSync(BUNW, "utf8"))![1]!;
}

/** bunw in a checkout, which takes this sum for that package. */
function checkout(name: string, sum = pinnedSum(name)): string {
  writeFileSync(`${elsewhere}/bunw`, readFileSync(BUNW, "utf8").replace(pinnedSum(name), sum));
  return `${elsewhere}/bunw`;
}

test.each(LAPTOPS)(
  "in a checkout on %s, bunw installs that machine's Bun, once",
  async (_, system, processor, more, name) => {
    const { path, sum } = await tarballOf('echo "$0 $*"');
    const bunw = checkout(name, sum);
    const { env, calls } = machine(system, processor, [...more, ...SHA512, npm(path)]);
    const there = { ...env, HOME: elsewhere, KUBE_PKI_REPAIR_CACHE: `${elsewhere}/cache` };
    const place = `${elsewhere}/cache/bun-${BUN_VERSION}/${name}`;
    const { stdout, exitCode, stderr } = await run(bunw, ["x.ts", "--help"], there);
    expect([exitCode, stdout, stderr]).toEqual([
      0,
      `${place} x.ts --help\n`,
      expect.stringMatching(/^bunw: installing Bun .*\n$/),
    ]);
    expect((await run(bunw, ["again"], there)).stdout).toBe(`${place} again\n`);
    expect(calls().filter((call) => call.startsWith("npm "))).toEqual([
      expect.stringMatching(new RegExp(` @oven/${name}@${BUN_VERSION}$`)),
    ]);
    expect(readdirSync(`${elsewhere}/cache/bun-${BUN_VERSION}`)).toEqual([name]);
  },
);

test.each(LAPTOPS)(
  "in a checkout on %s, another program from npm is not run, nor kept",
  async (_, system, processor, more, name) => {
    const { path } = await tarballOf("echo ANOTHER PROGRAM");
    const { env } = machine(system, processor, [...more, ...SHA512, npm(path)]);
    const there = { ...env, HOME: elsewhere, KUBE_PKI_REPAIR_CACHE: `${elsewhere}/cache` };
    const { stdout, exitCode, stderr } = await run(checkout(name), ["x.ts"], there);
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr).toContain(
      `error: npm brought another file as "@oven/${name}@${BUN_VERSION}" than the pinned one, by its sha512\nhint: npm config get registry`,
    );
    expect(readdirSync(`${elsewhere}/cache/bun-${BUN_VERSION}`)).toEqual([]);
  },
);

test.each([
  ["shasum of macOS", [{ command: "shasum -a 512", does: `exec ${Bun.which("sha512sum")}` }], 0],
  ["openssl", [{ command: "openssl dgst -sha512 -r", does: `exec ${Bun.which("sha512sum")}` }], 0],
  ["nothing: it says what to install", [], 1],
])("what computes the sum: %s", async (_, tools: FakeCommand[], code) => {
  const { path, sum } = await tarballOf("echo ours");
  const { env } = machine("Darwin", "arm64", [NO_LDD, ...tools, npm(path)]);
  const { stdout, exitCode, stderr } = await run(checkout("bun-darwin-aarch64", sum), [], {
    ...env,
    HOME: elsewhere,
  });
  expect([exitCode, stdout]).toEqual([code, code === 0 ? "ours\n" : ""]);
  if (code === 1)
    expect(stderr).toContain("hint: install one of sha512sum (coreutils), shasum (perl), openssl\n");
});

test("in a checkout without Bun and npm, bunw says what to install", async () => {
  copyFileSync(BUNW, join(elsewhere, "bunw"));
  const { env } = machine("Darwin", "arm64", [NO_LDD]);
  const { stderr, exitCode } = await run(`${elsewhere}/bunw`, [], { ...env, HOME: elsewhere });
  expect([exitCode, stderr]).toEqual([
    1,
    expect.stringMatching(/^error: Bun [\d.]+ is not here, and npm.*\nhint: .*brew install node/),
  ]);
});

/** A kit for several machines; the Bun of each says its name. */
async function kitFor(archs: string[]) {
  await layOut();
  const sums = readFileSync(`${kit}/SHA256SUMS`, "utf8").replace(/^.* {2}bun\/.*\n/m, "");
  for (const arch of archs) {
    write(`${kit}/bun/${arch}`, `#!/bin/sh\necho ${arch}\n`);
    chmodSync(`${kit}/bun/${arch}`, 0o755);
  }
  write(`${kit}/SHA256SUMS`, sums + archs.map((arch) => `${"0".repeat(64)}  bun/${arch}\n`).join(""));
}

/** The programs that bunw's guard uses, and this machine. */
const on = (processor: string, more?: FakeCommand[]) => {
  const { env } = machine("Linux", processor, more);
  return { ...env, PATH: `${env.PATH}:/usr/bin:/bin` };
};

test.each([
  ["x86_64", GLIBC, "x64"],
  ["aarch64", GLIBC, "arm64"],
  ["x86_64", MUSL, "x64-musl"],
  ["aarch64", MUSL, "arm64-musl"],
])("in a kit for all machines, on %s, bunw takes that one's Bun", async (processor, libc, arch) => {
  await kitFor(["x64", "arm64", "x64-musl", "arm64-musl"]);
  expect(await run(`${kit}/bunw`, ASSESS, on(processor, [libc]))).toEqual({
    stdout: `${arch}\n`,
    stderr: "",
    exitCode: 0,
    ran: false,
  });
});

test("a kit for other machines says for which one to pack", async () => {
  await kitFor(["x64"]);
  const { stderr, exitCode } = await run(`${kit}/bunw`, ASSESS, on("aarch64"));
  expect([exitCode, stderr.split("\n")]).toEqual([
    1,
    [
      'error: This kit has no Bun for "arm64"',
      expect.stringMatching(
        /^hint: on a laptop with the repository: npm run pack -- --arch arm64 --out kit\.tar\.gz; then unpack /,
      ),
      "",
    ],
  ]);
});

test("on a machine for which there is no Bun, bunw says so", async () => {
  await layOut();
  const { stderr, exitCode } = await run(`${kit}/bunw`, ASSESS, on("s390x"));
  expect([exitCode, stderr]).toEqual([
    1,
    expect.stringMatching(/^error: There is no Bun for this machine, "s390x".*\nhint: by hand: .*\n$/),
  ]);
});

test.each([
  ["misses a library", "echo 'Error loading shared library libstdc++.so.6: No such file' >&2; exit 127"],
  ["ends by a signal", "kill -ILL $$"],
])("a Bun that %s: bunw says with which exit code, and its last words", async (_, does) => {
  await layOut();
  write(`${kit}/bun/${OWN_ARCH}`, `#!/bin/sh\n${does}\n`);
  const { stderr, exitCode } = await run(`${kit}/bunw`, ASSESS, { PATH: "/usr/bin:/bin" });
  const words = does.includes("library") ? "exit code 127: Error loading .*" : "exit code 132: .*";
  expect([exitCode, stderr]).toEqual([
    1,
    expect.stringMatching(
      new RegExp(
        `^(Illegal instruction.*\n)?error: ".*/bun/${OWN_ARCH}" does not start, ${words}\nhint: sha256sum -c SHA256SUMS .*apk add`,
      ),
    ),
  ]);
});

test.each([
  [
    "its x bit is lost",
    0o644,
    "exit 0",
    /^error: ".*\/bun\/.*" may not run: its x bit is lost\nhint: unpack the kit by the lines/,
  ],
  [
    "a rule of the host",
    0o755,
    "echo 'sh: Operation not permitted' >&2; exit 126",
    /^error: A rule of this host lets ".*" not run \(sh: Operation not permitted\); .*\nhint: .*ausearch -m avc,fanotify -ts recent\. fapolicyd: .*SELinux: chcon/,
  ],
])(
  "a Bun that may not run, on a mount where programs may: %s, and nothing is mounted anew",
  async (_, mode, does, says) => {
    await layOut();
    write(`${kit}/bun/${OWN_ARCH}`, `#!/bin/sh\n${does}\n`);
    chmodSync(`${kit}/bun/${OWN_ARCH}`, mode);
    const { stderr, exitCode } = await run(`${kit}/bunw`, ASSESS, { PATH: "/usr/bin:/bin" });
    expect([exitCode, stderr]).toEqual([1, expect.stringMatching(says)]);
    expect(stderr).not.toContain("mount -");
  },
);

test("`sh bunw` is as good as `./bunw`", async () => {
  await layOut();
  expect(await run(`${kit}/bunw`, ASSESS, { PATH: "/usr/bin:/bin" })).toEqual(worksAndNoMore);
});
