/** What the lab's first command says first, on a machine that lacks what it needs. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A machine that lacks something: namespaces in which it is so. `$0` is an empty cache. */
const AS_ROOT = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"];
const NO_GO =
  "for go in $(command -v go) /usr/local/go/bin/go; do [ ! -e $go ] || mount -B /dev/null $go; done";
const NO_ROOM = 'mount -t tmpfs -o size=64m none "$0"';
const LACKS: [string, string[], RegExp][] = [
  ["root", ["unshare", "--user", "sh", "-c", 'exec "$@"'], /^error: The lab needs root:/],
  [
    "Go",
    [...AS_ROOT, `${NO_GO}; exec "$@"`],
    /^error: The lab's programs are compiled here, and go is missing/,
  ],
  ["room", [...AS_ROOT, `${NO_ROOM}; exec "$@"`], /^error: The lab needs 3 GB, and ".+" has 0\.1 GB free/],
];
const hasNamespaces = Bun.spawnSync([...AS_ROOT, "mount -t tmpfs none /mnt"], { stderr: "ignore" }).success;

test.skipIf(!hasNamespaces).each(LACKS)("without %s the first line says so", async (_, machine, first) => {
  const cache = mkdtempSync(join(tmpdir(), "no-cache-"));
  const rehearse = Bun.spawn(
    [...machine, cache, process.execPath, join(import.meta.dir, "../lab/rehearse.ts")],
    {
      env: { ...process.env, KUBE_PKI_REPAIR_CACHE: cache, KUBE_PKI_REPAIR_BIN: undefined },
      stdout: "pipe",
      stderr: "pipe",
    },
  );
  const said = await new Response(rehearse.stderr).text();
  expect(said.trimStart()).toMatch(first);
  expect(said).toContain("hint: ");
  expect(await rehearse.exited).toBe(1);
  rmSync(cache, { recursive: true });
});
