/** What an operator of the lab says of nodes, in each line that takes it: once would do. */
import { command } from "../../../shared/again.ts";

const TAKES = /^(plan|02-control-plane|03-workers (open|close|approve)|03-join|04-sa-tokens)\b/;

export function withSaid(line: string, said: { without?: string[]; lost?: string[] }): string {
  return line.replace(/^\.\/bunw scripts\/([\w-]+)\.ts(.*)$/, (_, script: string, words: string) =>
    TAKES.test(script + words) ? command(script + words, said) : line,
  );
}
