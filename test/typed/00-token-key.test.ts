/**
 * An old token's key found, given to the API server, and taken out again: 00-token-key, 02-control-plane and
 * 04 retire as operators run them.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, renameSync } from "node:fs";
import { parse } from "yaml";
import { serviceAccountKeyId } from "../../shared/pki/sa-keys.ts";
import { pretendApi } from "../pretend/api.ts";
import { ADDRESS, type Objects, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { servePart2 } from "../pretend/in-part2.ts";
import { withM2 } from "../pretend/lost-cp.ts";
import {
  CRICTL,
  crictlPs,
  expectTranscript,
  MEMBER,
  type NodeOptions,
  pretendNode,
  type Transcript,
} from "../pretend/node.ts";
import { newKeyOf, tokenBy } from "../pretend/old-keys.ts";
import { here } from "../pretend/typed-here.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const old = newKeyOf("ECDSA-P256");
const KID = serviceAccountKeyId(old.pub);
const OLD = "/etc/kubernetes/pki/sa-old.pub";
const FLAG = `--service-account-key-file=${OLD}`;
const API_SERVER = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const MARK = "/etc/kubernetes/.kube-pki-repair-new-sa-key";
const PROXY = { alg: "ES256", of: "kube-system:kube-proxy" };

const settled = (out: Transcript): Transcript => ({ ...out, stderr: out.stderr.replaceAll(KID, "KID") });

/** Of the type that holds a token; `type` as etcd and the API have it. */
function tokenSecret(namespace: string, name: string, token: string) {
  const metadata = { name, namespace, annotations: { "kubernetes.io/service-account.name": "default" } };
  const data = { token: Buffer.from(token).toString("base64") };
  return { apiVersion: "v1", kind: "Secret", type: "kubernetes.io/service-account-token", metadata, data };
}

function withTokens(objects: Objects) {
  objects["secrets/kube-system/old"] = tokenSecret("kube-system", "old", tokenBy(old, PROXY));
  objects["pods/kube-system/kube-proxy-x"] = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "kube-proxy-x", uid: "uid-of-proxy" },
  };
}

/** A control plane node with an old token in etcd's data, and a newer one in a volume of kube-proxy. */
async function nodeWithTokens({
  rootDir = "/var/lib/kubelet",
  ...options
}: NodeOptions & { rootDir?: string } = {}) {
  const node = here(await pretendNode({ etcd: withTokens, ...options }));
  const volume = `${node.root}${rootDir}/pods/uid-of-proxy/volumes/kubernetes.io~projected/kube-api-access-1`;
  write(`${volume}/token`, tokenBy(old, { ...PROXY, issuedAt: 1_790_000_000 }));
  write(`${volume}/namespace`, "kube-system");
  return node;
}

const command = (manifest: string): string[] => parse(manifest).spec.containers[0].command;

test("00-token-key computes the key of kube-proxy's tokens, writes it, and finds it there the next time", async () => {
  using node = await nodeWithTokens();
  const before = node.fingerprint();
  const dry = await node.run("00-token-key --dry-run");
  expect(dry.exitCode).toBe(0);
  expect(node.fingerprint()).toEqual(before);
  await expectTranscript("00-token-key", settled(await node.run("00-token-key")));
  expect(node.read(OLD)).toBe(old.pub);

  const after = node.fingerprint();
  const { stderr } = await node.run("00-token-key");
  expect(stderr).toContain(`${OLD}: is the old key\n`);
  expect(stderr).toContain(`unchanged ${OLD}\n`);
  expect(node.fingerprint()).toEqual(after);
});

test("00-token-key finds the pods of a kubelet with another --root-dir", async () => {
  using node = await nodeWithTokens({ rootDir: "/data/kubelet" });
  const { stderr } = await node.run("00-token-key --dry-run");
  expect(stderr).toContain("tokens in volumes of this node's pods: 0\n");
  write(
    `${node.root}/var/lib/kubelet/kubeadm-flags.env`,
    'KUBELET_KUBEADM_ARGS="--root-dir=/data/kubelet/ --v=2"\n',
  );
  expect((await node.run("00-token-key --dry-run")).stderr).toContain(
    "tokens in volumes of this node's pods: 1\n",
  );
});

