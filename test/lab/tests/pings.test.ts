import { expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { waitFor } from "../../../shared/wait-for.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import type { Machine } from "../machine/machine.ts";
import { introducePods, measurePings, type Ping, readPings } from "../report/pings.ts";
import { recordedChecks } from "../report/questions.ts";

const ZERO = 10_000;
const pods = [
  { name: "old-a", node: "cp1", since: 1000 },
  { name: "old-b", node: "w1", since: 1000 },
  { name: "new-c", node: "w1", since: 20_000 },
  { name: "new-d", node: "cp1", since: 21_000 },
];
const ping = (t: number, from: string, to: string, ok = true): Ping => ({ t, from, to, ok });

test("lost pings are counted by what was asked, since the damage, and the pair that lost most says how long", () => {
  const pings = [
    ping(9000, "old-a", "old-b", false),
    ...[0, 250, 500, 750].map((later) => ping(12_000 + later, "old-a", "old-b", false)),
    ping(12_300, "old-b", "old-a", false),
    ping(13_000, "old-a", "old-b"),
    ping(20_000, "old-b", "old-a", false),
    ping(20_500, "new-c", "old-a", false),
    ping(22_000, "new-c", "old-a"),
    ping(15_000, "old-a", "service", false),
    ping(15_000, "old-a", "api"),
  ].sort((a, b) => a.t - b.t);
  const { rows } = measurePings(pings, pods, ZERO);
  expect(rows.map(({ name, sent, lost, seconds, worst }) => [name, sent, lost, seconds, worst])).toEqual([
    ["between old pods", 7, 6, 1, "old-a to old-b"],
    ["from and to new pods", 2, 1, 0.25, "new-c to old-a"],
    ["from pods to a Service", 1, 1, 0.25, "old-a to service"],
    ["from pods to the API's Service", 1, 0, 0, ""],
  ]);
  expect(rows[0]!.spans).toEqual([
    { from: 2, to: 3, lost: 5 },
    { from: 10, to: 10.25, lost: 1 },
  ]);
});

test("a new pod's first answer is one of another pod, not of a Service", () => {
  const pings = [
    ping(20_300, "new-c", "api"),
    ping(20_600, "new-c", "old-a", false),
    ping(22_000, "new-c", "old-a"),
  ];
  const before = { name: "new-c", node: "w1", since: ZERO - 5000 }; // on a node that was off meanwhile
  expect(measurePings(pings, [before, ...pods], ZERO).newPods).toEqual([
    { name: "new-c", node: "w1", start: 10, firstAnswer: 2 },
    { name: "new-d", node: "cp1", start: 11, firstAnswer: null },
  ]);
});

test("pods of all nodes are told of each other; who stands still or has left is not; what they wrote is read, but for a half line", async () => {
  using box = sandbox();
  const node = (name: string) => ({ name, path: (path: string) => `${box.dir}/${name}${path}` }) as Machine;
  const nodes = [node("cp1"), node("w1")];
  const put = (at: Machine, file: string, text: string) =>
    writeFileSync(at.path(`/var/log/pings/${file}`), text);
  for (const one of nodes) mkdirSync(one.path("/var/log/pings"), { recursive: true });
  put(nodes[0]!, "a.here", "10.244.0.2 2026-11-28T06:00:00.5Z\n");
  put(nodes[1]!, "b.here", "10.244.1.2 2026-11-28T06:00:01Z\n");
  put(nodes[1]!, "b.log", '{"t":5,"to":"a","ok":true}\n{"t":6,"to":"a","o');
  const introduced = introducePods(nodes);
  const peers = () => nodes.map((one) => readFileSync(one.path("/var/log/pings/peers"), "utf8"));
  try {
    const both = "a 10.244.0.2\nb 10.244.1.2\n";
    await waitFor("both to know both", async () => peers().every((text) => text === both), {
      seconds: 10,
      hint: "",
    });
  } finally {
    introduced.stop();
  }
  expect(introduced.pods().map(({ name, node: at, since }) => `${name} ${at} ${since}`)).toEqual([
    `a cp1 ${Date.parse("2026-11-28T06:00:00.5Z")}`,
    `b w1 ${Date.parse("2026-11-28T06:00:01Z")}`,
  ]);
  expect(readPings(nodes)).toEqual([{ t: 5, from: "b", to: "a", ok: true }]);
});

test("a lost ping between old pods, a new pod that nobody reaches, and a cluster without DNS are no recovery; where machines failed pings may be lost", () => {
  const changes = {
    secretsLost: [],
    configMapsChanged: [],
    filesNotRestored: [],
    kubeletFilesChanged: [],
    manifestsChanged: [],
    namesLost: [],
    uidsChanged: [],
  };
  const none = {
    changes,
    heartbeats: [],
    dataPlaneFailures: 0,
    restarted: [],
    evicted: [],
    endpointsLost: { seconds: 0, services: [] },
    byRunbook: false,
    kubeletsRestart: false,
    goesBack: false,
  };
  const red = (findings: {
    pings: ReturnType<typeof measurePings>;
    dnsLostSeconds: number;
    machinesFail: boolean;
  }) =>
    recordedChecks({ steps: [], leaks: [] }, { ...none, ...findings }).flatMap(({ name, ok }) =>
      ok ? [] : [name],
    );
  const bad = {
    pings: measurePings([ping(12_000, "old-a", "old-b", false)], pods, ZERO),
    dnsLostSeconds: 300,
  };
  const [oldPods, newPods, dns] = red({ ...bad, machinesFail: false });
  expect([oldPods, newPods, dns].map((name) => name?.slice(0, 20))).toEqual([
    "no ping between old ",
    "another pod answers ",
    "the cluster's DNS la",
  ]);
  expect(red({ ...bad, machinesFail: true })).toEqual([dns!]);
  const good = [
    ping(20_600, "new-c", "old-a"),
    ping(21_600, "new-d", "old-a"),
    ping(22_000, "old-a", "old-b"),
  ];
  expect(red({ pings: measurePings(good, pods, ZERO), dnsLostSeconds: 3, machinesFail: false })).toEqual([]);
});
