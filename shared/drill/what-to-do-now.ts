/**
 * The result of a drill as commands to type while all is well, each with its reason. Empty: all of it would
 * come back.
 */
import { command } from "../again.ts";
import type { LostFile } from "../facts/lost-files.ts";
import type { BackupState } from "../hand-over/backup-mark.ts";
import { certRow } from "../pki/certs.ts";
import { listed } from "../plain.ts";
import { shell } from "../shell-line.ts";
import type { ComparedFile, ComparedServer } from "./compared.ts";

/** `kept`: whether the operator has a copy of it in the folder that he names: the `same`, or an `other` one. */
export type KeptFile = LostFile & { kept: "same" | "other" | "none" };

export interface Stop {
  /** Copies of the files that nobody can rebuild would help. */
  byCopies?: true;
  message: string;
  hint: string;
}

interface Found {
  files: ComparedFile[];
  servers: ComparedServer[];
  lost: KeptFile[];
  /** Unset in external CA mode. */
  backup?: BackupState;
  stops: Stop[];
}

/** Lines for a shell. */
export function todosOf({ files, servers, lost, backup, stops }: Found): string[] {
  const changed = files.filter(({ differences }) => differences.length > 0);
  const todo = stops
    .filter(({ byCopies }) => !byCopies || lost.length === 0)
    .map(({ message, hint }) => `# the repair would stop: ${message}\n${hint}`);
  if (backup && !backup.fits)
    todo.push(
      `# ${backup.says}: without the old keys every node rejoins and every pod restarts\n${backup.command}`,
    );
  const unkept = lost.filter(({ kind, kept }) => kind !== "socket" && kept !== "same");
  if (unkept.length > 0) todo.push(keepCopies(unkept));
  for (const file of changed) todo.push(bringInto(file));
  for (const { server, path, differences } of servers)
    if (differences.length > 0 && !changed.some((file) => file.path === path))
      todo.push(
        `# ${server} shows another certificate than ${path} would be: ${differences.join(", ")}\n${command("05-verify")}`,
      );
  return todo;
}

const ARCHIVE = "/root/kubernetes-files.tgz";

/** One archive: files that nobody can rebuild may hold keys, such as those of an encryption configuration. */
function keepCopies(unkept: readonly KeptFile[]): string {
  const paths = unkept.map(({ path }) => path);
  const stale = unkept.some(({ kept }) => kept === "other") ? ", as your copy is not the same" : "";
  const archive = shell`(umask 077; tar -C / -czf ${ARCHIVE} ${paths.map((path) => path.slice(1))})`;
  const proof = `away from this machine. Unpacked into DIR: ${command("drill --backup DIR")} proves it, ${command("00-salvage files --backup DIR")} puts it back`;
  return `# nobody can rebuild ${listed(paths)}${stale}: keep a copy\n${archive}   # ${proof}`;
}

/** The lists of kubeadm's ClusterConfiguration that have a certificate's additional names. */
const LISTS = {
  apiserver: "apiServer.certSANs",
  "etcd-server": "etcd.local.serverCertSANs",
  "etcd-peer": "etcd.local.peerCertSANs",
};

/** Edits that make the cluster's own record say what the file says. */
function bringInto({ path, is, differences }: ComparedFile): string {
  const why = `# ${path} would not come back as it is: ${differences.join(", ")}`;
  const names = differences.flatMap((one) => (one.startsWith("-names ") ? [one.slice(7)] : []));
  const list = Object.entries(LISTS).find(([row]) => path.endsWith(`/${certRow(row).file}.crt`))?.[1];
  if (is === "certificate" && list && names.length > 0)
    return `${why}\nkubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system edit configmap kubeadm-config   # ${list}: add ${names.join(", ")}`;
  if (is === "manifest")
    return `${why}\njournalctl -u kubelet -n 50   # the kubelet keeps the mirror pod in etcd equal to this file: why does it not?`;
  return `${why}\n${shell`(umask 077; cp -p ${path} /root/)`}   # keep a copy away from this machine`;
}
