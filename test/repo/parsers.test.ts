/** Parsers of others' bytes cost as much a byte for long texts as for short ones. The night tries a megabyte: test/soak. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { sandbox } from "../pretend/sandbox.ts";
import { type Priced, tooDear } from "./parser-price.ts";
import { PARSERS } from "./priced-parsers.ts";

setDefaultTimeout(300_000);

const LARGEST = 16 * 1024;

test.each(PARSERS.map((one) => [one.parser, one] as const))(
  "16 kB of %s cost no more a byte than 2 kB, whatever they are made of",
  async (_, parser) => {
    using _box = sandbox();
    expect(await tooDear(parser, LARGEST)).toEqual([]);
  },
);

test("what is red: a price that grows with the square of the size, or doubles with each byte", async () => {
  const work = (steps: number) => {
    let sum = 0;
    for (let i = 0; i < steps; i++) sum = (sum * 31 + i) % 1_000_003;
    return sum;
  };
  const of = (name: string, parse: Priced["parse"]): Priced => ({
    parser: name,
    parse,
    texts: { any: (size) => "x".repeat(size) },
  });
  expect(
    await tooDear(
      of("line", (bytes) => work(bytes.length * 300)),
      LARGEST,
    ),
  ).toEqual([]);
  expect(
    await tooDear(
      of("square", (bytes) => work(bytes.length ** 2 / 16)),
      LARGEST,
    ),
  ).toHaveLength(1);
  expect(
    await tooDear(
      of("doubling", (bytes) => work(2 ** Math.min(bytes.length, 27))),
      LARGEST,
    ),
  ).toHaveLength(1);
});
