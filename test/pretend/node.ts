/**
 * A pretend node: a folder is its root, pretend programs are its machine. Whole scripts run on it, each in
 * its own process.
 */
import { expect } from "bun:test";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CONTROL_PLANE, type Container } from "../../shared/node/containers.ts";
import { waitFor } from "../../shared/wait-for.ts";
import {
  ADDRESS,
  clusterObjects,
  frozen,
  healthyCp,
  type Objects,
  otherMembers,
  writeKubelet,
} from "./cluster.ts";
import { keptOn, secretsIn } from "./kept.ts";
import { runInTurn } from "./many-runs.ts";
import { type FakeCommand, fakePath, IS_ACTIVE, IS_ACTIVE_QUIETLY } from "./programs.ts";
import { type WrittenMember, writeEtcdData } from "./write-wal.ts";

/** Transcripts show this instead of the process's own `ADDRESS`. */
export const SHOWN_ADDRESS = "127.77.0.11";

/** In memory, where possible: scripts wait for every file to be on disk. */
const MEMORY = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();

const HOME = join(import.meta.dir, "../..");

export interface NodeOptions {
  /** Default: a control plane node whose /etc/kubernetes was deleted. */
  kind?: "wiped control plane node" | "healthy control plane node" | "worker" | "no node";
  /** Changes the content of etcd. */
  etcd?: (objects: Objects) => void;
  members?: WrittenMember[];
  /** etcd's database is full. */
  isFull?: boolean;
  /** Default: kube-proxy and coredns run. */
  containers?: string[];
  /** Come before the usual answers. A command that is listed here replaces the usual one. */
  commands?: FakeCommand[];
  /** Programs that this machine does not have. */
  without?: string[];
}

export interface Transcript {
  exitCode: number;
  stdout: string;
  stderr: string;
}

export const CLUSTER_ID = "c1d2e3f4";
export const MEMBER: Readonly<WrittenMember> = frozen({
  id: "a1b2c3d4e5f60718",
  name: "m1",
  peerURLs: [`https://${ADDRESS}:2380`],
});

/** The kubelet's unit as kubeadm's packages have it. */
export const KUBEADM_UNIT = `# /lib/systemd/system/kubelet.service
[Service]
ExecStart=/usr/bin/kubelet
Restart=always

# /lib/systemd/system/kubelet.service.d/10-kubeadm.conf
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
`;

