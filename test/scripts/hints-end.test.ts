/**
 * An operator who follows what is printed comes to an end: no hint leads back to a command that was tried
 * with the same state.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { afterPart2, RESTARTS } from "../pretend/after-part2.ts";
import { ADDRESS, healthyCp, mirrorPod, type Objects, otherCa, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd, serveOtherMember } from "../pretend/etcd.ts";
import { servePart2 } from "../pretend/in-part2.ts";
import { bigInt, POD_UID, podRecord, pretendProcess } from "../pretend/memory.ts";
import { MEMBER, type NodeOptions, type pretendNode } from "../pretend/node.ts";
import { tokenBy } from "../pretend/old-keys.ts";
import { knewCa, LEASES, lease, serveRunning } from "../pretend/running.ts";
import { serveStale } from "../pretend/stale.ts";
import { here, nodeHere } from "../pretend/typed-here.ts";

/** Milliseconds: some twenty runs, one after the other. */
setDefaultTimeout(300_000);

const { root: healthy } = await healthyCp();
const pki = (file: string) => readFileSync(`${healthy}/etc/kubernetes/pki/${file}`, "utf8");
const other = await otherCa();

type Node = Awaited<ReturnType<typeof pretendNode>>;

/**
 * Commands of part 0 that a text names for this node. A command for another node stands behind "on NAME:".
 */
function commandsIn(text: string): string[] {
  const lines = text.split("\n").filter((line) => !/^\s*on [\w, -]+: /.test(line));
  const all = lines.flatMap((line) => [
    ...line.matchAll(/\.\/bunw scripts\/(00-[\w-]+)\.ts((?: (?:--?[\w-]+|memory|secret|disk))*)/g),
  ]);
  return [...new Set(all.map(([, script, words]) => `${script}${words}`))].filter(
    (line) => !line.includes("--help"),
  );
}

/**
 * Follows every printed command from here on. Fails where one comes again that is on the way already, and
 * nothing has changed since. `seen` are the commands of earlier walks, each with the node's state, and what
 * was printed: nothing new comes of them.
 */
async function walk(node: Node, first: string, seen = new Map<string, string[]>()) {
  const follow = async (line: string, way: readonly string[]) => {
    const at = `${line} @ ${Bun.hash(node.fingerprint().join("\n"))}`;
    if (way.includes(at))
      throw new Error(
        `in a circle: ${[...way.slice(way.indexOf(at)), at].map((one) => one.split(" @ ")[0]).join(" → ")}`,
      );
    if (seen.has(at)) return;
    const { stdout, stderr, exitCode } = await node.run(line);
    // 64: a line's value, such as --from FILE, is left out here
    expect([0, 1, 2, 64]).toContain(exitCode);
    const printed = commandsIn(stdout + stderr);
    seen.set(at, printed);
    for (const next of printed) await follow(next, [...way, at]);
  };
  await follow(first, []);
  return [...seen.keys()].map((at) => at.split(" @ ")[0]!);
}

interface Case {
  options?: NodeOptions;
  /** Changes the node. */
  change?: (root: string) => void;
  /** What has to be among the commands. */
  types: string[];
}

const secret = (objects: Objects) => {
  const files = ["ca", "front-proxy-ca", "etcd-ca", "sa"].map((name) => [
    `${name}.key`,
    Buffer.alloc(64).toString("base64"),
  ]);
  objects["secrets/kube-system/kubeadm-certs"] = {
    ...{ apiVersion: "v1", kind: "Secret", metadata: { name: "kubeadm-certs", namespace: "kube-system" } },
    data: Object.fromEntries(files),
  };
};

const second = (objects: Objects) => {
  const text = JSON.stringify(objects["minions/m1"])
    .replaceAll('"m1"', '"m2"')
    .replaceAll(ADDRESS, "127.77.0.12");
  objects["minions/m2"] = JSON.parse(text);
};

const strange = (root: string) => {
  write(`${root}/etc/kubernetes/pki/ca.crt`, other.cert, 0o644);
  write(`${root}/etc/kubernetes/pki/ca.key`, other.key);
};

const tokens = (root: string) => {
  podRecord(root, "kube-system", "kube-proxy-x", POD_UID);
  const volume = `${root}/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/kube-api-access`;
  write(
    `${volume}/token`,
    tokenBy(
      { key: pki("sa.key"), pub: pki("sa.pub") },
      { alg: "ES256", of: "kube-system:kube-proxy", issuedAt: 1000 },
    ),
  );
};

