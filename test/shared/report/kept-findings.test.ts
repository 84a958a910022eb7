/** What the records of a repair say, in sentences: made-up runs. */
import { expect, test } from "bun:test";
import type { KeptEvent } from "../../../shared/report/kept-event.ts";
import {
  brokenThings,
  changedFiles,
  changedObjects,
  issuedCertificates,
  leftForPeople,
  lostOnNodes,
  whatStopped,
} from "../../../shared/report/kept-findings.ts";
import { inPlainWords } from "../../../shared/report/plain-words.ts";
import type { KeptRecord } from "../../../shared/report/read-runs.ts";

const AT = new Date("2026-05-01T10:00:00Z");
const recordOf = (script: string, more: Partial<KeptRecord> = {}): KeptRecord => ({
  ...{ node: "cp1", source: "kept-runs" as never, script, version: "1", args: [], began: AT, exitCode: 0 },
  ...{ ended: new Date(AT.getTime() + 65_000), steps: [], events: [], text: "" },
  ...more,
});
type FileEvent = Extract<KeptEvent, { what: "file" }>;
const file = (did: string, path: string, more: Partial<FileEvent> = {}): FileEvent => ({
  ...{ at: AT, what: "file", did, path, to: "", why: "", isNew: false, mode: "", certificates: [] },
  ...more,
});
const made = (path: string) => file("wrote", path, { isNew: true });
const PKI = "/etc/kubernetes/pki";
const ASIDE = "/root/kube-pki-repair-1/aside";

test.each<[string, FileEvent[], [missing: string[], aside: string[]]]>([
  ["a file that was made", [made(`${PKI}/a`)], [[`${PKI}/a`], []]],
  ["twice is once", [made(`${PKI}/a`), made(`${PKI}/a`)], [[`${PKI}/a`], []]],
  ["one that was replaced", [file("wrote", `${PKI}/a`)], [[], []]],
  ["one that was copied", [file("copied", `${PKI}/a`, { isNew: true })], [[], []]],
  [
    "one that was moved aside, and made anew",
    [file("moved", `${PKI}/a`, { to: `${ASIDE}/a` }), made(`${PKI}/a`)],
    [[], [`${PKI}/a`]],
  ],
  ["one that was moved elsewhere", [file("moved", `${PKI}/a`, { to: "/etc/b" })], [[], []]],
  ["one that was copied aside", [file("copied", `${PKI}/a`, { to: `${ASIDE}/a` })], [[], []]],
  [
    "the kit's own",
    ["/root/a", "/run/a", "/tmp/a", `${PKI}/.mark`, "/etc/kubernetes/bootstrap-kubelet.conf"].map(made),
    [[], []],
  ],
  [
    "one that this kit took away, and put back",
    [file("moved", `${PKI}/a`, { to: `${PKI}/.a` }), made(`${PKI}/a`)],
    [[], []],
  ],
  [
    "one that came, and was taken away later",
    [made(`${PKI}/a`), file("removed", `${PKI}/a`)],
    [[`${PKI}/a`], []],
  ],
  ["a kubelet's own certificate", [made("/var/lib/kubelet/pki/kubelet-client-2026.pem")], [[], []]],
])("files that were lost: %s", (_, events, [missing, aside]) => {
  const found = lostOnNodes([recordOf("01-etcd", { events }), recordOf("x", { node: "cp2" })]);
  const words = [...found].map(([node, { missing, aside }]) => [
    node,
    missing,
    aside.map(({ path }) => path),
  ]);
  expect(words).toEqual(missing.length + aside.length > 0 ? [["cp1", missing, aside]] : []);
});

test("of a kubelet's certificate its link is named, not the dated files beside it", () => {
  const moved = (name: string) => file("moved", `/var/lib/kubelet/pki/${name}`, { to: `${ASIDE}/${name}` });
  const events = [moved("kubelet-client-2026-11-20-10-00-00.pem"), moved("kubelet-client-current.pem")];
  expect([...brokenThings([recordOf("01-etcd", { events })])]).toEqual([
    ["cp1", [expect.stringContaining("kubelet-client-current.pem: replaced")]],
  ]);
});

