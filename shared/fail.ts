interface FailOptions {
  /** Begins with a verb, or is one command: test/repo/hints.test.ts. */
  hint: string;
  unchanged?: boolean;
  cause?: unknown;
  /** Further fields of the answer for programs (json-answer.ts). */
  more?: Record<string, unknown> | undefined;
}

/**
 * The one error for the operator: what failed, with the values in quotes, and the operator's next command.
 * Any other error that escapes a script is a bug and keeps its stack trace.
 */
export class Fail extends Error {
  readonly hint: string;
  /** The screen adds to the message that nothing was changed. */
  readonly unchanged: boolean;
  readonly exitCode: number;
  readonly more: Record<string, unknown> | undefined;

  constructor(message: string, options: FailOptions & { exitCode?: number }) {
    super(message, { cause: options.cause });
    this.hint = options.hint;
    this.unchanged = options.unchanged ?? false;
    this.exitCode = options.exitCode ?? 1;
    this.more = options.more;
  }
}

/**
 * The tool does not do this on this cluster, on this node, or with these names. Nothing was changed, and the
 * same line is refused again. Exit code 3.
 */
export class Refused extends Fail {
  constructor(message: string, options: FailOptions) {
    super(message, { ...options, exitCode: 3 });
  }
}

/** A word of the command line is wrong, so nothing was looked at. Exit code 64: EX_USAGE of sysexits.h. */
export class UsageError extends Fail {
  constructor(message: string, options: FailOptions) {
    super(message, { ...options, exitCode: 64 });
  }
}

/** The system's code of an error: "ENOENT". */
export function codeOf(err: unknown): string | undefined {
  return err instanceof Error && "code" in err ? String(err.code) : undefined;
}

/** Undefined where the system refuses with one of these codes. Errors: as `action`. */
export function unlessCode<T>(codes: readonly string[], action: () => T): T | undefined {
  try {
    return action();
  } catch (err) {
    if (codes.includes(codeOf(err) ?? "")) return undefined;
    throw err;
  }
}

/**
 * The value; if reading it fails, `otherwise`, or the Fail: there the error is a finding, and the script
 * continues.
 */
export function attempt<T>(read: () => T): T | Fail;
export function attempt<T, D>(read: () => T, otherwise: D): T | D;
export function attempt<T, D>(read: () => T, ...otherwise: [] | [D]): T | D | Fail {
  try {
    return read();
  } catch (err) {
    if (err instanceof Fail) return otherwise.length > 0 ? (otherwise[0] as D) : err;
    throw err;
  }
}

export async function attemptLater<T>(read: () => T | Promise<T>): Promise<T | Fail>;
export async function attemptLater<T, D>(read: () => T | Promise<T>, otherwise: D): Promise<T | D>;
export async function attemptLater<T, D>(
  read: () => T | Promise<T>,
  ...otherwise: [] | [D]
): Promise<T | D | Fail> {
  try {
    return await read();
  } catch (err) {
    if (err instanceof Fail) return otherwise.length > 0 ? (otherwise[0] as D) : err;
    throw err;
  }
}

/** The Fail that an action ends with; undefined if it goes well. */
export async function failOf(action: () => unknown): Promise<Fail | undefined> {
  const end = await attemptLater(async () => void (await action()));
  return end instanceof Fail ? end : undefined;
}
