/**
 * Files that flags name and no one can make again: named at once, before anything is touched, and brought
 * back from copies.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, rmSync, statSync } from "node:fs";
import { parse } from "yaml";
import { manifestText } from "../../shared/manifests/on-disk.ts";
import type { Manifest } from "../../shared/objects/objects.ts";
import { healthyCp, manifest, mirrorPod, type Objects, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { pretendProcess } from "../pretend/memory.ts";
import { type NodeOptions, pretendNode } from "../pretend/node.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();

const FOLDER = "/etc/kubernetes/hardening";
const FLAGS = {
  "encryption-provider-config": `${FOLDER}/encryption.yaml`,
  "authentication-config": `${FOLDER}/authentication.yaml`,
  "authorization-config": `${FOLDER}/authorization.yaml`,
  "admission-control-config-file": `${FOLDER}/admission.yaml`,
  // its name is like that of a file that part 1 makes
  "kubelet-certificate-authority": `${FOLDER}/ca.crt`,
  "oidc-ca-file": `${FOLDER}/oidc.conf`,
};

/** Its own folder, and one file that is mounted by itself. */
function hardened(objects: Objects) {
  const pod = mirrorPod("kube-apiserver");
  const container = pod.spec.containers[0]!;
  container.command!.push(
    ...Object.entries(FLAGS).map(([flag, path]) => `--${flag}=${path}`),
    "--audit-webhook-config-file=/etc/audit.conf",
  );
  const mounts = { hardening: FOLDER, "audit-webhook": "/etc/audit.conf" };
  for (const [name, path] of Object.entries(mounts)) {
    container.volumeMounts!.push({ name, mountPath: path });
    pod.spec.volumes!.push({ name, hostPath: { path, type: path === FOLDER ? "Directory" : "File" } });
  }
  objects["pods/kube-system/kube-apiserver-m1"] = pod;
}

const UNIT = "--config=/var/lib/kubelet/config.yaml --config-dir=/etc/kubernetes/kubelet.conf.d";
const hardenedNode = (options: NodeOptions = {}) =>
  pretendNode({
    etcd: hardened,
    commands: [{ command: "systemctl cat kubelet", stdout: UNIT }, ...(options.commands ?? [])],
    ...options,
  });

const LOST = [
  ...Object.values(FLAGS),
  "/etc/audit.conf",
  "/etc/kubernetes/audit/policy.yaml",
  "/etc/kubernetes/kubelet.conf.d",
];

