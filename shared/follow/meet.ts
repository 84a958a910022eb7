/**
 * The first connection to a node. ssh asks its questions on the terminal itself; what the node says meanwhile, such as a
 * banner, comes by stderr, and is shown as the node's own words.
 */
import { plainLine, quoteUntrusted } from "../plain.ts";
import { say } from "../run.ts";
import type { Host } from "./host.ts";
import { Lines } from "./leash.ts";

/** Lines of another machine that are shown. */
const MOST_SHOWN = 20;

interface Meeting {
  isMet: boolean;
  /** A person may change that: a host key that nobody has compared, a password, a passphrase. */
  mayBeAsked: boolean;
  /** Why it is not met. */
  why: string;
  /** The first lines that were printed. */
  lines: string[];
}

interface HowToMeet {
  /** It is ended behind so many. */
  seconds: number;
  /** It asks on the terminal; its lines are shown at once. Unset: it has no terminal. */
  asks?: Host;
}

export async function meetBySsh(argv: readonly string[], { seconds, asks }: HowToMeet): Promise<Meeting> {
  const stdio = [asks ? "inherit" : "ignore", "ignore", "pipe"] as const;
  const child = Bun.spawn([...argv], {
    stdio: [...stdio],
    ...(!asks && { detached: true, env: neverAsks() }),
  });
  const [last, lines]: [string[], string[]] = [[], []];
  let isLate = false;
  const late = setTimeout(() => {
    isLate = true;
    child.kill("SIGKILL");
  }, seconds * 1000);
  const reading = eachLine(child.stderr, child.exited, (line) => {
    last.push(line);
    if (last.length > MOST_SHOWN) last.shift();
    if (lines.length >= MOST_SHOWN || line.trim() === "") return;
    lines.push(line);
    if (asks) sayLine(asks, line);
  });
  const exitCode = await child.exited;
  clearTimeout(late);
  await reading;
  const why = isLate ? `within ${seconds} s it has let nobody in by ssh` : reasonOf(last);
  const isSilent = isLate || last.some((line) => NO_ANSWER.test(line));
  return { isMet: exitCode === 0, mayBeAsked: !isSilent, why, lines: asks ? [] : lines };
}

/** Shows what the node has printed without a terminal. Returns undefined where it is there, else why not. */
export function reportMeeting(host: Host, { isMet, why, lines }: Meeting): string | undefined {
  for (const line of lines) sayLine(host, line);
  return isMet ? undefined : why;
}

function sayLine({ name }: Host, line: string) {
  say(`${name}, by ssh: ${line}`);
}

/** ssh(1): it takes no other program in the place of the terminal. */
const neverAsks = () => ({ ...process.env, SSH_ASKPASS_REQUIRE: "never" });

/** OpenSSH's words where no answer of a person changes anything (sshconnect.c, kex.c). */
const NO_ANSWER =
  /^ssh: |^connect to host |Connection (?:timed out|refused|closed|reset)|timed out|REMOTE HOST IDENTIFICATION HAS CHANGED/;

/** Milliseconds. An older ssh keeps stderr open in the connection that stays behind: no end comes then. */
const DRAINED = 200;

async function eachLine(
  stream: ReadableStream<Uint8Array>,
  exited: Promise<number>,
  onLine: (line: string) => void,
) {
  const [reader, decoder] = [stream.getReader(), new TextDecoder()];
  const isOver = exited.then(() => Bun.sleep(DRAINED)).then(() => undefined);
  const lines = new Lines((line) => onLine(plainLine(line.replace(/\r$/, ""))));
  for (;;) {
    const next = await Promise.race([reader.read(), isOver]);
    if (!next || next.done) break;
    lines.take(decoder.decode(next.value, { stream: true }));
  }
  lines.end();
  await reader.cancel();
}

/** OpenSSH's words (sshconnect.c). */
const WORDS: readonly [RegExp, string][] = [
  [/REMOTE HOST IDENTIFICATION HAS CHANGED/, "its host key is another than the known one"],
  [/Host key verification failed/, "its host key is not known here"],
];

/** ssh's own last word. A host key that has changed is no silence: somebody answers there. */
function reasonOf(lines: readonly string[]): string {
  const last = quoteUntrusted(lines.findLast((line) => line.trim() !== "") ?? "");
  const what =
    WORDS.find(([form]) => lines.some((line) => form.test(line)))?.[1] ?? "it does not answer by ssh";
  return last === "" ? what : `${what}: ${last}`;
}
