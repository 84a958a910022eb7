/**
 * A machine beside the cluster that reaches every node by ssh: this machine's files, with the switch's
 * network.
 */
import { cpSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Lab, type Machine, type Output, sh } from "../machine/machine.ts";
import { GATEWAY, SWITCH } from "../machine/network.ts";
import { type Group, makeOperator, newKey, operatorEnv, sshdConfig, sshFrom } from "../machine/operator.ts";
import { LAB } from "../machine/state.ts";
import type { Scene } from "./scene.ts";
import { type Answers, Terminal } from "./terminal.ts";

const OPERATOR = join(LAB, "operator");
const HOST_KEY = "/etc/ssh/ssh_host_ed25519_key";
const AUTHORIZED_KEYS = "/etc/ssh/authorized_keys";

/** Its ssh and scp take no word more than an operator's: key and host keys are in their configuration. */
function operatorsShell() {
  const env = operatorEnv(OPERATOR);
  return { ...env, PATH: `${join(OPERATOR, "bin")}:${env.PATH}` };
}

export interface Way {
  /** Who may log in, and use sudo without a password; unset: root. */
  user?: string;
  /**
   * The first node is the only one that lets the operator's machine in; the others are reached through it.
   */
  jump?: boolean;
  /** The operator's machine has never met the nodes: ssh shows the fingerprint of each host key, and asks. */
  unknown?: boolean;
  /** What sudo asks the user for. */
  password?: string;
  /** The operator's machine has no node, npm, git, curl. */
  bare?: boolean;
}

/** Each node's host key as ssh shows it, for the operator's comparison. */
const fingerprints = new Set<string>();

/**
 * A window on it, in the folder with kit.tar.gz. The operator says yes to a host key that is the node's, and
 * types the password of sudo. `others`: what else is asked.
 */
export function operatorsTerminal(
  { password, bare = false }: Way,
  others: Answers = () => undefined,
): Terminal {
  const answers = (screen: string) => {
    const yes = saysYes(screen);
    if (yes !== undefined) return yes;
    return /^\[sudo\] password for \S+: $/m.test(screen) ? password : others(screen);
  };
  const shell = operatorsShell();
  const env = bare ? { ...shell, PATH: `${join(OPERATOR, "bin")}:${programsWithout(NOT_FOR_US)}` } : shell;
  return new Terminal(["ip", "netns", "exec", SWITCH], { cwd: OPERATOR, env, answers });
}

/** Programs that a release does not need. */
const NOT_FOR_US = /^(node|npm|npx|git|curl|wget|bun|bunx|openssl|python.*|perl.*)$/;

/** A folder with links to this machine's programs but these. */
function programsWithout(these: RegExp): string {
  const folder = join(OPERATOR, "bare");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  for (const name of readdirSync("/usr/bin"))
    if (!these.test(name)) symlinkSync(`/usr/bin/${name}`, join(folder, name));
  return folder;
}

const ENTER = join(import.meta.dir, "../enter.ts");

/** A window on a node, as its console has: no other machine is needed. It says yes to a host key that is another node's. */
export function windowOn({ name }: Machine, others: Answers): Terminal {
  const answers = (screen: string) => saysYes(screen) ?? others(screen);
  return new Terminal([process.execPath, ENTER, name], {
    cwd: LAB,
    env: { PATH: process.env.PATH! },
    answers,
  });
}

/** ssh's question about a host key. Undefined: it asks nothing. */
function saysYes(screen: string): string | undefined {
  if (!/\(yes\/no\/\[fingerprint\]\)\? $/.test(screen)) return undefined;
  return fingerprints.has(/SHA256:[\w+/]+/.exec(screen)?.[0] ?? "") ? "yes" : "no";
}

/** Each other node lets root of the first one in, and nobody else. The first one has met none of them. */
export async function reachableFromFirst({ lab }: Scene) {
  const [first, ...others] = lab.nodes as [Machine, ...Machine[]];
  mkdirSync(first.path("/root/.ssh"), { recursive: true, mode: 0o700 });
  const publicKey = await newKey(first.path("/root/.ssh/id_ed25519"));
  const allowed = `root@${first.ip}`;
  const hostKeys = await Promise.all(others.map((node) => startSshd(node, { publicKey, allowed })));
  for (const key of hostKeys) fingerprints.add(fingerprintOf(key));
}

/**
 * Puts the operator's key on every node, starts an sshd there, and gives the lab the machine that reaches
 * them.
 */
