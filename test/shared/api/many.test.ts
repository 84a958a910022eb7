/** Work that mostly waits: a few that wait in vain do not keep the others from their turn. */
import { expect, test } from "bun:test";
import { inTurn } from "../../../shared/api/many.ts";

test("inTurn() gives the place of what takes long to the next, and waits for it at the end", async () => {
  const order: string[] = [];
  const released = Promise.withResolvers<void>();
  await inTurn(["vain", "vain too", "quick", "last"], { width: 2, milliseconds: 5 }, async (item) => {
    order.push(`begin ${item}`);
    if (item === "last") released.resolve();
    if (item.startsWith("vain")) await released.promise;
    order.push(`end ${item}`);
  });
  expect(order.slice(0, 2)).toEqual(["begin vain", "begin vain too"]);
  expect(order.toSorted()).toEqual(["vain", "vain too", "quick", "last"].flatMap((item) => [`begin ${item}`, `end ${item}`]).toSorted());
});

test("inTurn() passes on an error, also of what had given its place away", async () => {
  const released = Promise.withResolvers<void>();
  const run = inTurn(["late", "last"], { width: 1, milliseconds: 5 }, async (item) => {
    if (item === "last") return released.resolve();
    await released.promise;
    throw new Error("of the late one");
  });
  await expect(run).rejects.toThrow("of the late one");
});
