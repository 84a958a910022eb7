/**
 * drill as operators run it, on pretend nodes that are well. It says what would not come back, and changes
 * nothing.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import type { Drill } from "../../shared/drill/drill.ts";
import { BACKUP_MARK } from "../../shared/hand-over/backup-mark.ts";
import { manifestText } from "../../shared/manifests/on-disk.ts";
import { reduced } from "../../shared/manifests/repair-changes.ts";
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import {
  clusterObjects,
  FACTS,
  healthyCp,
  manifest,
  mirrorPod,
  type Objects,
  write,
} from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { expectTranscript, MEMBER, pretendNode } from "../pretend/node.ts";
import { newKeyOf } from "../pretend/old-keys.ts";
import { serveRunning } from "../pretend/running.ts";
import { encryptionConfig, sealed } from "../pretend/sealed.ts";
import { snapshotOf } from "../pretend/write-db.ts";

/** Milliseconds. A script takes half a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();
const PKI = "/etc/kubernetes/pki";
const MANIFESTS = "/etc/kubernetes/manifests";

interface Scene {
  /** Whether the keys were packed; default: yes. */
  packed?: boolean;
  /** Changes the content of etcd. */
  etcd?: (objects: Objects) => void;
  /** Changes the node's files. */
  files?: (root: string) => Promise<void> | void;
}

/**
 * Runs the drill on a healthy node, and holds every byte, every request and every program against what a
 * drill may do.
 */
async function drilled({ etcd, files, packed = true }: Scene, line = "drill") {
  using node = await pretendNode({ kind: "healthy control plane node", ...(etcd && { etcd }) });
  if (packed) for (const [path, content] of await backup()) write(node.root + path, content);
  await files?.(node.root);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = serveRunning(node);
  const before = node.fingerprint();
  const run = await node.run(line);
  expect(node.fingerprint()).toEqual(before);
  expect(api.requests.map(({ method, path }) => `${method} ${path}`)).toEqual(["GET /readyz"]);
  expect(node.calls().filter((call) => !READS.test(call))).toEqual([]);
  return run;
}

let made: Promise<[path: string, content: Uint8Array][]> | undefined;

/**
 * What packing leaves on a node, as RUNBOOK says, "Before it happens". Packed once: all healthy nodes here
 * have the same keys.
 */
function backup() {
  made ??= pack();
  return made;
}

async function pack(): Promise<[path: string, content: Uint8Array][]> {
  using node = await pretendNode({ kind: "healthy control plane node" });
  const recipient = (await node.run("hand-over identity id")).stdout.trim();
  const { exitCode, stderr } = await node.run(`hand-over pack --to ${recipient} --out /root/keys.age`);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  return ["/root/keys.age", BACKUP_MARK].map((path) => [path, readFileSync(node.root + path)]);
}

const READS = /^(uname|ip|timedatectl show|systemctl (cat|show|is-active)|crictl .* (ps|inspect)) /;

async function drillOf(scene: Scene, more = ""): Promise<Drill & { exitCode: number }> {
  const { stdout, stderr, exitCode } = await drilled(scene, `drill --json${more}`);
  if (!stdout) throw new Error(stderr);
  return { ...(JSON.parse(stdout) as Drill), exitCode };
}

const changed = ({ files }: Drill) =>
  files
    .filter(({ differences }) => differences.length > 0)
    .map(({ path, differences }) => [path, differences]);

/** kubeadm's API server names an audit policy in the fixture; here it does not. */
function withoutPolicy(spec: ReturnType<typeof manifest>): ReturnType<typeof manifest> {
  const text = JSON.stringify(spec, (key, value) => {
    if (!Array.isArray(value)) return value;
    return value.filter(
      (one) => !/audit/.test(typeof one === "string" ? one : key.startsWith("volume") ? one.name : ""),
    );
  });
  return JSON.parse(text);
}

const plain: Required<Pick<Scene, "etcd" | "files">> = {
  etcd: (objects) => {
    objects["pods/kube-system/kube-apiserver-m1"] = withoutPolicy(mirrorPod("kube-apiserver"));
  },
  files: (root) => {
    rmSync(`${root}/etc/kubernetes/audit`, { recursive: true });
    write(`${root}${MANIFESTS}/kube-apiserver.yaml`, manifestText(withoutPolicy(manifest("kube-apiserver"))));
  },
};

