/**
 * The lab's attacker, without a cluster: what he prepares is what he means to prepare, and his things are
 * recognised.
 */
import "reflect-metadata";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import * as x509 from "@peculiar/x509";
import { canonicalIp } from "../../../shared/pki/addresses.ts";
import { tokenVerifier } from "../../../shared/pki/sa-keys.ts";
import { makeControlPlane } from "../../pretend/cluster.ts";
import { pretendScene } from "../../pretend/scene.ts";
import {
  type Attacker,
  attackerPki,
  forgedTokens,
  makeAttacker,
  readToken,
  signedToken,
  TEAM,
} from "../attacker/attacker.ts";
import { findings, isAttackers, type SharedPublicKeys, sharedPublicKeys } from "../attacker/findings.ts";
import { unpackLine } from "../attacker/folder.ts";
import { intruderAsked } from "../attacker/intruder.ts";
import { bundled, litter } from "../attacker/litter.ts";
import { configMapsAndSecrets, mirrorPods, squatter } from "../attacker/objects.ts";
import { clientWishes, PREFIX, servingWishes, signingRequests } from "../attacker/requests.ts";
import type { Lab, Machine } from "../machine/machine.ts";
import { USUAL } from "../machine/profile.ts";

let attacker: Attacker;
let cp: string;
let tokens: Record<string, string>;
beforeAll(async () => {
  attacker = await makeAttacker();
  cp = (await makeControlPlane({})).root;
  const stranger = { ...(await makeAttacker()), kid: "the-clusters" };
  tokens = forgedTokens(
    attacker,
    readToken(signedToken(stranger, { kid: "", claims: { sub: "system:serviceaccount:a-team:tenant" } })),
  );
});

const folder = mkdtempSync(join(tmpdir(), "attacker-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("his newest token verifies by his key and names it; another names the cluster's key and says that it is of another kind", () => {
  expect(tokenVerifier(attacker.sa.pub)(tokens.newest!)).toBe(true);
  expect(readToken(tokens.newest!)).toMatchObject({
    kid: attacker.kid,
    claims: { sub: "system:serviceaccount:a-team:tenant" },
  });
  expect(readToken(tokens["another-kind"]!).kid).toBe("the-clusters");
});

test("a pod of the restricted profile holds all of it, and mounts each volume: the kubelet makes no others", () => {
  const { spec } = squatter("cp1", tokens) as unknown as { spec: PodSpec };
  for (const { securityContext } of spec.containers)
    expect(securityContext).toMatchObject({
      runAsNonRoot: true,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
    });
  const mounted = new Set(
    spec.containers.flatMap(({ volumeMounts }) => volumeMounts.map(({ name }) => name)),
  );
  expect(spec.volumes.map(({ name }) => name).filter((name) => !mounted.has(name))).toEqual([]);
  expect(spec.volumes.filter((volume) => "hostPath" in volume)).toEqual([]);
  expect(spec.volumes.filter((volume) => "projected" in volume)).toHaveLength(Object.keys(tokens).length + 1);
});

interface PodSpec {
  containers: { volumeMounts: { name: string }[]; securityContext: object }[];
  volumes: { name: string }[];
}

test("each of his objects is small enough for the API server", () => {
  const { scene } = pretendScene({});
  const sizes = configMapsAndSecrets(attacker, tokens, scene.lab.controlPlanes).map(
    (object) => JSON.stringify(object).length,
  );
  expect(Math.max(...sizes)).toBeLessThan(2 ** 20);
});

test("each control plane node has pods of his that look like the mirror pods of its static pods", () => {
  const { scene } = pretendScene({});
  const pods = mirrorPods(scene.lab.controlPlanes);
  expect(pods.map(({ metadata }) => metadata.name)).toContain("kube-apiserver-cp2");
  expect(new Set(pods.map(({ metadata }) => metadata.namespace))).toEqual(new Set([TEAM]));
});

test("the bundle of his files says where each begins", () => {
  const files = litter(attacker, { policies: 2, heads: 4 });
  const pieces = bundled(files).split("\u0001").slice(1);
  expect(Object.fromEntries(pieces.map((piece) => piece.split(/\n(.*)/s)))).toEqual(files);
});

