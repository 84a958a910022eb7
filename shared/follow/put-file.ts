/** A file that came to this machine, into its place on a node; and a text of a node that is shown, for who has to read it. */
import { plainLine, quoteUntrusted } from "../plain.ts";
import { putLine } from "../plan/whole-file.ts";
import { answerLines, say } from "../run.ts";
import { MOST, patience } from "./late.ts";
import type { Session } from "./session.ts";

/** A file of an operator's, or of another node, into its place; one that is there already stays, or moves aside. */
export async function putFile(
  session: Session,
  {
    path,
    name,
    input,
    aside = false,
    mode,
  }: {
    path: string;
    name: string;
    input: Uint8Array;
    aside?: boolean | undefined;
    mode?: number | undefined;
  },
) {
  const host = session.hosts.get(name);
  if (!host) return say(`${name}: ${path} was not written: nothing proves the address of ${name}`);
  const put = putLine({ path, size: input.length, aside, mode });
  const how = { input, ...patience(session, MOST.file) };
  const { exitCode, stderr } = await session.transport.run(host, put, how);
  session.log.add({ node: name, command: put, seconds: 0, exitCode });
  if (exitCode !== 0) say(`${name}: ${path} was not written: ${quoteUntrusted(stderr)}`);
  else say(`wrote ${path} on ${name}: ${input.length} bytes`);
}

/** Lines, and letters of each: a manifest or a configuration has a hundred. */
const [LINES, LETTERS] = [200, 500];

/** Whether all of it is on the screen: what cannot be read whole is put nowhere. */
export function showWhole(head: string, lines: readonly string[]): boolean {
  const isWhole = lines.length <= LINES && lines.every(({ length }) => length <= LETTERS);
  const shown = lines.slice(0, LINES).map((line) => `  ${plainLine(line.slice(0, LETTERS))}`);
  const more = isWhole
    ? []
    : ["It is longer than that: read it there, and copy it by hand. Nothing is copied here."];
  answerLines(["", head, ...shown, ...more]);
  return isWhole;
}
