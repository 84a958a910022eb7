/** Protobuf as etcd and Kubernetes write it: what is no field's tag is damage. */
import { expect, test } from "bun:test";
import { Reader } from "../../../shared/etcd-data/protobuf.ts";

test.each([
  ["none: field 0", [0x07], "no field has the tag 7"],
  ["field 1's first", [0x08], 8],
  ["the last that there is", [0xff, 0xff, 0xff, 0xff, 0x0f], 0xffffffff],
  ["one more than 32 bits", [0x80, 0x80, 0x80, 0x80, 0x10], "no field has the tag 4294967296"],
])("a tag: %s", (_, bytes, found) => {
  const tag = () => new Reader(new Uint8Array(bytes)).tag();
  if (typeof found === "number") expect(tag()).toBe(found);
  else expect(tag).toThrow(found);
});

/** As it is on the wire: seven bits a byte, the lowest first. */
function varint(value: bigint): number[] {
  const rest = BigInt.asUintN(64, value);
  return rest < 128n ? [Number(rest)] : [Number(rest & 127n) | 128, ...varint(rest >> 7n)];
}

test.each([0n, 1n, 127n, 128n, 2n ** 49n - 1n, 2n ** 49n, 2n ** 53n + 1n, 2n ** 63n - 1n, -1n, -(2n ** 63n)])(
  "an integer: %p",
  (value) => {
    expect(new Reader(new Uint8Array(varint(value))).int64()).toBe(value);
  },
);

test("an integer of more than ten bytes, or whose last byte is missing, is damage", () => {
  const read = (bytes: number[]) => () => new Reader(new Uint8Array(bytes)).int64();
  expect(read(Array(11).fill(0x80))).toThrow("longer than ten bytes");
  for (const length of [1, 6, 7, 8, 9]) expect(read(Array(length).fill(0x80))).toThrow("ends inside a field");
});
