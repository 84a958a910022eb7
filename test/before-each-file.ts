/**
 * Loaded before each test file (bunfig.toml): it starts without a node. Otherwise a test that forgets to choose a root, or runs on after its
 * time limit, would read and write this machine's own /etc/kubernetes.
 */
import { leaveNode } from "./pretend/no-node.ts";

leaveNode();
