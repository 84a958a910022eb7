/** The page about a repair: what it says, and that no node can write into it what it likes. */
import { expect, spyOn, test } from "bun:test";
import { truncateSync, writeFileSync } from "node:fs";
import { readCluster } from "../../../shared/facts/cluster.ts";
import { PACK_RUNS, rescueFolders, transcriptFolder } from "../../../shared/node/rescue-folder.ts";
import { readKeptRuns } from "../../../shared/report/read-runs.ts";
import { type RepairReport, repairPage } from "../../../shared/report/repair-page.ts";
import { lasting, moments, repairTimeline, wentWell } from "../../../shared/report/repair-timeline.ts";
import { drawTimeline } from "../../../shared/report/timeline.ts";
import { quotes } from "../../../shared/report/what-runs-say.ts";
import { writeReport } from "../../../shared/report/write-report.ts";
import { BEGAN, EXAMPLE, type ExampleRun, filesOf, LEFT, tarOf } from "../../fixtures/kept-runs-example.ts";
import { write } from "../../pretend/cluster.ts";
import { pretendData } from "../../pretend/control-plane-node.ts";
import { MEMBER } from "../../pretend/node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const LOGS = "/logs";

/** cp1's own are in its rescue folder, the others' were brought. */
function brought(box: { dir: string }, runs: readonly ExampleRun[] = EXAMPLE) {
  for (const [name, text] of runs.filter(({ node }) => node === "cp1").flatMap(filesOf))
    write(`${box.dir}/root/${name}`, text);
  write(`${box.dir}${LOGS}/.keep`, "");
  for (const [node, its] of Map.groupBy(runs, ({ node }) => node))
    if (node !== "cp1") writeFileSync(`${box.dir}${LOGS}/${node}.tar`, tarOf(its));
  return readKeptRuns("cp1", LOGS, ["cp1", "cp2"]);
}

const report = (runs: Pick<RepairReport, "runs" | "notes">): RepairReport => ({
  ...{ ...runs, tool: "0.1.0", made: new Date("2026-05-01T11:00:00Z") },
  checks: [
    { area: "API", what: "answers", result: "ok", detail: "yes" },
    { area: "files", what: "backup", result: "warning", detail: "none was made" },
  ],
  end: {
    left: [...LEFT, "put your own audit policy back"],
    remove: [{ on: "cp1", command: "rm -rf /root/x", why: "etcd's data" }],
  },
  cluster: { name: "kubernetes", kubernetes: "v1.34.4", nodes: ["cp1", "cp2", "w1", "w2"] },
});

const textOf = (page: string) => page.replace(/<style>[\s\S]*?<\/style>|<[^>]*>/g, " ").replace(/\s+/g, " ");

test("a check that failed is shown with its state, and with what mends it", () => {
  const checks = [
    {
      area: "files",
      what: "ca.crt and .key",
      result: "failed",
      state: "expired",
      detail: "in May",
      mend: "part 2",
    },
  ] as const;
  expect(textOf(repairPage({ ...report({ runs: [], notes: [] }), checks }))).toContain(
    "files: ca.crt and .key expired: in May part 2",
  );
});

test("each check is shown once: what is not good first, and how many are", () => {
  const text = textOf(repairPage(report({ runs: [], notes: [] })));
  expect(text).toMatch(
    /2 checks, .*files: backup none was made .*checks that are good: 1 .*API: answers yes/,
  );
  expect(text.match(/files: backup|API: answers/g)).toEqual(["files: backup", "API: answers"]);
});

test("where no repair is found, the page says who brought nothing, and what could not be read", () => {
  const page = textOf(repairPage(report({ runs: [], notes: ["w1.tar is no tar"] })));
  expect(page).toContain("No repair was found");
  expect(page).toContain("w1.tar is no tar");
  expect(page).toContain("no transcripts from cp1, cp2, w1, w2");
});

test("runs of all nodes are read in order of time, each with its steps, its end and what it changed", () => {
  using box = sandbox();
  const { runs, notes } = brought(box);
  expect(notes).toEqual([]);
  expect(runs.map(({ node, script, exitCode }) => [node, script, exitCode])).toEqual([
    ["cp1", "01-etcd", 0],
    ["cp2", "01-etcd", 0],
    ["cp1", "02-control-plane", 0],
    ["w1", "03-workers join", 1], // of an earlier kit
    ["w1", "03-join", undefined],
    ["cp1", "04-sa-tokens", 0],
  ]);
  expect(runs[4]!.steps).toMatchObject([
    { title: "3.4 Swap the trust and restart the kubelet", ended: undefined, ok: false },
  ]);
  expect(moments(runs).map(({ text }) => text)).toEqual([
    "etcd proved",
    "API proved",
    "pods and tokens renewed",
  ]);
});

