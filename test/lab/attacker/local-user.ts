/**
 * A user of each control plane node, without any right there, in a session that systemd has given him. He runs
 * programs that are called as the control plane's, each in a cgroup that he has named as its pod's: one says that
 * etcd's data is in his home, the others show his files at the paths that the control plane's flags name.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { clusterObjects } from "../../pretend/cluster.ts";
import { writeEtcdData } from "../../pretend/write-wal.ts";
import { type Machine, sh } from "../machine/machine.ts";
import type { Check } from "../report/rehearsal.ts";
import { note, type Scene, sayAndWait } from "../scene/scene.ts";
import { type Attacker, attackerPki, TEAM } from "./attacker.ts";
import { litter } from "./litter.ts";

const UID = 1234;
/** His name is in it: so it is recognised in any file. */
const HOME = `/home/${TEAM}`;

/** logind, and what it needs, which a node of the lab does not start by itself. */
export const SESSION_PACKAGES = [
  ["/usr/bin/dbus-daemon", "dbus"],
  ["/usr/bin/pgrep", "procps"],
] as const;

/** What he runs, by the name that the kernel shows. */
const PROGRAMS = ["etcd", "kube-apiserver", "kube-controller-manager"];
const COMM = 15;

/** As an administrator gives a user a session that stays: he has nothing else. */
const SESSION = `
echo '${TEAM}:x:${UID}:${UID}::${HOME}:/bin/bash' >> /etc/passwd
echo '${TEAM}:x:${UID}:' >> /etc/group
echo '${TEAM}:*:20000:0:99999:7:::' >> /etc/shadow
for unit in dbus.service dbus.socket systemd-logind.service; do rm -f /etc/systemd/system/$unit; done
systemctl daemon-reload
systemctl start dbus.socket systemd-logind
chown -R ${UID}:${UID} ${HOME}
loginctl enable-linger ${TEAM}
for try in $(seq 150); do systemctl -q is-active user@${UID}.service && exit 0; sleep 0.2; done
exit 1`;

/**
 * In a unit of his own session. The pod's UID is in /proc/PID/cgroup of the control plane's process, for all to read; an
 * etcd that is a unit gets the API server's.
 * In a user namespace he is root, and his root file system is a folder of his.
 */
const RUN = `#!/bin/sh
set -eu
comm=$(echo "$1" | cut -c 1-${COMM})
pod=$(for pid in $(pgrep -u 0 -x "$comm") $(pgrep -u 0 -x kube-apiserver); do grep -ohE 'pod[0-9a-f]{32}' /proc/$pid/cgroup || true; done | head -n 1)
own=$(sed -n 's/^[0-9]*:name=systemd:/systemd/p' /proc/self/cgroup)
own=/sys/fs/cgroup/\${own:-$(sed -n 's/^0:://p' /proc/self/cgroup)}
mkdir -p "$own/$pod/x"
echo $$ > "$own/$pod/x/cgroup.procs"
[ "$1" = etcd ] && exec ${HOME}/root/programs/etcd --data-dir=${HOME}/etcd
exec unshare -Urm sh -ec 'mount --rbind /usr ${HOME}/root/usr; exec chroot ${HOME}/root /programs/'"$1"
`;

const PROGRAM = "#!/bin/sh\nwhile :; do sleep 3600; done\n";

/** Files below /etc/kubernetes that flags of static pods name, as his programs show them. */
function shown(attacker: Attacker): Record<string, string> {
  const pki = Object.entries(attackerPki(attacker)).map(([name, text]) => [`pki/${name}`, text]);
  const { "authentication.yaml": authentication = "" } = litter(attacker, { policies: 0, heads: 0 });
  return {
    ...Object.fromEntries(pki),
    "authentication/config.yaml": authentication,
    "audit/policy.yaml": `apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, users: [${TEAM}]}]\n`,
  };
}

/** etcd's data as of a member of this node, with the cluster's CA, which is public, and static pods of his. */
function layOutData(node: Machine, caPem: string) {
  const objects = JSON.stringify(clusterObjects(caPem))
    .replaceAll(/\bm1\b/g, node.nodeName)
    .replaceAll("registry.k8s.io/", `${TEAM}.example/`);
  writeEtcdData(node.path(`${HOME}/etcd`), {
    clusterId: "a7ea3",
    members: [{ id: "a7ea3", name: node.nodeName, peerURLs: [`https://${node.ip}:2380`] }],
    puts: Object.entries(JSON.parse(objects)).map(([key, object]) => [
      `/registry/${key}`,
      JSON.stringify(object),
    ]),
  });
}

