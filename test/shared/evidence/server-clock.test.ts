/** This machine's clock beside another one's, and how a difference is said. */
import { expect, test } from "bun:test";
import {
  apart,
  duration,
  minute,
  refuseFuture,
  refuseOtherTime,
} from "../../../shared/evidence/server-clock.ts";
import { failOf } from "../../../shared/fail.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../../shared/pki/issue.ts";
import { testFacts } from "../../pretend/facts.ts";

const MINUTE = 60_000;

test.each([
  [0, "0 minutes"],
  [-29_000, "0 minutes"],
  [-90_000, "2 minutes"],
  [119 * MINUTE, "119 minutes"],
  [120 * MINUTE, "2 hours"],
  [47 * 60 * MINUTE, "47 hours"],
  [48 * 60 * MINUTE, "2 days"],
  [365 * 24 * 60 * MINUTE, "365 days"],
])("%d ms are %s", (ms, words) => {
  expect(duration(ms)).toBe(words);
});

test("a clock is ahead or behind, and a time is said to the minute", () => {
  expect([8, -8].map((minutes) => apart(minutes * MINUTE))).toEqual([
    "8 minutes ahead of",
    "8 minutes behind",
  ]);
  expect(minute(new Date("2026-11-26T02:31:59Z"))).toBe("2026-11-26 02:31 UTC");
});

/** With the operator's word. */
async function withWord<T>(word: string | undefined, action: () => Promise<T>): Promise<T> {
  const before = process.env.KUBE_PKI_REPAIR_CLOCK;
  if (word !== undefined) process.env.KUBE_PKI_REPAIR_CLOCK = word;
  try {
    return await action();
  } finally {
    if (before === undefined) delete process.env.KUBE_PKI_REPAIR_CLOCK;
    else process.env.KUBE_PKI_REPAIR_CLOCK = before;
  }
}

test.each<[string, number, string | undefined, boolean]>([
  ["a minute ago", -1, undefined, false],
  ["a little later: clocks differ", 4, undefined, false],
  ["later than now", 10, undefined, true],
  ["later, by the operator's word", 10, "right", false],
  ["later, with another word", 10, "yes", true],
])("what another node has made: %s", async (_, minutes, word, isRefused) => {
  const made = new Date(Date.now() + minutes * MINUTE);
  const refused = await withWord(word, () => failOf(() => refuseFuture("w1's token", made)));
  expect(refused !== undefined).toBe(isRefused);
  if (refused) expect(refused.message).toContain(`that is 10 minutes before w1's token, ${minute(made)}`);
});

const facts = testFacts({ advertiseAddress: "127.0.0.1" });
const ca = await issueCa(certRow("ca"), facts);
const leaf = await issueLeaf(certRow("apiserver"), ca, facts);

/** An API server whose clock is so many minutes ahead. */
function serve(minutes: number) {
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    tls: leaf,
    fetch: () =>
      new Response("", { headers: { Date: new Date(Date.now() + minutes * MINUTE).toUTCString() } }),
  });
  return { url: `https://127.0.0.1:${server.port}`, [Symbol.dispose]: () => void server.stop(true) };
}

test.each<[string, number, string | undefined, string | undefined]>([
  ["the same", 0, undefined, undefined],
  ["a little off", 4, undefined, undefined],
  ["ahead", 10, undefined, "10 minutes behind that of"],
  ["behind", -10, undefined, "10 minutes ahead of that of"],
  ["ahead, by the operator's word", 10, "right", undefined],
])("the clock of a server of this CA is %s", async (_, minutes, word, words) => {
  using server = serve(minutes);
  const path = process.env.PATH;
  process.env.PATH = "/nowhere"; // no program says whether a time server sets this clock
  try {
    const refused = await withWord(word, () => failOf(() => refuseOtherTime(server.url, ca.cert)));
    expect(refused?.message.replace(/^.*that is /, "")).toBe((words && `${words} ${server.url}`) as never);
  } finally {
    process.env.PATH = path;
  }
});
