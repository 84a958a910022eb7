#!/usr/bin/env bun
/**
 * The kits on machines that this one is not: arm64 and x86-64 without AVX2 by emulation, and a node whose
 * programs are a busybox's. Each shows the help of 00-assess and issues a CA and a certificate with the kit's
 * own code, which openssl verifies. A machine with musl is not to be had: what Bun needs there beside it,
 * libstdc++ for musl, is no Debian package; which Bun is taken there is tested in
 * test/soak/bunw-machines.test.ts.
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../../shared/run.ts";
import { KIT_FOLDER, packFolder, packTarball, UNPACK } from "../../../tools/pack/pack-kit.ts";
import type { Arch } from "../../../tools/pack/write-kit.ts";
import { OWN_ARCH } from "../../kit/own-arch.ts";
import { hardenedHost } from "../../pretend/mounts.ts";
import { installPackages, type Needed } from "../machine/packages.ts";

const PACKAGES: Needed = [
  ["/usr/bin/qemu-aarch64", "qemu-user"],
  ["/usr/aarch64-linux-gnu/lib/libc.so.6", "libc6-arm64-cross"],
  ["/usr/bin/busybox", "busybox-static"],
  ["/usr/bin/openssl", "openssl"],
  ["/usr/bin/nsenter", "util-linux"],
];

interface Emulated {
  name: string;
  arch: Arch;
  /**
   * What stands before the kit's Bun. Nehalem is the oldest processor that the build is for: it has SSE4.2
   * and no AVX.
   */
  by: string[];
}

const EMULATED: Emulated[] = [
  { name: "arm64", arch: "arm64", by: ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"] },
  { name: "x86-64 without AVX2", arch: "x64", by: ["qemu-x86_64", "-cpu", "Nehalem"] },
];

let failures = 0;

async function main() {
  await installPackages(PACKAGES);
  const folder = mkdtempSync(join(tmpdir(), "kits-"));
  try {
    const kit = join(folder, "kit");
    await packFolder(kit, ["x64", "arm64"]);
    for (const machine of EMULATED) await checkEmulated(folder, kit, machine);
    await checkBusybox(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
  process.exitCode = failures === 0 ? 0 : 1;
}

/** In the kit's own words, so that it is the kit's packages that are run. */
const issuing = (kit: string) => `import { CERTS } from "${kit}/shared/pki/certs.ts";
import { issueCa, issueLeaf } from "${kit}/shared/pki/issue.ts";
const facts = { nodeName: "m1", advertiseAddress: "10.250.99.1", bindPort: 6443, controlPlaneEndpoint: "api.example:6443",
  serviceSubnets: ["10.97.0.0/16"], dnsDomain: "cluster.local", certSANs: [], etcdServerCertSANs: [], etcdPeerCertSANs: [],
  kubernetesVersion: "v1.34.4", clusterName: "kubernetes", keyAlgorithm: "RSA-2048", certificateValidityHours: 8760,
  caValidityHours: 87600, certificatesDir: "/etc/kubernetes/pki" };
const row = (name) => CERTS.find((cert) => cert.name === name);
const ca = await issueCa(row("ca"), facts);
const leaf = await issueLeaf(row("apiserver"), ca, facts);
console.log(JSON.stringify({ arch: process.arch, ca: ca.cert, leaf: leaf.cert }));
`;

async function checkEmulated(folder: string, kit: string, { name, arch, by }: Emulated) {
  const bun = [...by, join(kit, "bun", arch)];
  const began = Date.now();
  const help = await told([...bun, "scripts/00-assess.ts", "--help"], kit);
  check(`${name}: 00-assess --help`, help.exitCode === 0 && help.stdout.startsWith("Usage:"), help.stderr);
  writeFileSync(join(folder, "issue.ts"), issuing(kit));
  const issued = await told([...bun, join(folder, "issue.ts")], kit);
  check(`${name}: a CA and a certificate are issued`, issued.exitCode === 0, issued.stderr);
  if (issued.exitCode !== 0) return;
  const { ca, leaf, arch: own } = JSON.parse(issued.stdout) as { ca: string; leaf: string; arch: string };
  check(`${name}: it was that machine's Bun`, own === arch, own);
  for (const [file, pem] of Object.entries({ "ca.crt": ca, "leaf.crt": leaf }))
    writeFileSync(join(folder, file), pem);
  const verified = await told(
    ["openssl", "verify", "-purpose", "sslserver", "-CAfile", "ca.crt", "leaf.crt"],
    folder,
  );
  check(`${name}: openssl verifies it`, verified.stdout === "leaf.crt: OK\n", verified.stderr);
  console.log(`  ${name}: ${((Date.now() - began) / 1000).toFixed(1)} s`);
}

/** The runbook's line and bunw, with no other programs than a busybox has, on a host whose /run is noexec. */
async function checkBusybox(folder: string) {
  await packTarball(join(folder, "kit.tar.gz"), [OWN_ARCH]);
  await using host = await hardenedHost();
  const bin = join(folder, "bin");
  mkdirSync(bin);
  const busybox = (await told(["readlink", "-f", "/usr/bin/busybox"], "/")).stdout.trim() || "/bin/busybox";
  for (const name of (await told([busybox, "--list"], "/")).stdout.trim().split("\n")) {
    writeFileSync(join(bin, name), `#!${busybox} sh\nexec ${busybox} ${name} "$@"\n`);
    chmodSync(join(bin, name), 0o755);
  }
  const type = (line: string) =>
    host.type(`exec ${busybox} sh "$LINE"`, {
      stdin: join(folder, "kit.tar.gz"),
      env: { PATH: bin, LINE: lineIn(folder, line) },
    });
  const unpacked = await type(UNPACK);
  check(
    "a busybox's programs: the runbook's line unpacks the kit and says nothing",
    unpacked.exitCode + unpacked.said === "0",
    unpacked.said,
  );
  const help = await type(`cd ${KIT_FOLDER} && ${busybox} sh ./bunw scripts/00-assess.ts --help`);
  check(
    "a busybox's programs: bunw looks at the kit and starts it",
    help.exitCode === 0 && help.said.startsWith("Usage:"),
    help.said,
  );
}

function lineIn(folder: string, line: string): string {
  writeFileSync(join(folder, "line.sh"), line);
  return join(folder, "line.sh");
}

/** Nothing from outside steers that Bun, as in bunw; its cache would be on the disk. */
async function told(command: string[], cwd: string) {
  const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", BUN_RUNTIME_TRANSPILER_CACHE_PATH: "0" };
  const child = Bun.spawn(command, { cwd, env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { stdout, stderr, exitCode: await child.exited };
}

function check(name: string, ok: boolean, detail: string) {
  if (!ok) failures++;
  console.log(`${ok ? "ok" : "not ok"}: ${name}`);
  if (!ok) console.error(detail);
}

if (import.meta.main) await run(main);
