/**
 * Decisions as numbers. Each open one is asked before anything is done, with what speaks for each way; a way is a word
 * that the plan takes, files that are brought, or a search. Without a terminal the options of the line decide.
 */
import { homedir } from "node:os";
import { resolve } from "node:path";
import { attemptLater, Fail } from "../fail.ts";
import { readBytes, stat } from "../files/files.ts";
import { plainLine } from "../plain.ts";
import { LISTS, type List, type Way } from "../plan/decision-ways.ts";
import type { DecisionData } from "../plan/plan-answer.ts";
import { answer, say } from "../run.ts";
import { bringConfig } from "./bring-config.ts";
import { doAct } from "./do-act.ts";
import { type Host, inKit } from "./host.ts";
import { bringOwnFiles } from "./own-files.ts";
import { putFile } from "./put-file.ts";
import { putPods } from "./put-pods.ts";
import type { Session } from "./session.ts";

/** "changed": the nodes are looked at again; "wait": nobody has decided; "end": the operator stops here. */
export type Decided = "continue" | "changed" | "wait" | "end";

const LOOK_AGAIN = "Look again: I have changed something";
const END = "End here: nothing more is done";

/** Asks all questions in turn. Ends after the first answer that changes something, because the other questions may then be obsolete. */
export async function decideAll(session: Session, decisions: readonly DecisionData[]): Promise<Decided> {
  const open = decisions.filter((decision) => isOpen(session, decision));
  if (await bringOwnFiles(session, open)) return "changed";
  for (const [index, decision] of open.entries()) {
    const title = `Decision ${index + 1} of ${open.length}`;
    const decided = await decide(session, decision, title);
    // a folder that the operator has just named has the other lost files, too
    if (decided === "changed") await bringOwnFiles(session, open);
    if (decided !== "continue") return decided;
  }
  return "continue";
}

function isOpen({ mayMakeKeys, leaves, person }: Session, { id, question, ways }: DecisionData): boolean {
  if (id === "new-keys") return !mayMakeKeys;
  const mayBeLeft = (id === "given-up" || id === "workers-pods") && ways.some((way) => way.leaves);
  return !mayBeLeft || (person.isThere && !leaves.has(question.join("\n")));
}

async function decide(session: Session, decision: DecisionData, title: string): Promise<Decided> {
  for (;;) {
    const decided = await decideOnce(session, decision, title);
    if (decided !== "back") return decided;
  }
}

async function decideOnce(
  session: Session,
  { id, question, ways }: DecisionData,
  title: string,
): Promise<Decided | "back"> {
  const shown = [...ways.map(shownWay), LOOK_AGAIN, END];
  const silent = SILENT.includes(id) ? whySilent(session) : [];
  const chosen = await session.person.choose({
    text: [`${title}: ${question[0]}`, ...question.slice(1), ...silent],
    ways: shown,
  });
  if (chosen === undefined) return "wait";
  if (chosen === ways.length) return "changed";
  if (chosen > ways.length) return "end";
  if (ways[chosen]!.leaves) {
    session.leaves.add(question.join("\n"));
    return "continue";
  }
  return await follow(session, ways[chosen]!);
}

function shownWay({ does, costs, irreversible }: Way): string {
  return [does, ...(costs ? [costs] : []), ...(irreversible ? [irreversible] : [])].map(plainLine).join(". ");
}

const SILENT: readonly DecisionData["id"][] = ["silent-control-planes", "silent-workers"];

/** ssh's own words tell a machine that is off from a key that is refused. */
function whySilent({ silent }: Session): string[] {
  return [...silent].map(([name, why]) => `${name}: ${why}`);
}

async function follow(session: Session, way: Way): Promise<Decided | "back"> {
  if (way.newKeys) {
    session.mayMakeKeys = true;
    return "continue";
  }
  if (way.deep) session.deep = true;
  if (way.says) addWords(session, way.says);
  for (const act of way.acts ?? []) {
    const stopped = await doAct(session, { number: "0", exit: [0] }, act);
    if (!stopped) continue;
    say(`${stopped.node}: ${stopped.reason}`);
    break;
  }
  if (way.brings) await bringConfig(session, way.brings);
  if (way.puts) await putPods(session, way.puts);
  if (way.upload && !(await upload(session, way.upload))) return "back";
  if (way.bundle && !(await openBundle(session))) return "back";
  return "changed";
}

