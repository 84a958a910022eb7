/** Each thing that can be wrong with a PKI folder gets its own name, and ensure-pki mends it or stops. */
import "reflect-metadata";
import { beforeAll, describe, expect, test } from "bun:test";
import * as x509 from "@peculiar/x509";
import { parse, stringify } from "yaml";
import { exists, list, readText, removeFile, setRoot, stat, writeFile } from "../../../shared/files/files.ts";
import { actionsFor, keysToMake } from "../../../shared/pki/actions.ts";
import { certInfo, publicPem } from "../../../shared/pki/certificate.ts";
import { CERTS, type Cert, type ClusterFacts, certRow } from "../../../shared/pki/certs.ts";
import { ensureMany } from "../../../shared/pki/ensure.ts";
import { examine, examineServiceAccountKey, type WantedPki } from "../../../shared/pki/examine.ts";
import { issueCa, issueClient, issueLeaf, type Pair } from "../../../shared/pki/issue.ts";
import { type KeyPair, keyPair } from "../../../shared/pki/keys.ts";
import {
  kubeconfigRow,
  kubeconfigRows,
  kubeconfigText,
  kubeletKubeconfig,
  readKubeconfig,
  withCa,
} from "../../../shared/pki/kubeconfigs.ts";
import { serviceAccountKeyId } from "../../../shared/pki/sa-keys.ts";
import { mode } from "../../../shared/run.ts";
import { agedText } from "../../pretend/expired.ts";
import { testFacts } from "../../pretend/facts.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const PKI = "/etc/kubernetes/pki";
const FACTS = testFacts();
const OPTIONS = { asideDir: "/aside" };
const EVERYTHING: WantedPki = {
  certs: CERTS,
  kubeconfigs: kubeconfigRows(FACTS, { superAdmin: true }),
  serviceAccountKey: true,
};
const PEER = certRow("etcd-peer");
const ADMIN = kubeconfigRow("admin");

let ca: Pair;
let otherCa: Pair;
let key: KeyPair;

beforeAll(async () => {
  [ca, otherCa] = await Promise.all([issueCa(certRow("etcd-ca"), FACTS), issueCa(certRow("etcd-ca"), FACTS)]);
  key = await keyPair("ECDSA-P256");
});

function put(file: string, pair: Partial<Pair>) {
  if (pair.key) writeFile(`${PKI}/${file}.key`, pair.key);
  if (pair.cert) writeFile(`${PKI}/${file}.crt`, pair.cert);
}

function peer(
  different: Partial<ClusterFacts> = {},
  signer = ca,
  row: Cert = PEER,
  now?: Date,
): Promise<Pair> {
  return issueLeaf(row, signer, testFacts(different), { key, now });
}

