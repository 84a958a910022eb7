/** A function of shared/ that looks at a whole node, in this process: the node's files and programs are those of a pretend node. */
import { onNode } from "./no-node.ts";
import { type NodeOptions, pretendNode } from "./node.ts";
import { quietly } from "./quietly.ts";

type PretendNode = Awaited<ReturnType<typeof pretendNode>>;

/** Makes the node, changes it, and looks; says nothing. Waiting in vain takes no time. The node is gone afterwards. */
export async function lookAt<T>(
  options: NodeOptions & { change?: ((node: PretendNode) => unknown) | undefined },
  look: (node: PretendNode) => Promise<T>,
): Promise<T> {
  using node = await pretendNode(options);
  await options.change?.(node);
  const own = { ...node.env, KUBE_PKI_REPAIR_PATIENCE: "0.0005" };
  const before = Object.keys(own).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, own);
  try {
    return await onNode(node.root, () => quietly(() => look(node)));
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}
