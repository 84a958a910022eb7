/** 00-assess as operators run it, on pretend nodes. It says what it sees and changes nothing. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { ANSWER_SCHEMA } from "../../shared/json-answer.ts";
import { write } from "../pretend/cluster.ts";
import { UUID } from "../pretend/hostile-pods.ts";
import { podRecord } from "../pretend/memory.ts";
import { expectTranscript, type NodeOptions, pretendNode, staticUid } from "../pretend/node.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const CONTROL_PLANE = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/** Runs 00-assess, compares its transcript, and holds every file against what it was. */
async function assess(transcript: string, options: NodeOptions, change?: (root: string) => void) {
  using node = await pretendNode(options);
  change?.(node.root);
  const before = node.fingerprint();
  await expectTranscript(`00-assess-${transcript}`, await node.run("00-assess"));
  expect(node.fingerprint()).toEqual(before);
  expect(
    node
      .calls()
      .filter(
        (call) =>
          !/^(uname|ip|timedatectl show|systemctl (cat|show|is-active)|crictl .* (ps|inspect|inspecti)) /.test(
            call,
          ),
      ),
  ).toEqual([]);
}

test("00-assess on a wiped control plane node says what is lost, where the keys may be, and what comes next", () =>
  assess("wiped-control-plane", {}));

test("00-assess on a healthy control plane node finds nothing damaged", () =>
  assess("healthy-control-plane", {
    kind: "healthy control plane node",
    containers: [...CONTROL_PLANE, "kube-proxy"],
  }));

test("00-assess on a healthy worker finds nothing damaged", () => assess("worker", { kind: "worker" }));

test("00-assess on a machine that is no node says what it looked for", () =>
  assess("no-node", { kind: "no node" }));

test("00-assess on a wiped control plane node whose processes still run says that memory is worth a try", () =>
  assess("processes-left", { containers: CONTROL_PLANE }));

test("00-assess does not say that no process is left where it cannot look at the containers", () =>
  assess("no-crictl", { without: ["crictl"] }));

test("00-assess says so when the data is encrypted, and still shows the files", () =>
  assess("encrypted", {
    etcd: (objects) => {
      for (const key of Object.keys(objects))
        if (!key.startsWith("minions")) objects[key] = "k8s:enc:aescbc:v1:key1:\u0001\u0002";
    },
  }));

test("00-assess says so when etcd's data is not of a Kubernetes cluster", () =>
  assess("other-data", {
    etcd: (objects) => {
      for (const key of Object.keys(objects)) delete objects[key];
      objects["/something/else"] = "1";
    },
  }));

test("00-assess on a machine whose address has changed names both addresses", () =>
  assess("other-address", {
    commands: [
      {
        command: "ip -j addr",
        stdout: JSON.stringify([{ addr_info: [{ scope: "global", local: "10.9.9.9" }] }]),
      },
    ],
  }));

test("00-assess names files that cannot be read, and does not stop at them", () =>
  assess("garbage", { kind: "healthy control plane node" }, (root) => {
    for (const file of ["pki/ca.crt", "manifests/kube-controller-manager.yaml", "admin.conf"])
      writeFileSync(`${root}/etc/kubernetes/${file}`, "{ garbage\n\t: [");
    writeFileSync(`${root}/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem`, "garbage");
  }));

test("00-assess where only etcd's CA and the front-proxy CA are lost says that they alone can be made new", () =>
  assess("internal-lost", { kind: "healthy control plane node" }, (root) => {
    // without their keys nothing is lost before one of their certificates is
    const files = ["etcd/ca.key", "front-proxy-ca.key", "etcd/peer.crt", "front-proxy-client.crt"];
    for (const file of files) rmSync(`${root}/etc/kubernetes/pki/${file}`);
  }));

/**
 * A control plane node whose etcd runs on three other machines: no data, no manifest and no certificates of
 * etcd here.
 */
function external(root: string) {
  for (const path of ["/var/lib/etcd", "/etc/kubernetes/manifests/etcd.yaml", "/etc/kubernetes/pki/etcd"])
    rmSync(root + path, { recursive: true });
  const path = `${root}/etc/kubernetes/manifests/kube-apiserver.yaml`;
  const servers = "--etcd-servers=https://127.0.0.31:2379,https://127.0.0.32:2379";
  writeFileSync(path, readFileSync(path, "utf8").replace(/--etcd-servers=\S+/, servers));
}

/** What the kubelet keeps of a static pod while it does not run. */
function podFolder(root: string, name: string) {
  mkdirSync(`${root}/var/lib/kubelet/pods/${staticUid(name)}/containers/${name}`, { recursive: true });
}

test("00-assess on a control plane node with external etcd says so, and names the files by which the API server reaches it", () =>
  assess("external-etcd", { kind: "healthy control plane node" }, external));

test("00-assess on a wiped control plane node with external etcd knows it by what the kubelet keeps of its static pods", () =>
  assess("external-etcd-wiped", { kind: "healthy control plane node" }, (root) => {
    for (const path of ["/var/lib/etcd", "/etc/kubernetes"]) rmSync(root + path, { recursive: true });
    podFolder(root, "kube-apiserver");
  }));

