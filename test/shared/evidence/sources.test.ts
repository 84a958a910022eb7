/**
 * The table of who may decide what (shared/evidence/sources.ts), walked row by row: each writer lays out what
 * he can, and gets what the table says.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { stringify } from "yaml";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { readServedCertificate } from "../../../shared/etcd/peers.ts";
import { believedNames } from "../../../shared/etcd-data/members.ts";
import { memberFolders, namesOf } from "../../../shared/etcd-location/etcd-candidates.ts";
import { withDecryption } from "../../../shared/etcd-location/etcd-folders.ts";
import { knownHere, stoppedProcesses } from "../../../shared/evidence/owners.ts";
import {
  type Decision,
  may,
  SOURCES,
  type Source,
  type SourceName,
} from "../../../shared/evidence/sources.ts";
import { readCluster } from "../../../shared/facts/cluster.ts";
import { storedPlaces } from "../../../shared/facts/endpoint.ts";
import { readEvidence } from "../../../shared/facts/evidence.ts";
import { ownNode } from "../../../shared/facts/issue-facts.ts";
import { apiEndpoint } from "../../../shared/facts/known-nodes.ts";
import { attempt, Fail } from "../../../shared/fail.ts";
import { exists } from "../../../shared/files/files.ts";
import { sha256Of } from "../../../shared/files/sha256.ts";
import type { Bundle } from "../../../shared/hand-over/bundle.ts";
import { checkOrigin, saveOptionsOfBundle, takeKubeletConfig } from "../../../shared/hand-over/place-keys.ts";
import type { LockKind } from "../../../shared/hand-over/sealed.ts";
import { ANSWER_SCHEMA } from "../../../shared/json-answer.ts";
import { findStaticPods } from "../../../shared/manifests/mirror-pods.ts";
import { newRescue } from "../../../shared/node/rescue-folder.ts";
import { savedOptionsHere, saveForThisNode } from "../../../shared/node/words.ts";
import type { Manifest } from "../../../shared/objects/objects.ts";
import { certInfo } from "../../../shared/pki/certificate.ts";
import { readSeen } from "../../../shared/plan/node-answers.ts";
import { readKeptRuns } from "../../../shared/report/read-runs.ts";
import { repairPage } from "../../../shared/report/repair-page.ts";
import { chooseConfig } from "../../../shared/salvage/disk/encryption-config.ts";
import { FoundKeys } from "../../../shared/salvage/found-keys.ts";
import { searchFolder } from "../../../shared/salvage/keys-in-copies.ts";
import { holders } from "../../../shared/salvage/memory/processes.ts";
import { wantedKeys } from "../../../shared/salvage/wanted-keys.ts";
import { clientObjection } from "../../../shared/workers/csr-rules.ts";
import { identities, nameObjection, prove } from "../../../shared/workers/identities.ts";
import { packFolder } from "../../../tools/pack/pack-kit.ts";
import { type ExampleRun, tarOf } from "../../fixtures/kept-runs-example.ts";
import { OWN_ARCH } from "../../kit/own-arch.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";
import { bundleOf, sharedFiles } from "../../pretend/bundles.ts";
import { ADDRESS, FACTS, healthyCp, type Objects, otherCa, write } from "../../pretend/cluster.ts";
import { NODE, pretendData } from "../../pretend/control-plane-node.ts";
import { clientCsr } from "../../pretend/csrs.ts";
import { said } from "../../pretend/endpoint.ts";
import { fakeMirror } from "../../pretend/hostile-pods.ts";
import {
  DELEGATED,
  POD_UID,
  type PretendProcess,
  podRecord,
  pretendProcess,
  USER,
} from "../../pretend/memory.ts";
import { MEMBER } from "../../pretend/node.ts";
import { newKeyOf, tokenBy } from "../../pretend/old-keys.ts";
import { quietly } from "../../pretend/quietly.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { encryptionConfig, sealed } from "../../pretend/sealed.ts";

setDefaultTimeout(300_000);

const { ca } = await healthyCp();
const [his, hisSa] = [await otherCa(), newKeyOf("ECDSA-P256")];
const DIR = "/etc/kubernetes/pki";
const PODS = "/var/lib/kubelet/pods";

/** Which CAs and service-account keys are looked for, where this is laid out: whether his are among them. */
async function keysAre(
  lay: (root: string) => void,
  etcd: (objects: Objects) => void = () => {},
): Promise<boolean> {
  const data = await pretendData(etcd);
  using box = sandbox();
  lay(box.dir);
  const wanted = wantedKeys(readEvidence({ data, node: NODE, certificatesDir: DIR }), {
    certificatesDir: DIR,
  });
  const hashes = wanted.flatMap(({ generations }) => generations.map(({ hash }) => hash));
  expect(hashes).toContain(certInfo(ca.cert).publicKeyHash);
  return hashes.includes(certInfo(his.cert).publicKeyHash) && hashes.length > 1;
}

