/** move as operators run it on a machine with another address: what it refuses, what it writes, what parts read then. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { WORDS_FILE } from "../../shared/node/rescue-folder.ts";
import type { SavedOption } from "../../shared/node/words.ts";
import { certInfo } from "../../shared/pki/certificate.ts";
import { ADDRESS, write } from "../pretend/cluster.ts";
import { certify, lead, said } from "../pretend/endpoint.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { servePart2 } from "../pretend/in-part2.ts";
import { movedWords } from "../pretend/kept-words.ts";
import { MEMBER, pretendNode, routesOf, SHOWN_ADDRESS } from "../pretend/node.ts";
import { AT, MEMBERS, reachable, three } from "../pretend/plan.ts";
import type { FakeCommand } from "../pretend/programs.ts";
import { here } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const NEW = "127.66.0.11";
const ROUTES = routesOf(NEW);

type Moved = Awaited<ReturnType<typeof movedNode>>;

async function movedNode(
  kind: "healthy control plane node" | "wiped control plane node" | "worker",
  commands: FakeCommand[] = ROUTES,
) {
  return here(await pretendNode({ kind, commands, etcd: reachable }));
}

/** Files below these folders that have it in their text. */
function naming(text: string, { root }: Pick<Moved, "root">): string[] {
  return ["/etc/kubernetes", "/var/lib/kubelet"].flatMap((folder) =>
    readdirSync(root + folder, { recursive: true, withFileTypes: true }).flatMap((entry) => {
      const path = `${entry.parentPath}/${entry.name}`;
      return entry.isFile() && readFileSync(path, "utf8").includes(text) ? [path.slice(root.length)] : [];
    }),
  );
}

/** By what goes on, old address → new one. `over`: by what has ended. */
function movesOf({ root }: Pick<Moved, "root">, when: "said" | "over" = "said"): Record<string, string> {
  const [file] = new Bun.Glob(`kube-pki-repair-*/${WORDS_FILE}`).scanSync({ cwd: `${root}/root` });
  const kept = file
    ? (JSON.parse(readFileSync(`${root}/root/${file}`, "utf8")) as Record<typeof when, SavedOption[]>)
    : undefined;
  const pairs = (kept?.[when] ?? [])
    .filter(({ option }) => option === "moved")
    .map(({ value }) => value.split("="));
  return Object.fromEntries(pairs);
}

test("part 1 and 00-assess name the script where a machine has another address", async () => {
  using node = await movedNode("healthy control plane node");
  expect((await node.run("01-etcd --dry-run")).stderr).toContain("./bunw scripts/move.ts");
  const { stdout, stderr } = await node.run("00-assess");
  expect(stdout + stderr).toContain("./bunw scripts/move.ts");
});

test("the plan begins with the script, and later with its lines for each node", async () => {
  using node = await movedNode("healthy control plane node");
  expect((await node.run("plan")).stdout).toContain(
    "```sh\n./bunw scripts/move.ts\n./bunw scripts/plan.ts\n```",
  );
  await node.run("move");
  const { stdout } = await node.run("plan");
  const move = "./bunw scripts/move.ts";
  expect(stdout).toContain(`# on m1:\n${move}\n`);
  expect(stdout).toContain(`# on w1, w2:\n${move} --moved ${SHOWN_ADDRESS}=${NEW}\n`);
  const places = [
    "02-control-plane.ts",
    "move.ts --moved",
    "03-workers.ts close",
    "move.ts\n",
    "05-verify.ts",
  ].map((words) => stdout.indexOf(`./bunw scripts/${words}`));
  expect(places).toEqual(places.toSorted((a, b) => a - b));
  expect(places).not.toContain(-1);
});

