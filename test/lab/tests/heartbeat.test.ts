import { expect, test } from "bun:test";
import { measure, readBeats } from "../report/heartbeat.ts";

const line = (t: number, ok = true) => `{"t":${t},"ok":${ok}${ok ? "" : ',"err":"refused"'}}\n`;
const options = {
  name: "web",
  what: "a call",
  zero: 1000,
  end: 3000,
  phases: [
    { name: "before", from: 0, to: 1000 },
    { name: "repair", from: 1000, to: Number.POSITIVE_INFINITY },
  ],
};

test("readBeats() leaves out the line that is just being written", () => {
  expect(readBeats(`${line(1)}{"t":2,"o`)).toEqual([{ t: 1, ok: true }]);
});

test("measure() sees a gap from the last good call to the next", () => {
  const beats = readBeats(
    line(800) + line(1000) + line(1200, false) + line(1400, false) + line(1600) + line(2800),
  );
  expect(measure(beats, options)).toEqual({
    name: "web",
    what: "a call",
    calls: 5,
    failed: 2,
    gaps: [{ from: 0, to: 0.6, failed: 2, error: "refused" }],
    phases: [
      { name: "before", calls: 1, failed: 0 },
      { name: "repair", calls: 5, failed: 2 },
    ],
  });
});

test("measure() sees silence, and a gap that never closes", () => {
  expect(measure(readBeats(line(1000) + line(4000)), { ...options, end: 4100 }).gaps).toEqual([
    { from: 0, to: 3, failed: 0, error: "silent" },
  ]);
  expect(measure(readBeats(line(1000) + line(1200, false)), options).gaps).toEqual([
    { from: 0, to: null, failed: 1, error: "refused" },
  ]);
  expect(measure([], { ...options, end: 9000 }).gaps).toEqual([
    { from: 0, to: null, failed: 0, error: "silent" },
  ]);
});