const volume = (uid: string) => (root: string) =>
  write(`${root}${PODS}/${uid}/volumes/kubernetes.io~projected/a/ca.crt`, his.cert);
const tokenSecret = (namespace: string) => (objects: Objects) => {
  const data = Object.entries({
    "ca.crt": his.cert,
    token: tokenBy(hisSa, { alg: "ES256", of: "kube-system:a", issuedAt: 9_999_999_999 }),
  });
  objects[`secrets/${namespace}/t`] = {
    ...{
      apiVersion: "v1",
      kind: "Secret",
      type: "kubernetes.io/service-account-token",
      metadata: { name: "t", namespace },
    },
    data: Object.fromEntries(data.map(([key, value]) => [key, Buffer.from(value).toString("base64")])),
  };
};

/** The Node of this worker has the label of a control plane node, from the network plugin's account. */
function dataOf(labelled: string | undefined, change: (objects: Objects) => void = () => {}) {
  const labels = { "node-role.kubernetes.io/control-plane": "" };
  return pretendData(
    (objects) => {
      if (labelled)
        Object.assign((objects[`minions/${labelled}`] as { metadata: object }).metadata, { labels });
      change(objects);
    },
    [MEMBER],
  );
}

async function roleOf(name: string): Promise<boolean> {
  const data = await dataOf(name);
  return (
    readCluster(data).nodes.some((one) => one.name === name && one.controlPlane) ||
    believedNames(data).includes(name)
  );
}

async function staticPodOf(namespace: string, node = "m1"): Promise<boolean> {
  const data = await pretendData((objects) => Object.assign(objects, fakeMirror(namespace, "his", { node })));
  using _ = sandbox();
  return findStaticPods(data, "m1").proved.some(({ name }) => name === "his");
}

function isRead(cgroup: string): boolean {
  using box = sandbox();
  podRecord(box.dir, "kube-system", "kube-apiserver-m1", "a".repeat(32));
  pretendProcess(box.dir, { pid: 7, comm: "kube-apiserver", cgroup });
  return holders(knownHere([])).own.length > 0;
}

/** A process of this name, in a cgroup that its user has named as the static pod's. */
function usersNode(comm: string, more: Partial<PretendProcess>) {
  const box = sandbox();
  const uid = "a".repeat(32);
  podRecord(box.dir, "kube-system", `${comm === "kube-controller" ? `${comm}-manager` : comm}-m1`, uid);
  pretendProcess(box.dir, { pid: 7, comm, cgroup: `${DELEGATED}/app.slice/pod${uid}/x`, ...more });
  for (const pid of [1, 7]) write(`${box.dir}/proc/${pid}/mountinfo`, "1 1 8:1 / / rw - ext4 /dev/x rw\n");
  return box;
}

