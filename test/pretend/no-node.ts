/** Where tests have no node: nothing is there, and nothing can be written. */
import { hostPath, setRoot } from "../../shared/files/root.ts";

const NO_NODE = "/dev/null/no-node";

/** From now on, until a test sets a root. */
export function leaveNode() {
  setRoot(NO_NODE);
}

/** Does something with the node whose files are below `root`, and returns to the one of before. */
export async function onNode<T>(root: string, action: () => Promise<T>): Promise<T> {
  const before = hostPath("/");
  setRoot(root);
  try {
    return await action();
  } finally {
    setRoot(before);
  }
}
