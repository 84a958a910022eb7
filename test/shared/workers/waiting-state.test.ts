/** Nodes on their way back: which port is asked now, who counts as back without a certificate, what is said. */
import { expect, setSystemTime, test } from "bun:test";
import type { KnownNode } from "../../../shared/facts/known-node.ts";
import {
  countAsBackWithoutCertificate,
  markReturned,
  probePorts,
  sayReturned,
  setScene,
} from "../../../shared/workers/waiting-state.ts";
import { ADDRESS } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

type Scene = ReturnType<typeof setScene>;
type Away = Scene["away"] extends Map<string, infer T> ? T : never;

const node = (name: string): KnownNode => ({
  name,
  uid: name,
  controlPlane: false,
  claimed: { names: [name], ips: [] },
  places: [],
});

function scene(names: readonly string[], serving = true): Scene {
  return setScene(
    {
      api: undefined as never,
      expected: names.map(node),
      caPem: "",
      since: new Date(0),
      serving,
      seconds: 0,
    },
    new Map(),
  );
}

const NOW = Date.parse("2026-01-01T12:00:00Z");
const [LONG_AGO, JUST_NOW] = [NOW - 60_000, NOW - 1000];
const refused = (at: number) => ({ csr: "csr-1", why: "no", at });

/** What is known of a node; what is done with it now. */
test.each<[string, Partial<Away>, "asked" | "withoutCertificate" | "left", boolean?]>([
  ["that does not renew its Lease", {}, "left"],
  ["that renews its Lease", { renewsSince: LONG_AGO }, "asked"],
  ["where nobody looks at ports", { renewsSince: LONG_AGO }, "left", false],
  ["that is being asked", { renewsSince: LONG_AGO, asking: true }, "left"],
  ["whose turn has not come", { renewsSince: LONG_AGO, nextProbe: NOW + 1 }, "left"],
  [
    "whose port has shown another certificate for long",
    { renewsSince: LONG_AGO, lastAnswer: "other" },
    "withoutCertificate",
  ],
  [
    "whose port has shown another certificate for a moment",
    { renewsSince: JUST_NOW, lastAnswer: "other" },
    "asked",
  ],
  ["that was refused long ago", { renewsSince: LONG_AGO, refused: refused(LONG_AGO) }, "withoutCertificate"],
  [
    "that was refused a moment ago: it may ask again",
    { renewsSince: LONG_AGO, lastAnswer: "other", refused: refused(JUST_NOW) },
    "asked",
  ],
  ["whose certificate is promised", { renewsSince: LONG_AGO, lastAnswer: "other", approved: true }, "left"],
  [
    "whose certificate is issued",
    { renewsSince: LONG_AGO, lastAnswer: "other", approved: true, issuedAt: JUST_NOW },
    "asked",
  ],
  ["whose certificate another one has approved", { renewsSince: JUST_NOW, issuedAt: JUST_NOW }, "asked"],
])("a node %s", async (_, known, what, serving = true) => {
  using _box = sandbox();
  setSystemTime(new Date(NOW));
  try {
    const one = scene(["w1"], serving);
    Object.assign(one.away.get("w1")!, known);
    probePorts(one);
    const done =
      one.withoutCertificate.length > 0 ? "withoutCertificate" : one.probing > 0 ? "asked" : "left";
    expect([done, one.away.has("w1")]).toEqual([what, what !== "withoutCertificate"]);
    // without an address it serves
    for (let turn = 0; turn < 100; turn++) await undefined;
    expect(one.away.has("w1")).toBe(what === "left");
  } finally {
    setSystemTime();
  }
});