test("00-token-key without an old token of kube-system refuses, and writes nothing", async () => {
  using node = here(
    await pretendNode({
      etcd: (objects) => {
        objects["secrets/shop/planted"] = tokenSecret("shop", "planted", tokenBy(old, PROXY));
      },
    }),
  );
  const before = node.fingerprint();
  await expectTranscript("00-token-key-no-token", settled(await node.run("00-token-key")));
  expect(node.fingerprint()).toEqual(before);
});

test("00-token-key takes a kept copy that fits, also out of published keys", async () => {
  using node = await nodeWithTokens();
  const key = await crypto.subtle.importKey(
    "spki",
    der(old.pub),
    { name: "ECDSA", namedCurve: "P-256" },
    true,
    ["verify"],
  );
  const jwk = await crypto.subtle.exportKey("jwk", key);
  write(`${node.root}/root/jwks.json`, JSON.stringify({ keys: [{ ...jwk, use: "sig", kid: KID }] }));
  const { exitCode, stderr } = await node.run("00-token-key --from /root/jwks.json");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("/root/jwks.json: is the old key\n");
  expect(node.read(OLD)).toBe(old.pub);

  write(`${node.root}/root/jwks.json`, '{"keys": [{"kty": "');
  const broken = await node.run("00-token-key --from /root/jwks.json");
  expect(broken.stderr).toContain('error: There are no published keys (JWKS) in "/root/jwks.json"\n');
});

test("00-token-key takes more tokens from a file, but kube-system's tokens still say which key it looks for", async () => {
  using node = await nodeWithTokens();
  const [planted, ofOld] = [newKeyOf("ECDSA-P256"), { alg: "ES256", of: "shop:cart" }];
  write(
    `${node.root}/root/tokens`,
    `${tokenBy(old, ofOld)}\n${tokenBy(planted, { ...PROXY, issuedAt: 1_999_999_999 })}\n`,
  );
  const { stderr } = await node.run("00-token-key --token-file /root/tokens");
  expect(stderr).toContain("tokens in volumes of this node's pods: 1; in the file: 2\n");
  expect(stderr.replaceAll(KID, "KID")).toContain(
    "key KID: the tokens' kid names it, and 3 of 3 tokens verify\n",
  );
  const { exitCode, stderr: missing } = await node.run("00-token-key --token-file /root/nothing");
  expect(exitCode).toBe(1);
  expect(missing).toContain('error: There is no "/root/nothing"\n');
});

test("00-token-key where today's sa.key signed all tokens has nothing to do", async () => {
  using node = await nodeWithTokens({ kind: "healthy control plane node" });
  write(`${node.root}/etc/kubernetes/pki/sa.key`, old.key);
  write(`${node.root}/etc/kubernetes/pki/sa.pub`, old.pub);
  const { exitCode, stderr } = await node.run("00-token-key");
  expect(exitCode).toBe(0);
  expect(stderr).toContain("all of them verify with the current sa.pub: there is no old key to look for\n");
  expect(node.exists(OLD)).toBe(false);
});

test("00-token-key carries the key to the other control plane nodes, but not to one that part 2 took out of etcd", async () => {
  const lost = { id: "b1b2c3d4e5f60718", name: "m2", peerURLs: ["https://127.77.0.12:2380"] };
  const etcd = (objects: Objects) => {
    withTokens(objects);
    withM2(objects);
  };
  using node = await nodeWithTokens({ kind: "healthy control plane node", etcd, members: [MEMBER, lost] });
  const state = { ...sameEtcd(node.stored), members: [MEMBER, lost] };
  using _etcd = serveEtcd(node.root, state);
  const line = "scp -p /etc/kubernetes/pki/sa-old.pub root@127.77.0.12:/etc/kubernetes/pki/\n";
  expect((await node.run("00-token-key --dry-run")).stdout).toBe(line);
  state.members = [MEMBER];
  const { stdout, stderr } = await node.run("00-token-key");
  expect(stdout).toBe("");
  expect(stderr).toContain(
    "  m2: no member of etcd any more (02-control-plane --lost): left out here, too\n",
  );
  expect(stderr).toEndWith("\ndone.  next: ./bunw scripts/02-control-plane.ts\n");
});

/**
 * The API of a healthy control plane node. Its published keys follow its manifest, as after the kubelet's
 * restart of it.
 */
