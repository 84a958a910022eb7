/**
 * Webhooks with failurePolicy Fail whose pods are down: the API refuses what they would have looked at, its
 * error names them, and their own pods may be among those that have to restart. Nothing waits for what cannot
 * come, and all the rest goes on.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { afterPart2 } from "../pretend/after-part2.ts";
import { type ApiRequest, status } from "../pretend/api.ts";
import { healthyCp, otherCa } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { newKeyOf, tokenBy } from "../pretend/old-keys.ts";
import { knewCa, LEASES, lease, living, oldPod, renewPod, serveRunning } from "../pretend/running.ts";
import { here, nodeHere } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

await healthyCp();
const before = await otherCa();
const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "1" };
const ROOT_CA = "/api/v1/namespaces/shop/configmaps/kube-root-ca.crt";
const SECRET = "/api/v1/namespaces/shop/secrets/cart-token";
const HOOK = "/apis/apps/v1/namespaces/policy/deployments/hook";
const WEB = "/apis/apps/v1/namespaces/shop/deployments/web";
const OPS = "/apis/apps/v1/namespaces/default/deployments/ops";

type Objects = Record<string, object>;

function deployment(namespace: string, name: string): Objects {
  const parent = { apiVersion: "apps/v1", kind: "Deployment", name, uid: `uid-of-${name}`, controller: true };
  return {
    [`/api/v1/namespaces/${namespace}/pods/${name}-1`]: oldPod(
      `${name}-1`,
      { kind: "ReplicaSet", name: `${name}-5` },
      { app: name },
    ),
    [`/apis/apps/v1/namespaces/${namespace}/replicasets/${name}-5`]: {
      metadata: { ownerReferences: [parent] },
    },
    [`/apis/apps/v1/namespaces/${namespace}/deployments/${name}`]: {
      metadata: { generation: 1 },
      spec: { replicas: 1, selector: { matchLabels: { app: name } }, template: {} },
      status: { observedGeneration: 1, replicas: 1, updatedReplicas: 1, availableReplicas: 1 },
    },
  };
}

const clientConfig = { service: { namespace: "policy", name: "hook" } };
const CALLED: Objects = {
  "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/policy": {
    webhooks: [
      { name: "other.policy.example", clientConfig: { url: "https://elsewhere" } },
      { name: "all.policy.example", clientConfig },
    ],
  },
  "/api/v1/namespaces/policy/services/hook": { spec: { selector: { app: "hook" } } },
};

/** A cluster whose webhook looks at all that is made in shop and kube-system. */
function hooked(node: { read: (path: string) => string }): Objects {
  const token = btoa(tokenBy(newKeyOf("ECDSA-P256"), { alg: "ES256", of: "shop:cart" }));
  return {
    ...CALLED,
    ...deployment("policy", "hook"),
    ...deployment("shop", "web"),
    ...deployment("default", "ops"),
    [ROOT_CA]: { data: { "ca.crt": before.cert } },
    [ROOT_CA.replace("shop", "policy")]: { data: { "ca.crt": node.read("/etc/kubernetes/pki/ca.crt") } },
    "/api/v1/namespaces/shop/serviceaccounts/cart": {},
    [SECRET]: {
      type: "kubernetes.io/service-account-token",
      metadata: { annotations: { "kubernetes.io/service-account.name": "cart" } },
      data: { token, "ca.crt": btoa(before.cert) },
    },
  };
}

type Api = { objects: Map<string, ReturnType<typeof JSON.parse>> };

/** The API while the webhook is deaf; its Deployment's restart heals it, if anything does. */
function calls({ heals }: { heals: boolean }) {
  let deaf = true;
  return ({ method, path }: ApiRequest, { objects }: Api): Response | undefined => {
    if (method === "PATCH" && path === HOOK && heals) deaf = false;
    const [, namespace, name] = /namespaces\/([^/]+)\/deployments\/([^/?]+)/.exec(path) ?? [];
    const looksAt =
      method !== "GET" && /\/namespaces\/(shop|kube-system)\//.test(path) && !path.endsWith("/token");
    if (deaf && looksAt)
      return status(
        500,
        'Internal error occurred: failed calling webhook "all.policy.example": failed to call webhook: refused',
      );
    if (method === "PATCH" && name)
      renewPod(objects as never, `/api/v1/namespaces/${namespace}/pods/${name}-1`);
    return undefined;
  };
}

