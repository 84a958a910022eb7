#!/usr/bin/env bun
/**
 * Follows the plan: `npm run repair -- root@NODE` on your machine, or this script on a control
 * plane node. It brings the kit to the nodes, asks all of them, shows one screen, and types what
 * the plan has, node by node. You decide by numbers. The same command again continues.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { UsageError } from "../shared/fail.ts";
import { parseOptions } from "../shared/files/operator-files.ts";
import { sshHostOf } from "../shared/follow/destination.ts";
import { repairAll } from "../shared/follow/follow-plan.ts";
import type { Host } from "../shared/follow/host.ts";
import { HOME, kitFile, repairLine } from "../shared/follow/kit-file.ts";
import { AtTerminal, NO_PERSON } from "../shared/follow/person.ts";
import { folderIn, privateFolder } from "../shared/follow/private-folder.ts";
import { newSession, RepairLog, type Session, type Words } from "../shared/follow/session.ts";
import { Ssh } from "../shared/follow/ssh.ts";
import { linesOfRunbook } from "../shared/follow/trusted-plan.ts";
import { isOnEachMachine } from "../shared/pki/addresses.ts";
import { ROOT } from "../shared/plan/login.ts";
import { answerLines, run, tell, VERSION } from "../shared/run.ts";

async function main() {
  const { values, destination } = parse();
  const first = firstHost(destination);
  tell(`kube-pki-repair ${VERSION}   repair   changes nothing before you say so`);
  const runbook = await Bun.file(join(HOME, "RUNBOOK.md")).text();
  const folder = folderIn(first);
  const dir = privateFolder(folder, "kube-pki-repair-");
  const isThere = process.stdin.isTTY === true && process.stdout.isTTY === true && !values.yes;
  using transport = new Ssh(isThere, { folder });
  try {
    const session = newSession({
      ...{ transport, first, person: isThere ? new AtTerminal() : NO_PERSON },
      kit: once(() => kitFile(values.kit, dir, runbook)),
      runbookLines: linesOfRunbook(runbook),
      ...{ folder: process.cwd(), addresses: addressesOf(values.address), ownFiles: values.files },
      log: new RepairLog(values.log ?? `repair-${timeNow()}.log`),
      ...{
        again: againLine(destination),
        cleansUp: values["clean-up"] ?? false,
        deep: values.deep ?? false,
      },
      ...{
        mayBegin: values.yes ?? false,
        mayMakeKeys: values["new-keys"] ?? false,
        words: wordsOf(values),
      },
    });
    stopOnSignals(session, transport);
    process.exitCode = await repairAll(session);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => (made ??= make());
}

/** Nothing: this machine. */
function firstHost(destination: string | undefined): Host {
  if (destination !== undefined) return sshHostOf(destination);
  return { name: "this node", address: "", user: ROOT, isHere: true, kit: HOME };
}

function againLine(destination: string | undefined): string {
  return destination === undefined ? "./bunw scripts/repair.ts" : repairLine(destination);
}

const ENDS_SOON =
  "It ends behind what runs now. Ctrl-C again leaves at once: what runs on a node runs on there.";

/** The first one: it ends behind what runs now; the second one: at once. */
function stopOnSignals(session: Session, transport: Disposable) {
  const leave = (code: number) => {
    transport[Symbol.dispose]();
    process.exit(code);
  };
  process.on("SIGINT", () => {
    if (session.isStopping) return leave(130);
    session.isStopping = true;
    answerLines(["", ENDS_SOON]);
  });
  process.on("SIGHUP", () => leave(129));
  process.on("SIGTERM", () => leave(143));
}

