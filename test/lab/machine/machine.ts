/** What a rehearsal needs of a lab: the part of cluster.ts's API it uses, so that facts and scenarios can be tried on pretend ones. */
import { Fail } from "../../../shared/fail.ts";

export interface Machine {
  /** The lab's word for it: cp1, w1. */
  name: string;
  /** Its name in the cluster, which may be another. */
  nodeName: string;
  ip: string;
  run(command: string[], options?: { input?: string | Uint8Array; env?: Record<string, string>; cwd?: string }): Promise<Output>;
  /** Where a file of the node lies on this machine. */
  path(path: string): string;
  /** Pulls the plug; the disk stays. */
  kill(): Promise<void>;
  /** Switches it on. */
  boot(): Promise<void>;
}

export interface Output {
  stdout: string;
  stderr: string;
  exitCode: number;
}

export interface Lab {
  nodes: Machine[];
  controlPlanes: Machine[];
  workers: Machine[];
  /** Where an operator sits who reaches the nodes by ssh; only in scenarios that make one. */
  operator?: Machine;
}

/** Asks as an operator on the first control plane node would; a refusal is an answer. */
export function kubectl(lab: Lab, args: string[], input?: string): Promise<Output> {
  const command = ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "--request-timeout=20s", ...args];
  return lab.controlPlanes[0]!.run(command, input === undefined ? {} : { input });
}

/** Runs a line of shell on a node. Errors: Fail where it does not end well. */
export async function sh(node: Machine, line: string) {
  const { exitCode, stderr } = await node.run(["bash", "-ec", line]);
  if (exitCode !== 0) throw new Fail(`"${line}" on ${node.name}: ${stderr.trim()}`, { hint: "look at the node with --keep" });
}