function addWords({ words }: Session, more: NonNullable<Way["says"]>) {
  for (const list of LISTS) {
    const names = [...(words[list] ?? []), ...(more[list] ?? [])];
    if (names.length > 0) words[list] = [...new Set(names)];
  }
}

/**
 * The operator's own copy, into its place on each node that has lost it. A file that is there already stays, or moves aside.
 * A folder is only kept: each lost file that it has is brought. False: the operator went back.
 */
async function upload(session: Session, { path, to, aside }: NonNullable<Way["upload"]>): Promise<boolean> {
  const question = `The path of ${path} on this machine, or of a folder with your copies`;
  const own = await operatorsOwn(session, question, true);
  if (own === undefined) return false;
  if (typeof own === "string") session.ownFiles = own;
  else for (const name of to) await putFile(session, { path, name, input: own, aside });
  return true;
}

/** A bundle of the old keys: the script proves each key, and asks for the passphrase. False: the operator went back. */
async function openBundle(session: Session): Promise<boolean> {
  const { first } = session;
  const input = await operatorsOwn(session, "The path of the bundle on this machine", false);
  if (!(input instanceof Uint8Array)) return false;
  await session.transport.run(first, inKit(first, "umask 077; cat > operators-bundle.age"), { input });
  const line = "./bunw scripts/hand-over.ts unpack operators-bundle.age";
  answer(`${first.name}# ${line}`);
  const exitCode = await session.transport.onTerminal(first, inKit(first, line));
  session.log.add({ node: first.name, command: line, seconds: 0, exitCode });
  await removeBundle(session, first);
  return true;
}

async function removeBundle(session: Session, first: Host) {
  await session.transport.run(first, inKit(first, "rm -f operators-bundle.age"));
}

/**
 * The bytes of the file that the operator names, or the absolute path of a folder, where one will do. A path that will not
 * do is said, and asked again. Returns undefined at Enter alone, or if nobody answers.
 */
async function operatorsOwn(
  { person }: Session,
  question: string,
  mayBeFolder: boolean,
): Promise<Uint8Array | string | undefined> {
  for (;;) {
    const typed = await person.path(`${question} (Enter alone goes back)`);
    if (typed === undefined) return undefined;
    const at = resolve(typed.replace(/^~(?=\/|$)/, homedir()));
    if (mayBeFolder && stat(at)?.kind === "dir") return at;
    const bytes = await attemptLater(async () => readOwnFile(at));
    if (!(bytes instanceof Fail)) return bytes;
    say(`${bytes.message}: ${bytes.hint}`);
  }
}

/** Errors: Fail where it cannot be read, or is too large for a file of a node. */
function readOwnFile(path: string): Uint8Array {
  const { kind, size } = stat(path) ?? {};
  if (kind !== "file" || size === undefined)
    throw new Fail(`There is no file "${plainLine(path)}"`, {
      hint: "give the path of a file on this machine",
    });
  if (size > MOST_UPLOADED)
    throw new Fail(`"${plainLine(path)}" has ${size} bytes, which is too large`, {
      hint: "give the file itself, and not an archive of a disk",
    });
  return readBytes(path)!;
}

const MOST_UPLOADED = 64 * 2 ** 20;

/** Options that would decide, for who has no terminal. */
export function optionsThatDecide(decisions: readonly DecisionData[]): string[] {
  return decisions.flatMap(({ ways }) =>
    ways.flatMap((way) => {
      if (way.newKeys) return [`--new-keys: ${way.does}`];
      if (way.deep) return [`--deep: ${way.does}`];
      if (way.upload)
        return [`--files DIR: take ${way.upload.path} from your copies in this folder of your machine`];
      const words = Object.entries(way.says ?? {}) as [List, readonly string[]][];
      return words.length > 0
        ? [`${words.map(([list, names]) => `--${list} ${names.join(",")}`).join(" ")}: ${way.does}`]
        : [];
    }),
  );
}
