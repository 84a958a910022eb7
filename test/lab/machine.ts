/** What a rehearsal needs of a lab: the part of cluster.ts's API it uses, so that facts and scenarios can be tried on pretend ones. */
export interface Machine {
  name: string;
  run(command: string[], options?: { input?: string; env?: Record<string, string>; cwd?: string }): Promise<Output>;
  /** Where a file of the node lies on this machine. */
  path(path: string): string;
}

export interface Output {
  stdout: string;
  stderr: string;
  exitCode: number;
}

export interface Lab {
  nodes: Machine[];
  masters: Machine[];
  workers: Machine[];
  node(name: string): Machine;
  kubectl(...args: string[]): Promise<Output>;
}
