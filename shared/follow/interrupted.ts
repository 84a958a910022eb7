/** Ctrl-C at a question is no answer: it ends the repair there, and the same command continues. */

/** Thrown where nothing runs; whoever follows a plan prints what is left of it. */
export class Interrupted extends Error {}

/** Errors: Interrupted, if Ctrl-C was typed while something ran that has ended now. */
export function endIfStopping({ isStopping }: { readonly isStopping: boolean }) {
  if (isStopping) throw new Interrupted();
}
