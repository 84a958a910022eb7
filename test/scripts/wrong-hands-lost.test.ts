/**
 * Wrong hands: nothing that lives is taken out, nothing is overwritten without a copy, and what is printed
 * can be pasted.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { appendFileSync, readFileSync } from "node:fs";
import { afterPart2 } from "../pretend/after-part2.ts";
import { ADDRESS, type Objects, otherCa, write } from "../pretend/cluster.ts";
import { LOST, sameEtcd, serveEtcd, THIRD } from "../pretend/etcd.ts";
import { joinToItsEnd, newCa, serve, writeToken } from "../pretend/joining.ts";
import { MEMBER, pretendNode } from "../pretend/node.ts";
import { newKeyOf, tokenBy } from "../pretend/old-keys.ts";
import { butWords } from "../pretend/plan.ts";
import { serveRunning } from "../pretend/running.ts";
import { expectStop, REFUSED } from "../pretend/wrong-hands.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "1" };
const M2 = ADDRESS.replace(/11$/, "12");
const monitoring = await otherCa();
const THREE_WITH_M2 = [MEMBER, { ...LOST, peerURLs: [`https://${M2}:2380`] }, THIRD];

test.each(["02-control-plane --lost m2", "02-control-plane --lost m2 --dry-run"])(
  "%s does not take out a member that lives",
  async (line) => {
    const living = { id: "b1b2c3d4e5f60718", name: "m2", peerURLs: [`https://${M2}:2380`] };
    using node = await pretendNode({ kind: "healthy control plane node", members: [MEMBER, living] });
    const state = { ...sameEtcd(node.stored), members: [MEMBER, living] };
    using _etcd = serveEtcd(node.root, state);
    const pki = (file: string) => node.read(`/etc/kubernetes/pki/etcd/${file}`);
    const peer = Bun.serve({
      hostname: M2,
      port: 2380,
      tls: { cert: pki("server.crt"), key: pki("server.key") },
      fetch: () => new Response(),
    });
    const before = node.fingerprint();
    const said = await node.run(line, WAITS);
    await peer.stop(true);
    expectStop(
      said,
      /^m2 is not lost: its etcd answers at /,
      /^repair it: .*02-control-plane\.ts(?: --dry-run)?\. If it shall go/,
      REFUSED,
    );
    expect(state.members).toEqual([MEMBER, living]);
    expect(node.fingerprint()).toEqual(before);
  },
);

/** Whoever is at the free address of a machine that is off; its certificate is of a CA of its own. */
function strangerAt(hostname: string) {
  const tls = { cert: monitoring.cert, key: monitoring.key };
  const server = Bun.serve({ hostname, port: 2380, tls, fetch: () => new Response() });
  return { [Symbol.dispose]: () => void server.stop(true) };
}

test.each([
  ["01-etcd --new-cas --dry-run", "wiped control plane node"],
  ["01-etcd --dry-run", "healthy control plane node"],
  ["02-control-plane --lost m2 --dry-run", "healthy control plane node"],
  ["plan --lost m2", "healthy control plane node"],
] as const)(
  "%s asks who answers at m2's address with a certificate that nobody vouches for, and goes on by your word",
  async (line, kind) => {
    using node = await pretendNode({ kind, members: THREE_WITH_M2 });
    using _stranger = strangerAt(M2);
    const before = node.fingerprint();
    const refused = await node.run(line, WAITS);
    const asked = /^error: (.+)\nhint: (.+(?:\n {2}.+)*)\n$/m.exec(refused.stderr);
    expect([refused.exitCode, asked?.[1]]).toEqual([REFUSED, expect.stringContaining(`at ${M2}:2380`)]);
    expect(asked![2]).toMatch(
      /It shows the name "[^"]+" and the key sha256:HASH; (that of etcd's CA here is sha256:HASH|no CA of etcd is here)/,
    );
    expect(asked![2]).toMatch(/--lost-on m2\n {2}If .+ m2's etcd all the same/);
    const gone = await node.run(`${line} --lost-on m2`, WAITS);
    expect({ exitCode: gone.exitCode, stderr: gone.stderr }).toMatchObject({ exitCode: 0 });
    expect(gone.stderr).toContain(`m2: the server at ${M2}:2380 is not its etcd, by your --lost-on`);
    expect(butWords(node.fingerprint())).toEqual(before);
  },
);

