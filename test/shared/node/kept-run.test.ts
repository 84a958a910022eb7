/** What is kept of a run, from when on, and whether a file was written while one went on. */
import { expect, test } from "bun:test";
import { utimesSync } from "node:fs";
import { UNFINISHED, writeFile } from "../../../shared/files/files.ts";
import { keepRun, wasDuringRun } from "../../../shared/node/kept-run.ts";
import { newRescue } from "../../../shared/node/rescue-folder.ts";
import { certInfo } from "../../../shared/pki/certificate.ts";
import { type RunEvent, startRunEvents, told } from "../../../shared/this-run.ts";
import { healthyCp } from "../../pretend/cluster.ts";
import { type Kept, keptOn } from "../../pretend/kept.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const { ca } = await healthyCp();
const info = certInfo(ca.cert);
const CA = {
  subject: "CN=kubernetes",
  fingerprint: info.publicKeyHash,
  until: info.notAfter.toISOString(),
};
const CONF = "/etc/kubernetes";
const client = `users:\n- user:\n    client-certificate-data: ${Buffer.from(ca.cert).toString("base64")}\n`;

type FileEvent = Extract<RunEvent, { what: "file" }>;
const wrote = (path: string, more: Partial<FileEvent> = {}): FileEvent => ({
  ...{ what: "file", did: "wrote", path },
  ...more,
});

/** What a run leaves that tells these, and ends. */
function keptOf(events: readonly RunEvent[], options: Parameters<typeof keepRun>[0] = {}): Kept | undefined {
  using box = sandbox();
  newRescue();
  const before = process.listeners("exit");
  startRunEvents({ what: "run", script: "hand-over pack", version: "1", args: [] });
  keepRun(options);
  for (const event of events) told(event);
  for (const listener of process.listeners("exit").filter((one) => !before.includes(one))) {
    listener.call(process, 3);
    process.removeListener("exit", listener);
  }
  return keptOn(box.dir)[0];
}

test.each<[string, RunEvent, boolean]>([
  ["a text is none", { what: "text", text: "looking" }, false],
  ["a step is none", { what: "step", title: "1.1" }, false],
  ["a file", wrote(`${CONF}/a`), true],
  ["a file in memory is none", wrote("/run/kube-pki-repair/a"), false],
  ["a file beside memory", wrote("/runs/a"), true],
  ["a file that is not whole is none", wrote(`${CONF}/a${UNFINISHED}`), false],
  ["one that comes out of memory", wrote("/run/a", { did: "moved", to: `${CONF}/a` }), true],
  ["one that becomes whole", wrote(`${CONF}/a${UNFINISHED}`, { did: "renamed", to: `${CONF}/a` }), true],
  ["a program", { what: "act", line: "stopped kubelet" }, true],
  ["an object", { what: "object", verb: "PUT", path: "/api/v1/nodes/w1" }, true],
])("the first change begins a record: %s", (_, event, begins) => {
  expect(keptOf([event]) !== undefined).toBe(begins);
});

test("a run that is only part of a repair leaves nothing where there is no rescue folder", () => {
  expect(keptOf([wrote(`${CONF}/a`), wrote(`${CONF}/b`)], { onlyInRepair: true })).toBeUndefined();
});

