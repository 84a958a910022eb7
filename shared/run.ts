/**
 * The rules of the terminal, stated once. Answers (a report, the help, a command to paste) go to stdout;
 * narration goes to stderr. A step is `== 1.1 …`, its items are actions, verb first, or `thing: fact`, and
 * every stop ends in `error:` and `hint:`. Signs (√ ‼ ×) and colour are for a terminal only, and NO_COLOR
 * removes the colour.
 *
 * A key, a token or a passphrase is never printed, and never part of a command line. All of it is `plain`: it
 * contains strangers' words, and a terminal obeys some characters.
 *
 * With `--dry-run` the same code runs, but `act` and `shared/files/files.ts` only say what they would do.
 */
import { stripVTControlCharacters } from "node:util";
import { ProcessOutput } from "zx/core";
import packageJson from "../package.json" with { type: "json" };
import { Fail } from "./fail.ts";
import { json, okAnswer, stoppedAnswer } from "./json-answer.ts";
import { plain, plainLine, quoteUntrusted, wholeLine } from "./plain.ts";
import { hasColour, inLocale, pasteLines, wrapped } from "./screen-width.ts";
import { failOfSystem } from "./system-errors.ts";
import {
  checkSignal,
  leavesNothing,
  onSignal,
  startRunEvents,
  stoppedBy,
  told,
  unfinishedActions,
} from "./this-run.ts";

export const VERSION: string = packageJson.version;

/**
 * The state of a script's whole run, set by `run` and `start`. `again`: its steps are repeated without
 * output. `foretells`: they run in memory first, so that the first screen can name the files (files/foretell.ts).
 */
export const mode = { dryRun: false, script: "", again: false, foretells: false, began: new Date() };

/** Thrown if the answer is all that was asked for: exit code 0. */
export class FullAnswer extends Error {}

/**
 * Runs a script's `main`; shows a failure as `error:` and `hint:` and exits with its code, and so what the system
 * refuses. A bug keeps its stack.
 */
export async function run(main: () => Promise<unknown>) {
  Object.assign(mode, { began: new Date(), script: "" });
  Object.assign(json, { isAsked: false, isGiven: false });
  leavesNothing();
  process.emitWarning = tellWarning;
  try {
    refuseNoNumber(process.env.KUBE_PKI_REPAIR_PATIENCE);
    await main();
  } catch (thrown) {
    if (thrown instanceof FullAnswer) return answerText(thrown.message);
    const err = failOfSystem(thrown) ?? thrown;
    const { message, hint } = stopOf(err);
    if (err instanceof Fail || err instanceof ProcessOutput) show(message, hint, unfinishedActions());
    else
      tell(
        ...Bun.inspect(err)
          .split("\n")
          .map((line) => `  | ${line}`),
      );
    answerStop(err, message, hint);
    process.exit(err instanceof Fail ? err.exitCode : 1);
  }
}

/** The words of an error for the operator. */
function stopOf(err: unknown): { message: string; hint: string } {
  if (err instanceof Fail)
    return { message: `${err.message}${err.unchanged ? UNCHANGED : ""}`, hint: err.hint };
  if (err instanceof ProcessOutput)
    return {
      message: `A program that this step called exited ${err.exitCode}: ${lastLine(err)}`,
      hint: "repair the cause, then run the same line again: it skips finished steps",
    };
  return {
    message: err instanceof Error ? err.message : String(err),
    hint: "send the lines of stderr with a question: it is a bug of this kit",
  };
}

/** A program gets one answer: a stop behind it is only told. */
function answerStop(err: unknown, message: string, hint: string) {
  if (json.isAsked && !json.isGiven)
    printJson(stoppedAnswer(err, { message: plainLine(message), hint: plainLine(hint) }));
}

/** A library's warning may hold a stranger's text: by itself it would come to the terminal as it is. */
function tellWarning(warning: string | Error) {
  say(`a library warns: "${quoteUntrusted(typeof warning === "string" ? warning : warning.message)}"`);
}

/** Refuses values that are no number: with them every wait would be endless. */
function refuseNoNumber(patience: string | undefined) {
  if (!patience || Number(patience) >= 0) return;
  throw new Fail(`KUBE_PKI_REPAIR_PATIENCE is "${patience}", and has to be a number`, {
    hint: "give a number: with 3 each wait is three times as long",
  });
}

/** From here on a signal ends this script in order. */
export function endOnSignal() {
  onSignal((signal) => {
    const stopped = stoppedBy(signal);
    show(stopped.message, stopped.hint, unfinishedActions());
    answerStop(stopped, stopped.message, stopped.hint);
    process.exit(stopped.exitCode);
  });
}

