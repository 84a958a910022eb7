/** A CA renewed with its own key, judged by openssl: CAs as each of the field's programs has made them. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { memo } from "../../../shared/memo.ts";
import { certInfo, isSelfSigned } from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../../shared/pki/issue.ts";
import { notIssuedBy, renewCa } from "../../../shared/pki/renew.ts";
import { testFacts } from "../../pretend/facts.ts";
import { keptBytes } from "../../pretend/renewed.ts";

setDefaultTimeout(300_000);

const DAY = 86_400_000;
const YEAR = { hours: 8760 };

/** A folder where openssl works. */
function folder() {
  const dir = mkdtempSync(join(tmpdir(), "renew-"));
  const openssl = (line: string, input = "") => {
    const { stdout, stderr } = Bun.spawnSync(["openssl", ...line.split(" ")], {
      cwd: dir,
      stdin: Buffer.from(input),
    });
    return stdout.toString() + stderr.toString();
  };
  const file = (name: string, text: string) => writeFileSync(join(dir, name), text);
  const read = (name: string) => readFileSync(join(dir, name), "utf8");
  return { openssl, file, read, [Symbol.dispose]: () => rmSync(dir, { recursive: true }) };
}

/** A key of a kind, by openssl: of RSA one takes half a second, so all CAs of a kind have the same. */
const keyOf = memo((kind) => {
  using made = folder();
  return made.openssl(`genpkey -quiet -algorithm ${kind}`);
});

/** What asks for a leaf: of the same key, so one for each. */
const csrOf = memo((key) => {
  using asking = folder();
  asking.file("ca.key", key);
  return asking.openssl("req -new -key ca.key -subj /CN=m1");
});

/** What openssl's words make of it: key, extensions, and what its leaves name. */
interface Old {
  key?: string;
  mask?: string;
  keyId?: string;
  leaf?: string;
  serial?: number;
  /** Its name, and more extensions. */
  name?: string;
  more?: string;
}

/** A CA for another day, and a leaf of it. */
function made(
  { openssl, file, read }: ReturnType<typeof folder>,
  {
    key = "EC -pkeyopt ec_paramgen_curve:P-256",
    mask = "utf8only",
    keyId = "hash",
    leaf = "keyid",
    serial = 77,
    name = "O=Zoë\nCN=kubernetes",
    more = "",
  }: Old,
  { isOther = false } = {},
) {
  const own = isOther ? openssl(`genpkey -quiet -algorithm ${key}`) : keyOf(key);
  file("ca.key", own);
  file(
    "c",
    `[req]\nprompt=no\nutf8=yes\ndistinguished_name=dn\nx509_extensions=v3\nstring_mask=${mask}\n[dn]\n${name}\n[v3]\nkeyUsage=critical,digitalSignature,keyEncipherment,keyCertSign\nbasicConstraints=critical,CA:true\nsubjectKeyIdentifier=${keyId}\n${more}`,
  );
  file(
    "l",
    `[v3]\nauthorityKeyIdentifier=${leaf}\nsubjectAltName=DNS:m1\nkeyUsage=critical,digitalSignature\n`,
  );
  const ca = openssl(`req -x509 -key ca.key -config c -set_serial ${serial} -days 1`);
  file("old.crt", ca);
  file("csr", csrOf(own));
  openssl(
    "x509 -req -in csr -CA old.crt -CAkey ca.key -set_serial 5 -days 300 -extfile l -extensions v3 -out leaf.crt",
  );
  return { ca, key: own, leaf: read("leaf.crt") };
}

/** Go writes a name of ASCII as PrintableString; `keyId`: none before Go 1.15, of SHA-1, of SHA-256 since 1.35. */
const KUBEADM: Old = {
  key: "RSA -pkeyopt rsa_keygen_bits:2048",
  mask: "default",
  name: "CN=kubernetes",
};
const SHA_256 = "9c1185a5c5e9fc54612808977ee8f548b2258d31";
const SAN = "subjectAltName=DNS:kubernetes\n";

const OLD: [who: string, how: Old][] = [
  ["kubeadm to 1.17", { ...KUBEADM, serial: 0, keyId: "none", leaf: "none" }],
  ["kubeadm 1.18, built with Go 1.13", { ...KUBEADM, serial: 0, keyId: "none", leaf: "none", more: SAN }],
  ["kubeadm 1.19 to 1.24", { ...KUBEADM, serial: 0, more: SAN }],
  ["kubeadm 1.25 to 1.27", { ...KUBEADM, serial: 0 }],
  ["kubeadm 1.28 to 1.34", { ...KUBEADM, serial: 0x51f0_4a3d_22c1 }],
  ["kubeadm 1.35 and later", { ...KUBEADM, serial: 0x51f0_4a3d_22c1, keyId: SHA_256 }],
  [
    "kubeadm's ECDSA-P256 of 1.35",
    { ...KUBEADM, key: "EC -pkeyopt ec_paramgen_curve:P-256", keyId: SHA_256 },
  ],
  ["UTF8String in its name, ECDSA P-256", {}],
  ["ECDSA P-384", { key: "EC -pkeyopt ec_paramgen_curve:P-384" }],
  ["Ed25519", { key: "ED25519" }],
  ["PrintableString and T61String in its name", { mask: "default" }],
  ["BMPString in its name", { mask: "MASK:0x0800" }],
  ["leaves that name its serial number", { leaf: "keyid,issuer:always" }],
];