describe("examine finds", () => {
  const years = (n: number) => new Date(Date.now() + n * 8760 * 3600_000);
  const cases: [state: string, detail: RegExp, put: () => Promise<void> | void][] = [
    ["ok", /^until \d{4}-\d\d-\d\d, signed by etcd-ca$/, async () => put("etcd/peer", await peer())],
    ["missing", /neither certificate nor key/, () => {}],
    ["certificate missing", /without its certificate/, () => put("etcd/peer", { key: key.key })],
    [
      "key missing",
      /certificate is there \(m1\) without its key/,
      async () => put("etcd/peer", { cert: (await peer()).cert }),
    ],
    [
      "unreadable",
      /the certificate cannot be read/,
      () => put("etcd/peer", { cert: "-----BEGIN CERT", key: key.key }),
    ],
    [
      "unreadable",
      /the certificate cannot be read/,
      async () => put("etcd/peer", { cert: (await peer()).cert.slice(0, 300), key: key.key }),
    ],
    [
      "unreadable",
      /the key cannot be read/,
      async () => put("etcd/peer", { cert: (await peer()).cert, key: "nonsense" }),
    ],
    ["unreadable", /a key without a certificate/, () => put("etcd/peer", { key: "nonsense" })],
    [
      "does not match its key",
      /do not belong together/,
      async () => put("etcd/peer", { ...(await peer()), key: otherCa.key }),
    ],
    [
      "wrong CA",
      /etcd\/ca.crt did not sign it \(its issuer is etcd-ca\)/,
      async () => put("etcd/peer", await peer({}, otherCa)),
    ],
    [
      "expired",
      /^it was valid until \d{4}-/,
      async () => put("etcd/peer", await peer({}, ca, PEER, years(-2))),
    ],
    ["not yet valid", /is the clock right/, async () => put("etcd/peer", await peer({}, ca, PEER, years(1)))],
    [
      "wrong names",
      /not valid for 10.250.99.1$/,
      async () => put("etcd/peer", await peer({ advertiseAddress: "10.1.1.1" })),
    ],
    [
      "wrong usage",
      /not made for a server$/,
      async () => put("etcd/peer", await peer({}, ca, { ...PEER, usages: ["client"] })),
    ],
  ];

  test.each(cases)("%s, with the reason %p", async (state, detail, arrange) => {
    using _box = sandbox();
    put("etcd/ca", ca);
    await arrange();
    const finding = examine(PEER, FACTS);
    expect(finding.state as string).toBe(state);
    expect(finding.detail).toMatch(detail);
    expect(finding.paths).toEqual([`${PKI}/etcd/peer.crt`, `${PKI}/etcd/peer.key`]);
  });

  test("names that nobody needs, and a server's CN, are a difference", async () => {
    using _box = sandbox();
    put("etcd/ca", ca);
    put("etcd/peer", await peer({ nodeName: "m2" }));
    const differs =
      'not valid for m1, and no client that is known needs it; its CN is "m2", and no client looks at it';
    expect(examine(PEER, FACTS)).toMatchObject({ state: "ok", differs: { differs } });
    put("etcd/peer", await peer());
    expect(examine(PEER, FACTS).differs).toBeUndefined();
  });

  test("an absent CA apart from a wrong one", async () => {
    using _box = sandbox();
    put("etcd/peer", await peer());
    expect(examine(PEER, FACTS)).toMatchObject({ state: "CA missing", cert: { cn: "m1" } });
  });

  test("a leaf by any CA of a bundle, and by names only where there are facts", async () => {
    using _box = sandbox();
    put("etcd/ca", { cert: otherCa.cert + ca.cert, key: otherCa.key });
    const other = { advertiseAddress: "10.1.1.1" };
    put("etcd/peer", await peer(other));
    expect([
      examine(PEER, undefined).state,
      examine(PEER, testFacts(other)).state,
      examine(PEER, FACTS).state,
    ]).toEqual(["ok", "ok", "wrong names"]);
  });

  test("more names and groups than asked for are fine, fewer groups are not", async () => {
    using _box = sandbox();
    const row = certRow("apiserver-kubelet-client");
    put("ca", ca);
    const state = async (o: string | undefined, facts = FACTS) => {
      put(
        row.file,
        await issueClient({ cn: "kube-apiserver-kubelet-client", ...(o ? { o } : {}) }, ca, facts),
      );
      return examine(row, facts).state;
    };
    expect(await state(undefined, { ...FACTS, kubeletClientBound: true })).toBe("ok");
    expect([
      await state("kubeadm:cluster-admins"),
      await state("system:masters"),
      await state(undefined),
    ]).toEqual(["ok", "ok", "wrong names"]);
    put("etcd/ca", ca);
    put("etcd/peer", await peer({ etcdPeerCertSANs: ["extra.example"] }));
    expect(examine(PEER, FACTS).state).toBe("ok");
  });

  test("a CA without its key from one that is no CA", async () => {
    using _box = sandbox();
    put("etcd/ca", { cert: ca.cert });
    expect(examine(certRow("etcd-ca"), FACTS)).toMatchObject({
      state: "key missing",
      detail: "the certificate is there (etcd-ca) without its key",
    });
    put("etcd/ca", await peer());
    expect(examine(certRow("etcd-ca"), FACTS).state).toBe("wrong usage");
  });
});

