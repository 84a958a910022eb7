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
  stoppedRuns,
} from "../../../shared/report/kept-findings.ts";
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
  expect(stoppedRuns([one]).map(([, , ...row]) => row)).toEqual(rows);
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

test("a file that was given up is left for people", () => {
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
  expect(leftForPeople(runs, { checks: [], end: undefined })).toEqual([
    `${PKI}/sa-2024.pub is lost on cp1, cp2, and the API server starts without --service-account-key-file. If somebody finds the file, put it back there, and run part 2, which puts the flag back`,
    `${PKI}/oidc.crt is lost on cp2, and the API server starts without --oidc-ca-file. If somebody finds the file, put it back there, and run part 2, which puts the flag back`,
  ]);
});