const holder = (root: string) =>
  pretendProcess(root, {
    pid: 31,
    comm: "kube-controller",
    holds: [bigInt(createPrivateKey(pki("ca.key")))],
  });

const CASES: Record<string, Case> = {
  "where nothing is left": { types: ["00-assess", "00-assess --deep", "00-salvage"] },
  "where old tokens are left": { change: tokens, types: ["00-assess --deep", "00-salvage", "00-token-key"] },
  "where the Secret kubeadm-certs is left, without its key": {
    options: { etcd: secret },
    types: ["00-assess --deep", "00-salvage secret"],
  },
  "where the Secret and old tokens are left": {
    options: { etcd: secret },
    change: tokens,
    types: ["00-assess --deep", "00-salvage secret", "00-token-key"],
  },
  "where there is another control plane node": {
    options: { etcd: second },
    types: ["00-assess --deep", "00-salvage"],
  },
  "where the CA of a half attempt is in the place of the cluster's": {
    change: strange,
    types: ["00-salvage --move-aside"],
  },
  "where ca.key is in memory": { change: holder, types: ["00-assess --deep", "00-salvage"] },
  "where ca.key is in memory, and another CA in its place": {
    change: (root) => {
      holder(root);
      strange(root);
    },
    types: ["00-salvage --move-aside"],
  },
};

test.each(Object.entries(CASES))(
  "whoever follows what is printed comes to an end: %s",
  async (_, { options = {}, change, types }) => {
    using node = await nodeHere(options);
    mkdirSync(`${node.root}/dev/shm`, { recursive: true });
    change?.(node.root);
    const seen = new Map<string, string[]>();
    const typed = await walk(node, "00-assess", seen);
    for (const line of types) expect(typed).toContain(line);
    for (const place of ["memory", "secret", "disk"]) await walk(node, `00-salvage ${place}`, seen);
  },
);

test("00-salvage secret without its key names the way without it, not the search that led to it", async () => {
  using node = await nodeHere({ etcd: secret });
  mkdirSync(`${node.root}/dev/shm`, { recursive: true });
  tokens(node.root);
  const { exitCode, stderr } = await node.run("00-salvage secret");
  expect(exitCode).toBe(1);
  expect(stderr).toEndWith(
    "\n  If nobody has the key: ./bunw scripts/00-token-key.ts, then ./bunw scripts/01-etcd.ts --new-cas\n",
  );
});

/** The API server names a file that is nowhere. */
function lostFile(objects: Objects) {
  const pod = mirrorPod("kube-apiserver");
  const path = "/etc/kubernetes/authentication.yaml";
  pod.spec.containers[0]!.command!.push(`--authentication-config=${path}`);
  pod.spec.containers[0]!.volumeMounts!.push({ name: "authentication", mountPath: path });
  pod.spec.volumes!.push({ name: "authentication", hostPath: { path, type: "File" } });
  objects["pods/kube-system/kube-apiserver-m1"] = pod;
}

/** Commands of the same script in its hint, each as it would be pasted. */
function ownCommandsIn(stderr: string, script: string): string[] {
  const hint = stderr.slice(stderr.lastIndexOf("\nhint: "));
  const word =
    "--(?:without|lost|start-without|namespace|skip|lost-on|wait|etcd-data) [^\\s;]+|--[\\w-]+|close|retire";
  return [...hint.matchAll(new RegExp(`\\./bunw scripts/(${script})\\.ts((?: (?:${word}))*)`, "g"))].map(
    ([, name, words]) => `${name}${words}`,
  );
}

/**
 * Types a line, then what its hint has for the same script, to the end. Errors: one where a line comes twice.
 */
async function followHints(node: Node, first: string, patience = "1") {
  const typed: string[] = [];
  for (let line: string | undefined = first; line; ) {
    if (typed.includes(line)) throw new Error(`in a circle: ${[...typed, line].join(" → ")}`);
    typed.push(line);
    const { exitCode, stderr } = await node.run(line, { KUBE_PKI_REPAIR_PATIENCE: patience });
    const [next, ...more]: string[] = exitCode === 0 ? [] : ownCommandsIn(stderr, line.split(" ")[0]!);
    // away for now, or lost for good: the operator chooses, and the first is the one that loses nothing
    expect(more.filter((other) => !other.includes(" --lost "))).toEqual([]);
    if (!next) return { typed, exitCode, stderr };
    line = next;
  }
  throw new Error("no line");
}