const node = (name: string, ip: string, more: string[] = []) => ({
  name,
  uid: name,
  controlPlane: false,
  claimed: { names: [name, ...more], ips: [ip] },
  places: [],
});
const OF = identities({
  nodes: [node("w1", "10.0.0.21", ["lab-api", "kubernetes.default.svc", "w2"]), node("w2", "10.0.0.22")],
  ...{
    proved: new Map(),
    endpoints: ["lab-api"],
    apiNames: [],
    serviceSubnets: ["10.96.0.0/12"],
    dnsDomain: "cluster.local",
    services: [],
    nobodys: [],
  },
});

/** Whether the API server's mirror pod of this node says which file opens what is encrypted. */
async function namesEncryption(node: string, suffix: string, labelled?: string): Promise<boolean> {
  const [at, secret] = ["/registry/configmaps/kube-system/a", Buffer.alloc(32, 7)];
  const volumes = [{ name: "his", hostPath: { path: "/srv" } }];
  const data = await dataOf(labelled, (objects) => {
    objects["configmaps/kube-system/a"] = sealed("secretbox", Buffer.from("{}"), secret, at);
    const change = ({ spec }: Manifest) => {
      Object.assign(spec, { volumes });
      Object.assign(spec.containers[0]!, {
        command: ["x", "--encryption-provider-config=/srv/a"],
        volumeMounts: [{ name: "his", mountPath: "/srv" }],
      });
    };
    Object.assign(objects, fakeMirror("kube-system", "kube-apiserver", { node, suffix, change }));
  });
  using box = sandbox();
  write(`${box.dir}/srv/a`, encryptionConfig("secretbox", secret));
  return Buffer.from(withDecryption(data).get(at)!.value).toString() === "{}";
}

/** Whether cluster-info in etcd's data is heard where it is asked where the API is. */
async function saysWhere(place: string): Promise<boolean> {
  const data = await pretendData(said({ clusterInfo: place }));
  return storedPlaces(data, {}, 6443).some((one) => one.place === place);
}

const hisKeys = await sharedFiles();

/**
 * Whether a bundle's own words make its CA the cluster's; `by`: etcd's data names his CA, since it was restored
 * so.
 */
async function isTaken(lock: LockKind, { by }: { by?: string } = {}): Promise<boolean> {
  const cluster = { name: "kubernetes", kubeSystemUid: "uid" };
  using _ = sandbox();
  if (by)
    await quietly(async () => {
      newRescue();
      saveForThisNode("restored", [by], { members: [], onDisk: true });
    });
  const oldCaPem = by ? hisKeys.get("ca.crt")!.toString() : ca.cert;
  const here = { certificatesDir: DIR, asideDir: "/root/aside", cluster: { ...cluster, oldCaPem } };
  return !(
    attempt(() =>
      checkOrigin(bundleOf(hisKeys, { cluster }), here, { confirmed: undefined, lock }),
    ) instanceof Fail
  );
}

const HIS_WORD = { option: "lost", value: "cp3", at: "2026-11-30T04:50:00Z", by: "plan", on: "cp1" };

/** Whether a word in the bundle is one here afterwards. */
function isHeard(lock: LockKind): boolean {
  using _ = sandbox();
  const { manifest, files } = bundleOf(hisKeys);
  saveOptionsOfBundle(
    {
      files,
      manifest: { ...manifest!, made: new Date().toISOString(), words: [HIS_WORD] } as Bundle["manifest"],
    },
    { confirmed: undefined, lock },
    "cp2",
  );
  return savedOptionsHere().length > 0;
}

/** Whether a bundle's configuration of a kubelet is this node's afterwards. */
function isItsConfig(lock: LockKind): boolean {
  using _ = sandbox();
  const path = "/etc/kubernetes/kubelet-config.yaml";
  const { manifest, files } = bundleOf(hisKeys);
  const packed = { ...manifest!, kubeletConfig: { path, text: "authorization: {mode: AlwaysAllow}\n" } };
  const kubelet = { ...NODE.kubelet, files: [{ path, flag: "--config", isKept: false }] };
  takeKubeletConfig({ files, manifest: packed }, { confirmed: undefined, lock }, { ...NODE, kubelet });
  return exists(path);
}

