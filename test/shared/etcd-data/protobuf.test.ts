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
