/**
 * The one error an operator is meant to see: what failed, with the values in quotes, and the operator's next command.
 * Anything else that escapes a script is a bug and keeps its stack trace.
 */
export class Fail extends Error {
  readonly hint: string;

  constructor(message: string, options: { hint: string; cause?: unknown }) {
    super(message, { cause: options.cause });
    this.hint = options.hint;
  }
}