test("the worker asks for each other node, for administrators and for the API's names, and for nothing that is its own alone", async () => {
  const { lab } = pretendScene({}).scene;
  const asked = (await signingRequests([...clientWishes(lab), ...servingWishes(lab)])) as {
    metadata: { name: string };
    spec: { request: string };
  }[];
  const names = asked.map(({ metadata }) => metadata.name.slice(PREFIX.length));
  expect(names).toEqual(
    expect.arrayContaining([
      "cp1",
      "cp2",
      "stranger",
      "system-masters",
      "admin",
      "serving-lab-api",
      "serving-10.97.0.1",
    ]),
  );
  const request = requestOf(asked.find(({ metadata }) => metadata.name === `${PREFIX}serving-lab-api`)!);
  const { items } = request.extensions.find(
    (one) => one instanceof x509.SubjectAlternativeNameExtension,
  )!.names;
  expect(items.map(({ value }) => value)).toContain("lab-api");
  expect(
    items.some(({ type, value }) => type === "ip" && canonicalIp(value) === lab.workers.at(-1)!.ip),
  ).toBe(true);
});

function requestOf({ spec }: { spec: { request: string } }) {
  return new x509.Pkcs10CertificateRequest(Buffer.from(spec.request, "base64").toString());
}

test("intruderAsked() separates CSRs that the API server created from those that it refused", () => {
  const { scene } = pretendScene({});
  const home = join(folder, "w1");
  mkdirSync(`${home}/root/intruder`, { recursive: true });
  scene.lab.workers[0]!.path = (path) => home + path;
  writeFileSync(
    `${home}/root/intruder/client.log`,
    `certificatesigningrequest.certificates.k8s.io/${PREFIX}cp1 created\nError from server (Forbidden): no\n`,
  );
  expect(intruderAsked(scene)).toEqual({
    taken: [`${PREFIX}cp1`],
    refused: ["Error from server (Forbidden): no"],
  });
});

test("RUNBOOK.md has one line that unpacks the kit on a node", async () => {
  expect(await unpackLine()).toContain("/run/kube-pki-repair");
});

test("isAttackers() recognises the attacker's things in PEM, in a kubeconfig and by his name, and nothing else", async () => {
  const other = await makeAttacker();
  const kubeconfig = (pem: string) =>
    `users:\n- user:\n    client-key-data: ${Buffer.from(pem).toString("base64")}\n`;
  for (const pem of Object.values(attackerPki(attacker)))
    expect([isAttackers(pem, attacker), isAttackers(kubeconfig(pem), attacker)]).toEqual([true, true]);
  expect(isAttackers("issuer: https://issuer.a-team.example", attacker)).toBe(true);
  for (const pem of Object.values(attackerPki(other)))
    expect([isAttackers(pem, attacker), isAttackers(kubeconfig(pem), attacker)]).toEqual([false, false]);
});

/**
 * A lab whose only node is a pretend control plane node, with the API's answers that the findings ask for.
 */
function repaired() {
  const home = mkdtempSync(join(folder, "repaired-"));
  cpSync(join(cp, "etc"), join(home, "etc"), { recursive: true });
  const { scene } = pretendScene({});
  const requests: object[] = [request({})];
  const pods: object[] = [];
  let valid: string[] = ["fresh"];
  const user = { etcd: "etcd --data-dir=/var/lib/etcd ", runs: 0 };
  const node: Machine = {
    ...scene.lab.controlPlanes[0]!,
    path: (path) => join(home, path),
    async run(command, options) {
      const said = (stdout: string, exitCode = 0) => ({ stdout, stderr: "", exitCode });
      if (command.includes("/run/owned")) return said("", 1);
      if (command.at(-1)!.includes("/cmdline")) return said(user.etcd);
      if (command.at(-1)!.includes("user@1234")) return said("", user.runs);
      if (command[0] === "crictl") return said(JSON.stringify({ items: pods }));
      if (command.includes("token")) return said("fresh");
      if (command.includes("create"))
        return said(String(valid.includes(JSON.parse(String(options!.input)).spec.token)));
      if (command.includes("certificatesigningrequests")) return said(JSON.stringify({ items: requests }));
      return said(command.includes("get") ? JSON.stringify({ items: [] }) : "");
    },
  };
  const lab: Lab = { nodes: [node], controlPlanes: [node], workers: [node], profile: USUAL };
  const write = (path: string, text: string) => {
    mkdirSync(dirname(node.path(path)), { recursive: true });
    writeFileSync(node.path(path), text);
  };
  write("/root/intruder/client.log", `certificatesigningrequest.certificates.k8s.io/${PREFIX}cp1 created\n`);
  const said = {
    part: 3,
    node: "cp1",
    command: "close",
    start: 0,
    seconds: 1,
    exitCode: 0,
    ok: true,
    hung: false,
    stdout: "",
    stderr: `${PREFIX}cp1: refused`,
  };
  const manifests = {
    "manifests/etcd.yaml": [],
    "manifests/kube-apiserver.yaml": [],
    "manifests/kube-controller-manager.yaml": [],
    "manifests/kube-scheduler.yaml": [],
  };
  const before = {
    ...scene.before,
    nodes: { cp1: { files: [], others: {}, kubelet: {}, manifests, apiServerNames: [] } },
  };
  return {
    write,
    requests,
    pods,
    user,
    accept: (token: string) => (valid = [...valid, token]),
    scene: { ...scene, lab, before, steps: [said] },
  };
}

