/**
 * `npm run pack` in wrong hands: where nothing can be written, on a full disk, stopped halfway.
 * A former kit is never lost.
 */
import { afterAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  watch,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { $ } from "bun";
import { OWN_ARCH } from "../kit/own-arch.ts";
import { expectStop, NOBODY } from "../pretend/wrong-hands.ts";

/** Milliseconds. A tarball takes some seconds, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const HOME = join(import.meta.dir, "../..");
const CACHE =
  process.env.KUBE_PKI_REPAIR_CACHE ||
  join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "kube-pki-repair");
const folder = mkdtempSync(join(tmpdir(), "pack-wrong-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** A folder of its own for each test, that everybody may enter. */
const place = join(folder, "place");
const out = join(place, "kit.tar.gz");
const FORMER = "the former kit";
beforeEach(() => {
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place);
  for (const path of [folder, place]) chmodSync(path, 0o755);
});

/** Above the greatest number that Linux gives a process. */
const NO_PROCESS = 2 ** 22 + 1;

interface Start {
  as?: readonly string[];
  env?: Record<string, string>;
  args?: string[];
}

function start({ as = [], env = {}, args = ["--out", out] }: Start = {}) {
  return Bun.spawn(
    [...as, process.execPath, join(HOME, "tools/pack/pack-kit.ts"), "--arch", OWN_ARCH, ...args],
    {
      ...{
        cwd: place,
        env: { PATH: process.env.PATH!, PWD: place, KUBE_PKI_REPAIR_CACHE: CACHE, ...env },
        stdout: "pipe",
        stderr: "pipe",
      },
    },
  );
}

async function ended(child: ReturnType<typeof start>) {
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { exitCode: await child.exited, stdout, stderr };
}

const ELSEWHERE = /^name a place that you can write to: npm run pack -- --out /;

test.skipIf(process.getuid?.() !== 0)(
  "a normal user whose folder is another's is told before anything is fetched or compressed",
  async () => {
    const run = await ended(start({ as: NOBODY, env: { KUBE_PKI_REPAIR_CACHE: join(place, "cache") } }));
    expectStop(run, `Cannot write to ${place}: EACCES`, ELSEWHERE);
    expect(readdirSync(place)).toEqual([]);
  },
);

test.skipIf(process.getuid?.() !== 0)(
  "a normal user's cache that is another's is named, and how to have one",
  async () => {
    chownSync(place, 65534, 65534);
    const run = await ended(start({ as: NOBODY, env: { KUBE_PKI_REPAIR_CACHE: "/proc/cache" } }));
    expectStop(
      run,
      /^Cannot write \/proc\/cache\/nodes-bun-.*\.tgz: /,
      /KUBE_PKI_REPAIR_CACHE=FOLDER npm run pack/,
    );
  },
);

test.skipIf(process.getuid?.() !== 0)("a normal user packs as root does", async () => {
  chownSync(place, 65534, 65534);
  const run = await ended(start({ as: NOBODY, args: ["--out", join(place, "kit")] }));
  expect(run).toMatchObject({ exitCode: 0 });
  await $`sha256sum --quiet -c SHA256SUMS`.cwd(join(place, "kit"));
});

/** With a small file system, or one that can only be read, at the place. */
async function mounted(options: string, action: () => Promise<void>) {
  await $`mount -t tmpfs -o ${options} small ${place}`;
  try {
    await action();
  } finally {
    await $`umount ${place}`;
  }
}

test.skipIf(process.getuid?.() !== 0)(
  "where the file system can only be read it says so, and how to go elsewhere",
  () =>
    mounted("ro", async () => expectStop(await ended(start()), `Cannot write to ${place}: EROFS`, ELSEWHERE)),
);

test.skipIf(process.getuid?.() !== 0)(
  "a full disk keeps the former tarball, and nothing lies beside it",
  () =>
    mounted("size=20m", async () => {
      writeFileSync(out, FORMER);
      expectStop(await ended(start()), `Cannot write ${out}: ENOSPC`, /^make room there: df -h /);
      expect([readdirSync(place), readFileSync(out, "utf8")]).toEqual([["kit.tar.gz"], FORMER]);
    }),
);