/** Who asks for a rollout gets a new pod. */
function rolls({ method, path }: ApiRequest, { objects }: Api): Response | undefined {
  const [, namespace, name] = /namespaces\/([^/]+)\/deployments\/([^/?]+)/.exec(path) ?? [];
  if (method === "PATCH" && name)
    renewPod(objects as never, `/api/v1/namespaces/${namespace}/pods/${name}-1`);
  // whoever writes it, it comes back
  return path.startsWith(ROOT_CA) && method !== "GET" && !path.includes("dryRun")
    ? Response.json(objects.get(ROOT_CA))
    : undefined;
}

function afterPart3() {
  return nodeHere({ kind: "healthy control plane node", etcd: knewCa(before.cert) });
}

const WAY_OUT = `kubectl patch --type=json --patch '[{"op":"replace","path":"/webhooks/1/failurePolicy","value":"Ignore"}]' validatingwebhookconfiguration policy`;

test("04-sa-tokens restarts a deaf webhook's own pods first, and then does what the webhook had kept it from", async () => {
  using node = await afterPart3();
  using api = serveRunning(node, { objects: hooked(node), on: calls({ heals: true }) });
  const { exitCode, stderr } = await node.run("04-sa-tokens", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(
    "  kube-root-ca.crt: the current CA in every namespace but shop: there the API refuses it. Continuing without them\n",
  );
  expect(stderr).toContain(
    `  the API refuses it, because the webhook "all.policy.example" does not answer: its pods serve policy/hook: kubectl -n policy get pods. `,
  );
  expect(stderr).toContain(WAY_OUT);
  expect(stderr).toContain("  not yet, because the API refuses it: shop/cart-token\n");
  const patched = api.requests
    .filter(({ method, path }) => method === "PATCH" && !path.includes("dryRun"))
    .map(({ path }) => path);
  const restarted = patched.filter((path) => path !== ROOT_CA);
  expect([restarted[0], restarted.slice(1).sort()]).toEqual([HOOK, [OPS, WEB]]);
  expect(patched.lastIndexOf(ROOT_CA)).toBeLessThan(patched.indexOf(WEB));
  expect(api.objects.get(ROOT_CA).data["ca.crt"]).toBe(node.read("/etc/kubernetes/pki/ca.crt"));
  expect(atob(api.objects.get(SECRET).data["ca.crt"])).toBe(node.read("/etc/kubernetes/pki/ca.crt"));
});

test("04-sa-tokens goes past a webhook that stays deaf, and leaves what it refuses to the operator, with the way out", async () => {
  using node = await afterPart3();
  using api = serveRunning(node, { objects: hooked(node), on: calls({ heals: false }) });
  const { exitCode, stderr } = await node.run("04-sa-tokens", { KUBE_PKI_REPAIR_PATIENCE: "0.01" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  const left = stderr
    .split("\n")
    .filter((line) => line.startsWith("  - ") && line.includes("does not answer"));
  expect(left).toEqual(
    ["Secret shop/cart-token still has old trust", "shop/web (Deployment) still trusts the old CA"].map(
      (what) =>
        expect.stringContaining(
          `  - ${what}: the API refuses it, because the webhook "all.policy.example" does not answer: its pods serve policy/hook`,
        ),
    ),
  );
  for (const line of left) expect(line).toContain(WAY_OUT);
  expect(api.objects.get(OPS).spec.template.metadata.annotations).toBeDefined();
  expect(stderr).toEndWith(
    "error: Not all could be renewed. Left for you: 1 workloads, 1 token Secrets, 1 namespaces\nhint: type the commands that 4.7 names. Then run the same line again: it does only what is left\n",
  );
});

const PROXY = "/api/v1/namespaces/kube-system/pods/kube-proxy-1";

test.each([
  ["that stays deaf: nothing but the webhook restarts", false],
  ["until that webhook is heard again: then it comes first", true],
])(
  "04-sa-tokens does not take kube-proxy away where a webhook would refuse its new pods, %s",
  async (_, heals) => {
    using node = await afterPart3();
    const proxy = oldPod(
      "kube-proxy-1",
      { kind: "DaemonSet", name: "kube-proxy" },
      { "k8s-app": "kube-proxy" },
    );
    const objects = {
      ...hooked(node),
      [PROXY]: proxy,
      "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy": {
        spec: {
          selector: { matchLabels: { "k8s-app": "kube-proxy" } },
          template: { spec: { containers: [{ image: "kube-proxy:v1" }] } },
        },
        status: { desiredNumberScheduled: 1 },
      },
    };
    using api = serveRunning(node, { objects, on: calls({ heals }) });
    const { exitCode, stderr } = await node.run(
      "04-sa-tokens",
      heals ? WAITS : { KUBE_PKI_REPAIR_PATIENCE: "0.01" },
    );
    expect({ exitCode, stderr }).toMatchObject({ exitCode: heals ? 0 : 1 });
    const changes = api.changes().filter((change) => !/token|configmaps|canary|\/pods$/.test(change));
    const after = heals ? [`POST ${PROXY}/eviction`, `PATCH ${OPS}`, `PATCH ${WEB}`] : [];
    expect([changes[0], changes[1], ...changes.slice(2).sort()].filter(Boolean)).toEqual([
      `PATCH ${HOOK}`,
      ...after,
    ]);
    if (heals) return expect(stderr).toContain("  test pods: reached on 1 of 1 nodes\n");
    expect(stderr).toContain(
      "  - default/ops (Deployment) still trusts the old CA: not begun: a new pod gets no traffic from Services until kube-system/kube-proxy (DaemonSet) has restarted: ",
    );
  },
);

test("03-workers open asks for no namespace but the system's: there the controller-manager shows that it leads", async () => {
  using node = here(await afterPart2());
  const bundle = { spec: { signerName: "kubernetes.io/kube-apiserver-serving", trustBundle: before.cert } };
  using api = serveRunning(node, {
    objects: {
      ...CALLED,
      [ROOT_CA]: { data: { "ca.crt": before.cert } },
      "/apis/certificates.k8s.io/v1/clustertrustbundles/left": bundle,
    },
  });
  const { exitCode, stdout, stderr } = await node.run("03-workers open");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("  kube-root-ca.crt: the current CA in kube-system\n");
  expect(stdout).toStartWith("./bunw scripts/03-join.ts --server ");
  expect(api.requests.filter(({ path }) => /configmaps\?|clustertrustbundles/.test(path))).toEqual([]);
});

test("04-sa-tokens leaves a namespace in which somebody writes the old CA back, restarts nothing there, and all the others", async () => {
  using node = await afterPart3();
  using api = serveRunning(node, { objects: hooked(node), on: rolls });
  const { exitCode, stderr } = await node.run("04-sa-tokens", { KUBE_PKI_REPAIR_PATIENCE: "0.02" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  expect(stderr).toContain(
    "  kube-root-ca.crt: the current CA in every namespace but shop: there it does not come, though the API refuses nothing. Continuing without them\n",
  );
  const why = "kube-root-ca.crt of shop still has no current CA, although the API refused no write";
  const look =
    "see who writes it: kubectl -n shop get configmap kube-root-ca.crt -o yaml --show-managed-fields";
  expect(stderr).toContain(`  - shop/web (Deployment) still trusts the old CA: ${why}: ${look}`);
  expect(stderr).toContain("  - kube-root-ca.crt has another CA in: shop");
  expect(api.changes()).toContain(`PATCH ${OPS}`);
  expect(api.changes()).not.toContain(`PATCH ${WEB}`);
  expect(stderr).toContain(
    "error: Not all could be renewed. Left for you: 1 workloads, 0 token Secrets, 1 namespaces\n",
  );
});

test("04-sa-tokens stops where the controller-manager gives kube-system no new CA: nothing may restart before", async () => {
  using node = await afterPart3();
  const map = { [ROOT_CA.replace("shop", "kube-system")]: { data: { "ca.crt": before.cert } } };
  using api = serveRunning(node, { objects: { ...hooked(node), ...map }, on: rolls });
  const { exitCode, stderr } = await node.run("04-sa-tokens", { KUBE_PKI_REPAIR_PATIENCE: "0.01" });
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining("hint: see whether it leads: ")]);
  expect(api.changes()).toEqual([]);
});

/** The API takes no renewal of these Leases from anybody. */
const DEAF = status(
  500,
  'Internal error occurred: failed calling webhook "all.policy.example": failed to call webhook: refused',
);
const onLeases = (names: readonly string[]) => {
  const tries: string[] = [];
  const on = ({ method, path }: ApiRequest) => {
    const isTried = method !== "GET" && names.some((name) => path.startsWith(`${LEASES}/${name}`));
    if (isTried) tries.push(path);
    return isTried ? (DEAF.clone() as Response) : undefined;
  };
  const silent = Object.fromEntries(names.map((name) => [`${LEASES}/${name}`, lease(4000)]));
  return { on, tries, objects: { ...CALLED, ...silent } };
};
const REFUSED = 'the API refuses it, because the webhook "all.policy.example" does not answer';

test("part 2: a webhook that keeps the kubelet from renewing its Lease is named, not the clock", async () => {
  using node = await nodeHere({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { on, tries, objects } = onLeases(["m1"]);
  using api = serveRunning(node, { objects, on });
  const { exitCode, stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "0.02" });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  expect(stderr).toContain(
    `error: Waited 90 s for the Lease of m1 to be renewed: ${REFUSED}\nhint: its pods serve policy/hook`,
  );
  expect(stderr).toContain(WAY_OUT);
  expect(tries.every((path) => path.endsWith("?dryRun=All"))).toBe(true);
  expect(api.changes().filter((change) => change.includes("/leases/m1"))).toEqual([]);
});

test.each(["open", "close", "approve"])(
  "03-workers %s: no kubelet can come back while a webhook refuses its Lease",
  async (name) => {
    using node = here(await afterPart2());
    using api = serveRunning(node, onLeases(["m1", "w1", "w2"]));
    const { exitCode, stderr } = await node.run(`03-workers ${name}`, { KUBE_PKI_REPAIR_PATIENCE: "0.02" });
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
    expect(stderr).toContain(
      `error: The Lease of m1 is not renewed: ${REFUSED}\nhint: its pods serve policy/hook`,
    );
    expect(api.changes()).toEqual([]);
  },
);

test.each([
  ["02-control-plane", `  no Lease renewal from w2 (last TIME): ${REFUSED}: its pods serve policy/hook`],
  [
    "04-sa-tokens",
    `error: 1 of 3 nodes do not renew their Lease: w2: ${REFUSED}\nhint: its pods serve policy/hook`,
  ],
  ["05-verify", `nodes: w2 renews its Lease: last SECONDS ago: ${REFUSED}`],
])("%s does not send a node to join whose Lease a webhook refuses", async (line, words) => {
  using node = await nodeHere({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { on, objects } = onLeases(["w2"]);
  using _api = serveRunning(node, { objects, on: living(["m1", "w1"], on) });
  const { stdout, stderr } = await node.run(line, { KUBE_PKI_REPAIR_PATIENCE: "0.02" });
  const said = `${stdout}${stderr}`
    .replace(/last \d{4}-[\w:.-]+/g, "last TIME")
    .replace(/\d+ s ago/g, "SECONDS ago");
  expect(said).toContain(words);
  expect(said).toContain(WAY_OUT);
});
