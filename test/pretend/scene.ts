/** A scene of a rehearsal on pretend nodes. */
import type { Machine, Output } from "../lab/machine/machine.ts";
import { USUAL } from "../lab/machine/profile.ts";
import type { Scene } from "../lab/scene/scene.ts";

/** Nodes that answer from a table and record every command. */
export function pretendScene(answers: Record<string, Partial<Output>>) {
  const typed: string[] = [];
  const machine = (name: string): Machine => ({
    name,
    nodeName: name,
    ip: "10.250.0.11",
    path: (path) => `/nowhere/${name}${path}`,
    kill: async () => {},
    boot: async () => {},
    async run(command, options) {
      const line = command.includes("-c") ? command.at(-1)! : command.join(" ");
      typed.push(`${name}: ${line}${options?.input ? ` < ${options.input}` : ""}`);
      const output = { stdout: "", stderr: "", exitCode: 0, ...answers[line] };
      for (const said of output.stderr.split("\n").slice(0, -1)) options?.heard?.(said);
      return output;
    },
  });
  const controlPlanes = [machine("cp1"), machine("cp2")];
  const workers = [machine("w1")];
  const lab = { nodes: [...controlPlanes, ...workers], controlPlanes, workers, profile: USUAL };
  const before = { kubernetes: "", nodes: {}, nodeUids: {}, configMaps: {}, secrets: {} };
  const scene: Scene = {
    lab,
    guide: "runbook",
    before,
    zero: Date.now(),
    oldTokens: [],
    steps: [],
    moments: [],
    leaks: [],
    checks: [],
    kit: "/nowhere/kit.tar.gz",
    trustWas: [],
    replaced: [],
    away: [],
    watchers: [],
    say: () => {},
  };
  return { scene, typed };
}
