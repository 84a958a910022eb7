/** A node as the follower of a plan reaches it. Commands are typed there as root, in the kit's folder where they need it. */
import { basename, dirname } from "node:path";
import type { Carry } from "../plan/act.ts";
import { KIT_PLACE } from "../plan/paste.ts";
import { wordThere } from "../shell-line.ts";

export interface Host {
  /** The Node's name; of the first one, until a plan has said it, the destination as it was typed. */
  name: string;
  /** The destination for ssh: an address, or the operator's own name for it. */
  address: string;
  /** Who logs in: root, or a user who may use sudo there without a password. */
  user: string;
  /** Host keys are compared with that of this name (HostKeyAlias in ssh_config(5)). Unset: with that of the address. */
  alias?: string | undefined;
  /** This machine: no ssh. */
  isHere?: true | undefined;
  /** Where the kit lies. */
  kit: string;
}

/** The most of another machine's output that is kept: 8 MB. */
export const MOST_OUTPUT = 8 * 2 ** 20;

export interface Output {
  exitCode: number;
  stdout: string;
  stderr: string;
}

interface HowToRun {
  /** Its stdin; unset: none. A file is not read into memory. */
  input?: Uint8Array | Blob | undefined;
  /** Each line of stderr as it comes; plain text. */
  onLine?: ((line: string) => void) | undefined;
  /** Seconds without a byte after which it is ended; unset: a quarter of an hour. */
  quiet?: number | undefined;
}

/**
 * The way to the nodes. `CONNECTION_LOST`: the connection ended, and not the command. Nothing of what comes back decides which
 * host, path or option is next.
 */
export interface Transport {
  /** Makes the connection; ssh may ask on the terminal about a host key. Undefined: it is there; else the reason. */
  meet(host: Host): Promise<string | undefined>;
  run(host: Host, command: string, how?: HowToRun): Promise<Output>;
  /** With the terminal: it asks, or shows something once. Returns the exit code. */
  onTerminal(host: Host, command: string): Promise<number>;
  /** No copy is ever on this machine's disk. Returns the reason of a failure. */
  pipe(from: Host, pack: string, to: Host, unpack: string): Promise<string | undefined>;
}

/** ssh's own exit code: the connection could not be made, or was lost. */
export const CONNECTION_LOST = 255;

/** It printed too much, or nothing for too long: it was ended here. As timeout(1) has it. */
export const ENDED_HERE = 124;

/** Another run holds the lock of that node. */
export const LOCKED = 4;

/** The kubelet, the processes and the cluster are everywhere, all else is in the kit's folder. */
export function thereOf(host: Host, command: string): string {
  const isAnywhere = /^(systemctl|for p in|kubectl|cd|rm|shred) /.test(command);
  return isAnywhere ? command.replaceAll(KIT_PLACE, host.kit) : inKit(host, command);
}

export function inKit({ kit }: Host, command: string): string {
  return `cd ${kit} && ${command}`;
}

/** How files go from one node to another: root's tar packs and unpacks them, with owner and mode. */
export function carriedTo(
  { files, keep }: Carry,
  source: Host,
  target: Host,
): { pack: string; unpack: string } {
  const paths = files.map((file) => file.replace("NODE", target.name));
  const folder = dirname(paths[0]!);
  const names = paths.map((path) => wordThere(basename(path))).join(" ");
  const isAbsolute = folder.startsWith("/");
  const own = isAbsolute ? folder : folder === "." ? source.kit : `${source.kit}/${folder}`;
  const into = isAbsolute ? folder : target.kit;
  return {
    pack: `tar -C ${wordThere(own)} -cf - ${names}`,
    unpack: `tar -C ${wordThere(into)} -xp${keep ? "k" : ""}f - ${names}`,
  };
}
