/**
 * A control plane node that has lost shared keys, and a script that is typed there: how it ended, what it changed, and
 * what its first screen promised. Dead: nothing of the control plane runs, until the kubelet starts. Alive: all runs.
 */
import { expect } from "bun:test";
import { serviceAccountKeyId } from "../../shared/pki/sa-keys.ts";
import { ADDRESS } from "./cluster.ts";
import { sameEtcd, serveEtcd } from "./etcd.ts";
import { gone, type PretendNode } from "./in-process.ts";
import { CHANGES, SERVER_NAMES } from "./living.ts";
import { longLives } from "./long-lives.ts";
import { CRICTL, crictlPs } from "./node.ts";
import { MANAGER_LEASE, newLeader, serveRunning } from "./running.ts";
import { nodeHere } from "./typed-here.ts";

/** Below /etc/kubernetes/pki: the private key, then its public half. */
const KEYS: Record<string, readonly [string, string]> = {
  ca: ["ca.key", "ca.crt"],
  "etcd-ca": ["etcd/ca.key", "etcd/ca.crt"],
  "front-proxy-ca": ["front-proxy-ca.key", "front-proxy-ca.crt"],
  sa: ["sa.key", "sa.pub"],
};

const LINES = [
  "01-etcd",
  "01-etcd --new-internal-cas",
  "01-etcd --new-cas",
  "02-control-plane",
  "03-workers open",
  "03-workers close",
  "03-join",
  "04-sa-tokens",
  "04-sa-tokens retire",
  "renew-ca",
  "move",
  `join-again --address ${ADDRESS}:6443 --kubernetes v1.34.4 --lost m1`,
] as const;

export interface LostKeys {
  /** Files below /etc/kubernetes/pki. */
  files: readonly string[];
  line: string;
  alive: boolean;
  /** A line that is typed before, on the same node. */
  after?: string;
}

/** Each key alone, with its public half and without; each two keys; by each script; on a dead and on a living node. */
export const LOST_KEYS: readonly LostKeys[] = losses().flatMap((files) =>
  LINES.flatMap((line) => [true, false].map((alive) => ({ files, line, alive }))),
);

function losses(): (readonly string[])[] {
  const all = Object.values(KEYS);
  const pairs = all.flatMap(([key], i) => all.slice(i + 1).map(([other]) => [key, other]));
  return [...all.map(([key]) => [key]), ...all, ...pairs];
}

export interface Typed {
  exitCode: number;
  stderr: string;
  /** Files of the node, calls of its programs, requests to its API, in words. */
  changed: string[];
  /** Paths of files and links that are new, other or gone. */
  files: string[];
  /** Names of containers and units that were stopped, in the order of the alphabet. */
  stopped: string[];
}

export function nameOf({ files, line, alive, after }: LostKeys): string {
  const lines = [...(after ? [after] : []), line].join(", then ").replace(ADDRESS, "IP");
  return `${files.join(" and ")} lost on a ${alive ? "living" : "dead"} node: ${lines}`;
}

/**
 * A run that stops before its first irreversible sentence has changed nothing; one that stops behind it has not stopped
 * for a lost key.
 */
export async function expectRefusedFirst(row: LostKeys): Promise<Typed> {
  const typed = await typedWithout(row);
  const { exitCode, stderr, changed } = typed;
  if (exitCode === 0) return typed;
  expect(exitCode).toBeOneOf([1, 3]);
  expect({ stderr, changed }).toEqual({
    stderr: expect.stringMatching(/^error: .+\nhint: /m),
    changed: stderr.includes("irreversible: ") ? changed : [],
  });
  expect(stderr.split("irreversible: ")[1] ?? "").not.toMatch(/cannot be used|Cannot sign/);
  return typed;
}

const PATIENCE = { KUBE_PKI_REPAIR_PATIENCE: "0.02" };

/** Containers that were stopped stay so while the kubelet is stopped, which starts them again. */
const RUNTIME = [
  { command: `${CRICTL} stop --timeout 0 *`, does: 'echo > "$FAKE/ended"' },
  {
    command: `${CRICTL} ps -a -o json`,
    does: `test -e "$FAKE/stopped" && test -e "$FAKE/ended" && echo '{"containers":[]}' || echo '${crictlPs(SERVER_NAMES)}'`,
  },
];