test("what was broken, and what was changed, by node", () => {
  const events = [
    made(`${PKI}/a`),
    file("moved", `${PKI}/b`, { to: `${ASIDE}/b`, why: "expired" }),
    file("moved", `${PKI}/c`, { to: `${ASIDE}/c` }),
    file("wrote", `${PKI}/d`, { mode: "0600" }),
    file("removed", `${PKI}/e`),
  ];
  const runs = [recordOf("01-etcd", { events }), recordOf("03-join", { node: "w1" })];
  expect([...brokenThings(runs)]).toEqual([
    [
      "cp1",
      [
        `1 files were missing: ${PKI}/a`,
        `${PKI}/b: expired; the old one is saved: ${ASIDE}/b`,
        `${PKI}/c: replaced; the old one is saved: ${ASIDE}/c`,
      ],
    ],
  ]);
  expect([...changedFiles(runs)]).toEqual([
    [
      "cp1",
      [
        `wrote ${PKI}/a`,
        `moved ${PKI}/b to ${ASIDE}/b`,
        `moved ${PKI}/c to ${ASIDE}/c`,
        `replaced ${PKI}/d, mode 0600`,
        `removed ${PKI}/e`,
      ].map((line) => expect.stringMatching(new RegExp(`^\\S+ ${line}$`))),
    ],
  ]);
});

test("a certificate is one row, with all nodes that have it; the kit's own are not shown", () => {
  const ca = {
    subject: "CN=kubernetes",
    fingerprint: "sha256:0123456789abcdef",
    until: "2036-01-01T00:00:00Z",
  };
  const wrote = (path: string) => [file("wrote", path, { certificates: [ca] })];
  const runs = [
    recordOf("01-etcd", { events: [...wrote(`${PKI}/ca.crt`), ...wrote("/root/ca.crt")] }),
    recordOf("hand-over unpack", { node: "cp2", events: wrote(`${PKI}/ca.crt`) }),
  ];
  expect(issuedCertificates(runs)).toEqual([
    ["cp1, cp2", `${PKI}/ca.crt`, "CN=kubernetes", "2036-01-01", "sha256:0123456789ab…"],
  ]);
});

test("objects are counted at a run's end; of one that was cut off each is named", () => {
  const object = { at: AT, what: "object", verb: "PUT", path: "/api/v1/x" } as const;
  const end = { at: AT, what: "end", exitCode: 0, objects: [["PUT secrets", 31]] } as KeptEvent;
  expect(
    changedObjects([
      recordOf("a", { events: [object, end] }),
      recordOf("b", { events: [object] }),
      recordOf("c"),
    ]),
  ).toEqual([
    ["cp1", "a", "PUT secrets", "31"],
    ["cp1", "b", "PUT /api/v1/x", "1"],
  ]);
});

const FAILED = { at: AT, what: "failed", message: "it is off", hint: "start it" } as const;
const step = (title: string, ended?: Date) => ({ title, began: AT, ended, ok: true, waited: [] });

test.each<[string, KeptRecord, string[][]]>([
  ["it went well", recordOf("01-etcd"), []],
  ["it failed", recordOf("01-etcd", { exitCode: 1, events: [FAILED] }), [["it is off", "start it"]]],
  ["it says nothing", recordOf("01-etcd", { exitCode: 1 }), []],
  [
    "it was cut off in a step",
    recordOf("01-etcd", { exitCode: undefined, steps: [step("1.1 a", AT), step("1.2 b")] }),
    [["cut off after 1 min 5 s, in 1.2 b", "the next run of it continued there"]],
  ],
  [
    "it was cut off at its end",
    recordOf("01-etcd", { exitCode: undefined, steps: [step("1.1 a", AT)] }),
    [["cut off after 1 min 5 s, in its end", "the next run of it continued there"]],
  ],
  [
    "it was cut off, and had said why",
    recordOf("01-etcd", { exitCode: undefined, events: [FAILED] }),
    [["it is off", "start it"]],
  ],
])("what stopped: %s", (_, one, rows) => {
  expect(whatStopped([one]).map(([, , ...row]) => row)).toEqual(rows);
});

