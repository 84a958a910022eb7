/** An operator who follows what is printed comes to an end: no hint leads back to a command that was tried with the same state. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { ADDRESS, healthyCp, type Objects, otherCa, write } from "../pretend/cluster.ts";
import { bigInt, POD_UID, podRecord, pretendProcess } from "../pretend/memory.ts";
import { type NodeOptions, pretendNode } from "../pretend/node.ts";
import { tokenBy } from "../pretend/old-keys.ts";

/** Milliseconds: some twenty runs, one after the other. */
setDefaultTimeout(300_000);

const { root: healthy } = await healthyCp();
const pki = (file: string) => readFileSync(`${healthy}/etc/kubernetes/pki/${file}`, "utf8");
const other = await otherCa();

type Node = Awaited<ReturnType<typeof pretendNode>>;

/** Commands of part 0 that a text names for this node. A command for another node stands behind "on NAME:". */
function commandsIn(text: string): string[] {
  const lines = text.split("\n").filter((line) => !/^\s*on [\w, -]+: /.test(line));
  const all = lines.flatMap((line) => [...line.matchAll(/\.\/bunw scripts\/(00-[\w-]+)\.ts((?: (?:--?[\w-]+|memory|secret|disk))*)/g)]);
  return [...new Set(all.map(([, script, words]) => `${script}${words}`))].filter((line) => !line.includes("--help"));
}

/** Follows every printed command from here on. Fails where one comes again that is on the way already, and nothing has changed since. */
async function walk(node: Node, first: string) {
  const [seen, ended] = [new Map<string, string[]>(), [] as string[]];
  const follow = async (line: string, way: readonly string[]) => {
    const at = `${line} @ ${Bun.hash(node.fingerprint().join("\n"))}`;
    if (way.includes(at))
      throw new Error(`in a circle: ${[...way.slice(way.indexOf(at)), at].map((one) => one.split(" @ ")[0]).join(" → ")}`);
    if (seen.has(at)) return;
    const { stdout, stderr, exitCode } = await node.run(line, { KUBE_PKI_REPAIR_CERTIFICATE_KEY: "" });
    expect(exitCode).toBeLessThanOrEqual(2);
    const printed = commandsIn(stdout + stderr);
    seen.set(at, printed);
    if (printed.length === 0) ended.push(`${stdout}${stderr}`);
    for (const next of printed) await follow(next, [...way, at]);
  };
  await follow(first, []);
  return { typed: [...seen.keys()].map((at) => at.split(" @ ")[0]!), ended };
}

interface Case {
  options?: NodeOptions;
  /** Changes the node. */
  change?: (root: string) => void;
  /** What has to be among the commands. */
  types: string[];
}

const secret = (objects: Objects) => {
  const files = ["ca", "front-proxy-ca", "etcd-ca", "sa"].map((name) => [`${name}.key`, Buffer.alloc(64).toString("base64")]);
  objects["secrets/kube-system/kubeadm-certs"] = {
    ...{ apiVersion: "v1", kind: "Secret", metadata: { name: "kubeadm-certs", namespace: "kube-system" } },
    data: Object.fromEntries(files),
  };
};

const second = (objects: Objects) => {
  const text = JSON.stringify(objects["minions/m1"]).replaceAll('"m1"', '"m2"').replaceAll(ADDRESS, "127.77.0.12");
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
    tokenBy({ key: pki("sa.key"), pub: pki("sa.pub") }, { alg: "ES256", of: "kube-system:kube-proxy", issuedAt: 1000 }),
  );
};

const holder = (root: string) =>
  pretendProcess(root, { pid: 31, comm: "kube-controller", holds: [bigInt(createPrivateKey(pki("ca.key")))] });

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
  "where there is another control plane node": { options: { etcd: second }, types: ["00-assess --deep", "00-salvage"] },
  "where the CA of a half attempt is in the place of the cluster's": { change: strange, types: ["00-salvage --move-aside"] },
  "where ca.key is in memory": { change: holder, types: ["00-assess --deep", "00-salvage"] },
  "where ca.key is in memory, and another CA in its place": {
    change: (root) => {
      holder(root);
      strange(root);
    },
    types: ["00-salvage --move-aside"],
  },
};

test.each(Object.entries(CASES))("whoever follows what is printed comes to an end: %s", async (_, { options = {}, change, types }) => {
  using node = await pretendNode(options);
  mkdirSync(`${node.root}/dev/shm`, { recursive: true });
  change?.(node.root);
  const { typed } = await walk(node, "00-assess");
  for (const line of types) expect(typed).toContain(line);
  for (const place of ["memory", "secret", "disk"]) await walk(node, `00-salvage ${place}`);
});

test("00-salvage secret without its key names the way without it, not the search that led to it", async () => {
  using node = await pretendNode({ etcd: secret });
  mkdirSync(`${node.root}/dev/shm`, { recursive: true });
  tokens(node.root);
  const { exitCode, stderr } = await node.run("00-salvage secret");
  expect(exitCode).toBe(1);
  expect(stderr).toEndWith("if nobody has it: ./bunw scripts/00-token-key.ts, then ./bunw scripts/01-etcd.ts --new-cas\n");
});
