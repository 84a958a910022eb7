/**
 * Nodes behind real sshds, and the operator's real ssh: in namespaces of their own, where loopback has their addresses,
 * /run and /root are empty folders in memory, and root has no login files. All nodes share that disk. What is typed runs there: a pretend bunw writes
 * down at which address it was called. All mounts and processes end with the command.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sshdConfig } from "../lab/machine/operator.ts";

const SPACES = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
const SSHD = "/usr/sbin/sshd";

/** This machine has the programs, and lets us make the namespaces. */
export const hasSshd =
  Bun.which(SSHD) !== null &&
  process.getuid?.() === 0 &&
  Bun.spawnSync([...SPACES, "true"], { stderr: "ignore" }).success;

/** $1: the folder. Behind `--`: what the operator types. An sshd writes its number when it listens. */
const INSIDE = `cd "$1"; at=$1; shift
mount -t tmpfs tmpfs /run
mount --bind passwd /etc/passwd
mkdir -m 700 /run/home /run/checkout
mount --bind "$CHECKOUT" /run/checkout
touch /run/bun && mount --bind "$BUN" /run/bun
mount -t tmpfs tmpfs /root
mkdir -m 755 /run/sshd
ip link set lo up
while [ "$1" != -- ]; do
  ip -6 addr add "\${1#*=}/128" dev lo nodad
  ${SSHD} -f "$at/\${1%%=*}.sshd" -E "$at/\${1%%=*}.log"
  until [ -s "\${1%%=*}.pid" ]; do sleep 0.01; done
  shift
done
shift
exec "$@"`;

export const JUMP = { name: "jump", address: "fd00::1", port: 2200 };

/** There this checkout is, and Bun: its own place may be below /root. */
const CHECKOUT = "/run/checkout";
export const REPAIR = ["/run/bun", `${CHECKOUT}/scripts/repair.ts`];

/** The jump host has port 2200, the nodes have port 2222. `known`: as what ssh knows each host key. */
interface Given {
  /** Name → address. */
  nodes: Readonly<Record<string, string>>;
  /** The operator's ssh_config, but for the key and the known hosts. */
  config: string;
  /** Shell: what bunw prints for a line, by \`case "$*"\`. */
  bunw: string;
}

const PASSWD = "root:x:0:0::/run/home:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n";

interface Ran {
  exitCode: number;
  stdout: string;
  stderr: string;
  /** "fd00::11 scripts/01-etcd.ts": where a script was called, and with which words. */
  calls: string[];
  /** How many each node has got. */
  connections: number[];
  /** How many of them the jump host has made. */
  led: number;
}

function program(path: string, lines: string) {
  writeFileSync(path, `#!/bin/sh\n${lines}\n`);
  chmodSync(path, 0o755);
}

function newHostKey(path: string): string {
  const made = Bun.spawnSync(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path]);
  if (made.exitCode !== 0) throw new Error(made.stderr.toString());
  return readFileSync(`${path}.pub`, "utf8").trim();
}

const PLACES = { CHECKOUT: join(import.meta.dir, "../.."), BUN: process.execPath };

const CALLED = `address=\${SSH_CONNECTION#* * }; echo "\${address% *} $*" >> $CALLS`;

export function nodesBySshd({ nodes, config, bunw }: Given) {
  const at = mkdtempSync(join(tmpdir(), "sshd-"));
  for (const folder of ["operator", "root", "kit"]) mkdirSync(join(at, folder), { mode: 0o755 });
  writeFileSync(join(at, "authorized"), newHostKey(join(at, "id")));
  writeFileSync(join(at, "passwd"), PASSWD);
  const known: string[] = [];
  const sshd = (name: string, address: string, port: number, alias: string) => {
    const hostKey = join(at, `${name}.key`);
    known.push(`${alias} ${newHostKey(hostKey)}`);
    const common = sshdConfig({ hostKey, authorizedKeys: join(at, "authorized"), listen: address });
    const own = [
      `Port ${port}`,
      "LogLevel DEBUG1",
      `PidFile ${at}/${name}.pid`,
      `SetEnv PATH=${at}/root:/usr/bin:/bin CALLS=${at}/calls`,
    ];
    writeFileSync(join(at, `${name}.sshd`), `${own.join("\n")}\n${common}`);
  };
  sshd(JUMP.name, JUMP.address, JUMP.port, `[${JUMP.address}]:${JUMP.port}`);
  for (const [index, [name, address]] of Object.entries(nodes).entries())
    sshd(name, address, 2222, index === 0 ? `[${address}]:2222` : name);
  writeFileSync(join(at, "known_hosts"), `${known.join("\n")}\n`);
  const own = [
    "Host *",
    `IdentityFile ${at}/id`,
    "IdentitiesOnly yes",
    `UserKnownHostsFile ${at}/known_hosts`,
    "GlobalKnownHostsFile none",
  ];
  writeFileSync(join(at, "ssh_config"), `${config}\n${own.join("\n")}\n`);
  program(join(at, "operator/ssh"), `exec ${Bun.which("ssh")} -F ${at}/ssh_config "$@"`);
  for (const name of ["systemctl", "pgrep", "kubectl"])
    program(join(at, "root", name), CALLED.replace("$*", `${name} $*`));
  program(join(at, "kit/bunw"), `${CALLED}\ncase "$*" in\n${bunw}\nesac`);
  const sum = new Bun.CryptoHasher("sha256").update(readFileSync(join(at, "kit/bunw"))).digest("hex");
  writeFileSync(join(at, "kit/SHA256SUMS"), `${sum}  bunw\n`);
  const packed = Bun.spawnSync([
    "tar",
    "-C",
    join(at, "kit"),
    "-czf",
    join(at, "kit.tar.gz"),
    "bunw",
    "SHA256SUMS",
  ]);
  if (packed.exitCode !== 0) throw new Error(packed.stderr.toString());
  const read = (name: string) => {
    const file = Bun.file(join(at, name));
    return file.exists().then((isThere) => (isThere ? file.text() : ""));
  };
  return {
    folder: at,
    kit: join(at, "kit.tar.gz"),
    /** In the operator's folder, with his ssh first on the path. */
    async run(command: readonly string[]): Promise<Ran> {
      const all = Object.entries({ [JUMP.name]: JUMP.address, ...nodes }).map(
        ([name, ip]) => `${name}=${ip}`,
      );
      const child = Bun.spawn(
        [...SPACES, "--propagation", "private", "sh", "-ec", INSIDE, "sh", at, ...all, "--", ...command],
        {
          ...{ cwd: at, stdin: "ignore", stdout: "pipe", stderr: "pipe" },
          env: { PATH: `${at}/operator:/usr/sbin:/usr/bin:/sbin:/bin`, HOME: at, TMPDIR: at, ...PLACES },
        },
      );
      const [stdout, stderr, exitCode] = await Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
        child.exited,
      ]);
      const calls = (await read("calls")).split("\n").filter(Boolean);
      const logs = await Promise.all(Object.keys(nodes).map((name) => read(`${name}.log`)));
      const connections = logs.map((log) => log.match(/^Connection from /gm)?.length ?? 0);
      const led = (await read(`${JUMP.name}.log`)).match(/ ctype direct-tcpip /g)?.length ?? 0;
      return { exitCode, stdout, stderr, calls, connections, led };
    },
    [Symbol.dispose]: () => rmSync(at, { recursive: true }),
  };
}
