/** The things that are left after a repair, as 05-verify and a report say them. wrap-up.ts looks. */
import type { Todo } from "../again.ts";

export interface WrapUp {
  changed: string[];
  left: string[];
  next: Todo[];
  remove: ToDelete[];
}

export interface ToDelete {
  on: string;
  command: string;
  why: string;
}