test("drill on a control plane node that is well: all of it would come back", async () => {
  await expectTranscript("drill", await drilled(plain));
});

test("drill --json has each file as it is and as it would be, and no key", async () => {
  const { files, servers, allBack, exitCode } = await drillOf(plain);
  expect({ allBack, exitCode }).toEqual({ allBack: true, exitCode: 0 });
  const apiserver = files.find(({ path }) => path === `${PKI}/apiserver.crt`)!;
  expect(apiserver.back).toEqual(apiserver.here!);
  expect(apiserver.back!.names).toContain("kubernetes.default.svc");
  expect(files.filter(({ is }) => is === "manifest").map(({ back }) => back!.lines!.length > 10)).toEqual([
    true,
    true,
    true,
    true,
  ]);
  expect(servers.map(({ differences }) => differences)).toEqual([[], [], []]);
});

test("drill names the file that nobody can rebuild, the flag that needs it, and the copy to make now", async () => {
  const run = await drilled({ packed: false });
  await expectTranscript("drill-lost", run);
  expect(run.exitCode).toBe(2);
});

/** An API server's certificate with names that kubeadm's configuration does not have. */
async function foreignName(root: string) {
  const [cert, key] = ["ca.crt", "ca.key"].map((file) => readFileSync(`${root}${PKI}/${file}`, "utf8"));
  const foreign = { ...FACTS, certSANs: ["api.old.example", "10.9.9.9"] };
  const leaf = await issueLeaf(certRow("apiserver"), { cert: cert!, key: key! }, foreign);
  write(`${root}${PKI}/apiserver.crt`, leaf.cert, 0o644);
  write(`${root}${PKI}/apiserver.key`, leaf.key);
}

test("drill a hand edit that the kubelet has taken over comes back", async () => {
  const edited = (spec: ReturnType<typeof manifest>) => {
    spec.spec.containers[0]!.command!.push("--v=7");
    return spec;
  };
  const { files, allBack } = await drillOf({
    etcd: (objects) => {
      plain.etcd(objects);
      objects["pods/kube-system/kube-scheduler-m1"] = edited(mirrorPod("kube-scheduler"));
    },
    files: (root) => {
      plain.files(root);
      write(`${root}${MANIFESTS}/kube-scheduler.yaml`, manifestText(edited(manifest("kube-scheduler"))));
    },
  });
  expect(allBack).toBe(true);
  expect(files.find(({ path }) => path.endsWith("kube-scheduler.yaml"))!.back!.lines).toContain("--v=7");
});

test("drill a hand edit that no mirror pod has would be lost", async () => {
  const found = await drillOf({
    ...plain,
    files: (root) => {
      plain.files(root);
      const edited = manifest("kube-scheduler");
      edited.spec.containers[0]!.command!.push("--v=7");
      write(`${root}${MANIFESTS}/kube-scheduler.yaml`, manifestText(edited));
    },
  });
  expect(found.exitCode).toBe(2);
  expect(changed(found)).toEqual([[`${MANIFESTS}/kube-scheduler.yaml`, ["---v=7"]]]);
  expect(found.todo.join()).toContain("journalctl -u kubelet");
});

test("drill a name in a certificate that the cluster's record does not have would be lost; it says where to record it", async () => {
  const run = await drilled({
    ...plain,
    files: async (root) => {
      plain.files(root);
      await foreignName(root);
    },
  });
  await expectTranscript("drill-foreign-name", run);
});

test.each<[string, (root: string) => void, string, object]>([
  [
    "that still fits",
    () => {},
    "/root/keys.age",
    { fits: true, says: expect.stringMatching(/^keys\.age, /) },
  ],
  [
    "of other keys",
    (root) => {
      const { key, pub } = newKeyOf("ECDSA-P256");
      write(`${root}${PKI}/sa.key`, key);
      write(`${root}${PKI}/sa.pub`, pub);
    },
    "/root/keys.age",
    {
      fits: false,
      says: expect.stringMatching(/holds other keys \(sa\)/),
      command: expect.stringContaining("hand-over.ts pack"),
    },
  ],
  [
    "that is not the one that was packed",
    (root) => write(`${root}/root/keys.age`, "age-encryption.org/v1\n"),
    "/root/keys.age",
    { fits: false, command: "./bunw scripts/hand-over.ts list /root/keys.age" },
  ],
  [
    "that is not there",
    () => {},
    "/mnt/keys.age",
    { fits: false, says: 'there is no bundle "/mnt/keys.age"' },
  ],
])("drill --bundle: a bundle %s", async (_, change, bundle, backup) => {
  const files = (root: string) => [plain.files, change].forEach((one) => void one(root));
  const found = await drillOf({ ...plain, files }, ` --bundle ${bundle}`);
  expect(found.backup).toMatchObject(backup);
  expect(found.allBack).toBe(found.backup!.fits);
});

