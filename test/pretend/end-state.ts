/**
 * What a node looks like, without all that differs by nature from one repair to the next: times, random
 * bytes, names of rescue folders.
 */
import { createPrivateKey, createPublicKey, type KeyObject, X509Certificate } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename, join } from "node:path";
import { parse, stringify } from "yaml";
import { RUN_FILES } from "./kept.ts";

/** A file that a process which was cut off was still writing: it has a name that nothing reads. */
const UNFINISHED = /\.partial(\/|$)/;

/** etcd's data and what the kernel shows. */
const OTHERS = /^(proc|run)(\/|$)|^var\/lib\/etcd|^root\/[^/]+\/etcd(\/|$)/;

/** A run that was cut off may have half of its last line. */
const RECORD = /\.jsonl$/;

const RESCUE = /^root\/kube-pki-repair-\d{8}T\d{6}/;

interface Entry {
  path: string;
  host: string;
  mode: number;
  kind: "file" | "folder" | "link";
}

function entries(root: string): Entry[] {
  return readdirSync(root, { recursive: true, encoding: "utf8" })
    .filter((path) => !OTHERS.test(path))
    .sort()
    .map((path) => {
      const info = lstatSync(join(root, path));
      const kind = info.isSymbolicLink() ? "link" : info.isDirectory() ? "folder" : "file";
      return { path, host: join(root, path), mode: info.mode & 0o777, kind };
    });
}

/**
 * Of every file outside of the rescue folders: path, mode, and what is in it, with the files that have the
 * same key. And all unfinished ones.
 */
export function endState(root: string): string[] {
  const all = entries(root).filter(({ path }) => !RESCUE.test(path) || UNFINISHED.test(path));
  const holders = new Map<string, string[]>();
  const read = all.map((entry) => ({
    ...entry,
    shape: entry.kind === "file" && !UNFINISHED.test(entry.path) ? shapeOf(entry) : undefined,
  }));
  for (const { path, shape } of read)
    for (const key of shape?.keys ?? []) holders.set(key, [...(holders.get(key) ?? []), settled(path)]);
  const keysOf = (keys: string[]) =>
    keys.map((key) => `\n  a key of ${holders.get(key)!.join(", ")}`).join("");
  return read.map(({ path, host, mode, kind, shape }) => {
    const content =
      kind === "link" ? settled(readlinkSync(host)) : shape ? shape.text + keysOf(shape.keys) : "";
    return `${settled(path)} ${kind} ${mode.toString(8)} ${content}`;
  });
}

/** The content of every file anywhere, as a hash: nothing of before may be lost. */
export function contents(root: string): Set<string> {
  return new Set(
    entries(root).flatMap(({ kind, host }) =>
      kind === "file" ? [String(Bun.hash(readFileSync(host)))] : [],
    ),
  );
}

/**
 * What is in each whole file, without its place and its keys. Errors: Error for one that is half of a file,
 * or that others can read.
 */
export function shapes(root: string): Map<string, string> {
  const files = entries(root).filter(({ kind }) => kind === "file");
  for (const { host, path, mode } of files)
    if (mode & 0o077 && /PRIVATE KEY|client-key-data/.test(readFileSync(host, "utf8")))
      throw new Error(`${path} can be read by others`);
  return new Map(
    files
      .filter(({ path }) => !UNFINISHED.test(path))
      .map((entry) => [settled(entry.path), shapeOf(entry).text]),
  );
}

interface Shape {
  text: string;
  /** Public keys, of the file's keys and certificates. */
  keys: string[];
}

function shapeOf({ path, host }: Pick<Entry, "path" | "host">): Shape {
  const text = readFileSync(host, "utf8");
  try {
    if (RUN_FILES.test(path)) return { text: recordShape(path, text), keys: [] };
    if (/\.(crt|key|pub|pem)$/.test(path)) return pemShape(text);
    if (/\.(conf|yaml)$/.test(path)) return yamlShape(text);
    return {
      text: settled(basename(path).startsWith(".") ? JSON.stringify(JSON.parse(text)) : text),
      keys: [],
    };
  } catch (cause) {
    throw new Error(`${path} is not whole`, { cause });
  }
}

/** Runs differ by where they were cut: what they have in common is that each line is whole. */
function recordShape(path: string, text: string): string {
  const lines = text.split("\n");
  if (RECORD.test(path)) for (const line of lines.slice(0, -1)) JSON.parse(line);
  return "the transcript of a run";
}

const PEM = /-----BEGIN ([A-Z ]+)-----[^-]+-----END \1-----\n?/g;

function pemShape(text: string): Shape {
  const rest = text.replace(PEM, "").trim();
  const blocks = [...text.matchAll(PEM)].map(([pem, kind]) => ({ pem, kind: kind! }));
  if (rest || blocks.length === 0) throw new Error(`${rest.length} characters are no PEM`);
  const read = blocks.map(({ pem, kind }) =>
    kind === "CERTIFICATE" ? certificate(pem) : keyBlock(pem, kind),
  );
  return { text: read.map(([words]) => words).join("\n"), keys: read.map(([, key]) => key) };
}

function certificate(pem: string): [words: string, key: string] {
  const { subject, issuer, subjectAltName, ca, keyUsage, publicKey } = new X509Certificate(pem);
  return [
    [subject, `by ${issuer}`, subjectAltName, ca, keyUsage, publicKey.asymmetricKeyType].join("; "),
    spki(publicKey),
  ];
}

function keyBlock(pem: string, kind: string): [words: string, key: string] {
  return [
    kind,
    spki(kind.endsWith("PRIVATE KEY") ? createPublicKey(createPrivateKey(pem)) : createPublicKey(pem)),
  ];
}

const spki = (key: KeyObject) => key.export({ type: "spki", format: "der" }).toString("base64");

/** A kubeconfig has its PEM in base64. */
function yamlShape(text: string): Shape {
  const keys: string[] = [];
  const settle = (name: unknown, value: unknown) => {
    if (typeof name !== "string" || typeof value !== "string" || !name.endsWith("-data")) return value;
    const inner = pemShape(atob(value));
    keys.push(...inner.keys);
    return inner.text;
  };
  const content = parse(text);
  if (typeof content !== "object" || content === null) throw new Error("it is no YAML object");
  return { text: settled(stringify(JSON.parse(JSON.stringify(content, settle)))), keys };
}

/** Without times, random names and random content. */
export function settled(text: string): string {
  return text
    .replace(/kube-pki-repair-\d{8}T\d{6}/g, "kube-pki-repair-TIME")
    .replace(/kubelet-client-\d{4}(-\d\d){5}\.pem/g, "kubelet-client-TIME.pem")
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, "TIME")
    .replace(/\bsha256:[0-9a-f]{64}|\b[0-9a-f]{64}\b|"kid":"[\w-]+"/g, "HASH")
    .replace(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g, "CERTIFICATE")
    .replace(/\b[a-z0-9]{6}\.[a-z0-9]{16}\b/g, "TOKEN");
}
