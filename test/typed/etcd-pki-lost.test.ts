/**
 * An etcd that is a unit of this node, and /etc/ssl/etcd is lost, too: its certificates are issued again with the key of
 * its CA, or of a new one.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, chownSync, cpSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { certInfo, keyMatches, signedBy } from "../../shared/pki/certificate.ts";
import { certRow } from "../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../shared/pki/issue.ts";
import { ADDRESS, FACTS, type Objects, write } from "../pretend/cluster.ts";
import { sameEtcd, serveDeaf, serveUnit } from "../pretend/etcd.ts";
import { ETCD_PKI, external, nodeOf, UNIT_MEMBER } from "../pretend/etcd-as-unit.ts";
import { expectTranscript } from "../pretend/node.ts";
import type { FakeCommand } from "../pretend/programs.ts";
import { here } from "../pretend/typed-here.ts";
import { expectRefusal } from "../pretend/wrong-hands.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const SSL = "/etc/ssl/etcd/ssl";
const UNIT: FakeCommand[] = [
  { command: "systemctl stop etcd" },
  { command: "systemctl restart --no-block etcd" },
  { command: "systemctl show -p MainPID --value etcd", stdout: "0\n" },
];

async function lostNode(wiped = true, commands = UNIT) {
  const node = here(await nodeOf("KubeKey 3", { wiped, commands }));
  rmSync(`${node.root}/etc/ssl/etcd`, { recursive: true });
  return node;
}

type Node = Awaited<ReturnType<typeof lostNode>>;

function bring(node: Node, { cert = ETCD_PKI.ca, key = ETCD_PKI.caKey } = {}) {
  write(`${node.root}${SSL}/ca.pem`, cert, 0o644);
  write(`${node.root}${SSL}/ca-key.pem`, key);
}

const serving = ({ stored }: Node) => serveUnit(ETCD_PKI, { ...sameEtcd(stored), members: [UNIT_MEMBER] });

const NAMES = ["member-m1", "node-m1"];

const modesOf = (node: Node, paths: string[]) => paths.map((path) => statSync(node.root + path).mode & 0o777);

test("with the key of its CA, an etcd that lives gets its certificates again, is proved and copied, and is not stopped", async () => {
  using node = await lostNode();
  bring(node);
  chmodSync(node.root + SSL, 0o755);
  using _etcd = serving(node);
  const { exitCode, stderr } = await node.run("01-etcd --new-cas");
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("saved a snapshot of etcd"),
  });
  for (const name of NAMES) {
    const [pem, key] = ["", "-key"].map((end) => node.read(`${SSL}/${name}${end}.pem`));
    expect(signedBy(pem!, ETCD_PKI.ca) && keyMatches(pem!, key!)).toBe(true);
    const { cn, algorithm, usages, sans } = certInfo(pem!);
    expect({ cn, algorithm, usages }).toEqual({
      cn: `etcd-${name}`,
      algorithm: "RSA-2048",
      usages: ["server", "client"],
    });
    expect(sans.dns).toEqual(
      expect.arrayContaining(["localhost", "m1", "etcd.kube-system.svc.cluster.local"]),
    );
    expect(sans.ips).toEqual(expect.arrayContaining(["127.0.0.1", "::1"]));
  }
  // others may read the CA that was here: only a folder of this kit's own files is closed to them
  expect(modesOf(node, [SSL])).toEqual([0o755]);
  expect(node.calls().filter((call) => / etcd$/.test(call) && !/is-active|show/.test(call))).toEqual([]);
});

/** Its processes end and begin with systemd's commands; it has the certificates that are on disk when it starts. */
async function run(
  node: Node,
  line: string,
  { lives, own = ["ca.pem", "member-m1.pem", "member-m1-key.pem"] }: { lives: boolean; own?: string[] },
) {
  using before = new DisposableStack();
  if (lives) before.use(serveDeaf(ADDRESS));
  const result = node.run(line, { KUBE_PKI_REPAIR_PATIENCE: "0.2" });
  await Promise.race([node.called("systemctl stop etcd"), result]);
  before.dispose();
  const restart = "systemctl restart --no-block etcd";
  await Promise.race([node.called(restart), result]);
  if (!node.calls().includes(restart)) return await result;
  const [ca, cert, key] = own.map((file) => node.read(`${SSL}/${file}`));
  using _etcd = serveUnit(
    { ca: ca!, cert: cert!, key: key! },
    { ...sameEtcd(node.stored), members: [UNIT_MEMBER] },
  );
  return await result;
}