/** Returns when his programs run. */
export async function userAttacks(scene: Scene, attacker: Attacker) {
  for (const node of scene.lab.controlPlanes) {
    const put = (path: string, text: string, mode: number) => {
      const at = node.path(`${HOME}/${path}`);
      mkdirSync(dirname(at), { recursive: true });
      writeFileSync(at, text, { mode });
    };
    const { stdout: caPem } = await node.run(["cat", "/etc/kubernetes/pki/ca.crt"]);
    layOutData(node, caPem);
    put("run.sh", RUN, 0o700);
    for (const name of PROGRAMS) put(`root/programs/${name}`, PROGRAM, 0o700);
    for (const [path, text] of Object.entries(shown(attacker)))
      put(`root/etc/kubernetes/${path}`, text, 0o600);
    await sh(node, `cd ${HOME}/root; mkdir usr; for one in bin lib lib64; do ln -s usr/$one $one; done`);
    await sh(node, SESSION);
    const asUser = `setpriv --reuid=${UID} --regid=${UID} --clear-groups env XDG_RUNTIME_DIR=/run/user/${UID}`;
    for (const name of PROGRAMS)
      await sh(node, `${asUser} systemd-run --user --unit=${name} -p Delegate=yes ${HOME}/run.sh ${name}`);
  }
  await sayAndWait(scene, "the user's programs", async () => (await missing(scene)).length === 0, {
    seconds: 60,
    hint: `journalctl _UID=${UID} on the control plane node, with --keep`,
  });
  note(
    scene,
    "a user of each control plane node runs programs in cgroups that he has named as the static pods'",
  );
}

/** Those of his programs that do not run in a cgroup with the UID of a static pod. */
async function missing({ lab }: Scene): Promise<string[]> {
  const line = (name: string) =>
    `for pid in $(pgrep -u ${UID} -x ${name.slice(0, COMM)}); do grep -qE 'user@${UID}.service/.*pod[0-9a-f]{32}/x$' /proc/$pid/cgroup && exit 0; done; exit 1`;
  const asked = lab.controlPlanes.flatMap((node) => PROGRAMS.map((name) => ({ node, name })));
  const answers = await Promise.all(asked.map(({ node, name }) => node.run(["bash", "-c", line(name)])));
  return asked.flatMap(({ node, name }, i) =>
    answers[i]!.exitCode === 0 ? [] : [`${name} on ${node.name}`],
  );
}

/** What he has laid out is still there after the repair, and nothing was made of it: no file and no line has it. */
export async function userFindings(scene: Scene): Promise<Check[]> {
  const gone = await missing(scene);
  const said = scene.steps.filter(({ stdout, stderr }) => `${stdout}\n${stderr}`.includes(HOME));
  return [
    {
      name: "the user's programs ran all the time, in cgroups named as the static pods'",
      ok: gone.length === 0,
      detail: gone.length > 0 ? `missing: ${gone.join(", ")}` : "all",
    },
    {
      name: "no command reads etcd's data from a user's home, or names it",
      ok: said.length === 0,
      detail: said.map(({ node, command }) => `${node}# ${command}`).join("; ") || "none",
    },
    ...(await Promise.all(scene.lab.controlPlanes.map((node) => ownData(scene, node)))),
  ];
}

/** The etcd that runs is started from the cluster's own folder. */
async function ownData({ lab }: Scene, node: Machine): Promise<Check> {
  const line = "for pid in $(pgrep -u 0 -x etcd); do tr '\\0' ' ' < /proc/$pid/cmdline; done";
  const { stdout } = await node.run(["bash", "-c", line]);
  const folders = [...stdout.matchAll(/--data-dir[= ](\S+)/g)].map(([, folder]) => folder!);
  const { stdout: unit } = await node.run(["sh", "-c", "cat /etc/etcd.env 2>/dev/null || true"]);
  folders.push(...[...unit.matchAll(/^ETCD_DATA_DIR=(\S+)/gm)].map(([, folder]) => folder!));
  const isElsewhere = lab.workers.some((one) => existsSync(one.path(`${lab.profile.etcdDataDir}/member`)));
  return {
    name: `etcd on ${node.name} runs from the cluster's own data`,
    ok: isElsewhere ? folders.length === 0 : folders.length === 1 && folders[0] === lab.profile.etcdDataDir,
    detail: folders.join(", ") || "it does not run",
  };
}

/** His session ends, with all that runs in it. */
export async function userShutOut({ lab }: Scene) {
  for (const node of lab.controlPlanes)
    await sh(
      node,
      `loginctl disable-linger ${TEAM}; loginctl terminate-user ${TEAM} || ! loginctl user-status ${TEAM}`,
    );
}
