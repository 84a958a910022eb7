/** The user that logs in on the nodes, and the folder of the kit on the nodes. */
import { command } from "../again.ts";
import { Refused } from "../fail.ts";
import { programWord } from "../shell-line.ts";

export const ROOT = "root";

/**
 * A user name that every system takes (POSIX.1-2024, 3.408 "User Name", 3.265 "Portable Filename Character Set"): it needs
 * no quotes in any line.
 */
export function isUserName(name: string): boolean {
  return /^[A-Za-z0-9._][A-Za-z0-9._-]*$/.test(name);
}

/** Errors: Refused: no line is made of it. */
export function requireUserName(name: string) {
  if (isUserName(name)) return;
  throw new Refused(`"${name}" is no name of a user`, {
    hint: `use letters, digits, ".", "_", and "-" but not as the first: ${command("plan --user ubuntu")}`,
  });
}

/** Quotes a command as one argument of ssh. sudo must not ask for a password: nobody could answer. */
export function asRoot(user: string, command: string): string {
  if (user === ROOT) return programWord(command);
  return /^[^'"\\$`!]*$/.test(command)
    ? `"sudo -n sh -c '${command}'"`
    : programWord(`sudo -n sh -c ${programWord(command)}`);
}
