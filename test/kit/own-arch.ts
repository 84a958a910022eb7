import type { Arch } from "../../tools/pack/write-kit.ts";

/** This machine's, for a kit that is tried here. */
export const OWN_ARCH: Arch = process.arch === "arm64" ? "arm64" : "x64";
