/**
 * Where tests have no node: nothing is there, and nothing can be written. Loaded before each test file (bunfig.toml), as a test that forgets to
 * choose a root, or runs on after its time limit, would otherwise read and write this machine's own /etc/kubernetes. Also for lab checks.
 */
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

// for scripts that a test starts with `env: process.env`; without that word Bun gives them the variables of its own start
process.env.KUBE_PKI_REPAIR_ROOT = NO_NODE;
leaveNode();
