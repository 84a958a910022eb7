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

/** Undefined: it is there. Else why not. */
export async function meetBySsh(
  host: Host,
  argv: readonly string[],
  isAsked: boolean,
): Promise<string | undefined> {
  const child = Bun.spawn([...argv], { stdio: [isAsked ? "inherit" : "ignore", "ignore", "pipe"] });
  const lines: string[] = [];
  let shown = 0;
  const reading = eachLine(child.stderr, child.exited, (line) => {
    lines.push(line);
    if (lines.length > MOST_SHOWN) lines.shift();
    if (shown++ < MOST_SHOWN && line.trim() !== "") say(`${host.name}, by ssh: ${line}`);
  });
  const exitCode = await child.exited;
  await reading;
  return exitCode === 0 ? undefined : reasonOf(lines);
}

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
  const what = WORDS.find(([form]) => lines.some((line) => form.test(line)))?.[1] ?? "does not answer by ssh";
  return last === "" ? what : `${what}: ${last}`;
}
