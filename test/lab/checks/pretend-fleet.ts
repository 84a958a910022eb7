/**
 * Pretend nodes for a playbook, made in seconds: real sshds, each with its own host name and memory, on
 * loopback addresses of our own network. The rest of their disks is read-only. Their kit is a pretend one: it
 * writes down each call, and prints what the real one prints. Only for a process that is alone in namespaces
 * of its own; see playbook.ts.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { waitFor } from "../../../shared/wait-for.ts";
import { type Host, makeOperator, newKey, operatorEnv, sshdConfig, sshFrom } from "../machine/operator.ts";
import { sh } from "../machine/shell.ts";

/** In memory, and seen by all the nodes. */
const MEMORY = "/mnt";
const PLACE = join(MEMORY, "fleet");
const CALLS = join(PLACE, "calls");
const FAILS = join(PLACE, "fails");
const OLD_CA = join(PLACE, "old-ca");

/** It has the right shape, and is put together here so that no tool takes it for a leaked secret. */
export const TOKEN = ["abcdef", "0123456789abcdef"].join(".");

const BUNW = `#!/bin/sh
call="$(hostname): $*"
echo "$call" >> ${CALLS}
if grep -qxF "$call" ${FAILS}; then echo "error: it failed, as it was asked to" >&2; exit 1; fi
case "$1 $2" in
  "scripts/00-assess.ts "*) echo "verdict: damaged"; exit 2 ;;
  "scripts/hand-over.ts identity") echo "age1$(hostname)" ;;
  "scripts/hand-over.ts pack") printf 'sealed \\377' > shared-keys.age; echo "./bunw scripts/hand-over.ts unpack shared-keys.age --identity FILE --ca-hash sha256:7d" ;;
  "scripts/hand-over.ts unpack") printf 'sealed \\377' | cmp - shared-keys.age ;;
  "scripts/03-workers.ts open") [ -e ${OLD_CA} ] || { (umask 077; rm -rf token.d; for w in w1 w2 w3 w4 w5; do case ",$4," in *",$w,"*) continue ;; esac; mkdir -p token.d/$w; printf "${TOKEN}\\n# $w\\n" > token.d/$w/token; done); echo "./bunw scripts/03-join.ts --server https://api:6443 --token-file token"; } ;;
  "scripts/03-join.ts") [ "$(stat -c %a token)-$(head -n 1 token)-$(tail -n 1 token)" = "600-${TOKEN}-# $(hostname)" ] ;;
  "scripts/report.ts report.html") ls *.tar > report.html ;;
  *) echo "== 1.1 A step" >&2 ;;
esac
`;

/** What stands in the place of a program that would act on this machine. */
const PROGRAM = `#!/bin/sh
echo "$(hostname): \${0##*/} $*" >> ${CALLS}
`;

/** Every node has this user, who may use sudo without a password. */
export const USER = "ubuntu";

/** A node's memory and its /etc are its own; everything else is read-only from here on. */
const NODE = `set -eu
hostname "$1"
for place in /run /dev/shm; do mount -t tmpfs -o mode=755,nosuid,nodev,noexec tmpfs $place; done
chmod 1777 /dev/shm
mkdir /run/sshd
mkdir ${PLACE}/$1.etc
cp -a /etc/. ${PLACE}/$1.etc
mount --bind ${PLACE}/$1.etc /etc
echo "${USER}:x:4242:4242::/nowhere:/bin/sh" >> /etc/passwd
echo "${USER}:*:20000::::::" >> /etc/shadow
mkdir -p /etc/sudoers.d && echo "${USER} ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/${USER}
for name in systemctl pgrep; do mount --bind ${PLACE}/program /usr/bin/$name; done
for point in / /tmp /var/tmp /root /home; do mount --bind -o ro "$point" "$point" 2>&1; mount -o remount,bind,ro "$point" "$point"; done
exec /usr/sbin/sshd -D -e -f ${PLACE}/$1.sshd`;

