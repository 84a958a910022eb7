/** As test/repo/parsers.test.ts, up to a megabyte: what grows slowly shows only there. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { sandbox } from "../pretend/sandbox.ts";
import { tooDear } from "../repo/parser-price.ts";
import { PARSERS } from "../repo/priced-parsers.ts";

setDefaultTimeout(3_600_000);

test.each(PARSERS.map((one) => [one.parser, one] as const))(
  "a megabyte of %s costs no more a byte than 2 kB, whatever it is made of",
  async (_, parser) => {
    using _box = sandbox();
    expect(await tooDear(parser, 1024 * 1024)).toEqual([]);
  },
);
