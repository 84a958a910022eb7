/** 05-verify for a timer and for people who wait: metrics, --wait, and signs on a terminal. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { chownSync, readdirSync, statSync } from "node:fs";
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import type { ApiRequest } from "../pretend/api.ts";
import { FACTS, healthyCp, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { pretendNode } from "../pretend/node.ts";
import { serveRunning } from "../pretend/running.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();
const FOLDER = "/var/lib/node_exporter";
const FILE = `${FOLDER}/kube-pki-repair.prom`;
const ready = (status: "True" | "False") => ({ status: { conditions: [{ type: "Ready", status }] } });

const ASKED_ONCE_A_LOOK = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
const KUBELET = "/api/v1/nodes/w2/proxy/healthz";

/** w2 is not Ready until the look with this number. */
function readyAfter(times: number) {
  let asked = 0;
  return ({ path }: ApiRequest, { objects }: { objects: Map<string, object> }) => {
    if (path === ASKED_ONCE_A_LOOK && ++asked === times)
      Object.assign(objects.get("/api/v1/nodes/w2")!, ready("True"));
    return undefined;
  };
}

test("05-verify --wait looks again until nothing fails, and says for what it waits; what was well a moment ago is not asked again", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = serveRunning(node, { objects: { "/api/v1/nodes/w2": ready("False") }, on: readyAfter(3) });
  const { exitCode, stdout, stderr } = await node.run("05-verify --wait 50", {
    KUBE_PKI_REPAIR_PATIENCE: "1",
  });
  expect({ exitCode, stdout, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("\n  waiting, 50 s at most, for nodes: w2 is Ready\n");
  expect(stdout).not.toContain("w2 is Ready");
  // no title of a step under which nothing is said
  expect(stderr).not.toMatch(/^== /m);
  const asked = (of: string) => api.requests.filter(({ path }) => path === of).length;
  expect([asked(ASKED_ONCE_A_LOOK), asked(KUBELET)]).toEqual([3, 1]);
});

test("05-verify --wait ends with what still fails when the time is over", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveRunning(node, { objects: { "/api/v1/nodes/w2": ready("False") } });
  const { exitCode, stdout } = await node.run("05-verify --wait 20");
  expect({ exitCode, stdout }).toMatchObject({ exitCode: 2 });
  expect(stdout).toContain("  failed   nodes: w2 is Ready: Ready is False\n");
});

test("05-verify --metrics writes one file that others may read, whole, and nothing else", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveRunning(node, { objects: { "/api/v1/nodes/w2": ready("False") } });
  write(`${node.root}${FILE}`, "of yesterday\n", 0o600);
  // Debian's package gives all below to its own user, at each update
  if (process.getuid?.() === 0) for (const path of [FOLDER, FILE]) chownSync(node.root + path, 1234, 1234);
  const untouched = node.fingerprint().filter((line) => !line.startsWith("var/lib/node_exporter"));
  const { exitCode, stdout } = await node.run(`05-verify --metrics ${FILE}`);
  expect({ exitCode, stdout }).toMatchObject({ exitCode: 2 });
  const text = node.read(FILE);
  expect(text).toContain('kube_pki_repair_bad_checks{id="node-ready",result="failed",severity="outage"} 1\n');
  expect(text).toMatch(
    /^kube_pki_repair_certificate_expiry_timestamp_seconds\{kind="ca",path="\/etc\/kubernetes\/pki\/ca.crt"\} \d{10}$/m,
  );
  expect(text).toContain('{kind="kubelet",path="/var/lib/kubelet/pki/kubelet-client-current.pem"} ');
  expect(text).not.toMatch(/backup_age|PRIVATE|BEGIN/);
  expect(statSync(`${node.root}${FILE}`).mode & 0o777).toBe(0o644);
  expect(readdirSync(`${node.root}${FOLDER}`)).toEqual(["kube-pki-repair.prom"]);
  expect(node.fingerprint().filter((line) => !line.startsWith("var/lib/node_exporter"))).toEqual(untouched);
});

test("05-verify and 00-assess name what expires soon, with its day and what renews it, and that is no failure", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  const pki = "/etc/kubernetes/pki";
  const ca = { cert: node.read(`${pki}/front-proxy-ca.crt`), key: node.read(`${pki}/front-proxy-ca.key`) };
  const { cert, key } = await issueLeaf(certRow("front-proxy-client"), ca, FACTS, {
    now: new Date(Date.now() - 345 * 86_400_000),
  });
  write(`${node.root}${pki}/front-proxy-client.crt`, cert, 0o644);
  write(`${node.root}${pki}/front-proxy-client.key`, key);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveRunning(node);
  const verified = await node.run("05-verify --output short");
  expect(verified).toMatchObject({ exitCode: 0 });
  expect(verified.stdout).toMatch(
    /^ {2}warning {2}files: front-proxy-client.crt: until DATE, (19|20) days from now: kubeadm certs renew all, /m,
  );
  const assessed = await node.run("00-assess");
  expect(assessed).toMatchObject({ exitCode: 0 });
  expect(assessed.stdout).toMatch(
    /^ {2}note +front-proxy-client.crt: until DATE, (19|20) days from now: kubeadm certs renew all, /m,
  );
  expect(assessed.stdout).toContain("  note   backup: ");
});

/** A terminal of its own (script, of util-linux). The escape sequence of a colour is shown as "[31m". */
async function onTerminal(env: Record<string, string>) {
  using node = await pretendNode({ kind: "worker" });
  const { stdout } = await node.runAlone("05-verify --all", env, [
    "sh",
    "-c",
    `exec ${Bun.which("script")} -qec "$*" /dev/null`,
    "sh",
  ]);
  return stdout.replaceAll("\u001b", "").replaceAll("\r", "");
}

test("on a terminal each line has its sign and colour, with NO_COLOR only the sign", async () => {
  const LC_ALL = "C.UTF-8";
  const coloured = await onTerminal({ LC_ALL });
  expect(coloured).toStartWith("kube-pki-repair ");
  expect(coloured).toContain("\n[31m×[0m failed   kubelet: /etc/kubernetes/kubelet.conf: ");
  expect(coloured).toContain("\n[32m√[0m ok       kubelet: /etc/kubernetes/bootstrap-kubelet.conf: ");
  const plain = await onTerminal({ LC_ALL, NO_COLOR: "1" });
  expect(plain).toContain("\n× failed   kubelet: /etc/kubernetes/kubelet.conf: ");
  expect(plain).not.toContain("[0m");
});
