import type { DebArch } from "../../tools/release/deb.ts";

/** This machine's, for a kit that is tried here. */
export const OWN_ARCH: DebArch = process.arch === "arm64" ? "arm64" : "x64";
