/** What a wait says while it waits. */
import { afterEach, beforeEach, expect, jest, spyOn, test } from "bun:test";
import { Fail, failOf } from "../../shared/fail.ts";
import { listenToRun, type RunEvent, startRunEvents } from "../../shared/this-run.ts";
import { answered, sayWhile, waitFor } from "../../shared/wait-for.ts";
import { sandbox } from "../pretend/sandbox.ts";

beforeEach(() => void jest.useFakeTimers({ now: new Date(2026, 10, 26, 3, 0, 0) }));
afterEach(() => void jest.useRealTimers());

/**
 * A probe that is called once and takes as long as the test wants: time passes by advanceTimersByTime alone.
 */
function longProbe() {
  const { promise, resolve } = Promise.withResolvers<string>();
  return { probe: () => promise, end: () => resolve("there") };
}

/** Lets a wait that has asked ask again. */
async function nextProbe() {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  jest.advanceTimersByTime(1000);
}

const lease = { seconds: 90, hint: "journalctl -u kubelet -n 50" };

test("a wait of a second or more is told to the record of the run, for what it was; a short one is not", async () => {
  const heard: RunEvent[] = [];
  startRunEvents({ what: "run", script: "02-control-plane", version: "0.1.0", args: [] });
  listenToRun((event) => heard.push(event));
  try {
    await waitFor("nothing", () => true, lease);
    const { probe, end } = longProbe();
    const waiting = waitFor("the Lease of cp1 to be renewed", probe, lease);
    jest.advanceTimersByTime(8900);
    end();
    await waiting;
  } finally {
    listenToRun(undefined);
  }
  expect(heard.slice(1)).toEqual([{ what: "waited", for: "the Lease of cp1 to be renewed", seconds: 8.9 }]);
});

test("a wait is silent for ten seconds; then a line every ten seconds says for whom, since when, until when, and what to do", async () => {
  using box = sandbox();
  const { probe, end } = longProbe();
  let away = "cp3, w1";
  const waiting = waitFor(() => `${away} to come back`, probe, {
    seconds: 900,
    hint: () => `close --without ${away}`,
  });
  jest.advanceTimersByTime(9000);
  expect(box.said).toEqual([]);
  jest.advanceTimersByTime(1000);
  expect(box.said).toEqual([
    "still waiting for cp3, w1 to come back (since 03:00:00, until 03:15:00 at most). If it takes too long: close --without cp3, w1",
  ]);
  away = "cp3";
  jest.advanceTimersByTime(30_000);
  // in full where it says something new, then short
  const short = "still waiting for cp3 to come back, until 03:15:00 at most";
  expect(box.said.slice(1)).toEqual([
    "still waiting for cp3 to come back (since 03:00:00, until 03:15:00 at most). If it takes too long: close --without cp3",
    short,
    short,
  ]);
  end();
  expect(await waiting).toBe("there");
  jest.advanceTimersByTime(60_000);
  expect(box.said).toHaveLength(4);
});

test("a wait says what the last probe said, as text that no terminal obeys", async () => {
  using box = sandbox();
  const { promise, resolve } = Promise.withResolvers<string>();
  let asked = 0;
  const probe = () => {
    if (asked++ > 0) return promise;
    throw new Error("refused\u001b[2J\nerror: forged");
  };
  const waiting = waitFor("the Lease of cp1 to be renewed", probe, lease);
  await Promise.resolve();
  jest.advanceTimersByTime(10_000);
  expect(box.said).toEqual([
    "still waiting for the Lease of cp1 to be renewed (since 03:00:00, until 03:01:30 at most, so far: refused\\u001b[2J\\nerror: forged). If it takes too long: journalctl -u kubelet -n 50",
  ]);
  resolve("there");
  expect(await waiting).toBe("there");
});

test("a wait whose probe says now this, now that, has its hint once", async () => {
  using box = sandbox();
  let says = "refused";
  const probe = () => {
    if (says === "") return true;
    throw new Error(says);
  };
  const waiting = waitFor("the API server", probe, { seconds: 90, hint: "crictl ps -a" });
  for (says of ["refused", "forbidden", "refused", "refused"])
    for (let second = 0; second < 10; second++) await nextProbe();
  expect(box.said).toEqual([
    "still waiting for the API server (since 03:00:00, until 03:01:30 at most, so far: refused). If it takes too long: crictl ps -a",
    "still waiting for the API server (since 03:00:00, until 03:01:30 at most, so far: forbidden)",
    "still waiting for the API server (since 03:00:00, until 03:01:30 at most, so far: refused)",
    "still waiting for the API server, until 03:01:30 at most",
  ]);
  says = "";
  await nextProbe();
  await waiting;
});

test("fifty waits at the same time do not give fifty lines", async () => {
  using box = sandbox();
  const { probe, end } = longProbe();
  const waiting = Promise.all(
    Array.from({ length: 50 }, (_, i) => waitFor(`a test pod on w${i}`, probe, lease)),
  );
  jest.advanceTimersByTime(10_000);
  expect(box.said.map((line) => line.split(" (")[0])).toEqual([
    "still waiting for a test pod on w0",
    "still waiting for a test pod on w1",
    "still waiting for a test pod on w2",
    "and 47 more like these",
  ]);
  end();
  await waiting;
});

