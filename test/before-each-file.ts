/**
 * Loaded before each test file (bunfig.toml): it starts without a node. Otherwise a test that forgets to choose a root, or runs on after its
 * time limit, would read and write this machine's own /etc/kubernetes.
 */
import { leaveNode, NO_NODE } from "./pretend/no-node.ts";

// for scripts that a test starts with `env: process.env`; without that word Bun gives them the variables of its own start
process.env.KUBE_PKI_REPAIR_ROOT = NO_NODE;
leaveNode();
