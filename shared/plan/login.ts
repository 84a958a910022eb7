/** How the operator comes to a node: as root by ssh, or as a user who may use sudo there. Words for the operator's bash. */
import { command } from "../again.ts";
import { Refused } from "../fail.ts";
import { programWord } from "../shell-line.ts";

export const ROOT = "root";

/**
 * A user name that every system takes: the portable filename characters, not with a hyphen first (POSIX.1-2024, 3.408 "User Name" and 3.265
 * "Portable Filename Character Set"). So it needs no quotes in any line.
 */
export function isUserName(name: string): boolean {
  return /^[A-Za-z0-9._][A-Za-z0-9._-]*$/.test(name);
}

/** Errors: Refused where that is no name: no line is made of it. */
export function refuseNoUser(name: string) {
  if (isUserName(name)) return;
  throw new Refused(`"${name}" is no name of a user`, {
    hint: `letters, digits, ".", "_" and "-", which is not the first: ${command("plan --user ubuntu")}`,
  });
}

/** What comes before a program that root runs. It never asks for a password: nobody could answer. */
export function sudo(user: string): string {
  return user === ROOT ? "" : "sudo -n ";
}

/** A command line that root runs there, as one word. */
export function asRoot(user: string, command: string): string {
  if (user === ROOT) return programWord(command);
  return /^[^'"\\$`!]*$/.test(command) ? `"sudo -n sh -c '${command}'"` : programWord(`sudo -n sh -c ${programWord(command)}`);
}
