#!/usr/bin/env bun
/**
 * How much of a deleted /etc/kubernetes comes back by our carving, by photorec and by extundelete, on the
 * same ext4 images. A file counts when its full content is in a tool's output, under any name.
 *
 * By hand, as root: ./bunw test/lab/bench/undelete-tools.ts
 */
import { randomFillSync } from "node:crypto";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../../shared/run.ts";
import { type Files, findsOn, kubernetesFiles, tool, writeAll } from "../../pretend/lost-disk.ts";
import { installPackages } from "../machine/packages.ts";

const PACKAGES = [
  ["/usr/bin/photorec", "testdisk"],
  ["/usr/bin/extundelete", "extundelete"],
  ["/usr/sbin/mkfs.ext4", "e2fsprogs"],
] as const;

const MEGABYTES = 2048;
const FOLDER = "etc/kubernetes";

/** What happens on the mounted file system before it is unmounted. */
interface Scenario {
  name: string;
  happen: (mount: string, files: Files, others: Files) => void;
}

const SCENARIOS: readonly Scenario[] = [
  { name: "just deleted", happen: (mount, files) => writeAndDelete(mount, files) },
  {
    name: "1 GB written since",
    happen: (mount, files) => {
      writeAndDelete(mount, files);
      writeNoise(join(mount, "noise"), 1024);
    },
  },
  {
    name: "two generations",
    happen: (mount, files, others) => {
      writeAndDelete(mount, others);
      writeNoise(join(mount, "noise"), 16);
      writeAndDelete(mount, files);
    },
  },
];

/** The contents of all files that a tool brought back from an image. */
const TOOLS: Record<string, (image: string, out: string) => Promise<string[]>> = {
  ours: async (image) => {
    const finds = await findsOn(image);
    return finds.flatMap((find) => ("pem" in find ? find.pem : "text" in find ? find.text : []));
  },
  photorec: async (image, out) => {
    const options = "partition_none,options,mode_ext2,fileopt,everything,enable,wholespace,search";
    tool(["photorec", "/d", join(out, "found"), "/cmd", image, options]);
    return contentsBelow(out);
  },
  extundelete: async (image, out) => {
    const child = Bun.spawnSync(["extundelete", image, "--restore-all"], {
      cwd: out,
      stdout: "ignore",
      stderr: "ignore",
    });
    if (child.exitCode !== 0)
      console.error(
        `  extundelete ended with ${child.signalCode ?? child.exitCode}: what it wrote before counts`,
      );
    return contentsBelow(out);
  },
};

const KINDS: Record<string, (name: string) => boolean> = {
  keys: (name) => name.endsWith(".key"),
  certificates: (name) => name.endsWith(".crt"),
  others: (name) => /^(encryption|kubelet-client|pki\/sa\.pub)/.test(name),
};

async function main() {
  await installPackages(PACKAGES);
  const dir = mkdtempSync(join(tmpdir(), "bench-undelete-"));
  try {
    const [files, others] = [await kubernetesFiles("RSA-2048"), await kubernetesFiles("RSA-2048")];
    console.log(["scenario", "tool", ...Object.keys(KINDS), "seconds"].join("\t"));
    for (const scenario of SCENARIOS) {
      const image = makeImage(dir, scenario, files, others);
      for (const name of Object.keys(TOOLS))
        console.log([scenario.name, name, ...(await recall(name, image, dir, files))].join("\t"));
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** "11/11" for each of KINDS, and the seconds it took. */
async function recall(name: string, image: string, dir: string, files: Files): Promise<string[]> {
  const out = join(dir, name);
  mkdirSync(out);
  const began = performance.now();
  const found = await TOOLS[name]!(image, out);
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  rmSync(out, { recursive: true });
  const counts = Object.values(KINDS).map((isOne) => {
    const wanted = Object.keys(files).filter(isOne);
    return `${wanted.filter((file) => isFound(files[file]!, found)).length}/${wanted.length}`;
  });
  return [...counts, seconds];
}

/** A file of several PEM blocks may come back in pieces. */
function isFound(content: string, found: readonly string[]): boolean {
  const pieces = content.startsWith("-----BEGIN")
    ? content.split(/(?<=-----END [A-Z ]+-----\n)/).filter(Boolean)
    : [content];
  return pieces.every((piece) => found.some((text) => text.includes(piece)));
}

function makeImage(dir: string, { happen }: Scenario, files: Files, others: Files): string {
  const image = join(dir, "disk.img");
  const mount = join(dir, "mount");
  mkdirSync(mount, { recursive: true });
  writeFileSync(image, "");
  truncateSync(image, MEGABYTES * 1024 * 1024);
  tool(["mkfs.ext4", "-q", "-F", image]);
  tool(["mount", "-o", "loop", image, mount]);
  try {
    happen(mount, files, others);
  } finally {
    tool(["umount", mount]);
  }
  return image;
}

function writeAndDelete(mount: string, files: Files) {
  writeAll(join(mount, FOLDER), files);
  tool(["sync", "-f", mount]);
  rmSync(join(mount, FOLDER), { recursive: true });
  tool(["sync", "-f", mount]);
}

function writeNoise(path: string, megabytes: number) {
  const noise = Buffer.allocUnsafe(16 * 1024 * 1024);
  mkdirSync(path);
  for (let i = 0; i < megabytes / 16; i++) writeFileSync(join(path, `${i}`), randomFillSync(noise));
}

function contentsBelow(dir: string): string[] {
  const names = readdirSync(dir, { recursive: true, encoding: "utf8" }).map((name) => join(dir, name));
  return names.filter((name) => statSync(name).isFile()).map((name) => readFileSync(name, "latin1"));
}

if (import.meta.main) await run(main);
