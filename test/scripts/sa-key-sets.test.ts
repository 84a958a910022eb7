/**
 * Service-account keys are a set: an API server may check tokens by several, and a token that one of them
 * verifies is a good one.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { parse, stringify } from "yaml";
import { commandOf, flags } from "../../shared/manifests/command.ts";
import { serviceAccountKeyId, tokenVerifier } from "../../shared/pki/sa-keys.ts";
import { healthyCp, manifest, mirrorPod, type Objects, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { pretendNode } from "../pretend/node.ts";
import { newKeyOf, tokenBy } from "../pretend/old-keys.ts";
import { oldPod, serveRunning } from "../pretend/running.ts";
import { expectStop } from "../pretend/wrong-hands.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const { ca } = await healthyCp();
const earlier = newKeyOf("ECDSA-P256");
const SECOND = "/etc/kubernetes/pki/sa-2024.pub";
const SECRET = "/api/v1/namespaces/ci/secrets/deployer-token";
const MARK = "/etc/kubernetes/.kube-pki-repair-new-sa-key";
const ISSUER = "https://oidc.example.com/cluster";

/** sa.key was changed in 2024, and tokens of the key before are still good. */
const FLAGS = [`--service-account-key-file=${SECOND}`, `--service-account-issuer=${ISSUER}`];

function withFlags<M extends { spec: ReturnType<typeof manifest>["spec"] }>(pod: M): M {
  pod.spec.containers[0]!.command!.push(...FLAGS);
  return pod;
}

function etcd(objects: Objects) {
  objects["pods/kube-system/kube-apiserver-m1"] = withFlags(mirrorPod("kube-apiserver"));
}

/** A control plane node that is well; `here`: and the second key's file is. */
async function twoKeys({ here = true } = {}) {
  const node = await pretendNode({ kind: "healthy control plane node", etcd });
  write(
    `${node.root}/etc/kubernetes/manifests/kube-apiserver.yaml`,
    stringify(withFlags(manifest("kube-apiserver")), { lineWidth: 0 }),
  );
  if (here) write(node.root + SECOND, earlier.pub, 0o644);
  return node;
}

function serve(node: { root: string }, key = earlier) {
  return serveRunning(node, {
    objects: {
      "/api/v1/namespaces/ci/serviceaccounts/deployer": {},
      [SECRET]: {
        type: "kubernetes.io/service-account-token",
        metadata: { annotations: { "kubernetes.io/service-account.name": "deployer" } },
        data: { token: btoa(tokenBy(key, { alg: "ES256", of: "ci:deployer" })), "ca.crt": btoa(ca.cert) },
      },
    },
  });
}

test("a token Secret of the second key is well for 05-verify, and 04-sa-tokens does not write it", async () => {
  using node = await twoKeys();
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = serve(node);
  const { stdout, exitCode } = await node.run("05-verify --all");
  expect(stdout).toMatch(/^ {2}ok {7}tokens: ci\/deployer-token: verifies$/m);
  expect({ exitCode, stdout }).toMatchObject({ exitCode: 0 });
  const part4 = await node.run("04-sa-tokens");
  expect(part4).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("  unchanged token Secrets: all of them verify\n"),
  });
  expect(api.changes().filter((change) => !/\/token$|\/tokenreviews$/.test(change))).toEqual([]);
});

test("a token Secret of no key of the flags is named and renewed, whatever else they name", async () => {
  using node = await twoKeys();
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using api = serve(node, newKeyOf("ECDSA-P256"));
  expect((await node.run("05-verify")).stdout).toContain(
    "  failed   tokens: ci/deployer-token: does not verify",
  );
  expect((await node.run("04-sa-tokens")).exitCode).toBe(0);
  expect(
    tokenVerifier(node.read("/etc/kubernetes/pki/sa.pub"))(atob(api.objects.get(SECRET).data.token)),
  ).toBe(true);
});

test("a lost second key is named with what it costs; with the operator's word the API server starts with sa.pub alone", async () => {
  using node = await twoKeys({ here: false });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  expect((await node.run("00-assess")).stdout).toContain(`${SECOND}`);
  rmSync(`${node.root}/etc/kubernetes/manifests/kube-apiserver.yaml`);
  expectStop(
    await node.run("02-control-plane"),
    new RegExp(SECOND),
    /--start-without service-account-key-file.*tokens that the key in it has signed are refused/,
    3,
  );
  const running = node.run("02-control-plane --start-without service-account-key-file", {
    KUBE_PKI_REPAIR_PATIENCE: "1",
  });
  await Promise.race([node.written("/etc/kubernetes/manifests/kube-apiserver.yaml"), running]);
  using _api = serve(node);
  await running;
  const text = node.read("/etc/kubernetes/manifests/kube-apiserver.yaml");
  expect(text).toContain("--service-account-key-file=/etc/kubernetes/pki/sa.pub");
  expect(text).not.toContain(SECOND);
  // said once: the proof knows it, and a second part 2
  const open = await node.run("05-verify");
  expect(open.stdout).toMatch(
    /is given up: as said at \d\d:\d\d \(02-control-plane, on m1\): tokens that the key/,
  );
  const again = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect(again).toMatchObject({ exitCode: 0, stderr: expect.stringContaining("as said at ") });
  expect(node.read("/etc/kubernetes/manifests/kube-apiserver.yaml")).toBe(text);
  write(node.root + SECOND, "the key", 0o644);
  expect((await node.run("05-verify")).stdout).toContain(
    "is given up: is back, and the API server still runs without",
  );
  await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  const flagsNow = flags(commandOf(parse(node.read("/etc/kubernetes/manifests/kube-apiserver.yaml"))));
  expect(flagsNow.all("service-account-key-file").toSorted()).toEqual([SECOND, "/etc/kubernetes/pki/sa.pub"]);
  expect((await node.run("05-verify")).stdout).not.toContain("given up");
});

test("where sa.key alone is new, part 5 names the published keys and whose copies of tokens have ended", async () => {
  using node = await twoKeys();
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const kid = serviceAccountKeyId(node.read("/etc/kubernetes/pki/sa.pub"));
  const made = new Date(Date.now() - 60_000).toISOString();
  write(node.root + MARK, JSON.stringify({ made, kid }), 0o644);
  using api = serve(node, newKeyOf("ECDSA-P256"));
  const { stderr } = await node.run("04-sa-tokens");
  expect(stderr).toContain("  renewed token Secrets: ci/deployer-token\n");
  const said = [
    "copies of the old tokens of these Secrets no longer work, copy the new ones: ci/deployer-token",
    `the published keys (--service-account-issuer=https://kubernetes.default.svc.cluster.local, --service-account-issuer=${ISSUER}) must fetch`,
  ];
  // as the API server notes who wrote it, and when
  const fields = [{ time: new Date().toISOString(), fieldsV1: { "f:data": {} } }];
  Object.assign(api.objects.get(SECRET).metadata, { managedFields: fields });
  write(node.root + MARK, JSON.stringify({ made, kid }), 0o644);
  api.objects.set("/api/v1/namespaces/shop/pods/db-0", {
    ...oldPod("db-0", { kind: "Job", name: "db", apiVersion: "batch/v1" }),
  });
  const { stdout } = await node.run("05-verify");
  for (const words of said) expect(stdout).toContain(words);
  expect(stdout).not.toContain("old CA: give them new ones");
});