test("where others have moved, too, each move is a step of the plan, on those who have moved", async () => {
  const node = here(
    await pretendNode({
      kind: "healthy control plane node",
      commands: ROUTES,
      etcd: three,
      members: MEMBERS,
    }),
  );
  using _node = node;
  expect(await node.run(`move --moved ${AT.m2}=127.66.0.12`)).toMatchObject({ exitCode: 0 });
  const { stdout } = await node.run("plan");
  const steps = [...stdout.matchAll(/^### \[ \] (\d[a-z]): (.*)$/gm)].map(([, number, does]) => [
    number,
    does,
  ]);
  const at = (words: string) => steps.find(([, does]) => does!.startsWith(words))?.join(" ");
  expect(at("Put the new addresses into the node's")).toMatch(/^1[a-z] .* files, on m2$/);
  expect(at("Put the new addresses into the worker's")).toMatch(/^3a .*, on w1, w2$/);
  expect(at("Put the new addresses into the cluster")).toMatch(/^5a .*, on m1, m2$/);
  expect(stdout).toContain("Addresses have changed: ");
});

test("it finds its own addresses; its files get the new one, the old files stay aside; a dry run changes nothing", async () => {
  using node = await movedNode("healthy control plane node");
  const before = node.fingerprint();
  expect(await node.run("move --dry-run")).toMatchObject({ exitCode: 0 });
  expect(node.fingerprint()).toEqual(before);
  expect(naming(ADDRESS, node).length).toBeGreaterThan(5);

  const { exitCode, stderr } = await node.run("move");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(`${SHOWN_ADDRESS} → ${NEW}`);
  expect(stderr).toContain(
    `next: part 1, then part 2, then on each worker: ./bunw scripts/move.ts --moved ${SHOWN_ADDRESS}=${NEW}, then ./bunw scripts/03-workers.ts close, then ./bunw scripts/move.ts`,
  );
  expect(naming(ADDRESS, node)).toEqual([]);
  expect(movesOf(node)).toEqual({ [ADDRESS]: NEW });
  expect(node.calls()).toContain("systemctl stop kubelet");
});

const VIP = "127.66.0.100";
const [OWN_LEASE, VIP_FIRST] = [
  { local: NEW, prefixlen: 24 },
  { local: VIP, prefixlen: 32 },
];

test.each<[string, object[], Parameters<typeof said>[0] | undefined]>([
  ["without a net", [VIP_FIRST, OWN_LEASE], undefined],
  [
    "with the net's own mask, which is the endpoint",
    [
      { ...VIP_FIRST, prefixlen: 24 },
      { ...OWN_LEASE, secondary: true },
    ],
    { kubeadm: `${VIP}:6443` },
  ],
  [
    "with the net's own mask, to which kube-proxy leads",
    [
      { ...VIP_FIRST, prefixlen: 24 },
      { ...OWN_LEASE, secondary: true },
    ],
    { kubeadm: undefined, kubeProxy: `${VIP}:6443` },
  ],
])("a VIP that is first on the card takes no old address's place: %s", async (_, addresses, known) => {
  const etcd = (objects: Parameters<typeof reachable>[0]) => {
    reachable(objects);
    if (known) said(known)(objects);
  };
  using node = here(
    await pretendNode({ kind: "wiped control plane node", commands: routesOf(addresses), etcd }),
  );
  const { exitCode, stderr } = await node.run("move");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(movesOf(node)).toEqual({ [ADDRESS]: NEW });
});

test("where only the cluster's VIP is here, move and restore ask for the machine's own address", async () => {
  const etcd = (objects: Parameters<typeof reachable>[0]) => {
    reachable(objects);
    said({ kubeadm: `${VIP}:6443` })(objects);
  };
  using node = here(
    await pretendNode({ kind: "wiped control plane node", commands: routesOf([VIP_FIRST]), etcd }),
  );
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("move");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  expect(stderr).toContain(`nothing here shows which of its addresses`);
  expect(stderr).toContain(`--moved ${SHOWN_ADDRESS}=ADDRESS`);
  expect(node.fingerprint()).toEqual(before);
});

