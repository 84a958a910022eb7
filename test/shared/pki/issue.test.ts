/** What we issue, judged by openssl. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CERTS, certRow, type KeyAlgorithm } from "../../../shared/pki/certs.ts";
import { issueCa, issueClient, issueLeaf, type Pair } from "../../../shared/pki/issue.ts";
import { keyPair } from "../../../shared/pki/keys.ts";
import { testFacts } from "../../pretend/facts.ts";

setDefaultTimeout(300_000);

/** What it prints; of one that fails, all that it says. */
function openssl(args: string, { input = "", cwd = "." } = {}): string {
  const { stdout, stderr, exitCode } = Bun.spawnSync(["openssl", ...args.split(" ")], {
    cwd,
    stdin: Buffer.from(input),
  });
  return (stdout.toString() + (exitCode === 0 ? "" : stderr.toString())).trim();
}

function text(pem: string): string {
  return openssl("x509 -noout -text -nameopt RFC2253", { input: pem });
}

function raw(pem: string, what: "issuer" | "subject"): string {
  return openssl(`x509 -noout -${what} -nameopt dump_all,dump_der`, { input: pem });
}

/** `openssl verify` of a certificate against its CA, for a purpose; `strict`: as Python and Node ask it. */
function verify(cert: string, ca: string, purpose: string, strict = true): string {
  return verifyAll({ leaf: cert }, ca, purpose, strict);
}

/** Name → certificate; a line for each. */
function verifyAll(certs: Record<string, string>, ca: string, purpose: string, strict = true): string {
  const dir = mkdtempSync(join(tmpdir(), "verify-"));
  try {
    writeFileSync(join(dir, "ca.crt"), ca);
    for (const [name, cert] of Object.entries(certs)) writeFileSync(join(dir, `${name}.crt`), cert);
    const how = `${strict ? "-x509_strict " : ""}-purpose ${purpose} -CAfile ca.crt`;
    const names = Object.keys(certs).map((name) => `${name}.crt`);
    return openssl(`verify ${how} ${names.join(" ")}`, { cwd: dir });
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** The leaves have one key: of RSA one takes a tenth of a second. */
async function issueAll(keyAlgorithm: KeyAlgorithm): Promise<Map<string, Pair>> {
  const facts = testFacts({ keyAlgorithm });
  const key = await keyPair(keyAlgorithm);
  const pairs = new Map<string, Pair>();
  for (const row of CERTS)
    pairs.set(
      row.name,
      await (row.ca ? issueLeaf(row, pairs.get(row.ca)!, facts, { key }) : issueCa(row, facts)),
    );
  return pairs;
}

describe.each([
  ["RSA-2048", "sha256WithRSAEncryption", "RSA PRIVATE KEY"],
  ["ECDSA-P256", "ecdsa-with-SHA256", "EC PRIVATE KEY"],
  ["ECDSA-P384", "ecdsa-with-SHA384", "EC PRIVATE KEY"],
] as const)("with %s", (algorithm, signature, label) => {
  const issued = issueAll(algorithm);

  test("every chain holds, for each use its row names", async () => {
    const pairs = await issued;
    const uses = CERTS.flatMap(({ name, ca, usages }) =>
      ca ? usages.map((usage) => ({ name, ca, usage })) : [],
    );
    for (const same of Map.groupBy(uses, ({ ca, usage }) => `${ca} ${usage}`).values()) {
      const [{ ca, usage }] = same as [(typeof uses)[number]];
      const certs = Object.fromEntries(same.map(({ name }) => [name, pairs.get(name)!.cert]));
      const said = verifyAll(certs, pairs.get(ca)!.cert, `ssl${usage}`);
      expect(said.split("\n")).toEqual(same.map(({ name }) => `${name}.crt: OK`));
    }
  });

  test("a client's certificate is no server's, and another CA's does not pass", async () => {
    const pairs = await issued;
    const client = pairs.get("apiserver-kubelet-client")!.cert;
    expect(verify(client, pairs.get("ca")!.cert, "sslserver")).toContain("unsuitable certificate purpose");
    expect(verify(client, pairs.get("etcd-ca")!.cert, "sslclient")).toContain(
      "unable to get local issuer certificate",
    );
  });

  test("keys are as kubeadm writes them and belong to their certificates", async () => {
    const pairs = await issued;
    for (const { cert, key } of pairs.values()) {
      expect(key).toStartWith(`-----BEGIN ${label}-----\n`);
      expect(new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))).toBe(true);
    }
    for (const { cert, key } of ["ca", "apiserver"].map((name) => pairs.get(name)!))
      expect(openssl("pkey -pubout", { input: key })).toBe(openssl("x509 -noout -pubkey", { input: cert }));
  });

  test("a root carries its own key id and name, signs certificates and no revocation lists", async () => {
    const root = text((await issued).get("front-proxy-ca")!.cert);
    expect(root).toContain(`Signature Algorithm: ${signature}`);
    expect(root).toMatch(/Key Usage: critical\n +Digital Signature, Key Encipherment, Certificate Sign\n/);
    expect(root).toMatch(/Basic Constraints: critical\n +CA:TRUE\n/);
    expect(root).toMatch(/Subject Key Identifier: \n +([0-9A-F]{2}:?){20}\n/);
    expect(root).toMatch(/Subject Alternative Name: \n +DNS:front-proxy-ca\n/);
    expect(root).not.toContain("Authority Key Identifier");
  });

  test("a leaf carries its CA's key id, both uses and all names", async () => {
    const peer = text((await issued).get("etcd-peer")!.cert);
    expect(peer).toMatch(/Key Usage: critical\n +Digital Signature, Key Encipherment\n/);
    expect(peer).toMatch(
      /Extended Key Usage: \n +TLS Web Server Authentication, TLS Web Client Authentication\n/,
    );
    expect(peer).toMatch(/Basic Constraints: critical\n +CA:FALSE\n/);
    expect(peer).toMatch(/Authority Key Identifier: \n +([0-9A-F]{2}:?){20}\n/);
    expect(peer).toMatch(
      /DNS:localhost, DNS:m1, IP Address:10.250.99.1, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1\n/,
    );
    expect(peer).not.toContain("Subject Key Identifier");
  });
});