test.each([
  { lives: true, wiped: true },
  { lives: false, wiped: false },
])(
  "without the key of its CA, part 1 makes a new one: etcd stops, its data is copied, and it starts again (%o)",
  async ({ lives, wiped }) => {
    using node = await lostNode(wiped);
    const trust = "/usr/local/share/ca-certificates/etcd-ca.crt";
    write(node.root + trust, ETCD_PKI.ca, 0o640);
    const option = wiped ? "--new-cas" : "--new-internal-cas";
    const { exitCode, stderr } = await run(node, `01-etcd ${option}`, { lives });
    expect({ exitCode, stderr }).toMatchObject({
      exitCode: 0,
      stderr: expect.stringContaining("same cluster"),
    });
    expect(stderr).toContain(`unchanged ${trust}: it has another CA of etcd`);
    const ca = node.read(`${SSL}/ca.pem`);
    expect(keyMatches(ca, node.read(`${SSL}/ca-key.pem`))).toBe(true);
    for (const name of NAMES) {
      const [pem, key] = ["", "-key"].map((end) => node.read(`${SSL}/${name}${end}.pem`));
      expect(signedBy(pem!, ca) && keyMatches(pem!, key!)).toBe(true);
    }
    const made = ["", "/ca.pem", "/ca-key.pem", "/member-m1.pem", "/member-m1-key.pem"];
    expect(
      modesOf(
        node,
        made.map((file) => SSL + file),
      ),
    ).toEqual([0o700, 0o644, 0o600, 0o644, 0o600]);
  },
);

test("with the key of its CA, an etcd that does not run for want of its certificates starts with them", async () => {
  using node = await lostNode(false);
  bring(node);
  const { exitCode, stderr } = await run(node, "01-etcd", { lives: false });
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringMatching(/restarted etcd\.service[\s\S]*same cluster/),
  });
  expect(node.read(`${SSL}/ca.pem`)).toBe(ETCD_PKI.ca);
});

test("KubeKey 4 keeps the API server's pair elsewhere, with a CA of its own there: both are of the new CA, and nobody else can read a key", async () => {
  using node = here(await nodeOf("KubeKey", { wiped: true, commands: UNIT }));
  rmSync(`${node.root}/etc/ssl/etcd`, { recursive: true });
  const { exitCode, stderr } = await run(node, "01-etcd --new-cas", {
    lives: true,
    own: ["ca.crt", "server.crt", "server.key"],
  });
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("same cluster"),
  });
  const client = "/etc/kubernetes/pki/etcd";
  expect(node.read(`${client}/ca.crt`)).toBe(node.read(`${SSL}/ca.crt`));
  expect(signedBy(node.read(`${client}/client.crt`), node.read(`${SSL}/ca.crt`))).toBe(true);
  expect(keyMatches(node.read(`${SSL}/ca.crt`), node.read(`${SSL}/ca.key`))).toBe(true);
  const made = [`${client}/client.key`, `${SSL}/server.key`, `${client}/client.crt`, `${client}/ca.crt`];
  expect(modesOf(node, made)).toEqual([0o600, 0o600, 0o644, 0o644]);
});

const STRANGER = await issueCa(certRow("etcd-ca"), FACTS);

test.each([true, false])(
  "part 2 lets the API server start again if what it reads for etcd was made: %p",
  async (isLost) => {
    const containers = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
    using node = here(await nodeOf("KubeKey 3", { commands: UNIT, containers }));
    if (isLost) {
      rmSync(`${node.root}/etc/ssl/etcd`, { recursive: true });
      bring(node);
    }
    using _etcd = serving(node);
    expect(await node.run("01-etcd")).toMatchObject({ exitCode: 0 });
    const { stderr } = await node.run("02-control-plane --dry-run");
    expect(stderr.includes("would stop kube-apiserver\n")).toBe(isLost);
  },
);