export async function pretendNode(options: NodeOptions = {}) {
  const { kind = "wiped control plane node" } = options;
  const root = mkdtempSync(join(MEMORY, "node-"));
  const { root: healthy, ca } = await healthyCp();
  const stored = new Map<string, string>();
  if (kind.endsWith("control plane node")) {
    cpSync(healthy, root, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
    if (kind === "wiped control plane node") rmSync(`${root}/etc/kubernetes`, { recursive: true });
    const objects = clusterObjects(ca.cert);
    options.etcd?.(objects);
    const puts = Object.entries(objects).map(([key, object]): [string, string | Uint8Array] => [
      key.startsWith("/") ? key : `/registry/${key}`,
      typeof object === "string" || object instanceof Uint8Array ? object : JSON.stringify(object),
    ]);
    writeEtcdData(`${root}/var/lib/etcd`, {
      clusterId: CLUSTER_ID,
      members: options.members ?? [MEMBER, ...otherMembers(objects)],
      puts,
      isFull: options.isFull,
    });
    for (const [key, value] of puts) stored.set(key, String(value));
  }
  if (kind === "worker") {
    await writeKubelet(root, "w1", { ca, server: `https://${ADDRESS}:6443` });
    mkdirSync(`${root}/etc/kubernetes/pki`, { recursive: true });
    cpSync(`${healthy}/etc/kubernetes/pki/ca.crt`, `${root}/etc/kubernetes/pki/ca.crt`, {
      preserveTimestamps: true,
    });
  }
  for (const folder of ["root", "run"]) mkdirSync(`${root}/${folder}`, { recursive: true });
  const programs = fakePath(commandsOf(kind === "worker" ? "w1" : "m1", options), options.without);
  const alone = (line: string, env: Record<string, string> = {}, inside: string[] = []) =>
    ended(toItsEnd(startScript(line, { ...programs.env, ...env }, root, inside)), root);
  const over = new AbortController();
  /**
   * Polls instead of watching the folder: Bun's fs.watch sometimes loses an event after many tests have
   * watched.
   */
  const until = (what: string, isSo: () => boolean) =>
    waitFor(what, () => over.signal.aborted || isSo(), {
      seconds: 250,
      hint: "see what the script printed until then",
    });

  return {
    /** The node's root, on this machine. */
    root,
    /** The cluster CA from before the disaster. */
    ca,
    /** The content of etcd before the disaster: keys and values. */
    stored,
    calls: programs.calls,
    /** Ends when a call that begins so was made. */
    called: (call: string) => until(call, () => programs.calls().some((made) => made.startsWith(call))),
    until,
    /** Ends when this file exists. */
    written: (path: string) => until(path, () => existsSync(root + path)),
    read: (path: string) => readFileSync(root + path, "utf8"),
    exists: (path: string) => existsSync(root + path),
    /** For a script that a test starts itself. */
    env: programs.env,
    /**
     * Runs a script to its end, in a process that has run others (many-runs.ts), but where `env` is for Bun's
     * own start. Waiting in vain takes no time.
     */
    run: (line: string, env: Record<string, string> = {}) =>
      env.BUN_OPTIONS
        ? alone(line, env)
        : ended(runInTurn({ line, env: envOf(root, { ...programs.env, ...env }) }), root),
    /**
     * The same as an operator does it, in a process of its own; `inside`: a program, with its words, that it
     * runs in.
     */
    runAlone: alone,
    /** Starts a script; the caller reads what it says, and waits for its end. */
    start: (line: string, env: Record<string, string> = {}, inside: string[] = []) =>
      startScript(line, { ...programs.env, ...env }, root, inside),
    /** Everything that a script can change: path, mode, time, content. */
    fingerprint: (as = (path: string) => path) => fingerprint(as(root)),
    [Symbol.dispose]() {
      over.abort();
      programs[Symbol.dispose]();
      rmSync(root, { recursive: true, force: true });
    },
  };
}

/** While a pretend kubelet writes. */
export const WRITING = "writing";

export const CRICTL = "crictl --runtime-endpoint unix:///run/containerd/containerd.sock --timeout 60s";

/** A machine that has these addresses alone, in this order at one card; as `ip -j` shows them and its route. */
export function routesOf(addresses: string | readonly object[], route: object = {}) {
  const all = typeof addresses === "string" ? [{ local: addresses }] : addresses;
  const shown = JSON.stringify([{ addr_info: all.map((one) => ({ scope: "global", ...one })) }]);
  const routes = JSON.stringify([{ dst: "default", dev: "eth0", ...route }]);
  return [
    { command: "ip -j addr", stdout: shown },
    ...["-4", "-6"].flatMap((family) => [
      { command: `ip -j ${family} route show default`, stdout: routes },
      { command: `ip -j ${family} addr show dev eth0`, stdout: shown },
    ]),
  ];
}

/** The UID that a kubelet gives to a static pod of this name. */
export function staticUid(name: string): string {
  return createHash("md5").update(name).digest("hex");
}

/**
 * The output of `crictl ps -a -o json` for these containers, all running: those of static pods by their
 * names, and `others` as they are.
 */
export function crictlPs(
  names: readonly string[],
  others: readonly Partial<Omit<Container, "created">>[] = [],
): string {
  const own = names.map((name): Partial<Container> => {
    const isStatic = ([...CONTROL_PLANE, "kube-vip"] as readonly string[]).includes(name);
    return { name, podUid: isStatic ? staticUid(name) : `${name}-uid` };
  });
  const containers = [...own, ...others].map(
    ({
      name = "",
      id = `${name}-id`,
      pod = `${name}-m1`,
      namespace = "kube-system",
      podUid,
      running = true,
    }) => ({
      id,
      metadata: { name },
      labels: {
        "io.kubernetes.pod.name": pod,
        "io.kubernetes.pod.namespace": namespace,
        "io.kubernetes.pod.uid": podUid,
      },
      state: running ? "CONTAINER_RUNNING" : "CONTAINER_EXITED",
      createdAt: `${Date.now()}000000`,
    }),
  );
  return JSON.stringify({ containers });
}

/** A kubelet that can be stopped and started, and a runtime with its containers. */
function commandsOf(
  name: string,
  { containers = ["kube-proxy", "coredns"], commands = [] }: NodeOptions,
): FakeCommand[] {
  const addr_info = [
    { scope: "global", local: name === "m1" ? ADDRESS : "127.77.0.21" },
    { scope: "link", local: "fe80::1" },
  ];
  const usual: FakeCommand[] = [
    { command: "uname -n", stdout: `${name}\n` },
    {
      command: "ip -j addr",
      stdout: JSON.stringify([{ addr_info: [{ scope: "host", local: "127.0.0.1" }] }, { addr_info }]),
    },
    { command: "timedatectl show --property=NTPSynchronized --value", stdout: "yes\n" },
    { command: "systemctl cat kubelet", stdout: KUBEADM_UNIT },
    { command: "systemctl show -p MainPID --value kubelet", stdout: "0\n" },
    { command: "systemctl show -p MainPID --value etcd", stdout: "0\n" },
    { command: "systemctl is-active --quiet kubelet", does: IS_ACTIVE_QUIETLY },
    { command: "systemctl is-active kubelet", does: IS_ACTIVE },
    // it ends when the kubelet has: what that was writing is whole
    {
      command: "systemctl stop kubelet",
      does: `while test -e "$FAKE/${WRITING}"; do :; done; echo > "$FAKE/stopped"`,
    },
    { command: "systemctl start kubelet", does: 'rm -f "$FAKE/stopped"' },
    { command: "systemctl restart kubelet", does: 'rm -f "$FAKE/stopped"' },
    { command: "systemd-run *", does: 'echo > "$FAKE/approving"' },
    {
      command: "systemctl is-active --quiet kube-pki-repair-approve",
      does: 'test -e "$FAKE/approving" || exit 3',
    },
    { command: "systemctl stop kube-pki-repair-approve", does: 'rm -f "$FAKE/approving"' },
    { command: "systemctl reset-failed kube-pki-repair-approve" },
    {
      command: "journalctl --quiet *",
      stdout: "== Approve the certificates that workers ask for with the token\n",
    },
    { command: `${CRICTL} ps -a -o json`, stdout: crictlPs(containers) },
    {
      command: `${CRICTL} inspect -o json *`,
      stderr: "rpc error: code = NotFound desc = not found",
      exit: 1,
    },
    { command: `${CRICTL} stop --timeout 0 *` },
    { command: `${CRICTL} inspecti -q *`, stdout: "sha256:0123\n" },
    // tmpfs, so that no test ever searches the machine's own disk
    {
      command: "findmnt *",
      stdout: JSON.stringify({
        filesystems: [{ source: "tmpfs", fstype: "tmpfs", options: "rw", target: "/" }],
      }),
    },
  ];
  const replaced = new Set(commands.map(({ command }) => command));
  return [...commands, ...usual.filter(({ command }) => !replaced.has(command))];
}

function startScript(line: string, env: Record<string, string>, root: string, inside: string[]) {
  const [script, ...args] = line.split(" ");
  const [place = "", ...of] = inside;
  return Bun.spawn(
    [...(place ? [Bun.which(place)!, ...of] : []), process.execPath, `${HOME}/scripts/${script}.ts`, ...args],
    {
      cwd: HOME,
      env: envOf(root, env),
      stdout: "pipe",
      stderr: "pipe",
    },
  );
}

function envOf(root: string, env: Record<string, string>): Record<string, string> {
  return { PWD: "/root", KUBE_PKI_REPAIR_ROOT: root, KUBE_PKI_REPAIR_PATIENCE: "0.0005", ...env };
}

async function toItsEnd(child: ReturnType<typeof startScript>): Promise<Transcript> {
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { exitCode, stdout, stderr };
}

/** Without what differs from run to run; no secret was printed, or kept. */
export async function ended(run: Promise<Transcript>, root: string): Promise<Transcript> {
  const { exitCode, stdout, stderr } = await run;
  expect(stdout + stderr).not.toMatch(/PRIVATE KEY|\beyJ[\w-]{20,}\./);
  const kept = keptOn(root).flatMap(({ text, record }) => [text, JSON.stringify(record)]);
  expect(kept.length > 0 ? secretsIn(kept, root) : []).toEqual([]);
  return { exitCode, stdout: settled(stdout, root), stderr: settled(stderr, root) };
}

/** Replaces all that differs from run to run. */
export function settled(text: string, root?: string): string {
  return (root === undefined ? text : text.replaceAll(root, "ROOT"))
    .replaceAll(ADDRESS, SHOWN_ADDRESS)
    .replace(/kube-pki-repair-\d{8}T\d{6}/g, "kube-pki-repair-TIME")
    .replace(/kubelet-client-\d{4}(-\d\d){5}\.pem/g, "kubelet-client-TIME.pem")
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, "TIME")
    .replace(/\b20\d\d-\d\d-\d\d\b/g, "DATE")
    .replace(/sha256:[0-9a-f]{12,64}/g, "sha256:HASH")
    .replace(/^kube-pki-repair \d+\.\d+\.\d+(?:\+\w+)?/gm, "kube-pki-repair VERSION");
}