test.skipIf(process.getuid?.() !== 0)(
  "a full disk leaves no folder that is half a kit, nor an empty one's mode",
  () =>
    mounted("size=20m", async () => {
      for (const name of ["new", "empty"]) {
        if (name === "empty") mkdirSync(join(place, name), { mode: 0o755 });
        expectStop(
          await ended(start({ args: ["--out", join(place, name)] })),
          `Cannot write ${join(place, name)}: ENOSPC`,
          /^make room/,
        );
      }
      expect(readdirSync(place, { recursive: true })).toEqual(["empty"]);
    }),
);

test.each(["SIGHUP", "SIGINT", "SIGTERM"] as const)(
  "%s while it packs: the former tarball stays, and nothing lies beside it",
  async (signal) => {
    writeFileSync(out, FORMER);
    const child = start();
    let stderr = "";
    for await (const piece of child.stderr) {
      stderr += Buffer.from(piece).toString();
      if (stderr.includes("compressing") && !stderr.includes("error:")) child.kill(signal);
    }
    expectStop(
      { exitCode: await child.exited, stdout: "", stderr },
      /^Stopped by /,
      /run the same line again/,
      130,
    );
    expect([readdirSync(place), readFileSync(out, "utf8")]).toEqual([["kit.tar.gz"], FORMER]);
  },
);

test("SIGTERM while npm fetches: nothing of it stays in the cache", async () => {
  const [bin, cache] = [join(place, "bin"), join(place, "cache")];
  mkdirSync(bin);
  writeFileSync(join(bin, "npm"), "#!/bin/sh\ntouch half.tgz\necho >$STARTED\nexec sleep 60\n", {
    mode: 0o755,
  });
  const started = join(place, "started");
  await $`mkfifo ${started}`;
  const child = start({
    env: { PATH: `${bin}:${process.env.PATH}`, KUBE_PKI_REPAIR_CACHE: cache, STARTED: started },
  });
  await $`cat ${started}`.quiet();
  child.kill("SIGTERM");
  expectStop(await ended(child), /^Stopped by SIGTERM/, /run the same line again/, 130);
  expect(readdirSync(cache, { recursive: true }).map(String)).toEqual([
    expect.stringMatching(/^nodes-bun-[\d.]+$/),
  ]);
});

test("SIGKILL while it writes: the former tarball stays or the new one is whole, and the next run clears up", async () => {
  writeFileSync(out, FORMER);
  const child = start();
  const watcher = watch(place, () => child.kill("SIGKILL"));
  await child.exited;
  watcher.close();
  writeFileSync(join(place, `.kit.tar.gz.${NO_PROCESS}.kube-pki-repair.partial`), "half a kit");
  if (readFileSync(out, "utf8") !== FORMER) await $`gzip -t ${out}`;
  expect(await ended(start())).toMatchObject({ exitCode: 0 });
  expect(readdirSync(place)).toEqual(["kit.tar.gz"]);
  await $`gzip -t ${out}`;
});

test("SIGKILL while it writes a folder: with SHA256SUMS it is whole, without it the next run continues there", async () => {
  const kit = join(place, "kit");
  mkdirSync(kit);
  const child = start({ args: ["--out", kit] });
  const watcher = watch(kit, () => child.kill("SIGKILL"));
  await child.exited;
  watcher.close();
  if (existsSync(join(kit, "SHA256SUMS"))) await $`sha256sum --quiet -c SHA256SUMS && rm -r *`.cwd(kit);
  mkdirSync(join(kit, `.kit.${NO_PROCESS}.kube-pki-repair.partial`));
  writeFileSync(join(kit, `.kit.${NO_PROCESS}.kube-pki-repair.partial/SHA256SUMS`), "");
  expect(await ended(start({ args: ["--out", kit] }))).toMatchObject({ exitCode: 0 });
  await $`sha256sum --quiet -c SHA256SUMS`.cwd(kit);
  expect(readdirSync(kit).filter((name) => name.startsWith("."))).toEqual([]);
});