const PART4 = "a line\n== 4.4 Print what is left\n  - kubeconfigs of users\n  what makes nodes\n\ndone.\n";
const check = { area: "node", what: "w1 is Ready", result: "failed", detail: "no", mend: "look" } as const;

test.each<[string, KeptRecord[], Parameters<typeof leftForPeople>[1], string[]]>([
  ["nothing", [], { checks: [], end: undefined }, []],
  [
    "what part 4 printed",
    [recordOf("04-sa-tokens", { text: PART4 })],
    { checks: [], end: undefined },
    ["kubeconfigs of users", "what makes nodes"],
  ],
  [
    "its last run",
    [
      recordOf("04-sa-tokens", { text: PART4 }),
      recordOf("04-sa-tokens", { text: "== 4.4 Print what is left\n  one" }),
    ],
    { checks: [], end: undefined },
    ["one"],
  ],
  [
    "a run that did not come so far",
    [recordOf("04-sa-tokens", { text: PART4 }), recordOf("04-sa-tokens", { text: "stopped" })],
    { checks: [], end: undefined },
    ["kubeconfigs of users", "what makes nodes"],
  ],
  [
    "what 05-verify says now, not what part 4 said then",
    [recordOf("04-sa-tokens", { text: PART4 })],
    { checks: [], end: { left: ["hand out kubeconfigs"] } },
    ["hand out kubeconfigs"],
  ],
  ["another script", [recordOf("03-join", { text: PART4 })], { checks: [], end: undefined }, []],
  [
    "checks, and what 05-verify says, each once",
    [],
    { checks: [check, { ...check, result: "ok" }, check], end: { left: ["a", "a"] } },
    ["a", "node, w1 is Ready: no. What mends it: look"],
  ],
])("what is left for people: %s", (_, runs, now, lines) => {
  expect(leftForPeople(runs, now)).toEqual(lines);
});

const key = (name: string) => made(`${PKI}/${name}`);
const told = (about: string, ours: KeptRecord[], more: Partial<Parameters<typeof inPlainWords>[0]> = {}) =>
  inPlainWords({ ours, others: [], left: [], changed: [], ...more }).find(([what]) => what === about)![1];

test.each<[string, KeptRecord[], string]>([
  ["none was touched", [], "No run made a shared key, or had to bring one back."],
  [
    "one is new",
    [recordOf("01-etcd", { events: [key("ca.key")] })],
    "ca.key is new. No run made another shared key.",
  ],
  [
    "one is new, in a folder of the operator's",
    [recordOf("01-etcd", { events: [made("/data/pki/ca.key")] })],
    "ca.key is new. No run made another shared key.",
  ],
  [
    "two are new",
    [recordOf("01-etcd", { events: [key("ca.key"), key("etcd/ca.key")] })],
    "ca.key, etcd/ca.key are new. No run made another shared key.",
  ],
  [
    "one came back, before part 1 wrote it",
    [
      recordOf("00-salvage", { args: ["memory", "--pid", "3"], events: [key("ca.key")] }),
      recordOf("01-etcd", { events: [key("ca.key"), key("sa.key")] }),
    ],
    "ca.key came back (00-salvage memory 3); sa.key is new. No run made another shared key.",
  ],
  [
    "carried by a hand-over",
    [recordOf("hand-over unpack", { events: [key("ca.key")] })],
    "No run made a shared key, or had to bring one back.",
  ],
  [
    "only moved aside",
    [recordOf("01-etcd", { events: [file("moved", `${PKI}/ca.key`, { to: ASIDE })] })],
    "No run made a shared key, or had to bring one back.",
  ],
  [
    "another file of that name",
    [recordOf("01-etcd", { events: [made("/root/ca.key")] })],
    "No run made a shared key, or had to bring one back.",
  ],
])("of the keys: %s", (_, ours, sentence) => {
  expect(told("Keys", ours)).toBe(sentence);
});

