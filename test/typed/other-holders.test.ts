/**
 * Part 1 makes no new shared key beside another control plane node that may still have it: in files, or in
 * memory.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { healthyCp, led } from "../pretend/cluster.ts";
import { LOST, serveDeaf, THIRD, THIRD_AT, THREE } from "../pretend/etcd.ts";
import { gone, lookAt } from "../pretend/in-process.ts";
import { MEMBER, type NodeOptions } from "../pretend/node.ts";
import { refusedHere, typeHere } from "../pretend/typed-here.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

await healthyCp();

const WELL = { kind: "healthy control plane node" } as const;
const INTERNAL = gone(
  "pki/etcd/ca.crt",
  "pki/etcd/ca.key",
  "pki/front-proxy-ca.crt",
  "pki/front-proxy-ca.key",
);

interface Row {
  what: string;
  on?: NodeOptions;
  change?: ReturnType<typeof gone>;
  line: string;
  /** m3's etcd runs without its files. */
  deaf?: boolean;
}

const REFUSED: (Row & { error: RegExp; hint: RegExp })[] = [
  {
    what: "all new keys beside an etcd whose files are gone",
    line: "01-etcd --new-cas",
    deaf: true,
    error:
      /^The server at [\d.]+:2380 may be etcd of m3, but nothing here proves it: it would refuse a new CA$/,
    hint: /It shows no certificate, as an etcd does whose files are gone; .*systemctl stop kubelet.*--lost-on m3/,
  },
  {
    what: "new internal CAs beside an etcd whose files are gone",
    on: WELL,
    change: INTERNAL,
    line: "01-etcd --new-internal-cas",
    deaf: true,
    error: /may be etcd of m3, but nothing here proves it: it would refuse a new CA$/,
    hint: /--new-internal-cas --lost-on m3/,
  },
  {
    what: "a new sa.key under the old CA of etcd, beside an etcd whose files are gone",
    on: WELL,
    change: gone("pki/sa.key"),
    line: "01-etcd --new-cas",
    deaf: true,
    error: /^etcd runs, or seems to, on m3, which may still have sa: /,
    hint: /hand-over\.ts pack.*--lost-on m3/,
  },
  {
    what: "a new CA where the controller-manager of a node led last that does not answer",
    on: { etcd: led("m2") },
    line: "01-etcd --new-cas",
    error: /^The controller-manager on m2 led last: only its process may hold ca\.key in memory$/,
    hint: /^go there first: on m2 \.\/bunw scripts\/plan\.ts\. If ca\.key is lost there, too, or m2 is lost for good: \.\/bunw scripts\/01-etcd\.ts --new-cas --lost-on m2$/,
  },
  {
    what: "a new CA where no node has the name of the host that led last",
    on: { etcd: led("ip-10-0-0-9") },
    line: "01-etcd --new-cas --lost-on m2",
    error: /^The controller-manager on ip-10-0-0-9 \(one of m2, m3\) led last: /,
    hint: /go there first: on m3 .*--lost-on m2,m3$/,
  },
];

const playbook = await Bun.file(`${import.meta.dir}/../../scripts/fleet.yaml`).text();

/** By the playbook's own pattern. */
function lostOnIn(stderr: string): string | undefined {
  const [, pattern] = /regex_findall\('(--lost-on .+?)'\)/.exec(playbook) ?? [];
  return stderr.match(new RegExp(pattern!, "g"))?.at(-1)?.replace("--lost-on ", "");
}

test.each(REFUSED)(
  "the playbook names the same nodes with -e lost_on= where part 1 is refused: $what",
  async ({ on, change, line, deaf, hint }) => {
    expect(playbook).toMatch(/the same again with: -e lost_on=' ~ nodes/);
    await lookAt({ members: THREE, ...on, change }, async () => {
      using _m3 = deaf ? serveDeaf(THIRD_AT) : nobody;
      const { stderr } = await typeHere(line);
      const [, names] = /--lost-on (?:\.\*)?(m\d(?:,m\d)*)\$?$/.exec(hint.source) ?? [];
      expect([lostOnIn(stderr), names]).toEqual([names, expect.stringMatching(/^m\d/)]);
    });
  },
);

test.each(REFUSED)("refused: $what", async ({ on, change, line, deaf, error, hint }) => {
  await lookAt({ members: THREE, ...on, change }, async (node) => {
    using _m3 = deaf ? serveDeaf(THIRD_AT) : nobody;
    await refusedHere(node, line, error, hint, 3);
  });
});

const GOES_ON: Row[] = [
  {
    what: "no key is made: an etcd without its files is only named",
    on: WELL,
    line: "01-etcd --dry-run",
    deaf: true,
  },
  {
    what: "the operator has looked at that node",
    line: "01-etcd --new-cas --lost-on m3 --dry-run",
    deaf: true,
  },
  {
    what: "this node's controller-manager led last",
    on: { etcd: led("m1") },
    line: "01-etcd --new-cas --dry-run",
  },
  {
    what: "the node that led last was looked at",
    on: { etcd: led("m2") },
    line: "01-etcd --new-cas --lost-on m2 --dry-run",
  },
  {
    what: "ca.key is here",
    on: { ...WELL, etcd: led("m2") },
    change: gone("pki/sa.key"),
    line: "01-etcd --new-cas --dry-run",
  },
  {
    what: "only internal CAs are made",
    on: { ...WELL, etcd: led("m2") },
    change: INTERNAL,
    line: "01-etcd --new-internal-cas --dry-run",
  },
  {
    what: "this control plane node is the only one, under another name",
    on: { etcd: led("old-name"), members: [MEMBER] },
    line: "01-etcd --new-cas --dry-run",
  },
  {
    what: "the member that does not answer never started",
    on: { etcd: led("m1"), members: [MEMBER, { ...LOST, name: "" }, THIRD] },
    line: "01-etcd --new-cas --dry-run",
  },
];

test.each(GOES_ON)("goes on: $what", async ({ on, change, line, deaf }) => {
  await lookAt({ members: THREE, ...on, change }, async (node) => {
    using _m3 = deaf ? serveDeaf(THIRD_AT) : nobody;
    const { exitCode, stderr } = await typeHere(line);
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    if (deaf) expect(stderr).toContain("m3, ");
    expect(node.calls().filter((call) => call.startsWith("systemctl stop"))).toEqual([]);
  });
});

const nobody: Disposable = { [Symbol.dispose]: () => undefined };
