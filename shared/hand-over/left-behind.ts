/**
 * A bundle and the file that opens it on one machine are together all keys of the cluster. Neither pack nor
 * unpack removes them: the bundle may be the only backup, and the next node may still need it. They say what
 * to remove, and when.
 */
import { isInMemory } from "../files/mounts.ts";
import { typed } from "../options.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { notKept } from "./backup-mark.ts";

interface Pair {
  /**
   * As the operator typed them. `opener`: a passphrase or an age identity; unset if it was typed, or is on
   * another machine.
   */
  bundle: string;
  opener: string | undefined;
}

/** `when`: the time from which nobody needs them here any more. */
export function sayLeftBehind({ bundle, opener }: Pair, when: string) {
  if (opener === undefined) return;
  const warning = `WARNING: "${opener}" opens "${bundle}", and together they are all keys of the cluster`;
  const paths = [typed(opener), typed(bundle)];
  if (notKept(paths[1]!)) say(`${warning}. ${when}: ${removal(paths)}`);
  else say(`${warning}. Keep them in two places, away from this machine`);
}

/** Memory needs no shredding. */
function removal(paths: readonly string[]): string {
  const [inMemory, onDisk] = [paths.filter(isInMemory), paths.filter((path) => !isInMemory(path))];
  const lines = [
    onDisk.length > 0 ? shell`shred -u ${onDisk}` : "",
    inMemory.length > 0 ? shell`rm ${inMemory}` : "",
  ];
  return lines.filter(Boolean).join("; ");
}
