/** A file that a connection brings to a node: all of it gets into its place, or nothing. */
import { dirname } from "node:path";
import { shell } from "../shell-line.ts";

/** The name of a file that another one replaces. */
export function asideName(path: string): string {
  return `${path}.before`;
}

interface Put {
  path: string;
  /** Bytes: a connection that breaks looks like the end of its input. */
  size: number;
  /** A file that is there already stays, or gets that name, whose earlier ones get numbers. */
  aside: boolean;
  /** Permission bits; 0600 if unset. */
  mode?: number | undefined;
}

/** The line of a shell that reads the file from its input. */
export function putLine({ path, size, aside, mode = 0o600 }: Put): string {
  const temporary = shell`mktemp ${dirname(path)}/.kube-pki-repair.XXXXXX`;
  return [
    shell`umask 077; mkdir -p ${dirname(path)}`,
    `t=$(${temporary})`,
    `trap 'rm -f "$t"' EXIT HUP INT TERM`,
    'cat > "$t"',
    `{ test "$(wc -c < "$t")" -eq ${size} || { echo "the file came cut off" >&2; exit 1; }; }`,
    ...(mode === 0o600 ? [] : [`${shell`chmod ${mode.toString(8)}`} "$t"`]),
    ...(aside ? [shell`{ test ! -e ${path} || mv --backup=numbered -T ${path} ${asideName(path)}; }`] : []),
    `ln -T "$t" ${shell`${path}`}`,
  ].join(" && ");
}
