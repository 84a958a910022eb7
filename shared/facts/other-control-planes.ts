/** The control plane nodes beside one. */
/** The fields of a node that decide here. */
export interface NamedNode {
  name: string;
  controlPlane: boolean;
}

export function otherControlPlanes<N extends NamedNode>(
  { nodes }: { nodes: readonly N[] },
  { node, without = [] }: { node: Pick<NamedNode, "name">; without?: readonly string[] },
): N[] {
  const left = [node.name, ...without];
  return nodes.filter(({ controlPlane, name }) => controlPlane && !left.includes(name));
}