/** What a script says where a program takes long, as on a busy machine. */
const STILL_WAITING =
  /^ {2}(still waiting for .*(?: \(since|, until) [\d:]{8}[,) ].*|and \d+ more like these)\n/gm;

/**
 * Compares the output of a whole run with its file in test/transcripts. UPDATE_TRANSCRIPTS=1 writes the file.
 */
export async function expectTranscript(name: string, { exitCode, stdout, stderr }: Transcript) {
  const said = stderr.replace(STILL_WAITING, "").trimEnd();
  const text = [`exit code ${exitCode}`, "----- stdout", stdout.trimEnd(), "----- stderr", said, ""].join(
    "\n",
  );
  const file = Bun.file(`${import.meta.dir}/../transcripts/${name}.txt`);
  if (process.env.UPDATE_TRANSCRIPTS) await Bun.write(file, text);
  expect(text).toBe(await file.text());
}

function fingerprint(root: string): string[] {
  return readdirSync(root, { recursive: true, encoding: "utf8" })
    .sort()
    .map((path) => {
      const info = lstatSync(join(root, path));
      const content = info.isFile()
        ? createHash("sha256")
            .update(readFileSync(join(root, path)))
            .digest("hex")
        : "";
      const target = info.isSymbolicLink() ? readlinkSync(join(root, path)) : "";
      // the lock comes and goes in /run, which is memory
      const time = path === "run" ? 0 : info.mtimeMs;
      return [path, info.mode.toString(8), info.uid, time, content, target].join(" ");
    });
}
