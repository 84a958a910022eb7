/**
 * The container images, made from our binaries under the names that kubeadm asks for, and imported once. The
 * cache keeps containerd's directory, which becomes part of each new node's disk.
 */
import { createHash } from "node:crypto";
import { existsSync, globSync } from "node:fs";
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { CACHE, cached } from "./go-build.ts";
import type { Node } from "./node.ts";
import { CONTAINERD, KUBERNETES } from "./pins.ts";
import type { AddOn } from "./profile.ts";
import { sh } from "./shell.ts";

export interface Image {
  name: string;
  /** Place in the image → file of this machine. */
  files: Record<string, string>;
  /** More names for these files: link → place. */
  links?: Record<string, string>;
  entrypoint?: string[];
  /** Its UID, where it is not root. */
  user?: string;
  /** Folders at the top where everybody may write. */
  folders?: string[];
}

export const LAB_IMAGE = "lab/workload:1";
export const KMS_IMAGE = "lab/kms-plugin:1";
const METRICS_SERVER_IMAGE = "lab/metrics-server:1";

export async function imageNames(kubeadm: string): Promise<string[]> {
  return (await sh([kubeadm, "config", "images", "list", "--kubernetes-version", KUBERNETES]))
    .trim()
    .split("\n");
}

export function pauseImage(names: string[]) {
  return names.find((name) => name.includes("/pause:"))!;
}

async function images(programs: Map<string, string>): Promise<Image[]> {
  const names = await imageNames(programs.get("kubeadm")!);
  const kubernetes = await Promise.all(names.map(async (name) => await imageOf(name, programs)));
  const shell = shellOf(["sh", "cat", "ls", "sleep", "wget", "nslookup", "ps", "date"]);
  const workload = {
    name: LAB_IMAGE,
    files: { "/workload": programs.get("workload")!, ...shell.files },
    links: shell.links,
  };
  const metricsServer = {
    name: METRICS_SERVER_IMAGE,
    files: { "/metrics-server": programs.get("metrics-server")! },
    entrypoint: ["/metrics-server"],
  };
  const kmsPlugin = {
    name: KMS_IMAGE,
    files: { "/kmsplugin": programs.get("kmsplugin")! },
    entrypoint: ["/kmsplugin"],
  };
  return [...kubernetes, { ...workload, entrypoint: ["/workload"] }, metricsServer, kmsPlugin];
}

async function imageOf(name: string, programs: Map<string, string>): Promise<Image> {
  const program = basename(name).split(":")[0]!;
  const path = programs.get(program)!;
  if (program === "pause" || program === "coredns")
    return { name, files: { [`/${program}`]: path }, entrypoint: [`/${program}`] };
  const image: Image = { name, files: { [`/usr/local/bin/${program}`]: path } };
  if (program === "etcd") image.files["/usr/local/bin/etcdget"] = programs.get("etcdget")!;
  if (program === "kube-proxy") await addIptables(image);
  return image;
}

/** kube-proxy writes its rules with iptables: its programs, its plugins and every library they load. */
async function addIptables(image: Image) {
  const tool = "/usr/sbin/xtables-nft-multi";
  Object.assign(
    image.files,
    await withLibraries([tool, "/usr/sbin/conntrack", ...globSync("/usr/lib/*/xtables/*.so")]),
  );
  const names = ["iptables", "ip6tables"].flatMap((name) => [name, `${name}-save`, `${name}-restore`]);
  image.links = Object.fromEntries(names.map((name) => [`/usr/sbin/${name}`, tool]));
}

