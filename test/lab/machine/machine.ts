/** The part of the lab's API that a rehearsal uses, so that scenarios can be tested on pretend nodes, too. */
import { Fail } from "../../../shared/fail.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import type { Profile } from "./profile.ts";

export interface RunOptions {
  input?: string | Uint8Array;
  env?: Record<string, string>;
  cwd?: string;
  /** Gets each line of stderr when it comes. */
  heard?: (line: string) => void;
}

export interface Machine {
  /** Its name in the lab: cp1, w1. */
  name: string;
  /** Its name in the cluster, which may differ. */
  nodeName: string;
  ip: string;
  /** All of them, `ip` first. */
  ips?: readonly string[];
  run(command: string[], options?: RunOptions): Promise<Output>;
  /** Where a file of the node lies on this machine. */
  path(path: string): string;
  /** Cuts the power; the disk stays. */
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
  profile: Pick<
    Profile,
    "certificatesDir" | "etcdDataDir" | "links" | "podNetwork" | "addOns" | "pings" | "shell"
  >;
  /** The operator's machine, which reaches the nodes by ssh; only in scenarios that make one. */
  operator?: Machine;
}

/** kubectl on the first control plane node; a refusal is an answer, not an error. */
export function kubectl(lab: Lab, args: string[], input?: string): Promise<Output> {
  const command = ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "--request-timeout=20s", ...args];
  return lab.controlPlanes[0]!.run(command, input === undefined ? {} : { input });
}

/** On a busy machine the balancer may cut a connection: it takes an API server for dead that is late. */
export const CUT = /EOF|connection re(fused|set)|TLS handshake timeout|broken pipe|i\/o timeout/;

/** The same, asked again where the connection was cut. For what has to be there: a check of the API takes `kubectl`. */
export async function kubectlAgain(lab: Lab, args: string[], input?: string): Promise<Output> {
  let output: Output | undefined;
  const isAnswered = async () => {
    output = await kubectl(lab, args, input);
    return output.exitCode === 0 || !CUT.test(output.stderr);
  };
  await waitFor(`kubectl ${args[0]}`, isAnswered, {
    seconds: 120,
    hint: "kubectl get --raw /readyz, with --keep",
  });
  return output!;
}

/** Runs a line of shell on a node. Errors: Fail where it does not end with 0. */
export async function sh(node: Machine, line: string) {
  const { exitCode, stderr } = await node.run(["bash", "-ec", line]);
  if (exitCode !== 0)
    throw new Fail(`"${line}" on ${node.name}: ${stderr.trim()}`, { hint: "look at the node with --keep" });
}
