#!/usr/bin/env bun
/**
 * The keys that all control plane nodes share, in one encrypted file: carried from one node to
 * another (RUNBOOK part 1), and stored as the backup (RUNBOOK-MORE, "Before it happens"). The file
 * is a plain tar in the age format: `age -d FILE | tar -tv` shows it without this kit.
 */
import { dirname } from "node:path";
import { inOneLine } from "../shared/again.ts";
import { todoOfPart1 } from "../shared/facts/course.ts";
import * as noData from "../shared/facts/no-etcd-data.ts";
import { isExternalCa } from "../shared/facts/signed-elsewhere.ts";
import { Fail, Refused } from "../shared/fail.ts";
import { refuseUnwritable } from "../shared/files/file-system.ts";
import { exists } from "../shared/files/files.ts";
import { parseOptions, secretIn, writeTyped } from "../shared/files/operator-files.ts";
import { sha256Of } from "../shared/files/sha256.ts";
import { BACKUP_MARK, sayBundleFilesLeft, whyNoBackup } from "../shared/hand-over/backup-mark.ts";
import * as bundles from "../shared/hand-over/bundle.ts";
import * as own from "../shared/hand-over/operators-bundle.ts";
import {
  checkOrigin,
  keysElsewhere,
  lookForKeys,
  originOf,
  saveOptionsOfBundle,
  takeKubeletConfig,
  unpackHere,
} from "../shared/hand-over/place-keys.ts";
import { newIdentity, recipientsOf, seal } from "../shared/hand-over/sealed.ts";
import { lockNode } from "../shared/node/kept-run.ts";
import { installersConfig } from "../shared/node/kubelet-config.ts";
import { typed } from "../shared/options.ts";
import { day } from "../shared/pki/certificate.ts";
import * as ofEtcd from "../shared/restore/pack-etcd.ts";
import { answer, answerLines, done, mode, run, say, sayNoUndo, start } from "../shared/run.ts";
import { shell } from "../shared/shell-line.ts";
import { told } from "../shared/this-run.ts";

export async function main(args: string[] = process.argv.slice(2)) {
  const { values, positionals } = parse(args);
  const [command, file = ""] = positionals;
  if (command === "files") return answerLines(await files(values));
  if (command === "pack") return await pack(values);
  const withFile = { identity, unpack, list, snapshot };
  await withFile[command as keyof typeof withFile](file, values);
}

/** The sub-commands, each with the word that follows it. */
const COMMANDS = {
  ...{ pack: [], unpack: ["FILE"], list: ["FILE"], snapshot: ["FILE"] },
  ...{ identity: ["FILE"], files: [] },
};

async function pack(values: Values) {
  start("hand-over pack", values);
  lockNode({ onlyInRepair: true });
  const makeLock = own.howToLock(values);
  const { bundle, node, here } = await toPack(values);
  const ca = bundles.caOf(bundle.files);
  const out =
    values.out ?? `kube-pki-${ca.replace("sha256:", "").slice(0, 8)}-${day(new Date())}.age`;
  if (exists(typed(out)) && !values.force)
    throw new Fail(`"${out}" is there already`, {
      hint: "name another file with --out, or overwrite it with --force",
    });
  refuseUnwritable([dirname(BACKUP_MARK)]);
  if (exists(typed(out))) sayNoUndo("bundle", { FILE: out });
  if (mode.dryRun) return say(`would write ${out}`);
  const etcd = values["with-etcd"] ? await ofEtcd.etcdHere(here.etcd, node) : undefined;
  const lock = await makeLock();
  const sealed = await seal(bundles.packTar(bundle), lock);
  writeTyped(out, sealed, { mode: 0o600, note: `sha256 ${sha256Of(sealed)}` });
  const packed = { path: typed(out), sha256: sha256Of(sealed) };
  own.markBackup(bundle.files, packed, { newest: true });
  // a file in memory is no change of this node, but that all keys are in one belongs to the repair
  told({ what: "act", line: `packed the shared keys into ${typed(out)}` });
  if (etcd) await ofEtcd.packEtcd(etcd, out, lock);
  const when = "When it is unpacked on every node that needs it";
  sayBundleFilesLeft({ bundle: out, opener: values["passphrase-file"] }, when);
  const origin = bundle.manifest?.cluster?.controlPlanes ?? [];
  const others = origin.filter((name) => name !== node?.name);
  if (whyNoBackup(typed(out))) own.printCarryCommands({ bundle: out, ca, others }, values);
  else own.printBackupCommands({ bundle: out, ca, others }, values);
}