const USAGE = `Usage:
    npm run repair -- [USER@]NODE [options]        from your machine
    ./bunw scripts/repair.ts [USER@]NODE [options] the same, from an unpacked kit
    ./bunw scripts/repair.ts [options]             on a control plane node itself: the others by ssh

NODE is a control plane node, as ssh takes it: an address, or a name of your ssh configuration. An
address of IPv6 may stand in brackets, and none has a zone such as %eth0. Its
jump host and port count for the other nodes, too. USER is root, or may use sudo there without a
password. It looks at all nodes, and shows one screen: what happened, what will be done, and how
long the API is unavailable. It names what cannot be taken back. Nothing but a look is done before
you say so. Then each line is shown as a person would type it. Ctrl-C ends it behind what runs, and
the same line again continues.

Options:
    --yes            Ask nothing. If a decision is open, it ends with 3, and prints the options that
                     decide.
    --new-keys       Make new keys with --yes, if the old ones are nowhere.
    --deep           Search the disk of the node for lost keys as well, which takes long.
    --lost NODES     Nodes that are lost for good.
    --without NODES  Nodes that are away for now: nothing is typed on them, and no step waits for
                     them.
    --lost-on NODES  Control plane nodes that you have searched: their keys are lost, too.
    --start-without FLAGS
                     Flags of the API server, without dashes, whose files are lost for good.
    --worker NODES   Nodes that are workers, although their label calls them control plane nodes.
    --endpoint HOST:PORT
                     The API's address, if the files and objects that record it disagree.
    --address NODE=IP,…
                     Addresses of nodes that nothing proves.
    --etcd-data DIR  etcd's data directory on the nodes (default: found by itself).
    --files DIR      Take lost files that kubeadm did not make from your own copies: DIR, on your
                     machine, holds /etc/kubernetes, or a part of it. Each file goes to the control
                     plane nodes that have lost it, and replaces none.
    --kit FILE       Take this kit.tar.gz (default: this checkout or kit, packed again).
    --log FILE       Write each command into this new file (default: repair-TIME.log, here).
    --clean-up       Remove what the repair has saved, and the kit, after the proof.

Exit codes: 0 repaired and verified, or nothing has to be done, 1 stopped (see the hint),
            2 a check of part 5 fails at the end, 3 refused: waits for your decision,
            130 ended by a signal`;

const OPTIONS = {
  yes: { type: "boolean" },
  "new-keys": { type: "boolean" },
  deep: { type: "boolean" },
  lost: { type: "string", list: true },
  without: { type: "string", list: true },
  "lost-on": { type: "string", list: true },
  "start-without": { type: "string", list: true },
  worker: { type: "string", list: true },
  endpoint: { type: "string" },
  address: { type: "string", list: true },
  "etcd-data": { type: "string" },
  files: { type: "string", path: "trusted" },
  kit: { type: "string", file: "proved" },
  log: { type: "string", file: "written" },
  "clean-up": { type: "boolean" },
} as const;

function parse() {
  const words = { words: 1, allowPositionals: true } as const;
  const { values, positionals } = parseOptions({ options: OPTIONS, usage: USAGE, ...words });
  return { values, destination: positionals[0] };
}

/** Errors: Fail where one has another form. */
function addressesOf(pairs: readonly string[]): Map<string, string> {
  const all = pairs.map((pair) => pair.split("=") as [string, string]);
  const wrong = all.find(([name, address]) => !name || !isOnEachMachine(address ?? ""));
  if (!wrong) return new Map(all);
  throw new UsageError(`"${wrong.join("=")}" is no node with its address`, {
    hint: "give both: --address w1=10.0.0.21",
  });
}

/** The operator's words, as a plan takes them. */
function wordsOf(values: ReturnType<typeof parse>["values"]): Words {
  const { lost, without, worker, endpoint } = values;
  const { "lost-on": lostOn, "start-without": startWithout, "etcd-data": etcdData } = values;
  return {
    ...{ lost, without, worker, "lost-on": lostOn, "start-without": startWithout },
    ...{ endpoint, "etcd-data": etcdData },
  };
}

function timeNow(): string {
  return new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "");
}

if (import.meta.main) await run(main);
