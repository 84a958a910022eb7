/**
 * Cut points: each script that writes loses power right after each of its changes, then it runs again. The
 * end has to be that of a run without a cut, and no file is ever half of one. A sample cuts each script once,
 * in its middle.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { packTar } from "../../shared/hand-over/bundle.ts";
import { seal } from "../../shared/hand-over/sealed.ts";
import { WORDS_FILE } from "../../shared/node/rescue-folder.ts";
import { certInfo } from "../../shared/pki/certificate.ts";
import { certRow, SHARED_FILES } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import { renewCa } from "../../shared/pki/renew.ts";
import { afterPart2, MANAGER } from "../pretend/after-part2.ts";
import { status } from "../pretend/api.ts";
import { bundleOf, sharedFiles } from "../pretend/bundles.ts";
import { ADDRESS, healthyCp, otherCa, write } from "../pretend/cluster.ts";
import { type CutNode, type CutScene, cutAndAgain, uncut } from "../pretend/cut-run.ts";
import { sameEtcd, serveEtcd, serveUnit } from "../pretend/etcd.ts";
import { commandsOf, nodeOf, UNIT_MEMBER } from "../pretend/etcd-as-unit.ts";
import { testFacts } from "../pretend/facts.ts";
import { servePart2 } from "../pretend/in-part2.ts";
import { bootstrap, join, LEASE, newCa, serve, writeToken } from "../pretend/joining.ts";
import { movedWords } from "../pretend/kept-words.ts";
import { LONG_LIFE, longLives } from "../pretend/long-lives.ts";
import { bigInt, POD_UID, podRecord, pretendProcess } from "../pretend/memory.ts";
import { CRICTL, crictlPs, pretendNode, routesOf } from "../pretend/node.ts";
import { newKeyOf, tokenBy } from "../pretend/old-keys.ts";
import { knewCa, LEASES, lease, living, MANAGER_LEASE, serveRunning } from "../pretend/running.ts";
import { serveStale } from "../pretend/stale.ts";
import { IS_SAMPLE } from "./sample.ts";

/** Milliseconds: all cuts of one script, on a machine that has other things to do. */
setDefaultTimeout(3_600_000);

const { root: healthy, ca } = await healthyCp();
const before = await otherCa();
const pki = (file: string) => readFileSync(`${healthy}/etc/kubernetes/pki/${file}`, "utf8");
const API_SERVER = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const MARK = "/etc/kubernetes/.kube-pki-repair-new-sa-key";
const OLD_KEY = "--service-account-key-file=/etc/kubernetes/pki/sa-old.pub";
const BINDING = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/kube-pki-repair:kubelet-bootstrap";
const TOKEN_SECRET = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-aaaaaa";
const OURS = {
  type: "bootstrap.kubernetes.io/token",
  data: { description: btoa("kube-pki-repair: workers come back") },
};
const identity = await generateX25519Identity();
const newer = await sharedFiles();

/** Where the API server is now, for who has another address of it in its files. */
const MOVED_TO = "127.66.0.11";
const movedServer = await issueLeaf(certRow("apiserver"), ca, testFacts({ advertiseAddress: MOVED_TO }));

/** Where this machine was; its files have today's address, as after part 2. */
const MOVED_FROM = "127.66.0.12";

async function movedBefore() {
  const node = await pretendNode({ kind: "healthy control plane node" });
  const file = `${node.root}/root/kube-pki-repair-20261129T080000/${WORDS_FILE}`;
  write(file, movedWords([[MOVED_FROM, ADDRESS]]), 0o600);
  return node;
}

/** ConfigMaps of kube-system that still lead there. */
function namingOld() {
  const data = { config: `server: https://${MOVED_FROM}:6443` };
  return Object.fromEntries(
    ["kubeadm-config", "kube-proxy"].map((name) => [
      `/api/v1/namespaces/kube-system/configmaps/${name}`,
      { data },
    ]),
  );
}

