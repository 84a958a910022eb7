/** The name that an operator meant by a word with slips. */
import { expect, test } from "bun:test";
import { nearest } from "../../shared/nearest.ts";

const OPTIONS = ["json", "deep", "without", "new-cas", "new-internal-cas", "lost", "lost-on"];

test.each([
  ["jsn", "json"],
  ["deeep", "deep"],
  ["withot", "without"],
  ["wihtout", "without"],
  ["new-ca", "new-cas"],
  ["lost-no", "lost-on"],
])("%s means %s", (word, meant) => {
  expect(nearest(word, OPTIONS)).toBe(meant);
});

test.each(["x", "", "verbose", "kubeconfig", "lo0t-it-all"])("%s means none of them", (word) => {
  expect(nearest(word, OPTIONS)).toBeUndefined();
});