test("with the key of another cluster's CA at that path, an etcd that lives says so, and nothing of it stays", async () => {
  using node = await lostNode(false);
  bring(node, STRANGER);
  using _etcd = serving(node);
  const { exitCode, stderr } = await node.run("01-etcd");
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 3,
    stderr: expect.stringContaining("was started with another CA than the one in /etc/ssl/etcd/ssl/ca.pem"),
  });
  expect(readdirSync(node.root + SSL).sort()).toEqual(["ca-key.pem", "ca.pem"]);
});

const ALL = ["ca-key.pem", "ca.pem", "member-m1-key.pem", "member-m1.pem", "node-m1-key.pem", "node-m1.pem"];

test("a CA without its key is not enough, and no new one is made unasked", async () => {
  using node = await lostNode(false);
  bring(node);
  rmSync(`${node.root}${SSL}/ca-key.pem`);
  const before = node.fingerprint();
  for (const line of ["01-etcd", "01-etcd --dry-run"]) {
    const { exitCode, stderr } = await node.run(line);
    expect({ exitCode, stderr }).toMatchObject({
      exitCode: 1,
      stderr: expect.stringMatching(
        /ca\.pem is needed and cannot be used: key missing[\s\S]*00-salvage[\s\S]*hand-over[\s\S]*--new-internal-cas/,
      ),
    });
  }
  expect(node.fingerprint()).toEqual(before);
});

test.each(["member-m1-key.pem", "member-m1.pem", "node-m1-key.pem"])(
  "of a folder that lacks %s, that pair alone is made, with the owner and the modes of the others",
  async (lost) => {
    using node = here(await nodeOf("KubeKey 3", { commands: UNIT }));
    for (const name of ALL) {
      chownSync(`${node.root}${SSL}/${name}`, 989, 0);
      chmodSync(`${node.root}${SSL}/${name}`, 0o700);
    }
    rmSync(`${node.root}${SSL}/${lost}`);
    const pairOf = (name: string) => name.replace("-key", "").replace(".pem", "");
    const others = ALL.filter((name) => pairOf(name) !== pairOf(lost)).map((name) =>
      node.read(`${SSL}/${name}`),
    );
    using _etcd = serving(node);
    const { exitCode, stderr } = await node.run("01-etcd");
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(readdirSync(node.root + SSL).sort()).toEqual(ALL);
    expect(
      ALL.filter((name) => pairOf(name) !== pairOf(lost)).map((name) => node.read(`${SSL}/${name}`)),
    ).toEqual(others);
    const [pem, key] = ["", "-key"].map((end) => node.read(`${SSL}/${pairOf(lost)}${end}.pem`));
    expect(keyMatches(pem!, key!) && signedBy(pem!, ETCD_PKI.ca)).toBe(true);
    const made = ["", "-key"].map((end) => statSync(`${node.root}${SSL}/${pairOf(lost)}${end}.pem`));
    expect(made.map(({ uid, mode }) => [uid, mode & 0o777])).toEqual([
      [989, 0o700],
      [989, 0o700],
    ]);
  },
);

test("a stranger's certificate in the place of etcd's own is not replaced: etcd does not answer with it", async () => {
  using node = here(await nodeOf("KubeKey 3", { commands: UNIT }));
  const { cert, key } = await issueLeaf(certRow("etcd-server"), STRANGER, FACTS);
  for (const name of NAMES) {
    write(`${node.root}${SSL}/${name}.pem`, cert);
    write(`${node.root}${SSL}/${name}-key.pem`, key);
  }
  using _etcd = serving(node);
  await expectRefusal(node, "01-etcd", "does not answer", /./, 3);
});

test("etcd's files are made where its settings have them, outside of the usual folder, too", async () => {
  using node = await lostNode(false);
  const settings = node.read("/etc/etcd.env").replaceAll(SSL, "/opt/etcd/tls");
  write(`${node.root}/etc/etcd.env`, settings);
  write(`${node.root}/opt/etcd/tls/ca.pem`, ETCD_PKI.ca);
  write(`${node.root}/opt/etcd/tls/ca-key.pem`, ETCD_PKI.caKey);
  using _etcd = serving(node);
  const { exitCode, stderr } = await node.run("01-etcd");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(readdirSync(`${node.root}/opt/etcd/tls`).sort()).toEqual([
    "ca-key.pem",
    "ca.pem",
    "member-m1-key.pem",
    "member-m1.pem",
  ]);
  expect(readdirSync(node.root + SSL).sort()).toEqual(["ca.pem", "node-m1-key.pem", "node-m1.pem"]);
});