test("what the operator says of another machine later is taken into the move that goes on", async () => {
  using node = await movedNode("healthy control plane node");
  await node.run("move");
  const pair = "10.77.0.21=10.77.1.21";
  const { exitCode, stderr } = await node.run(`move --moved ${pair}`);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(movesOf(node)).toEqual({ [ADDRESS]: NEW, "10.77.0.21": "10.77.1.21" });
  const other = await node.run(`move --moved 10.77.0.21=10.77.1.22`);
  expect(other).toMatchObject({ exitCode: 3 });
  expect(other.stderr).toContain("a move in progress here says otherwise");
  expect(movesOf(node)).toEqual({ [ADDRESS]: NEW, "10.77.0.21": "10.77.1.21" });
});

test("after rm -rf nothing is there to write, and part 1 issues certificates for the new address", async () => {
  using node = await movedNode("wiped control plane node");
  expect(await node.run("move")).toMatchObject({ exitCode: 0 });
  expect(movesOf(node)).toEqual({ [ADDRESS]: NEW });
  const { stderr } = await node.run("01-etcd --new-cas");
  expect(stderr).toContain(`m1 (from the kubelet's client certificate), ${NEW}`);
  const { sans } = certInfo(node.read("/etc/kubernetes/pki/etcd/peer.crt"));
  expect(sans.ips).toContain(NEW);
  // by it the others reach this member until they know the new one
  expect(sans.ips).toContain(ADDRESS);
  expect(certInfo(node.read("/etc/kubernetes/pki/etcd/server.crt")).sans.ips).not.toContain(ADDRESS);
  expect(node.read("/etc/kubernetes/manifests/etcd.yaml")).toContain(
    `--listen-peer-urls=https://${NEW}:2380`,
  );
  expect(naming(ADDRESS, node)).toEqual([]);
});

const [OLD_NAME, NEW_NAME] = ["api.old.example", "api.example"];

test("an endpoint of another name: kubeconfigs lead there, the API server's certificate has both, workers get the line", async () => {
  using node = here(
    await pretendNode({
      kind: "healthy control plane node",
      etcd: said({ kubeadm: `${OLD_NAME}:6443`, clusterInfo: `${OLD_NAME}:6443` }),
    }),
  );
  await certify(node, { controlPlaneEndpoint: `${OLD_NAME}:6443` });
  for (const name of ["admin.conf", "kubelet.conf"]) lead(node, name, `https://${OLD_NAME}:6443`);
  const { exitCode, stderr } = await node.run(`move --moved ${OLD_NAME}=${NEW_NAME}`);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(naming(OLD_NAME, node)).toEqual([]);
  expect(node.read("/etc/kubernetes/kubelet.conf")).toContain(`server: https://${NEW_NAME}:6443`);
  expect(stderr).toContain(`./bunw scripts/move.ts --moved ${OLD_NAME}=${NEW_NAME}`);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = servePart2(node);
  await node.run("02-control-plane");
  const { sans } = certInfo(node.read("/etc/kubernetes/pki/apiserver.crt"));
  expect(sans.dns).toContain(NEW_NAME);
  // as long as somebody still goes there
  expect(sans.dns).toContain(OLD_NAME);
});

test("an endpoint where there was none: admin.conf leads there, this machine's own programs do not, the certificate has its name", async () => {
  using node = await movedNode("healthy control plane node", []);
  const own = `https://${ADDRESS}:6443`;
  const pair = `${own}=https://${NEW_NAME}:6443`;
  const { exitCode, stderr } = await node.run(`move --moved ${pair}`);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(node.read("/etc/kubernetes/admin.conf")).toContain(`server: https://${NEW_NAME}:6443`);
  for (const name of ["scheduler", "controller-manager", "kubelet"])
    expect(node.read(`/etc/kubernetes/${name}.conf`)).toContain(`server: ${own}`);
  expect(stderr).toContain(`--moved ${pair.replace(ADDRESS, SHOWN_ADDRESS)}`);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = servePart2(node);
  await node.run("02-control-plane");
  expect(certInfo(node.read("/etc/kubernetes/pki/apiserver.crt")).sans.dns).toContain(NEW_NAME);
  for (const name of ["scheduler", "controller-manager", "kubelet"])
    expect(node.read(`/etc/kubernetes/${name}.conf`)).toContain(`server: ${own}`);
});