export async function makeReachable(
  scene: Scene,
  { user = "root", jump = false, unknown = false, password }: Way = {},
) {
  const { lab, kit } = scene;
  const hosts = lab.nodes.map(({ name, ip }) => ({ name, group: groupOf(lab, name), address: ip }));
  const { publicKey } = await makeOperator(OPERATOR, { hosts, kit });
  const [first, ...others] = hosts;
  sshFrom(OPERATOR, hosts, jump ? { jump: { through: `${user}@${first!.address}`, to: others } } : {});
  const allowed = (address: string) =>
    jump && address !== first!.address ? `${user}@${first!.address}` : user;
  const hostKeys = await Promise.all(
    lab.nodes.map((node) => startSshd(node, { publicKey, allowed: allowed(node.ip) })),
  );
  if (user !== "root") await Promise.all(lab.nodes.map((node) => letUseSudo(node, user, password)));
  for (const key of hostKeys) fingerprints.add(fingerprintOf(key));
  if (!unknown)
    writeFileSync(
      join(OPERATOR, "known_hosts"),
      hosts.map(({ address }, i) => `${address} ${hostKeys[i]}\n`).join(""),
    );
  lab.operator = operatorMachine();
}

/** Debian's own unit, which returns when sshd listens. Returns the node's host key. */
async function startSshd(
  node: Machine,
  { publicKey, allowed }: Record<"publicKey" | "allowed", string>,
): Promise<string> {
  mkdirSync(node.path("/etc/ssh"), { recursive: true });
  const hostKey = await newKey(node.path(HOST_KEY));
  writeFileSync(node.path(AUTHORIZED_KEYS), `${publicKey}\n`, { mode: 0o644 });
  writeFileSync(
    node.path("/etc/ssh/sshd_config"),
    sshdConfig({ hostKey: HOST_KEY, authorizedKeys: AUTHORIZED_KEYS, allowed }),
  );
  const { exitCode, stderr } = await node.run(["systemctl", "enable", "--now", "ssh.service"]);
  if (exitCode !== 0)
    throw new Error(`${node.name}: sshd does not start: ${stderr.trim()}; ${await journalOf(node)}`);
  return hostKey;
}

/**
 * sudo asks PAM, whose configuration is this machine's. With a password it reads the folder of more rules, as
 * on Debian and Fedora.
 */
async function letUseSudo(node: Machine, user: string, password: string | undefined) {
  cpSync("/etc/pam.d", node.path("/etc/pam.d"), { recursive: true });
  const rule = password
    ? `${user} ALL=(ALL) ALL\n@includedir /etc/sudoers.d`
    : `${user} ALL=(ALL) NOPASSWD: ALL`;
  writeFileSync(node.path("/etc/sudoers"), `${rule}\n`, { mode: 0o440 });
  mkdirSync(node.path("/etc/sudoers.d"), { recursive: true, mode: 0o750 });
  await sh(node, `useradd -m -p '*' -s /bin/bash ${user}`);
  if (password) await node.run(["chpasswd"], { input: `${user}:${password}\n` });
}

/** RFC 4648 base64 without its padding, as ssh prints it. */
function fingerprintOf(publicKey: string): string {
  const [, blob] = publicKey.split(" ");
  return `SHA256:${new Bun.CryptoHasher("sha256").update(Buffer.from(blob!, "base64")).digest("base64").replace(/=+$/, "")}`;
}

async function journalOf(node: Machine): Promise<string> {
  return (
    await node.run(["journalctl", "-u", "ssh.service", "-n", "10", "--no-pager", "-o", "cat"])
  ).stdout.trim();
}

/**
 * This machine's files with the switch's network: it reaches all nodes and nothing else. Its folder is the
 * operator's checkout.
 */
function operatorMachine(): Machine {
  const stays = async () => {
    throw new Error("the operator's machine is this machine: it is never switched off");
  };
  return {
    ...{ name: "operator", nodeName: "operator", ip: GATEWAY, kill: stays, boot: stays },
    path: (path) => join(OPERATOR, path),
    async run(command, options = {}): Promise<Output> {
      const child = Bun.spawn(["ip", "netns", "exec", SWITCH, ...command], {
        cwd: OPERATOR,
        // One connection for each task: none is left behind.
        env: {
          ...operatorsShell(),
          ANSIBLE_SSH_ARGS: "-o ControlMaster=no -o ControlPath=none",
          ...options.env,
        },
        stdin: options.input === undefined ? "ignore" : new Blob([options.input as BlobPart]),
        stdout: "pipe",
        stderr: "pipe",
      });
      const [stdout, stderr] = await Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
      ]);
      return { stdout, stderr, exitCode: await child.exited };
    },
  };
}

function groupOf(lab: Lab, name: string): Group {
  if (lab.controlPlanes[0]!.name === name) return "first_control_plane";
  return lab.controlPlanes.some((node) => node.name === name) ? "other_control_planes" : "workers";
}