export interface Fleet {
  /**
   * Runs ansible-playbook as RUNBOOK.md does; returns the calls of the nodes' kits, in order, and the
   * operator's output.
   */
  play(args: string[]): Promise<{ calls: string[]; output: string; exitCode: number }>;
  /** Runs a shell script on the operator's machine, whose ssh and scp know the nodes by their names. */
  shell(script: string): ReturnType<Fleet["play"]>;
  /** From now on, these calls fail (`w2: scripts/03-join.ts …`). */
  fail(calls: string[]): void;
  /** From now on, no worker has to join. */
  keepCa(): void;
  /** Writes a file beside the operator's inventory. */
  write(name: string, text: string): void;
  /** A file on a node, where it can be changed from here. */
  etc(node: string, path: string): string;
}

export async function pretendFleet(hosts: Host[]): Promise<Fleet> {
  await sh(["mount", "-t", "tmpfs", "tmpfs", MEMORY]);
  mkdirSync(PLACE);
  await sh(["ip", "link", "set", "lo", "up"]);
  for (const file of [CALLS, FAILS]) writeFileSync(file, "");
  writeFileSync(join(PLACE, "program"), PROGRAM, { mode: 0o755 });
  const operator = join(PLACE, "operator");
  const { publicKey } = await makeOperator(operator, { hosts, kit: await packPretendKit() });
  writeFileSync(join(PLACE, "authorized_keys"), publicKey);
  const keys = await Promise.all(hosts.map((host) => startNode(host)));
  writeFileSync(
    join(operator, "known_hosts"),
    hosts.map(({ address }, i) => `${address} ${keys[i]}\n`).join(""),
  );
  sshFrom(operator, hosts, { names: true });
  return {
    play: (args) =>
      runThere(operator, ["ansible-playbook", "-i", "inventory.yaml", "scripts/fleet.yaml", ...args]),
    shell: (script) => runThere(operator, ["bash", "-c", script]),
    fail: (calls) => writeFileSync(FAILS, calls.map((call) => `${call}\n`).join("")),
    keepCa: () => writeFileSync(OLD_CA, ""),
    write: (name, text) => writeFileSync(join(operator, name), text),
    etc: (node, path) => join(PLACE, `${node}.etc`, path),
  };
}

async function packPretendKit(): Promise<string> {
  const kit = join(PLACE, "kit");
  mkdirSync(kit, { mode: 0o700 });
  writeFileSync(join(kit, "bunw"), BUNW);
  chmodSync(join(kit, "bunw"), 0o755);
  writeFileSync(join(kit, "SHA256SUMS"), await sh(["sha256sum", "bunw"], { cwd: kit }));
  await sh(["tar", "-C", kit, "-czf", join(PLACE, "kit.tar.gz"), "."]);
  return join(PLACE, "kit.tar.gz");
}

/** Returns its host key. It ends with this process, which is the first of its PID namespace. */
async function startNode({ name, address }: Host): Promise<string> {
  const hostKey = join(PLACE, `${name}.key`);
  const publicKey = await newKey(hostKey);
  writeFileSync(
    join(PLACE, `${name}.sshd`),
    sshdConfig({ hostKey, authorizedKeys: join(PLACE, "authorized_keys"), listen: address }),
  );
  const log = join(PLACE, `${name}.log`);
  const command = ["unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c", NODE, "sh", name];
  Bun.spawn(command, { stdin: "ignore", stdout: Bun.file(log), stderr: Bun.file(log) }).unref();
  const listens = () => existsSync(log) && readFileSync(log, "utf8").includes("Server listening");
  await waitFor(`sshd of ${name}`, listens, {
    seconds: 180,
    hint: `its output: ${readFileSync(log, "utf8")}`,
  });
  return publicKey;
}

async function runThere(operator: string, command: string[]) {
  writeFileSync(CALLS, "");
  // One connection for each node; they end with us.
  const own = operatorEnv(operator);
  const env = {
    ...own,
    PATH: `${operator}/bin:${own.PATH}`,
    ANSIBLE_SSH_ARGS: "-o ControlMaster=auto -o ControlPersist=600",
  };
  const child = Bun.spawn(command, { cwd: operator, env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return {
    calls: readFileSync(CALLS, "utf8").split("\n").filter(Boolean),
    output: stdout + stderr,
    exitCode,
  };
}
