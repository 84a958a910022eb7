/**
 * `bunw` in a kit runs as root: it refuses what a stranger may have put there, and nothing beside or above
 * the kit steers it.
 */
import { expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { isBuiltin } from "node:module";
import { dirname, join } from "node:path";
import { $, Glob } from "bun";
import {
  ASSESS,
  bunw,
  elsewhere,
  evil,
  home,
  kit,
  layOut,
  linkInstead,
  marker,
  PRELOAD,
  packed,
  place,
  STRANGER,
  shm,
  withKit,
  worksAndNoMore,
  write,
} from "../pretend/laid-out-kit.ts";

const HOME = join(import.meta.dir, "../..");

withKit();

/** Bun finds a package of this name by it; all scripts import that one. */
const PATHS = `{ "compilerOptions": { "paths": { "reflect-metadata": ["${evil}"] } } }`;

test("the kit names its own settings, and there is nothing in them that loads anything", () => {
  const named = readFileSync(`${packed}/SHA256SUMS`, "utf8");
  for (const file of ["bunfig.toml", "tsconfig.json", "package.json"])
    expect(named).toMatch(new RegExp(`^[0-9a-f]{64}  ${file}$`, "m"));
  expect(Object.keys(Bun.TOML.parse(readFileSync(`${packed}/bunfig.toml`, "utf8")))).toEqual([
    "test",
    "install",
  ]);
  expect(readFileSync(`${packed}/tsconfig.json`, "utf8")).not.toMatch(/paths|baseUrl|extends|plugins/);
});

test("whatever the umask of the one who packs, the folder is 0700 and nothing in it can be written by others", async () => {
  await $`umask 000; ${process.execPath} tools/pack/pack-kit.ts --out ${join(elsewhere, "kit")}`
    .cwd(HOME)
    .quiet();
  expect((await $`find ${join(elsewhere, "kit")} -perm /022`.text()).trim()).toBe("");
  expect(statSync(join(elsewhere, "kit")).mode & 0o777).toBe(0o700);
});

/** Bun looks for a package in every folder above, and above the kit everybody may make a node_modules. */
test("everything that the kit imports is in the kit", async () => {
  const missing: string[] = [];
  for (const file of new Glob("{scripts,shared,node_modules}/**/*.{ts,js,cjs,mjs}").scanSync(packed)) {
    const text = (await Bun.file(join(packed, file)).text()).replace(/^#!.*/, "");
    for (const { path } of new Bun.Transpiler({ loader: file.endsWith(".ts") ? "ts" : "js" }).scanImports(
      text,
    ))
      if (!(await isOurs(path, dirname(join(packed, file))))) missing.push(`${file}: ${path}`);
  }
  expect(missing).toEqual([]);
});

async function isOurs(specifier: string, from: string) {
  const found = await Bun.resolve(specifier, from).catch(() => "nowhere");
  return /^(node|bun)(:|$)/.test(found) || isBuiltin(found) || found.startsWith(`${packed}/`);
}

const ASSESS_FROM_ELSEWHERE = [`${kit}/scripts/00-assess.ts`, "--help"];

const SETTINGS: [what: string, lay: () => unknown, env?: Record<string, string>][] = [
  ["a bunfig.toml where it is called from", () => write(`${elsewhere}/bunfig.toml`, PRELOAD)],
  ["a .bunfig.toml in the home", () => write(`${home}/.bunfig.toml`, PRELOAD)],
  ["a bunfig.toml above the kit", () => write(`${shm}/bunfig.toml`, PRELOAD)],
  ["BUN_OPTIONS", () => {}, { BUN_OPTIONS: `--preload=${evil}` }],
  ["BUN_INSPECT_PRELOAD", () => {}, { BUN_INSPECT_PRELOAD: evil }],
  ["NODE_OPTIONS", () => {}, { NODE_OPTIONS: `--require=${evil}` }],
  ["a tsconfig.json above the kit", () => write(`${shm}/tsconfig.json`, PATHS)],
  ["a jsconfig.json above the kit", () => write(`${shm}/jsconfig.json`, PATHS)],
];

test.each(SETTINGS)("bunw does not listen to %s", async (_, lay, env = {}) => {
  await layOut();
  await lay();
  expect(
    await bunw(ASSESS_FROM_ELSEWHERE, { cwd: elsewhere, env: { HOME: home, XDG_CONFIG_HOME: home, ...env } }),
  ).toEqual(worksAndNoMore);
});

test.each([
  [
    "a package.json where it is called from",
    () => write(`${elsewhere}/package.json`, `{ "scripts": { "scripts/00-assess.ts": "touch ${marker}" } }`),
  ],
  [
    "a script of that name where it is called from",
    () => write(`${elsewhere}/scripts/00-assess.ts`, `import "${evil}"`),
  ],
] as const)("scripts/… are the kit's, whatever folder it is called from, even with %s", async (_, lay) => {
  await layOut();
  lay();
  expect(await bunw(ASSESS, { cwd: elsewhere })).toEqual(worksAndNoMore);
});

test("bunw takes no proxy out of root's shell: the kit's requests go to the servers themselves", async () => {
  await layOut();
  const env = Object.fromEntries(
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"].map((name) => [name, "http://p:1"]),
  );
  const ask = `${home}/ask.ts`;
  write(ask, "console.log(Object.keys(process.env).filter((name) => /_proxy$/i.test(name)))");
  const { stdout } = await bunw([ask], { env });
  expect(stdout.trim()).toBe("[]");
});

test("bunw takes no variables out of an .env, wherever it lies", async () => {
  await layOut();
  for (const name of [".env", ".env.local", ".env.development"])
    write(`${elsewhere}/${name}`, "FROM_A_STRANGER=1\n");
  const ask = `${home}/ask.ts`;
  write(ask, "console.log(process.env.FROM_A_STRANGER)");
  const { stdout } = await bunw([ask], { cwd: elsewhere });
  expect(stdout).toBe("undefined\n");
});

test("the kit writes nothing into the home: the disk's free blocks may hold the lost keys", async () => {
  await layOut();
  expect(await bunw(ASSESS, { env: { HOME: home } })).toEqual(worksAndNoMore);
  expect(readdirSync(home)).toEqual([]);
});

const FOREIGN = `
  .env .env.local .npmrc evil.ts evil.js evil.mjs evil.cts evil.node bunfig.local.toml bun.lock bun.lockb jsconfig.json tsconfig.local.json
  scripts/evil.ts scripts/.env scripts/tsconfig.json shared/api/x test/x.ts node_modules/evil/index.js node_modules/zx/evil.json a-folder/token
  seen.d/x/y/z logs.d/evil.ts logs.d/.env token.d/w1/tsconfig.json
`;

test.each(FOREIGN.trim().split(/\s+/))(
  "bunw refuses a kit that has %s in it, which SHA256SUMS does not name",
  async (file) => {
    await layOut();
    write(join(kit, file));
    const { stderr, exitCode, stdout } = await bunw(ASSESS);
    expect(stderr).toMatch(/^error: .*SHA256SUMS does not name it\nhint: ls -ld .+\n$/);
    expect(stderr).toContain(`"${kit}/${file}"`);
    expect([exitCode, stdout]).toEqual([1, ""]);
  },
);

test("what an operator and Ansible put there is no reason to refuse", async () => {
  await layOut();
  const names =
    "token passphrase identity shared-keys.age tokens.txt old-sa.pub before.json ca.key kit.tar.gz";
  const inFolders = "token.d/w1/token seen.d/cp1.lab.example.json logs.d/w2.tar";
  for (const file of [...names.split(" "), ...inFolders.split(" "), "two words"]) write(join(kit, file));
  write(`${kit}/tmp/ansible-tmp-1/AnsiballZ_copy.py`);
  expect(await bunw(ASSESS)).toEqual(worksAndNoMore);
  expect(await bunw(ASSESS_FROM_ELSEWHERE, { cwd: elsewhere })).toEqual(worksAndNoMore);
});

const NOT_OURS: [what: string, change: () => unknown][] = [
  ["a folder that is a stranger's", () => chownSync(kit, STRANGER, STRANGER)],
  ["a folder that others may write to", () => chmodSync(kit, 0o777)],
  ["a folder that its group may write to", () => chmodSync(kit, 0o770)],
  ["SHA256SUMS of a stranger", () => chownSync(`${kit}/SHA256SUMS`, STRANGER, 0)],
  ["SHA256SUMS that others can write", () => chmodSync(`${kit}/SHA256SUMS`, 0o666)],
  ["scripts/ of a stranger", () => chownSync(`${kit}/scripts`, STRANGER, 0)],
  ["scripts/ that others may write to", () => chmodSync(`${kit}/scripts`, 0o777)],
  ["a file of a stranger in shared/", () => chownSync(`${kit}/shared/run.ts`, STRANGER, 0)],
  [
    "a file in a package that others can write",
    () => chmodSync(`${kit}/node_modules/zx/package.json`, 0o646),
  ],
  ["a link in place of a script", () => linkInstead(`${kit}/scripts/05-verify.ts`, evil)],
  ["a link in place of shared/", () => linkInstead(`${kit}/shared`, `${packed}/shared`)],
  ["a token of a stranger", () => $`touch ${kit}/token && chown ${STRANGER} ${kit}/token`],
  ["a stranger's empty folder", () => $`mkdir ${kit}/empty && chown ${STRANGER} ${kit}/empty`],
  ["a link in place of tmp", () => linkInstead(`${kit}/tmp`, elsewhere)],
  ["a folder above it that is a stranger's", () => chownSync(shm, STRANGER, STRANGER)],
  ["a folder above it that is open to all without the sticky bit", () => chmodSync(shm, 0o777)],
];

test.each(NOT_OURS)("bunw refuses %s", async (_, change) => {
  await layOut();
  await change();
  const { stderr, exitCode, stdout } = await bunw(ASSESS);
  expect(stderr).toMatch(
    /^error: "[^"]+" is somebody else's|^error: Others can put another folder in the place of "/,
  );
  expect(stderr).toMatch(/\nhint: .*RUNBOOK\.md.*\n$/);
  expect([exitCode, stdout]).toEqual([1, ""]);
});

test("bunw's one line makes all files of a kit root's that a user has unpacked, with its folders and links", async () => {
  await layOut();
  write(`${kit}/token`, "mine");
  await $`chown -hR ${STRANGER}:${STRANGER} ${kit} && chmod -R go+w ${kit}`;
  const { stderr, exitCode } = await bunw(ASSESS);
  expect([exitCode, stderr]).toEqual([1, expect.stringMatching(/^error: .* is somebody else's/)]);
  const line = /if you have unpacked this kit yourself: (.+?); somebody else's/.exec(stderr)![1]!;
  expect((await $`sh -c ${line}`.quiet()).exitCode).toBe(0);
  expect(await bunw(ASSESS)).toEqual(worksAndNoMore);
});

test("bunw refuses a kit that was unpacked through a stranger's link into his own folder", async () => {
  await layOut();
  const his = join(elsewhere, "his");
  mkdirSync(his);
  await $`mv ${kit} ${his}/kit`;
  symlinkSync(`${his}/kit`, kit);
  for (const path of [his, kit]) lchownSync(path, STRANGER, STRANGER);
  const { stderr, exitCode } = await bunw(ASSESS);
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining(`"${his}" is theirs`)]);
});

test("one who is not root needs a folder that is his own", async () => {
  await layOut();
  await $`chown -R ${STRANGER} ${place} && chmod 755 ${place} ${kit}`;
  const as = async (uid: number) => {
    const args = [`--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", `${kit}/bunw`, ...ASSESS];
    const { exitCode, stderr } = await $`setpriv ${args}`
      .cwd("/")
      .env({ PATH: "/usr/bin:/bin" })
      .nothrow()
      .quiet();
    return [exitCode, stderr.toString()];
  };
  const [own, foreign] = [await as(STRANGER), await as(STRANGER + 1)];
  await $`chown -R 0 ${place}`;
  expect(own).toEqual([0, ""]);
  expect(foreign).toEqual([1, expect.stringMatching(/^error: /)]);
});

test("a core file of what bunw starts has nothing of its memory: keys are in it", async () => {
  const { stdout } =
    await $`${join(import.meta.dir, "../../bunw")} -e ${"console.log(await Bun.file('/proc/self/coredump_filter').text())"}`.quiet();
  expect(stdout.toString().trim()).toBe("00000000");
});

test.each([[], ["help"], ["-h"], ["--help"]])(
  "bunw %s shows the kit's own list, and never Bun's help",
  async (...words) => {
    await layOut();
    const { stdout, exitCode } = await bunw(words, { cwd: elsewhere });
    expect(exitCode).toBe(0);
    expect(stdout).toStartWith("kube-pki-repair ");
    expect(stdout).toContain("Usage: ./bunw scripts/NAME.ts [options]");
  },
);

test.each(["plan", "install", "x", "plan.ts"])(
  "bunw %s runs no file of that name where it is called from, and no command of Bun's",
  async (word) => {
    await layOut();
    await write(`${elsewhere}/${word}`, `import "${evil}"`);
    const { stderr, exitCode } = await bunw([word], { cwd: elsewhere });
    expect({ exitCode, ran: existsSync(marker) }).toEqual({ exitCode: 64, ran: false });
    expect(stderr).toContain(`error: "${word}" is no script\n`);
  },
);

test.each(["scripts", "scripts/", "./scripts", "--jsn", "-e"])(
  "bunw %s is no script: a folder is none, and an option needs one before it",
  async (word) => {
    await layOut();
    const said = [await bunw([word], { cwd: kit }), await $`./bunw ${word}`.cwd(HOME).nothrow().quiet()];
    const [inKit, inCheckout] = said.map(({ exitCode, stderr }) => [exitCode, String(stderr).trim()]);
    const refused = [64, `error: "${word}" is no script\nhint: list all scripts: ./bunw --help`];
    expect(inKit).toEqual(refused);
    if (!word.startsWith("-")) expect(inCheckout).toEqual(refused);
  },
);

test("bunw --version names the kit's release", async () => {
  await layOut();
  expect((await bunw(["--version"])).stdout).toStartWith("kube-pki-repair ");
});
