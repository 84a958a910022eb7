/** A real kubeadm cluster on this machine: from nothing to workloads that answer, and back to nothing. */
import { existsSync, mkdirSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseDocument } from "yaml";
import { Fail } from "../../shared/fail.ts";
import { waitFor } from "../../shared/run.ts";
import { binaries } from "./binaries.ts";
import { collectPrograms } from "./disk.ts";
import { giveImages, imageNames, imageStore, pauseImage } from "./images.ts";
import { AUDIT_POLICY, HAND_EDIT, initConfig, joinConfig } from "./kubeadm-config.ts";
import { saveLogs } from "./logs.ts";
import { BALANCER, makeSwitch, routeTo, startBalancer } from "./network.ts";
import { Node, type NodeSpec } from "./node.ts";
import { installPackages } from "./packages.ts";
import { borrowSysctl, LAB, lock, readState, record, removeLab, unlock } from "./state.ts";
import { deployWorkloads, workloadsReady } from "./workloads.ts";

export type ClusterOptions = { masters: number; workers: number; onProgress?: (line: string) => void; waitSeconds?: number };

const PROGRAMS = ["kubeadm", "kubelet", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr", "crictl", "etcdget"];
const MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml";

export class Cluster {
  readonly nodes: Node[];
  /** Seconds from the start to the end of each phase. */
  readonly seconds: Record<string, number> = {};

  private constructor(nodes: Node[]) {
    this.nodes = nodes;
  }

  get masters() {
    return this.nodes.filter((node) => node.name.startsWith("cp"));
  }

  get workers() {
    return this.nodes.filter((node) => !node.name.startsWith("cp"));
  }

  node(name: string): Node {
    const node = this.nodes.find((node) => node.name === name);
    if (node) return node;
    throw new Fail(`No node "${name}" in the lab`, {
      hint: `it has ${this.nodes.map((node) => node.name).join(", ") || "none: test/lab/up.ts"}`,
    });
  }

  /** The lab that an earlier process left up. */
  static attach(): Cluster {
    return new Cluster(readState().nodes.map(Node.attach));
  }

  /** Removes what an interrupted lab left, then builds a new cluster. Holds the lab's lock until `down` or the end of the process. */
  static async up(options: ClusterOptions): Promise<Cluster> {
    await lock({ waitSeconds: options.waitSeconds ?? 600 });
    await removeLab();
    await rm(join(LAB, "logs"), { recursive: true, force: true });
    mkdirSync(join(LAB, "logs"), { recursive: true });
    await installPackages();
    const programs = await binaries();
    const cluster = new Cluster([]);
    try {
      await cluster.build(programs, options);
    } catch (err) {
      await saveLogs(cluster);
      throw err;
    }
    return cluster;
  }

  private async build(programs: Map<string, string>, options: ClusterOptions) {
    const phase = this.stopwatch(options.onProgress ?? (() => {}));
    await prepareMachine(programs);
    const store = await imageStore(programs, async () => await makeScratchNode(programs));
    phase("images");
    await this.bootNodes(await specs(options, programs), store);
    await startBalancer(
      programs.get("balancer")!,
      this.masters.map((node) => node.ip),
    );
    phase("booted");
    await this.init();
    phase("init");
    await this.joinAll();
    phase("joined");
    await this.editByHand();
    await this.approveServingCertificates();
    await this.nodesReady();
    phase("ready");
    await deployWorkloads(this);
    await workloadsReady(this);
    phase("workloads");
  }

  private stopwatch(onProgress: (line: string) => void) {
    const begin = performance.now();
    return (name: string) => {
      this.seconds[name] = Math.round((performance.now() - begin) / 100) / 10;
      onProgress(`${name} after ${this.seconds[name]} s`);
    };
  }

  private async bootNodes(list: (NodeSpec & { podSubnet: string })[], store: string) {
    for (const spec of list) {
      const node = await Node.create(spec);
      this.nodes.push(node);
      await giveImages(store, node);
      for (const other of list) if (other.name !== spec.name) await routeTo(`kpr-${spec.name}`, other.podSubnet, other.ip);
    }
    await Promise.all(this.nodes.map(async (node) => await node.boot()));
    for (const node of this.nodes) {
      await waitFor(`containerd on ${node.name}`, async () => (await node.run(["crictl", "info"])).exitCode === 0, {
        seconds: 30,
        hint: `test/lab/enter.ts ${node.name} journalctl -u containerd`,
      });
    }
  }

  private async init() {
    const first = this.masters[0]!;
    for (const node of this.masters) await writeAuditPolicy(node);
    await writeFile(first.path("/root/kubeadm-init.yaml"), initConfig(first));
    await first.must(["kubeadm", "init", "--config", "/root/kubeadm-init.yaml", "--upload-certs"]);
    // One is enough here, and the second would only wait for a worker.
    await this.kubectl("-n", "kube-system", "scale", "deployment", "coredns", "--replicas=1");
  }

  private async joinAll() {
    const first = this.masters[0]!;
    const command = await first.must(["kubeadm", "token", "create", "--print-join-command"]);
    const token = /--token (\S+)/.exec(command)![1]!;
    const caCertHash = /--discovery-token-ca-cert-hash (\S+)/.exec(command)![1]!;
    await Promise.all(this.workers.map(async (node) => await join_(node, { token, caCertHash })));
    const others = this.masters.slice(1);
    if (others.length === 0) return;
    const upload = await first.must(["kubeadm", "init", "phase", "upload-certs", "--upload-certs", "--config", "/root/kubeadm-init.yaml"]);
    const certificateKey = upload.trim().split("\n").at(-1)!;
    // One after the other: etcd takes one new member at a time.
    for (const node of others) await join_(node, { token, caCertHash, certificateKey });
  }

  /** Changes the API server's manifest as an operator in a hurry does, and waits until the kubelet has restarted it. */
  private async editByHand() {
    for (const node of this.masters) {
      const file = node.path(MANIFEST);
      const manifest = parseDocument(await Bun.file(file).text());
      manifest.addIn(["spec", "containers", 0, "command"], HAND_EDIT.flag);
      manifest.setIn(["spec", "containers", 0, "env"], [HAND_EDIT.env]);
      // Outside the folder first: the kubelet would start a half-written manifest.
      await writeFile(node.path("/etc/kubernetes/kube-apiserver.yaml.new"), manifest.toString());
      await node.must(["mv", "/etc/kubernetes/kube-apiserver.yaml.new", MANIFEST]);
      await waitFor(`the edited API server on ${node.name}`, async () => await this.servesEdited(node), {
        seconds: 120,
        hint: `test/lab/enter.ts ${node.name} crictl ps -a`,
      });
    }
  }

  private async servesEdited(node: Node) {
    const running = await node.must(["pgrep", "-f", `kube-apiserver.*${HAND_EDIT.flag}`]);
    const ready = await node.run(["curl", "-sfk", "-m2", `https://${node.ip}:6443/readyz`]);
    return running !== "" && ready.stdout === "ok";
  }

  /** With serverTLSBootstrap nobody signs a kubelet's serving certificate until an operator says so. */
  async approveServingCertificates() {
    const wanted = new Set(this.nodes.map((node) => node.nodeName));
    await waitFor(
      "the serving certificates of all kubelets",
      async () => {
        const list = JSON.parse(await this.kubectl("get", "csr", "-o", "json")) as { items: SigningRequest[] };
        const serving = list.items.filter((csr) => csr.spec.signerName === "kubernetes.io/kubelet-serving");
        const pending = serving.filter((csr) => !csr.status.conditions);
        if (pending.length > 0) await this.kubectl("certificate", "approve", ...pending.map((csr) => csr.metadata.name));
        for (const csr of serving) if (csr.status.certificate) wanted.delete(csr.spec.username.replace("system:node:", ""));
        return wanted.size === 0;
      },
      { seconds: 90, hint: "test/lab/enter.ts cp1 kubectl get csr" },
    );
  }

  async nodesReady(seconds = 120) {
    await this.kubectl("wait", "--for=condition=Ready", "node", "--all", `--timeout=${seconds}s`);
    for (const name of ["deployment/coredns", "daemonset/kube-proxy"]) {
      await this.kubectl("-n", "kube-system", "rollout", "status", name, `--timeout=${seconds}s`);
    }
  }

  /** kubectl on the first master, as its admin. */
  async kubectl(...args: string[]): Promise<string> {
    return await this.masters[0]!.must(["kubectl", ...args], { env: { KUBECONFIG: "/etc/kubernetes/admin.conf" } });
  }

  async apply(yaml: string) {
    await this.masters[0]!.must(["kubectl", "apply", "-f", "-"], { env: { KUBECONFIG: "/etc/kubernetes/admin.conf" }, input: yaml });
  }

  async workloadsReady(seconds?: number) {
    await workloadsReady(this, seconds);
  }

  async saveLogs() {
    await saveLogs(this);
  }

  /** Stops every node and removes all that the lab made, but its logs. */
  async down() {
    await Promise.all(this.nodes.map(async (node) => await node.kill()));
    await removeLab();
    unlock();
  }

  async [Symbol.asyncDispose]() {
    await this.down();
  }
}

type SigningRequest = {
  metadata: { name: string };
  spec: { signerName: string; username: string };
  status: { conditions?: unknown[]; certificate?: string };
};

async function prepareMachine(programs: Map<string, string>) {
  // Kubelets set these for the whole machine, and many of them need more watches than Debian allows.
  for (const name of [
    "kernel.panic",
    "kernel.panic_on_oops",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
  ])
    borrowSysctl(name);
  borrowSysctl("fs.inotify.max_user_instances", "8192");
  borrowSysctl("fs.inotify.max_user_watches", "524288");
  await collectPrograms(programs, PROGRAMS);
  await makeSwitch();
}

/** The node that imports the images, the first time. */
async function makeScratchNode(programs: Map<string, string>) {
  const names = await imageNames(programs.get("kubeadm")!);
  const base = { hosts: [], podSubnet: "10.244.255.0/24", pauseImage: pauseImage(names) };
  const node = await Node.start({ ...base, name: "scratch", ip: "10.250.0.250", hostName: "scratch", nodeName: "scratch" });
  await waitFor("containerd", async () => (await node.run(["ctr", "version"])).exitCode === 0, { seconds: 30, hint: `read ${LAB}/logs` });
  return node;
}

/** Names and addresses are computed: cp1 is 10.250.0.11, w1 10.250.0.21; a worker's host name is not its node name. */
async function specs({ masters, workers }: ClusterOptions, programs: Map<string, string>) {
  if (masters > 9 || masters < 1 || workers > 200)
    throw new Fail("The lab has 1 to 9 masters and 0 to 200 workers", { hint: "ask for fewer" });
  const pause = pauseImage(await imageNames(programs.get("kubeadm")!));
  const cps = Array.from({ length: masters }, (_, i) => ({ name: `cp${i + 1}`, ip: `10.250.0.${11 + i}`, hostName: `cp${i + 1}` }));
  const ws = Array.from({ length: workers }, (_, i) => ({ name: `w${i + 1}`, ip: `10.250.0.${21 + i}`, hostName: `lab-w${i + 1}-host` }));
  const all = [...cps, ...ws];
  const hosts = [`${BALANCER} lab-api`, ...all.map(({ ip, hostName }) => `${ip} ${hostName}`)];
  return all.map((node, i) => ({ ...node, nodeName: node.name, hosts, podSubnet: `10.244.${i}.0/24`, pauseImage: pause }));
}

async function writeAuditPolicy(node: Node) {
  await mkdir(node.path("/etc/kubernetes"), { recursive: true });
  await writeFile(node.path("/etc/kubernetes/audit-policy.yaml"), AUDIT_POLICY);
}

async function join_(node: Node, join: { token: string; caCertHash: string; certificateKey?: string }) {
  await writeFile(node.path("/root/kubeadm-join.yaml"), joinConfig(node, join), { mode: 0o600 });
  await node.must(["kubeadm", "join", "--config", "/root/kubeadm-join.yaml"]);
}

/** The scratch node is forgotten once its images are in the cache. */
export async function forgetNode(node: Node) {
  await node.kill();
  record((state) => {
    state.nodes = state.nodes.filter((other) => other.name !== node.name);
  });
  if (existsSync(node.path("/"))) await rm(join(node.path("/"), ".."), { recursive: true });
}
