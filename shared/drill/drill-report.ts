/** What a drill says: the shape of `drill --json`. */
import type { LostFile } from "../facts/lost-files.ts";
import type { BackupState } from "../hand-over/backup-mark.ts";
import type { DueCas } from "../renew/renewal.ts";
import type { Fields } from "./file-fields.ts";

export interface Drill {
  node: string;
  kubernetes: string;
  /** All that the repair would make, sorted by path. */
  files: ComparedFile[];
  /** What the servers show now, beside what they would show. */
  servers: ComparedServer[];
  /** Files that nobody can rebuild. */
  lost: KeptFile[];
  /** Of the shared keys; unset in external CA mode. */
  backup?: BackupState;
  /** CAs to be renewed on the living cluster, whatever is lost. */
  due?: DueCas;
  /** On the disk, not made by the repair, and named by nothing that it starts. */
  others: string[];
  /** Why the repair would stop; empty: it would not. */
  stops: Stop[];
  /** Requests to the API server that the drill made. */
  apiReads: number;
  /** Whether all of it would come back. */
  allBack: boolean;
  /** What to do about it now: commands, each with its reason. */
  todo: string[];
}

/**
 * `kept`: whether the operator has a copy of it in the folder that he names: `same`, an `other` one, or
 * `none`.
 */
export type KeptFile = LostFile & { kept: "same" | "other" | "none" };

export interface ComparedFile {
  path: string;
  is: "CA" | "certificate" | "key" | "kubeconfig" | "manifest";
  /** As it is now; unset: it is not here. */
  here?: Fields;
  /**
   * As the repair would make it; unset: it would not. Of a CA and of a key nothing is compared but that it is
   * there.
   */
  back?: Fields;
  /** `-names x`: the repair would leave that out. */
  differences: string[];
  /** Differences that change nothing for anybody, in words. */
  note?: string;
}

export interface ComparedServer {
  /** "kube-apiserver, port 6443" */
  server: string;
  /** The certificate's file. */
  path: string;
  differences: string[];
}

export interface Stop {
  /** Copies of the files that nobody can rebuild would help. */
  byCopies?: true;
  message: string;
  hint: string;
}

/** How many fields of files and servers were compared. */
export function fieldsIn({ files, servers }: Pick<Drill, "files" | "servers">): number {
  const inFile = (fields: Fields | undefined) =>
    Object.values(fields ?? {}).reduce((sum, values) => sum + values.length, 0);
  const ofServer = ({ path }: ComparedServer) => inFile(files.find((file) => file.path === path)?.back);
  return (
    files.reduce((sum, { here }) => sum + inFile(here), 0) +
    servers.reduce((sum, server) => sum + ofServer(server), 0)
  );
}
