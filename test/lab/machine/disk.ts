/**
 * A node's disk: a directory with an /etc of its own. /usr is this machine's, mounted below; see
 * node-root.sh.
 */
import { randomBytes } from "node:crypto";
import { existsSync, globSync } from "node:fs";
import { chmod, copyFile, cp, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { release } from "node:os";
import { basename, join } from "node:path";
import { familyOf } from "./families.ts";
import { CONTAINERD } from "./pins.ts";
import { sh } from "./shell.ts";
import { LAB, record } from "./state.ts";

/** The part of this machine's /etc that programs need to run; nothing of its users. */
const FROM_OUR_ETC = [
  "alternatives",
  "bash.bashrc",
  "ca-certificates.conf",
  "debian_version",
  "default/nss",
  "ethertypes",
  "group",
  "iptables",
  "java-17-openjdk",
  "ld.so.cache",
  "ld.so.conf",
  "ld.so.conf.d",
  "localtime",
  "login.defs",
  "nsswitch.conf",
  "os-release",
  "pam.d",
  "passwd",
  "profile",
  "protocols",
  "rpc",
  "security",
  "services",
  "shells",
  "ssl/certs",
  "ssl/openssl.cnf",
];

const KEPT_UNITS = ["systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket"];

/** `podSubnets`: where pods hang on a bridge, their addresses, of each family. */
export type DiskSpec = {
  hostName: string;
  hosts: readonly string[];
  podSubnets?: readonly string[];
  pauseImage: string;
};

/** Makes the disk of node `name`; returns its directory. */
export async function makeDisk(name: string, spec: DiskSpec): Promise<string> {
  const disk = join(LAB, "nodes", name);
  const root = join(disk, "root");
  const directories = [
    "usr",
    "etc",
    "var/lib",
    "var/log/journal",
    "var/tmp",
    "var/cache",
    "root",
    "run",
    "tmp",
    "proc",
    "sys",
    "dev",
    "opt",
  ];
  for (const dir of [...directories, "mnt", "srv", "home"]) await mkdir(join(root, dir), { recursive: true });
  for (const dir of ["usr", "usr.work"]) await mkdir(join(disk, dir), { recursive: true });
  for (const link of ["bin", "sbin", "lib", "lib64"]) await symlink(`usr/${link}`, join(root, link));
  await symlink("/run", join(root, "var/run"));
  await symlink("/run/lock", join(root, "var/lock"));
  for (const dir of ["tmp", "var/tmp"]) await chmod(join(root, dir), 0o1777);
  await chmod(join(root, "root"), 0o700);
  await fillEtc(join(root, "etc"), spec);
  await giveKernelConfig(join(root, "boot"));
  await maskUnits(join(root, "etc/systemd/system"));
  return disk;
}

/** kubeadm reads it before it creates a cluster, where there is no /proc/config.gz. */
async function giveKernelConfig(boot: string) {
  const config = `config-${release()}`;
  await mkdir(boot);
  if (existsSync(join("/boot", config))) await copyFile(join("/boot", config), join(boot, config));
}

/**
 * Puts a folder of a node that is off on a file system of its own, in an image: deleted files are then in its
 * free blocks.
 */
export async function giveOwnDisk(name: string, folder: string, { megabytes }: { megabytes: number }) {
  const [image, place] = [
    join(LAB, "nodes", name, `${basename(folder)}.img`),
    join(LAB, "nodes", name, "root", folder),
  ];
  await sh(["truncate", "-s", `${megabytes}M`, image]);
  await sh(["mkfs.ext4", "-q", "-F", image]);
  await mkdir(place, { recursive: true });
  record((state) => state.mounts.push(place));
  await sh(["mount", "-o", "loop", image, place]);
  // kubeadm wants the folder empty.
  await rm(join(place, "lost+found"), { recursive: true });
}

async function fillEtc(etc: string, spec: DiskSpec) {
  for (const path of FROM_OUR_ETC) {
    if (!existsSync(join("/etc", path))) continue;
    await cp(join("/etc", path), join(etc, path), {
      recursive: true,
      verbatimSymlinks: true,
      preserveTimestamps: true,
    });
  }
  await cp(join(import.meta.dir, "node-etc"), etc, { recursive: true });
  const config = await readFile(
    join(etc, "containerd", CONTAINERD.startsWith("v1.") ? "config-1.toml" : "config.toml"),
    "utf8",
  );
  await writeFile(join(etc, "containerd/config.toml"), config.replace("@PAUSE_IMAGE@", spec.pauseImage));
  await writeFile(join(etc, "hostname"), `${spec.hostName}\n`);
  await writeFile(join(etc, "machine-id"), `${randomBytes(16).toString("hex")}\n`);
  await writeFile(join(etc, "hosts"), ["127.0.0.1 localhost", "::1 localhost", ...spec.hosts, ""].join("\n"));
  await writeFile(join(etc, "fstab"), "");
  // Nobody answers there. With 127.0.0.1 CoreDNS would stop because of a forwarding loop.
  await writeFile(join(etc, "resolv.conf"), "nameserver 10.250.0.254\n");
  await writeFile(join(etc, "shadow"), "root:*:20000:0:99999:7:::\n", { mode: 0o600 });
  await mkdir(join(etc, "cni/net.d"), { recursive: true });
  if (spec.podSubnets)
    await writeFile(join(etc, "cni/net.d/10-lab.conflist"), JSON.stringify(bridge(spec.podSubnets), null, 2));
}

/**
 * Pods of one node hang on a bridge; host-local hands out addresses. /run forgets them when the node loses
 * power, as it should.
 */
function bridge(subnets: readonly string[]) {
  const ipam = {
    type: "host-local",
    ranges: subnets.map((subnet) => [{ subnet }]),
    routes: subnets.map((subnet) => ({ dst: familyOf(subnet) === 4 ? "0.0.0.0/0" : "::/0" })),
    dataDir: "/run/cni-ipam",
  };
  return {
    cniVersion: "1.0.0",
    name: "lab",
    plugins: [
      { type: "bridge", bridge: "cni0", isGateway: true, ipMasq: false, hairpinMode: true, ipam },
      { type: "portmap", capabilities: { portMappings: true } },
    ],
  };
}

/** A node needs a journal, containerd and a kubelet. All other units of this machine's systemd are masked. */
async function maskUnits(units: string) {
  const started = globSync("/usr/lib/systemd/system/*.target.wants/*").map((path) => basename(path));
  for (const unit of new Set(started))
    if (!KEPT_UNITS.includes(unit)) await symlink("/dev/null", join(units, unit));
  await mkdir(join(units, "multi-user.target.wants"));
  for (const unit of ["containerd.service", "kubelet.service"])
    await symlink(`/etc/systemd/system/${unit}`, join(units, "multi-user.target.wants", unit));
}

/** Bun for what the lab itself runs in a node: the kit's own is the operator's, who may take it away. */
export const LAB_BUN = "lab-bun";

/**
 * Puts the programs a node has in /usr/local/bin into one folder, by hard link where the file system allows.
 */
export async function collectPrograms(
  programs: Map<string, string>,
  names: readonly string[],
): Promise<string> {
  const bin = join(LAB, "bin");
  await mkdir(bin, { recursive: true });
  for (const name of names) {
    await copyFile(programs.get(name)!, join(bin, name));
    await chmod(join(bin, name), 0o755);
  }
  await copyFile(process.execPath, join(bin, LAB_BUN));
  return bin;
}
