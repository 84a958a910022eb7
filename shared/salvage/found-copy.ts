/** A copy of a lost file that a search has found. */

export interface FoundCopy {
  path: string;
  content: string | Uint8Array;
  /** Permission bits, where it says which are meant. */
  mode?: number;
  /** Its origin, in words for the operator. */
  from: string;
}
