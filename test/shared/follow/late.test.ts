/** A node that is late: a person decides by a number, one question at a time, and nothing ends without his word. */
import { expect, test } from "bun:test";
import { MOST, patience, timeLimitOf } from "../../../shared/follow/late.ts";
import { type AskedNow, NO_PERSON, type Person } from "../../../shared/follow/person.ts";

/** Answers when it is told to. */
class Slow implements Person {
  readonly isThere = true;
  readonly asked: AskedNow[] = [];
  /** Resolved with the next question. */
  #asks = Promise.withResolvers<(way: number) => void>();

  async choose(question: AskedNow, signal?: AbortSignal): Promise<number | undefined> {
    this.asked.push(question);
    return await new Promise((done) => {
      signal?.addEventListener("abort", () => done(undefined));
      this.#asks.resolve(done);
    });
  }

  /** At the next question. */
  async answers(way: number) {
    const answer = await this.#asks.promise;
    this.#asks = Promise.withResolvers();
    answer(way);
  }

  async path() {
    return undefined;
  }
}

const { signal } = new AbortController();

test("two nodes are late: one question at a time, with numbered ways; the second waits on", async () => {
  const person = new Slow();
  const { onLate, most } = patience({ person }, MOST.file);
  expect(most).toBe(MOST.file);
  const first = onLate!("w1 has said nothing for 900 s", signal);
  const second = onLate!("w2 has been at work for 3600 s, and has not ended", signal);
  await person.answers(1);
  expect(person.asked).toEqual([
    {
      text: ["w1 has said nothing for 900 s.", "Nothing is ended without your word."],
      ways: ["Wait as long again", "Leave it: its connection is ended here, and the step stops there"],
    },
  ]);
  await person.answers(0);
  expect([await first, await second]).toEqual([false, true]);
  expect(person.asked).toHaveLength(2);
});

test("who has ended before his turn is not asked about, and a question that is taken back ends nothing", async () => {
  const person = new Slow();
  const { onLate } = patience({ person }, MOST.file);
  const [one, other] = [new AbortController(), new AbortController()];
  const first = onLate!("w1 has said nothing for 900 s", one.signal);
  const second = onLate!("w2 has said nothing for 900 s", other.signal);
  other.abort();
  one.abort();
  expect([await first, await second]).toEqual([true, true]);
  expect(person.asked).toHaveLength(1);
});

test("where nobody is there nobody is asked; a search of a disk has a day", () => {
  expect(patience({ person: NO_PERSON }, MOST.look)).toEqual({ most: MOST.look });
  expect(timeLimitOf("salvage")).toBeGreaterThan(10 * timeLimitOf("join"));
  expect(timeLimitOf("tokens")).toBeGreaterThan(timeLimitOf(undefined));
});