test.each([
  [
    "01-etcd --dry-run",
    ["01-etcd --dry-run --new-cas", "01-etcd --dry-run --new-cas --start-without authentication-config"],
  ],
  ["01-etcd --new-cas --dry-run", ["01-etcd --new-cas --dry-run --start-without authentication-config"]],
  [
    "01-etcd --images-later --dry-run --new-internal-cas",
    [
      "01-etcd --images-later --dry-run --new-cas",
      "01-etcd --images-later --dry-run --new-cas --start-without authentication-config",
    ],
  ],
])(
  "part 1's hints keep what was typed and come to an end, where an API server lives that has lost a file: %s",
  async (first, hints) => {
    using node = await nodeHere({ etcd: lostFile, containers: ["etcd", "kube-apiserver"] });
    expect(await followHints(node, first)).toMatchObject({ typed: [first, ...hints], exitCode: 0 });
  },
);

const PEERS = ["12", "13"].map((end, i) => ({
  id: `${"bc"[i]}1b2c3d4e5f60718`,
  name: `m${i + 2}`,
  peerURLs: [`https://${ADDRESS.replace(/11$/, end)}:2380`],
}));

test.each([
  [
    "02-control-plane",
    [
      "02-control-plane --start-without authentication-config",
      "02-control-plane --start-without authentication-config --without m2",
    ],
  ],
  [
    "02-control-plane --without=m2 --super-admin",
    ["02-control-plane --without m2 --super-admin --start-without authentication-config"],
  ],
])(
  "part 2's hints keep what was typed and come to an end, where a file and a member are lost: %s",
  async (first, hints) => {
    using node = await nodeHere({
      kind: "healthy control plane node",
      members: [MEMBER, ...PEERS],
      etcd: lostFile,
      commands: RESTARTS,
    });
    rmSync(`${node.root}/etc/kubernetes/manifests/kube-apiserver.yaml`);
    const state = { ...sameEtcd(node.stored), members: [MEMBER, ...PEERS] };
    using _etcd = serveEtcd(node.root, state);
    using _third = await serveOtherMember(node.root, state, ADDRESS.replace(/11$/, "13"));
    using _api = servePart2(node);
    expect(await followHints(node, first)).toMatchObject({ typed: [first, ...hints], exitCode: 0 });
  },
);

test("part 3's hint keeps what was typed: how long to wait, and the nodes that were named before", async () => {
  using node = here(await afterPart2({ commands: RESTARTS }));
  using _api = serveRunning(node, { objects: { [`${LEASES}/w2`]: lease(4000) } });
  const patient = { KUBE_PKI_REPAIR_PATIENCE: "1" };
  const { exitCode, stderr } = await node.run("03-workers close --wait 0.05 --without w1", patient);
  const [, script = "", words = ""] =
    /If one of them cannot come now: \.\/bunw scripts\/([\w-]+)\.ts( close --wait 0\.05 --without [\w,]+)\s/.exec(
      stderr,
    ) ?? [];
  expect([exitCode, script + words]).toEqual([1, "03-workers close --wait 0.05 --without w1,w2"]);
  expect((await node.run(script + words, patient)).exitCode).toBe(0);
});

test.each([
  "04-sa-tokens --only-system --skip shop/web",
  "04-sa-tokens --namespace default --namespace=kube-system --etcd-data /var/lib/etcd",
])(
  "part 4 restarts nothing that the operator has kept out of this run, and a Node that was deleted stops it no more: %s",
  async (first) => {
    using node = await nodeHere({ kind: "healthy control plane node", etcd: knewCa(other.cert) });
    using api = serveStale(node, other.cert, { [`${LEASES}/w2`]: lease(4000) });
    api.objects.delete("/api/v1/nodes/w2");
    const { typed, exitCode, stderr } = await followHints(node, first, "0.1");
    expect({ typed, exitCode, stderr }).toMatchObject({ typed: [first], exitCode: 0 });
    expect(api.changes().filter((change) => change.startsWith("PATCH"))).toEqual([]);
  },
);

test("part 4's hint for an order that would cut the network keeps what was to be skipped", async () => {
  using node = await nodeHere({ kind: "healthy control plane node", etcd: knewCa(other.cert) });
  using api = serveStale(node, other.cert);
  const first = "04-sa-tokens --namespace shop --skip shop/web";
  expect(await followHints(node, first)).toMatchObject({
    typed: [first, `${first} --only-system`],
    exitCode: 0,
  });
  expect(api.changes().filter((change) => change.startsWith("PATCH"))).toEqual([]);
});