test("00-assess names each lost file with what needs it and what does not run without it, and prints the lines that bring them back", async () => {
  using node = await hardenedNode();
  pretendProcess(node.root, { pid: 32, comm: "kube-apiserver" });
  write(`${node.root}/proc/32/root/etc/audit.conf`, "kind: Config\n");
  const { stdout } = await node.run("00-assess");
  const rows = stdout.split("\n").filter((line) => line.includes("cannot be rebuilt; without it"));
  expect(rows.map((line) => line.trim().split(" ")[0]!).sort()).toEqual([...LOST].sort());
  expect(stdout).toContain(
    "named by kube-apiserver --authorization-config; cannot be rebuilt; without it kube-apiserver does not start",
  );
  expect(stdout).toContain(
    "named by kubelet --config-dir; cannot be rebuilt; without it the kubelet does not start",
  );
  expect(stdout).toMatch(/ {2}\.\/bunw scripts\/00-salvage\.ts files +# still mounted: \/etc\/audit\.conf\n/);
  expect(stdout).toMatch(
    / {2}\.\/bunw scripts\/00-salvage\.ts files --backup DIR +# DIR: your own copies of them\n/,
  );
  expect(JSON.parse((await node.run("00-assess --json")).stdout).filesBack).toHaveLength(4);
});

test("files that lost and found files name in turn are named, too: a plugin's configuration, a webhook's kubeconfig, a KMS socket", async () => {
  using node = await hardenedNode();
  const put = (name: string, text: string) => write(`${node.root}${FOLDER}/${name}`, text);
  put(
    "admission.yaml",
    "kind: AdmissionConfiguration\nplugins: [{name: PodSecurity, path: podsecurity.yaml}]\n",
  );
  put(
    "authorization.yaml",
    `authorizers: [{type: Webhook, webhook: {connectionInfo: {kubeConfigFile: ${FOLDER}/opa.conf}}}]\n`,
  );
  put(
    "encryption.yaml",
    `resources: [{providers: [{kms: {apiVersion: v2, name: vault, endpoint: "unix://${FOLDER}/kms.sock"}}]}]\n`,
  );
  put("oidc.conf", `users: [{user: {client-certificate: client.crt, client-key: ${FOLDER}/client.pem}}]\n`);
  const { damage } = JSON.parse((await node.run("00-assess --json")).stdout) as {
    damage: { what: string; detail: string }[];
  };
  const of = (name: string) => damage.find(({ what }) => what === `${FOLDER}/${name}`)?.detail;
  expect(of("podsecurity.yaml")).toBe(
    `named by ${FOLDER}/admission.yaml; cannot be rebuilt; without it kube-apiserver does not start`,
  );
  expect(of("opa.conf")).toContain(`named by ${FOLDER}/authorization.yaml`);
  expect(of("kms.sock")).toContain(
    `named by ${FOLDER}/encryption.yaml; not there until what serves it runs; without it kube-apiserver gets no answer from the plugin`,
  );
  expect([of("client.crt"), of("client.pem")]).toEqual([
    expect.stringContaining("oidc.conf"),
    expect.stringContaining("oidc.conf"),
  ]);
  expect(of("encryption.yaml")).toBeUndefined();
});

test("01-etcd says all of it before it stops anything, and does not stop a living API server that would not start again", async () => {
  using node = await hardenedNode({ containers: ["etcd", "kube-apiserver"] });
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("01-etcd --new-cas");
  expect(exitCode).toBe(3);
  for (const path of LOST) expect(stderr).toContain(`lost, and only a copy brings it back: ${path} (`);
  expect(stderr).toContain("error: The API server here still runs, but could not start again without ");
  expect(node.calls().filter((call) => /stop|restart/.test(call))).toEqual([]);
  expect(node.fingerprint()).toEqual(before);
  // the same choice as part 2's, said before anything stops; the kubelet's own file has none
  const choice = `--start-without ${[...Object.keys(FLAGS), "audit-webhook-config-file"].join(",")}`;
  expect(stderr).toContain(
    `If nobody has them: ./bunw scripts/01-etcd.ts --new-cas ${choice} starts the API server without the flags that name them (--encryption-provider-config: `,
  );
  const given = await node.run(`01-etcd --new-cas ${choice} --dry-run`);
  expect(given.stderr).toContain("could not start again without /etc/kubernetes/kubelet.conf.d\n");
});

test("00-salvage files brings back what a tied process still has mounted, and the operator's copies, and nothing else of that folder", async () => {
  using node = await hardenedNode();
  const mounts = { "/etc/audit.conf": "kind: Config\n" };
  pretendProcess(node.root, { pid: 32, comm: "kube-apiserver", mounts });
  // a tenant's process of that name
  pretendProcess(node.root, { pid: 40, comm: "kube-apiserver", cgroup: "/kubepods/besteffort/podx/y" });
  write(`${node.root}/proc/40/root${FLAGS["oidc-ca-file"]}`, "planted");
  const copies = {
    "etc/kubernetes/hardening/encryption.yaml": "kind: EncryptionConfiguration\n",
    "hardening/authentication.yaml": "kind: AuthenticationConfiguration\n",
    "authorization.yaml": "kind: AuthorizationConfiguration\n",
    "kubernetes/kubelet.conf.d/10.conf": "kind: KubeletConfiguration\n",
    "etc/kubernetes/pki/ca.key": "not named by a flag",
    "etc/kubernetes/hardening/other.yaml": "not named either",
  };
  for (const [name, text] of Object.entries(copies)) write(`${node.root}/mnt/copies/${name}`, text, 0o640);
  const { stderr } = await node.run("00-salvage files --backup /mnt/copies");
  expect(node.read("/etc/audit.conf")).toBe("kind: Config\n");
  expect(node.read(`${FOLDER}/encryption.yaml`)).toBe("kind: EncryptionConfiguration\n");
  expect(node.read(FLAGS["authentication-config"])).toBe("kind: AuthenticationConfiguration\n");
  expect(node.read(FLAGS["authorization-config"])).toBe("kind: AuthorizationConfiguration\n");
  expect(node.read("/etc/kubernetes/kubelet.conf.d/10.conf")).toBe("kind: KubeletConfiguration\n");
  for (const path of [`${FOLDER}/other.yaml`, "/etc/kubernetes/pki/ca.key", FLAGS["oidc-ca-file"]])
    expect(node.exists(path)).toBe(false);
  expect(stderr).toContain("wrote /etc/audit.conf (still mounted in kube-apiserver (pid 32))");
  expect(stderr).toContain(
    `wrote ${FOLDER}/encryption.yaml (/mnt/copies/etc/kubernetes/hardening/encryption.yaml)`,
  );
  expect((await node.run("00-salvage files --backup /nowhere")).stderr).toContain(
    'error: "/nowhere" is no folder',
  );
});

test("00-salvage files --backup: a stick without permissions makes no file that every user may read or write", async () => {
  using node = await hardenedNode();
  const copy = `${node.root}/mnt/stick/hardening/encryption.yaml`;
  const mode = () => statSync(`${node.root}${FOLDER}/encryption.yaml`).mode & 0o777;
  for (const [there, here] of [
    [0o777, 0o600],
    [0o755, 0o600],
    [0o666, 0o600],
    [0o644, 0o644],
  ] as const) {
    rmSync(`${node.root}${FOLDER}/encryption.yaml`, { force: true });
    write(copy, "kind: EncryptionConfiguration\n");
    chmodSync(copy, there);
    await node.run("00-salvage files --backup /mnt/stick");
    expect(mode()).toBe(here);
  }
});

/** Part 1 is through; the files of the flags are lost. */
async function afterPart1(etcd = hardened) {
  const node = await pretendNode({ kind: "healthy control plane node", etcd, containers: ["etcd"] });
  rmSync(`${node.root}/etc/kubernetes/manifests/kube-apiserver.yaml`);
  return Object.assign(node, { etcd: serveEtcd(node.root, sameEtcd(node.stored)) });
}

test("02-control-plane starts nothing blind: it names the files, the ways back, and what a start without each flag means", async () => {
  using node = await afterPart1();
  using _etcd = node.etcd;
  const { exitCode, stderr } = await node.run("02-control-plane");
  expect(exitCode).toBe(3);
  expect(stderr).toContain(
    `error: Cannot start kube-apiserver: "${FLAGS["encryption-provider-config"]}" (--encryption-provider-config)`,
  );
  expect(stderr).toContain("./bunw scripts/00-salvage.ts files --backup DIR");
  expect(stderr).toContain("--authorization-config: --authorization-mode=Node,RBAC takes its place");
  expect(node.exists("/etc/kubernetes/manifests/kube-apiserver.yaml")).toBe(false);
  const never = await node.run("02-control-plane --start-without etcd-cafile");
  expect([never.exitCode, never.stderr]).toEqual([
    1,
    expect.stringContaining('The API server cannot start without "etcd-cafile"'),
  ]);
});

const SA_2024 = "/etc/kubernetes/pki/sa-2024.pub";
const NAMES_SA_2024 = `--service-account-key-file=${SA_2024}`;
const API_SERVER = "/etc/kubernetes/manifests/kube-apiserver.yaml";

/** Part 1 is through, and the API server's manifest lies there, unchanged: a key that kubeadm never made is lost. */
async function manifestThere(options: { runs?: true; held?: true; lacks?: string } = {}) {
  const pod = mirrorPod("kube-apiserver");
  pod.spec.containers[0]!.command!.push(NAMES_SA_2024);
  const etcd = (objects: Objects) => {
    objects["pods/kube-system/kube-apiserver-m1"] = pod;
  };
  const containers = ["etcd", ...(options.runs ? ["kube-apiserver"] : [])];
  const node = await pretendNode({ kind: "healthy control plane node", etcd, containers });
  const own = manifest("kube-apiserver");
  own.spec.containers[0]!.command!.push(NAMES_SA_2024);
  const path = options.held ? API_SERVER.replace("kube-api", ".kube-api") : API_SERVER;
  rmSync(node.root + API_SERVER);
  write(node.root + path, manifestText(own));
  if (options.lacks) rmSync(node.root + options.lacks);
  return Object.assign(node, { etcd: serveEtcd(node.root, sameEtcd(node.stored)) });
}

const CRT = "/etc/kubernetes/pki/apiserver.crt";
test.each<[string, Parameters<typeof manifestThere>[0]]>([
  ["lies there", {}],
  ["waits as .kube-apiserver.yaml", { held: true }],
  ["is that of an API server that runs, and that this part starts anew", { runs: true, lacks: CRT }],
])(
  "02-control-plane looks at each manifest that will run: one that %s names a lost file, and 2.1 says so with the choice",
  async (_, options) => {
    using node = await manifestThere(options);
    using _etcd = node.etcd;
    const before = node.fingerprint();
    const { exitCode, stderr } = await node.run("02-control-plane");
    expect(stderr).toContain(
      `Cannot start kube-apiserver: "${SA_2024}" (--service-account-key-file) missing`,
    );
    expect(stderr).toContain(
      "If nobody has them: ./bunw scripts/02-control-plane.ts --start-without service-account-key-file starts ",
    );
    expect([exitCode, node.fingerprint()]).toEqual([3, before]);
    const given = await node.run("02-control-plane --start-without service-account-key-file");
    expect(node.read(API_SERVER)).not.toContain(SA_2024);
    expect(given.stderr).toContain(`starts WITHOUT "${SA_2024}" (--service-account-key-file), as you chose`);
  },
);

test("02-control-plane stops nothing for a lost file of an API server that goes on", async () => {
  using node = await manifestThere({ runs: true });
  using _etcd = node.etcd;
  expect((await node.run("02-control-plane --dry-run")).exitCode).toBe(0);
});

test("02-control-plane does not wait for a socket: what serves it may be a static pod that starts with it, or a plugin that comes later", async () => {
  const [kms, signer] = ["/var/run/kms/kms.sock", "/var/run/signer/signer.sock"];
  using node = await afterPart1((objects) => {
    const pod = mirrorPod("kube-apiserver");
    const container = pod.spec.containers[0]!;
    container.command!.push(
      "--encryption-provider-config=/etc/kubernetes/pki/encryption.yaml",
      `--service-account-signing-endpoint=${signer}`,
    );
    for (const [name, path, type] of [
      ["kms", kms, "Socket"],
      ["signer", "/var/run/signer", "DirectoryOrCreate"],
    ] as const) {
      container.volumeMounts!.push({ name, mountPath: path });
      pod.spec.volumes!.push({ name, hostPath: { path, type } });
    }
    objects["pods/kube-system/kube-apiserver-m1"] = pod;
  });
  using _etcd = node.etcd;
  write(
    `${node.root}/etc/kubernetes/pki/encryption.yaml`,
    `resources: [{providers: [{kms: {name: vault, endpoint: "unix://${kms}"}}]}]\n`,
  );
  const { damage } = JSON.parse((await node.run("00-assess --json")).stdout) as {
    damage: { what: string; detail: string }[];
  };
  for (const path of [kms, signer])
    expect(damage.find(({ what }) => what === path)?.detail).toContain("gets no answer");
  const running = node.run("02-control-plane");
  await Promise.race([node.written("/etc/kubernetes/manifests/kube-apiserver.yaml"), running]);
  expect(node.exists("/etc/kubernetes/manifests/kube-apiserver.yaml")).toBe(true);
  await running;
  for (const path of [kms, signer]) expect(node.exists(path)).toBe(false);
});

test("02-control-plane --start-without gives up exactly the flags that the operator names, and keeps those whose files are here", async () => {
  using node = await afterPart1();
  using _etcd = node.etcd;
  write(node.root + FLAGS["encryption-provider-config"], "kind: EncryptionConfiguration\n");
  const names = [...Object.keys(FLAGS), "audit-webhook-config-file"].join(",");
  const running = node.run(`02-control-plane --start-without ${names}`);
  await Promise.race([node.written("/etc/kubernetes/manifests/kube-apiserver.yaml"), running]);
  const { spec } = parse(node.read("/etc/kubernetes/manifests/kube-apiserver.yaml")) as Manifest;
  const command = spec.containers[0]!.command!;
  expect(command).toContain(`--encryption-provider-config=${FLAGS["encryption-provider-config"]}`);
  expect(command).toContain("--authorization-mode=Node,RBAC");
  expect(
    command.filter((word) =>
      /authentication-config|authorization-config|admission-control|oidc|kubelet-cert|webhook/.test(word),
    ),
  ).toEqual([]);
  expect(spec.volumes!.map(({ name }) => name)).toContain("hardening");
  expect(spec.volumes!.map(({ name }) => name)).not.toContain("audit-webhook");
  const { stderr } = await running;
  const said = ` starts WITHOUT "${FLAGS["authentication-config"]}" (--authentication-config), as you chose: `;
  expect(stderr.split("\n").filter((line) => line.includes(said))).toHaveLength(1);
});