test.each([
  {
    mode: 0o600,
    code: 3,
    says: /it runs as etcd, which cannot read \/etc\/ssl\/etcd\/ssl\/ca\.pem[\s\S]*chmod 644/,
  },
  { mode: 0o644, code: 0, says: /saved a snapshot/ },
])(
  "etcd's own user has to read what is made for it, and the CA that somebody brought ($mode)",
  async ({ mode, code, says }) => {
    using node = await lostNode(false);
    write(
      `${node.root}/etc/systemd/system/etcd.service`,
      "[Service]\nUser=etcd\nEnvironmentFile=/etc/etcd.env\nExecStart=/usr/local/bin/etcd\n",
    );
    write(
      `${node.root}/etc/passwd`,
      "root:x:0:0::/root:/bin/sh\netcd:x:989:988::/nonexistent:/sbin/nologin\n",
    );
    bring(node);
    writeFileSync(`${node.root}${SSL}/ca.pem`, ETCD_PKI.ca, { mode });
    rmSync(`${node.root}${SSL}/ca.pem`);
    write(`${node.root}${SSL}/ca.pem`, ETCD_PKI.ca, mode);
    using _etcd = serving(node);
    const { exitCode, stderr } = await node.run("01-etcd");
    expect({ exitCode, stderr }).toMatchObject({ exitCode: code, stderr: expect.stringMatching(says) });
    if (code !== 0) return;
    const owners = NAMES.map((name) => statSync(`${node.root}${SSL}/${name}-key.pem`));
    expect(owners.map(({ uid, gid, mode }) => [uid, gid, mode & 0o777])).toEqual([
      [989, 988, 0o600],
      [989, 988, 0o600],
    ]);
  },
);

/** Process 184 of this machine, by its age in seconds. */
function runsSince(node: Node, age: number) {
  write(`${node.root}/proc/uptime`, "10000.00 1.00\n");
  const fields = Array.from({ length: 19 }, () => "0");
  write(`${node.root}/proc/184/stat`, `184 (etcd) ${[...fields, String((10_000 - age) * 100)].join(" ")}\n`);
}

test.each([
  { age: 60, stops: false },
  { age: 9000, stops: true },
])(
  "hand-over brings etcd's CA from a host that has its key, and part 1 goes on with it (%o)",
  async ({ age, stops }) => {
    const identity = await generateX25519Identity();
    using well = await nodeOf("KubeKey 3");
    const to = await identityToRecipient(identity);
    const packed = await well.run(`hand-over pack --to ${to} --out keys.age`);
    expect(packed.stderr).toContain("etcd/ca ");
    const commands = [
      ...UNIT.slice(0, 2),
      { command: "systemctl show -p MainPID --value etcd", stdout: "184\n" },
    ];
    using node = await lostNode(true, commands);
    runsSince(node, age);
    write(`${node.root}/root/id`, `${identity}\n`);
    cpSync(`${well.root}/root/keys.age`, `${node.root}/root/keys.age`);
    const hash = certInfo(well.ca.cert).publicKeyHash;
    const { exitCode, stderr } = await node.run(`hand-over unpack keys.age --identity id --ca-hash ${hash}`);
    expect({ exitCode, stderr }).toMatchObject({
      exitCode: 0,
      stderr: expect.stringContaining(`wrote ${SSL}/ca-key.pem`),
    });
    expect([node.read(`${SSL}/ca.pem`), node.read(`${SSL}/ca-key.pem`)]).toEqual([
      ETCD_PKI.ca,
      ETCD_PKI.caKey,
    ]);
    if (stops) {
      const { stderr } = await run(node, "01-etcd", { lives: true });
      return expect(stderr).toContain("stopped etcd.service");
    }
    using _etcd = serving(node);
    const part1 = await node.run("01-etcd");
    expect(part1).toMatchObject({ exitCode: 0, stderr: expect.stringContaining("saved a snapshot of etcd") });
    expect(node.calls().filter((call) => /systemctl (stop|restart) .*etcd/.test(call))).toEqual([]);
  },
);

