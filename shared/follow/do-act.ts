/**
 * One act of a step, done: typed on its nodes, or a file brought. A line is shown as a person would type it, before it is
 * typed. Twenty nodes at the same time at most; of workers that join, one goes alone first.
 */

import { existsSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { Fail, failOf } from "../fail.ts";
import { inParallel } from "../in-parallel.ts";
import { PACK_RUNS } from "../node/rescue-folder.ts";
import { FEW, listed, plainLine, quoteUntrusted } from "../plain.ts";
import {
  type Act,
  actsOn,
  type BringKit,
  type Carry,
  type Fetch,
  type Gather,
  type Typed,
  type TypedPrinted,
} from "../plan/act.ts";
import { carriedTo } from "../plan/by-hand.ts";
import type { StepData } from "../plan/plan-answer.ts";
import { answer, say, tell } from "../run.ts";
import { shell } from "../shell-line.ts";
import { waitFor } from "../wait-for.ts";
import { CONNECTION_LOST, type Host, inKit, LOCKED, type Output, thereOf } from "./host.ts";
import { Lanes } from "./lanes.ts";
import { MOST, patience, timeLimitOf } from "./late.ts";
import { linesByHand } from "./left-by-hand.ts";
import { bringKit, meetOnce } from "./look-around.ts";
import { doneMark, type Session } from "./session.ts";
import { type Stopped, stoppedAt } from "./stopped.ts";
import { isKnownLine } from "./trusted-plan.ts";

type Step = Pick<StepData, "number" | "exit"> & Partial<Pick<StepData, "task">>;

/** Returns undefined if the command ended with an exit code that the plan expects. Errors: Fail if a command is not one of this kit's. */
export async function doAct(session: Session, step: Step, act: Act): Promise<Stopped | undefined> {
  if (isIdle(session, step)) return void say("no worker has to join: nothing is carried or typed for it");
  for (const line of linesByHand(session, act)) answer(`      ${line}`);
  const unreached = actsOn(act).find((name) => !session.hosts.has(name));
  if (unreached !== undefined)
    return {
      node: unreached,
      command: act.do === "type" ? act.command : act.do,
      reason: `nothing proves the address of ${unreached}, and nobody has given it`,
      hint: `run the same line again with --address ${unreached}=IP, or with --without ${unreached}`,
      exitCode: 1,
    };
  switch (act.do) {
    case "type":
    case "type-printed":
      return await typeOnAll(session, step, act);
    case "kit":
      return await bringKits(session, act);
    case "carry":
      return await carry(session, act);
    case "fetch":
      return await fetchFile(session, act);
    case "gather":
      return await gather(session, act);
  }
}

/** Part 3 has printed no line: nobody joins. */
function isIdle({ printed }: Session, { task, number }: Step): boolean {
  const line = [...printed].find(([step]) => step[0] === number[0])?.[1];
  return task === "join" && line === "";
}

function hostOf({ hosts }: Session, name: string): Host {
  const host = hosts.get(name);
  if (host) return host;
  throw new Fail(`No way to ${plainLine(name)} is known: nothing proves its address`, {
    hint: "type this step's line there by hand, then run the same line again",
  });
}

async function typeOnAll(
  session: Session,
  step: Step,
  act: Typed | TypedPrinted,
): Promise<Stopped | undefined> {
  const line = act.do === "type" ? act.command : session.printed.get(act.keptBy);
  if (line === undefined)
    throw new Fail(`Step ${step.number} types a line that no step has printed in this run`, {
      hint: "run the same line again: the new plan begins with the step that prints it",
    });
  const open = act.on.filter((name) => !session.done.has(doneMark(step, name, line)));
  if (act.do === "type" && act.terminal) return await typeOnTerminal(session, step, open, line);
  using lanes = new Lanes(open);
  let stopped: Stopped | undefined;
  const one = async (name: string) => {
    if (session.isStopping) stopped ??= leftBy(name, line);
    if (session.isStopping || (stopped && !act.sideBySide)) return;
    const aside = act.do === "type-printed" && act.moveAside.includes(name) ? " --move-aside" : "";
    const end = await typeOn(session, step, { name, line, typed: `${line}${aside}`, lanes });
    if ("stopped" in end) stopped ??= end.stopped;
    else if (act.do === "type" && act.keeps) keepPrinted(session, step, end.stdout.trim());
  };
  // the first worker shows whether the line is right, before all others type it
  const [first, ...others] = step.task === "join" && open.length > 2 ? open : [undefined, ...open];
  if (first !== undefined) await one(first);
  if (!stopped) await inParallel(others as string[], act.sideBySide || step.task === "verify" ? FEW : 1, one);
  return stopped;
}

/** Ctrl-C: what runs ends, and nothing begins. */
function leftBy(node: string, command: string): Stopped {
  return { node, command, reason: `Ctrl-C was typed: ${node} is left`, exitCode: LEFT.exitCode };
}

interface Sent {
  to: readonly string[];
  /** So many at a time. */
  most: number;
  /** In words, for a node that is left. */
  what: string;
}

/** The first node that does not take it, or is left, is where the step stops; the others get it. */
async function sendToAll(
  session: Session,
  { to, most, what }: Sent,
  send: (name: string) => Promise<Stopped | undefined>,
): Promise<Stopped | undefined> {
  let stopped: Stopped | undefined;
  await inParallel(to, most, async (name) => {
    const end = session.isStopping ? leftBy(name, what) : await send(name);
    stopped ??= end;
  });
  return stopped;
}

async function bringKits(session: Session, { to }: BringKit): Promise<Stopped | undefined> {
  return await sendToAll(session, { to, most: FEW, what: "the kit" }, async (name) => {
    const why = await failOf(() => bringKit(session, hostOf(session, name)));
    return why && { node: name, command: "the kit", reason: why.message, hint: why.hint, exitCode: 1 };
  });
}

interface Line {
  name: string;
  /** The text as it stands in the plan. */
  line: string;
  /** The command with what only this node needs, such as its flags. */
  typed: string;
  lanes: Lanes;
}

/**
 * A connection that is lost is made again, and the same line typed once more: it finds out where it was. A run before, also
 * of a repair that has died, may be still at work there, and hold the lock: it is waited for.
 */
async function typeOn(
  session: Session,
  step: Step,
  { name, line, typed, lanes }: Line,
): Promise<Output | { stopped: Stopped }> {
  const host = hostOf(session, name);
  const began = Date.now();
  const onLine = (text: string) => lanes.show(name, text);
  const how = { onLine, ...patience(session, timeLimitOf(step.task)) };
  const once = () => session.transport.run(host, thereOf(host, typed), how);
  const first = await once();
  const isHeld = first.exitCode === CONNECTION_LOST || first.exitCode === LOCKED;
  const output = isHeld ? await onceMore(session, host, first, once) : first;
  const { exitCode, stdout, stderr } = output;
  session.log.add(
    { step: step.number, node: name, command: typed, seconds: (Date.now() - began) / 1000, exitCode },
    output,
  );
  const ok = step.exit.includes(exitCode);
  lanes.ended(name, ok, ok ? endOf(step, stdout, stderr) : `exit code ${exitCode}`);
  if (!ok) return { stopped: stoppedAt(name, typed, output) };
  session.done.add(doneMark(step, name, line));
  return output;
}

/** Once more, as soon as the node answers; what runs there without this connection is waited for. */
async function onceMore(
  session: Session,
  host: Host,
  first: Output,
  once: () => Promise<Output>,
): Promise<Output> {
  const { name } = host;
  const isLost = first.exitCode === CONNECTION_LOST;
  if (isLost) session.met.delete(name);
  const probe = async () => {
    if (session.isStopping) return LEFT;
    if ((await meetOnce(session, host)) !== undefined) return undefined;
    const output = await once();
    if (output.exitCode === CONNECTION_LOST) session.met.delete(name);
    return output.exitCode === CONNECTION_LOST || output.exitCode === LOCKED ? undefined : output;
  };
  const hint = isLost
    ? `look at the network of ${name}, then run the same line again`
    : `look at the process that holds the lock on ${name}, then run the same line again`;
  const what = isLost ? `${name} to answer again` : `the run that holds the lock on ${name}`;
  const output = await waitFor(what, probe, { seconds: RECONNECT, hint, easing: true });
  return output ?? LEFT;
}

/** Seconds for which a lost connection is made again. */
const RECONNECT = 300;

/** Ctrl-C while the connection was lost. */
const LEFT: Output = {
  exitCode: 130,
  stdout: "",
  stderr: "error: the connection was lost, and not made again",
};

/** A script's last word; of a proof its sum. */
function endOf({ task }: Step, stdout: string, stderr: string): string | undefined {
  const sum = /^\d[\d,]* checks, .*$/m.exec(`${stdout}\n${stderr}`)?.[0];
  if (task === "verify" && sum) return plainLine(sum);
  const done = stderr
    .trimEnd()
    .split("\n")
    .findLast((text) => text.startsWith("done"));
  return done && plainLine(done);
}

/** With the operator's terminal, which shows a passphrase, or asks for one. Nothing of it is in the log. */
async function typeOnTerminal(
  session: Session,
  step: Step,
  on: readonly string[],
  line: string,
): Promise<Stopped | undefined> {
  for (const name of on) {
    const host = hostOf(session, name);
    const began = Date.now();
    const exitCode = await session.transport.onTerminal(host, thereOf(host, line));
    session.log.add({
      step: step.number,
      node: name,
      command: line,
      seconds: (Date.now() - began) / 1000,
      exitCode,
    });
    if (!step.exit.includes(exitCode))
      return { node: name, command: line, exitCode, reason: `it ended with exit code ${exitCode}` };
    session.done.add(doneMark(step, name, line));
  }
  return undefined;
}

/** It is typed on other nodes, so it has to be a line of this kit. */
function keepPrinted({ printed, runbookLines }: Session, { number }: Step, line: string) {
  if (line !== "" && (line.includes("\n") || !isKnownLine(line, runbookLines)))
    throw new Fail(`Step ${number} has printed "${quoteUntrusted(line)}", which is no line of this kit`, {
      hint: "look at that node by hand before you type it",
    });
  printed.set(number, line);
}

/** Through this machine's memory, by a pipe of two connections; never on its disk. */
async function carry(session: Session, act: Carry): Promise<Stopped | undefined> {
  const sent = { to: act.to, most: SESSIONS, what: act.files.join(" ") };
  return await sendToAll(session, sent, async (name) => {
    const [source, target] = [hostOf(session, act.from), hostOf(session, name)];
    if (source === target) return undefined;
    const { pack, unpack } = carriedTo(act, source, target);
    const began = Date.now();
    const why = await session.transport.pipe(source, pack, target, unpack, patience(session, MOST.file));
    const exitCode = why === undefined ? 0 : 1;
    const seconds = (Date.now() - began) / 1000;
    session.log.add({ node: name, command: `${unpack}   # from ${act.from}: ${pack}`, seconds, exitCode });
    return why === undefined ? undefined : { node: name, command: unpack, exitCode, reason: why };
  });
}

/** Files that leave one node at the same time: sshd opens ten sessions in a connection (MaxSessions). */
const SESSIONS = 8;

/** A new file of this folder: a name that is there already is not written over. */
async function fetchFile(session: Session, { from, file }: Fetch): Promise<Stopped | undefined> {
  const host = hostOf(session, from);
  const path = file.startsWith("/") ? file : `${host.kit}/${file}`;
  if (host.isHere) {
    tell(`      ${path} is on this node: copy it to another machine`);
    return undefined;
  }
  const line = `base64 ${path}`;
  const how = patience(session, MOST.file);
  const { exitCode, stdout, stderr } = await session.transport.run(host, line, how);
  if (exitCode !== 0) return { node: from, command: line, exitCode, reason: quoteUntrusted(stderr.trim()) };
  const bytes = Buffer.from(stdout, "base64");
  const sum = await session.transport.run(host, `sha256sum ${path}`, how);
  const isSame = sum.stdout.startsWith(new Bun.CryptoHasher("sha256").update(bytes).digest("hex"));
  if (!isSame)
    return {
      node: from,
      command: line,
      exitCode: 1,
      reason: `${path} came here with other bytes than lie there`,
    };
  const name = newName(session.folder, basename(path));
  writeFileSync(join(session.folder, name), bytes, { mode: 0o600, flag: "wx" });
  tell(`      ${name} is here: ${bytes.length} bytes, the same sha256 as on ${from}`);
  return undefined;
}

/** "report.html" → "report-20261202T043100.html"; with "-2" behind the time if that one is there. */
function newName(folder: string, name: string): string {
  const time = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "");
  const dot = name.lastIndexOf(".");
  for (let count = 1; ; count++) {
    const own = `${name.slice(0, dot)}-${time}${count > 1 ? `-${count}` : ""}${name.slice(dot)}`;
    if (!existsSync(join(folder, own))) return own;
  }
}

/** A node that cannot give its transcripts is named: the report is made without them. */
async function gather(session: Session, { from, to, into }: Gather): Promise<Stopped | undefined> {
  const target = hostOf(session, to);
  const missing: string[] = [];
  await inParallel(from, SESSIONS, async (name) => {
    const put = inKit(target, shell`mkdir -p -m 700 ${into} && cat > ${`${into}/${name}.tar`}`);
    const how = patience(session, MOST.file);
    const why = await session.transport.pipe(hostOf(session, name), PACK_RUNS, target, put, how);
    if (why !== undefined) missing.push(name);
  });
  if (missing.length > 0) say(`no transcripts came from ${listed(missing)}`);
  return undefined;
}
