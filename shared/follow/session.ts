/** All that one `repair` knows: who is asked, what was said, which nodes are met, and what was typed. */
import { appendFileSync, openSync, writeSync } from "node:fs";
import { Fail } from "../fail.ts";
import { redact } from "../plain.ts";
import type { List } from "../plan/decision-ways.ts";
import type { StepData } from "../plan/plan-answer.ts";
import type { Host, Output, Transport } from "./host.ts";
import type { Kit } from "./kit-file.ts";
import type { Person } from "./person.ts";

/** The operator's words about nodes and files: a plan takes them as options. */
export type Words = Partial<Record<List, readonly string[]>> & {
  endpoint?: string | undefined;
  "etcd-data"?: string | undefined;
};

export interface Session {
  transport: Transport;
  person: Person;
  /** Packed when a node needs it: where there is one node, none does. */
  kit: () => Promise<Kit>;
  /** The lines of RUNBOOK.md: nothing else is typed. */
  runbookLines: ReadonlySet<string>;
  /** The node on which plans are made. */
  first: Host;
  /** The user who logs in on the other nodes. */
  user: string;
  /** Name of a node → its address, as the operator has given it. */
  addresses: ReadonlyMap<string, string>;
  /** Name of a node → the way to it. */
  hosts: Map<string, Host>;
  /** Names of those that have answered. */
  met: Set<string>;
  /** Name of a node that has let nobody in by ssh → why; a machine's words are in it, quoted. */
  silent: Map<string, string>;
  words: Words;
  /** The disk is searched as well. */
  deep: boolean;
  /** Said: new keys may be made. */
  mayMakeKeys: boolean;
  /** Said, or asked on the screen before the first step: what it named may be done. */
  mayBegin: boolean;
  /** The first steps, which stop the loss, were done or declined. */
  isHeld: boolean;
  /** Sentences about what cannot be taken back, which a screen has named before its first step. */
  named: Set<string>;
  /** Questions that the operator has left as they are. */
  leaves: Set<string>;
  /** The operator's folder with copies of lost files, on this machine; an absolute path. */
  ownFiles?: string | undefined;
  /** "NODE PATH" of each of them that was brought, or looked for. */
  brought: Set<string>;
  /** Tasks that the operator leaves out. */
  leftOut: Set<string>;
  /** The same command again, as it was typed. */
  again: string;
  /** Steps that are done only when nothing is missing any more. */
  cleansUp: boolean;
  /** Number of a step → the line that it has printed. */
  printed: Map<string, string>;
  /** "1f cp2 ./bunw …": ended as the plan says. */
  done: Set<string>;
  log: Log;
  /** Fetched files come here. */
  folder: string;
  /** Ctrl-C was typed: the repair ends behind what runs now. */
  isStopping: boolean;
}

type Given =
  | "transport"
  | "person"
  | "kit"
  | "runbookLines"
  | "first"
  | "words"
  | "deep"
  | "mayMakeKeys"
  | "mayBegin";

export function newSession(
  given: Pick<Session, Given | "log" | "again" | "cleansUp" | "folder" | "addresses" | "ownFiles">,
): Session {
  return {
    ...given,
    user: given.first.user,
    ...{
      hosts: new Map([[given.first.name, given.first]]),
      met: new Set(),
      silent: new Map(),
      isHeld: false,
    },
    ...{
      named: new Set(),
      leaves: new Set(),
      brought: new Set(),
      leftOut: new Set(),
      printed: new Map(),
      done: new Set(),
      isStopping: false,
    },
  };
}

/** Marks a line of a step as done on a node. */
export function doneMark({ number }: Pick<StepData, "number">, node: string, line: string): string {
  return `${number} ${node} ${line}`;
}

export interface Logged {
  /** When it was typed: ISO 8601. */
  at: string;
  /** "1a"; unset: it looks, or brings something. */
  step?: string | undefined;
  node: string;
  command: string;
  seconds: number;
  exitCode: number;
  /** The ends of what was printed, without secrets. */
  stdout?: string | undefined;
  stderr?: string | undefined;
}

type Typed = Omit<Logged, "at" | "stdout" | "stderr">;

interface Log {
  add(line: Typed, output?: Output): void;
}

/** JSON lines, a command each, in a new file of this machine; no secret. */
export class RepairLog implements Log {
  readonly path: string;

  /** Errors: Fail where the file is there already, or cannot be made. */
  constructor(path: string) {
    this.path = path;
    // a link or a file of another's is not followed: the name has to be new
    try {
      writeSync(openSync(path, "wx", 0o600), "");
    } catch (err) {
      throw new Fail(`The log cannot be written to "${path}": ${(err as Error).message}`, {
        hint: "run it in a folder of your own, or name another file with --log FILE",
      });
    }
  }

  add(line: Typed, output?: Output) {
    const end = (text: string | undefined) => text && redact(text.slice(-MOST_OF_A_SCRIPT)).text;
    const [stdout, stderr] = [end(output?.stdout), end(output?.stderr)];
    const at = new Date(Date.now() - 1000 * line.seconds).toISOString();
    const whole: Logged = { at, ...line, command: redact(line.command).text, stdout, stderr };
    appendFileSync(this.path, `${JSON.stringify(whole)}\n`);
  }
}

/** Characters. */
const MOST_OF_A_SCRIPT = 20_000;