test.each(["RSA-3072", "RSA-4096"] as const)(
  "a CA of %s signs a leaf that openssl accepts",
  async (keyAlgorithm) => {
    const ca = await issueCa(certRow("ca"), testFacts({ keyAlgorithm }));
    const leaf = await issueLeaf(certRow("apiserver"), ca, testFacts({ keyAlgorithm: "ECDSA-P256" }));
    expect(verify(leaf.cert, ca.cert, "sslserver")).toBe("leaf.crt: OK");
    expect(text(ca.cert)).toContain(`Public-Key: (${keyAlgorithm.slice(4)} bit)`);
  },
);

test("the issuer is the CA's subject byte for byte, in whatever string types an old tool wrote it", async () => {
  const { key } = await keyPair("ECDSA-P256");
  const dir = mkdtempSync(join(tmpdir(), "old-ca-"));
  try {
    writeFileSync(join(dir, "ca.key"), key);
    const config =
      "[req]\nprompt=no\ndistinguished_name=dn\nx509_extensions=v3\nstring_mask=MASK:0x2802\n[dn]\nC=DE\nO=Zoë & Söhne\nCN=kubernetes\n[v3]\nbasicConstraints=critical,CA:true\nsubjectKeyIdentifier=none\n";
    for (const mask of ["utf8only", "default", "MASK:0x0800", "MASK:0x4"]) {
      writeFileSync(join(dir, "c"), config.replace("MASK:0x2802", mask));
      const ca = openssl("req -utf8 -x509 -key ca.key -config c -set_serial 0", { cwd: dir });
      const { cert } = await issueClient({ cn: "someone" }, { cert: ca, key }, testFacts());
      expect(raw(cert, "issuer").replace("issuer", "subject")).toBe(raw(ca, "subject"));
      expect(verify(cert, ca, "sslclient")).not.toContain("unable to get local issuer");
      expect(text(cert)).not.toContain("Authority Key Identifier");
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
});

/** What openssl's configuration says of the CA, of its leaf, and the CA's serial number. */
const MADE_BEFORE: [who: string, ca: string, leaf: string][] = [
  [
    "kubeadm 1.35, whose key id is a SHA-256",
    "subjectKeyIdentifier=0102030405060708090a0b0c0d0e0f1011121314",
    "authorityKeyIdentifier=keyid",
  ],
  [
    "kubeadm with Go before 1.15, without a key id",
    "subjectKeyIdentifier=none",
    "authorityKeyIdentifier=none",
  ],
  [
    "openssl, whose leaves name the CA's serial number, too",
    "subjectKeyIdentifier=hash",
    "authorityKeyIdentifier=keyid,issuer:always",
  ],
];

test.each(MADE_BEFORE)(
  "a CA of %s, made again from its key, is the issuer of what it has signed",
  async (_, ca, leaf) => {
    const { key, pub } = await keyPair("ECDSA-P256");
    const dir = mkdtempSync(join(tmpdir(), "again-"));
    try {
      writeFileSync(join(dir, "ca.key"), key);
      const head =
        "[req]\nprompt=no\ndistinguished_name=dn\nx509_extensions=v3\nstring_mask=utf8only\n[dn]\nCN=kubernetes\n[v3]\n";
      writeFileSync(
        join(dir, "c"),
        `${head}basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign\n${ca}\n`,
      );
      writeFileSync(
        join(dir, "l"),
        `[v3]\n${leaf}\nsubjectAltName=DNS:m1\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n`,
      );
      openssl("req -x509 -key ca.key -config c -set_serial 77 -out old.crt", { cwd: dir });
      openssl("req -new -key ca.key -subj /CN=m1 -out csr", { cwd: dir });
      const before = openssl(
        "x509 -req -in csr -CA old.crt -CAkey ca.key -set_serial 5 -extfile l -extensions v3",
        { cwd: dir },
      );
      const again = await issueCa(certRow("ca"), testFacts(), { key: { key, pub }, signed: before });
      const isStrict = leaf !== "authorityKeyIdentifier=none";
      expect(verify(before, again.cert, "sslserver", isStrict)).toBe("leaf.crt: OK");
      expect(raw(before, "issuer").replace("issuer", "subject")).toBe(raw(again.cert, "subject"));
      const ours = await issueClient({ cn: "someone" }, again, testFacts());
      expect(verify(ours.cert, again.cert, "sslclient")).toBe("leaf.crt: OK");
    } finally {
      rmSync(dir, { recursive: true });
    }
  },
);

test("a subject is O then CN, in the string types Go picks", async () => {
  const ca = await issueCa(certRow("ca"), testFacts());
  const types = async (cn: string, o: string) =>
    openssl("x509 -noout -subject -nameopt show_type,sname,utf8,sep_comma_plus", {
      input: (await issueClient({ cn, o }, ca, testFacts())).cert,
    });
  expect(await types("system:node:m1", "system:nodes")).toBe(
    "subject=O=PRINTABLESTRING:system:nodes,CN=PRINTABLESTRING:system:node:m1",
  );
  expect(await types("a_b", "Größe")).toBe("subject=O=UTF8STRING:Größe,CN=UTF8STRING:a_b");
});

test("validity counts from five minutes back, and a date after 2049 is written as RFC 5280 wants it", async () => {
  const now = new Date("2026-03-01T12:00:00.999Z");
  const ca = await issueCa(certRow("ca"), testFacts({ caValidityHours: 8760 * 25 }), { now });
  const dates = openssl("x509 -noout -dates -dateopt iso_8601", { input: ca.cert });
  expect(dates).toBe("notBefore=2026-03-01 11:55:00Z\nnotAfter=2051-02-23 12:00:00Z");
  expect(openssl("asn1parse", { input: ca.cert })).toMatch(
    /UTCTIME +:260301115500Z\n.*GENERALIZEDTIME +:20510223120000Z/,
  );
});

test("serial numbers are positive, at most 63 bits and different", async () => {
  const ca = await issueCa(certRow("ca"), testFacts());
  const key = await keyPair("ECDSA-P256");
  const certs = await Promise.all(
    Array.from({ length: 20 }, () => issueClient({ cn: "x" }, ca, testFacts(), { key })),
  );
  const serials = certs.map(({ cert }) => new X509Certificate(cert).serialNumber);
  for (const serial of serials) expect(serial).toMatch(/^(0?[1-9A-F]|[0-7])[0-9A-F]{0,15}$/);
  expect(new Set(serials).size).toBe(20);
});

test("a CA with a key that kubeadm cannot load is refused", async () => {
  const both = openssl("req -x509 -newkey ed25519 -noenc -subj /CN=kubernetes -keyout -");
  await expect(issueClient({ cn: "x" }, { cert: both, key: both }, testFacts())).rejects.toThrow(
    'Cannot sign with a key of the kind "ed25519"',
  );
});
