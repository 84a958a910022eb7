/** What etcd writes last when it does not start on damaged data, as its source has it: people look for these words. */
export const ETCD_WORDS: readonly { words: string; module: "server" | "bbolt" }[] = [
  { words: "failed to recover v3 backend from snapshot", module: "server" },
  { words: "snap: snapshot file doesn't exist", module: "server" },
  { words: "walpb: crc mismatch", module: "server" },
  { words: "failed to read WAL, cannot be repaired", module: "server" },
  { words: "failed to open database", module: "server" },
  { words: "freepages: failed to get all reachable pages", module: "bbolt" },
  { words: "Page expected to be", module: "bbolt" },
  { words: "page … already freed", module: "bbolt" },
  { words: "invalid database", module: "bbolt" },
];

/** Those that stand in the first table of README.md, too: other words lead there by the chapter's. */
export const FIRST_WORDS = [
  "failed to recover v3 backend from snapshot",
  "snapshot file doesn't exist",
  "freepages: failed to get all reachable pages",
  "walpb: crc mismatch",
  "Page expected to be",
];