/** These programs of this machine and every library they load, at the same places. */
export async function withLibraries(programs: readonly string[]): Promise<Record<string, string>> {
  const files = Object.fromEntries(programs.map((file) => [file, file]));
  for (const line of (await sh(["ldd", ...programs])).split("\n")) {
    const library = /(?:=> |^\s+)(\/\S+) \(0x/.exec(line)?.[1];
    if (library) files[`/usr${library.replace(/^\/usr/, "")}`] = library;
  }
  return files;
}

/** These programs, by busybox. */
export function shellOf(programs: readonly string[]): Required<Pick<Image, "files" | "links">> {
  return {
    files: { "/bin/busybox": "/usr/bin/busybox" },
    links: Object.fromEntries(programs.map((name) => [`/bin/${name}`, "/bin/busybox"])),
  };
}

/** The containerd directory with all images in it; `lend` gives us a node to import them, the first time. */
export async function imageStore(
  programs: Map<string, string>,
  addOns: readonly AddOn[],
  lend: (use: (node: Node) => Promise<void>) => Promise<void>,
): Promise<string> {
  const list = [
    ...(await images(programs)),
    ...(await Promise.all(addOns.map((addOn) => addOn.images()))).flat(),
  ];
  return await cached(
    `images-${KUBERNETES}-containerd-${CONTAINERD}-${await fingerprint(list)}`,
    async (folder, doing) => {
      doing(`importing ${list.length} images, once`);
      await lend(async (node) => {
        for (const image of list) await importImage(image, node);
        await node.must(["systemctl", "stop", "containerd"]);
        await sh(["cp", "-a", node.path("/var/lib/containerd"), join(folder, "containerd")]);
      });
    },
  );
}

async function importImage(image: Image, node: Node) {
  const archive = node.path("/root/image.tar");
  await writeArchive(image, archive);
  await node.must(["ctr", "-n", "k8s.io", "images", "import", "/root/image.tar"]);
  await rm(archive);
}

/**
 * Gives a node that is off the images. Layers are never written to, so hard links do and cost neither time
 * nor disk; containerd's databases are, so they are copied.
 */
export async function giveImages(store: string, node: Node) {
  const from = join(store, "containerd");
  const to = node.path("/var/lib/containerd");
  const sameDisk = (await stat(CACHE)).dev === (await stat(node.path("/"))).dev;
  await sh(["cp", "-a", ...(sameDisk ? ["--link"] : []), from, to]);
  for (const database of globSync("**/*.db", { cwd: from })) {
    await rm(join(to, database));
    await sh(["cp", "-a", join(from, database), join(to, database)]);
  }
}

/** A docker archive: the manifest, the configuration, and one layer. */
async function writeArchive(image: Image, archive: string) {
  const work = await mkdtemp(`${archive}-`);
  const layer = join(work, "layer");
  await fillLayer(image, layer);
  await sh([
    "tar",
    "--sort=name",
    "--mtime=@0",
    "--numeric-owner",
    "-cf",
    join(work, "layer.tar"),
    "-C",
    layer,
    ".",
  ]);
  await rm(layer, { recursive: true });
  const digest = (await sh(["sha256sum", join(work, "layer.tar")])).slice(0, 64);
  const config = {
    architecture: process.arch === "arm64" ? "arm64" : "amd64",
    os: "linux",
    config: {
      Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
      Entrypoint: image.entrypoint ?? [],
      ...(image.user ? { User: image.user } : {}),
    },
    rootfs: { type: "layers", diff_ids: [`sha256:${digest}`] },
  };
  await writeFile(join(work, "config.json"), JSON.stringify(config));
  await writeFile(
    join(work, "manifest.json"),
    JSON.stringify([{ Config: "config.json", RepoTags: [image.name], Layers: ["layer.tar"] }]),
  );
  await sh(["tar", "-cf", join(work, "image.tar"), "-C", work, "manifest.json", "config.json", "layer.tar"]);
  await rename(join(work, "image.tar"), archive);
  await rm(work, { recursive: true });
}

async function fillLayer(image: Image, layer: string) {
  for (const dir of [
    "etc",
    "tmp",
    "run",
    "proc",
    "sys",
    "dev",
    "var/lib",
    "usr/bin",
    "usr/sbin",
    "usr/lib",
    "usr/lib64",
  ]) {
    await mkdir(join(layer, dir), { recursive: true });
  }
  for (const link of ["bin", "sbin", "lib", "lib64"]) await symlink(`usr/${link}`, join(layer, link));
  for (const folder of image.folders ?? []) await mkdir(join(layer, folder));
  for (const folder of ["tmp", ...(image.folders ?? [])]) await chmod(join(layer, folder), 0o1777);
  await writeFile(join(layer, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
  await writeFile(join(layer, "etc/nsswitch.conf"), "hosts: files dns\n");
  for (const [place, file] of Object.entries(image.files)) {
    await mkdir(dirname(join(layer, place)), { recursive: true });
    await copyFile(await realpath(file), join(layer, place));
    await chmod(join(layer, place), 0o755);
  }
  for (const [link, target] of Object.entries(image.links ?? {})) await symlink(target, join(layer, link));
}

/** Changes when a name, a place or a file does; size and time stand for a file's contents, as in make. */
async function fingerprint(list: Image[]) {
  const hash = createHash("sha256").update(JSON.stringify(list));
  for (const file of list.flatMap((image) => Object.values(image.files))) {
    if (!existsSync(file)) continue;
    const { size, mtimeMs } = await stat(await realpath(file));
    hash.update(`${file} ${size} ${mtimeMs}\n`);
  }
  return hash.digest("hex").slice(0, 12);
}