function serveApi(node: Awaited<ReturnType<typeof pretendNode>>, objects: Record<string, object> = {}) {
  const [cert, key] = ["crt", "key"].map((end) =>
    readFileSync(`${node.root}/etc/kubernetes/pki/apiserver.${end}`, "utf8"),
  );
  return pretendApi({
    hostname: ADDRESS,
    port: 6443,
    tls: { cert: cert!, key: key! },
    objects: { "/api/v1/namespaces/kube-system/serviceaccounts/default": {}, ...objects },
    on: ({ path }) => {
      if (path !== "/openid/v1/jwks") return undefined;
      const kids = command(node.read(API_SERVER)).includes(FLAG) ? ["today", KID] : ["today"];
      return Response.json({ keys: kids.map((kid) => ({ kid })) });
    },
  });
}

async function controlPlaneWithOldKey(options: NodeOptions = {}) {
  const node = await nodeWithTokens({
    ...{ kind: "healthy control plane node", containers: ["kube-apiserver"] },
    ...options,
    commands: [{ command: `${CRICTL} stop --timeout 2 kube-apiserver-id` }, ...(options.commands ?? [])],
  });
  write(node.root + OLD, old.pub, 0o644);
  const text = node.read(API_SERVER).replace(/^( *- )(--service-account-key-file=.*)$/m, `$1$2\n$1${FLAG}`);
  write(node.root + API_SERVER, text);
  return node;
}