test("00-assess on a worker names the files of its kubelet that nobody can make again, and what to do first", async () => {
  using node = await pretendNode({ kind: "worker" });
  const folder = "/etc/kubernetes/kubelet.conf.d";
  write(`${node.root}/etc/default/kubelet`, `KUBELET_EXTRA_ARGS=--config-dir=${folder}\n`);
  const { stdout, exitCode } = await node.run("00-assess");
  expect(exitCode).toBe(2);
  expect(stdout).toMatch(
    new RegExp(
      `${folder} +!MISSING! +named by kubelet --config-dir; cannot be rebuilt; without it the kubelet does not start`,
    ),
  );
  expect(stdout).toContain(`\nnext\n  scp -rp root@NODE:${folder} /etc/kubernetes/   #`);
});

test.each([
  ["a-team", "miner"],
  ["kube-system", "clustermesh-apiserver-7d-x"],
])(
  "00-assess on a worker does not take it for a control plane node by what %s/%s calls a container",
  async (namespace, pod) => {
    using node = await pretendNode({ kind: "worker" });
    mkdirSync(`${node.root}/var/lib/kubelet/pods/${UUID}/containers/etcd`, { recursive: true });
    podRecord(node.root, namespace, pod, UUID);
    expect((await node.run("00-assess")).stderr).toContain("node w1 (worker)");
  },
);

test("00-assess on a control plane node whose etcd data is lost does not take it for a worker", () =>
  assess("etcd-data-lost", { kind: "healthy control plane node" }, (root) =>
    rmSync(`${root}/var/lib/etcd`, { recursive: true }),
  ));

test("00-assess where only a key tells that this is a control plane node says what it cannot tell", async () => {
  using node = await pretendNode({ kind: "worker" });
  writeFileSync(`${node.root}/etc/kubernetes/pki/sa.key`, "");
  const { exitCode, stdout } = await node.run("00-assess");
  expect(exitCode).toBe(2);
  expect(stdout).toContain(
    'This is a control plane node (/etc/kubernetes/pki/sa.key), and there is no "/var/lib/etcd": its etcd data is lost, or its etcd is external\n',
  );
});

test.each(["01-etcd --new-cas", "02-control-plane", "03-workers open", "04-sa-tokens"])(
  "%s on a control plane node with external etcd refuses, and changes nothing",
  async (line) => {
    using node = await pretendNode({ kind: "healthy control plane node" });
    external(node.root);
    const before = node.fingerprint();
    const { exitCode, stderr } = await node.run(line);
    expect(exitCode).toBe(3);
    expect(stderr).toContain(
      "error: This cluster's etcd is external (https://127.0.0.31:2379, https://127.0.0.32:2379), and no client pair for it is here: /etc/kubernetes/pki/etcd/ca.crt is missing. Nothing was changed\n",
    );
    expect(stderr).toContain(
      "hint: make a client pair on one etcd host, in the folder with the key of etcd's CA ",
    );
    expect(node.fingerprint()).toEqual(before);
  },
);

test("05-verify on a control plane node without etcd data says that only its kubelet was looked at; it is damage where etcd was here", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
  expect((await node.run("05-verify")).stdout).toContain(
    "  failed   etcd: data on this control plane node: This is a control plane node (",
  );
  rmSync(`${node.root}/etc/kubernetes/manifests/etcd.yaml`);
  writeFileSync(
    `${node.root}/etc/kubernetes/manifests/kube-apiserver.yaml`,
    "spec: {containers: [{command: [--etcd-servers=https://127.0.0.31:2379]}]}",
  );
  expect((await node.run("05-verify")).stdout).toMatch(
    / {2}warning {2}etcd: .* external, and does not answer at .*; only this node's kubelet was checked\n/,
  );
});

test("00-assess --json gives the same as JSON, and nothing else on stdout", async () => {
  using node = await pretendNode();
  const { exitCode, stdout } = await node.run("00-assess --json");
  const { role, kubernetes, damaged, next } = JSON.parse(stdout) as Record<string, unknown>;
  expect({ exitCode, role, kubernetes, damaged }).toEqual({
    exitCode: 2,
    role: "control plane",
    kubernetes: "v1.34.4",
    damaged: true,
  });
  expect(next).toContain("systemctl stop kubelet");
});

test.each([
  ["no server runs", ["kube-proxy"], "outage now", "pods and Services as they are. The first"],
  [
    "servers still have it in memory",
    ["kube-apiserver", "etcd"],
    "outage later",
    "all that has a certificate, until that expires; ",
  ],
] as const)(
  "00-assess --output json says how bad a lost CA key is, and until when it can wait, where %s",
  async (_, containers, severity, works) => {
    using node = await pretendNode({ containers: [...containers] });
    const { schemaVersion, summary, checks } = JSON.parse((await node.run("00-assess --output json")).stdout);
    expect([schemaVersion, summary.failed]).toEqual([
      ANSWER_SCHEMA,
      checks.filter(({ result }: { result: string }) => result === "failed").length,
    ]);
    expect(checks.find(({ id }: { id: string }) => id === "certificate-ca")).toMatchObject({
      ...{ id: "certificate-ca", area: "files", what: "pki/ca.crt, pki/ca.key", result: "failed", severity },
      state: "missing",
      detail: expect.stringContaining("missing: signs: apiserver, "),
      works: expect.stringMatching(
        new RegExp(`^${RegExp.escape(works)}.* certificate that is still here expires on DATE$`),
      ),
      mend: "what it names as next",
    });
  },
);

