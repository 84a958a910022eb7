/** Where a repair has its private folders. */
import { tmpdir } from "node:os";
import { hostPath } from "../files/files.ts";
import type { Host } from "./host.ts";

/** In memory on a node, as the disk's free blocks may have the lost keys. */
export function folderIn({ isHere }: Pick<Host, "isHere">): string {
  return isHere ? hostPath("/run") : (process.env.XDG_RUNTIME_DIR ?? tmpdir());
}