test("04-sa-tokens retire refuses while a Secret or a pod holds a token of the old key, and changes nothing", async () => {
  using node = await controlPlaneWithOldKey();
  const volumes = [{ name: "t", projected: { sources: [{ serviceAccountToken: {} }] } }];
  const oldPodOn = (nodeName: string) => ({
    spec: { nodeName, volumes },
    status: {
      phase: "Running",
      containerStatuses: [{ state: { running: { startedAt: "2026-01-01T00:00:00Z" } } }],
    },
  });
  using api = serveApi(node, {
    "/api/v1/namespaces/kube-system/secrets/old": tokenSecret("kube-system", "old", tokenBy(old, PROXY)),
    "/api/v1/namespaces/kube-system/secrets/orphan": {
      ...tokenSecret("kube-system", "orphan", tokenBy(old, PROXY)),
      metadata: { annotations: { "kubernetes.io/service-account.name": "gone" } },
    },
    "/api/v1/nodes/w1": {},
    "/api/v1/nodes/m1": {},
    "/api/v1/namespaces/shop/pods/batch": oldPodOn("w1"),
    "/api/v1/namespaces/shop/pods/renewed": oldPodOn("m1"),
    "/api/v1/namespaces/shop/pods/behind": oldPodOn("m1"),
  });
  const volume = (pod: string) =>
    `${node.root}/var/lib/kubelet/pods/uid-of-${pod}/volumes/kubernetes.io~projected/t`;
  const today = {
    key: node.read("/etc/kubernetes/pki/sa.key"),
    pub: node.read("/etc/kubernetes/pki/sa.pub"),
  };
  write(`${volume("renewed")}/token`, tokenBy(today, { alg: "ES256", of: "shop:default" }));
  write(`${volume("behind")}/token`, tokenBy(old, { alg: "ES256", of: "shop:default" }));
  const before = node.fingerprint();
  await expectTranscript("04-sa-tokens-retire-refused", settled(await node.run("04-sa-tokens retire")));
  expect(node.fingerprint()).toEqual(before);
  expect(api.changes()).toEqual([]);

  write(node.root + MARK, "{}", 0o644);
  const { exitCode } = await node.run("04-sa-tokens retire --force", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect([exitCode, node.exists(OLD), node.exists(MARK)]).toEqual([0, false, true]);
});

test("04-sa-tokens retire takes the old key out of the API server and moves its file aside; again it changes no byte", async () => {
  using node = await controlPlaneWithOldKey();
  using _api = serveApi(node);
  write(node.root + MARK, JSON.stringify({ made: new Date().toISOString(), kid: "today" }), 0o644);
  await expectTranscript(
    "04-sa-tokens-retire",
    settled(await node.run("04-sa-tokens retire", { KUBE_PKI_REPAIR_PATIENCE: "1" })),
  );
  expect([node.exists(OLD), node.exists(MARK)]).toEqual([false, false]);
  expect(
    command(node.read(API_SERVER)).filter((word) => word.startsWith("--service-account-key-file")),
  ).toEqual(["--service-account-key-file=/etc/kubernetes/pki/sa.pub"]);
  const after = node.fingerprint();
  // a lost node's Node is deleted by now
  const { exitCode, stderr } = await node.run("04-sa-tokens retire --lost cp3");
  expect(exitCode).toBe(0);
  expect(stderr).toContain(
    "  cp3: not a node of this cluster any more. If it is mistyped, the nodes are m1, w1, w2\n",
  );
  expect(stderr).toContain("there is no sa-old.pub on this node: nothing to take out\n");
  expect(node.fingerprint()).toEqual(after);
  const { stdout } = await node.run("05-verify");
  expect(stdout).toContain(
    "warning  files: /root/kube-pki-repair-TIME: holds no key and no Secret, only sa-old.pub, the transcripts of 1 run: remove it",
  );
});

test("the way back of retire: sa-old.pub moved back into its place, and part 2 again, which gives the API server the key again", async () => {
  // whenever it is asked, the controller-manager's container is another one: it was started again
  const commands = Array.from({ length: 60 }, (_, i) => ({
    command: `${CRICTL} ps -a -o json`,
    stdout: crictlPs(["kube-apiserver", "kube-controller-manager"]).replace(
      "kube-controller-manager-id",
      `id-${i}`,
    ),
  }));
  using node = await controlPlaneWithOldKey({ commands });
  {
    using _api = serveApi(node);
    expect(await node.run("04-sa-tokens retire", { KUBE_PKI_REPAIR_PATIENCE: "1" })).toMatchObject({
      exitCode: 0,
    });
  }
  expect(command(node.read(API_SERVER))).not.toContain(FLAG);
  const names = readdirSync(`${node.root}/root`, { recursive: true, encoding: "utf8" });
  renameSync(`${node.root}/root/${names.find((name) => name.endsWith("/sa-old.pub"))}`, node.root + OLD);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = servePart2(node, [KID]);
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(command(node.read(API_SERVER))).toContain(FLAG);
});

test("04-sa-tokens retire leaves an API server that waits for its balancers to the kubelet", async () => {
  using node = await controlPlaneWithOldKey();
  const drains = node
    .read(API_SERVER)
    .replace(/^( *- )(--service-account-issuer=)/m, "$1--shutdown-delay-duration=30s\n$1$2");
  write(node.root + API_SERVER, drains);
  using _api = serveApi(node);
  const { exitCode, stderr } = await node.run("04-sa-tokens retire", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(command(node.read(API_SERVER))).toContain("--shutdown-delay-duration=30s");
  expect(stderr).not.toContain("stopped kube-apiserver");
});

test("04-sa-tokens retire that was cut off while the manifest was out of its folder goes on", async () => {
  using node = await controlPlaneWithOldKey();
  renameSync(
    node.root + API_SERVER,
    node.root + API_SERVER.replace("kube-apiserver.yaml", ".kube-apiserver.yaml"),
  );
  using _api = serveApi(node);
  const { exitCode, stderr } = await node.run("04-sa-tokens retire", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect([exitCode, stderr]).toEqual([
    0,
    expect.stringContaining(
      "renamed /etc/kubernetes/manifests/.kube-apiserver.yaml to kube-apiserver.yaml\n",
    ),
  ]);
  expect(command(node.read(API_SERVER))).not.toContain(FLAG);
  expect(node.exists(OLD)).toBe(false);
});

test("04-sa-tokens refuses a word that it does not know", async () => {
  using node = here(await pretendNode({ kind: "no node" }));
  const { exitCode, stderr } = await node.run("04-sa-tokens retier");
  expect(exitCode).toBe(64);
  expect(stderr).toContain('error: 04-sa-tokens has no sub-command "retier"\nhint: type retire, or see ');
});

test("05-verify warns of an old key that is still there", async () => {
  using node = await controlPlaneWithOldKey();
  using _api = serveApi(node);
  const { stdout } = await node.run("05-verify");
  expect(stdout).toContain(`warning  files: ${OLD}: old tokens are still accepted\n`);
});

function der(pem: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(pem.replace(/-----.*-----/g, ""), "base64"));
}
