/**
 * The Debian packages a node needs on this machine. Only what is missing gets installed, and nothing it
 * brings is started.
 */
import { chmodSync, existsSync } from "node:fs";
import { copyFile, rm } from "node:fs/promises";
import { Fail } from "../../../shared/fail.ts";

/** A file that proves a package is there, and the package. */
export type Needed = readonly (readonly [file: string, debianPackage: string])[];

export const NODE_PACKAGES: Needed = [
  ["/usr/lib/systemd/systemd", "systemd"],
  ["/usr/sbin/ip", "iproute2"],
  ["/usr/sbin/runc", "runc"],
  ["/usr/lib/cni/bridge", "containernetworking-plugins"],
  ["/usr/sbin/iptables", "iptables"],
  ["/usr/sbin/nft", "nftables"],
  ["/usr/sbin/conntrack", "conntrack"],
  ["/usr/bin/socat", "socat"],
  ["/usr/sbin/ethtool", "ethtool"],
  ["/usr/bin/kmod", "kmod"],
  ["/usr/bin/busybox", "busybox-static"],
  ["/usr/bin/openssl", "openssl"],
  ["/usr/bin/nsenter", "util-linux"],
  ["/usr/bin/script", "bsdutils"],
  ["/usr/bin/age", "age"],
  ["/usr/sbin/mkfs.ext4", "e2fsprogs"],
  ["/usr/sbin/haproxy", "haproxy"],
];

const POLICY = "/usr/sbin/policy-rc.d";

/** Those of a node, or those that one check needs. */
export async function installPackages(needed: Needed = NODE_PACKAGES) {
  if (process.getuid?.() !== 0) throw needsRoot();
  if (missingPackages(needed).length > 0) await alone(() => install(needed));
}

export function needsRoot(): Fail {
  return new Fail("The lab needs root: it makes namespaces, mounts and cgroups", {
    hint: "sudo npm run rehearse, or sudo npm test",
  });
}

/** Checks that run at the same time install one after the other: the second may find all that it needs. */
async function alone(action: () => Promise<void>) {
  const holder = Bun.spawn(["flock", "/var/lib/dpkg", "sh", "-c", "echo held; exec cat"], {
    stdin: "pipe",
    stdout: "pipe",
  });
  await holder.stdout.getReader().read();
  try {
    await action();
  } finally {
    holder.stdin.end();
    await holder.exited;
  }
}

async function install(needed: Needed) {
  const missing = missingPackages(needed);
  if (missing.length === 0) return;
  console.error(`  installing ${missing.join(" ")}`);
  if (!Bun.which("apt-get")) failFor(missing, "apt-get is missing too");
  await withoutStartingServices(async () => {
    // A machine that never ran `apt-get update` knows no package; try without first, as an update needs the
    // mirror.
    if ((await apt(["install", ...missing])) !== "") {
      const update = await apt(["update"]);
      if (update !== "") failFor(missing, update);
      const install = await apt(["install", ...missing]);
      if (install !== "") failFor(missing, install);
    }
  });
  const still = missingPackages(needed);
  if (still.length > 0)
    failFor(still, "apt-get installed them, but their files are not where Debian 12 has them");
}

function missingPackages(needed: Needed) {
  return [
    ...new Set(
      needed
        .filter(([file]) => !existsSync(file) && !existsSync(file.replace("/usr", "")))
        .map(([, name]) => name),
    ),
  ];
}

function failFor(packages: string[], reason: string): never {
  throw new Fail(`Debian packages are missing: ${packages.join(", ")}: ${reason}`, {
    hint: `apt-get update && apt-get install ${packages.join(" ")}`,
  });
}

/** Runs apt-get; what went wrong as one line, or "". */
async function apt(args: string[]) {
  const proc = Bun.spawn(["apt-get", "-qq", "-y", "--no-install-recommends", ...args], {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    stdout: "ignore",
    stderr: "pipe",
  });
  const stderr = await new Response(proc.stderr).text();
  return (await proc.exited) === 0 ? "" : (stderr.trim().split("\n").at(-1) ?? "apt-get failed");
}

/**
 * Debian asks policy-rc.d before a package may start its service: 101 says no. What was there before comes
 * back afterwards.
 */
async function withoutStartingServices(action: () => Promise<void>) {
  const kept = `${POLICY}.kube-pki-repair-lab`;
  const hadOne = existsSync(POLICY) || existsSync(kept);
  // An interrupted run left the original under `kept`; it must not be overwritten by our own.
  if (existsSync(POLICY) && !existsSync(kept)) await copyFile(POLICY, kept);
  await Bun.write(POLICY, "#!/bin/sh\nexit 101\n");
  chmodSync(POLICY, 0o755);
  try {
    await action();
  } finally {
    if (hadOne) await copyFile(kept, POLICY);
    else await rm(POLICY);
    await rm(kept, { force: true });
  }
}