test("examineServiceAccountKey finds each state, and accepts old public keys beside the own one", () => {
  using _box = sandbox();
  const state = () => examineServiceAccountKey(PKI).state as string;
  const states = [state()];
  writeFile(`${PKI}/sa.pub`, publicPem(otherCa.key));
  states.push(state());
  writeFile(`${PKI}/sa.key`, key.key);
  states.push(state());
  writeFile(`${PKI}/sa.pub`, publicPem(otherCa.key) + key.pub);
  states.push(state());
  removeFile(`${PKI}/sa.pub`);
  states.push(state());
  writeFile(`${PKI}/sa.key`, "");
  states.push(state());
  expect(states).toEqual([
    "missing",
    "key missing",
    "does not match its key",
    "ok",
    "public key missing",
    "unreadable",
  ]);
});

test("examineKubeconfig finds each state", async () => {
  using _box = sandbox();
  put("ca", ca);
  const user = await issueClient({ cn: "kubernetes-admin", o: "kubeadm:cluster-admins" }, ca, FACTS, { key });
  const state = (text: string) => {
    writeFile(ADMIN.path, text);
    return examine(ADMIN, FACTS).state as string;
  };
  const write = (pair: Pair, facts = FACTS, trusted = ca) =>
    state(kubeconfigText(ADMIN, facts, { ca: trusted.cert, user: pair }));
  const years = (n: number) => new Date(Date.now() + n * 8760 * 3600_000);
  expect(examine(ADMIN, FACTS).state).toBe("missing");
  expect(write(user)).toBe("ok");
  expect(write(user, testFacts({ controlPlaneEndpoint: undefined }))).toBe("ok");
  expect(write(user, testFacts({ controlPlaneEndpoint: "old.example" }))).toBe("wrong server");
  expect(write(user, FACTS, otherCa)).toBe("wrong CA");
  expect(write(await issueClient({ cn: "kubernetes-admin" }, otherCa, FACTS))).toBe("wrong CA");
  expect(write(await issueClient({ cn: "kubernetes-admin" }, ca, FACTS))).toBe("wrong user");
  expect(write(await issueClient({ cn: "someone" }, ca, FACTS))).toBe("wrong user");
  expect(write(await issueClient({ cn: "kubernetes-admin" }, ca, FACTS, { now: years(-2) }))).toBe("expired");
  expect(write({ ...user, key: otherCa.key })).toBe("does not match its key");
  expect(state(kubeletKubeconfig({ server: "https://api.example:6443", ca: ca.cert }))).toBe(
    "certificate missing",
  );
  expect(state("")).toBe("unreadable");
  expect(state("- a: [")).toBe("unreadable");
});

test("ensureMany makes everything, and a second run changes no byte", async () => {
  using box = sandbox();
  const first = await ensureMany(EVERYTHING, FACTS, { ...OPTIONS, newCas: "all" });
  expect([first.written.length, first.kept]).toEqual([16, []]);
  const before = everything();
  box.said.length = 0;
  const second = await ensureMany(EVERYTHING, FACTS, { ...OPTIONS, newCas: "all" });
  expect([second.written, second.kept.length]).toEqual([[], 16]);
  expect(everything()).toBe(before);
  expect(box.said[0]).toMatch(
    /^unchanged \/etc\/kubernetes\/pki\/ca.crt \(until \d{4}-\d\d-\d\d, signed by kubernetes\)$/,
  );
  expect(box.said.join()).not.toContain("PRIVATE KEY");
});

test("a dry run prints what the real run then prints, and writes nothing", async () => {
  using box = sandbox();
  mode.dryRun = true;
  await ensureMany(EVERYTHING, FACTS, { ...OPTIONS, newCas: "all" });
  const plan = box.said.splice(0).map((line) => line.replace(/^would write/, "wrote"));
  mode.dryRun = false;
  setRoot(box.dir);
  expect(list("/")).toEqual([]);
  await ensureMany(EVERYTHING, FACTS, { ...OPTIONS, newCas: "all" });
  expect(box.said).toEqual(plan);
});

test("a lost CA or sa.key stops the run before anything is written, unless new ones are asked for", async () => {
  using box = sandbox();
  put("ca", { cert: ca.cert });
  const before = everything();
  box.said.length = 0;
  const wanted = { certs: CERTS };
  await expect(ensureMany(wanted, FACTS, OPTIONS)).rejects.toThrow(
    `${PKI}/ca.crt is needed and cannot be used: key missing`,
  );
  await expect(ensureMany({ serviceAccountKey: true }, FACTS, OPTIONS)).rejects.toThrow(
    `${PKI}/sa.key is needed and cannot be used: missing`,
  );
  await expect(ensureMany({ certs: [certRow("apiserver")] }, FACTS, OPTIONS)).rejects.toThrow(
    "Cannot sign apiserver",
  );
  expect([everything(), box.said]).toEqual([before, []]);
  await ensureMany(wanted, FACTS, { ...OPTIONS, newCas: "all" });
  expect([examine(certRow("ca"), FACTS).state, readText(`/aside${PKI}/ca.crt`)]).toEqual(["ok", ca.cert]);
});

