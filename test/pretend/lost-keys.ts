/**
 * A control plane node that has lost shared keys, and a script that is typed there: how it ended, what it changed, and
 * what its first screen promised. Dead: nothing of the control plane runs, until the kubelet starts. Alive: all runs.
 */
import { expect } from "bun:test";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { parse } from "yaml";
import { manifestText } from "../../shared/manifests/on-disk.ts";
import { reduced } from "../../shared/manifests/repair-changes.ts";
import type { Manifest } from "../../shared/objects/objects.ts";
import { serviceAccountKeyId } from "../../shared/pki/sa-keys.ts";
import type { ApiOptions } from "./api.ts";
import { ADDRESS } from "./cluster.ts";
import { type EtcdState, sameEtcd, serveEtcd, serveOtherMember, THIRD_AT, THREE } from "./etcd.ts";
import { gone, type PretendNode } from "./in-process.ts";
import { CHANGES, SERVER_NAMES } from "./living.ts";
import { longLives } from "./long-lives.ts";
import { CRICTL, crictlPs, MEMBER } from "./node.ts";
import type { FakeCommand } from "./programs.ts";
import { living, MANAGER_LEASE, newLeader, serveRunning } from "./running.ts";
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
  "03-workers approve",
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
  /** Another state of the node. */
  also?: keyof typeof ALSO;
  /** One of three control plane nodes is lost for good, too: m2, and the line names it. The third one runs. */
  isMemberLost?: true;
  /** Programs of the node that answer otherwise. */
  commands?: readonly FakeCommand[];
}

/** Changes of a node that is well. */
const ALSO = {
  /** An earlier part 2 has left it so. */
  "its controller-manager is reduced": (node: PretendNode) => {
    const file = `${node.root}/etc/kubernetes/manifests/kube-controller-manager.yaml`;
    const manifest = parse(readFileSync(file, "utf8")) as Manifest;
    writeFileSync(file, manifestText(reduced(manifest, "v1.34.4")));
  },
  /** It publishes that key until it is stopped. */
  "its API server signs with another sa.key": () => undefined,
};

/**
 * Each key alone, with its public half and without; each public half alone; each two keys, also with both public halves; by
 * each script; on a dead and on a living node.
 */
export const LOST_KEYS: readonly LostKeys[] = losses().flatMap((files) =>
  LINES.flatMap((line) => [true, false].map((alive) => ({ files, line, alive }))),
);

/** Lines with an option that takes a member out of etcd, or leaves a node out of account. */
const LOST_LINES = [
  "02-control-plane --lost m2",
  "02-control-plane --lost m2 --lost-on m2",
  "03-join --lost m2",
  "03-workers open --lost m2",
  "03-workers close --lost m2",
  "03-workers approve --lost m2",
  "04-sa-tokens --lost m2",
  "04-sa-tokens retire --lost m2",
];

const NO_IMAGE = {
  command: `${CRICTL} inspecti -q registry.k8s.io/kube-scheduler*`,
  exit: 1,
  stderr: 'FATA[0000] no such image "x" present\n',
};

/**
 * A control plane node is lost for good, and the line says so: with all keys here, with each loss of one, and where an
 * image is missing. A member that is taken out of etcd does not come back.
 */
export const LOST_MEMBERS: readonly LostKeys[] = LOST_LINES.flatMap((line) => [
  ...[[], ...losses().slice(0, 12)].flatMap((files) =>
    [true, false].map((alive) => ({ files, line, alive, isMemberLost: true as const })),
  ),
  { files: [], line, alive: true, isMemberLost: true, commands: [NO_IMAGE] },
]);