test("a move that was taken back is none that is finished", async () => {
  using node = await movedNode("healthy control plane node");
  write(
    `${node.root}/root/kube-pki-repair-20261129T080000/${WORDS_FILE}`,
    movedWords([["10.77.0.21", "10.77.1.21"]]),
  );
  await node.run("words --back 10.77.0.21=10.77.1.21");
  expect(movesOf(node, "over")).toEqual({ "10.77.0.21": "10.77.1.21" });
  using still = here(await pretendNode({ kind: "healthy control plane node" }));
  write(
    `${still.root}/root/kube-pki-repair-20261129T080000/${WORDS_FILE}`,
    node.read(`/root/kube-pki-repair-20261129T080000/${WORDS_FILE}`),
  );
  const { exitCode, stderr } = await still.run("move");
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 3,
    stderr: expect.stringContaining("--moved names no other"),
  });
});

test("a host that has another name: its node keeps the old one, and the parts bring the kubelet back; a worker does it itself", async () => {
  const renamed = { commands: [{ command: "uname -n", stdout: "renamed\n" }] };
  const args = "KUBELET_KUBEADM_ARGS=";
  using node = here(await pretendNode({ kind: "healthy control plane node", ...renamed }));
  const { exitCode, stderr } = await node.run("move");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("this host is called renamed now; its node stays m1");
  expect(stderr).toContain("next: part 1, then part 2, then ./bunw scripts/05-verify.ts");
  expect(node.read("/var/lib/kubelet/kubeadm-flags.env")).toContain(`${args}"--hostname-override=m1 `);
  expect(movesOf(node)).toEqual({});
  using worker = here(await pretendNode({ kind: "worker", ...renamed }));
  const flags = worker.read("/var/lib/kubelet/kubeadm-flags.env");
  // no API answers here: what it had is back
  expect(await worker.run("move")).toMatchObject({ exitCode: 1 });
  expect(worker.read("/var/lib/kubelet/kubeadm-flags.env")).toBe(flags);
  expect(worker.calls()).toContain("systemctl restart kubelet");
});

test("a host that has another name, and flags of its kubelet that are nowhere to be written: where to put it is said", async () => {
  using node = here(
    await pretendNode({
      kind: "healthy control plane node",
      commands: [{ command: "uname -n", stdout: "renamed\n" }],
    }),
  );
  writeFileSync(`${node.root}/var/lib/kubelet/kubeadm-flags.env`, "");
  const before = node.fingerprint();
  expect(await node.run("move")).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("put --hostname-override=m1 into"),
  });
  expect(node.fingerprint()).toEqual(before);
});

test("a node gets no other name, and neither does what is no endpoint", async () => {
  using node = await movedNode("healthy control plane node");
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("move --moved w1=w2");
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 3,
    stderr: expect.stringContaining("A node keeps its name"),
  });
  expect(node.fingerprint()).toEqual(before);
});

test("where every kubelet led to the old address, the controller-manager begins reduced: nobody is evicted meanwhile", async () => {
  using node = await movedNode("healthy control plane node");
  await node.run("move");
  const { stderr } = await node.run("02-control-plane --dry-run");
  expect(stderr).toContain("reduced: no taints, no evictions");
});

for (const [words, why] of [
  ["--moved 127.66.0.1", "is no pair"],
  [`--moved 127.66.0.9=127.66.0.10`, "nothing of this cluster was there"],
] as const)
  test(`move ${words} is refused, and nothing is written: ${why}`, async () => {
    using node = await movedNode("healthy control plane node");
    const before = node.fingerprint();
    const { exitCode, stderr } = await node.run(`move ${words}`);
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 3, stderr: expect.stringContaining(why) });
    expect(node.fingerprint()).toEqual(before);
  });

const MACHINE = "0123456789abcdef0123456789abcdef";
const OTHER = "fedcba9876543210fedcba9876543210";