const STOPS_SERVER = / stop --timeout \d+ (?:etcd|kube-apiserver)-id$/;

/** Where a part starts the kubelet, etcd and the API come, with the certificates that are there then. */
export async function typedWithout({ files, line, alive, after: first }: LostKeys): Promise<Typed> {
  const containers = alive ? [...SERVER_NAMES] : ["kube-proxy"];
  const commands = alive ? RUNTIME : [];
  using node = await nodeHere({ kind: "healthy control plane node", containers, commands, etcd: longLives });
  const requests: string[] = [];
  let servers = alive ? serve(node) : undefined;
  gone(...files.map((file) => `pki/${file}`))(node);
  const startAgain = () => {
    requests.push(...(servers?.end() ?? []));
    servers = serve(node);
  };
  const type = async (words: string) => {
    const [until, shown] = [node.calls().length, shownBy(node)];
    // a kubelet that restarts leaves the servers that run
    const isStarted = () => {
      const calls = node.calls().slice(until);
      const areEnded = servers === undefined || calls.some((call) => STOPS_SERVER.test(call));
      return areEnded && calls.includes("systemctl restart kubelet");
    };
    const isNew = () => !["", shown].includes(shownBy(node));
    const run = node.run(words, PATIENCE);
    let hasEnded = false;
    const restarted = node.until("the API server to restart", () => hasEnded || isStarted() || isNew());
    await Promise.race([restarted.then(() => (hasEnded ? undefined : startAgain())), run]);
    const result = await run;
    hasEnded = true;
    return result;
  };
  if (first) await type(first);
  const fingerprint = node.fingerprint();
  const before = new Set(fingerprint);
  const typedBefore = node.calls().length;
  const { exitCode, stderr } = await type(line);
  const after = node.fingerprint();
  const written = after.filter((one) => !before.has(one));
  requests.push(...(servers?.end() ?? []));
  const changed = [
    ...written.map((one) => one.split(" ")[0]!),
    ...node.calls().filter((call) => CHANGES.test(call)),
    // a token that is asked for is stored nowhere
    ...requests.filter((one) => !one.endsWith("/token")),
  ];
  const stopped = stoppedBy(node.calls().slice(typedBefore));
  return { exitCode, stderr, changed, files: changedFiles(fingerprint, after), stopped };
}

/** The kubelet runs before: where it restarts, it is stopped. */
function stoppedBy(calls: readonly string[]): string[] {
  const names = calls.flatMap(
    (call) =>
      /^crictl .* stop --timeout \d+ (\S+)-id$|^systemctl (?:stop|restart) (\S+)$/.exec(call)?.slice(1) ?? [],
  );
  return [...new Set(names.filter((name) => name !== undefined))].sort();
}

/** Folders are left out: their times change with what is in them. */
function changedFiles(before: readonly string[], after: readonly string[]): string[] {
  const other = [...new Set(before).symmetricDifference(new Set(after))];
  const paths = other.filter((one) => !FOLDER.test(one)).map((one) => `/${one.split(" ")[0]}`);
  return [...new Set(paths)].sort();
}

/** `st_mode` in octal, after the path. */
const FOLDER = /^\S+ 4\d{4} /;

/** An API server without its certificate does not start. `end` returns the requests that change something. */
function serve(node: PretendNode) {
  const etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const api = shownBy(node) ? serveApi(node) : undefined;
  return {
    end() {
      for (const server of [etcd, api]) server?.[Symbol.dispose]();
      return api?.changes() ?? [];
    },
  };
}

function serveApi(node: PretendNode) {
  return serveRunning(node, {
    on: ({ path, method }, { objects }) => {
      if (method === "DELETE" && path === MANAGER_LEASE) return newLeader(objects);
      return path === "/openid/v1/jwks" ? Response.json({ keys: [{ kid: kidOf(node) }] }) : undefined;
    },
  });
}

/** The API server starts again with it, whether the kubelet does or not. */
function shownBy(node: PretendNode): string {
  const file = "/etc/kubernetes/pki/apiserver.crt";
  return node.exists(file) ? node.read(file) : "";
}

function kidOf(node: PretendNode): string {
  const file = "/etc/kubernetes/pki/sa.pub";
  return node.exists(file) ? serviceAccountKeyId(node.read(file)) : "of the key that was lost";
}
