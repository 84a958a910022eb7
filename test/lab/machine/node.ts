/**
 * A machine made of namespaces: its own network, mounts, host name, cgroups and processes, with systemd as
 * PID 1, so that `systemctl restart kubelet` inside is the real thing.
 */
import { existsSync, openSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import { cgroupMounts, cgroupsOf, JOIN, makeCgroups, toJoin } from "./cgroups.ts";
import { type DiskSpec, makeDisk } from "./disk.ts";
import { emptyCgroups, removeCgroup } from "./empty-cgroups.ts";
import type { Output, RunOptions } from "./machine.ts";
import { plugIn } from "./network.ts";
import { textOf } from "./shell.ts";
import { isAlive, LAB, markOf, type NodeRecord, readState, record } from "./state.ts";

/** `ips`: all its addresses, of which `ip` is the first. */
export type NodeSpec = DiskSpec & { name: string; ip: string; ips: readonly string[]; nodeName: string };

export class Node {
  /** Its name in the lab: cp1, w1. Its host name and its name in the cluster may differ. */
  readonly name: string;
  ip: string;
  ips: readonly string[];
  readonly hostName: string;
  readonly nodeName: string;

  private readonly record: NodeRecord;

  private constructor(record: NodeRecord) {
    this.record = record;
    ({ name: this.name, ip: this.ip, hostName: this.hostName, nodeName: this.nodeName } = record);
    this.ips = record.ips;
  }

  /** A node that an earlier process has made. */
  static attach(record: NodeRecord) {
    return new Node(record);
  }

  /** Makes the disk and the cable; the node is off. */
  static async create(spec: NodeSpec): Promise<Node> {
    const cgroups = cgroupsOf(spec.name);
    const nodeRecord = {
      name: spec.name,
      ip: spec.ip,
      ips: spec.ips,
      hostName: spec.hostName,
      nodeName: spec.nodeName,
      cgroups,
    };
    record((state) => {
      state.nodes.push(nodeRecord);
      state.cgroups.push(...cgroups);
    });
    await makeDisk(spec.name, spec);
    await plugIn(`kpr-${spec.name}`, spec.ips);
    return new Node(nodeRecord);
  }

  static async start(spec: NodeSpec): Promise<Node> {
    const node = await Node.create(spec);
    await node.boot();
    return node;
  }

  /** Where this machine sees the node's file. Not for /usr, /run and /dev, which exist inside only. */
  path(path: string): string {
    return join(LAB, "nodes", this.name, "root", path);
  }

  /** Switches the node on and waits until its systemd answers. */
  async boot() {
    makeCgroups(this.record.cgroups);
    const namespaces = ["--mount", "--uts", "--ipc", "--pid", "--fork", "--propagation", "private"];
    // PID 1's cgroup becomes the root of its cgroup namespace, so the child joins it before it makes that.
    const init = [
      "sh",
      "-c",
      `CGROUPS=$INSIDE; ${JOIN}`,
      "sh",
      "unshare",
      "--cgroup",
      "sh",
      join(import.meta.dir, "node-root.sh"),
    ];
    const console = openSync(join(LAB, "logs", `${this.name}-console.log`), "a");
    const network = ["nsenter", `--net=/run/netns/kpr-${this.name}`];
    const proc = Bun.spawn(
      ["sh", "-c", JOIN, "sh", "setsid", ...network, "unshare", ...namespaces, ...init],
      {
        env: {
          PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
          CGROUPS: toJoin(this.record.cgroups, "outside"),
          INSIDE: toJoin(this.record.cgroups, "inside"),
          CGROUP_MOUNTS: cgroupMounts(),
          DISK: join(LAB, "nodes", this.name),
          BIN: join(LAB, "bin"),
          NODE_HOSTNAME: this.hostName,
        },
        stdin: "ignore",
        stdout: console,
        stderr: console,
      },
    );
    proc.unref();
    await waitFor(`node ${this.name} to boot`, async () => this.hasBooted(proc.pid), {
      seconds: 180,
      hint: `read ${LAB}/logs/${this.name}-console.log`,
    });
  }

  /** setsid, nsenter and unshare each become the next; the only child of the last is the node's PID 1. */
  private async hasBooted(unshare: number) {
    const child = Number(readFileSync(`/proc/${unshare}/task/${unshare}/children`, "utf8").split(" ")[0]);
    const init = child > 0 ? markOf(child) : undefined;
    if (!init || !readFileSync(`/proc/${child}/cmdline`, "utf8").startsWith("/lib/systemd/systemd"))
      return false;
    this.record.init = init;
    record((state) => {
      state.nodes.find((node) => node.name === this.name)!.init = init;
    });
    const { stdout } = await this.run(["systemctl", "is-system-running"]);
    return /running|degraded|starting/.test(stdout);
  }

  isOn() {
    return isAlive(this.init());
  }

  /** Another process may have switched the node off and on, so the state file is asked each time. */
  private init() {
    return readState().nodes.find((node) => node.name === this.name)?.init;
  }

  /** Runs a command inside, like root's shell there. A failing command is an answer, not an error. */
  async run(command: string[], options: RunOptions = {}): Promise<Output> {
    const proc = this.spawn(command, { ...options, stdout: "pipe", stderr: "pipe" });
    const [stdout, stderr, exitCode] = await Promise.all([
      new Response(proc.stdout).text(),
      textOf(proc.stderr, options.heard),
      proc.exited,
    ]);
    return { stdout, stderr, exitCode };
  }

  /** As `run`, but a failing command is an Error with its output. */
  async must(command: string[], options: RunOptions = {}): Promise<string> {
    const { stdout, stderr, exitCode } = await this.run(command, options);
    if (exitCode === 0) return stdout;
    throw new Error(
      `${this.name}: \`${command.join(" ")}\` exited ${exitCode}: ${stderr.trim() || stdout.trim()}`,
    );
  }

  /** Starts a command inside and leaves its streams to the caller. */
  spawn<Out extends "pipe" | "inherit" | "ignore" = "pipe">(
    command: string[],
    options: RunOptions & { stdin?: "inherit"; stdout?: Out; stderr?: Out } = {},
  ) {
    const init = this.init();
    if (!init || !isAlive(init))
      throw new Fail(`Node ${this.name} is off`, { hint: "boot it, or start a lab with test/lab/up.ts" });
    return Bun.spawn(["sh", "-c", JOIN, "sh", ...this.enter(init.pid, options), ...command], {
      env: { PATH: process.env.PATH!, CGROUPS: toJoin(this.record.cgroups, "enter") },
      stdin:
        options.stdin ?? (options.input === undefined ? "ignore" : new Blob([options.input as BlobPart])),
      stdout: options.stdout ?? ("pipe" as Out),
      stderr: options.stderr ?? ("pipe" as Out),
    });
  }

  private enter(pid: number, options: RunOptions) {
    const env = {
      HOME: "/root",
      TERM: process.env.TERM ?? "xterm",
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    };
    const assignments = Object.entries({ ...env, ...options.env }).map(([name, value]) => `${name}=${value}`);
    const inside = ["nsenter", "-t", String(pid), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"];
    return [...inside, "env", "-i", `--chdir=${options.cwd ?? "/root"}`, ...assignments];
  }

  /** Cuts the power: every process is gone at once, nothing is written any more. The disk stays. */
  async kill() {
    const init = this.init();
    if (init && isAlive(init)) process.kill(init.pid, "SIGKILL");
    await emptyCgroups(this.record.cgroups);
    // Containers' cgroups would otherwise be there already at the next boot.
    for (const cgroup of this.record.cgroups) await removeCgroup(cgroup);
  }

  /** Switches the node off and forgets it, disk and all. Its cable stays in the switch until the lab goes. */
  async remove() {
    await this.kill();
    await rm(join(LAB, "nodes", this.name), { recursive: true });
    record((state) => {
      state.nodes = state.nodes.filter((node) => node.name !== this.name);
    });
  }

  exists(path: string) {
    return existsSync(this.path(path));
  }
}
