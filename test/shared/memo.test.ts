import { expect, test } from "bun:test";
import { memo } from "../../shared/memo.ts";
import { readFirstYaml, readYaml } from "../../shared/yaml.ts";

test("memo() makes a thing of a text once, forgets the one of many texts that was not asked for longest, and keeps no long one and no error", () => {
  const made: string[] = [];
  const length = memo((text) => {
    made.push(text.slice(0, 4));
    if (text === "bad") throw new Error("bad");
    return { length: text.length };
  });
  expect(length("one")).toBe(length("one"));
  expect(made.splice(0)).toEqual(["one"]);

  for (let i = 0; i < 64; i++) length(`n${i}`);
  made.length = 0;
  length("n63");
  length("n0");
  length("one");
  length("n0");
  length("n1");
  expect(made.splice(0)).toEqual(["one", "n1"]);

  const long = "long".repeat(20_000);
  length(long);
  length(long);
  expect(() => length("bad")).toThrow("bad");
  expect(() => length("bad")).toThrow("bad");
  expect(made).toEqual(["long", "long", "bad", "bad"]);
});

test.each([
  ["readYaml", readYaml],
  ["readFirstYaml", readFirstYaml],
])("%s of the same text gives new values each time: who changes one changes no other", (_, read) => {
  const text = "a: {b: [1]}\n";
  const first = read(text) as { a: { b: number[] } };
  first.a.b.push(2);
  expect(read(text)).toEqual({ a: { b: [1] } });
  expect(() => read("a: {b: [1")).toThrow();
  expect(() => read("a: {b: [1")).toThrow();
});