test("00-assess --output short prints what is damaged, the worst first, and what comes next", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  for (const file of ["admin.conf", "pki/apiserver.crt"]) rmSync(`${node.root}/etc/kubernetes/${file}`);
  const { stdout, exitCode } = await node.run("00-assess --output short");
  expect(exitCode).toBe(2);
  expect(stdout).toStartWith("verdict: 2 files are missing. The CAs ");
  expect(stdout.split("\n").slice(-3)).toEqual([
    "  failed   files: pki/apiserver.crt, pki/apiserver.key: !CERTIFICATE MISSING!: the key is there without its certificate",
    "  failed   files: admin.conf: !MISSING!",
    "",
  ]);
  expect(stdout).toContain("\nnext\n  ./bunw scripts/01-etcd.ts\n");
});

/** kubeadm's external CA mode: no ca.key, and a controller-manager that has nothing to sign with. */
async function externalCa() {
  const node = await pretendNode({
    kind: "healthy control plane node",
    etcd(objects) {
      const key = "pods/kube-system/kube-controller-manager-m1";
      objects[key] = JSON.parse(
        JSON.stringify(objects[key]).replaceAll(/"--cluster-signing-(cert|key)-file=[^"]*",/g, ""),
      );
    },
  });
  const path = `${node.root}/etc/kubernetes/manifests/kube-controller-manager.yaml`;
  writeFileSync(
    path,
    readFileSync(path, "utf8").replaceAll(/ +- --cluster-signing-(cert|key)-file=.*\n/g, ""),
  );
  rmSync(`${node.root}/etc/kubernetes/pki/ca.key`);
  return node;
}

test("00-assess does not miss the key of an external CA", async () => {
  using node = await externalCa();
  const { exitCode, stdout } = await node.run("00-assess --all");
  expect([exitCode, stdout]).toEqual([
    0,
    expect.stringMatching(
      / pki\/ca\.crt, pki\/ca\.key +ok .*; an external CA: its key is not on the control plane nodes\n/,
    ),
  ]);
});

test("where an external CA has to sign something, 00-assess, 01-etcd and 02-control-plane say what, and no new CA is made", async () => {
  using node = await externalCa();
  rmSync(`${node.root}/etc/kubernetes/pki/apiserver.crt`);
  const { exitCode, stdout } = await node.run("00-assess");
  expect([exitCode, stdout]).toEqual([2, expect.stringMatching(/^verdict: the cluster's CA is external: /)]);
  const before = node.fingerprint();
  for (const line of ["01-etcd --new-cas", "02-control-plane"]) {
    const { exitCode, stderr } = await node.run(line);
    expect([exitCode, stderr]).toEqual([
      3,
      expect.stringContaining(
        "its key never was on the control plane nodes). It has to issue /etc/kubernetes/pki/apiserver.crt\nhint: put the external CA's ca.key ",
      ),
    ]);
  }
  expect(node.fingerprint()).toEqual(before);
});

test.each([
  ["pki/ca.crt", "scp -p root@NODE:/etc/kubernetes/pki/ca.crt /etc/kubernetes/pki/ca.crt"],
  ["../../var/lib/kubelet/pki/kubelet-client-current.pem", "put the external CA's ca.key"],
])("01-etcd says how %s comes back where the CA is external, and stops nothing", async (file, hint) => {
  using node = await externalCa();
  rmSync(`${node.root}/etc/kubernetes/${file}`);
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("01-etcd");
  expect([exitCode, stderr]).toEqual([3, expect.stringContaining(`hint: ${hint}`)]);
  expect(node.fingerprint()).toEqual(before);
});

test("with an external CA 00-salvage does not search for its key, and hand-over does not pack", async () => {
  using node = await externalCa();
  const { exitCode, stderr } = await node.run("00-salvage");
  expect([exitCode, stderr]).toEqual([0, expect.stringContaining("/etc/kubernetes/pki: nothing is lost\n")]);
  expect((await node.run("hand-over pack --generate")).stderr).toContain(
    "error: The cluster's CA is external: its key is not here to be packed\n",
  );
});

test("what an external CA does not sign is repaired without it", async () => {
  using node = await externalCa();
  rmSync(`${node.root}/etc/kubernetes/pki/front-proxy-client.crt`);
  const { exitCode, stderr } = await node.run("02-control-plane --dry-run");
  expect([exitCode, stderr]).toEqual([
    0,
    expect.stringContaining("would write /etc/kubernetes/pki/front-proxy-client.crt "),
  ]);
});