/** Starts a server, or does what a kubelet does, as soon as that is possible. */
function as(isPossible: () => boolean, start: () => Disposable | Promise<void>) {
  let started: Disposable | Promise<void> | undefined;
  const look = setInterval(() => {
    if (!started && isPossible()) started = start();
  }, 20);
  return {
    [Symbol.dispose]() {
      clearInterval(look);
      if (started && !(started instanceof Promise)) started[Symbol.dispose]();
    },
  };
}

function all(...parts: Disposable[]): Disposable {
  return { [Symbol.dispose]: () => parts.forEach((part) => void part[Symbol.dispose]()) };
}

const restarted = (node: CutNode) =>
  node.exists("/etc/kubernetes/manifests/etcd.yaml") && node.calls().includes("systemctl restart kubelet");
const serveOldEtcd = (node: CutNode, stored: Map<string, string>) =>
  as(
    () => restarted(node),
    () => serveEtcd(node.root, sameEtcd(stored)),
  );

const START_UNIT = "systemctl restart --no-block etcd";
const ETCD_UNIT = [
  { command: "systemctl stop etcd" },
  { command: START_UNIT },
  { command: "systemctl show -p MainPID --value etcd", stdout: "0\n" },
];

/** An etcd that is a unit begins with the certificates that it finds. */
const serveNewUnit = (node: CutNode, { stored }: { stored: Map<string, string> }) =>
  as(
    () => node.calls().includes(START_UNIT),
    () => {
      const names = { ca: "ca", cert: "member-m1", key: "member-m1-key" };
      const read = (name: string) => readFileSync(`${node.root}/etc/ssl/etcd/ssl/${name}.pem`, "utf8");
      const pems = { ca: read(names.ca), cert: read(names.cert), key: read(names.key) };
      return serveUnit(pems, { ...sameEtcd(stored), members: [UNIT_MEMBER] });
    },
  );

/** /etc/kubernetes is gone; the controller-manager still runs, and a pod holds a token. */
async function withMemory() {
  const node = await pretendNode();
  const sa = { key: pki("sa.key"), pub: pki("sa.pub") };
  const conf = readFileSync(`${healthy}/etc/kubernetes/controller-manager.conf`, "utf8");
  const holds = [bigInt(createPrivateKey(pki("ca.key"))), Buffer.from(sa.key)];
  pretendProcess(node.root, {
    pid: 31,
    comm: "kube-controller",
    holds,
    mounts: { "/etc/kubernetes/controller-manager.conf": conf },
  });
  mkdirSync(`${node.root}/dev/shm`, { recursive: true });
  podRecord(node.root, "kube-system", "kube-proxy-x", POD_UID);
  const token = tokenBy(sa, { alg: "ES256", of: "kube-system:kube-proxy", issuedAt: 1000 });
  write(
    `${node.root}/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/kube-api-access/token`,
    token,
  );
  return node;
}

/** Part 1 has run here for real. */
async function afterPart1() {
  const node = await pretendNode();
  using _etcd = serveOldEtcd(node, node.stored);
  const { exitCode, stderr } = await node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  return node;
}

function serveApi(node: CutNode) {
  const renewed = Object.fromEntries(["m1", "w1", "w2"].map((name) => [`${LEASES}/${name}`, lease(-60)]));
  const trust = { data: { "client-ca-file": ca.cert } };
  const objects = {
    "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication": trust,
    ...renewed,
  };
  return as(
    () => node.exists(API_SERVER),
    () => serveRunning(node, { objects }),
  );
}

/**
 * A worker with the token file, and a kubelet that asks for a certificate when it finds a bootstrap
 * kubeconfig.
 */
function kubeletJoins(node: CutNode) {
  const conf = `${node.root}/etc/kubernetes`;
  const isAsked = () =>
    node.exists("/etc/kubernetes/bootstrap-kubelet.conf") &&
    !node.exists("/etc/kubernetes/kubelet.conf") &&
    node
      .calls()
      .filter((call) => /systemctl (stop|start|restart) kubelet/.test(call))
      .at(-1) !== "systemctl stop kubelet";
  mkdirSync(conf, { recursive: true });
  const api = serve(newCa);
  const kubelet = as(isAsked, async () => {
    await bootstrap(node, newCa, isAsked);
    (await api).objects.get(LEASE).spec.renewTime = new Date(Date.now() + 600_000).toISOString();
  });
  return all(kubelet, { [Symbol.dispose]: () => void api.then((one) => one[Symbol.dispose]()) });
}