/** Loopback addresses name no machine's member. */
const ROUTED = "10.66.0.11";

const UUID = "4c4c4544-0051-4a10-8053-b7c04f4e5632";

/** Its Node says which machine it was; `member`: where its member is, by etcd's data. */
async function machineOf(machineID: string, member: string) {
  const node = here(
    await pretendNode({
      kind: "healthy control plane node",
      commands: routesOf(ROUTED),
      members: [{ ...MEMBER, peerURLs: [`https://${member}:2380`] }],
      etcd: (objects) => {
        const own = objects["minions/m1"] as { status: object };
        own.status = { ...own.status, nodeInfo: { machineID, systemUUID: UUID } };
      },
    }),
  );
  writeFileSync(`${node.root}/etc/machine-id`, `${MACHINE}\n`);
  return node;
}

test("another machine with that one's disk is refused; the same machine is not, nor one for which restore.ts has made the data", async () => {
  using copied = await machineOf(OTHER, ADDRESS);
  expect(await copied.run("move")).toMatchObject({
    exitCode: 3,
    stderr: expect.stringContaining("this is another machine"),
  });
  using same = await machineOf(MACHINE, ADDRESS);
  expect(await same.run("move --dry-run")).toMatchObject({ exitCode: 0 });
  using restored = await machineOf(OTHER, ROUTED);
  const { exitCode, stderr } = await restored.run("move --dry-run");
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining(`${SHOWN_ADDRESS} → ${ROUTED}`),
  });
});

test("the same disk in other hardware is told, as it may be a copy; the same hardware is not", async () => {
  using node = await machineOf(MACHINE, ADDRESS);
  write(`${node.root}/sys/class/dmi/id/product_uuid`, `${UUID.toUpperCase()}\n`);
  expect((await node.run("move --dry-run")).stderr).not.toContain("hardware");
  write(`${node.root}/sys/class/dmi/id/product_uuid`, `${UUID.replace("4c", "5d")}\n`);
  const { exitCode, stderr } = await node.run("move --dry-run");
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining(`was ${UUID})`),
  });
});

test("a machine that has its address of before has not moved", async () => {
  using node = await movedNode("healthy control plane node", []);
  const { exitCode, stderr } = await node.run("move");
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 3,
    stderr: expect.stringContaining("address has not changed"),
  });
});

/** A second card, on which the address of before was. */
const card = (more: object, others: object[] = []) => {
  const [{ addr_info }] = JSON.parse(ROUTES[0]!.stdout);
  const cards = [
    { ifname: "eth0", flags: ["UP"], addr_info },
    { ifname: "eth1", flags: ["UP"], ...more },
    ...others,
  ];
  return [{ ...ROUTES[0]!, stdout: JSON.stringify(cards) }, ...ROUTES.slice(1)];
};
const LINK_LOCAL = { addr_info: [{ scope: "link", local: "fe80::1" }] };
const GLOBAL = { addr_info: [{ scope: "global", local: "10.88.0.9" }] };
const NETPLAN = "/etc/netplan/50-cloud-init.yaml";
type Configured = [what: string, commands: typeof ROUTES, files: Record<string, string>];

const device = { "/sys/class/net/eth1/device": "" };
test.each<[...Configured, why: string]>([
  ["its card is up, and has no address yet", card(LINK_LOCAL), device, "eth1 is up, and has no address"],
  [
    "the network's configuration names it",
    ROUTES,
    { [NETPLAN]: `addresses: [${ADDRESS}/24]\n` },
    `${NETPLAN} names it`,
  ],
])("an address of before that may only be away is no move: %s", async (_, commands, files, why) => {
  using node = await movedNode("healthy control plane node", commands);
  for (const [path, text] of Object.entries(files)) write(node.root + path, text);
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("move");
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 3,
    stderr: expect.stringContaining(`${SHOWN_ADDRESS} may only be missing for now: ${why}`),
  });
  expect(stderr).toContain(`./bunw scripts/move.ts --moved ${SHOWN_ADDRESS}=${NEW}\n`);
  expect(node.fingerprint()).toEqual(before);
  expect(await node.run(`move --dry-run --moved ${ADDRESS}=${NEW}`)).toMatchObject({ exitCode: 0 });
});

