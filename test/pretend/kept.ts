/**
 * What runs have left of themselves on a pretend node, and the secrets that must not be in it: all that are
 * anywhere on the node, of the forms that the last guard knows.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { secretsOf } from "../../shared/plain.ts";

export interface Kept {
  /** Without time and process: "01-etcd". */
  run: string;
  /** The node's own. */
  path: string;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: lines of many shapes, each test knows its own
  record: Record<string, any>[];
}

export const RUN_FILES = /(^|\/)kube-pki-repair-\d{8}T\d{6}\/runs(\/|$)/;

/** Oldest first. */
export function keptOn(root: string): Kept[] {
  const folders = existsSync(`${root}/root`)
    ? readdirSync(`${root}/root`).map((name) => `/root/${name}/runs`)
    : [];
  return folders
    .flatMap((folder) =>
      existsSync(root + folder) ? readdirSync(root + folder).map((name) => `${folder}/${name}`) : [],
    )
    .filter((path) => path.endsWith(".jsonl"))
    .sort((a, b) => basename(a).localeCompare(basename(b)))
    .map((path) => ({
      ...{ path, run: basename(path).replace(/^\w+?-|-\d+\.jsonl$/g, "") },
      text: readFileSync(root + path.replace(/jsonl$/, "txt"), "utf8"),
      record: linesOf(readFileSync(root + path, "utf8")),
    }));
}

function linesOf(text: string) {
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

/** A fingerprint of a node without the transcripts of its runs. */
export function unkept(fingerprint: readonly string[]): string[] {
  return fingerprint.filter((line) => !/^root(\/kube-pki-repair-\w+(\/runs\S*)?)? /.test(line));
}

/**
 * What of a node's secrets is in these texts: [what, file]. Whole lines of a PEM count, and halves of base64.
 */
export function secretsIn(texts: readonly string[], root: string): [what: string, file: string][] {
  const all = texts.join("\n");
  return filesBelow(root).flatMap((path) => {
    const content = readFileSync(join(root, path), "latin1");
    const named = /passphrase|identity/.test(basename(path))
      ? [["a passphrase", content.trim()] as const]
      : [];
    const found = secretsOf(content).map(({ what, secret }) => [what, secret] as const);
    return [...found, ...named]
      .filter(([, secret]) => partsOf(secret).some((part) => all.includes(part)))
      .map(([what]): [string, string] => [what, path]);
  });
}

function partsOf(secret: string): string[] {
  const lines = secret.split("\n").filter((line) => line.length >= 20 && !line.startsWith("-----"));
  return secret.startsWith("-----") ? lines : [secret.trim().slice(0, 60)].filter(Boolean);
}

/** Links are not followed: one may lead out of the node. */
function filesBelow(root: string, folder = ""): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (RUN_FILES.test(path) || path === "proc") return [];
    if (entry.isDirectory()) return filesBelow(root, path);
    return entry.isFile() ? [path] : [];
  });
}
