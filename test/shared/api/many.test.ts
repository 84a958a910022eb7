/**
 * Work that mostly waits: a few that wait in vain do not keep the others from their turn, and a long list is
 * not read in silence.
 */
import { expect, jest, test } from "bun:test";
import { ApiError } from "../../../shared/api/api-error.ts";
import { inParallelWithTimeSlots, readAll, retry } from "../../../shared/api/many.ts";
import { failOf } from "../../../shared/fail.ts";
import { sandbox } from "../../pretend/sandbox.ts";

test("inParallelWithTimeSlots() gives the place of what takes long to the next, and waits for it at the end", async () => {
  const order: string[] = [];
  const released = Promise.withResolvers<void>();
  await inParallelWithTimeSlots(
    ["vain", "vain too", "quick", "last"],
    { width: 2, milliseconds: 5 },
    async (item) => {
      order.push(`begin ${item}`);
      if (item === "last") released.resolve();
      if (item.startsWith("vain")) await released.promise;
      order.push(`end ${item}`);
    },
  );
  expect(order.slice(0, 2)).toEqual(["begin vain", "begin vain too"]);
  expect(order.toSorted()).toEqual(
    ["vain", "vain too", "quick", "last"].flatMap((item) => [`begin ${item}`, `end ${item}`]).toSorted(),
  );
});

test("inParallelWithTimeSlots() passes on an error, also of what had given its place away", async () => {
  const released = Promise.withResolvers<void>();
  const run = inParallelWithTimeSlots(["late", "last"], { width: 1, milliseconds: 5 }, async (item) => {
    if (item === "last") return released.resolve();
    await released.promise;
    throw new Error("of the late one");
  });
  await expect(run).rejects.toThrow("of the late one");
});

test("readAll() says every ten seconds how far it is, and nothing before or after", async () => {
  using box = sandbox();
  jest.useFakeTimers({ now: new Date(2026, 10, 26, 3, 0, 0) });
  try {
    const read: number[] = [];
    const pages = (async function* () {
      for (let page = 0; page < 4; page++) {
        yield* [page, page];
        jest.advanceTimersByTime(6000);
      }
    })();
    await readAll("Leases", pages, (item) => read.push(item));
    jest.advanceTimersByTime(60_000);
    expect(read).toEqual([0, 0, 1, 1, 2, 2, 3, 3]);
    expect(box.said.map((line) => line.replace(/ If it takes too long: .*/, ""))).toEqual([
      "still waiting for the rest of the Leases, 4 are read (since 03:00:00).",
      "still waiting for the rest of the Leases, 8 are read (since 03:00:00)",
    ]);
  } finally {
    jest.useRealTimers();
  }
});

const DEAF = 'failed calling webhook "x.example": refused';

/** Errors of the API that come before it answers; whether they end the work at once. */
test.each<[string, [number, string], { failsWhereDeaf?: boolean }, boolean]>([
  ["the API is overloaded", [429, "too many"], {}, false],
  ["the API has an error", [500, "no leader"], {}, false],
  ["the API refuses", [403, "no"], {}, true],
  ["a webhook does not answer", [500, DEAF], {}, false],
  ["a webhook does not answer, and there is another way", [500, DEAF], { failsWhereDeaf: true }, true],
  [
    "the API has an error, and there is another way for webhooks",
    [500, "no leader"],
    { failsWhereDeaf: true },
    false,
  ],
])("retry() %s", async (_, [code, message], options, ends) => {
  using _box = sandbox();
  let asked = 0;
  const action = async () => {
    if (++asked === 1) throw new ApiError(code, message);
    return "done";
  };
  const outcome = await failOf(async () => expect(await retry("it", action, options)).toBe("done"));
  expect([outcome?.message, asked]).toEqual(ends ? [message, 1] : [undefined, 2]);
});
