/** By which bytes a stored value is known. */
import { expect, test } from "bun:test";
import { isCborMap } from "../../../shared/objects/storage.ts";

test.each<[what: string, hex: string, is: boolean]>([
  ["a map with its tag", "d9d9f7 a1 6161 01", true],
  ["an empty one", "d9d9f7 a0", true],
  ["a map without the tag", "a16161 a1 6161 01", false],
  ["a list", "d9d9f7 81 01", false],
  ["a map that is cut off", "d9d9f7 a1 6161", false],
  ["a map and one byte more", "d9d9f7 a1 6161 01 00", false],
])("one whole map in CBOR: %s", (_, hex, is) => {
  expect(isCborMap(Buffer.from(hex.replaceAll(" ", ""), "hex"))).toBe(is);
});
