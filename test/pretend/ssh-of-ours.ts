/**
 * An ssh of the test's own, first on the path: it writes down its words, and runs there what it is told. What a hostile
 * node does is a line of shell that runs before it.
 */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { Ssh } from "../../shared/follow/ssh.ts";
import { sandbox } from "./sandbox.ts";

interface Hostile {
  /** Shell on the node as ssh makes a connection to it: a banner on stderr, an exit code. */
  meets?: string;
  /** Shell before each command: what a login shell's own file prints. */
  logsIn?: string;
  /** What `ssh -G` says of the way to the first node. */
  way?: { port: string; proxyjump: string };
  /** Seconds without a byte after which a connection is ended. */
  quiet?: number;
  /** Seconds after which one that is not made is given up. */
  longestMeeting?: number;
}

const WAY = { port: "2222", proxyjump: "bastion" };

function program({ meets = "exit 0", logsIn = "", way = WAY }: Hostile): string {
  return `#!/bin/bash
printf '%s|' "$@" >> "$RAN"; echo >> "$RAN"
case " $* " in
  *" -G "*) printf '%s\\n' 'port ${way.port}' 'proxyjump ${way.proxyjump}' 'user x'; exit 0;;
  *" -O "*) exit 0;;
  *" -N "*) ${meets}; exit 0;;
esac
${logsIn}
for word; do last=$word; done
exec sh -c "$last"`;
}

/** A fresh machine has no sudo, and root's one asks nothing. */
const SUDO = '#!/bin/sh\n[ "$1" = -n ] && shift\nexec "$@"\n';

/** `ran`: a line for each call, with "|" behind each word; `said`: what was printed here. */
export async function withSsh<T>(
  use: (ssh: Ssh, dir: string) => Promise<T>,
  hostile: Hostile = {},
): Promise<{ value: T; ran: string[]; said: string[] }> {
  using box = sandbox();
  mkdirSync(`${box.dir}/bin`);
  writeFileSync(`${box.dir}/bin/ssh`, program(hostile));
  writeFileSync(`${box.dir}/bin/sudo`, SUDO);
  for (const name of ["ssh", "sudo"]) chmodSync(`${box.dir}/bin/${name}`, 0o755);
  const { PATH, RAN } = process.env;
  Object.assign(process.env, { PATH: `${box.dir}/bin:${PATH}`, RAN: `${box.dir}/ran` });
  try {
    using ssh = new Ssh(false, { quiet: hostile.quiet, longestMeeting: hostile.longestMeeting });
    const value = await use(ssh, box.dir);
    return { value, ran: readFileSync(`${box.dir}/ran`, "utf8").trim().split("\n"), said: box.said };
  } finally {
    process.env.PATH = PATH;
    if (RAN === undefined) delete process.env.RAN;
    else process.env.RAN = RAN;
  }
}
