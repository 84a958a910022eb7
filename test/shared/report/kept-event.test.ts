/** Lines of a run's record that another node has sent: what is no event of ours is none, and stops nothing. */
import { expect, test } from "bun:test";
import { asEvent } from "../../../shared/report/kept-event.ts";

const AT = "2026-05-01T10:00:00.000Z";

test.each([
  ["null", null],
  ["undefined: no JSON", undefined],
  ["a list", [{ at: AT, what: "act", line: "x" }]],
  ["a number", 7],
  ["a text", "act"],
  ["no kind", { at: AT }],
  ["a kind of JavaScript's own", { at: AT, what: "toString", line: "x" }],
  ["no time", { what: "act", line: "x" }],
  ["a time after all others", { at: "+275760-09-13T00:00:00.000Z", what: "act", line: "x" }],
  ["no text where one belongs", { at: AT, what: "act", line: 7 }],
])("%s is no event", (_, line) => {
  expect(asEvent(line)).toBeUndefined();
});

test("an event keeps its own fields, and no others", () => {
  expect(asEvent({ at: AT, what: "act", line: "stopped kubelet", more: "x" })).toEqual({
    at: new Date(AT),
    what: "act",
    line: "stopped kubelet",
  });
});