test.each(OLD)(
  "%s: the same but for serial number, end and signature; its leaves are good after the old end",
  (_, how) => {
    using openssl = folder();
    const { ca, key, leaf } = made(openssl, how);
    const renewed = renewCa(ca, key, { ...YEAR, signed: [leaf] });
    expect(renewCa(ca, key, { ...YEAR, signed: [leaf], now: new Date(Date.now() + 30 * DAY) })).toBe(renewed);
    openssl.file("new.crt", renewed);
    const others =
      "x509 -noout -text -startdate -certopt no_serial,no_sigdump,no_validity -nameopt dump_all,dump_der";
    expect(openssl.openssl(others, renewed)).toBe(openssl.openssl(others, ca));
    expect(keptBytes(renewed)).toBe(keptBytes(ca));
    const keepsSerial = how.leaf?.includes("issuer");
    const [was, is] = [certInfo(ca), certInfo(renewed)];
    expect([is.notAfter.getTime(), is.notBefore]).toEqual([
      was.notAfter.getTime() + 365 * DAY,
      was.notBefore,
    ]);
    const serials = [renewed, ca].map((pem) => new X509Certificate(pem).serialNumber);
    expect(serials[0] === serials[1]).toBe(keepsSerial === true);
    const at = Math.floor(Date.now() / 1000) + 2 * 86_400;
    expect(openssl.openssl(`verify -attime ${at} -CAfile old.crt leaf.crt`)).toContain(
      "certificate has expired",
    );
    expect(openssl.openssl(`verify -attime ${at} -CAfile new.crt leaf.crt`)).toBe("leaf.crt: OK\n");
    expect(openssl.openssl("verify -CAfile new.crt -check_ss_sig new.crt")).toBe("new.crt: OK\n");
    expect(notIssuedBy(leaf, ca, new Date(at * 1000))).toBe("the CA is not valid then");
    expect(notIssuedBy(leaf, renewed, new Date(at * 1000))).toBe(undefined);
    const before = new Date(was.notBefore.getTime() - 1000);
    expect(notIssuedBy(leaf, renewed, before)).toBe("the CA is not valid then");
  },
);

test("it ends whole lives after the old end, at least half a life from now; after 2049 as RFC 5280 writes it", () => {
  using openssl = folder();
  const { ca, key } = made(openssl, {});
  const end = certInfo(ca).notAfter.getTime();
  const lives = (days: number, hours: number) => {
    const now = new Date(end + days * DAY);
    return (
      (certInfo(renewCa(ca, key, { hours, signed: [], now })).notAfter.getTime() - end) / hours / 3_600_000
    );
  };
  expect([-3000, 0, 182, 183, 900].map((days) => lives(days, 8760))).toEqual([1, 1, 1, 2, 3]);
  const late = renewCa(ca, key, { hours: 30 * 8760, signed: [] });
  expect(openssl.openssl("asn1parse", late)).toMatch(/GENERALIZEDTIME +:205\d{11}Z\n/);
});

test("another key, a leaf, a bundle and a CA that another one signed are refused", async () => {
  using openssl = folder();
  const facts = testFacts();
  const { ca, key, leaf } = made(openssl, {});
  const other = await issueCa(certRow("ca"), facts);
  const renew =
    (pem: string, from = key) =>
    () =>
      renewCa(pem, from, { ...YEAR, signed: [] });
  expect(renew(ca, other.key)).toThrow('The key is not that of "O=Zoë, CN=kubernetes"');
  expect(renew(leaf)).toThrow('"CN=m1" is no CA');
  expect(renew(ca + other.cert)).toThrow("2 certificates in one file");
  const company = companySigned(openssl, ca, key);
  expect([isSelfSigned(ca), isSelfSigned(company.cert)]).toEqual([true, false]);
  expect(renew(company.cert, company.key)).toThrow(
    '"CN=team" is signed by "O=Zoë, CN=kubernetes", not by itself',
  );
});

/** An intermediate CA. */
function companySigned({ openssl, file }: ReturnType<typeof folder>, ca: string, key: string) {
  file("root.crt", ca);
  file("root.key", key);
  file("team.key", openssl("genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256"));
  file("team.csr", openssl("req -new -key team.key -subj /CN=team"));
  file("e", "basicConstraints=critical,CA:true\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n");
  openssl(
    "x509 -req -in team.csr -CA root.crt -CAkey root.key -days 1 -set_serial 9 -extfile e -out team.crt",
  );
  return { cert: openssl("x509 -in team.crt"), key: openssl("pkey -in team.key") };
}

test("notIssuedBy() names what a strict reader would refuse", async () => {
  using openssl = folder();
  const facts = testFacts();
  const old = made(openssl, { leaf: "keyid,issuer:always" });
  const now = new Date();
  const { ca: sameName } = made(openssl, {}, { isOther: true });
  const ours = await issueCa(certRow("ca"), facts);
  const leaf = (await issueLeaf(certRow("apiserver"), ours, facts)).cert;
  expect(notIssuedBy(leaf, old.ca, now)).toBe("it names another issuer");
  expect(notIssuedBy(old.leaf, sameName, now)).toBe("another key signed it");
  expect(notIssuedBy(old.leaf, renewCa(old.ca, old.key, { ...YEAR, signed: [] }), now)).toBe(
    "it names another serial number",
  );
});