test("the record has what came before the first change, of each file its mode and certificates, and the end", () => {
  const kept = keptOf([
    { what: "text", text: `found ${["abcdef", "0123456789abcdef"].join(".")}` },
    wrote(`${CONF}/pki/ca.crt`, { mode: 0o44, bytes: Buffer.from(ca.cert) }),
    wrote(`${CONF}/admin.conf`, { bytes: Buffer.from(client) }),
    wrote(`${CONF}/pki/ca.key`, { bytes: Buffer.from(ca.key), isNew: true }),
    wrote(`${CONF}/bad.crt`, {
      bytes: Buffer.from("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    }),
  ])!;
  const at = expect.any(String);
  expect(kept.record).toEqual([
    {
      ...{ at, what: "run", script: "hand-over pack", version: "1", args: [] },
      ...{ format: 1, host: expect.any(String) },
    },
    { ...wrote(`${CONF}/pki/ca.crt`), at, mode: "0044", certificates: [CA] },
    { ...wrote(`${CONF}/admin.conf`), at, certificates: [CA] },
    { ...wrote(`${CONF}/pki/ca.key`), at, isNew: true },
    { ...wrote(`${CONF}/bad.crt`), at },
    { at, what: "end", exitCode: 3, objects: {} },
  ]);
  expect(kept.path).toMatch(/\/runs\/\d{8}T\d{6}-hand-over-pack-\d+\.jsonl$/);
  expect(kept.text).toMatch(/^found .+\n$/);
  expect(kept.text).not.toContain("0123456789abcdef");
});

test("a hundred objects of a kind are named, the others are counted; another kind has its own hundred", () => {
  const pods = Array.from({ length: 102 }, (_, at): RunEvent => {
    return { what: "object", verb: "DELETE", path: `/api/v1/namespaces/a/pods/p${at}` };
  });
  const { record } = keptOf([...pods, { what: "object", verb: "GET", path: "/api/v1/namespaces/a/pods/p" }])!;
  expect(record.filter(({ what }) => what === "object").map(({ verb }) => verb)).toEqual([
    ...Array.from({ length: 100 }, () => "DELETE"),
    "GET",
  ]);
  expect(record.at(-1)!.objects).toEqual({ "DELETE pods": 102, "GET pods": 1 });
});

test("a large record ends at its limit, but for steps and the end", () => {
  const act = (size: number): RunEvent => ({ what: "act", line: "x ".repeat(size / 2) });
  const { record } = keptOf([
    act(5 << 20),
    act(5 << 20),
    act(100),
    { what: "step", title: "1.2" },
    act(4 << 20),
  ])!;
  expect(record.map(({ what, line }) => line?.length ?? what)).toEqual(["run", 5 << 20, 100, "step", "end"]);
});

const AT = "2026-01-01T10:00:00.000Z";
const END = '{"at":"2026-01-01T10:05:00.000Z","what":"end","exitCode":0}\n';

/** [began, last written, whether it has ended] */
type Run = [began: string, until: string, ends: boolean];
const ENDED: Run = [AT, "10:05", true];
const CUT: Run = ["2026-01-01T11:00:00.000Z", "11:05", false];

test.each<[string, Run[], string, boolean]>([
  ["before it", [ENDED], "09:59", false],
  ["as it began", [ENDED], "10:00", true],
  ["as it ended", [ENDED], "10:05", true],
  ["after it", [ENDED], "10:06", false],
  ["after the last one, which was cut off", [ENDED, CUT], "12:00", true],
  ["the same, in another order of folders", [CUT, ENDED], "12:00", true],
  ["before that one", [ENDED, CUT], "10:30", false],
  ["after one that was cut off, and before the last", [[AT, "10:05", false], CUT], "10:30", false],
  [
    "after the last one, which ended",
    [
      [AT, "10:05", false],
      ["2026-01-01T11:00:00Z", "11:05", true],
    ],
    "12:00",
    false,
  ],
  ["without any run", [], "10:00", false],
])("a file was written while a run went on: %s", (_, runs, time, expected) => {
  using box = sandbox();
  for (const [at, [began, until, ends]] of runs.entries()) {
    const path = `/root/kube-pki-repair-2026010${at + 1}T000000/runs/a-01-etcd-1`;
    writeFile(`${path}.jsonl`, `{"at":"${began}","what":"run"}\n${ends ? END : '{"what":"step"}\n'}`);
    writeFile(`${path}.txt`, `{"at":"2026-01-01T00:00:00.000Z"}\n`);
    writeFile(path.replace("a-01", "b"), "no record");
    const date = new Date(`2026-01-01T${until}:00Z`);
    utimesSync(`${box.dir}${path}.jsonl`, date, date);
  }
  expect(wasDuringRun(new Date(`2026-01-01T${time}:00Z`))).toBe(expected);
});
