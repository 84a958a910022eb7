/** plan as operators run it, on pretend nodes: RUNBOOK.md for this cluster and this damage, line by line. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ANSWER_SCHEMA } from "../../shared/json-answer.ts";
import { trustedKeys } from "../../shared/pki/certificate.ts";
import { healthyCp, write } from "../pretend/cluster.ts";
import { agedText } from "../pretend/expired.ts";
import { bigInt, POD_UID, podRecord, pretendProcess } from "../pretend/memory.ts";
import { expectTranscript, type NodeOptions, pretendNode } from "../pretend/node.ts";
import { tokenBy } from "../pretend/old-keys.ts";
import { AT, MEMBERS, pasted, plan, reachable, setAddress, three } from "../pretend/plan.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const { root: healthy } = await healthyCp();
const HOME = join(import.meta.dir, "../..");
const PKI = "/etc/kubernetes/pki";
const HEALTHY: NodeOptions = { kind: "healthy control plane node" };

async function expire(root: string) {
  const signer = (file: string) =>
    /etcd/.test(file) ? "etcd/ca" : /front-proxy/.test(file) ? "front-proxy-ca" : "ca";
  const files = [PKI, `${PKI}/etcd`, "/etc/kubernetes", "/var/lib/kubelet/pki"].flatMap((folder) =>
    readdirSync(root + folder).flatMap((name) =>
      /^(?!.*ca\.crt).*\.(crt|conf)$|-2.*\.pem$/.test(name) ? [join(folder, name)] : [],
    ),
  );
  for (const file of files) {
    const text = await agedText(
      readFileSync(root + file, "utf8"),
      readFileSync(`${healthy}${PKI}/${signer(file)}.key`, "utf8"),
    );
    if (text) writeFileSync(root + file, text);
  }
}

const OWN = {
  key: readFileSync(`${healthy}${PKI}/sa.key`, "utf8"),
  pub: readFileSync(`${healthy}${PKI}/sa.pub`, "utf8"),
};
const MANAGER = {
  pid: 31,
  comm: "kube-controller",
  holds: ["ca.key", "sa.key"].map((file) =>
    bigInt(createPrivateKey(readFileSync(`${healthy}${PKI}/${file}`, "utf8"))),
  ),
};

test("a plan where all is lost: every line of the repair, in order, with names and addresses", async () => {
  await expectTranscript("plan-all-lost", await plan({}));
});

test("a plan where all certificates have expired is a handful of lines", async () => {
  await expectTranscript("plan-expired", await plan({ ...HEALTHY, change: expire }));
});

test("three control plane nodes whose certificates have expired: no key travels, and each of them is repaired", async () => {
  const { stdout } = await plan({ ...HEALTHY, etcd: three, members: MEMBERS, change: expire });
  expect(pasted(stdout.split("\n## 6 ")[0]!).join("\n")).not.toMatch(/hand-over|systemctl stop|04-sa/);
  expect(pasted(stdout).filter((line) => line.includes("01-etcd"))).toEqual([
    "m1# 01-etcd.ts",
    "m2# 01-etcd.ts",
    "m3# 01-etcd.ts",
  ]);
});

test("all lost on three control plane nodes: the others are looked at, and get the new keys", async () => {
  await expectTranscript("plan-ha-all-lost", await plan({ etcd: three, members: MEMBERS }));
});

test("keys in memory are read back, only two CAs are made new, and no running pod restarts", async () => {
  const lost = (root: string) => {
    rmSync(root + PKI, { recursive: true });
    pretendProcess(root, MANAGER);
    podRecord(root, "kube-system", "kube-proxy-x", POD_UID);
    const token = tokenBy(OWN, { alg: "ES256", of: "kube-system:kube-proxy", issuedAt: 1000 });
    write(
      `${root}/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/kube-api-access/token`,
      token,
    );
  };
  await expectTranscript("plan-pki-lost-alive", await plan({ ...HEALTHY, change: lost }));
});

test("where another key is in the place of a lost one, it is moved aside", async () => {
  const change = (root: string) => {
    writeFileSync(`${root}${PKI}/ca.key`, readFileSync(`${healthy}${PKI}/etcd/ca.key`));
    pretendProcess(root, MANAGER);
  };
  const { stdout } = await plan({ ...HEALTHY, change });
  expect(pasted(stdout)).toContain("m1# 00-salvage.ts --move-aside");
});

test("where only sa.key is lost, no worker joins", async () => {
  const { stdout } = await plan({ ...HEALTHY, change: (root) => rmSync(`${root}${PKI}/sa.key`) });
  expect(stdout).toContain(
    "keys that nobody has any more. It makes new ones: every pod with a token restarts once",
  );
  expect(stdout).toContain(
    "Not looked at: w1, w2. A worker that has lost its own files has to join again.**",
  );
  expect(pasted(stdout).join("\n")).toMatch(/--new-cas\n[\s\S]*04-sa-tokens/);
  expect(pasted(stdout).join("\n")).not.toMatch(/LINE|token root/);
});

test("a healthy control plane node prints the plan for the others; alone, it has nothing to do", async () => {
  const { stdout } = await plan({ ...HEALTHY, etcd: three, members: MEMBERS });
  expect(stdout).toContain(
    "\n**Nothing is damaged on this node. Look at m2, m3 first, by the lines that ask all nodes. If one of them is damaged, this plan repairs that node with the keys of this one.**\n",
  );
  expect(pasted(stdout).join("\n")).toMatch(/hand-over\.ts pack.*\n(set -o pipefail; ssh -n .*\n)+m2# LINE/);
  const alone = await plan(HEALTHY);
  expect([alone.exitCode, pasted(alone.stdout)]).toEqual([0, []]);
});

const EVIL = "10.0.0.9; reboot `x` $(y) </code><img src=x>";

/** As 00-assess says it of a control plane node. */
function lostEverything(node: string) {
  const keys = ["ca", "front-proxy-ca", "etcd/ca", "sa"].map((name) => ({ name, places: [] }));
  const hashes = [...trustedKeys(readFileSync(`${healthy}${PKI}/ca.crt`, "utf8"))];
  const says = {
    schemaVersion: ANSWER_SCHEMA,
    ended: "ok",
    node,
    role: "control plane",
    made: new Date(),
    ca: { hashes },
  };
  return { ...says, damaged: true, damage: [], survivors: [{}], deep: { keys, unread: [] } };
}

