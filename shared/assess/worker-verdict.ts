/** The conclusion for a worker, and for a node of which nothing tells whether it is one. */
import { dirname } from "node:path";
import type { LostFile } from "../facts/lost-files.ts";
import { withoutNode } from "../facts/no-etcd-data.ts";
import { command } from "../facts/todo.ts";
import type { Node } from "../node/node.ts";
import { shell } from "../shell-line.ts";
import type { Assessment } from "./assessment.ts";
import { NO_NEW_POD } from "./verdict.ts";

type Verdict = Pick<Assessment, "role" | "verdict" | "next">;

export function workerVerdict(damaged: boolean, noNewPod: boolean): Verdict {
  if (noNewPod && !damaged) return { role: "worker", ...NO_NEW_POD };
  return {
    role: "worker",
    verdict: damaged
      ? "this worker has to join again. Its containers run on"
      : "nothing is damaged here. If the control plane nodes have a new CA now, this worker has to join again nevertheless",
    next: damaged ? [JOIN] : [],
  };
}

const JOIN = `parts 1 and 2 on the control plane nodes, then the line that ${command("03-workers open")} prints there`;

/** Joined as a worker, a control plane node would be lost. */
export function eitherVerdict({ name, nameFrom }: Node): Verdict {
  return {
    role: "unknown",
    verdict:
      `this is a worker, or a control plane node that lost everything: nothing here tells which. Its name is "${name}" (from ${nameFrom}). ` +
      `${command("00-assess")} on a control plane node names all of them, in its line "cluster"`,
    next: [`if ${name} is not among them: ${JOIN}`, `if ${name} is among them: ${withoutNode(name)}`],
  };
}

/** Without these files its kubelet does not start again, so they come back before anything else. */
export function filesFirst(files: readonly LostFile[], verdict: Verdict): Verdict {
  const copies = files.map(
    ({ path }) => shell`scp -rp root@NODE:${path} ${dirname(path)}/   # NODE: mostly another worker has the same, or a backup`,
  );
  return { ...verdict, next: [...copies, ...verdict.next] };
}