test("a wait in the background says less often, and where it is told to", async () => {
  using box = sandbox();
  const { probe, end } = longProbe();
  const lines: string[] = [];
  const waiting = waitFor("all workers", probe, {
    seconds: 7200,
    hint: "x",
    every: 300,
    say: (line) => void lines.push(line),
  });
  jest.advanceTimersByTime(299_000);
  expect(lines).toEqual([]);
  jest.advanceTimersByTime(301_000);
  expect(lines).toHaveLength(2);
  expect(box.said).toEqual([]);
  end();
  await waiting;
});

test("a program that hangs, or an answer that takes long, is no silence either", async () => {
  using box = sandbox();
  const { probe, end } = longProbe();
  const restarting = sayWhile("systemctl restart kubelet", "journalctl -u kubelet -n 50", probe);
  jest.advanceTimersByTime(10_000);
  expect(box.said).toEqual([
    "still waiting for systemctl restart kubelet (since 03:00:00). If it takes too long: journalctl -u kubelet -n 50",
  ]);
  end();
  expect(await restarting).toBe("there");
  const failing = sayWhile("crictl stop", "x", () => Promise.reject(new Error("no runtime")));
  await expect(failing).rejects.toThrow("no runtime");
  jest.advanceTimersByTime(60_000);
  expect(box.said).toHaveLength(1);
});

test("a request that takes long is said, but not beside the wait that it is part of", async () => {
  using box = sandbox();
  const { probe, end } = longProbe();
  const request = answered(probe(), "https://cp1:6443", "crictl ps");
  jest.advanceTimersByTime(10_000);
  expect(box.said).toEqual([
    "still waiting for an answer from https://cp1:6443 (since 03:00:00). If it takes too long: crictl ps",
  ]);
  const waiting = waitFor("cp1 to come back", () => request, lease);
  jest.advanceTimersByTime(10_000);
  expect(box.said.slice(1)).toEqual([
    "still waiting for cp1 to come back (since 03:00:10, until 03:01:40 at most). If it takes too long: journalctl -u kubelet -n 50",
  ]);
  end();
  expect([await request, await waiting]).toEqual(["there", "there"]);
});

test("a wait asks every two seconds whether what it waits for has ended, and shows what was seen in place of the probe's error", async () => {
  using box = sandbox();
  let [looked, asked] = [0, 0];
  const ended = async () =>
    ++looked < 3 ? "it ended: connection refused" : new Fail("it ended: bad flag", { hint: "x" });
  const probe = () => {
    asked++;
    throw new Error("Unable to connect");
  };
  const waiting = waitFor("the API", probe, { ...lease, ended }).catch((err: Error) => err.message);
  for (let seconds = 0; seconds < 20; seconds++) await nextProbe();
  expect(await waiting).toBe("it ended: bad flag");
  expect([looked, asked > 6]).toEqual([3, true]);
  const late = waitFor("the API", probe, { seconds: 0, hint: "x", ended: async () => "it ended" });
  await expect(late).rejects.toThrow("Waited 0 s for the API: it ended");
  expect(box.said).toEqual([]);
});

test("a wait looks once more when its time is over: a machine that stood still meanwhile has not looked in vain", async () => {
  using _box = sandbox();
  let asked = 0;
  const probe = () => {
    if (++asked > 1) return "there";
    jest.advanceTimersByTime(100_000);
    return undefined;
  };
  const waiting = waitFor("the Lease of cp1 to be renewed", probe, lease);
  await nextProbe();
  expect(await waiting).toBe("there");
  expect(asked).toBe(2);
});

test("a wait without any time looks once", async () => {
  using _box = sandbox();
  expect(await waitFor("all workers", () => "there", { seconds: 0, hint: "" })).toBe("there");
  let asked = 0;
  const never = waitFor("all workers", () => ++asked < 0, { seconds: 0, hint: "" });
  await nextProbe();
  await expect(never).rejects.toThrow("Waited 0 s for all workers: no answer yet");
  expect(asked).toBe(1);
});

test.each([
  [undefined, 150],
  [30, 150],
  [500, 500],
])("with an interval of %p there are %i ms between two probes", async (interval, between) => {
  const slept: number[] = [];
  const ear = spyOn(Bun, "sleep").mockImplementation(async (ms) => void slept.push(Number(ms)));
  let asked = 0;
  try {
    const options = { seconds: 60, hint: "", ...(interval ? { interval } : {}) };
    await waitFor("the third", () => ++asked === 3, options);
  } finally {
    ear.mockRestore();
  }
  expect(slept).toEqual([between, between]);
});

test("with more patience a wait that is over says how long it really was", async () => {
  using box = sandbox();
  process.env.KUBE_PKI_REPAIR_PATIENCE = "3";
  try {
    const waiting = failOf(() =>
      waitFor("the Lease of cp1 to be renewed", () => false, { ...lease, say: () => undefined }),
    );
    for (let second = 0; second < 400; second++) await nextProbe();
    expect((await waiting)?.message).toStartWith("Waited 270 s for ");
  } finally {
    delete process.env.KUBE_PKI_REPAIR_PATIENCE;
  }
  expect(box.said).toEqual([]);
});
