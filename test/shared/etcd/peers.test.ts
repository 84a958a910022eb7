/**
 * Other control plane nodes: which of their etcds count, those of our CA, and of them those that a member can
 * talk to; and what must not be made beside them.
 */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { refuseWhereOthersLive } from "../../../shared/etcd/other-members.ts";
import { readServedCertificate, servedCertificateAt, survey } from "../../../shared/etcd/peers.ts";
import { placeOf } from "../../../shared/etcd-location/reach-etcd.ts";
import { writeFile } from "../../../shared/files/files.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import type { Finding } from "../../../shared/pki/examine.ts";
import { issueCa, issueLeaf } from "../../../shared/pki/issue.ts";
import { FACTS, healthyCp } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

test("an etcd whose certificate has expired is of our CA, but answers no member", async () => {
  const { root } = await healthyCp();
  const [cert, key] = ["ca.crt", "ca.key"].map((file) =>
    readFileSync(`${root}/etc/kubernetes/pki/etcd/${file}`, "utf8"),
  );
  using _box = sandbox();
  writeFile("/etc/kubernetes/pki/etcd/ca.crt", cert!);
  const ours = { cert: cert!, key: key! };
  const another = await issueCa(certRow("etcd-ca"), FACTS);
  const shows = async (ca: typeof ours, now: Date) =>
    readServedCertificate((await issueLeaf(certRow("etcd-peer"), ca, FACTS, { now })).cert, FACTS);
  expect(await shows(ours, new Date())).toBe("ours");
  expect(await shows(ours, new Date("2024-01-01"))).toBe("ours, expired");
  expect(await shows(another, new Date())).toBe("another's");
});

test("an etcd that refuses our certificate is silent for this one, though it shows one of our CA: it has read a CA that has expired since", async () => {
  const { root } = await healthyCp();
  using _box = sandbox();
  for (const file of ["etcd/ca.crt", "etcd/peer.crt", "etcd/peer.key"])
    writeFile(`${FACTS.certificatesDir}/${file}`, readFileSync(`${root}/etc/kubernetes/pki/${file}`, "utf8"));
  const [cert, key, ca] = ["peer.crt", "peer.key", "ca.crt"].map((file) =>
    readFileSync(`${root}/etc/kubernetes/pki/etcd/${file}`, "utf8"),
  );
  const another = (await issueCa(certRow("etcd-ca"), FACTS)).cert;
  const refuses = async (trusted: string) => {
    const tls = { cert: cert!, key: key!, ca: trusted, requestCert: true, rejectUnauthorized: true };
    using server = Bun.serve({ hostname: "127.0.0.1", port: 0, tls, fetch: () => new Response() });
    const place = { host: "127.0.0.1", port: server.port! };
    const peer = {
      id: "2",
      name: "m2",
      isLearner: false,
      ...place,
      ...(await servedCertificateAt(place, FACTS)),
    };
    const { silent } = await survey({ facts: FACTS, data: { members: [] } } as never, [peer]);
    return silent.map((one) => one.refuses);
  };
  expect([await refuses(ca!), await refuses(another)]).toEqual([[], [true]]);
});

test("a member whose peer URL is localhost is on the machine of its client URLs, never on the one that asks", () => {
  const peerURLs = ["http://localhost:2380"];
  expect(placeOf({ peerURLs, clientURLs: ["https://127.0.0.1:2379", "https://10.0.0.2:2379"] })).toEqual({
    host: "10.0.0.2",
    port: 2380,
  });
  expect(placeOf({ peerURLs, clientURLs: [] })).toEqual({ host: "localhost", port: 2380 });
  const own = { peerURLs: ["https://[fd00::2]:2381"], clientURLs: ["https://10.0.0.2:2379"] };
  expect(placeOf(own)).toEqual({ host: "fd00::2", port: 2381 });
  // a URL's own port, which it need not say
  expect(placeOf({ peerURLs: ["https://etcd1.example:443"], clientURLs: [] }).port).toBe(443);
});

test("a shared key is not made anew beside a control plane node whose etcd runs, unless it is said to be lost there, too", () => {
  const alive = ["m2", "m3"].map((name) => ({
    id: `${name}-id`,
    name,
    isLearner: false,
    host: "10.0.0.2",
    port: 2380,
    ...{ shows: "ours" as const, servedPem: "any" },
  }));
  const made: Finding[] = [{ name: "sa", state: "missing", paths: [], detail: "" }];
  const refuse = (keys: Finding[], lostOn: string[]) => () =>
    refuseWhereOthersLive(keys, { alive, deaf: [], server: "etcd" }, lostOn);
  expect(refuse([], [])).not.toThrow();
  expect(refuse(made, ["m2"])).toThrow("etcd runs on m3, which may still have sa");
  expect(refuse(made, ["m2", "m3"])).not.toThrow();
});

test("where API servers are the peers, a kubelet's serving certificate at an address proves none", async () => {
  using _box = sandbox();
  const row = certRow("apiserver");
  const ca = await issueCa(certRow("ca"), FACTS);
  const externalEtcd = {
    ca: "/ca",
    cert: "/cert",
    key: "/key",
    server: "",
    nodes: {},
    elsewhere: { ca: ca.cert },
  };
  const shows = async (cn: string, by = ca) =>
    readServedCertificate((await issueLeaf({ ...row, cn }, by, FACTS)).cert, { ...FACTS, externalEtcd });
  expect(await shows("kube-apiserver")).toBe("ours");
  expect(await shows("system:node:w3")).toBe("another's");
  expect(await shows("kube-apiserver", await issueCa(certRow("ca"), FACTS))).toBe("another's");
});
