/** A real kubeadm cluster on this machine: builds it, with workloads, and removes it. */
import { mkdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import { binaries } from "./binaries.ts";
import { collectPrograms, giveOwnDisk } from "./disk.ts";
import { addressIn, type Family } from "./families.ts";
import { giveImages, imageNames, imageStore, pauseImage } from "./images.ts";
import { approveServingCertificates, changeNodes, initFirstControlPlane, joinOthers } from "./kubeadm.ts";
import { layout } from "./layout.ts";
import { saveLogs } from "./logs.ts";
import { CUT } from "./machine.ts";
import { makeSwitch, routeTo, SWITCH, startBalancer, startRegistry } from "./network.ts";
import { Node, type NodeSpec } from "./node.ts";
import { installPackages, type Needed, NODE_PACKAGES } from "./packages.ts";
import { SERVING_BY_CA } from "./pins.ts";
import { refuseMachine } from "./preflight.ts";
import { addOnsOf, type Profile, USUAL } from "./profile.ts";
import { borrowSysctl, LAB, lock, readState, removeLab, unlock } from "./state.ts";
import { deployWorkloads, workloadsReady } from "./workloads.ts";

/** `ownDisk`: /etc/kubernetes on the first control plane node is a file system of its own. */
type ClusterOptions = {
  ownDisk?: boolean;
  controlPlanes: number;
  workers: number;
  packages?: Needed;
  /** Asked when it is this cluster's turn: certificates that are about to expire are made there. */
  profile?: () => Profile | Promise<Profile>;
  onProgress?: (line: string) => void;
};

const PROGRAMS = [
  "kubeadm",
  "kubelet",
  "kubectl",
  "containerd",
  "containerd-shim-runc-v2",
  "ctr",
  "crictl",
  "etcdget",
  "etcd",
];

export class Cluster {
  readonly nodes: Node[];
  /** Seconds from the start to the end of each phase. */
  readonly seconds: Record<string, number> = {};

  readonly profile: Profile;

  private constructor(nodes: Node[], profile: Profile) {
    this.nodes = nodes;
    this.profile = profile;
  }

  get controlPlanes() {
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

  /** The lab that an earlier process has left up. */
  static attach(): Cluster {
    return new Cluster(readState().nodes.map(Node.attach), USUAL);
  }

  /**
   * Removes what an interrupted lab has left, then builds a new cluster. Holds the lab's lock until `down` or
   * the end of the process.
   */
  static async up(options: ClusterOptions): Promise<Cluster> {
    refuseMachine();
    await lock({ waitSeconds: 3600 });
    await removeLab();
    await rm(join(LAB, "logs"), { recursive: true, force: true });
    mkdirSync(join(LAB, "logs"), { recursive: true });
    const cluster = new Cluster([], (await options.profile?.()) ?? USUAL);
    const addOns = addOnsOf(cluster.profile);
    const packages = [
      ...NODE_PACKAGES,
      ...(options.packages ?? []),
      ...addOns.flatMap(({ packages }) => packages),
    ];
    const [programs] = await Promise.all([binaries(), installPackages(packages)]);
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
    const { podNetwork, addOns, nodeDomain, families } = this.profile;
    await prepareMachine(programs, families);
    const store = await imageStore(
      programs,
      addOnsOf(this.profile),
      async (use) => await withScratchNode(programs, use),
    );
    phase("images");
    const pause = pauseImage(await imageNames(programs.get("kubeadm")!));
    await this.bootNodes(
      layout({ ...options, nodeDomain, bridges: !podNetwork, families }, pause),
      store,
      options,
    );
    await startBalancer(this.controlPlanes, families);
    if (this.profile.hasRegistry)
      await startRegistry(store, await this.controlPlanes[0]!.must(["ctr", "-n", "k8s.io", "images", "ls"]));
    phase("booted");
    await initFirstControlPlane(this);
    phase("init");
    await this.apply([this.profile.firstObjects, (await podNetwork?.objects()) ?? ""].join("\n---\n"));
    await joinOthers(this);
    phase("joined");
    if (SERVING_BY_CA) await approveServingCertificates(this);
    await this.nodesReady();
    await changeNodes(this);
    phase("ready");
    for (const addOn of addOns) await this.apply(await addOn.objects());
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

  private async bootNodes(list: NodeSpec[], store: string, { ownDisk }: ClusterOptions) {
    for (const spec of list) {
      const node = await Node.create(spec);
      this.nodes.push(node);
      if (ownDisk && node === this.controlPlanes[0])
        await giveOwnDisk(node.name, "/etc/kubernetes", { megabytes: 256 });
      await giveImages(store, node);
    }
    await routesToPods(list);
    await Promise.all(this.nodes.map(async (node) => await node.boot()));
    for (const node of this.nodes) {
      await waitFor(
        `containerd on ${node.name}`,
        async () => (await node.run(["crictl", "info"])).exitCode === 0,
        {
          seconds: 180,
          hint: `test/lab/enter.ts ${node.name} journalctl -u containerd`,
        },
      );
    }
  }

  async nodesReady(seconds = 120) {
    await this.kubectl("wait", "--for=condition=Ready", "node", "--all", `--timeout=${seconds}s`);
    for (const name of ["deployment/coredns", "daemonset/kube-proxy"]) {
      await this.kubectl("-n", "kube-system", "rollout", "status", name, `--timeout=${seconds}s`);
    }
  }

  /** kubectl on the first control plane node, as its admin; asked again where the connection was cut. */
  async kubectl(...args: string[]): Promise<string> {
    return await this.kubectlReading(args);
  }

  /** YAML; nothing where there is no object in it. */
  async apply(yaml: string) {
    if (yaml.includes("kind:")) await this.kubectlReading(["apply", "-f", "-"], yaml);
  }

  private async kubectlReading(args: string[], input?: string): Promise<string> {
    const env = { KUBECONFIG: "/etc/kubernetes/admin.conf" };
    const options = { env, ...(input === undefined ? {} : { input }) };
    let said = "";
    const isDone = async () => {
      const { exitCode, stdout, stderr } = await this.controlPlanes[0]!.run(["kubectl", ...args], options);
      said = stdout;
      if (exitCode === 0) return true;
      if (CUT.test(stderr)) return false;
      throw new Error(`kubectl ${args.join(" ")}: ${stderr.trim()}`);
    };
    const hint = "kubectl get --raw /readyz, with --keep";
    await waitFor(`kubectl ${args[0]}`, isDone, { seconds: 180, hint });
    return said;
  }

  async saveLogs() {
    await saveLogs(this);
  }

  /** Stops every node and removes everything that the lab made, except its logs. */
  async down() {
    await Promise.all(this.nodes.map(async (node) => await node.kill()));
    await removeLab();
    unlock();
  }

  async [Symbol.asyncDispose]() {
    await this.down();
  }
}

/** From each node to the others' pods. The switch must find pods, too, or its refusals do not reach them. */
async function routesToPods(list: readonly NodeSpec[]) {
  for (const { name, podSubnets = [], ips } of list) {
    const namespaces = list.filter((other) => other.name !== name).map((other) => `kpr-${other.name}`);
    for (const [i, subnet] of podSubnets.entries())
      for (const namespace of [...namespaces, SWITCH]) await routeTo(namespace, subnet, ips[i]!);
  }
}

async function prepareMachine(programs: Map<string, string>, families: readonly Family[]) {
  // Kubelets set these for this machine, and several kubelets need more watches than Debian allows.
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
  await makeSwitch(families);
}

/** Boots a node that imports the images, the first time, and removes it. */
async function withScratchNode(programs: Map<string, string>, use: (node: Node) => Promise<void>) {
  const names = await imageNames(programs.get("kubeadm")!);
  const base = { hosts: [], pauseImage: pauseImage(names) };
  const node = await Node.start({
    ...base,
    name: "scratch",
    ip: addressIn(4, 250),
    ips: [addressIn(4, 250)],
    hostName: "scratch",
    nodeName: "scratch",
  });
  await waitFor("containerd", async () => (await node.run(["ctr", "version"])).exitCode === 0, {
    seconds: 180,
    hint: `read ${LAB}/logs`,
  });
  await use(node);
  await node.remove();
}