const NEW_CA = /^The cluster's CA is new: /;
const SAME_CA = /^The cluster's CA has not changed: /;
test.each<[string, KeptRecord[], string[], RegExp, RegExp]>([
  ["as before", [], [], SAME_CA, /Old service-account tokens stay valid\.$/],
  ["a CA was made", [recordOf("01-etcd", { events: [key("ca.key")] })], [], NEW_CA, /stay valid\.$/],
  ["05-verify sees a new CA", [], ["CA: new, since"], NEW_CA, /stay valid\.$/],
  [
    "05-verify sees a renewed CA",
    [],
    ["CA: renewed until"],
    /^The cluster's CA had expired, and was renewed/,
    /stay valid\.$/,
  ],
  [
    "a service-account key was made",
    [recordOf("01-etcd", { events: [key("sa.key")] })],
    [],
    SAME_CA,
    /is new: pods needed new tokens\.$/,
  ],
  ["05-verify sees a new one", [], ["service-account key: new"], SAME_CA, /needed new tokens\.$/],
  [
    "another key is new",
    [recordOf("01-etcd", { events: [key("etcd/ca.key")] })],
    [],
    SAME_CA,
    /stay valid\.$/,
  ],
])("of tokens and logins: %s", (_, ours, changed, logins, pods) => {
  const sentence = told("Tokens and logins", ours, { changed });
  expect(sentence).toMatch(logins);
  expect(sentence).toMatch(pods);
});

const end = (...objects: [string, number][]): KeptEvent => ({ at: AT, what: "end", exitCode: 0, objects });
const joined = (node: string, text: string, more: Partial<KeptRecord> = {}) =>
  recordOf("03-join", { node, text, ...more });
const REST = " What others did to pods meanwhile, and what callers saw, is not in these records.";
const NONE = "No script restarted a workload, and none replaced a pod.";

test.each<[string, KeptRecord[], KeptRecord[], string]>([
  ["nothing", [], [], NONE],
  [
    "part 4 restarted some",
    [
      recordOf("04-sa-tokens", {
        events: [
          end(["PATCH deployments", 2], ["PATCH daemonsets", 1], ["PATCH nodes", 9], ["POST eviction", 4]),
        ],
      }),
    ],
    [],
    "Part 4 restarted 3 workloads by their own rolling update, and replaced 4 pods.",
  ],
  [
    "only evictions",
    [recordOf("04-sa-tokens", { events: [end(["POST eviction", 1])] })],
    [],
    "Part 4 restarted 0 workloads by their own rolling update, and replaced 1 pods.",
  ],
  [
    "workers joined",
    [],
    [
      joined("w1", "x\n  all 7 containers still run\n"),
      joined("w1", "nothing"),
      joined("w2", "  warning: 2 containers have exited since\n"),
    ],
    `${NONE} Joined again, by their own words: w1, w2; of their containers 7 ran on, and 2 ended.`,
  ],
  ["a join that failed", [], [joined("w1", "  all 7 containers still run\n", { exitCode: 1 })], NONE],
])("of workloads: %s", (_, ours, others, sentence) => {
  expect(told("Workloads", ours, { others })).toBe(sentence + REST);
});