/**
 * A runtime in which the kubelet starts another container of a static pod when its manifest is another one.
 */
function restartedByManifest(name: string, manifest: string) {
  const [start, end] = crictlPs([name]).split(`"${name}-id"`);
  const file = `"$KUBE_PKI_REPAIR_ROOT${manifest}"`;
  const none = JSON.stringify({ containers: [] });
  const does = `if test -e ${file}; then echo '${start}"'$(stat -c %i ${file})'"${end}'; else echo '${none}'; fi`;
  return [{ command: `${CRICTL} ps -a -o json`, does }];
}

async function withOldKey() {
  const node = await pretendNode({ kind: "healthy control plane node" });
  write(`${node.root}/etc/kubernetes/pki/sa-old.pub`, newKeyOf("ECDSA-P256").pub, 0o644);
  write(
    node.root + API_SERVER,
    node.read(API_SERVER).replace(/^( *- )(--service-account-key-file=.*)$/m, `$1$2\n$1${OLD_KEY}`),
  );
  write(node.root + MARK, JSON.stringify({ made: new Date().toISOString(), kid: "today" }), 0o644);
  return node;
}

/** While its manifest is away, the API server does not answer. */
const serveByManifest = (node: CutNode) =>
  serveRunning(node, {
    on: ({ path }) => {
      if (!node.exists(API_SERVER)) return status(503, "the API server is not there");
      return path === "/openid/v1/jwks" ? Response.json({ keys: [{ kid: "today" }] }) : undefined;
    },
  });

async function withBundle(
  kind: "wiped control plane node" | "healthy control plane node",
  files: Map<string, Uint8Array>,
) {
  const node = await pretendNode({ kind });
  const sealed = await seal(packTar(bundleOf(files)), { recipients: [await identityToRecipient(identity)] });
  await Bun.write(`${node.root}/root/keys.age`, sealed);
  write(`${node.root}/root/id`, `${identity}\n`);
  return node;
}

/** A controller-manager leads: nobody is waited for. */
function serveLed(node: CutNode) {
  const api = servePart2(node);
  api.objects.get(MANAGER_LEASE).spec = { holderIdentity: "m1_a", renewTime: new Date().toISOString() };
  return api;
}

/** What takes the place of its CA is in a folder. */
async function workerWithCa() {
  const node = await pretendNode({ kind: "worker" });
  const renewed = renewCa(ca.cert, ca.key, { hours: LONG_LIFE, signed: [] });
  write(`${node.root}/root/new/ca.crt`, renewed, 0o644);
  return node;
}

const same = new Map(SHARED_FILES.map((file): [string, Uint8Array] => [file, Buffer.from(pki(file))]));
const hashOf = (files: Map<string, Uint8Array>) =>
  certInfo(Buffer.from(files.get("ca.crt")!).toString()).publicKeyHash;
const unpack = (files: Map<string, Uint8Array>) =>
  `hand-over unpack keys.age --identity id --ca-hash ${hashOf(files)}`;

