/** Durations are read as Go reads them. */
import { expect, test } from "bun:test";
import { hoursOf } from "../../../shared/facts/issue-facts.ts";

test.each([
  ["8760h0m0s", 8760],
  ["90m", 1.5],
  ["8760h30m", 8760.5],
  ["1.5h", 1.5],
  [".5h", 0.5],
  ["5.m", 5 / 60],
  ["-1h30m", -1.5],
  ["+2h", 2],
  ["3600s", 1],
  ["3600000ms", 1],
  ["3600000000us", 1],
  ["3600000000µs", 1],
  ["3600000000μs", 1],
  ["3600000000000ns", 1],
  ["1m1h", 1 + 1 / 60],
  ["0", 0],
  ["-0", -0],
])("%p", (duration, hours) => {
  expect(hoursOf(duration, "x")).toBeCloseTo(hours, 9);
});

test.each(["", "1", "h", "1d", "1h ", " 1h", "1h30", "1..5h", ".h", "--1h", "1H"])(
  "Go does not take %p",
  (duration) => {
    expect(() => hoursOf(duration, "certificateValidityPeriod")).toThrow(
      `Cannot read the duration "${duration}" in certificateValidityPeriod`,
    );
  },
);