test.each([
  ["a whole one", (bytes: Buffer) => bytes, true],
  ["one that was cut off", (bytes: Buffer) => bytes.subarray(0, 20_000), false],
])("drill --snapshot: %s", async (_, change, fits) => {
  const { ca } = await healthyCp();
  const puts = Object.entries(clusterObjects(ca.cert)).map(
    ([key, object]) => [`/registry/${key}`, JSON.stringify(object)] as const,
  );
  const files = (root: string) => {
    plain.files(root);
    write(`${root}/root/night.db`, change(snapshotOf({ members: [MEMBER], puts })));
  };
  const found = await drillOf({ ...plain, files }, " --snapshot /root/night.db");
  expect(found).toMatchObject({ snapshot: { fits }, allBack: fits });
  const { stdout } = await drilled({ ...plain, files }, "drill --snapshot /root/night.db");
  expect(stdout).toMatch(fits ? /\/root\/night\.db +ok +as of / : /\/root\/night\.db +!NO SNAPSHOT! /);
});

test.each([
  ["the same file", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None}]\n", "same", true],
  ["another file", "apiVersion: audit.k8s.io/v1\nkind: Policy\n", "other", false],
])("drill --backup: %s in the operator's folder", async (_, text, kept, allBack) => {
  const files = (root: string) => write(`${root}/srv/copies/audit/policy.yaml`, text);
  const found = await drillOf({ files }, " --backup /srv/copies");
  expect(found).toMatchObject({ lost: [{ path: "/etc/kubernetes/audit/policy.yaml", kept }], allBack });
});

test.each([
  ["no copy", "", { kept: "none", stops: 1, allBack: false }],
  ["a copy", " --backup /srv/copies", { kept: "same", stops: 0, allBack: true }],
])(
  "drill where ConfigMaps are encrypted, with %s of the configuration that opens them",
  async (_, option, wanted) => {
    const [key, path] = [randomBytes(32), "/etc/kubernetes/enc.yaml"];
    const config = encryptionConfig("secretbox", key);
    const named = (spec: ReturnType<typeof manifest>) => {
      const own = withoutPolicy(spec);
      own.spec.containers[0]!.command!.push(`--encryption-provider-config=${path}`);
      own.spec.containers[0]!.volumeMounts!.push({ name: "enc", mountPath: path });
      own.spec.volumes!.push({ name: "enc", hostPath: { path, type: "File" } });
      return own;
    };
    const found = await drillOf(
      {
        etcd: (objects) => {
          for (const [name, object] of Object.entries(objects))
            if (name.startsWith("configmaps/"))
              objects[name] = Buffer.from(
                sealed("secretbox", Buffer.from(JSON.stringify(object)), key, `/registry/${name}`),
              );
          objects["pods/kube-system/kube-apiserver-m1"] = named(mirrorPod("kube-apiserver"));
        },
        files: (root) => {
          plain.files(root);
          write(`${root}${MANIFESTS}/kube-apiserver.yaml`, manifestText(named(manifest("kube-apiserver"))));
          for (const place of [path, "/srv/copies/enc.yaml"]) write(root + place, config);
        },
        packed: false,
      },
      option,
    );
    const { lost, stops, todo } = found;
    expect<object>({
      kept: lost[0]!.kept,
      stops: stops.length,
      allBack: todo.every((line) => line.includes("no backup")),
    }).toEqual(wanted);
    expect(todo.join("\n")).not.toContain("bring the EncryptionConfiguration back");
  },
);

test("drill a file behind a link would be lost with its link", async () => {
  const { lost } = await drillOf({
    files: (root) => {
      renameSync(`${root}/etc/kubernetes/audit/policy.yaml`, `${root}/root/policy.yaml`);
      symlinkSync("../../../root/policy.yaml", `${root}/etc/kubernetes/audit/policy.yaml`);
    },
  });
  expect(lost.map(({ path }) => path)).toEqual(["/etc/kubernetes/audit/policy.yaml"]);
});