function losses(): (readonly string[])[] {
  const all = Object.values(KEYS);
  const pairs = all.flatMap((one, i) => all.slice(i + 1).map((other) => [one, other] as const));
  return [
    ...all.map(([key]) => [key]),
    ...all,
    ...all.map(([, half]) => [half]),
    ...pairs.map(([[key], [other]]) => [key, other]),
    ...pairs.map(([one, other]) => [...one, ...other]),
  ];
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

export function nameOf({ files, line, alive, after, also, isMemberLost, commands }: LostKeys): string {
  const lines = [...(after ? [after] : []), line].join(", then ").replace(ADDRESS, "IP");
  if (also) return `on a living node ${also}: ${lines}`;
  const lost = [...(isMemberLost ? ["m2"] : []), ...files, ...(commands ? ["an image"] : [])].join(" and ");
  return `${lost} lost on a ${alive ? "living" : "dead"} node: ${lines}`;
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
  expect(stderr.split("irreversible: ")[1] ?? "").not.toMatch(
    /cannot be used|Cannot sign|Nothing was changed/,
  );
  return typed;
}

const PATIENCE = { KUBE_PKI_REPAIR_PATIENCE: "0.02" };

/** In $FAKE, from the stop of etcd or the API server to their start. */
const ENDED_SERVERS = "ended-servers";

/**
 * Containers that were stopped stay so while the kubelet is stopped, which starts them again. It restarts when etcd and the
 * API server are new: a run that met the old API server would lose it between two questions.
 */
function runtime(shown: string) {
  return [
    ...["etcd", "kube-apiserver"].map((name) => ({
      command: `${CRICTL} stop --timeout * ${name}-id`,
      does: `echo > "$FAKE/ended"; echo > "$FAKE/${ENDED_SERVERS}"`,
    })),
    { command: `${CRICTL} stop --timeout 0 *`, does: 'echo > "$FAKE/ended"' },
    {
      command: "systemctl restart kubelet",
      does: `rm -f "$FAKE/stopped"; while test -e "$FAKE/${ENDED_SERVERS}"; do :; done`,
    },
    {
      command: `${CRICTL} ps -a -o json`,
      does: `test -e "$FAKE/stopped" && test -e "$FAKE/ended" && echo '{"containers":[]}' || echo '${shown}'`,
    },
  ];
}

/** They have started before this node's files were written, as seen from here. */
const OLD_SERVERS = crictlPs(SERVER_NAMES);

/** They have read the node's files. */
function newServers(): string {
  return OLD_SERVERS.replaceAll(/(?<="createdAt":")\d+(?=")/g, `${Date.now() + 60_000}000000`);
}

const STOPS_API = / stop --timeout \d+ kube-apiserver-id$/;

/** Where a part starts the kubelet, etcd and the API come, with the certificates that are there then. */
export async function typedWithout(row: LostKeys): Promise<Typed> {
  const { files, line, alive, after: first, also, isMemberLost, commands: other = [] } = row;
  const containers = alive ? [...SERVER_NAMES] : ["kube-proxy"];
  const commands = [...other, ...(alive ? runtime(also ? newServers() : OLD_SERVERS) : [])];
  const members = isMemberLost ? [...THREE] : [MEMBER];
  using node = await nodeHere({
    ...{ kind: "healthy control plane node", containers, commands, etcd: longLives },
    members: [...members],
  });
  const third = isMemberLost
    ? await serveOtherMember(node.root, { ...sameEtcd(node.stored), members }, THIRD_AT)
    : undefined;
  await using _third = third ?? { [Symbol.asyncDispose]: async () => undefined };
  const requests: string[] = [];
  const kid = () =>
    also === "its API server signs with another sa.key" && !node.calls().some((call) => STOPS_API.test(call))
      ? "of another key"
      : kidOf(node);
  const api: Api = { kid, renewing: also !== undefined, members };
  let servers = alive ? serve(node, api) : undefined;
  if (also) ALSO[also](node);
  gone(...files.map((file) => `pki/${file}`))(node);
  const startAgain = async () => {
    requests.push(...((await servers?.end()) ?? []));
    servers = serve(node, api);
  };
  const type = async (words: string) => {
    let hasEnded = false;
    // a run that throws has ended, too: servers that start after it would stay at the addresses of the next row
    const run = node.run(words, PATIENCE).finally(() => {
      hasEnded = true;
    });
    const watching = (async () => {
      for (;;) {
        const [until, shown] = [node.calls().length, shownBy(node)];
        const isNew = () => !["", shown].includes(shownBy(node));
        // a kubelet that restarts leaves the servers that run
        const isStarted = () =>
          (servers === undefined || existsSync(`${node.env.FAKE}/${ENDED_SERVERS}`)) &&
          node.calls().slice(until).includes("systemctl restart kubelet");
        await node.until("the API server to restart", () => hasEnded || isStarted() || isNew());
        if (hasEnded) return;
        await startAgain();
        rmSync(`${node.env.FAKE}/${ENDED_SERVERS}`, { force: true });
      }
    })();
    try {
      return await run;
    } finally {
      // a run may end while they start: the next one would find them half started
      await watching;
    }
  };
  if (first) await type(first);
  const fingerprint = node.fingerprint();
  const before = new Set(fingerprint);
  const typedBefore = node.calls().length;
  const { exitCode, stderr } = await type(line);
  const after = node.fingerprint();
  const written = after.filter((one) => !before.has(one));
  requests.push(...((await servers?.end()) ?? []));
  const changed = [
    ...written.map((one) => one.split(" ")[0]!),
    ...node.calls().filter((call) => CHANGES.test(call)),
    // a token that is asked for is stored nowhere
    ...requests.filter((one) => !one.endsWith("/token")),
    ...(isMemberLost && members.length < THREE.length ? ["etcd: a member was taken out"] : []),
  ];
  const stopped = stoppedBy(node.calls().slice(typedBefore), stderr);
  return { exitCode, stderr, changed, files: changedFiles(fingerprint, after), stopped };
}

/** The kubelet runs before: where it restarts, it is stopped. A static pod ends also when its manifest is removed. */
function stoppedBy(calls: readonly string[], stderr: string): string[] {
  const exchanged = stderr.matchAll(/^ {2}removed \S+\/manifests\/([\w-]+)\.yaml/gm);
  const names = calls.flatMap(
    (call) =>
      /^crictl .* stop --timeout \d+ (\S+)-id$|^systemctl (?:stop|restart) (\S+)$/.exec(call)?.slice(1) ?? [],
  );
  return [
    ...new Set([...names, ...[...exchanged].map(([, name]) => name!)].filter((name) => name !== undefined)),
  ].sort();
}

/** Folders are left out: their times change with what is in them. */
function changedFiles(before: readonly string[], after: readonly string[]): string[] {
  const other = [...new Set(before).symmetricDifference(new Set(after))];
  const paths = other.filter((one) => !FOLDER.test(one)).map((one) => `/${one.split(" ")[0]}`);
  return [...new Set(paths)].sort();
}

/** `st_mode` in octal, after the path. */
const FOLDER = /^\S+ 4\d{4} /;

interface Api {
  /** What it publishes. */
  kid: () => string;
  /** All nodes renew their Leases, however long a run takes. */
  renewing: boolean;
  /** Of etcd; one that is taken out is no longer among them. */
  members: EtcdState["members"];
}

/** An API server without its certificate does not start. `end` returns the requests that change something. */
function serve(node: PretendNode, how: Api) {
  const etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), members: how.members });
  const api = shownBy(node) ? serveApi(node, how) : undefined;
  return {
    async end() {
      api?.[Symbol.dispose]();
      await etcd[Symbol.asyncDispose]();
      return api?.changes() ?? [];
    },
  };
}

function serveApi(node: PretendNode, { kid, renewing }: Api) {
  const on: ApiOptions["on"] = ({ path, method }, { objects }) => {
    if (method === "DELETE" && path === MANAGER_LEASE) return newLeader(objects);
    return path === "/openid/v1/jwks" ? Response.json({ keys: [{ kid: kid() }] }) : undefined;
  };
  return serveRunning(node, { on: renewing ? living(["m1", "w1", "w2"], on) : on });
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
