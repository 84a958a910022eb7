/**
 * Lines that a script prints for the operator's machine, and for whatever folder root is in: they write into a folder of
 * `mktemp -d` alone, as a file of a name known before may be another user's link; and each ssh or scp to an address that a
 * worker only claims goes to the machine that ssh knows by that worker's name.
 */
import { expect, test } from "bun:test";
import { Glob } from "bun";
import type { Act } from "../../shared/plan/act.ts";
import { linesOfAct, reachIn, YOUR_MACHINE } from "../../shared/plan/by-hand.ts";
import type { PlanNode } from "../../shared/plan/plan-node.ts";
import { byOperator, type PodOwner } from "../../shared/workloads/pod-owners.ts";
import { unnamed, writesOf } from "./printed-writes.ts";
import { sourcesAt } from "./sources.ts";

const HOME = `${import.meta.dir}/../..`;

const NODES: PlanNode[] = [
  { name: "cp1", role: "first control plane node", address: "10.0.0.1" },
  { name: "cp2", role: "control plane node", address: "10.0.0.2" },
  { name: "w1", role: "worker", address: "10.0.0.21" },
  { name: "w2", role: "worker", address: "10.0.0.22" },
];
const WORKERS = { w1: "10.0.0.21", w2: "10.0.0.22" };
const KIT = "ssh root@NODE 'cd /run && tar -xzf -' < kit.tar.gz";

const ACTS: Record<string, Act> = {
  "the kit to all": { do: "kit", to: ["cp2", "w1", "w2"] } as Act,
  "the kit to a worker": { do: "kit", to: ["w1"] } as Act,
  "the kit to a control plane node": { do: "kit", to: ["cp2"] } as Act,
  "a file to the operator": { do: "fetch", from: "cp1", file: "/root/keys.age" } as Act,
  "a file of the kit to the operator": { do: "fetch", from: "cp1", file: "report.html" } as Act,
  "a worker's file to the operator": { do: "fetch", from: "w1", file: "report.html" } as Act,
  "a token to workers": {
    do: "carry",
    from: "cp1",
    to: ["w1", "w2"],
    files: ["token.d/NODE/token"],
    secret: true,
  } as Act,
  "files to workers": { do: "carry", from: "cp1", to: ["w1", "w2"], files: ["/etc/a"] } as Act,
  "a worker's file to another": { do: "carry", from: "w1", to: ["w2"], files: ["/etc/a"] } as Act,
  transcripts: { do: "gather", from: ["w1", "cp2"], to: "cp1", into: "logs.d" } as Act,
};

const ROWS = Object.keys(ACTS).flatMap((what) => ["root", "ubuntu"].map((user) => [what, user] as const));

test.each(ROWS)(
  "%s, by %s: the lines for the operator's machine write nowhere, and name each worker",
  (what, user) => {
    const lines = linesOfAct(ACTS[what]!, { reach: reachIn(NODES, user), kitLine: KIT });
    const own = lines.filter(({ at }) => at === YOUR_MACHINE).map(({ text }) => text);
    expect(own.length).toBeGreaterThan(0);
    expect(own.flatMap(writesOf)).toEqual([]);
    expect(own.flatMap((line) => unnamed(line, WORKERS))).toEqual([]);
  },
);

test("a bare pod's definition is saved in a folder of its own", () => {
  const pod = { metadata: { name: "bare", namespace: "shop" }, spec: {} };
  const owner = { namespace: "shop", name: "bare", reason: "a bare pod", pods: [pod] } as unknown as PodOwner;
  const [line = ""] = byOperator([owner]);
  expect(line).toContain("kubectl replace --force");
  expect(writesOf(line)).toEqual([]);
});

test("a write, and an address without a name, are seen in a line", () => {
  expect(writesOf("ssh -n u@h \"sudo -n sh -c 'cat /a > /b'\" > ~/a")).toEqual(["~/a"]);
  expect(writesOf("scp -p root@10.0.0.1:/root/keys.age ~/")).toEqual(["~/"]);
  expect(writesOf("ssh root@h 'cat > a' | tar -C x -xf - token")).toEqual(["token"]);
  expect(writesOf('d=$(mktemp -d ~/k.XXXXXX) && scp -p root@h:/a "$d/" && ls "$d"')).toEqual([]);
  expect(writesOf("mkdir -p -m 700 logs.d")).toEqual(["logs.d"]);
  expect(
    unnamed("ssh -n root@10.0.0.21 'a' | ssh -o HostKeyAlias=w2 root@10.0.0.22 'b'", WORKERS),
  ).toHaveLength(1);
});

/** Transcripts' addresses of the pretend cluster's workers. */
const PRETEND = { w1: "10.77.0.21", w2: "10.77.0.22" };

test("no transcript has a line of ssh to a worker's address without its name", async () => {
  const paths = [...new Glob("test/**/transcripts/**/*.txt").scanSync(HOME)];
  expect(paths.length).toBeGreaterThan(50);
  const sources = await sourcesAt(paths.sort());
  const found = sources.flatMap(({ path, text }) =>
    text.split("\n").flatMap((line, index) => unnamed(line, PRETEND).map(() => `${path}:${index + 1}`)),
  );
  expect(found).toEqual([]);
});