async function notSo({ scene }: ReturnType<typeof repaired>, keys?: SharedPublicKeys): Promise<string[]> {
  const checks = await findings(
    scene,
    { attacker, tokens, keys: keys ?? sharedPublicKeys(scene.lab) },
    { oldKeys: true },
  );
  return checks.filter(({ ok }) => !ok).map(({ name, detail }) => `${name}: ${detail}`);
}

test("where nothing of the attacker's is left, every answer is yes", async () => {
  expect(await notSo(repaired())).toEqual([]);
});

type Repaired = ReturnType<typeof repaired>;

test.each<[string, (lab: Repaired) => void]>([
  ["sa.pub is the attacker's", ({ write }) => write("/etc/kubernetes/pki/sa.pub", attacker.sa.pub)],
  ["sa.pub does not match its key", ({ write }) => write("/etc/kubernetes/pki/sa.key", attacker.sa.key)],
  [
    "etcd/ca.crt is the attacker's",
    ({ write }) => write("/etc/kubernetes/pki/etcd/ca.crt", attacker.etcdCa.cert),
  ],
  [
    "/etc/kubernetes/auth/config.yaml",
    ({ write }) => write("/etc/kubernetes/auth/config.yaml", litter(attacker)["authentication.yaml"]!),
  ],
  ["manifests/evil", ({ write }) => write("/etc/kubernetes/manifests/evil.yaml", "kind: Pod\n")],
  ["a-team/evil-cp1 runs", ({ pods }) => pods.push(sandbox("evil-cp1"))],
  ["accepts no token of the attacker's: accepted", ({ accept }) => accept(tokens.accepted!)],
  [`is approved: ${PREFIX}cp1`, ({ requests }) => requests.push(request({ certificate: "x" }))],
  [`for a kubelet: ${PREFIX}cp1`, ({ scene }) => (scene.steps[0]!.stderr = "3 nodes are back")],
  ["reaches the terminal: cp1# close", ({ scene }) => (scene.steps[0]!.stderr += "\u001b[2J")],
  [
    "runs from the cluster's own data: /home/a-team/etcd",
    ({ user }) => (user.etcd = "etcd --data-dir /home/a-team/etcd"),
  ],
  ["runs from the cluster's own data: it does not run", ({ user }) => (user.etcd = "")],
  ["etcd on cp1", ({ user }) => (user.runs = 1)],
  ["or names it: cp1# close", ({ scene }) => (scene.steps[0]!.stderr += "--etcd-data /home/a-team/etcd")],
  ["no command hung: cp1# close", ({ scene }) => (scene.steps[0]!.hung = true)],
])("each thing of the attacker's is seen: %s", async (what, change) => {
  const lab = repaired();
  const keys = sharedPublicKeys(lab.scene.lab);
  change(lab);
  expect((await notSo(lab, keys)).join("\n")).toContain(what);
});

function request(status: object) {
  return {
    metadata: { name: `${PREFIX}cp1` },
    spec: { signerName: "kubernetes.io/kube-apiserver-client-kubelet" },
    status,
  };
}

function sandbox(name: string) {
  return {
    metadata: { name, namespace: TEAM },
    state: "SANDBOX_READY",
    annotations: { "kubernetes.io/config.source": "file" },
  };
}