/** What each writer tries, by what it would decide, and whether he gets it. */
const PLAYS: Record<SourceName, Partial<Record<Decision, () => Promise<boolean> | boolean>>> = {
  "this node": { keys: () => keysAre((root) => write(`${root}${DIR}/ca.crt`, his.cert)) },
  "kube-system in etcd": {
    facts: () => namesEncryption("m1", "m1"),
    keys: () => keysAre(() => {}, tokenSecret("kube-system")),
    "static pods": () => staticPodOf("kube-system"),
  },
  "cluster-info in etcd": { facts: () => saysWhere("lb.example:6443") },
  "a worker's mirror pod": {
    facts: () => namesEncryption("w1", "w1"),
    "static pods": () => staticPodOf("kube-system", "w1"),
  },
  "another namespace in etcd": {
    keys: () => keysAre(() => {}, tokenSecret("a-team")),
    "static pods": () => staticPodOf("a-team"),
  },
  "a pod of kube-system": {
    keys: () =>
      keysAre((root) => {
        podRecord(root, "kube-system", "kube-proxy-x", POD_UID);
        volume(POD_UID)(root);
      }),
  },
  "a pod": {
    keys: () =>
      keysAre((root) => {
        podRecord(root, "a-team", "kube-proxy-x", POD_UID);
        volume(POD_UID)(root);
      }),
  },
  "a Node's metadata": {
    facts: async () => (await roleOf("w1")) || (await namesEncryption("w1", "w1", "w1")),
  },
  "a kubelet's status": {
    facts: async () => {
      const names = ["lab-api", "kubernetes.default.svc", "w2"].filter(
        (value) => nameObjection({ type: "dns", value }, "w1", OF) === undefined,
      );
      const machine = ownNode({ ...NODE, name: "m1.example" }, { nodes: [node("w1", ADDRESS)] });
      return names.length > 0 || machine.name === "w1";
    },
  },
  "a mirror pod's metadata": {
    facts: async () => {
      const data = await pretendData((objects) => {
        const { metadata, spec } = objects["pods/kube-system/kube-apiserver-m1"] as Manifest;
        const command = spec.containers[0]!.command!;
        spec.containers[0]!.command = command.filter((word) => !word.startsWith("--advertise-address"));
        metadata.annotations!["kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"] =
          "10.0.0.21:6443";
      });
      return apiEndpoint("m1", data)?.host === "10.0.0.21";
    },
  },
  "a kubelet's answer": {
    facts: async () => {
      using elsewhere = pretendApi();
      using api = pretendApi({ on: () => Response.redirect(`${elsewhere.url}/api/v1/secrets`) });
      await new KubeApi({ server: api.url, ca: NO_TLS })
        .ofKubelet("/api/v1/nodes/w1/proxy/healthz")
        .catch(() => "");
      return elsewhere.requests.length > 0;
    },
  },
  "an old serving certificate": {
    facts: () => {
      const nodesByName = identities({ ...OF, nodes: [...OF.nodes, node("w3", "10.0.0.22", ["lab-api"])] });
      prove(nodesByName, "w1", ["lab-api", "kubernetes.default.svc", "w2"], new Date());
      return ["lab-api", "kubernetes.default.svc", "w2"].some(
        (value) => nameObjection({ type: "dns", value }, "w1", nodesByName) === undefined,
      );
    },
  },
  "a signing request": {
    facts: async () => {
      const csr = await clientCsr({ subject: "O=system:nodes, CN=system:node:m1" });
      const known = new Map([["m1", { ...node("m1", "10.0.0.11"), controlPlane: true }]]);
      const tokenUsers = new Map([["system:bootstrap:abcdef", ""]]);
      return (
        clientObjection(csr, {
          tokenUsers,
          nodesByName: known,
          without: [],
          renewing: new Set(),
          given: new Map(),
        }) === undefined
      );
    },
  },
  "a control plane process": {
    files: () => isRead(`/kubepods/burstable/pod${"a".repeat(32)}/${"b".repeat(64)}`),
  },
  "another process": { files: () => isRead(`/kubepods/besteffort/pod${POD_UID}/${"b".repeat(64)}`) },
  "a user of this node": {
    facts: async () => {
      using box = usersNode("etcd", { args: ["etcd", "--data-dir=/home/eve/etcd"] });
      write(`${box.dir}/home/eve/etcd/member/snap/db`, "");
      // without root nothing here is another user's
      if (process.getuid?.() === 0) chownSync(`${box.dir}/home/eve`, USER, USER);
      const looksLike = process.getuid?.() === 0 ? memberFolders() : [];
      return (await namesOf({ node: NODE, containers: [] })).length + looksLike.length > 0;
    },
    "static pods": () => {
      using _ = usersNode("kube-controller", { state: "T" });
      return stoppedProcesses(knownHere([])).length > 0;
    },
    files: () => {
      using _ = usersNode("kube-apiserver", {});
      return holders(knownHere([])).own.length > 0;
    },
  },
  "a disk's blocks": {
    files: () => {
      const text = stringify({ kind: "EncryptionConfiguration", resources: [{ providers: [] }] });
      return chooseConfig([{ kind: "config", text, offset: 0 }], undefined).proved !== undefined;
    },
  },
  "a folder of copies": {
    keys: async () => {
      using box = sandbox();
      write(`${box.dir}/mnt/pki/ca.key`, his.key);
      const evidence = readEvidence({ data: await pretendData(), node: NODE, certificatesDir: DIR });
      const found = new FoundKeys(wantedKeys(evidence, { certificatesDir: DIR }), { stash: false });
      await quietly(async () => searchFolder(found, "/mnt"));
      return found.files().size > 0;
    },
  },
  "an unverified server": {
    facts: () => {
      using box = sandbox();
      write(`${box.dir}${DIR}/etcd/ca.crt`, ca.cert);
      if (readServedCertificate(his.cert, FACTS) !== "another's") return true;
      try {
        return new KubeApi({ server: "https://127.0.0.1:1", ca: "" }) !== undefined;
      } catch (err) {
        if (err instanceof Fail) return false;
        throw err;
      }
    },
  },
  "a bundle with a passphrase": {
    keys: () => isTaken("passphrase"),
    words: () => isHeard("passphrase"),
    files: () => isItsConfig("passphrase"),
  },
  "a bundle for recipients": {
    keys: () => isTaken("recipients"),
    words: () => isHeard("recipients"),
    files: () => isItsConfig("recipients"),
  },
  "a snapshot for recipients": { keys: () => isTaken("recipients", { by: "a snapshot" }) },
  "a control plane node's transcripts": { report: () => isLeftForPeople("cp2") },
  "another node's transcripts": {
    facts: () => {
      using box = sandbox();
      return broughtBy("w1", box).some(({ node }) => node !== "w1");
    },
    report: () => isLeftForPeople("w1"),
  },
  "a node's answer": {
    keys: () => {
      using box = sandbox();
      const said = {
        words: [HIS_WORD],
        schemaVersion: ANSWER_SCHEMA,
        ended: "ok",
        node: "cp9",
        role: "control plane",
        made: new Date(),
        ca: { hashes: ["h"] },
        damage: [],
      };
      write(`${box.dir}/seen/cp9.json`, JSON.stringify(said));
      const { nodes } = readSeen("/seen", {
        nodes: [{ name: "cp1", controlPlane: true }],
        hashes: ["h"],
        now: new Date(),
      });
      return nodes.length + savedOptionsHere().length > 0;
    },
  },
  "a folder that was there": {
    code: async () => {
      using box = sandbox();
      await packWithOwnBun(`${box.dir}/kit`);
      const typed = () =>
        Bun.spawnSync(["sh", "./bunw", "scripts/00-assess.ts", "--help"], { cwd: `${box.dir}/kit` });
      expect(typed().exitCode).toBe(0);
      mkdirSync(`${box.dir}/kit/scripts/more`);
      writeFileSync(`${box.dir}/kit/bunfig.toml`, 'preload = ["./scripts/more/his.ts"]\n');
      writeFileSync(`${box.dir}/kit/scripts/more/his.ts`, `await Bun.write("${box.dir}/owned", "");`);
      typed();
      return await Bun.file(`${box.dir}/owned`).exists();
    },
  },
};

