/**
 * The line of RUNBOOK.md that makes the kit's folder, on a host whose /run and /dev/shm are mounted noexec,
 * and where somebody may have been before.
 */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { $ } from "bun";
import { KIT_FOLDER, UNPACK } from "../../tools/pack/pack-kit.ts";
import { linkInstead, PRELOAD, STRANGER, tarball, withKit, write } from "../pretend/laid-out-kit.ts";
import { hardenedHost, type Said } from "../pretend/mounts.ts";

withKit();

let host: Awaited<ReturnType<typeof hardenedHost>>;
beforeEach(async () => {
  host = await hardenedHost();
});
afterEach(() => host[Symbol.asyncDispose]());

const RUNBOOK = readFileSync(join(import.meta.dir, "../../RUNBOOK.md"), "utf8");
const LINE = RUNBOOK.match(/^ssh root@NODE '([^']+)'/m)![1]!;
const CLEAN_UP = RUNBOOK.match(/^.*umount .*$/m)?.[0].replace(/ +#.*/, "") ?? "false";
const ASSESS = `cd ${KIT_FOLDER} && ./bunw scripts/00-assess.ts --help`;
const works: Said = { exitCode: 0, said: expect.stringMatching(/^Usage:/) };
const silent: Said = { exitCode: 0, said: "" };

const unpack = (line = LINE) => host.type(line, { stdin: tarball });
/** The kit's folder, as this process sees it. */
const folder = (path = "") => host.path(join(KIT_FOLDER, path));
const mounts = async () => (await host.type(`grep " ${KIT_FOLDER} " /proc/mounts`)).said;

test("these tests are root's, as the kit is: they mount, and give files away", () => {
  expect(process.getuid?.()).toBe(0);
});

test("on such a host nothing runs in /run and /dev/shm themselves", async () => {
  for (const place of ["/run", "/dev/shm"]) {
    const { exitCode, said } = await host.type(`cp /bin/true ${place}/true && ${place}/true`);
    expect([exitCode, said]).toEqual([126, expect.stringContaining("Permission denied")]);
  }
});

test("RUNBOOK.md's line mounts memory of the kit's own, with mode 0700, says nothing, and the kit runs there", async () => {
  expect(await unpack()).toEqual(silent);
  const { uid, mode } = statSync(folder());
  expect([uid, mode & 0o7777]).toEqual([0, 0o700]);
  expect(await mounts()).toMatch(/^tmpfs \S+ tmpfs rw,nosuid,nodev,relatime,size=\d+k,mode=700\S* 0 0\n$/);
  expect(await host.type(ASSESS)).toEqual(works);
});

test("RUNBOOK.md's line writes no block of a disk: what it makes is in memory, before the mount and after it", async () => {
  await unpack();
  for (const path of ["/run", KIT_FOLDER, `${KIT_FOLDER}/bunw`])
    expect((await host.type(`stat -f -c %T ${path}`)).said).toBe("tmpfs\n");
});

test("RUNBOOK.md's line may be repeated: the operator's files stay, what an older kit had more is gone", async () => {
  await unpack();
  write(folder("token"), "mine");
  for (const file of ["scripts/of-an-older-kit.ts", "bun/of-an-older-kit"]) write(folder(file));
  expect(await unpack()).toEqual(silent);
  expect((await mounts()).trim().split("\n")).toHaveLength(1);
  expect(readFileSync(folder("token"), "utf8")).toBe("mine");
  for (const file of ["scripts/of-an-older-kit.ts", "bun/of-an-older-kit"])
    expect(existsSync(folder(file))).toBe(false);
  expect(await host.type(ASSESS)).toEqual(works);
});

test("clean up leaves neither mount nor folder, and the kit can be brought again", async () => {
  await unpack();
  expect(await host.type(`cd ${KIT_FOLDER}; ${CLEAN_UP}`)).toEqual(silent);
  expect([await mounts(), existsSync(folder())]).toEqual(["", false]);
  expect(await unpack()).toEqual(silent);
});

test("where the folder was left and its mount is gone, it is mounted anew", async () => {
  mkdirSync(folder(), { mode: 0o700 });
  expect(await unpack()).toEqual(silent);
  expect(await host.type(ASSESS)).toEqual(works);
});

test("a tarball that was changed or cut off is shown, and is an error", async () => {
  const cut = join(host.path("/dev/shm"), "cut.tar.gz");
  await $`head -c 100000 ${tarball} > ${cut}`;
  expect(await host.type(LINE, { stdin: cut })).toEqual({
    exitCode: 2,
    said: expect.stringContaining("gzip"),
  });
  const other = host.path("/dev/shm/other");
  await $`mkdir ${other} && tar -C ${other} -xzf ${tarball} && echo >> ${other}/scripts/00-assess.ts && tar -C ${other} -czf ${cut} .`;
  const { exitCode, said } = await host.type(LINE, { stdin: cut });
  expect([exitCode, said]).toEqual([1, expect.stringMatching(/^scripts\/00-assess\.ts: FAILED\n/)]);
});

const LAID_OUT: [what: string, lay: () => unknown][] = [
  ["a stranger's folder", () => folderOf(STRANGER, 0o755)],
  ["a stranger's folder, closed like ours", () => folderOf(STRANGER, 0o700)],
  ["a stranger's folder that is open to all", () => folderOf(STRANGER, 0o777)],
  ["root's folder that is open to all", () => folderOf(0, 0o777)],
  ["root's folder as mkdir makes it", () => folderOf(0, 0o755)],
  ["a stranger's memory, mounted there", () => strangersMount()],
  ["a link to a stranger's folder", () => linkInstead(folder(), folderOf(STRANGER, 0o700, "/dev/shm/x"))],
  ["a link to a folder of root's", () => linkInstead(folder(), folderOf(0, 0o700, "/dev/shm/x"))],
  ["a link to nowhere", () => linkInstead(folder(), "/dev/shm/nowhere")],
  ["a file", () => write(folder())],
  ["a pipe", () => $`mkfifo -m 700 ${folder()}`],
];

/** The path on that machine. */
function folderOf(uid: number, mode: number, path = KIT_FOLDER) {
  write(host.path(`${path}/bunfig.toml`), PRELOAD);
  write(host.path(`${path}/.env`), "FROM_A_STRANGER=1\n");
  chmodSync(host.path(path), mode);
  chownSync(host.path(path), uid, uid);
  return path;
}

async function strangersMount() {
  mkdirSync(folder(), { mode: 0o700 });
  await host.type(`mount -t tmpfs -o mode=700,uid=${STRANGER} tmpfs ${KIT_FOLDER}`);
}

test.each(LAID_OUT)("RUNBOOK.md's line refuses %s, shows it, and puts nothing there", async (_, lay) => {
  await lay();
  const before = await mounts();
  const { exitCode, said } = await unpack();
  expect([exitCode, said]).toEqual([1, expect.stringContaining(KIT_FOLDER)]);
  expect(await mounts()).toBe(before);
  for (const path of [KIT_FOLDER, "/dev/shm/x"]) expect(existsSync(host.path(`${path}/bunw`))).toBe(false);
});

test("a kit in a user's home, which root runs: bunw's line brings all of it to root, and it runs", async () => {
  const home = "/dev/shm/home";
  mkdirSync(host.path(`${home}/kit`), { recursive: true });
  await host.type(`cd ${home}/kit && tar -xzf - && chmod -R go+w . && chown -R ${STRANGER} ${home}`, {
    stdin: tarball,
  });
  const { exitCode, said } = await host.type(`sh ${home}/kit/bunw scripts/00-assess.ts --help`);
  expect([exitCode, said]).toEqual([1, expect.stringContaining(`as "${home}" is theirs`)]);
  const line = /If you have unpacked this kit yourself: (.+)/.exec(said)![1]!;
  expect(await host.type(`${line} scripts/00-assess.ts --help`)).toEqual(works);
});

test("where nothing can be mounted, nothing is unpacked", async () => {
  const { exitCode, said } = await unpack(LINE.replace("-t tmpfs", "-t no-such-memory"));
  expect([exitCode, said]).toEqual([1, expect.stringMatching(/^mount: /)]);
  expect(readdirSync(folder())).toEqual([]);
});

test("the line of RUNBOOK.md is the kit's own", () => {
  expect(LINE).toBe(UNPACK);
});

const SH = "sh ./bunw scripts/00-assess.ts --help";

test.each([
  ["somewhere else", "/dev/shm/kit"],
  ["in the kit's folder, with nothing mounted there", KIT_FOLDER],
])(
  "a kit that was unpacked %s, where no program may run: bunw says so, and its hint is the way out",
  async (_, place) => {
    await host.type(`mkdir -m 700 ${place} && tar -C ${place} -xzf -`, { stdin: tarball });
    expect((await host.type(`cd ${place} && ./bunw`)).exitCode).toBe(126);
    const { exitCode, said } = await host.type(`cd ${place} && ${SH}`);
    const [error, hint] = said.split("\n");
    expect([exitCode, error]).toEqual([1, `error: No program may run in "${place}": it is mounted noexec`]);
    expect(
      await host.type(`cd ${place}; ${hint!.replace(/^hint: /, "")} scripts/00-assess.ts --help`),
    ).toEqual(works);
    expect(statSync(folder()).mode & 0o7777).toBe(0o700);
  },
);

test("a mount of the kit's own that was made noexec is made executable by bunw's hint", async () => {
  await unpack();
  await host.type(`mount -o remount,noexec ${KIT_FOLDER}`);
  const { said } = await host.type(`cd ${KIT_FOLDER} && ${SH}`);
  expect(said).toBe(
    `error: No program may run in "${KIT_FOLDER}": it is mounted noexec\nhint: mount -o remount,exec ${KIT_FOLDER} && cd ${KIT_FOLDER} && ./bunw\n`,
  );
  expect(await host.type(`${said.split("hint: ")[1]!.trim()} scripts/00-assess.ts --help`)).toEqual(works);
});