test.each<Configured>([
  ["nobody has begun with", card({ flags: [], ...LINK_LOCAL }), device],
  ["that has an address", card(GLOBAL), device],
  ["that is part of another one", card({ master: "bond0", ...LINK_LOCAL }), device],
  ["that carries VLANs", card(LINK_LOCAL, [{ ifname: "eth1.7", link: "eth1" }]), device],
  ["that is a program's", card(LINK_LOCAL), {}],
  ["beside files that name another address", ROUTES, { [NETPLAN]: `addresses: [${ADDRESS}1/24]\n` }],
  ["beside other programs' files", ROUTES, { "/etc/keepalived/keepalived.conf": `${ADDRESS}\n` }],
])("a card %s makes no doubt of a move", async (_, commands, files) => {
  using node = await movedNode("healthy control plane node", commands);
  for (const [path, text] of Object.entries(files)) write(node.root + path, text);
  expect(await node.run("move --dry-run")).toMatchObject({ exitCode: 0 });
});

test("a worker has to be told; where the API does not answer, its files come back", async () => {
  using node = await movedNode("worker", []);
  expect((await node.run("move")).stderr).toContain("--moved OLD=NEW");
  const conf = node.read("/etc/kubernetes/kubelet.conf");
  const { exitCode, stderr } = await node.run(`move --moved ${ADDRESS}=${NEW}`);
  expect(exitCode).toBe(1);
  expect(stderr).not.toContain("no file of this node has to change");
  expect(node.read("/etc/kubernetes/kubelet.conf")).toBe(conf);
  expect(node.calls()).toContain("systemctl restart kubelet");
});

test("a worker none of whose files names the address: a kubelet that an earlier run has stopped is started all the same", async () => {
  using node = await movedNode("worker", [{ command: "systemctl is-active --quiet kubelet", exit: 3 }]);
  const { stderr } = await node.run(`move --moved 127.66.0.99=${NEW}`);
  expect(stderr).toContain("no file of this node has to change");
  expect(node.calls()).toContain("systemctl restart kubelet");
});

test("the plan of a host with another name begins with move, as a line to paste", async () => {
  using node = here(
    await pretendNode({
      kind: "healthy control plane node",
      commands: [
        { command: "uname -n", stdout: "renamed\n" },
        { command: "systemctl is-active --quiet kubelet", exit: 3 },
      ],
    }),
  );
  const { stdout } = await node.run("plan");
  expect(stdout).toMatch(
    /> Do not start or restart the kubelet before this: This host is called "renamed".*\n\n```sh\n\.\/bunw scripts\/move\.ts +# it gives/,
  );
});

test("where a host has another name, nothing stops or starts its kubelet before move has told it the node's", async () => {
  const commands = [{ command: "uname -n", stdout: "renamed\n" }];
  using node = here(await pretendNode({ kind: "healthy control plane node", commands }));
  using worker = here(await pretendNode({ kind: "worker", commands }));
  const before = [node.fingerprint(), worker.fingerprint()];
  for (const end of [
    await node.run("01-etcd"),
    await node.run("02-control-plane"),
    await worker.run("03-join"),
  ])
    expect(end).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("./bunw scripts/move.ts") });
  expect([node.fingerprint(), worker.fingerprint()]).toEqual(before);
  expect([...node.calls(), ...worker.calls()].filter((call) => /stop|start/.test(call))).toEqual([]);
});

test("a worker that has lost its kubelet.conf has nothing to move: it joins", async () => {
  using node = here(await pretendNode({ kind: "worker" }));
  rmSync(`${node.root}/etc/kubernetes/kubelet.conf`);
  const { exitCode, stderr } = await node.run(`move --moved 10.0.0.1=10.0.1.1`);
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("not checked: "),
  });
});