test("hand-over leaves out a CA beside etcd that has not signed its certificate", async () => {
  using node = here(await nodeOf("KubeKey 3"));
  bring(node, STRANGER);
  const to = await identityToRecipient(await generateX25519Identity());
  const { exitCode, stderr } = await node.run(`hand-over pack --to ${to} --out keys.age`);
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("etcd/ca         not in it"),
  });
});

test.each([
  [
    "the free blocks of a disk",
    (node: Node) => {
      write(
        `${node.root}/root/image`,
        Buffer.concat([Buffer.alloc(8192), Buffer.from(ETCD_PKI.caKey), Buffer.alloc(8192)]),
      );
      return `00-salvage disk --image ${node.root}/root/image`;
    },
  ],
  [
    "a backup",
    (node: Node) => {
      write(`${node.root}/root/old/ssl/etcd/ssl/ca-key.pem`, ETCD_PKI.caKey);
      return "00-salvage files --backup /root/old";
    },
  ],
])("00-salvage finds the key of etcd's CA in %s, by the machine's trust store", async (_, made) => {
  using node = await lostNode(false);
  write(`${node.root}/usr/local/share/ca-certificates/etcd-ca.crt`, ETCD_PKI.ca, 0o640);
  const { stderr } = await node.run(made(node));
  expect(stderr).toContain("etcd/ca.key: found in ");
  expect([node.read(`${SSL}/ca.pem`), node.read(`${SSL}/ca-key.pem`)]).toEqual([ETCD_PKI.ca, ETCD_PKI.caKey]);
});

const PEERS = ["m2", "m3"].map((name, i) => ({
  ...{ name, at: ADDRESS.replace(/1$/, String(i + 2)), id: `${i}b1b2c3d4e5f6071` },
}));
const MEMBERS = [
  UNIT_MEMBER,
  ...PEERS.map(({ at, id }, i) => ({ id, name: `etcd${i + 2}`, peerURLs: [`https://${at}:2380`] })),
];

/** Three members; /etc/ssl/etcd is lost on the first. */
async function ofThree() {
  const etcd = (objects: Objects) => {
    external(objects, "KubeKey 3");
    for (const { name, at } of PEERS) {
      const as = (object: unknown) =>
        JSON.parse(JSON.stringify(object).replaceAll(ADDRESS, at).replaceAll("m1", name));
      for (const key of ["minions/m1", "pods/kube-system/kube-apiserver-m1"])
        objects[key.replace("m1", name)] = as(objects[key]);
    }
  };
  const node = here(await nodeOf("KubeKey 3", { commands: UNIT, members: MEMBERS, etcd }));
  rmSync(`${node.root}/etc/ssl/etcd`, { recursive: true });
  return node;
}

const servingAt = ({ stored }: Node, at: string, pki = ETCD_PKI) =>
  serveUnit(pki, { ...sameEtcd(stored), members: MEMBERS }, at);

test("beside members that live, no new CA is made: a line brings theirs, and another one stops them as units", async () => {
  using node = await ofThree();
  using _m2 = servingAt(node, PEERS[0]!.at);
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("01-etcd --new-internal-cas");
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 3,
    stderr: expect.stringMatching(/hand-over\.ts pack[\s\S]*systemctl stop kubelet etcd/),
  });
  expect(node.fingerprint()).toEqual(before);
});

test("with their CA's key, this member gets the names that theirs have, and they prove it", async () => {
  using node = await ofThree();
  bring(node);
  using _m1 = servingAt(node, ADDRESS);
  using _m2 = servingAt(node, PEERS[0]!.at);
  using _m3 = servingAt(node, PEERS[1]!.at);
  const { exitCode, stderr } = await node.run("01-etcd");
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("saved a snapshot of etcd"),
  });
  const { dns, ips } = certInfo(node.read(`${SSL}/member-m1.pem`)).sans;
  expect(dns).toEqual(expect.arrayContaining(["m1", "m2", "m3", ...certInfo(ETCD_PKI.cert).sans.dns]));
  expect(ips).toEqual(
    expect.arrayContaining([...PEERS.map(({ at }) => at), ...certInfo(ETCD_PKI.cert).sans.ips]),
  );
});

test("another cluster's CA is asked about before anything is made, if a member that lives shows a certificate of its own", async () => {
  using node = await ofThree();
  bring(node, STRANGER);
  using _m2 = servingAt(node, PEERS[0]!.at);
  await expectRefusal(node, "01-etcd", "is of another CA", /one etcd needs one CA/, 3);
});

