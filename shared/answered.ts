/** What a server was asked for, the head or the body of its answer. */
import { Fail } from "./fail.ts";

/** Errors: Fail where it does not come; `from` names the server, `hint` the next command. */
export async function answered<T>(asked: Promise<T>, from: string, hint: string): Promise<T> {
  try {
    return await asked;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Fail(`No answer from ${from}: ${reason}`, { hint, cause });
  }
}
