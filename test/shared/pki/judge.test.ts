/** The single questions asked of a certificate. */
import "reflect-metadata";
import { expect, test } from "bun:test";
import * as x509 from "@peculiar/x509";
import { type CertInfo, certInfo, privateKeyOf, publicKeyOf } from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../../shared/pki/issue.ts";
import {
  caVerdict,
  nameIn,
  namesDifference,
  namesVerdict,
  pairVerdict,
  serverDifference,
  serverVerdict,
  serviceAccountVerdict,
  subjectVerdict,
  timeVerdict,
  usageVerdict,
} from "../../../shared/pki/judge.ts";
import { keyPair, signingKey } from "../../../shared/pki/keys.ts";
import { testFacts } from "../../pretend/facts.ts";

const FACTS = testFacts();
const ca = await issueCa(certRow("ca"), FACTS);
const other = await issueCa(certRow("ca"), FACTS);
const leaf = await issueLeaf(certRow("apiserver"), ca, FACTS);
const sa = await keyPair("ECDSA-P256");
/** Its name is a UTF8String, as openssl writes it; kubeadm's is a PrintableString. */
const encodedAnew = await selfSigned("CN=kubernetes");
const comma = await selfSigned("O=Acme\\, Inc., CN=Acme\\, Größe");
const second = await keyPair("ECDSA-P256");

test.each<[string, string | undefined, string | undefined, string | undefined]>([
  ["nothing", undefined, undefined, "missing"],
  ["a key alone", undefined, leaf.key, "certificate missing"],
  ["a key alone that cannot be read", undefined, "x", "unreadable"],
  ["a certificate alone", leaf.cert, undefined, "key missing"],
  ["a certificate that cannot be read", "x", leaf.key, "unreadable"],
  ["a key that cannot be read", leaf.cert, "x", "unreadable"],
  ["another key", leaf.cert, ca.key, "does not match its key"],
  ["a pair", leaf.cert, leaf.key, undefined],
])("a pair of files: %s", (_, cert, key, state) => {
  expect(pairVerdict(cert, key)?.[0]).toBe(state as never);
});

test.each<[string, string | undefined, string | undefined]>([
  ["its own", ca.cert, undefined],
  ["another of that name", other.cert, "wrong CA"],
  ["none", undefined, "CA missing"],
  ["one that cannot be read", "x", "wrong CA"],
  ["its key's, whose name has other bytes: Go does not find it by that", encodedAnew, "wrong CA"],
  ["the same, and its own beside it", encodedAnew + ca.cert, undefined],
])("a certificate's CA: %s", (_, by, state) => {
  const info = { issuer: "CN=kubernetes" } as CertInfo;
  expect(caVerdict(leaf.cert, info, by, "/ca.crt")?.[0]).toBe(state as never);
});

/** A CA of the same key, with names as openssl writes them. */
async function selfSigned(name: string): Promise<string> {
  const { key, ...signingAlgorithm } = await signingKey(privateKeyOf(ca.key));
  const parts = name.split(/(?<!\\), /).map((part) => part.split("="));
  const texts = parts.map(([type, text]) => ({ [type!]: [{ utf8String: text!.replaceAll("\\", "") }] }));
  const cert = await x509.X509CertificateGenerator.create({
    subject: new x509.Name(texts),
    issuer: new x509.Name(texts),
    publicKey: new x509.PublicKey(publicKeyOf(ca.cert).export({ type: "spki", format: "der" })),
    ...{ signingKey: key, signingAlgorithm },
    extensions: [new x509.BasicConstraintsExtension(true)],
  });
  return `${cert.toString("pem")}\n`;
}

const HOUR = 3_600_000;
const at = (hours: number) => new Date(Date.now() + hours * HOUR);

test.each<[string, number, number, string | undefined]>([
  ["valid", -1, 1, undefined],
  ["expired", -2, -1, "expired"],
  ["not yet", 1, 2, "not yet valid"],
])("a certificate's time: %s", (_, from, until, state) => {
  expect(timeVerdict({ notBefore: at(from), notAfter: at(until) } as CertInfo)?.[0]).toBe(state as never);
});

test.each<[string[], string[], string | undefined]>([
  [["server"], ["server", "client"], undefined],
  [["server", "client"], ["client"], "it is not made for a server"],
  [["server", "client"], [], "it is not made for a server and client"],
])("usages %p of %p", (needs, has, words) => {
  expect(usageVerdict({ usages: needs } as never, { usages: has } as never)?.[1]).toBe(words as never);
});

const GROUP = "kubeadm:cluster-admins";
const client = { cn: "kube-apiserver-kubelet-client", o: () => GROUP };
const OWN = { cn: client.cn, o: [GROUP] };
/** As kubeadm-config of a release before 1.29 wants it. */
const OF_MASTERS = { cn: client.cn, o: () => "system:masters" };

