/**
 * The nodes of a plan as an operator's machine reaches them: programs in the place of ssh, scp and sudo, and a folder for each node. What is
 * typed runs there. A user has nothing but sudo; root has the usual programs, and those below write down how they were called.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KIT_FOLDER } from "../../tools/pack/pack-kit.ts";

const SAY = (what: string) => `echo "$NODE: ${what}" >> "$CALLS"`;

/** ssh gives its words, with blanks between them, to the user's shell there. */
const SSH = `while [ "\${1#-}" != "$1" ]; do case "$1" in -n) exec < /dev/null ;; -o) shift ;; esac; shift; done
echo "ssh \${1%%@*}" >> "$CALLS"
way="$AT/login"; [ "\${1%%@*}" = root ] && way="$AT/root:/usr/bin:/bin"
export NODE="\${1#*@}"; shift
command="$*"
for folder in ${KIT_FOLDER} /root /etc/kubernetes; do command="\${command//$folder/$AT/nodes/$NODE$folder}"; done
exec env PATH="$way" /bin/sh -c "$command"`;

/** Nothing of this machine is removed, whatever becomes of a path on its way. */
const RM = `for path; do case "$path" in /*) [ "\${path#"$AT/"}" != "$path" ] || exit 98 ;; esac; done
exec /bin/rm "$@"`;

/** What lies in memory goes with it. */
const UMOUNT = `exec find "\${1:?}" -mindepth 1 -delete`;

const SUDO = `[ "$1" = -n ] || exit 99
shift
echo sudo >> "$CALLS"
PATH="$AT/root:/usr/bin:/bin" exec "$@"`;

const BUNW = `${SAY("bunw $*")}
case "$*" in
  *"workers.ts open"*) (umask 077; mkdir -p token.d; for i in $(seq 0 30); do mkdir token.d/w$i; echo token-of-w$i > token.d/w$i/token; done); echo "./bunw scripts/03-join.ts --server x" ;;
  *" --generate "*) echo a-backup > "\${@: -1}"; echo a-mark > "$AT/nodes/$NODE/etc/kubernetes/.kube-pki-repair-backup" ;;
  *report.ts*) ls logs.d > report.html ;;
  *--json*) echo "{}" ;;
  *" pack "*) (umask 077; echo a-bundle > shared-keys.age); echo "./bunw scripts/hand-over.ts unpack y" ;;
esac`;

function program(path: string, lines: string) {
  writeFileSync(path, `#!/bin/bash\n${lines}\n`);
  chmodSync(path, 0o755);
}

/** `first`: the address of the node that has the kit already. */
export async function nodesBySsh(first: string) {
  const at = mkdtempSync(join(tmpdir(), "nodes-"));
  const kit = `${at}/nodes/${first}${KIT_FOLDER}`;
  for (const folder of [`${at}/login`, `${at}/root`, `${at}/operator`, `${at}/home`, kit])
    mkdirSync(folder, { recursive: true });
  program(`${at}/operator/ssh`, SSH);
  program(`${at}/login/sudo`, SUDO);
  for (const name of ["systemctl", "pgrep", "kubectl", "mount"])
    program(`${at}/root/${name}`, SAY(`${name} $*`));
  for (const name of ["rm", "shred"]) program(`${at}/root/${name}`, RM.replace("/rm", `/${name}`));
  program(`${at}/root/umount`, UMOUNT);
  program(`${kit}/bunw`, BUNW);
  writeFileSync(
    `${kit}/SHA256SUMS`,
    `${new Bun.CryptoHasher("sha256").update(readFileSync(`${kit}/bunw`)).digest("hex")}  bunw\n`,
  );
  const packed = Bun.spawnSync(["tar", "-C", kit, "-czf", `${at}/kit.tar.gz`, "bunw", "SHA256SUMS"]);
  if (packed.exitCode !== 0) throw new Error(packed.stderr.toString());

  return {
    /** Folders that every node has, such as /etc: made when something is carried there. */
    folder: (address: string) => `${at}/nodes/${address}`,
    /** The operator's machine: where the lines are pasted. */
    operator: at,
    /** A file that has come there, in a new folder of the operator's home. */
    brought(name: string): string {
      const [path, ...more] = new Bun.Glob(`kube-pki-repair.*/${name}`).scanSync({
        cwd: `${at}/home`,
        absolute: true,
      });
      if (!path || more.length > 0) throw new Error(`${name} is in ${more.length + (path ? 1 : 0)} folders`);
      return path;
    },
    /** To each node that is named in these lines. */
    async bringKit(lines: string) {
      for (const ip of addressesIn(lines)) {
        mkdirSync(`${at}/nodes/${ip}${KIT_FOLDER}`, { recursive: true });
        program(`${at}/nodes/${ip}${KIT_FOLDER}/bunw`, BUNW);
      }
    },
    /** Pastes lines into a bash window on the operator's machine. */
    async paste(lines: string) {
      const meet = Bun.spawnSync([
        "bash",
        "-c",
        `mkdir -p ${at}/nodes/{${addressesIn(lines).join(",")}}/{run,root,etc/kubernetes}`,
      ]);
      if (meet.exitCode !== 0) throw new Error(meet.stderr.toString());
      const env = {
        PATH: `${at}/operator:/usr/bin:/bin`,
        AT: at,
        CALLS: `${at}/calls`,
        HOME: `${at}/home`,
        TMPDIR: at,
      };
      const child = Bun.spawn(["bash", "-e"], {
        cwd: at,
        env,
        stdin: Buffer.from(`umask 0\n${lines}\n`),
        stdout: "pipe",
        stderr: "pipe",
      });
      const [exitCode, stderr] = await Promise.all([child.exited, new Response(child.stderr).text()]);
      return { exitCode, stderr, calls: readFileSync(`${at}/calls`, "utf8").trimEnd().split("\n") };
    },
    [Symbol.dispose]: () => rmSync(at, { recursive: true }),
  };
}

/** More than one: else bash has no braces to expand. */
function addressesIn(lines: string): string[] {
  return ["0.0.0.0", ...new Set(lines.match(/\b\d+\.\d+\.\d+\.\d+\b/g))];
}