test("a CA's certificate comes back from its key, and what it signed is still good", async () => {
  using box = sandbox();
  await ensureMany({ certs: CERTS }, FACTS, { ...OPTIONS, newCas: "all" });
  const hash = certInfo(readText(`${PKI}/ca.crt`)!).publicKeyHash;
  removeFile(`${PKI}/ca.crt`);
  box.said.length = 0;
  const { written } = await ensureMany({ certs: CERTS }, FACTS, OPTIONS);
  expect([written, certInfo(readText(`${PKI}/ca.crt`)!).publicKeyHash, exists("/aside")]).toEqual([
    ["ca"],
    hash,
    false,
  ]);
  expect(box.said.find((line) => line.includes("/ca.crt"))).toMatch(
    /^wrote .*ca.crt \(until .*, made again from its key\)$/,
  );
});

test("it has the key id that the certificates of its key name, in pki or in a kubeconfig alone: kubeadm 1.35 makes another than 1.34", async () => {
  using box = sandbox();
  await ensureMany(EVERYTHING, FACTS, { ...OPTIONS, newCas: "all" });
  const config =
    "[req]\nprompt=no\ndistinguished_name=dn\nx509_extensions=v3\n[dn]\nCN=kubernetes\n[v3]\nbasicConstraints=critical,CA:true\nsubjectKeyIdentifier=0102030405\n";
  const made = Bun.spawnSync(
    ["openssl", "req", "-x509", "-days", "99", "-key", `${box.dir}${PKI}/ca.key`, "-config", "/dev/stdin"],
    {
      stdin: Buffer.from(config),
    },
  );
  const keyId = () =>
    new x509.X509Certificate(readText(`${PKI}/ca.crt`)!).getExtension(x509.SubjectKeyIdentifierExtension)
      ?.keyId;
  put("ca", { cert: made.stdout.toString() });
  await ensureMany(EVERYTHING, FACTS, OPTIONS);
  const leaves = CERTS.filter(({ ca }) => ca === "ca");
  for (const gone of [[], leaves]) {
    for (const { file } of gone) for (const ending of ["crt", "key"]) removeFile(`${PKI}/${file}.${ending}`);
    removeFile(`${PKI}/ca.crt`);
    expect((await ensureMany(EVERYTHING, FACTS, OPTIONS)).written).toEqual([
      "ca",
      ...gone.map(({ name }) => name),
    ]);
    expect(keyId()).toBe("0102030405");
  }
});

test.each([
  ["https://10.250.99.1:6443", "https://10.250.99.1:6443"],
  ["https://old.example:6443", "https://api.example:6443"],
])("a kubeconfig to %s that is made anew leads to %s", async (before, after) => {
  using _box = sandbox();
  await ensureMany(EVERYTHING, FACTS, { ...OPTIONS, newCas: "all" });
  writeFile(ADMIN.path, kubeletKubeconfig({ server: before, ca: readText(`${PKI}/ca.crt`)! }));
  const { written } = await ensureMany(EVERYTHING, FACTS, OPTIONS);
  expect([written, readKubeconfig(ADMIN.path)?.server]).toEqual([["admin"], after]);
});