/** First line of a writing script: name, version, and whether this is a dry run. */
export function start(script: string, values: { "dry-run"?: boolean | undefined } = {}) {
  mode.dryRun = values["dry-run"] ?? false;
  mode.script = script;
  if (!mode.dryRun) startRunEvents({ what: "run", script, version: VERSION, args: process.argv.slice(2) });
  tell(
    `kube-pki-repair ${VERSION}   ${script}${mode.dryRun ? "   DRY RUN: nothing is written, stopped or started" : ""}`,
  );
}

/** A step that only looks: its title is printed only if something is said below it. */
export const LOOKS = Symbol("the step only looks");

/** The title of such a step, until something is said. */
let titleOfLook: string | undefined;

/** Prints a runbook step's number and title, and the command it stands for, then does it. */
export async function step<T>(
  title: string,
  action: () => Promise<T> | T,
  byHand?: string | typeof LOOKS,
): Promise<T> {
  checkSignal();
  const shown = `\n${bold(`== ${plainLine(title)}`)}`;
  titleOfLook = byHand === LOOKS && !mode.again ? shown : undefined;
  if (!mode.again && byHand !== LOOKS) narrate(`${shown}${byHand ? `   by hand: ${plainLine(byHand)}` : ""}`);
  told({ what: "step", title });
  let ok = false;
  try {
    const result = await action();
    ok = true;
    titleOfLook = undefined;
    return result;
  } finally {
    told({ what: "step end", title, ok });
  }
}

/**
 * The last line of a successful script: the next command. After a dry run: the same command for real. `left`:
 * steps that wait by choice.
 */
export function done(next: string, left?: string) {
  const end = left ? `done for now: ${left}.  next, when you choose: ` : "done.  next: ";
  tell("", mode.dryRun ? "done: nothing was changed.  next: the same without --dry-run" : `${end}${next}`);
}

let silent = false;

/** Runs something in memory without output, which would name files that nobody writes. */
export async function silently<T>(action: () => Promise<T>): Promise<T> {
  const wasSilent = silent;
  silent = true;
  try {
    return await action();
  } finally {
    silent = wasSilent;
  }
}

/** A line of progress.ts is on the terminal, without its end: the next message takes its place. */
export const redrawn = { isShown: false };

/** ECMA-48: to the beginning of the line, and erase it. */
export const ERASE_LINE = "\r\x1b[2K";

/**
 * Writes to stderr, and reports it. Bun's console.error would paint it red on a terminal; elsewhere it is
 * sure to be written before the script ends.
 */
function narrate(text: string) {
  const title = titleOfLook;
  titleOfLook = undefined;
  if (title) narrate(title);
  told({ what: "text", text: stripVTControlCharacters(text) });
  if (process.stderr.isTTY) process.stderr.write(`${redrawn.isShown ? ERASE_LINE : ""}${inLocale(text)}\n`);
  else console.error(text);
  redrawn.isShown = false;
}

/** One item of a step. */
export function say(line: string) {
  if (!silent) sayAloud(line);
}

/** Works within `silently`, too: prints what the script waits for. */
export function sayAloud(line: string) {
  narrate(`  ${plainLine(line)}`);
}

/** Narration: each of these is one line, "" an empty one. */
export function tell(...lines: readonly string[]) {
  narrate(lines.map(plainLine).join("\n"));
}

/** The sign at the beginning of an answer's line: well, a warning, a failure. */
export type Sign = "√" | "‼" | "×";

/** ECMA-48, SGR: green, yellow, red. */
const COLOURS: Record<Sign, number> = { "√": 32, "‼": 33, "×": 31 };

/**
 * One line of an answer: a row of a report, a command to paste. A line break in it is another's, and is shown as one.
 * Programs read it, too, so it is never cut. A sign takes the place of the first blank. With `hang` it is prose: a
 * terminal shows it broken between words, with so many blanks before each further line.
 */
export function answer(text: string, sign?: Sign, hang?: number) {
  const line = wholeLine(text);
  const shown = hang === undefined ? line : wrapped(line, hang).join("\n");
  print(
    line,
    sign && process.stdout.isTTY
      ? `${coloured(inLocale(sign), COLOURS[sign])}${shown.replace(/^ /, "")}`
      : shown,
  );
}

/** Each of these is one line, "" an empty one. */
export function answerLines(lines: readonly string[]) {
  const whole = lines.map(wholeLine).join("\n");
  print(whole, whole);
}

/** Lines to paste, with their comments; on a narrow terminal a comment goes below its command. */
export function answerToPaste(lines: readonly string[]) {
  const whole = lines.map(wholeLine);
  print(whole.join("\n"), whole.flatMap((line) => pasteLines(line)).join("\n"));
}

