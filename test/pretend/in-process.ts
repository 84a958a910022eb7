/** A function of shared/ that looks at a whole node, in this process: the node's files and programs are those of a pretend node. */
import { onNode } from "./no-node.ts";
import { type NodeOptions, pretendNode } from "./node.ts";
import { quietly } from "./quietly.ts";

type PretendNode = Awaited<ReturnType<typeof pretendNode>>;

/** Makes the node, changes it, and looks; says nothing. The node is gone afterwards. */
export async function lookAt<T>(
  options: NodeOptions & { change?: ((node: PretendNode) => unknown) | undefined },
  look: (node: PretendNode) => Promise<T>,
): Promise<T> {
  using node = await pretendNode(options);
  await options.change?.(node);
  const before = { PATH: process.env.PATH, FAKE: process.env.FAKE };
  Object.assign(process.env, node.env);
  try {
    return await onNode(node.root, () => quietly(() => look(node)));
  } finally {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}