test("an expired kubeconfig keeps all that somebody wrote but its user's certificate: contexts, the name that the server's certificate must have", async () => {
  using _box = sandbox();
  await ensureMany(EVERYTHING, FACTS, { ...OPTIONS, newCas: "all" });
  const [fresh, key] = [readText(ADMIN.path)!, readText(`${PKI}/ca.key`)!];
  const config = parse((await agedText(fresh, key, 367 * 86_400_000))!);
  config.clusters[0].cluster["tls-server-name"] = "kubernetes";
  config.clusters.push({ name: "other", cluster: { server: "https://192.0.2.7:6443" } });
  config.users[0].user.token = "of-before";
  writeFile(ADMIN.path, stringify(config));
  const { written } = await ensureMany(EVERYTHING, FACTS, OPTIONS);
  expect([written, examine(ADMIN, FACTS).state]).toEqual([["admin"], "ok"]);
  const after = parse(readText(ADMIN.path)!);
  expect(Object.keys(after.users[0].user)).toEqual(["client-certificate-data", "client-key-data"]);
  expect({ ...after, users: [] }).toEqual({ ...config, users: [] });
});

test("an expired CA is renewed, and kubeconfigs keep their users: only the CA in them changes", async () => {
  using box = sandbox();
  await ensureMany(EVERYTHING, FACTS, { ...OPTIONS, newCas: "all" });
  const key = readText(`${PKI}/ca.key`)!;
  const old = (await agedText(readText(`${PKI}/ca.crt`)!, key, 3651 * 86_400_000))!;
  put("ca", { cert: old });
  const configs = kubeconfigRows(FACTS, { superAdmin: true }).map(({ path }) => path);
  for (const path of configs) writeFile(path, withCa(readText(path)!, old)!);
  const before = configs.map((path) => readKubeconfig(path)!);
  const { written } = await ensureMany(EVERYTHING, FACTS, OPTIONS);
  expect(written).toEqual(["ca", "admin", "super-admin", "kubelet", "controller-manager", "scheduler"]);
  const ca = readText(`${PKI}/ca.crt`)!;
  expect(configs.map((path) => readKubeconfig(path)!)).toEqual(
    before.map((config) => ({ ...config, caPem: ca })),
  );
  expect(box.said.filter((line) => line.endsWith("(current CA in it; its user is unchanged)"))).toHaveLength(
    5,
  );
});

test("a wrong leaf is moved aside and issued anew; a new CA takes its leaves and kubeconfigs with it", async () => {
  using _box = sandbox();
  await ensureMany(EVERYTHING, FACTS, { ...OPTIONS, newCas: "all" });
  const old = readText(`${PKI}/apiserver.crt`);
  const { written } = await ensureMany(EVERYTHING, testFacts({ clients: ["new.example"] }), OPTIONS);
  expect([written, readText(`/aside${PKI}/apiserver.crt`), exists(`/aside${PKI}/apiserver.key`)]).toEqual([
    ["apiserver"],
    old!,
    true,
  ]);
  removeFile(`${PKI}/ca.key`);
  const again = await ensureMany(EVERYTHING, FACTS, { ...OPTIONS, newCas: "all" });
  expect(again.written).toEqual([
    "ca",
    "apiserver",
    "apiserver-kubelet-client",
    "admin",
    "super-admin",
    "kubelet",
    "controller-manager",
    "scheduler",
  ]);
  for (const row of CERTS) expect([row.name, examine(row, FACTS).state]).toEqual([row.name, "ok"]);
});

test("certificates that expire sooner than those before are named: a year later all of them end at once", async () => {
  using box = sandbox();
  await ensureMany(EVERYTHING, FACTS, { ...OPTIONS, newCas: "all" });
  const signer = { cert: readText(`${PKI}/ca.crt`)!, key: readText(`${PKI}/ca.key`)! };
  const long = testFacts({ certificateValidityHours: 5 * 8760, advertiseAddress: "10.250.99.7" });
  put("apiserver", await issueLeaf(certRow("apiserver"), signer, long, { key }));
  await ensureMany(EVERYTHING, FACTS, OPTIONS);
  expect(box.said.at(-1)).toMatch(
    /^warning: the old certificates were valid until 20\d\d-.*, the new ones expire on 20\d\d-.*kubeadm certs renew all$/,
  );
  const lines = box.said.length;
  put(
    "apiserver",
    await issueLeaf(certRow("apiserver"), signer, testFacts({ advertiseAddress: "10.250.99.7" }), { key }),
  );
  await ensureMany(EVERYTHING, FACTS, OPTIONS);
  expect(box.said.slice(lines).join("\n")).not.toContain("warning: certificates before");
});