test("join keeps the other CAs of the kubelet's client CA file, and drops the cluster's old one", async () => {
  using node = await pretendNode({ kind: "worker" });
  writeToken(node.root);
  appendFileSync(`${node.root}/etc/kubernetes/pki/ca.crt`, monitoring.cert);
  const bundle = node.read("/etc/kubernetes/pki/ca.crt");
  using api = await serve(newCa);
  const { exitCode, stderr } = await joinToItsEnd(node, api);
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("unchanged in /etc/kubernetes/pki/ca.crt: another CA, "),
  });
  expect(node.read("/etc/kubernetes/pki/ca.crt")).toBe(`${newCa.cert}${monitoring.cert.trim()}\n`);
  const [folder] =
    /\/root\/kube-pki-repair-\d+T\d+/.exec(
      node
        .fingerprint()
        .map((line) => `/${line}`)
        .join("\n"),
    ) ?? [];
  expect(node.read(`${folder}/before/etc/kubernetes/pki/ca.crt`)).toBe(bundle);
});

test("01-etcd copies the kubelet's client CA file and kubelet.conf aside before it writes them, and keeps other CAs", async () => {
  using node = await pretendNode();
  const config = "/var/lib/kubelet/config.yaml";
  write(
    node.root + config,
    node.read(config).replace("/etc/kubernetes/pki/ca.crt", "/etc/kubelet-clients.crt"),
  );
  const bundle = `${node.ca.cert}${monitoring.cert}`;
  write(`${node.root}/etc/kubelet-clients.crt`, bundle);
  write(`${node.root}/etc/kubernetes/kubelet.conf`, "somebody's own\n");
  await node.run("01-etcd --new-cas");
  const written = node.read("/etc/kubelet-clients.crt");
  expect([written.includes(monitoring.cert.trim()), written.includes(node.ca.cert.trim())]).toEqual([
    true,
    false,
  ]);
  expect(written).toStartWith(node.read("/etc/kubernetes/pki/ca.crt").trim());
  const aside = node
    .fingerprint()
    .flatMap((line) => /^root\/kube-pki-repair-\S+\/aside\/etc\/kube\S+/.exec(line) ?? []);
  const [clients, conf] = ["kubelet-clients.crt", "kubelet.conf"].map((name) =>
    aside.find((path) => path.endsWith(`/${name}`)),
  );
  expect(readFileSync(`${node.root}/${clients}`, "utf8")).toBe(bundle);
  expect(readFileSync(`${node.root}/${conf}`, "utf8")).toBe("somebody's own\n");
});

const old = newKeyOf("ECDSA-P256");

test.each([
  ["--from old.pub", "/root/old.pub: is the old key"],
  ["--token-file tokens.txt", "in the file: 2"],
  ["--etcd-data ../var/lib/etcd", "token Secrets in etcd's data: 0"],
])("00-token-key %s looks in the folder where it is typed", async (option, said) => {
  const pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "kube-proxy-x", uid: "uid-of-proxy" } };
  using node = await pretendNode({
    etcd: (objects) => Object.assign(objects, { "pods/kube-system/kube-proxy-x": pod }),
  });
  const [own, other] = [1_790_000_000, 1_780_000_000].map((issuedAt) =>
    tokenBy(old, { alg: "ES256", of: "kube-system:kube-proxy", issuedAt }),
  );
  write(
    `${node.root}/var/lib/kubelet/pods/uid-of-proxy/volumes/kubernetes.io~projected/kube-api-access-1/token`,
    own!,
  );
  write(`${node.root}/root/old.pub`, old.pub);
  write(`${node.root}/root/tokens.txt`, `${own}\n${other}\n`);
  expect((await node.run(`00-token-key ${option} --dry-run`)).stderr).toContain(said);
});

/** So many nodes that a list of them is cut where people read it. */
const MANY = Array.from({ length: 25 }, (_, i) => `x${i + 1}`);

function withMany(objects: Objects) {
  for (const name of MANY)
    objects[`minions/${name}`] = {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name, uid: `uid-of-${name}` },
    };
}

const THERE = { objects: Object.fromEntries(MANY.map((name) => [`/api/v1/nodes/${name}`, {}])) };

test("04-sa-tokens prints a --without line with all nodes that are away, however many", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", etcd: withMany });
  using _api = serveRunning(node, THERE);
  const { exitCode, stderr } = await node.run("04-sa-tokens", { KUBE_PKI_REPAIR_PATIENCE: "0.1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  expect(wordsAfter("--without", stderr)).toEqual([...MANY].sort());
});

test("close leads to the join of all who are away; its line with --without leaves the choice who cannot come", async () => {
  using node = await afterPart2({ etcd: withMany });
  using _api = serveRunning(node, THERE);
  const { exitCode, stderr } = await node.run("03-workers close --wait 0.02", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  expect(stderr).toContain("./bunw scripts/03-workers.ts open, then there the line that it prints");
  expect(wordsAfter("--without", stderr)).toEqual(["NODE"]);
});

function wordsAfter(option: string, text: string): string[] {
  return (
    new RegExp(`${option} ([\\w,]+)(?=\\W)`)
      .exec(text.slice(text.lastIndexOf("hint: ")))?.[1]
      ?.split(",")
      .sort() ?? []
  );
}
