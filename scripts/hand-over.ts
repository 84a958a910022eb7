#!/usr/bin/env bun
/**
 * The keys that all control plane nodes share, in one encrypted file: carried from control plane node to control plane node (RUNBOOK part 1), and kept as the backup
 * (RUNBOOK, "Before it happens"). The file is a plain tar in the age format: `age -d FILE | tar -tv` shows it without this kit.
 */
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { lookAtControlPlaneNode } from "../shared/facts/control-plane-node.ts";
import { isExternalCa } from "../shared/facts/external-ca.ts";
import { Fail } from "../shared/fail.ts";
import { exists, readBytes, stat, writeFile } from "../shared/files/files.ts";
import { secretIn, typed } from "../shared/files/operator-files.ts";
import { markBackup } from "../shared/hand-over/backup-mark.ts";
import {
  type Bundle,
  caOf,
  describe,
  MAX_BYTES,
  packTar,
  readBundle,
  sha256Of,
  unpackTar,
} from "../shared/hand-over/bundle.ts";
import { checkOrigin, originOf, unpackHere } from "../shared/hand-over/place-keys.ts";
import {
  type Key,
  type Lock,
  lockOf,
  newIdentity,
  open,
  recipientsIn,
  recipientsOf,
  seal,
} from "../shared/hand-over/sealed.ts";
import { SHARED_FILES } from "../shared/pki/certs.ts";
import { day } from "../shared/pki/judge.ts";
import { ask, askTwice, newPassphrase, showOnce } from "../shared/prompt.ts";
import { answer, done, mode, run, say, start, tell } from "../shared/run.ts";

const USAGE = `Usage:
    ./bunw scripts/hand-over.ts pack [--to age1…,… | --passphrase-file FILE | --generate] [--out FILE] [--force] [--dry-run]
    ./bunw scripts/hand-over.ts unpack FILE [--identity FILE | --passphrase-file FILE] [--ca-hash sha256:HASH] [--move-aside] [--dry-run]
    ./bunw scripts/hand-over.ts list FILE [--identity FILE | --passphrase-file FILE]
    ./bunw scripts/hand-over.ts identity FILE [--dry-run]
    ./bunw scripts/hand-over.ts files

pack:    locks the keys that all control plane nodes share (three CAs and sa) into one file in the age format, for the other control plane nodes or as a backup.
         Refuses if one of them is missing, has expired or does not fit.
unpack:  checks every key and puts those that are missing here in their places, all or nothing. Keys that are here already are kept;
         if they are other keys, nothing is done. A bundle of another cluster, or one older than the cluster's CA, is refused.
list:    says what is in a bundle. Writes nothing.
files:   prints the paths of the keys, one a line, for whoever carries them another way.
identity: makes an age identity on the node that shall open a bundle, or keeps the one in FILE, and prints its recipient for pack --to.

Without --to, --identity and --passphrase-file the passphrase is asked for on the terminal.

Options:
    --to RECIPIENTS         Lock for the holders of age identities (age-keygen), separated by commas.
    --generate              Make a passphrase and show it, once, on the terminal.
    --passphrase-file FILE  Take the passphrase from a file that only you can read.
    --identity FILE         Open with an age identity file.
    --out FILE              Default: kube-pki-HASH-DATE.age in this folder, HASH of the cluster's CA.
    --force                 Overwrite the file.
    --ca-hash HASH          Refuse any other CA. Use it with bundles for recipients: whoever knows a recipient can lock something for it.
    --move-aside            Other keys that are here go to the rescue folder, and the bundle's take their place.
    --etcd-data DIR         etcd's data directory, which tells what cluster this is (default: /var/lib/etcd).
    --dry-run               Print what would be done; nothing is written.
    --help                  Print this text.

Examples:
    ./bunw scripts/hand-over.ts pack --generate
    ./bunw scripts/hand-over.ts unpack kube-pki-1a2b3c4d-2026-05-01.age
    ./bunw scripts/hand-over.ts files | xargs tar -cf - | age -p > keys.age     # by hand; unpack takes it, too

Exit codes: 0 done, 1 stopped (see the hint)
`;