test.each<[string, object, { cn: string; o: string[] }, object, string | undefined]>([
  ["its own", client, OWN, {}, undefined],
  ["another name", client, { ...OWN, cn: "x" }, {}, `its CN is "x", not "${client.cn}"`],
  ["masters may all", client, { ...OWN, o: ["system:masters"] }, {}, undefined],
  ["another group", client, { ...OWN, o: ["a", "b"] }, {}, `its group is "a, b", not "${GROUP}"`],
  ["no group", client, { ...OWN, o: [] }, {}, `its group is "", not "${GROUP}"`],
  ["no group is asked for", { cn: client.cn }, { ...OWN, o: ["a"] }, {}, undefined],
  ["of the admins' group, which is bound", OF_MASTERS, OWN, { adminsBound: true }, undefined],
  [
    "of the admins' group, and nobody has bound it: it may do nothing",
    OF_MASTERS,
    OWN,
    {},
    `its group is "${GROUP}", not "system:masters"`,
  ],
  [
    "bound by its name",
    { ...client, boundByName: true },
    { ...OWN, o: [] },
    { kubeletClientBound: true },
    undefined,
  ],
  [
    "bound by its name, and nobody has bound it",
    { ...client, boundByName: true },
    { ...OWN, o: [] },
    {},
    `its group is "", not "${GROUP}"`,
  ],
  [
    "one that is not bound by name",
    client,
    { ...OWN, o: [] },
    { kubeletClientBound: true },
    `its group is "", not "${GROUP}"`,
  ],
  [
    "bound by its name, in another group",
    { ...client, boundByName: true },
    { ...OWN, o: ["a"] },
    { kubeletClientBound: true },
    `its group is "a", not "${GROUP}"`,
  ],
])("a certificate's user: %s", (_, row, info, facts, words) => {
  const verdict = subjectVerdict(row as never, info as never, { ...FACTS, ...facts }, "wrong user");
  expect(verdict?.[1]).toBe(words as never);
});

const names = (dns: string[], ips: string[]) => () => ({ dns, ips });
const HAS = { dns: ["a", "*.b.example"], ips: ["10.0.0.1"] };

test.each<[string, ReturnType<typeof names> | undefined, string | undefined]>([
  ["none is needed", undefined, undefined],
  ["all are there", names(["a", "x.b.example"], ["10.0.0.1"]), undefined],
  ["a name lacks", names(["a", "c"], []), "c"],
  ["an address lacks", names([], ["10.0.0.1", "10.0.0.2"]), "10.0.0.2"],
  ["both lack", names(["c"], ["10.0.0.2"]), "c, 10.0.0.2"],
])("a server's names: %s", (_, wanted, missing) => {
  const info = { sans: HAS, cn: "a" } as unknown as CertInfo;
  const verdict = namesVerdict({ ...(wanted && { needs: wanted }) } as never, info, FACTS);
  expect(verdict?.[1]).toBe((missing && `it is not valid for ${missing}`) as never);
  const difference = namesDifference({ cn: "a", ...(wanted && { names: wanted }) } as never, info, FACTS);
  expect(difference?.differs).toBe(
    (missing && `not valid for ${missing}, and no client that is known needs it`) as never,
  );
});

test("a server with another CN differs, and a client's is judged elsewhere", () => {
  const info = { sans: HAS, cn: "b" } as unknown as CertInfo;
  const words = 'its CN is "b", and no client looks at it';
  expect(namesDifference({ cn: "a", names: names([], []) } as never, info, FACTS)).toEqual({
    differs: words,
  });
  expect(namesDifference({ cn: "a" } as never, info, FACTS)).toBeUndefined();
  expect(namesDifference({ cn: "a", names: names(["c"], []) } as never, info, FACTS)?.differs).toBe(
    `not valid for c, and no client that is known needs it; ${words}`,
  );
});

const ENDPOINT = "https://api.example:6443";
const LOCAL = "https://10.250.99.1:6443";

test.each<[string, string, string[] | undefined, boolean, boolean]>([
  ["the endpoint", ENDPOINT, undefined, true, true],
  ["this node's API server", LOCAL, undefined, true, true],
  ["one that was looked at", "https://lb:6443", ["https://lb:6443"], true, false],
  ["a stranger", "https://x:6443", ["https://lb:6443"], false, false],
])("a kubeconfig that leads to %s", (_, server, servers, isRight, isUsual) => {
  const facts = { ...FACTS, ...(servers ? { servers } : {}) };
  expect([serverVerdict(server, facts)?.[0], serverDifference(server, facts)?.differs]).toEqual([
    isRight ? undefined : "wrong server",
    isUsual ? undefined : `leads to ${server}, not to ${ENDPOINT} or ${LOCAL}`,
  ]);
});

test.each<[string, string | undefined, string | undefined, string | undefined]>([
  ["nothing", undefined, undefined, "missing"],
  ["sa.pub alone", undefined, sa.pub, "key missing"],
  ["sa.key alone", sa.key, undefined, "public key missing"],
  ["a key that cannot be read", "x", sa.pub, "unreadable"],
  ["the same, without sa.pub", "x", undefined, "unreadable"],
  ["a public key that cannot be read", sa.key, "x", "unreadable"],
  ["a pair", sa.key, sa.pub, undefined],
  ["another one", sa.key, second.pub, "does not match its key"],
  ["several, the last is it", sa.key, second.pub + sa.pub, undefined],
  ["a certificate of it, which the API server takes, too", ca.key, leaf.cert + ca.cert, undefined],
])("the service-account key: %s", (_, key, pub, state) => {
  expect(serviceAccountVerdict(key, pub)?.[0]).toBe(state as never);
});

test("a subject is called by its CN, or as it is", () => {
  expect(["O=a, CN=b, OU=c", "O=a"].map(nameIn)).toEqual(["b", "O=a"]);
  expect(nameIn(certInfo(comma).subject)).toBe("Acme, Größe");
});