test("drill where the cluster's CA is external says what only that CA can issue, and compares the rest", async () => {
  const unsigned = (spec: ReturnType<typeof manifest>) => {
    const [main] = spec.spec.containers;
    main!.command = main!.command!.filter((word) => !word.startsWith("--cluster-signing-"));
    return spec;
  };
  const found = await drillOf({
    packed: false,
    etcd: (objects) => {
      plain.etcd(objects);
      objects["pods/kube-system/kube-controller-manager-m1"] = unsigned(mirrorPod("kube-controller-manager"));
    },
    files: (root) => {
      plain.files(root);
      rmSync(`${root}${PKI}/ca.key`);
      write(
        `${root}${MANIFESTS}/kube-controller-manager.yaml`,
        manifestText(unsigned(manifest("kube-controller-manager"))),
      );
    },
  });
  expect(found.stops).toEqual([
    expect.objectContaining({ message: expect.stringContaining("the cluster's CA is external") }),
  ]);
  expect({ changed: changed(found), backup: found.backup, exitCode: found.exitCode }).toEqual({
    changed: [],
    backup: undefined,
    exitCode: 2,
  });
});

test("drill a server that shows another certificate than its file is a difference of its own", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", etcd: plain.etcd });
  plain.files(node.root);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const read = (file: string) => node.read(`${PKI}/${file}`);
  const ca = { cert: read("ca.crt"), key: read("ca.key") };
  const served = await issueLeaf(certRow("apiserver"), ca, { ...FACTS, certSANs: ["served.example"] });
  const kept = { cert: read("apiserver.crt"), key: read("apiserver.key") };
  write(`${node.root}${PKI}/apiserver.crt`, served.cert);
  write(`${node.root}${PKI}/apiserver.key`, served.key);
  using _api = serveRunning(node);
  write(`${node.root}${PKI}/apiserver.crt`, kept.cert);
  write(`${node.root}${PKI}/apiserver.key`, kept.key);
  const { exitCode, stdout } = await node.run("drill");
  expect(exitCode).toBe(2);
  expect(stdout).toMatch(/kube-apiserver, port 6443 +!CHANGED! +-names served\.example\n/);
});

test("drill files that nothing names are told, and hold up nothing", async () => {
  const { others, allBack } = await drillOf({
    ...plain,
    files: (root) => {
      plain.files(root);
      write(`${root}/etc/kubernetes/tmp/kubeadm-backup.yaml`, "old\n");
    },
  });
  expect({ others, allBack }).toEqual({ others: ["/etc/kubernetes/tmp/kubeadm-backup.yaml"], allBack: true });
});

test.each<[string, (root: string) => void]>([
  ["a lost certificate", (root) => rmSync(`${root}${PKI}/apiserver.crt`)],
  ["nothing left", (root) => rmSync(`${root}/etc/kubernetes`, { recursive: true })],
  [
    "a controller-manager that a repair has reduced",
    (root) =>
      write(
        `${root}${MANIFESTS}/kube-controller-manager.yaml`,
        manifestText(reduced(manifest("kube-controller-manager"), FACTS.kubernetesVersion)),
      ),
  ],
])("drill refuses a node with %s, and leads to 00-assess", async (_, damage) => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  damage(node.root);
  const before = node.fingerprint();
  const { exitCode, stderr, stdout } = await node.run("drill");
  expect(node.fingerprint()).toEqual(before);
  expect({ exitCode, stdout }).toEqual({ exitCode: 3, stdout: "" });
  expect(stderr).toContain("error: A drill needs a node that is well, and this one is not: ");
  expect(stderr).toContain("hint: ./bunw scripts/00-assess.ts says what is damaged here");
});

test("drill refuses a node whose API server does not answer", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  const { exitCode, stderr } = await node.run("drill");
  expect(exitCode).toBe(3);
  expect(stderr).toContain("this one is not: No answer from https://127.77.0.11:6443");
});

test("drill on a worker says that it is for control plane nodes", async () => {
  using node = await pretendNode({ kind: "worker" });
  const { exitCode, stderr } = await node.run("drill");
  expect(exitCode).toBe(3);
  expect(stderr).toContain("error: This is no control plane node");
});