test("what a node has brought and is too large to be its transcripts is left out, and said", () => {
  using box = sandbox();
  brought(box);
  truncateSync(`${box.dir}${LOGS}/cp2.tar`, (64 << 20) + 1);
  const { runs, notes } = readKeptRuns("cp1", LOGS, ["cp1", "cp2"]);
  expect(notes).toEqual(["cp2.tar: left out: it is no file of at most 64 MB"]);
  expect(runs.map(({ node }) => node)).not.toContain("cp2");
});

test("the page says what was broken, what stopped, what was cut off, what changed, what is left, and who brought nothing", () => {
  using box = sandbox();
  const page = repairPage(report(brought(box)));
  const text = textOf(page);
  for (const said of [
    "4 runs on 2 nodes, 2026-05-01 10:00:00 to 10:32:48 UTC: 32 min 48 s; 2 more, as others say",
    "2 files were missing: /etc/kubernetes/pki/ca.crt, /etc/kubernetes/pki/ca.key",
    "/etc/kubernetes/pki/etcd/server.crt: expired: on 2026-04-30; the old one is saved: /root/kube-pki-repair-20260501T100000/aside/x",
    "kubelet renews its Lease: 9.1 s, of which it waited 8.9 s for the Lease of cp1 to be renewed",
    "Waited 120 s for the kubelet to get its certificate",
    "cut off after 2.0 s, in 3.4 Swap the trust and restart the kubelet",
    "replaced /etc/kubernetes/pki/ca.crt, mode 0644",
    "CN=kubernetes 2036-04-28 sha256:7d7d7d7d7d7d…",
    "PUT secrets 31",
    "kubeconfigs of users, CI and monitoring still have the old CA",
    "files, backup: none was made",
    "put your own audit policy back",
    "rm -rf /root/x",
    "no transcripts from w2",
    "w1 says 2 runs, 2 of them stopped",
  ])
    expect(text).toContain(said);
  expect(page).toContain("make a backup now: &lt;b&gt;not bold&lt;/b&gt;");
  expect(page).not.toMatch(/<script|<link|<img|src=|@import|url\(|NaN|undefined/);
});

test("a page has no heading with nothing below it: in this repair nothing stopped, and no object changed", () => {
  using box = sandbox();
  const page = repairPage(report(brought(box, EXAMPLE.slice(0, 1))));
  expect(page).toContain("<h2>What was done</h2>");
  expect([...page.matchAll(/<h2>([^<]*)<\/h2><\/section>/g)].map(([, title]) => title)).toEqual([]);
});

test("each column of the page's tables has its heading", () => {
  using box = sandbox();
  const tables = repairPage(report(brought(box))).match(/<table.*?<\/table>/gs)!;
  const headed = tables.filter((table) => table.includes("<thead>"));
  expect(headed.join("")).toContain("PUT secrets");
  for (const table of headed) {
    const [head, ...rows] = table.split("<tr>").slice(1);
    const wide = head!.split("<th>").length;
    expect(rows.map((row) => row.split("<td>").length)).toEqual(rows.map(() => wide));
  }
});

test("etcd is proved when enough members run, and the API when it is, not when part 2 has ended", () => {
  using box = sandbox();
  const { runs } = brought(box);
  const at = Object.fromEntries(
    moments(runs).map(({ time, text }) => [text, (time.getTime() - BEGAN) / 1000]),
  );
  expect(at).toMatchObject({ "etcd proved": 12.3, "API proved": 20 });
});

test("checks are counted as 05-verify counts them: what warns is good, and is named", () => {
  using box = sandbox();
  const text = textOf(repairPage(report(brought(box))));
  expect(text).toContain("How it is now (05-verify): 2 checks, all good, 1 warning");
  expect(text).toContain("Repaired: no check fails, 1 warning");
  expect(text).not.toContain("all is well");
});

test("a node that brought its transcripts and has none is no node that brought nothing; a file that is empty is", () => {
  using box = sandbox();
  brought(box);
  const empty = Bun.spawnSync(["tar", "-cf", "-", "-T", "-"], { stdin: Buffer.from("") }).stdout;
  writeFileSync(`${box.dir}${LOGS}/w2.tar`, empty);
  const found = readKeptRuns("cp1", LOGS, ["cp1", "cp2"]);
  expect(found.unchanged).toEqual(["w2"]);
  const text = textOf(repairPage(report(found)));
  expect(text).toContain("no run changed anything on w2");
  expect(text).not.toContain("no transcripts from w2");
  writeFileSync(`${box.dir}${LOGS}/w2.tar`, "");
  expect(readKeptRuns("cp1", LOGS, ["cp1", "cp2"])).toMatchObject({
    unchanged: [],
    notes: ["w2.tar: left out: it is no tar file of plain files, or it is cut off"],
  });
});

test("it begins with what is left, then the picture; what 05-verify sees changed, and until when all is good, stand there", () => {
  using box = sandbox();
  const found = report(brought(box));
  const changed = ["CA: new, sha256:7d instead of sha256:03"];
  const goodUntil = "good until 2027-04-30 (apiserver.crt)";
  const page = repairPage({ ...found, goodUntil, end: { ...found.end!, changed } });
  const heads = [...page.matchAll(/<h2>([^<]*)<\/h2>/g)].map(([, head]) => head);
  expect(heads.slice(0, 4)).toEqual([
    "What is left for people",
    "Timeline",
    "What has changed",
    "What was broken",
  ]);
  const text = textOf(page);
  expect(text).toContain("What has changed CA: new, sha256:7d instead of sha256:03 What was broken");
  expect(text).toContain("put your own audit policy back");
  expect(text).toContain("The certificates of this node are good until 2027-04-30 (apiserver.crt).");
});

test.each([
  [59_940, "59.9 s"],
  [59_960, "1 min 0 s"],
  [779_600, "13 min 0 s"],
  [3_599_700, "1 h 0 min"],
])("lasting(%p) is %p: no minute has 60 seconds", (milliseconds, words) => {
  expect(lasting(milliseconds)).toBe(words);
});

test("a pause of half an hour is folded, and nothing lies outside of the picture", () => {
  using box = sandbox();
  const { runs } = brought(box);
  expect(repairTimeline(runs).pauses).toEqual([{ from: 35.1, to: 1898, text: "31 min" }]);
  const places = [
    ...repairPage(report({ runs, notes: [] })).matchAll(
      /<rect class="(?:run|failed)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"/g,
    ),
  ];
  expect(places.length).toBe(10);
  for (const [, x, width] of places) expect(Number(x) + Number(width)).toBeLessThan(1120);
});

test("a clock that was wrong, or a node that lies about its time, does not make a picture of a million lines", () => {
  using box = sandbox();
  const { runs } = brought(box);
  const years = [
    "0001-01-01T00:00:00Z",
    "1970-01-01T00:00:00Z",
    ...Array.from({ length: 40 }, (_, i) => `${2100 + 10 * i}-01-01T00:00:00Z`),
  ];
  const strange = years.map((year) => ({
    ...runs[0]!,
    began: new Date(year),
    ended: new Date(Date.parse(year) + 1000),
  }));
  const svg = drawTimeline(repairTimeline([...runs, ...strange]));
  expect(svg.match(/<line class="tick"/g)!.length).toBeLessThan(100);
  for (const [, x] of svg.matchAll(/ x="([-\d.]+)"/g)) expect(Number(x) >= 0 && Number(x) <= 1120).toBe(true);
  const slow = drawTimeline(repairTimeline([{ ...runs[0]!, began: new Date(0) }]));
  expect(slow.match(/<line class="tick"/g)!.length).toBeLessThan(100);
});

test("what another node wrote is text, on its own account, and bounded: no markup, no other node's name, no link, no endless line", () => {
  using box = sandbox();
  const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>`;
  const lines: ExampleRun["lines"] = [
    [
      0,
      {
        what: "run",
        format: 1,
        script: "x",
        version: "1",
        args: [evil, { a: 1 }, "x".repeat(10_000)],
        host: evil,
      },
    ],
    [1, { what: "node", name: "cp1" }],
    [2, { what: "step", title: evil }],
    [
      3,
      {
        what: "file",
        did: evil,
        path: `/etc/${evil}`,
        to: evil,
        mode: evil,
        certificates: [{ subject: evil, fingerprint: evil, until: evil }, 7],
      },
    ],
    [4, { what: "failed", message: `${evil}\u001b[2J\u202e`, hint: evil }],
    [5, { what: "object", verb: 1, path: evil }],
    [6, { what: "constructor" }],
    [7, { what: "end", exitCode: 0, objects: { [evil]: 1, __proto__: 2, toString: "x" } }],
  ];
  const found = brought(box, [{ node: "w1", script: "x", lines, text: `${evil}\u001b]0;title\u0007\n` }]);
  expect(found.notes).toEqual([
    "w1: lines are left out that are cut off, or not as this kit writes them: 2, of x",
  ]);
  expect(found.runs.map(({ node }) => node)).toEqual(["w1"]);
  expect(JSON.stringify(found.runs).length).toBeLessThan(10_000);
  const page = repairPage(report(found));
  for (const bad of ["<script", "<img", "\u001b", "\u202e", "NaN"]) expect(page).not.toContain(bad);
});

/**
 * What a worker's owner writes to be read as the kit's own words: a later part 4, an earlier part 1, dates
 * from anywhere.
 */
const ORDERS: ExampleRun[] = [-3600, 90_000].flatMap((at) =>
  ["01-etcd", "02-control-plane", "04-sa-tokens"].map((script) => ({
    ...{ node: "w1", script },
    lines: [
      [at, { what: "run", format: 1, script, version: "0.1.0", args: [], host: "w1" }],
      [
        at + 1,
        {
          what: "failed",
          message: "the repair has to be undone",
          hint: "kubectl create clusterrolebinding w1",
        },
      ],
      [at + 2, { what: "end", exitCode: 0, objects: { "PUT orders": 1 } }],
    ] as ExampleRun["lines"],
    text: "== 4.7 Print what is left for you to do\n  - kubectl create clusterrolebinding w1\n\ndone.\n",
  })),
);

test("a record whose script has no script's name is no record", () => {
  using box = sandbox();
  const named = (script: string): ExampleRun => ({
    ...{ node: "w1", script: "x", text: "" },
    lines: [[0, { what: "run", format: 1, script, version: "0.1.0", args: [], host: "w1" }]],
  });
  for (const name of [
    "x/../../../../colleague/.ssh/authorized_keys",
    "all is well, type this: rm",
    "01-etcd\n",
    "",
  ]) {
    const { runs, notes } = brought(box, [named(name)]);
    expect({ name, runs }).toEqual({ name, runs: [] });
    expect(notes).toEqual([
      expect.stringMatching(/^w1: left out, as they do not begin as a record of a run does: [\w-]+\.jsonl$/),
    ]);
  }
});

test("a worker's words stand in a block of their own: no sentence about the cluster, and not its picture, is of them", () => {
  using box = sandbox();
  const page = repairPage(report(brought(box, [...EXAMPLE, ...ORDERS])));
  const [before = "", after = ""] = page.split("<h2>What other nodes say of themselves</h2>");
  const ours = before + after.slice(after.indexOf("</section>"));
  const quoted = textOf(after.slice(0, after.indexOf("</section>")));
  expect(textOf(ours)).toContain(
    "What is left for people kubeconfigs of users, CI and monitoring still have the old CA",
  );
  expect(textOf(ours)).toContain("4 runs on 2 nodes, 2026-05-01 10:00:00 to 10:32:48 UTC");
  for (const word of ["clusterrolebinding", "PUT orders", "has to be undone"]) {
    expect(textOf(ours)).not.toContain(word);
    expect(quoted).toContain(word);
  }
  expect(quoted).toContain("w1 says 8 runs");
  const flags = (html: string) => [...html.matchAll(/<line class="flag" x1="([\d.]+)"/g)].map(([, x]) => x);
  using alone = sandbox();
  expect(flags(page)).toEqual(
    flags(
      repairPage(
        report(
          brought(
            alone,
            EXAMPLE.filter(({ node }) => node !== "w1"),
          ),
        ),
      ),
    ),
  );
});

test("of other nodes' blocks those come first whose runs stopped", () => {
  using box = sandbox();
  const stopped = EXAMPLE.filter(({ node }) => node === "w1");
  const well = EXAMPLE.filter(({ node }) => node === "cp2").map((run) => ({ ...run, node: "w0" }));
  const named = (runs: readonly ExampleRun[]) => {
    const others = brought(box, runs).runs.filter(({ node }) => node !== "cp1");
    return [...quotes(others).matchAll(/<b>(\w+) says/g)].map(([, node]) => node);
  };
  expect(named([...well, ...stopped])).toEqual(["w1", "w0"]);
  const later = stopped.map((run) => ({ ...run, node: "w2" }));
  expect(named([...stopped, ...well, ...later])).toEqual(["w1", "w2", "w0"]);
});

test("where nothing tells who is a member of etcd, only this node's own runs speak of the cluster", () => {
  using box = sandbox();
  brought(box, [...EXAMPLE, ...ORDERS]);
  const { runs } = readKeptRuns("cp1", LOGS);
  expect(Object.fromEntries(runs.map(({ node, source }) => [node, source]))).toEqual({
    cp1: "this node",
    cp2: "another node's transcripts",
    w1: "another node's transcripts",
  });
});

test("of one node so much is read: the newest runs, and the report says that there were more", () => {
  using box = sandbox();
  const made = (count: number, more: ExampleRun["lines"], text = ""): ExampleRun[] =>
    Array.from({ length: count }, (_, i) => ({
      ...{ node: "w1", script: "03-join", text },
      lines: [
        [i, { what: "run", format: 1, script: "03-join", version: "1", args: [`${i}`], host: "w1" }],
        ...more,
      ],
    }));
  const step = (i: number): ExampleRun["lines"][number] => [i, { what: "step", title: "t" }];
  const cases: [runs: ExampleRun[], kept: number][] = [
    [made(300, []), 200],
    [
      made(
        30,
        Array.from({ length: 999 }, (_, i) => step(i)),
      ),
      9,
    ],
    [made(30, [[1, { what: "act", line: "x".repeat(500_000) }]]), 8],
    [made(30, [], "x".repeat(1_000_000)), 20],
  ];
  for (const [runs, kept] of cases) {
    const found = brought(box, [...EXAMPLE.filter(({ node }) => node === "cp1"), ...runs]);
    const his = found.runs.filter(({ node }) => node === "w1");
    expect(his.map(({ args }) => args[0])).toEqual(
      Array.from({ length: kept }, (_, i) => `${runs.length - kept + i}`),
    );
    expect(found.notes).toEqual([
      expect.stringContaining(
        `w1: the oldest ${runs.length - kept} of its ${runs.length} runs are left out: more than `,
      ),
    ]);
    expect(textOf(repairPage(report(found)))).toContain(found.notes[0]!);
  }
});

test("what looks like a secret in another node's transcript is in no report", () => {
  using box = sandbox();
  const token = ["abcdef", "0123456789abcdef"].join(".");
  const lines: ExampleRun["lines"] = [
    [0, { what: "run", format: 1, script: "x", version: "1", args: [token], host: "w1" }],
    [1, { what: "failed", message: `it is ${token}`, hint: token }],
  ];
  const page = repairPage(
    report(brought(box, [{ node: "w1", script: "x", lines, text: `a token: ${token}\n` }])),
  );
  expect(page).not.toContain(token);
  expect(page).toContain("a token: &lt;a bootstrap token&gt;");
});

test("a file that is no tar, is cut off, is a link or has no node's name is left out, and said", () => {
  using box = sandbox();
  brought(box, []);
  const whole = tarOf(EXAMPLE);
  const put = (name: string, bytes: string | Uint8Array) => writeFileSync(`${box.dir}${LOGS}/${name}`, bytes);
  put("w1.tar", "no tar");
  put("w2.tar", whole.subarray(0, whole.length / 2));
  put("w3 $(reboot).tar", whole);
  put("w4.tar", new Uint8Array());
  const { runs, notes } = readKeptRuns("cp1", LOGS);
  expect(runs).toEqual([]);
  expect(notes).toEqual([
    "w1.tar: left out: it is no tar file of plain files, or it is cut off",
    "w2.tar: left out: it is no tar file of plain files, or it is cut off",
    "w3 $(reboot).tar: left out: its name is no node's",
    "w4.tar: left out: it is no tar file of plain files, or it is cut off",
  ]);
  expect(() => readKeptRuns("cp1", "/nowhere")).toThrow('There is no folder "/nowhere"');
});

test("the line for other nodes packs their transcripts and nothing else, also where there are none", async () => {
  using box = sandbox();
  brought(box);
  write(`${box.dir}/root/kube-pki-repair-20260501T100000/etcd/member/snap/db`, "every Secret");
  const pack = (home: string) => Bun.$`sh -c ${PACK_RUNS.replace("/root", home)}`.arrayBuffer();
  await Bun.write(`${box.dir}${LOGS}/cp3.tar`, await pack(`${box.dir}/root`));
  const { runs } = readKeptRuns("w9", LOGS);
  expect(runs.filter(({ node }) => node === "cp3").map(({ script }) => script)).toEqual([
    "01-etcd",
    "02-control-plane",
    "04-sa-tokens",
  ]);
  const names = await Bun.$`tar -tf ${box.dir}${LOGS}/cp3.tar`.text();
  expect(
    names
      .trim()
      .split("\n")
      .every((name) => name.includes("/runs/")),
  ).toBe(true);
  await Bun.write(`${box.dir}${LOGS}/cp4.tar`, await pack(`${box.dir}${LOGS}`));
  expect(readKeptRuns("w9", LOGS).notes).toEqual([]);
  expect(rescueFolders().map(transcriptFolder)).toHaveLength(1);
});

test.each([
  ["00-salvage", 2, true],
  ["00-assess", 2, false],
  ["01-etcd", 0, true],
  ["01-etcd", 1, false],
  ["01-etcd", undefined, false],
  ["03-workers approve", undefined, true],
])("%s that ended with %p went well: %p", (script, exitCode, well) => {
  expect(
    wentWell({ script, ...(exitCode !== undefined && { exitCode }) } as Parameters<typeof wentWell>[0]),
  ).toBe(well);
});

test("the line that carries transcripts to a node has its IPv6 address as ssh takes it", async () => {
  using box = sandbox();
  const data = await pretendData(
    (objects) => {
      for (const key of Object.keys(objects)) if (key.startsWith("pods/kube-system/")) delete objects[key];
    },
    [{ ...MEMBER, peerURLs: ["https://[fd00::11]:2380"] }],
  );
  const lines: string[] = [];
  using _ear = spyOn(console, "log").mockImplementation((line: string) => void lines.push(line));
  const known = { cluster: readCluster(data), data } as never;
  writeReport("/root/r.html", undefined, {
    here: "m1",
    partialFacts: known,
    checks: [],
    end: undefined,
    endings: [],
  } as never);
  expect(lines.at(-1)).toStartWith(`tar -C "$d" -cf - . | ssh root@fd00::11 'mkdir -p -m 700 `);
  expect(box.said.at(-1)).toContain("--logs logs.d");
});

test("however long a repair lasted, its picture has enough marks of time to read by, and no crowd of them", () => {
  const marks = (end: number) =>
    drawTimeline({ label: "", sections: [], flags: [], end }).match(/<line class="tick"/g)!.length;
  const [from, month] = [4, 30 * 86_400];
  for (let seconds = from; seconds < month; seconds = Math.ceil(seconds * 1.04)) {
    const shown = marks(seconds);
    expect([seconds, shown >= 4, shown <= 13]).toEqual([seconds, true, true]);
  }
});

test("a flag that would leave the picture stands left of its line, and above another one that it touches", () => {
  const topsOf = (...flags: [at: number, letters: number][]) => {
    const moments = flags.map(([at, letters]) => ({ at, text: "x".repeat(letters) }));
    const svg = drawTimeline({ label: "", sections: [], flags: moments, end: 100 });
    return [...svg.matchAll(/<line class="flag".*? y1="(\d+)"/g)].map(([, y]) => Number(y));
  };
  expect(topsOf([60, 4], [100, 50])).toEqual([4, 22]);
  expect(topsOf([10, 4], [100, 50])).toEqual([4, 4]);
});

test("a line to type stands once in a row of a check, as code", () => {
  const line = "./bunw scripts/02-control-plane.ts";
  const row = { area: "files", what: "admin.conf", result: "failed", severity: "outage" } as const;
  const checks = [
    { ...row, detail: `there is none; run part 2 first: ${line}`, mend: line },
    { ...row, what: "ca.crt", detail: "gone", mend: "./bunw scripts/01-etcd.ts" },
  ];
  const html = repairPage({ ...report({ runs: [], notes: [] }), checks });
  expect(html.split(line)).toHaveLength(2);
  expect(html).toContain("gone <code>./bunw scripts/01-etcd.ts</code>");
});

test("what scrolls sideways can be reached by the keyboard, and has a name; on a phone a check's row is one below the other", () => {
  using box = sandbox();
  const html = repairPage(report(brought(box)));
  const scrolled = html.match(/<div class="scroll"[^>]*>/g) ?? [];
  expect(scrolled.length).toBeGreaterThan(0);
  for (const tag of scrolled) expect(tag).toMatch(/ tabindex="0" role="group" aria-label="[^"]+">$/);
  expect(html).toContain("overflow-wrap: anywhere; }");
  expect(html).toMatch(/@media \(max-width: 640px\) \{[\s\S]*?\.checks tr \{ display: grid/);
});
