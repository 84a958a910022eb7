import { expect, test } from "bun:test";
import { ownAddress } from "./own-address.ts";

test("ownAddress() gives no address twice, also to processes whose numbers would give the same", () => {
  const [first, second] = [ownAddress(process.pid), ownAddress(process.pid + (1 << 14))];
  expect(first).toMatch(/^127\.\d+\.\d+\.11$/);
  expect(second).not.toBe(first);
});

test("ownAddress() is never one of those where nobody may answer", () => {
  expect(ownAddress(13 << 8)).not.toStartWith("127.77.");
});

test("nobody serves where nobody may answer", () => {
  const there = { hostname: "127.77.0.12", port: 0 };
  expect(() => Bun.serve({ ...there, fetch: () => new Response() })).toThrow(
    "nobody may answer at 127.77.0.12",
  );
  expect(() => Bun.listen({ ...there, socket: { data: () => undefined } })).toThrow("nobody may answer");
});
