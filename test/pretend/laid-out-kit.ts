/**
 * A packed kit in a place where everybody may write, as /dev/shm is, and a stranger. His code, where it runs,
 * leaves a marker.
 */
import { afterAll, beforeAll, beforeEach, expect } from "bun:test";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { $ } from "bun";
import { packFolder } from "../../tools/pack/pack-kit.ts";
import { OWN_ARCH } from "../kit/own-arch.ts";

export const STRANGER = 12345;
export const place = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "kit-folder-test-"));
/** Anybody may look into it, and it is to be seen on a host with a /dev/shm of its own. */
const bunPlace = mkdtempSync(join(tmpdir(), "kit-bun-"));
chmodSync(bunPlace, 0o755);
export const packed = join(place, "packed");
export const tarball = join(place, "kit.tar.gz");
export const evil = join(place, "evil.ts");
export const marker = join(place, "marker");
/** It stands for /dev/shm. */
export const shm = join(place, "shm");
export const kit = join(shm, "kube-pki-repair");
export const elsewhere = join(place, "elsewhere");
export const home = join(place, "home");

export const PRELOAD = `preload = ["${evil}"]\n`;
export const ASSESS = ["scripts/00-assess.ts", "--help"];

/** For a test file: a packed kit for all of it, and before each test nothing is laid out yet. */
export function withKit() {
  beforeAll(pack);
  beforeEach(clear);
  afterAll(() => {
    for (const folder of [place, bunPlace]) rmSync(folder, { recursive: true });
  });
}

async function pack() {
  await packFolder(packed, [OWN_ARCH]);
  // Bun's hundred megabytes would be copied seventy times.
  const bun = `bun/${OWN_ARCH}`;
  cpSync(join(packed, bun), `${bunPlace}/bun`);
  writeFileSync(join(packed, bun), `#!/bin/sh\nexec ${bunPlace}/bun "$@"\n`, { mode: 0o755 });
  await $`sed -i '/  bun.${OWN_ARCH}$/d' SHA256SUMS && sha256sum ${bun} >> SHA256SUMS && tar -czf ${tarball} .`.cwd(
    packed,
  );
  writeFileSync(evil, `await Bun.write("${marker}", "a stranger's code has run");\n`);
}

function clear() {
  for (const path of [shm, elsewhere, home, marker]) rmSync(path, { recursive: true, force: true });
  for (const folder of [shm, elsewhere, home]) mkdirSync(folder);
  chmodSync(shm, 0o1777);
}

/** The kit as it is after its unpacking. */
export const layOut = () => $`cp -a ${packed} ${kit}`;

export async function bunw(args: string[], options: { cwd?: string; env?: Record<string, string> } = {}) {
  const { cwd = kit, env = {} } = options;
  const child = Bun.spawn([`${kit}/bunw`, ...args], {
    cwd,
    env: { PATH: "/usr/bin:/bin", ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, exitCode] = [
    await new Response(child.stdout).text(),
    await new Response(child.stderr).text(),
    await child.exited,
  ];
  return { stdout, stderr, exitCode, ran: existsSync(marker) };
}

export const worksAndNoMore = {
  stdout: expect.stringMatching(/^Usage:/),
  stderr: "",
  exitCode: 0,
  ran: false,
};

export function write(path: string, text = "") {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

export function linkInstead(path: string, target: string) {
  rmSync(path, { recursive: true, force: true });
  symlinkSync(target, path);
}