test("with a new CA the first of three waits for the others, and says what carries it to them", async () => {
  using node = await ofThree();
  const { exitCode, stderr } = await run(node, "01-etcd --new-internal-cas", { lives: true });
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringMatching(
      /etcd runs here\. It answers when 2 of its 3 members run; now 1\n[\s\S]*next: \.\/bunw scripts\/hand-over\.ts pack/,
    ),
  });
  const [ca, cert, key] = ["ca.pem", "member-m1.pem", "member-m1-key.pem"].map((file) =>
    node.read(`${SSL}/${file}`),
  );
  const calls = node.calls().length;
  using _m1 = servingAt(node, ADDRESS, { ...ETCD_PKI, ca: ca!, cert: cert!, key: key! });
  expect(await node.run("01-etcd")).toMatchObject({ exitCode: 0 });
  expect(
    node
      .calls()
      .slice(calls)
      .filter((call) => /systemctl (stop|restart) .*etcd/.test(call)),
  ).toEqual([]);
});

test("a member that was off gets the new CA by hand-over --move-aside, then its certificates, and starts with it", async () => {
  using node = here(await nodeOf("KubeKey 3", { commands: UNIT }));
  using other = here(await nodeOf("KubeKey 3"));
  const { cert, key } = STRANGER;
  write(`${other.root}${SSL}/ca.pem`, cert);
  write(`${other.root}${SSL}/ca-key.pem`, key);
  const leaf = await issueLeaf(certRow("etcd-server"), STRANGER, FACTS);
  write(`${other.root}${SSL}/member-m1.pem`, leaf.cert);
  write(`${other.root}${SSL}/member-m1-key.pem`, leaf.key);
  const identity = await generateX25519Identity();
  await other.run(`hand-over pack --to ${await identityToRecipient(identity)} --out keys.age`);
  write(`${node.root}/root/id`, `${identity}\n`);
  cpSync(`${other.root}/root/keys.age`, `${node.root}/root/keys.age`);
  const hash = certInfo(other.ca.cert).publicKeyHash;
  const unpack = `hand-over unpack keys.age --identity id --ca-hash ${hash}`;
  expect(await node.run(unpack)).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("etcd/ca.crt"),
  });
  expect(await node.run(`${unpack} --move-aside`)).toMatchObject({ exitCode: 0 });
  const { stderr } = await run(node, "01-etcd", { lives: false });
  expect(stderr).toContain("restarted etcd.service");
  for (const name of NAMES) expect(signedBy(node.read(`${SSL}/${name}.pem`), cert)).toBe(true);
});

test("a bundle's CA of etcd is left in it where etcd has its files, and another CA", async () => {
  using well = await nodeOf("KubeKey 3");
  const identity = await generateX25519Identity();
  await well.run(`hand-over pack --to ${await identityToRecipient(identity)} --out keys.age`);
  using node = here(await nodeOf("KubeKey", { wiped: true }));
  write(`${node.root}/root/id`, `${identity}\n`);
  cpSync(`${well.root}/root/keys.age`, `${node.root}/root/keys.age`);
  const hash = certInfo(well.ca.cert).publicKeyHash;
  const { exitCode, stderr } = await node.run(`hand-over unpack keys.age --identity id --ca-hash ${hash}`);
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("etcd/ca: left in the bundle"),
  });
  expect(readdirSync(node.root + SSL).sort()).toEqual(["ca.crt", "server.crt", "server.key"]);
  expect(node.exists("/etc/kubernetes/pki/etcd")).toBe(false);
});

test("00-assess of a node whose etcd has lost its files names them once, with what may bring them back", async () => {
  using node = await lostNode(false);
  write(`${node.root}/usr/local/share/ca-certificates/etcd-ca.crt`, ETCD_PKI.ca, 0o640);
  using _deaf = serveDeaf(ADDRESS);
  const before = node.fingerprint();
  await expectTranscript("00-assess-etcd-pki-lost", await node.run("00-assess"));
  expect(node.fingerprint()).toEqual(before);
  const plan = await node.run("plan");
  expect(plan.stdout).toContain("scripts/01-etcd.ts --new-internal-cas");
});
