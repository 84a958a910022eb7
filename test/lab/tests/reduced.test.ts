import { expect, test } from "bun:test";
import { IN_FULL, joinedTooLate } from "../report/reduced.ts";

const step = (start: number, node: string, command: string, stderr = "") => ({
  start,
  node,
  command: `./bunw scripts/${command}`,
  stderr,
});
const part1 = (start: number) => step(start, "cp1", "01-etcd.ts --new-cas");
const full = (start: number, more = "") =>
  step(start, "cp1", `03-workers.ts close${more}`, `wrote manifest (${IN_FULL})\n`);
const join = (start: number, node = "w1", stderr = "") =>
  step(start, node, "03-join.ts --token-file token", stderr);
const HAD_JOINED = "  w1: has a certificate of this CA already, nothing to do\n";
const fullWithout = (start: number, ...saved: string[]) => {
  const { stderr, ...close } = full(start);
  return { ...close, stderr: `${saved.map((line) => `  ${line}\n`).join("")}${stderr}` };
};

const AWAY = "as said at 09:34 (plan, on cp1): w3 is away";
const BACK = "not any more, its machine is on again";

test.each([
  ["joins, then in full", [part1(1), join(2), full(3)], 0],
  ["in full, then joins", [part1(1), full(2), join(3), join(4, "w2")], 2],
  ["the record's order is not the time's", [join(3), full(2), part1(1)], 1],
  ["the one that joins later was named as away", [part1(1), full(2, " --without w9,w1"), join(3)], 0],
  ["another one was named", [part1(1), full(2, " --without w9"), join(3)], 1],
  ["it was away by a word that its node has saved", [part1(1), fullWithout(2, AWAY), join(3, "w3")], 0],
  ["another one was away by a saved word", [part1(1), fullWithout(2, AWAY), join(3, "w1")], 1],
  ["a name that begins like it", [part1(1), fullWithout(2, AWAY), join(3, "w31")], 1],
  ["the saved word held no more", [part1(1), fullWithout(2, AWAY, `${AWAY}: ${BACK}`), join(3, "w3")], 1],
  ["a join that had nothing to do", [part1(1), join(2), full(3), join(4, "w1", HAD_JOINED)], 0],
  [
    "a join that had to change its trust, after one that had not",
    [part1(1), full(2), join(3, "w1", HAD_JOINED), join(4)],
    1,
  ],
  ["a second repair begins anew", [part1(1), join(2), full(3), part1(4), join(5), full(6)], 0],
])("%s", (_, steps, late) => {
  expect(joinedTooLate(steps)).toHaveLength(late);
});