const OPTIONS = {
  to: { type: "string", multiple: true },
  generate: { type: "boolean" },
  "passphrase-file": { type: "string" },
  identity: { type: "string" },
  out: { type: "string" },
  force: { type: "boolean" },
  "ca-hash": { type: "string" },
  "move-aside": { type: "boolean" },
  "etcd-data": { type: "string", default: "/var/lib/etcd" },
  "dry-run": { type: "boolean" },
  help: { type: "boolean" },
} as const;

type Values = ReturnType<typeof parse>["values"];

export async function main(args: string[] = process.argv.slice(2)) {
  const { values, positionals } = parse(args);
  const [command, file, ...more] = positionals;
  if (values.help) return console.log(USAGE);
  if (command === "identity" && file && more.length === 0) return await identity(file, values);
  if (command === "files" && !file) return answer(files(values).join("\n"));
  if (command === "pack" && !file) return await pack(values);
  if (command === "unpack" && file && more.length === 0) return await unpack(file, values);
  if (command === "list" && file && more.length === 0) return await list(file, values);
  throw new Fail(
    `hand-over needs pack, unpack FILE, list FILE, identity FILE or files, got "${positionals.join(" ")}"`,
    {
      hint: "./bunw scripts/hand-over.ts --help",
    },
  );
}

async function pack(values: Values) {
  start("hand-over pack", { dryRun: values["dry-run"] });
  const makeLock = howToLock(values);
  const here = lookAtControlPlaneNode(values["etcd-data"]);
  if (here.data && here.cluster && isExternalCa(here.data, here.cluster))
    throw new Fail("The cluster's CA is external: its key is not here to be packed", {
      hint: "copy what there is with scp -p: ca.crt, front-proxy-ca.*, etcd/ca.* and sa.*, all below the certificates folder",
    });
  const bundle = readBundle(here.certificatesDir, originOf(here));
  say(`of ${here.certificatesDir}${here.cluster ? `, cluster "${here.cluster.name}"` : ""}:`);
  for (const line of describe(bundle.files)) say(line);

  const ca = caOf(bundle.files);
  const out =
    values.out ?? `kube-pki-${ca.replace("sha256:", "").slice(0, 8)}-${day(new Date())}.age`;
  if (exists(typed(out)) && !values.force)
    throw new Fail(`"${out}" is there already`, {
      hint: "--out names another file, --force overwrites it",
    });
  if (mode.dryRun) return say(`would write ${out}`);
  const sealed = await seal(packTar(bundle), await makeLock());
  writeFile(typed(out), sealed, { mode: 0o600, note: `sha256 ${sha256Of(sealed)}` });
  markBackup(bundle.files, { name: basename(out), sha256: sha256Of(sealed) }, { newest: true });
  tell("\ndone.  next: on the other control plane nodes, with this file beside the kit:");
  answer(`./bunw scripts/hand-over.ts unpack ${out}${keyOption(values)} --ca-hash ${ca}`);
}

async function unpack(file: string, values: Values) {
  start("hand-over unpack", { dryRun: values["dry-run"] });
  const here = lookAtControlPlaneNode(values["etcd-data"]);
  const { bundle, sha256 } = await openBundle(file, values, here.certificatesDir);
  for (const line of about(bundle)) say(line);
  checkOrigin(bundle, here, values["ca-hash"]);
  const written = unpackHere(bundle, here, { moveAside: values["move-aside"] });
  markBackup(bundle.files, { name: basename(file), sha256 }, { newest: false });
  if (written.length === 0) say("all of it was here already");
  done("./bunw scripts/01-etcd.ts");
}

async function list(file: string, values: Values) {
  const { bundle } = await openBundle(
    file,
    values,
    lookAtControlPlaneNode(values["etcd-data"]).certificatesDir,
  );
  answer(about(bundle).join("\n"));
}

/** The secret stays on the node where it is made; only the recipient travels. */
async function identity(file: string, values: Values) {
  start("hand-over identity", { dryRun: values["dry-run"] });
  const note = "opens the bundles that are packed for this node; it stays here";
  if (!exists(typed(file))) writeFile(typed(file), await newIdentity(), { mode: 0o600, note });
  if (!mode.dryRun) answer((await recipientsOf(secretIn(file))).join(","));
}