test("a plan says for each row what is to be done, and writes nothing", async () => {
  using box = sandbox();
  await ensureMany(EVERYTHING, FACTS, { ...OPTIONS, newCas: "all" });
  for (const file of ["ca.crt", "front-proxy-ca.key", "etcd/server.crt"]) removeFile(`${PKI}/${file}`);
  const before = everything();
  box.said.length = 0;
  const todos = (newCas?: "internal") =>
    Object.fromEntries(
      actionsFor(EVERYTHING, FACTS, { newCas }).map(({ finding, todo }) => [finding.name, todo]),
    );
  expect(todos()).toMatchObject({
    ca: "restore",
    apiserver: "check",
    admin: "check",
    "etcd-ca": "keep",
    "etcd-server": "renew",
    sa: "keep",
  });
  // kept offline, as it seems: nothing needs it before its client certificate expires
  expect(todos()).toMatchObject({ "front-proxy-ca": "keep", "front-proxy-client": "keep" });
  expect(todos("internal")).toMatchObject({ "front-proxy-ca": "make", "front-proxy-client": "renew" });
  expect(keysToMake(actionsFor(EVERYTHING, FACTS, { newCas: "internal" })).map(({ name }) => name)).toEqual([
    "front-proxy-ca",
  ]);
  expect([everything(), box.said]).toEqual([before, []]);
  const { written } = await ensureMany(EVERYTHING, FACTS, { ...OPTIONS, newCas: "internal" });
  // kubeconfigs have the certificate of before, which is of the same key
  expect(written).toEqual(["ca", "front-proxy-ca", "front-proxy-client", "etcd-server"]);
});

test("a run cut off between a key and its certificate is mended by the same call", async () => {
  using _box = sandbox();
  await ensureMany({ certs: CERTS }, FACTS, { ...OPTIONS, newCas: "all" });
  removeFile(`${PKI}/etcd/server.crt`);
  const { written } = await ensureMany({ certs: CERTS }, FACTS, OPTIONS);
  expect([written, examine(certRow("etcd-server"), FACTS).state, list(`/aside${PKI}/etcd`)]).toEqual([
    ["etcd-server"],
    "ok",
    ["server.key"],
  ]);
});

test("sa.pub comes back from sa.key; a foreign sa.pub is moved aside; sa.key stays", async () => {
  using _box = sandbox();
  writeFile(`${PKI}/sa.key`, key.key);
  await ensureMany({ serviceAccountKey: true }, FACTS, OPTIONS);
  expect(readText(`${PKI}/sa.pub`)).toBe(key.pub);
  writeFile(`${PKI}/sa.pub`, publicPem(otherCa.key));
  await ensureMany({ serviceAccountKey: true }, FACTS, OPTIONS);
  expect([readText(`${PKI}/sa.pub`), readText(`/aside${PKI}/sa.pub`), readText(`${PKI}/sa.key`)]).toEqual([
    key.pub,
    publicPem(otherCa.key),
    key.key,
  ]);
  expect(serviceAccountKeyId(key.pub)).toMatch(/^[\w-]{43}$/);
});

test("an empty kubeconfig, as a kubelet leaves it, is moved aside and written", async () => {
  using box = sandbox();
  put("ca", ca);
  writeFile("/etc/kubernetes/scheduler.conf", "", { mode: 0o644 });
  const row = kubeconfigRow("scheduler");
  expect((await ensureMany({ kubeconfigs: [row] }, FACTS, OPTIONS)).written).toEqual(["scheduler"]);
  expect([examine(row, FACTS).state, readText("/aside/etc/kubernetes/scheduler.conf")]).toEqual(["ok", ""]);
  expect(stat(row.path)?.mode).toBe(0o600);
  expect(box.said.at(-1)).toMatch(
    /^wrote \/etc\/kubernetes\/scheduler.conf \(system:kube-scheduler, until [\d-]+, to https:/,
  );
});

/** All files below the root with their content, as text. */
function everything(folder = "/"): string {
  return list(folder)
    .map(
      (name) =>
        `${folder}/${name}: ${list(`${folder}/${name}`).length > 0 ? everything(`${folder}/${name}`) : readFileText(`${folder}/${name}`)}`,
    )
    .join("\n");
}

function readFileText(path: string): string {
  return readText(path) ?? "";
}
