/** Zeros in a file of etcd's log: its space before anything was written there, and sectors that a power loss has cut off. */
import { LOG_BLOCK, type LogFile } from "./log-file.ts";

/** Bytes that a disk writes whole or not at all. */
const SECTOR = 512;

/** Whether a whole sector of this part of the file, or what of it is in the part, is zeros. */
export function hasZeroSector(file: LogFile, frame: { start: number; end: number }): boolean {
  for (let sector = Math.floor(frame.start / SECTOR) * SECTOR; sector < frame.end; sector += SECTOR) {
    const part = file.slice(Math.max(sector, frame.start), Math.min(sector + SECTOR, frame.end));
    if (part.length > 0 && isZero(part)) return true;
  }
  return false;
}

/** Whether nothing but zeros follows. */
export function isZeroFrom(file: LogFile, position: number): boolean {
  for (let at = position; at < file.size; at += LOG_BLOCK) if (!isZero(file.slice(at, Math.min(at + LOG_BLOCK, file.size)))) return false;
  return true;
}

function isZero(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
}
