/** The SHA-256 of a file's bytes, as `sha256sum` prints it. */
import { createHash } from "node:crypto";

export function sha256Of(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