test.each<[string, Partial<Away>, Partial<Pick<Scene, "withoutCertificate" | "unreachable" | "selfSigned">>]>(
  [
    ["its kubelet signs its own", { lastAnswer: "own", refused: refused(0) }, { selfSigned: ["w1"] }],
    ["a firewall is before it", { lastAnswer: "unreachable" }, { unreachable: ["w1"] }],
    [
      "a firewall is before it, and its request was refused",
      { lastAnswer: "unreachable", refused: refused(0) },
      { withoutCertificate: ["w1: csr-1: no"] },
    ],
    [
      "it shows another one",
      { lastAnswer: "other" },
      { withoutCertificate: ["w1: its port 10250 shows another certificate, and it asks for none"] },
    ],
    [
      "its own is on the way",
      { lastAnswer: "other", approved: true },
      { withoutCertificate: ["w1: its request is approved, and its certificate is not there yet"] },
    ],
  ],
)("a node is back without a serving certificate: %s", (_, known, found) => {
  using box = sandbox();
  const one = scene(["w1", "w2"]);
  countAsBackWithoutCertificate(one, Object.assign(one.away.get("w1")!, known));
  const { withoutCertificate, unreachable, selfSigned } = one;
  expect({ withoutCertificate, unreachable, selfSigned }).toEqual({
    ...{ withoutCertificate: [], unreachable: [], selfSigned: [] },
    ...found,
  });
  const how = found.unreachable
    ? "but its port 10250 cannot be reached from here"
    : "without a serving certificate of the CA";
  expect(box.said).toEqual([`w1: back, ${how}   1 / 2`]);
});

test("a node comes back once; of many nodes none is named", () => {
  using box = sandbox();
  const few = scene(["w1"], false);
  const away = few.away.get("w1")!;
  for (const _ of [1, 2]) markReturned(few, away);
  const many = scene(Array.from({ length: 21 }, (_, i) => `n${i}`));
  markReturned(many, many.away.get("n3")!);
  expect([box.said, many.away.size]).toEqual([["w1: back   1 / 1"], 20]);
});

test("at the end the first of many are named, and how many more there are", () => {
  using box = sandbox();
  const one = scene(["w1"]);
  const many = Array.from({ length: 22 }, (_, i) => `n${i}: x`);
  one.withoutCertificate.push(...many);
  for (const name of many) for (const set of [one.doubles, one.refused]) set.add(name);
  sayReturned(one);
  expect(box.said.filter((line) => line.endsWith(": x"))).toEqual(many.slice(0, 20));
  expect(box.said.filter((line) => / more( |$)/.test(line))).toEqual([
    "WARNING: 2 more CSRs in the name of nodes that already have a certificate",
    "2 more CSRs were not approved: kubectl get csr",
    "and 2 more",
  ]);
  const quiet = scene(["w1"]);
  const before = box.said.length;
  sayReturned(quiet);
  expect(box.said.length).toBe(before);
});

test("of many nodes it is said how many are back; of CSRs only where kubelets make them", () => {
  using box = sandbox();
  const names = Array.from({ length: 21 }, (_, i) => `n${i}`);
  for (const serving of [false, true]) sayReturned(scene(names, serving));
  expect(box.said).toEqual([
    "0 of 21 nodes are back",
    "0 of 21 nodes are back; serving CSRs: 0 approved, 0 issued",
  ]);
});

test.each([
  ["for long", LONG_AGO, ["w1"], 0],
  ["for a moment", JUST_NOW, [], 1],
])(
  "a node that got its certificate, and whose port cannot be reached since, %s",
  async (_, issuedAt, unreachable, away) => {
    using _box = sandbox();
    setSystemTime(new Date(NOW));
    try {
      const made = scene(["w1"]);
      const w1 = made.away.get("w1")!;
      // nobody listens there
      w1.node.claimed.ips = [ADDRESS];
      Object.assign(w1, { renewsSince: JUST_NOW, issuedAt });
      probePorts(made);
      expect(made.probing).toBe(1);
      while (made.away.get("w1")?.nextProbe === 0) await new Promise(setImmediate);
      expect([made.unreachable, made.away.size]).toEqual([unreachable, away]);
    } finally {
      setSystemTime();
    }
  },
);