test("what somebody wrote into a Node gets into no line: a placeholder stands there, and the reason", async () => {
  // by an address of this machine no Node is a member
  const far = (text: string) => text.replaceAll(AT.m2, "10.77.0.12").replaceAll(AT.m3, "10.77.0.13");
  const { stdout } = await plan({
    etcd(objects) {
      three(objects);
      setAddress(objects, "w1", EVIL, "10.77.0.13");
      setAddress(objects, "w2", "10.77.0.13", "10.77.0.22", "::ffff:10.77.0.99");
      objects["minions/m2"] = JSON.parse(far(JSON.stringify(objects["minions/m2"])));
      objects["minions/w3"] = JSON.parse(
        JSON.stringify(objects["minions/w1"]).replaceAll('"w1"', JSON.stringify(`w3 ${EVIL}`)),
      );
      setAddress(objects, "w3", "10.77.0.23");
      objects["minions/m3"] = JSON.parse(
        JSON.stringify(objects["minions/m3"]).replaceAll(AT.m3, "169.254.169.254"),
      );
    },
    members: JSON.parse(far(JSON.stringify(MEMBERS))),
    // nothing answers at those addresses in a network of its own: the others have been asked by ssh
    change: (root) => {
      for (const name of ["m2", "m3"])
        write(`${root}/root/seen/${name}.json`, JSON.stringify(lostEverything(name)));
    },
    args: "--lost-on m2,m3 --seen /root/seen",
  });
  expect(pasted(stdout).join("\n")).not.toMatch(/reboot|\$\(y|img|169\.254/);
  const fences = [...stdout.matchAll(/```sh\n([\s\S]*?)\n```/g)].map(([, lines]) => lines).join("\n");
  expect(fences).not.toMatch(/reboot|\$\(y|img/);
  expect(pasted(stdout).filter((line) => line.includes("join") || line.includes("LINE"))).toEqual([
    "m2# LINE",
    "m3# LINE",
    "w1# LINE",
    "w2# LINE",
    "node 6# LINE",
  ]);
  expect(stdout).toContain("- ADDRESS-OF-w1: write its address in yourself. ");
  expect(stdout).toContain("\\<img src=x\\>");
});

test("with many workers there are ten lines for your machine: the others are named, and each is in the heading of its step", async () => {
  const { stdout } = await plan({
    etcd(objects) {
      for (let i = 1; i <= 100; i++) {
        objects[`minions/w${i}`] = JSON.parse(
          JSON.stringify(objects["minions/w1"]).replaceAll('"w1"', `"w${i}"`),
        );
        setAddress(objects, `w${i}`, `10.78.0.${i}`);
      }
    },
  });
  expect(stdout.match(/^set -o pipefail; ssh -n .*token\.d\/w\d+ .*$/gm)).toHaveLength(10);
  expect(stdout).toMatch(/^# and in the same way for w\d+, .* and \d+ more$/m);
  expect(stdout).not.toMatch(/xargs|workers=/);
});

test("plan looks at the node once: it calls the programs that 00-assess calls, as often, and asks where the disk is", async () => {
  const callsOf = async (line: string) => {
    using node = await pretendNode({ etcd: reachable });
    await node.run(line);
    return node.calls().toSorted();
  };
  const calls = await callsOf("plan");
  expect(calls.length).toBeGreaterThan(3);
  const others = calls.filter((call) => !call.startsWith("findmnt "));
  expect(others).toEqual(await callsOf("00-assess --deep --no-disk"));
});

test("plan FILE writes that file, and no other", async () => {
  using node = await pretendNode({ etcd: reachable });
  const { exitCode, stdout, stderr } = await node.run(`plan ${node.root}/plan.md`);
  expect([exitCode, stdout, stderr]).toEqual([2, "", expect.stringContaining("wrote ROOT/plan.md")]);
  expect(stderr).toMatch(/^ {2}to your machine: .*root@127\.77\.0\.11.*\/plan\.md/m);
  expect(node.read(`${node.root}/plan.md`)).toMatch(/^# The plan for the cluster kubernetes\n[\s\S]*\n$/);
  expect(statSync(`${node.root}${node.root}/plan.md`).mode & 0o777).toBe(0o600);
});

test.each([["worker", "", 3, /error: "w1" is no control plane node: /]] as const)(
  "on a %s, `plan %s` is refused",
  async (kind, args, code, error) => {
    using node = await pretendNode({ kind });
    const { exitCode, stdout, stderr } = await node.run(`plan ${args}`.trim());
    expect([exitCode, stdout, stderr]).toEqual([code, "", expect.stringMatching(error)]);
  },
);

test("where etcd's data cannot be read, the plan is what comes first", async () => {
  const { stdout } = await plan({
    etcd(objects) {
      for (const key of Object.keys(objects)) objects[key] = "k8s:enc:aescbc:v1:key1:\u0001\u0002";
    },
  });
  expect(stdout).toContain(
    "\n> This comes first. Then print the plan again.\n\n```sh\n./bunw scripts/plan.ts\n```\n\n> bring the EncryptionConfiguration back first, ",
  );
  expect(stdout).not.toContain("### [ ]");
});

test("a kit without RUNBOOK.md says so", async () => {
  using node = await pretendNode();
  const kit = mkdtempSync(join(tmpdir(), "kit-"));
  for (const name of ["scripts", "shared"]) cpSync(join(HOME, name), join(kit, name), { recursive: true });
  for (const name of ["node_modules", "package.json", "tsconfig.json"])
    symlinkSync(join(HOME, name), join(kit, name));
  const env = { ...node.env, KUBE_PKI_REPAIR_ROOT: node.root };
  const child = Bun.spawn([process.execPath, "scripts/plan.ts"], {
    cwd: kit,
    env,
    stdout: "pipe",
    stderr: "pipe",
  });
  const [code, stderr] = await Promise.all([child.exited, new Response(child.stderr).text()]);
  rmSync(kit, { recursive: true });
  expect([code, stderr]).toEqual([
    1,
    expect.stringContaining("error: RUNBOOK.md is not in the kit's folder: "),
  ]);
});

test("--endpoint is kept here: only the plan that another node makes is told; what is no place is refused", async () => {
  const { stdout, stderr } = await plan({
    etcd: three,
    members: MEMBERS,
    args: "--endpoint lb.example:6443",
  });
  expect(stderr).toContain(
    "/run/kube-pki-repair-words.json (what was said: the API is reached at lb.example:6443)",
  );
  const has = stdout.split("\n").filter((line) => line.includes("--endpoint"));
  expect(has).toHaveLength(2);
  for (const line of has) expect(line).toBe("./bunw scripts/plan.ts --endpoint lb.example:6443");
  const wrong = await plan({ args: "--endpoint a/b" });
  expect(wrong).toMatchObject({
    exitCode: 3,
    stderr: expect.stringContaining('--endpoint "a/b" is no address'),
  });
});
