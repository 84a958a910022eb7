/**
 * The operator's machine: a folder with a key to the nodes, their host keys, an inventory, the playbook and
 * the kit.
 */
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sh } from "./shell.ts";

/** What Ansible needs on this machine and on a node. As in packages.ts. */
export const FLEET_PACKAGES = [
  ["/usr/bin/ansible-playbook", "ansible-core"],
  ["/usr/bin/ssh", "openssh-client"],
  ["/usr/sbin/sshd", "openssh-server"],
  ["/usr/bin/sudo", "sudo"],
] as const;

export type Group = "first_control_plane" | "other_control_planes" | "workers";

export interface Host {
  name: string;
  group: Group;
  address: string;
  /** The user with sudo that Ansible logs in as; unset: root. */
  user?: string;
}

const HOME = join(import.meta.dir, "../../..");

/** Makes the folder from scratch. The kit is where RUNBOOK.md says: beside `scripts`. */
export async function makeOperator(
  folder: string,
  options: { hosts: Host[]; kit: string },
): Promise<{ publicKey: string }> {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, "home"), { recursive: true, mode: 0o700 });
  symlinkSync(join(HOME, "scripts"), join(folder, "scripts"));
  symlinkSync(options.kit, join(folder, "kit.tar.gz"));
  writeFileSync(join(folder, "known_hosts"), "");
  writeFileSync(join(folder, "inventory.yaml"), inventory(folder, options.hosts));
  return { publicKey: await newKey(join(folder, "id_ed25519")) };
}

/** A new key pair; returns the public one. */
export async function newKey(path: string): Promise<string> {
  await sh(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", path]);
  return (await Bun.file(`${path}.pub`).text()).trim();
}

/** JSON is YAML, too. Host keys are checked, against the ones that the lab has made. */
function inventory(folder: string, hosts: Host[]): string {
  const ssh = [
    "GlobalKnownHostsFile=/dev/null",
    "IdentitiesOnly=yes",
    `IdentityFile=${folder}/id_ed25519`,
    `UserKnownHostsFile=${folder}/known_hosts`,
  ].map((o) => `-o ${o}`);
  const groups = Map.groupBy(hosts, ({ group }) => group);
  const children = [...groups].map(([group, members]) => [
    group,
    { hosts: Object.fromEntries(members.map((host) => [host.name, loginOf(host)])) },
  ]);
  const vars = { ansible_user: "root", ansible_ssh_common_args: ["-F none", ...ssh].join(" ") };
  return JSON.stringify({ all: { vars, children: Object.fromEntries(children) } }, null, 2);
}

function loginOf({ address, user }: Host) {
  return { ansible_host: address, ...(user ? { ansible_user: user, ansible_become: true } : {}) };
}

/**
 * What ~/.ssh/config is to a person; ssh asks the passwd file for the home, not the environment. The ssh and
 * scp of this folder's `bin` have its key and its host keys: they are typed as anywhere. `names`: what ssh
 * calls a host, if not its address. `jump`: a machine through which the others are reached.
 */
export function sshFrom(
  folder: string,
  hosts: readonly Host[],
  { names = false, jump }: { names?: boolean; jump?: { through: string; to: readonly Host[] } } = {},
) {
  const common = [
    `IdentityFile ${folder}/id_ed25519`,
    "IdentitiesOnly yes",
    `UserKnownHostsFile ${folder}/known_hosts`,
    "GlobalKnownHostsFile none",
  ];
  const lines = [
    ...(names ? hosts.flatMap(({ name, address }) => [`Host ${name}`, `HostName ${address}`]) : []),
    ...(jump ? [`Host ${jump.to.map(({ address }) => address).join(" ")}`, `ProxyJump ${jump.through}`] : []),
    "Host *",
    ...common,
  ];
  writeFileSync(join(folder, "ssh_config"), `${lines.join("\n")}\n`);
  mkdirSync(join(folder, "bin"));
  for (const name of ["ssh", "scp"])
    writeFileSync(
      join(folder, "bin", name),
      `#!/bin/sh\nexec /usr/bin/${name} -F ${folder}/ssh_config "$@"\n`,
      { mode: 0o755 },
    );
}

/**
 * sshd's configuration on a node: keys only, no PAM. `allowed`: who may log in, and from where
 * (sshd_config(5), AllowUsers).
 */
export function sshdConfig(options: {
  hostKey: string;
  authorizedKeys: string;
  listen?: string;
  allowed?: string;
}): string {
  const lines = [
    `HostKey ${options.hostKey}`,
    `AuthorizedKeysFile ${options.authorizedKeys}`,
    ...(options.listen ? [`ListenAddress ${options.listen}`] : []),
    ...(options.allowed ? [`AllowUsers ${options.allowed}`] : []),
    ...[
      "UsePAM no",
      "PasswordAuthentication no",
      "KbdInteractiveAuthentication no",
      "PermitRootLogin prohibit-password",
    ],
    ...["StrictModes no", "PidFile none", "Subsystem sftp internal-sftp"],
  ];
  return `${lines.join("\n")}\n`;
}

/** The environment of a shell on the operator's machine. */
export function operatorEnv(folder: string): Record<string, string> {
  return {
    ...{ PATH: "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME: join(folder, "home"), LANG: "C.UTF-8" },
    ...{ ANSIBLE_CONFIG: join(folder, "scripts/ansible.cfg"), ANSIBLE_LOCAL_TEMP: join(folder, "home/tmp") },
    ...{ ANSIBLE_NOCOLOR: "1", ANSIBLE_HOME: join(folder, "home/.ansible") },
  };
}