/** Text whose line breaks are ours: JSON, a plan, the help. Whoever makes it has made one line of each of another's words. */
export function answerText(text: string) {
  const whole = plain(text, Infinity);
  print(whole, whole);
}

/** The answer of a script with `--json`: its own fields, behind those that each has. `indent`: blanks a level. */
export function answerJson(data: object, indent = 2) {
  printJson(okAnswer(data), indent);
}

function printJson(data: object, indent = 2) {
  json.isGiven = true;
  answerText(JSON.stringify(data, null, indent));
}

function print(text: string, shown: string) {
  told({ what: "text", text });
  console.log(process.stdout.isTTY ? inLocale(shown) : shown);
}

function coloured(text: string, code: number): string {
  return hasColour() ? `\x1b[${code}m${text}\x1b[0m` : text;
}

const PAST: Record<string, string> = { copy: "copied", set: "set", stop: "stopped", write: "wrote" };

/**
 * The one form of progress: "stopped", in a dry run "would stop". For things that do not change: "unchanged
 * X".
 */
export function did(verb: string): string {
  return mode.dryRun ? `would ${verb}` : (PAST[verb] ?? `${verb.replace(/e$/, "")}ed`);
}

/** Changes the node or the cluster, and says so; in a dry run it only says what it would do. */
export async function act(verb: string, what: string, action: () => Promise<unknown> | unknown) {
  const line = `${did(verb)} ${what}`;
  if (mode.dryRun) return say(line);
  checkSignal();
  await action();
  told({ what: "act", line: plainLine(line) });
  say(line);
}

/** RUNBOOK.md has the same sentences; words in capitals stand for values. */
interface Irreversible {
  what: string;
  back?: string;
}

export const IRREVERSIBLE = {
  newKeys: {
    what: "new shared keys (KEYS): what the old ones signed is rejected until parts 3 and 4 have renewed it",
    back: "until part 3, if the old keys are found: put them into the place of the new ones, and part 1 again",
  },
  memberOut: {
    what: "NODE is taken out of etcd's members, and what only its data holds is lost. A machine of that name joins as a new, empty member",
  },
  fullManager: {
    what: "the controller-manager runs in full again: it evicts pods of nodes that do not renew their Lease, after five minutes",
    back: "none for an evicted pod; to stop it before: mv /etc/kubernetes/manifests/kube-controller-manager.yaml /root/",
  },
  tokens: {
    what: "copies of renewed tokens outside of the cluster stop working",
    back: "none for them; the old tokens are in the copy of etcd's data in the rescue folder",
  },
  restarts: {
    what: "a pod that restarts loses what it holds in memory and in emptyDir volumes",
    back: "none; --only-system, --namespace and --skip choose whose pods restart now",
  },
  oldKey: {
    what: "tokens that the old service-account key signed are rejected from now on",
    back: "mv DIR/sa-old.pub back into its place, and part 2 again",
  },
  bundle: { what: "FILE is overwritten: keys that only this bundle holds are lost" },
} as const satisfies Record<string, Irreversible>;

/** Says before an act, also in a dry run, that it cannot be taken back. `values`: for the words in capitals. */
export function sayNoUndo(act: keyof typeof IRREVERSIBLE, values: Record<string, string> = {}) {
  say(irreversibleText(act, values));
}

/** The sentence about an irreversible act, without its full stop. */
export function irreversibleText(
  act: keyof typeof IRREVERSIBLE,
  values: Record<string, string> = {},
): string {
  const { what, back }: Irreversible = IRREVERSIBLE[act];
  const filled = (text: string) =>
    Object.entries(values).reduce((done, [word, value]) => done.replace(word, () => value), text);
  return `irreversible: ${filled(what)}. ${back ? `Way back: ${filled(back)}` : "There is no way back"}`;
}

const UNCHANGED = ". Nothing was changed";

/** Separates the alternatives of a hint into lines, but not inside of quotes. */
const APART = /(?<!\w)'[^']*'|"[^"]*"|\. (?=(?:If|Or|Else|Where)\b)/g;

/** Shows what is left half done, the reason of the stop, and the next step. */
export function show(message: string, hint: string, left: readonly string[] = []) {
  for (const line of left) narrate(`\n${bold("note:")} ${plainLine(line)}`);
  const lines = plainLine(hint).replaceAll(APART, (text) => (text === ". " ? "\n  " : text));
  narrate(`\n${bold("error:")} ${plainLine(message)}\n${bold("hint:")} ${lines}`);
  told({ what: "failed", message: plainLine(message), hint: plainLine(hint) });
}

function lastLine(output: ProcessOutput) {
  return (output.stderr.trim() || output.stdout.trim() || "no output").split("\n").at(-1);
}

function bold(text: string) {
  return process.stderr.isTTY ? coloured(text, 1) : text;
}
