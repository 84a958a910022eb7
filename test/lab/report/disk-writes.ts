/**
 * What the kit wrote to the nodes' disks: RUNBOOK-MORE.md, "Files", names all of it, for a block that is
 * written may hold a deleted key.
 */
import { existsSync, lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { INTRUDER_HOME } from "../attacker/intruder.ts";
import { OTHER_PODS_DIR } from "../machine/kubeadm-config.ts";
import type { Machine } from "../machine/machine.ts";
import { addOnsOf } from "../machine/profile.ts";
import type { Scene } from "../scene/scene.ts";
import type { Check } from "./rehearsal.ts";

/** Folders of others, who write there while a cluster runs. */
const OTHERS = [
  ...[
    "/var/lib/kubelet",
    OTHER_PODS_DIR,
    "/var/lib/containerd",
    "/var/lib/cni",
    "/var/lib/systemd",
    "/var/lib/private",
  ],
  ...["../usr/libexec/kubernetes", "/var/log", "/var/cache", "/var/tmp", "/etc/cni", "/opt/cni"],
  // an attacker's, in some scenarios
  INTRUDER_HOME,
  // kubectl's cache, when the API is back
  "/root/.kube",
  // not on a disk
  ...["/dev", "/proc", "/run", "/sys", "/mnt"],
];

/** In the folders of others and elsewhere: what RUNBOOK-MORE.md says that the kit writes. */
const OWN = [
  // this lab's DNS: it changes where machines get other addresses
  /^\/etc\/hosts$/,
  // runc's, of a probe that was running when the machine lost power
  /^\/tmp\/runc-process\d+$/,
  // "Watch it", and the lab's own mail program
  /^\.\.\/usr\/bin\/mail$/,
  /^\/(opt\/kube-pki-repair|var\/lib\/prometheus\/node-exporter)\//,
  /^\/etc\/systemd\/system\/(timers\.target\.wants\/)?kube-pki-repair-(verify|mail)\./,
  /^\/root\/kit\.tar\.gz$/,
  // ssh's, of an operator who types on the node
  /^\/root\/\.ssh\/known_hosts(?:\.old)?$/,
  /^\/etc\/kubernetes\//,
  // of an etcd that is a unit, where they have expired
  /^\/etc\/ssl\/etcd\/ssl\/[\w.-]+\.(pem|crt|key)$/,
  // by the operator, on etcd's own hosts
  /^\/etc\/etcd\/pki\/server\.crt$/,
  /^\/root\/keys\.age$/,
  /^\/root\/kube-pki-repair-(\d{8}T\d{6}|kubelet)[^/]*\//,
];

/** A node writes below /usr into a folder beside its root (node-root.sh). */
const OWN_USR = "../usr";

/** A replaced node was set up anew in between. */
export function diskChecks({ lab, replaced }: Scene, since: number | undefined): Check[] {
  const nodes = lab.nodes.filter(({ name }) => !replaced.includes(name));
  const known = {
    // the second where an operator moves it away: RUNBOOK-MORE.md, "Only one member is left"
    etcd: [
      ...[lab.profile.etcdDataDir, `${lab.profile.etcdDataDir}.before`],
      ...Object.values(lab.profile.links),
    ],
    addOns: addOnsOf(lab.profile).flatMap(({ writes }) => writes),
  };
  const written =
    since === undefined
      ? []
      : nodes.flatMap((node) => writtenElsewhere(node, since, known).map((path) => `${node.name}: ${path}`));
  return [
    {
      name: "nothing is written to the nodes' disks but what RUNBOOK.md names",
      ok: written.length === 0,
      detail: written.slice(0, 20).join("; ") || `${nodes.length} nodes looked at`,
    },
  ];
}

/** `etcd`: its own folders. `addOns`: files that the profile's add-ons write. */
interface KnownWriters {
  etcd: readonly string[];
  addOns: readonly RegExp[];
}

/** Files and links on this node's disk that changed since then (ms), and that nobody is known to write. */
function writtenElsewhere(node: Machine, since: number, { etcd, addOns }: KnownWriters): string[] {
  const [folders, files] = [
    [...OTHERS, ...etcd],
    [...OWN, ...addOns],
  ];
  return ["/", OWN_USR]
    .flatMap((folder) => changedBelow(node, folder, since, folders))
    .filter((path) => !files.some((own) => own.test(path)));
}

function changedBelow(node: Machine, folder: string, since: number, others: readonly string[]): string[] {
  const host = node.path(folder);
  if (others.includes(folder) || !existsSync(host)) return [];
  return readdirSync(host).flatMap((name) => {
    const path = join(folder, name);
    const info = lstatSync(node.path(path), { throwIfNoEntry: false });
    if (info?.isDirectory()) return changedBelow(node, path, since, others);
    return info && info.ctimeMs >= since ? [path] : [];
  });
}
