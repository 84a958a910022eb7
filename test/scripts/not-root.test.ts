/**
 * A user who forgot sudo, on a node whose /var/lib/kubelet and /etc/kubernetes are 0750: every script says what it may
 * not do and how to run it, and has no stack of a bug. The help is for everybody.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, globSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { healthyCp } from "../pretend/cluster.ts";
import { pretendNode } from "../pretend/node.ts";
import { WRITERS } from "../pretend/wrong-hands.ts";

/** Milliseconds. A script takes a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const HOME = join(import.meta.dir, "../..");
const USER = 65534;
const READERS = [
  "00-assess",
  "00-assess --output json",
  "00-assess --deep --no-disk",
  "05-verify",
  "05-verify --output json",
  "plan",
  "drill",
  "report x.html",
  "hand-over files",
  "renew-ca --dry-run",
  "move --dry-run",
  "words",
  "repair",
];
const FOLDERS = ["/var/lib/kubelet", "/etc/kubernetes"];

await healthyCp();
const isRoot = process.getuid?.() === 0;

/** The checkout and its Bun where this user may look: both may be in root's home. */
async function asUser(node: Awaited<ReturnType<typeof pretendNode>>, line: string) {
  const place = mkdtempSync(join(tmpdir(), "not-root-"));
  const [kit, bun] = [join(place, "kit"), join(place, "bun")];
  mkdirSync(kit);
  writeFileSync(bun, "");
  const opened = [tmpdir(), place, node.root, node.env.FAKE, ...node.env.PATH.split(":")];
  for (const path of opened.filter((path) => path.startsWith(tmpdir()) || path === node.root))
    chmodSync(path, 0o755);
  chmodSync(`${node.env.FAKE}/calls`, 0o666);
  const [script, ...args] = line.split(" ");
  const inNamespace = `mount --bind "$1" "$2"; mount --bind "$3" "$4"; cd "$2"; shift 4
    exec setpriv --reuid=${USER} --regid=${USER} --clear-groups env PATH="$NODES_PATH" "$@"`;
  const child = Bun.spawn(
    [
      ...[
        Bun.which("unshare")!,
        "--mount",
        "sh",
        "-euc",
        inNamespace,
        "sh",
        HOME,
        kit,
        process.execPath,
        bun,
      ],
      ...[bun, `${kit}/scripts/${script}.ts`, ...args],
    ],
    {
      env: {
        ...{ ...node.env, PATH: process.env.PATH!, NODES_PATH: node.env.PATH, PWD: kit },
        ...{ KUBE_PKI_REPAIR_ROOT: node.root, KUBE_PKI_REPAIR_PATIENCE: "0.0005" },
      },
      stdout: "pipe",
      stderr: "pipe",
    },
  );
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  rmSync(place, { recursive: true });
  return { stdout, stderr, exitCode };
}

/** As the folder has them: a new script is here by itself. */
const SCRIPTS = globSync("scripts/*.ts", { cwd: HOME }).map((path) => basename(path, ".ts"));

test("each script of the folder is typed by a user who is not root", () => {
  expect([...new Set([...READERS, ...WRITERS].map((line) => line.split(" ")[0]!))].sort()).toEqual(
    SCRIPTS.sort(),
  );
});

describe.skipIf(!isRoot)("who is not root", () => {
  test.each([...READERS, ...WRITERS])("%s: a sentence and a hint, no stack", async (line) => {
    using node = await pretendNode({ kind: "healthy control plane node" });
    for (const folder of FOLDERS) chmodSync(node.root + folder, 0o750);
    const { exitCode, stderr, stdout } = await asUser(node, line);
    const said = { line, exitCode, stderr, stdout };
    expect(said).toEqual({ ...said, stderr: expect.not.stringMatching(/^\s+at .*\d:\d+|^\d+ \| /m) });
    if (exitCode === 0 && stderr === "") return;
    expect(said).toEqual({ ...said, stderr: expect.stringMatching(/(^|\n)error: .+\nhint: [a-z]+ .+/) });
  });

  test.each([...new Set([...READERS, ...WRITERS].map((line) => line.split(" ")[0]!))])(
    "%s --help",
    async (script) => {
      using node = await pretendNode({ kind: "healthy control plane node" });
      for (const folder of FOLDERS) chmodSync(node.root + folder, 0o750);
      const { exitCode, stderr, stdout } = await asUser(node, `${script} --help`);
      expect([exitCode, stderr, stdout.slice(0, 6)]).toEqual([0, "", "Usage:"]);
    },
  );
});