function files(values: Values): string[] {
  const { certificatesDir } = lookAtControlPlaneNode(values["etcd-data"]);
  return SHARED_FILES.map((name) => `${certificatesDir}/${name}`);
}

function about({ files, manifest }: Bundle): string[] {
  if (!manifest)
    return ["packed by hand: it does not say when, and of which cluster", ...describe(files)];
  const { made, node, tool, cluster } = manifest;
  return [
    `packed ${made} on ${node}, ${tool}; ${cluster ? `cluster "${cluster.name}"` : "cluster not known"}`,
    ...describe(files),
  ];
}

/** All of it is in memory and judged before anything is done with it. */
async function openBundle(
  file: string,
  values: Values,
  certificatesDir: string,
): Promise<{ bundle: Bundle; sha256: string }> {
  const info = stat(typed(file));
  if (!info)
    throw new Fail(`There is no file "${file}"`, {
      hint: "pack writes it, on a control plane node that has the keys; carry it here with scp",
    });
  if (info.kind !== "file" || info.size > MAX_BYTES)
    throw new Fail(
      `"${file}" is no bundle: ${info.kind === "file" ? `${info.size} bytes are too many` : "it is not a file"}`,
      {
        hint: "a bundle that pack wrote is about 20,000 bytes long",
      },
    );
  const sealed = readBytes(typed(file))!;
  const content = await open(sealed, keyFor(lockOf(sealed), values));
  return { bundle: unpackTar(content, certificatesDir), sha256: sha256Of(sealed) };
}

/** Recipients and files are looked at now; the passphrase is asked for only when all else is well. */
function howToLock(values: Values): () => Promise<Lock> {
  const { to, generate, "passphrase-file": file } = values;
  if ([to, generate, file].filter(Boolean).length > 1 || values.identity)
    throw new Fail("pack takes one of --to, --passphrase-file and --generate", {
      hint: "./bunw scripts/hand-over.ts --help",
    });
  if (to) {
    const recipients = recipientsIn(to);
    if (recipients.length === 0)
      throw new Fail("--to names no recipient", { hint: "age-keygen -y IDENTITY-FILE prints it" });
    return async () => ({ recipients });
  }
  const given = file === undefined ? undefined : strong(passphraseIn(file));
  return async () => ({ passphrase: given ?? (generate ? generated() : strong(askTwice())) });
}

function keyFor(lock: "passphrase" | "recipients", values: Values): Key {
  const { identity, "passphrase-file": file } = values;
  if (lock === "recipients") {
    if (!identity)
      throw new Fail("This bundle was packed for recipients, not with a passphrase", {
        hint: "--identity FILE, as age-keygen wrote it",
      });
    return { identityFile: secretIn(identity) };
  }
  if (identity)
    throw new Fail("This bundle was packed with a passphrase, not for an identity", {
      hint: "run it without --identity",
    });
  return {
    passphrase: file === undefined ? ask("Passphrase of the bundle: ") : passphraseIn(file),
  };
}

function generated(): string {
  const passphrase = newPassphrase();
  showOnce(
    `\n  ${passphrase}\n\n  The passphrase of the bundle. Write it down now: it is shown once, and nobody can open the bundle without it.\n\n`,
  );
  return passphrase;
}

function strong(passphrase: string): string {
  if (passphrase.length >= 12) return passphrase;
  throw new Fail("The passphrase is too short: whoever finds the bundle can try all of them", {
    hint: "12 letters or more; --generate makes a good one",
  });
}

function passphraseIn(file: string): string {
  const passphrase = secretIn(file).replace(/\r?\n$/, "");
  if (!passphrase || passphrase.includes("\n"))
    throw new Fail(`"${file}" holds ${passphrase ? "more than one line" : "no passphrase"}`, {
      hint: "the passphrase alone, on the first line",
    });
  return passphrase;
}

function keyOption({ to, "passphrase-file": file }: Values): string {
  if (to) return " --identity FILE";
  return file === undefined ? "" : ` --passphrase-file ${file}`;
}

function parse(args: string[]) {
  return parseArgs({ args, options: OPTIONS, allowPositionals: true });
}

if (import.meta.main) await run(main);
