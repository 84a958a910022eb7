/** What the tests of the hand-over have in common: a node and keys. */
import { expect, spyOn } from "bun:test";
import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { main } from "../../scripts/hand-over.ts";
import { Fail } from "../../shared/fail.ts";
import { exists, writeFile } from "../../shared/files/files.ts";
import { fingerprints } from "../../shared/hand-over/operators-bundle.ts";
import { type Lock, seal } from "../../shared/hand-over/sealed.ts";
import { type TarFile, writeTar } from "../../shared/hand-over/tar.ts";
import { SHARED_FILES } from "../../shared/pki/certs.ts";
import { PKI, sharedFiles } from "./bundles.ts";
import { sandbox } from "./sandbox.ts";

export const PASSPHRASE = "nine trees by the river";
export const FILE = "/bundle.age";
const years = (n: number) => new Date(Date.now() + n * 8760 * 3600_000);

export const [keys, others, old] = await Promise.all([sharedFiles(), sharedFiles(), sharedFiles(years(-11))]);
export const identity = await generateX25519Identity();
export const recipient = await identityToRecipient(identity);

/** As `pack` printed it: a bundle for recipients proves nothing by itself. */
export const NAMED = ["--ca-hash", fingerprints(keys).ca!];

/** A node that also collects what is printed to stdout. */
export function node() {
  const box = sandbox();
  const answers: string[] = [];
  const ear = spyOn(console, "log").mockImplementation((line: string) => void answers.push(line));
  writeFile("/id", `# created for a test\n${identity}\n`);
  writeFile("/passphrase", `${PASSPHRASE}\n`);
  box.said.length = 0;
  return {
    ...box,
    answers,
    [Symbol.dispose]() {
      const heard = [...box.said, ...answers].join("\n");
      ear.mockRestore();
      box[Symbol.dispose]();
      expect(heard).not.toMatch(/PRIVATE KEY|AGE-SECRET-KEY|nine trees/);
    },
  };
}

/** Says of a node where its memory is mounted, as /proc does. */
export function mountMemory(...folders: string[]) {
  const disk = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw";
  const mounts = [
    disk,
    ...folders.map((folder, i) => `${23 + i} 22 0:${30 + i} / ${folder} rw,nosuid,nodev - tmpfs tmpfs rw`),
  ];
  writeFile("/proc/self/mountinfo", `${mounts.join("\n")}\n`);
}

export const pack = (...args: string[]) => main(["pack", "--to", recipient, "--out", FILE, ...args]);
export const unpack = (...args: string[]) => main(["unpack", FILE, "--identity", "/id", ...NAMED, ...args]);

export async function failOf(action: () => unknown): Promise<Fail> {
  try {
    await action();
  } catch (err) {
    if (err instanceof Fail) return err;
    throw err;
  }
  throw new Error("it did not fail");
}

/** Path, mode, time and content of everything below a folder of this machine. */
export function fingerprint(dir: string): string[] {
  const paths = readdirSync(dir, { recursive: true, encoding: "utf8" }).sort();
  return paths.map((path) => {
    const info = lstatSync(join(dir, path));
    return `${path} ${info.mode} ${info.isFile() ? `${info.mtimeMs} ${Bun.hash(readFileSync(join(dir, path)))}` : ""}`;
  });
}

/** A file as pack writes it, with any content. */
export async function putSealed(content: Uint8Array, lock: Lock = { recipients: [recipient] }) {
  writeFile(FILE, await seal(content, lock, { scryptLogN: 10 }));
}

export const present = () => SHARED_FILES.filter((name) => exists(`${PKI}/${name}`));
export const tarOf = (files: readonly TarFile[]) => writeTar(files, new Date(0));

/** With any names, also those that ours never writes. Up to 100 bytes each. */
export function strangersTar(files: readonly TarFile[]): Uint8Array {
  const tar = Buffer.from(
    tarOf(files.map((file) => ({ ...file, name: "x".repeat(Buffer.byteLength(file.name)) }))),
  );
  let at = 0;
  for (const { name, bytes } of files) {
    tar.write(name, at);
    summed(tar, at);
    at += 512 * (1 + Math.ceil(bytes.length / 512));
  }
  return tar;
}

/** The header there has its right sum again. */
export function summed(tar: Buffer, at: number): Buffer {
  tar.write("        ", at + 148);
  const sum = tar.subarray(at, at + 512).reduce((a, b) => a + b, 0);
  tar.write(`${sum.toString(8).padStart(6, "0")}\0 `, at + 148);
  return tar;
}
export const plain = (files: Map<string, Uint8Array>): TarFile[] =>
  [...files].map(([name, bytes]) => ({ name, mode: 0o600, bytes }));