const SCENES: CutScene[] = [
  { line: "00-salvage", before: withMemory },
  {
    line: "01-etcd --new-cas",
    before: () => pretendNode(),
    options: { containers: ["kube-apiserver", "kube-controller-manager", "kube-proxy"] },
    around: (node, { stored }) => serveOldEtcd(node, stored),
  },
  {
    line: "01-etcd --new-internal-cas",
    before: async () => {
      const node = await nodeOf("KubeKey 3", { commands: ETCD_UNIT });
      rmSync(`${node.root}/etc/ssl/etcd`, { recursive: true });
      return node;
    },
    options: { commands: [...ETCD_UNIT, ...commandsOf("KubeKey 3")] },
    around: serveNewUnit,
  },
  {
    line: "02-control-plane",
    before: afterPart1,
    around: (node, { stored }) => all(serveEtcd(node.root, sameEtcd(stored)), serveApi(node)),
  },
  { line: "03-workers open", before: afterPart2, around: (node) => serveRunning(node) },
  {
    line: join(),
    before: async () => {
      const node = await pretendNode({ kind: "worker" });
      writeToken(node.root);
      return node;
    },
    options: { kind: "worker" },
    around: kubeletJoins,
    between: /bootstrap-kubelet\.conf$|join-unfinished$/,
  },
  {
    line: "03-workers close",
    before: afterPart2,
    options: { commands: restartedByManifest("kube-controller-manager", MANAGER) },
    around: (node) => serveRunning(node, { objects: { [BINDING]: {}, [TOKEN_SECRET]: OURS } }),
  },
  {
    line: "04-sa-tokens",
    before: async () => {
      const node = await pretendNode({ kind: "healthy control plane node", etcd: knewCa(before.cert) });
      write(node.root + MARK, JSON.stringify({ made: new Date().toISOString(), kid: "today" }), 0o644);
      return node;
    },
    around: (node) => serveStale(node, before.cert),
  },
  {
    line: "04-sa-tokens retire",
    before: withOldKey,
    options: { commands: restartedByManifest("kube-apiserver", API_SERVER) },
    around: serveByManifest,
  },
  {
    line: "renew-ca",
    before: () => pretendNode({ kind: "healthy control plane node", etcd: longLives }),
    options: { kind: "healthy control plane node" },
    around: (node, { stored }) => all(serveEtcd(node.root, sameEtcd(stored)), serveLed(node)),
  },
  { line: "renew-ca --from /root/new", before: workerWithCa, options: { kind: "worker" } },
  {
    line: "move",
    before: () => pretendNode({ kind: "healthy control plane node" }),
    options: { commands: routesOf(MOVED_TO) },
  },
  {
    line: "move --without w2",
    before: movedBefore,
    options: { kind: "healthy control plane node" },
    around: (node, { stored }) =>
      all(
        serveEtcd(node.root, sameEtcd(stored)),
        serveRunning(node, { objects: namingOld(), on: living(["m1", "w1", "w2"]) }),
      ),
  },
  {
    line: `move --moved ${ADDRESS}=${MOVED_TO}`,
    before: () => pretendNode({ kind: "worker" }),
    options: { kind: "worker" },
    around: (node) => serveRunning(node, { hostname: MOVED_TO, tls: movedServer, on: living(["w1"]) }),
  },
  { line: unpack(same), before: () => withBundle("wiped control plane node", same) },
  { line: `${unpack(newer)} --move-aside`, before: () => withBundle("healthy control plane node", newer) },
];

/** After which changes a script is cut that makes so many. */
function cutsOf(changes: number): number[] {
  return IS_SAMPLE ? [Math.ceil(changes / 2)] : Array.from({ length: changes }, (_, index) => index + 1);
}

const numbers: string[] = [];
afterAll(() => console.log(numbers.join("\n")));

test.each(
  SCENES.map((scene): [string, CutScene] => [
    scene.line.replace(/ --(server|ca-hash|identity) \S+/g, ""),
    scene,
  ]),
)("%s that loses power after any of its changes, run again, ends as without a cut", async (name, scene) => {
  using node = await scene.before();
  const whole = await uncut(scene, node);
  const [right, ends]: unknown[][] = [[], []];
  for (const after of cutsOf(whole.changes)) {
    const { cut, ...end } = await cutAndAgain(scene, node, { after, whole }).catch((err: Error) => ({
      cut: "red",
      err,
    }));
    if (!cut) continue;
    ends!.push({ after, cut, ...end });
    right!.push({
      after,
      cut,
      files: whole.files,
      api: whole.api,
      machine: whole.machine,
      strange: [],
      lost: 0,
    });
  }
  numbers.push(`${name}: ${ends!.length} cuts of ${whole.changes} changes`);
  expect(ends).toEqual(right!);
  expect(ends).not.toBeEmpty();
});
