/** A node as the follower of a plan reaches it. Commands are typed there as root, in the kit's folder where they need it. */

import { KIT_PLACE } from "../plan/kit-place.ts";
import type { Reached } from "../plan/reached.ts";
import type { Patience } from "./patience.ts";

export type Host = Reached;

export interface Output {
  exitCode: number;
  stdout: string;
  stderr: string;
}

interface HowToRun extends Patience {
  /** Its stdin; unset: none. A file is not read into memory. */
  input?: Uint8Array | Blob | undefined;
  /** Each line of stderr as it comes; plain text. */
  onLine?: ((line: string) => void) | undefined;
}

/**
 * The way to the nodes. `CONNECTION_LOST`: the connection ended, and not the command. Nothing of what comes back decides which
 * host, path or option is next.
 */
export interface Transport {
  /**
   * Makes the connection. Many may be made at the same time: where ssh has to ask on the terminal, one is asked about after
   * the other. Undefined: it is there; else the reason.
   */
  meet(host: Host): Promise<string | undefined>;
  run(host: Host, command: string, how?: HowToRun): Promise<Output>;
  /** Runs a command that asks something, or shows something only once, on the operator's terminal. Returns the exit code. */
  onTerminal(host: Host, command: string): Promise<number>;
  /** No copy is ever on this machine's disk. Returns the reason of a failure. */
  pipe(from: Host, pack: string, to: Host, unpack: string, how?: Patience): Promise<string | undefined>;
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
