/**
 * What a drill finds, as things to do now, while all is well: a command each, with its reason. None: all of
 * it would come back.
 */
import { command } from "../again.ts";
import { certRow } from "../pki/certs.ts";
import { listed } from "../plain.ts";
import { shell } from "../shell-line.ts";
import type { ComparedFile, Drill, KeptFile } from "./drill-report.ts";

/** Lines as a shell takes them. */
export function todosOf({
  files,
  servers,
  lost,
  backup,
  stops,
}: Pick<Drill, "files" | "servers" | "lost" | "backup" | "stops">): string[] {
  const changed = files.filter(({ differences }) => differences.length > 0);
  const shown = servers.filter(
    ({ path, differences }) => differences.length > 0 && !changed.some((file) => file.path === path),
  );
  return [
    ...stops.flatMap(({ message, hint, byCopies }) =>
      byCopies && lost.length > 0 ? [] : [`# the repair would stop: ${message}\n${hint}`],
    ),
    ...(backup && !backup.fits
      ? [
          `# ${backup.says}: without the old keys every node rejoins and every pod restarts\n${backup.command}`,
        ]
      : []),
    ...keepCopies(lost),
    ...changed.map(bringInto),
    ...shown.map(
      ({ server, path, differences }) =>
        `# ${server} shows another certificate than ${path} would be: ${differences.join(", ")}\n${command("05-verify")}`,
    ),
  ];
}

/** One archive: what nobody can rebuild may hold keys, such as those of an encryption configuration. */
function keepCopies(lost: readonly KeptFile[]): string[] {
  const unkept = lost.filter(({ kind, kept }) => kind !== "socket" && kept !== "same");
  if (unkept.length === 0) return [];
  const paths = unkept.map(({ path }) => path);
  const stale = unkept.some(({ kept }) => kept === "other") ? ", as your copy is not the same" : "";
  const archive = shell`(umask 077; tar -C / -czf ${ARCHIVE} ${paths.map((path) => path.slice(1))})`;
  const proof = `away from this machine. Unpacked into DIR: ${command("drill --backup DIR")} proves it, ${command("00-salvage files --backup DIR")} puts it back`;
  return [`# nobody can rebuild ${listed(paths)}${stale}: keep a copy\n${archive}   # ${proof}`];
}

const ARCHIVE = "/root/kubernetes-files.tgz";

/** Where the cluster's own record is to say what the file says. */
function bringInto(file: ComparedFile): string {
  const { path, is, differences } = file;
  const why = `# ${path} would not come back as it is: ${differences.join(", ")}`;
  const names = differences.flatMap((one) =>
    one.startsWith("-names ") ? [one.slice("-names ".length)] : [],
  );
  const list = is === "certificate" ? sansList(path) : undefined;
  if (list && names.length > 0)
    return `${why}\nkubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system edit configmap kubeadm-config   # ${list}: add ${names.join(", ")}`;
  if (is === "manifest")
    return `${why}\njournalctl -u kubelet -n 50   # the kubelet keeps the mirror pod in etcd equal to this file: why does it not?`;
  return `${why}\n${shell`(umask 077; cp -p ${path} /root/)`}   # keep a copy away from this machine`;
}

/** The list of kubeadm's ClusterConfiguration that has this certificate's additional names. */
function sansList(path: string): string | undefined {
  const lists = {
    apiserver: "apiServer.certSANs",
    "etcd-server": "etcd.local.serverCertSANs",
    "etcd-peer": "etcd.local.peerCertSANs",
  };
  return Object.entries(lists).find(([name]) => path.endsWith(`/${certRow(name).file}.crt`))?.[1];
}
