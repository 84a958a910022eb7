/** Whether a path is in memory: what is written there is gone when the machine is off, and needs no shredding. */

import { contentPath } from "./root.ts";
import { hostText } from "./untrusted-file.ts";

const IN_MEMORY = ["tmpfs", "ramfs"];

/** By the deepest mount above it; of several on one place, the last one is the visible one. False where this machine does not say. */
export function isInMemory(path: string): boolean {
  const real = contentPath(path);
  let deepest = { place: "", type: "" };
  for (const line of (hostText("/proc/self/mounts") ?? "").split("\n")) {
    const [, point = "", type = ""] = line.split(" ").map(decoded);
    const isAbove = point !== "" && (real === point || real.startsWith(point === "/" ? "/" : `${point}/`));
    if (isAbove && point.length >= deepest.place.length) deepest = { place: point, type };
  }
  return IN_MEMORY.includes(deepest.type);
}

/** A space in a name is `\040` there: getmntent(3). */
function decoded(word: string): string {
  return word.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
