/** What a drill finds, as things to do now, while all is well: a command each, with its reason. None: all of it would come back. */
import type { LostFile } from "../facts/lost-files.ts";
import { command } from "../facts/next.ts";
import { certRow } from "../pki/certs.ts";
import { listed } from "../plain.ts";
import type { ComparedFile, Drill } from "./drill-report.ts";

/** Lines as a shell takes them. */
export function todosOf({ files, servers, lost, stops }: Pick<Drill, "files" | "servers" | "lost" | "stops">): string[] {
  const changed = files.filter(({ differences }) => differences.length > 0);
  const shown = servers.filter(({ path, differences }) => differences.length > 0 && !changed.some((file) => file.path === path));
  return [
    ...stops.map(({ message, hint }) => `# the repair would stop: ${message}\n${hint}`),
    ...keepCopies(lost),
    ...changed.map(bringInto),
    ...shown.map(
      ({ server, path, differences }) =>
        `# ${server} shows another certificate than ${path} would be: ${differences.join(", ")}\n${command("05-verify")}`,
    ),
  ];
}

/** One archive: what nobody can rebuild may hold keys, such as those of an encryption configuration. */
function keepCopies(lost: readonly LostFile[]): string[] {
  const paths = lost.filter(({ kind }) => kind !== "socket").map(({ path }) => path);
  if (paths.length === 0) return [];
  const archive = `(umask 077; tar -C / -czf /root/kubernetes-files.tgz ${paths.map((path) => path.slice(1)).join(" ")})`;
  const back = `after the accident: unpack it into a folder, then ${command("00-salvage files --backup DIR")}`;
  return [`# nobody can rebuild ${listed(paths)}: keep a copy away from this machine\n${archive}   # ${back}`];
}

/** Where the cluster's own record is to say what the file says. */
function bringInto(file: ComparedFile): string {
  const { path, is, differences } = file;
  const why = `# ${path} would not come back as it is: ${differences.join(", ")}`;
  const names = differences.flatMap((one) => (one.startsWith("-names ") ? [one.slice("-names ".length)] : []));
  const list = is === "certificate" ? sansList(path) : undefined;
  if (list && names.length > 0)
    return `${why}\nkubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system edit configmap kubeadm-config   # ${list}: add ${names.join(", ")}`;
  if (is === "manifest")
    return `${why}\njournalctl -u kubelet -n 50   # the kubelet keeps the mirror pod in etcd equal to this file: why does it not?`;
  return `${why}\n(umask 077; cp -p ${path} /root/)   # keep a copy away from this machine`;
}

/** The list of kubeadm's ClusterConfiguration that has this certificate's additional names. */
function sansList(path: string): string | undefined {
  const lists = { apiserver: "apiServer.certSANs", "etcd-server": "etcd.local.serverCertSANs", "etcd-peer": "etcd.local.peerCertSANs" };
  return Object.entries(lists).find(([name]) => path.endsWith(`/${certRow(name).file}.crt`))?.[1];
}
