/** watch() of shared/api/many.ts against a pretend API: bookmarks, forgotten history, connections that break. */
import { afterEach, expect, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import type { KubeObject } from "../../../shared/api/kube-object.ts";
import { watchRenewals } from "../../../shared/api/leases.ts";
import { type Change, watch } from "../../../shared/api/many.ts";
import { NO_TLS } from "../../pretend/api.ts";
import { sandbox } from "../../pretend/sandbox.ts";

/** What the pretend API answers, in turn: to a list a version and names, to a watch lines and how it ends. */
type Answer = List | { status: number } | Stream;
type List = { list: string; names: string[]; next?: string };
type Stream = { events: object[]; ends: "well" | "cut" | "never" };

let server: Bun.Server<undefined> | undefined;
afterEach(() => server?.stop(true));

/** `unready`: so many times it says of itself that it is not ready. */
function pretendApi(answers: Answer[], unready = 0) {
  const asked: string[] = [];
  let ready = 0;
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request) {
      const url = new URL(request.url);
      if (url.pathname === "/readyz") return new Response("ok", { status: ready++ < unready ? 500 : 200 });
      asked.push(url.search);
      const answer = answers.shift() ?? { events: [], ends: "never" };
      if ("status" in answer) return Response.json({ message: "no" }, { status: answer.status });
      return "list" in answer ? listOf(answer) : new Response(streamOf(answer));
    },
  });
  return { api: new KubeApi({ server: server.url.href, ca: NO_TLS }), asked, ready: () => ready };
}

function listOf({ list, names, next }: List) {
  return Response.json({
    metadata: { resourceVersion: list, continue: next },
    items: names.map((name) => ({ metadata: { name } })),
  });
}

function streamOf({ events, ends }: Stream) {
  return new ReadableStream({
    start(controller) {
      for (const event of events) controller.enqueue(Buffer.from(`${JSON.stringify(event)}\n`));
      if (ends === "cut") controller.enqueue(Buffer.from('{"type":"ADDED","object":{"metadata":{"na'));
      if (ends !== "never") controller.close();
    },
  });
}

function event(type: string, name: string, resourceVersion: string) {
  return { type, object: { metadata: { name, resourceVersion } } };
}

/** The first `count` changes, as text. */
async function first(api: KubeApi, count: number): Promise<string[]> {
  using _ = sandbox();
  const seen: string[] = [];
  const ending = new AbortController();
  for await (const { type, object } of watch(api, "/things?a=b", ending.signal) as AsyncGenerator<
    Change<KubeObject>
  >) {
    seen.push(`${type} ${object.metadata.name}`);
    if (seen.length === count) ending.abort();
  }
  return seen;
}

test("watch lists all pages, then follows from the list's version", async () => {
  const { api, asked } = pretendApi([
    { list: "7", names: ["a"], next: "more" },
    { list: "7", names: ["b"] },
    { events: [event("ADDED", "c", "8"), event("DELETED", "a", "9")], ends: "never" },
  ]);
  expect(await first(api, 4)).toEqual(["LISTED a", "LISTED b", "ADDED c", "DELETED a"]);
  expect(asked.slice(0, 2)).toEqual(["?a=b&limit=500", "?a=b&limit=500&continue=more"]);
  expect(asked[2]).toStartWith("?a=b&watch=true&allowWatchBookmarks=true&resourceVersion=7&");
});

test("watch goes on where it was when a connection ends, also in the middle of a line; bookmarks move the place", async () => {
  const { api, asked } = pretendApi([
    { list: "1", names: [] },
    { events: [event("ADDED", "a", "2"), event("BOOKMARK", "", "50")], ends: "cut" },
    { events: [event("ADDED", "b", "51")], ends: "well" },
    { events: [event("ADDED", "c", "52")], ends: "never" },
  ]);
  expect(await first(api, 3)).toEqual(["ADDED a", "ADDED b", "ADDED c"]);
  expect(asked.slice(2).map((search) => /resourceVersion=(\d+)/.exec(search)?.[1])).toEqual(["50", "51"]);
});

test.each([
  ["as an answer", { status: 410 }],
  [
    "as an event",
    { events: [{ type: "ERROR", object: { code: 410, message: "too old" } }], ends: "well" as const },
  ],
])("watch lists anew when its place in history is forgotten: %s", async (_, gone: Answer) => {
  const { api } = pretendApi([
    { list: "1", names: ["a"] },
    gone,
    { list: "90", names: ["a", "b"] },
    { events: [event("MODIFIED", "b", "91")], ends: "never" },
  ]);
  expect(await first(api, 4)).toEqual(["LISTED a", "LISTED a", "LISTED b", "MODIFIED b"]);
});

test("watch outlives an API server that answers 500, and stops where it says no", async () => {
  const { api } = pretendApi([{ status: 500 }, { list: "1", names: ["a"] }, { status: 403 }]);
  await expect(first(api, 2)).rejects.toThrow("no");
});

test.each([500, 503, 429])("watch asks again where the API server answers %d", async (status) => {
  const { api } = pretendApi([{ status }, { list: "1", names: ["a"] }, { status: 403 }]);
  expect(await first(api, 1)).toEqual(["LISTED a"]);
});

test("an API server that fails is asked for nothing but whether it is ready, until it is", async () => {
  const { api, asked, ready } = pretendApi([{ status: 500 }, { list: "1", names: ["a"] }], 2);
  expect(await first(api, 1)).toEqual(["LISTED a"]);
  expect([asked, ready()]).toEqual([["?a=b&limit=500", "?a=b&limit=500"], 3]);
});

test("a Lease that changes is a renewal whatever its time; one that was there, or comes, by its time; one that is deleted is none", async () => {
  using _ = sandbox();
  const since = new Date(Date.now() - 60_000);
  const of = (type: string, name: string, minutes: number) => {
    const renewTime = new Date(since.getTime() + minutes * 60_000).toISOString();
    return { type, object: { metadata: { name, resourceVersion: "8" }, spec: { renewTime } } };
  };
  const events = [
    ...[of("ADDED", "old", -5), of("ADDED", "new", 0.5), of("MODIFIED", "other-clock", -5)],
    ...[of("DELETED", "gone", 0.5), of("MODIFIED", "last", 0.5)],
  ];
  const { api } = pretendApi([
    { list: "7", names: [] },
    { events, ends: "never" },
  ]);
  const ending = new AbortController();
  const names: string[] = [];
  for await (const { name } of watchRenewals(api, since, ending.signal, () => undefined)) {
    names.push(name);
    if (name === "last") ending.abort();
  }
  expect(names).toEqual(["new", "other-clock", "last"]);
});
