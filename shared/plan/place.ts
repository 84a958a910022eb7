/** Where a fence of RUNBOOK.md is typed. */

export const PLACES = [
  "first-control-plane",
  "other-control-planes",
  "each-control-plane",
  "each-worker",
  "each-node",
  "operator",
] as const;

export type Place = (typeof PLACES)[number];
