/**
 * Images of a control plane node's disk from which /etc/kubernetes was deleted. Made with the tools of
 * e2fsprogs: no mount, no root.
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { stringify } from "yaml";
import { CERTS, certRow, type KeyAlgorithm } from "../../shared/pki/certs.ts";
import { ensureMany } from "../../shared/pki/ensure.ts";
import { issueClient } from "../../shared/pki/issue.ts";
import { kubeconfigRows, kubeletKubeconfig, localServer } from "../../shared/pki/kubeconfigs.ts";
import { Disk } from "../../shared/salvage/disk/disk.ts";
import type { Find } from "../../shared/salvage/disk/pem-block.ts";
import { carve } from "../../shared/salvage/disk-search.ts";
import { manifest } from "./cluster.ts";
import { testFacts } from "./facts.ts";
import { onNode } from "./no-node.ts";
import { quietly } from "./quietly.ts";

const MANIFESTS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

const AUDIT_POLICY = `# What our auditors asked for in 2024
kind: Policy
apiVersion: audit.k8s.io/v1
rules:
- level: None
  nonResourceURLs: ["/healthz*"]
- level: Metadata
`;

/** Its secret is used nowhere. */
const ENCRYPTION = `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - aescbc: {keys: [{name: one, secret: ${Buffer.alloc(32, "example").toString("base64")}}]}
  - identity: {}
`;

/** Path below the folder → content: the files of a lost /etc/kubernetes. */
export type Files = Record<string, string>;

/** A complete /etc/kubernetes and the kubelet's client certificate, made by the project's own code. */
export async function kubernetesFiles(keyAlgorithm: KeyAlgorithm): Promise<Files> {
  const root = mkdtempSync(join(tmpdir(), "lost-"));
  const facts = testFacts({ keyAlgorithm });
  const kubeconfigs = kubeconfigRows(facts, { superAdmin: true }).filter((row) => row.name !== "kubelet");
  const wanted = { certs: CERTS, kubeconfigs, serviceAccountKey: true };
  await onNode(root, () => quietly(() => ensureMany(wanted, facts, { asideDir: "/unused", newCas: "all" })));
  const files = filesBelow(join(root, "etc/kubernetes"));
  rmSync(root, { recursive: true });
  const ca = { cert: files[`pki/${certRow("ca").file}.crt`]!, key: files["pki/ca.key"]! };
  const client = await issueClient({ cn: "system:node:m1", o: "system:nodes" }, ca, facts);
  return {
    ...files,
    ...Object.fromEntries(
      MANIFESTS.map((name) => [
        `manifests/${name}.yaml`,
        stringify(manifest(name), { lineWidth: 0, indentSeq: false }),
      ]),
    ),
    "kubelet.conf": kubeletKubeconfig({ server: localServer(facts), ca: ca.cert }),
    "kubelet-client.pem": client.cert + client.key,
    "audit/policy.yaml": AUDIT_POLICY,
    "encryption.yaml": ENCRYPTION,
  };
}

function filesBelow(dir: string): Files {
  const names = readdirSync(dir, { recursive: true, encoding: "utf8" }).filter((name) =>
    statSync(join(dir, name)).isFile(),
  );
  return Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(dir, name), "utf8")]));
}

export function writeAll(dir: string, files: Record<string, string | Uint8Array>) {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), content);
  }
}

/** Whether this machine has the tools of `deletedImage`. */
export const HAS_EXT4_TOOLS = ["mkfs.ext4", "debugfs"].every(
  (name) => Bun.which(name) ?? existsSync(`/usr/sbin/${name}`),
);

/** Noise that is the same every time: xorshift32 by George Marsaglia. */
export function noise(size: number, seed = 1): Buffer {
  const words = new Int32Array(Math.ceil(size / 4));
  for (let i = 0, x = seed | 1; i < words.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x;
  }
  return Buffer.from(words.buffer, 0, size);
}

/** Bytes as on a disk: noise, and these files one after the other, each in its own blocks. */
export function layOut(files: Record<string, string>, block: number, seed = 1): Buffer {
  const pieces = Object.values(files).flatMap((content, i) => {
    const bytes = Buffer.from(content);
    return [bytes, Buffer.alloc((block - (bytes.length % block)) % block), noise(block, seed + i)];
  });
  return Buffer.concat([noise(block, seed), ...pieces]);
}

/** An ext4 image on which these files were written, in this order, and deleted. */
export function deletedImage(
  path: string,
  files: Record<string, string | Uint8Array>,
  options: { block: number; megabytes?: number },
) {
  const folder = mkdtempSync(join(tmpdir(), "lost-"));
  writeAll(folder, files);
  writeFileSync(path, "");
  truncateSync(path, (options.megabytes ?? 16) * 1024 * 1024);
  tool(["mkfs.ext4", "-q", "-F", "-b", String(options.block), "-d", folder, path]);
  rmSync(folder, { recursive: true });
  tool(
    ["debugfs", "-w", "-f", "-", path],
    Object.keys(files)
      .map((name) => `rm "/${name}"\n`)
      .join(""),
  );
}

/** What the search finds on a disk image. */
export async function findsOn(path: string, chunk?: number): Promise<Find[]> {
  using disk = new Disk(path, chunk);
  return await Array.fromAsync(carve(disk));
}

/** Runs a program of this machine, also one of /sbin. Returns its output. */
export function tool(command: string[], input = ""): string {
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, {
    stdin: Buffer.from(input),
    stdout: "pipe",
    stderr: "pipe",
    env,
  });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
  return stdout.toString();
}

/** What a search of a disk looks for: keys, certificates and encryption configurations. */
export function isSought(content: string): boolean {
  return /^(?:-----BEGIN |kind: EncryptionConfig)/m.test(content);
}

/** Of the files that are looked for, those of which a part was not found, by content. */
export function lost(files: Files, finds: readonly Find[]): string[] {
  const texts = new Set(finds.map((find) => ("pem" in find ? find.pem : "text" in find ? find.text : "")));
  const pieces = (content: string) =>
    content.startsWith("-----BEGIN") ? content.split(/(?<=-----END [A-Z ]+-----\n)/) : [content];
  return Object.keys(files).filter(
    (name) => isSought(files[name]!) && !pieces(files[name]!).every((piece) => texts.has(piece)),
  );
}