/** Unpacks a snapshot for restore.ts. */
async function snapshot(file: string, values: Values) {
  start("hand-over snapshot", values);
  done(await ofEtcd.openSnapshot(file, values));
}

/**
 * The keys that are here; says which. Errors: Refused if the CA is external: its key is elsewhere.
 */
async function toPack(values: Values) {
  const { here, node } = await lookForKeys(values["etcd-data"]);
  if (here.data && here.cluster && isExternalCa(here.data, here.cluster))
    throw new Refused("The cluster's CA is external: its key is not here to be packed", {
      hint:
        shell`scp -p the rest of ${here.certificatesDir}: ` +
        "ca.crt, front-proxy-ca.*, etcd/ca.*, sa.*",
    });
  const absent = keysElsewhere(here);
  const kubeletConfig = node && installersConfig(node.kubelet);
  const bundle = bundles.readBundle(here, originOf(here), {
    ...absent,
    ...(kubeletConfig && { kubeletConfig }),
  });
  say(`of ${here.certificatesDir}${here.cluster ? `, cluster "${here.cluster.name}"` : ""}:`);
  for (const line of own.describe(bundle.files)) say(line);
  for (const line of [...own.keysNotInBundle(absent), ...own.ofKubelet(kubeletConfig)]) say(line);
  return { bundle, node, here };
}

async function unpack(file: string, values: Values) {
  start("hand-over unpack", values);
  lockNode();
  const { here, stepsWithoutData, node, place } = await lookForKeys(values["etcd-data"]);
  const { bundle, sha256, lock } = await own.openBundle(file, values, here);
  const named = bundle.manifest?.cluster?.controlPlanes;
  noData.refuseWorker(node, place, { named, force: values.force });
  for (const line of own.aboutBundle(bundle)) say(line);
  checkOrigin(bundle, here, { confirmed: values["ca-hash"], lock });
  const written = unpackHere(bundle, here, { moveToRescue: values["move-aside"] });
  saveOptionsOfBundle(bundle, { confirmed: values["ca-hash"], lock }, node?.name);
  takeKubeletConfig(bundle, { confirmed: values["ca-hash"], lock }, node);
  own.markBackup(bundle.files, { path: typed(file), sha256 }, { newest: false });
  if (written.length === 0) say("all keys of the bundle were here already");
  const opener = values["passphrase-file"] ?? values.identity;
  if (!mode.dryRun)
    sayBundleFilesLeft(
      { bundle: file, opener },
      "This node no longer needs them, so remove them here",
    );
  const withoutData = stepsWithoutData();
  if (withoutData) say("etcd's data is not here: part 1 would not begin");
  done(withoutData ?? inOneLine([todoOfPart1()]));
}

async function list(file: string, values: Values) {
  const { here } = await lookForKeys(values["etcd-data"]);
  const { bundle } = await own.openBundle(file, values, here);
  own.answerBundle(bundle, values);
}

/** The secret stays on the node where it is made; only the recipient travels. */
async function identity(file: string, values: Values) {
  start("hand-over identity", values);
  const note = "opens the bundles that are packed for this node; it stays here";
  if (!exists(typed(file))) writeTyped(file, await newIdentity(), { mode: 0o600, note });
  if (!mode.dryRun) answer((await recipientsOf(secretIn(file))).join(","));
}

async function files(values: Values): Promise<string[]> {
  const { here } = await lookForKeys(values["etcd-data"]);
  return bundles.sharedPaths(here, keysElsewhere(here));
}

