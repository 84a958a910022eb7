/**
 * A function of shared/ that looks at a whole node, in this process: the node's files and programs are those
 * of a pretend node.
 */
import { spyOn } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { noTypedOptions } from "../../shared/node/words.ts";
import { leavesNothing } from "../../shared/this-run.ts";
import { onNode } from "./no-node.ts";
import { type NodeOptions, pretendNode } from "./node.ts";
import { variablesHere } from "./programs.ts";

export type PretendNode = Awaited<ReturnType<typeof pretendNode>>;

const CONF = "/etc/kubernetes";

/** A change of the node: these files and folders below /etc/kubernetes are gone. */
export function gone(...files: string[]) {
  return ({ root }: Pick<PretendNode, "root">) => {
    for (const file of files) rmSync(`${root}${CONF}/${file}`, { recursive: true });
  };
}

/** A change of the node: file below /etc/kubernetes → its text. */
export function put(files: Record<string, string>) {
  return ({ root }: Pick<PretendNode, "root">) => {
    for (const [file, text] of Object.entries(files)) writeFileSync(`${root}${CONF}/${file}`, text);
  };
}

/**
 * Makes the node, changes it, and looks; `said` is what was printed meanwhile. Waiting in vain takes no time.
 * The node is gone afterwards.
 */
export async function lookAt<T>(
  options: NodeOptions & { change?: ((node: PretendNode) => unknown) | undefined },
  look: (node: PretendNode, said: readonly string[]) => Promise<T>,
): Promise<T> {
  using node = await pretendNode(options);
  await options.change?.(node);
  // what an earlier run of this process was told is not said here
  noTypedOptions();
  using _variables = variablesHere({ ...node.env, KUBE_PKI_REPAIR_PATIENCE: "0.0005" });
  const said: string[] = [];
  const ears = (["error", "log"] as const).map((way) =>
    spyOn(console, way).mockImplementation((line: string) => void said.push(line.trim())),
  );
  try {
    return await onNode(node.root, () => look(node, said));
  } finally {
    noTypedOptions();
    leavesNothing();
    for (const ear of ears) ear.mockRestore();
  }
}