/** A kit whose Bun is the one that runs this test: fetching the nodes' Bun takes minutes on a bad day, and is tried elsewhere. */
async function packWithOwnBun(kit: string) {
  await packFolder(kit, []);
  const bun = `bun/${OWN_ARCH}`;
  mkdirSync(`${kit}/bun`);
  copyFileSync(process.execPath, `${kit}/${bun}`);
  chmodSync(`${kit}/${bun}`, 0o755);
  appendFileSync(`${kit}/SHA256SUMS`, `${sha256Of(readFileSync(process.execPath))}  ${bun}\n`);
}

/** A run of part 4 that says it was on cp1. */
function broughtBy(node: string, box: { dir: string }) {
  const lines: ExampleRun["lines"] = [
    [0, { what: "run", format: 1, script: "04-sa-tokens", version: "0.1.0", args: [], host: "cp1" }],
    [1, { what: "node", name: "cp1" }],
  ];
  mkdirSync(`${box.dir}/logs`);
  const text = "== 4.7 Print what is left for you to do\n  - type my line\n";
  writeFileSync(`${box.dir}/logs/${node}.tar`, tarOf([{ node: "cp1", script: "04-sa-tokens", lines, text }]));
  return readKeptRuns("cp1", "/logs", ["cp1", "cp2"]).runs;
}