const USAGE = `Usage:
    ./bunw scripts/hand-over.ts pack [--to age1…,… | --passphrase-file FILE | --generate]
                                     [--out FILE] [--with-etcd] [--force] [--dry-run]
    ./bunw scripts/hand-over.ts unpack FILE [--identity FILE | --passphrase-file FILE]
                                     [--ca-hash sha256:HASH] [--move-aside] [--force] [--dry-run]
    ./bunw scripts/hand-over.ts list FILE [--identity FILE | --passphrase-file FILE] [--json]
    ./bunw scripts/hand-over.ts snapshot FILE [--identity FILE | --passphrase-file FILE]
                                     [--ca-hash sha256:HASH] [--out FILE] [--dry-run]
    ./bunw scripts/hand-over.ts identity FILE [--dry-run]
    ./bunw scripts/hand-over.ts files

pack:     Locks the keys that all control plane nodes share (three CAs and sa) into one file in the
          age format. The file is for the other control plane nodes, or a backup. Refuses if one of
          the keys is missing, has expired or does not fit. A file in memory (tmpfs) or in the kit's
          folder does not count as a backup. For a file that counts, pack writes a small mark
          without secrets, and prints the lines that copy the mark to the other nodes.
unpack:   Checks every key and puts the missing ones into their places, all or nothing. Keys that
          are here already stay as they are. If other keys are here, it changes nothing. It refuses
          a bundle of another cluster, a bundle that is older than the cluster's CA, and a worker.
list:     Prints what is in a bundle. Writes nothing.
snapshot: Opens the snapshot of etcd that pack --with-etcd made, for restore.ts.
identity: Makes an age identity on the node that will open a bundle, or keeps the one in FILE.
          Prints its recipient for pack --to.
files:    Prints the paths of the keys, one a line, if you carry them another way.

Without --to, --identity and --passphrase-file, you type the passphrase on the terminal.

Options:
    --to RECIPIENTS         Lock for the holders of age identities (age-keygen); put commas between.
    --generate              Make a passphrase and show it, once, on the terminal.
    --passphrase-file FILE  Take the passphrase from a file that only you can read.
    --identity FILE         Open with an age identity file.
    --out FILE              The file to write. Default of pack: kube-pki-HASH-DATE.age in this
                            folder, with the HASH of the cluster's CA. Default of snapshot:
                            snapshot.db.
    --with-etcd             Write a snapshot of etcd, too, into FILE.etcd.age, locked in the same
                            way.
    --force                 pack: overwrite the file. unpack: write the keys although no trace of a
                            control plane node is left here, and the bundle does not name its nodes.
    --ca-hash HASH          Refuse any other CA. A file for recipients needs this option: anyone who
                            knows a recipient can lock one for it. A bundle for recipients does not
                            need it if etcd's data names its CA, and was not restored from a
                            snapshot.
    --move-aside            Move other keys that are here to the rescue folder, and put the bundle's
                            in their places.
    --etcd-data DIR         etcd's data directory: it says which cluster this is (default: found
                            by itself).
    --json                  list: print the same for programs.

Without this kit, by hand (unpack opens that file, too):
    ./bunw scripts/hand-over.ts files | xargs tar -cf - | age -p > keys.age`;

const OPTIONS = {
  to: { type: "string", multiple: true, of: ["pack"] },
  generate: { type: "boolean", of: ["pack"] },
  "passphrase-file": {
    type: "string",
    file: "secret",
    of: ["pack", "unpack", "list", "snapshot"],
  },
  identity: { type: "string", file: "secret", of: ["unpack", "list", "snapshot"] },
  out: { type: "string", file: "written", of: ["pack", "snapshot"] },
  "with-etcd": { type: "boolean", of: ["pack"] },
  force: { type: "boolean", of: ["pack", "unpack"] },
  "ca-hash": { type: "string", of: ["unpack", "snapshot"] },
  "move-aside": { type: "boolean", of: ["unpack"] },
  "etcd-data": { type: "string", path: "proved" },
  json: { type: "boolean", of: ["list"] },
  "dry-run": { type: "boolean" },
} as const;

type Values = ReturnType<typeof parse>["values"];

function parse(args: string[]) {
  return parseOptions({
    args,
    options: OPTIONS,
    usage: USAGE,
    allowPositionals: true,
    commands: COMMANDS,
    file: { unpack: "proved", list: "proved", snapshot: "proved", identity: "written" },
  });
}

if (import.meta.main) await run(main);