test("what was lost, and what is left, is counted; what had expired with its first day", () => {
  const moved = (name: string, why?: string) =>
    file("moved", `${PKI}/${name}`, { to: `${ASIDE}/${name}`, ...(why && { why }) });
  const expired = (day: string) => `expired: it was valid until ${day}`;
  // the scripts' own file: made to take tokens of the old key, and moved away by retire
  const events = [made(`${PKI}/a`), moved("b"), made(`${PKI}/sa-old.pub`), moved("sa-old.pub")];
  const runs = [
    recordOf("01-etcd", { events }),
    recordOf("01-etcd", {
      node: "cp2",
      events: [moved("c", expired("2026-11-21")), moved("d", expired("2026-11-20")), moved("e", "wrong CA")],
    }),
  ];
  expect(told("Lost", runs)).toBe(
    "Files of the control plane: on cp1 1 missing and 1 replaced, on cp2 2 expired (the first on 2026-11-20) and 1 replaced.",
  );
  const others = [recordOf("03-join", { node: "w1", events: [made(`${PKI}/ca.crt`), moved("f")] })];
  expect(told("Lost", [], { others })).toEndWith(" As others say: on w1 1 missing.");
  expect(told("Lost", [])).toBe("No file was missing, had expired, or was replaced.");
  expect([[], ["a"], ["a", "b"]].map((left) => told("Left", [], { left }))).toEqual([
    "Nothing that the scripts know of.",
    '1 point: "What is left for people", below.',
    '2 points: "What is left for people", below.',
  ]);
});

test("a file that was given up is still lost, is left for people, and tokens of its key are refused", () => {
  const flag = (did: string, name: string, file: string) => ({
    at: AT,
    what: "flag" as const,
    ...{ did, flag: `--${name}`, path: `${PKI}/${file}` },
  });
  const key = flag("given up", "service-account-key-file", "sa-2024.pub");
  const runs = [
    recordOf("02-control-plane", { events: [key] }),
    recordOf("02-control-plane", {
      node: "cp2",
      events: [
        key,
        flag("given up", "oidc-ca-file", "oidc.crt"),
        flag("given up", "tracing-config-file", "t.yaml"),
      ],
    }),
    // its file is here again
    recordOf("02-control-plane", { node: "cp2", events: [flag("back", "tracing-config-file", "t.yaml")] }),
  ];
  expect(told("Lost", runs)).toEndWith(` Still lost: ${PKI}/sa-2024.pub, ${PKI}/oidc.crt.`);
  expect(told("Tokens and logins", runs)).toEndWith(
    ` Old service-account tokens stay valid, but those of ${PKI}/sa-2024.pub are refused.`,
  );
  expect(leftForPeople(runs, { checks: [], end: undefined })).toEqual([
    `${PKI}/sa-2024.pub is lost on cp1, cp2, and the API server starts without --service-account-key-file: if somebody finds it, put it back there, and run part 2, which puts the flag back`,
    `${PKI}/oidc.crt is lost on cp2, and the API server starts without --oidc-ca-file: if somebody finds it, put it back there, and run part 2, which puts the flag back`,
  ]);
});

const stops = (began: Date) => recordOf("01-etcd", { steps: [{ ...step("1.2 Stop", AT), began }] });
const proof = recordOf("02-control-plane", {
  steps: [{ ...step("2.4 Prove that the API serves the old objects", new Date("2026-05-01T10:09:00Z")) }],
});

test.each<[string, KeptRecord[], RegExp]>([
  ["not proved", [stops(AT)], /^No run has proved the API yet\.$/],
  ["proved", [proof], /^Proved at 10:09:00 UTC by/],
  [
    "away, from the first stop",
    [stops(new Date("2026-05-01T10:02:00Z")), stops(AT), proof],
    /^Unavailable from 10:00:00 at the latest \(part 1 stops what is left; a line that stopped etcd on another node before it is not in these records\) until 10:09:00 UTC/,
  ],
])("of the API: %s", (_, ours, words) => {
  expect(told("The API", ours)).toMatch(words);
});