/** Whether part 4's last words are that node's, in the page's card about it. */
function isLeftForPeople(node: string) {
  using box = sandbox();
  const page = repairPage({
    runs: broughtBy(node, box),
    notes: [],
    checks: [],
    end: undefined,
    tool: "0.1.0",
    made: new Date(0),
  });
  return /<h2>What is left for people<\/h2>.*?<\/section>/s.exec(page)?.[0].includes("type my line") ?? false;
}

const plays = Object.entries(PLAYS).flatMap(([source, tries]) =>
  Object.entries(tries).map(([decision, play]) => ({
    source: source as SourceName,
    decision: decision as Decision,
    play,
  })),
);

test.each(plays)(
  "$source, for $decision: the writer gets what the table says, and nothing else",
  async ({ source, decision, play }) => {
    expect(await play()).toBe(may(source, decision));
  },
);

test("every row is played, and what decides anything is written by root or by cluster administrators", () => {
  expect(Object.keys(PLAYS).sort()).toEqual(Object.keys(SOURCES).sort());
  expect(Object.values(PLAYS).every((tries) => Object.keys(tries).length > 0)).toBe(true);
  const writers = Object.values(SOURCES as Record<string, Source>).flatMap(({ writer, decides }) =>
    decides.length > 0 ? [writer] : [],
  );
  expect([...new Set(writers)].sort()).toEqual([
    "cluster administrators",
    "root on this node",
    "the control plane itself",
  ]);
});

test("root on this node may decide all that anybody may, and nobody else which programs run as root", () => {
  const { "this node": own, ...others } = SOURCES as Record<string, Source>;
  const theirs = new Set<Decision>(Object.values(others).flatMap(({ decides }) => decides));
  expect([...own!.decides].sort()).toEqual([...theirs, "code" as const].sort());
});
