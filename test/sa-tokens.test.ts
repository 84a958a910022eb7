/** Service-account tokens: which of them today's keys sign, and renewing those that they do not. */
import { expect, test } from "bun:test";
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { KubeApi } from "../shared/kube-api.ts";
import { tokenVerifier } from "../shared/legacy-token.ts";
import { isCurrent, namespacesWithOldCa, renewTokens, reviewNewToken } from "../shared/sa-tokens.ts";
import { pretendApi } from "./pretend-api.ts";
import { sandbox } from "./sandbox.ts";

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const p256 = generateKeyPairSync("ec", { namedCurve: "P-256" });
const p384 = generateKeyPairSync("ec", { namedCurve: "P-384" });
const otherRsa = generateKeyPairSync("rsa", { modulusLength: 2048 });

const pem = (key: KeyObject) => String(key.export({ type: "spki", format: "pem" }));
const tokenVerifies = (text: string, saPub: string) => tokenVerifier(saPub)(text);
const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

function token(alg: string, key: KeyObject): string {
  const signed = `${part({ alg, kid: "x" })}.${part({ sub: "system:serviceaccount:a:b" })}`;
  const hash = `sha${alg.slice(2)}`;
  return `${signed}.${sign(hash, Buffer.from(signed), { key, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
}

const good = token("RS256", rsa.privateKey);

test.each([
  ["RS256", rsa],
  ["ES256", p256],
  ["ES384", p384],
])("a token signed with %s verifies with its key", (alg, { privateKey, publicKey }) => {
  expect(tokenVerifies(token(alg, privateKey), pem(publicKey))).toBe(true);
});

test("a token verifies with any of the keys in sa.pub, as while keys are changed", () => {
  const saPub = pem(p256.publicKey) + pem(otherRsa.publicKey) + pem(rsa.publicKey);
  expect(tokenVerifies(good, saPub)).toBe(true);
  expect(tokenVerifies(token("ES256", p256.privateKey), saPub)).toBe(true);
});

test("a token of another key does not verify", () => {
  expect(tokenVerifies(good, pem(otherRsa.publicKey))).toBe(false);
  expect(tokenVerifies(token("ES384", p384.privateKey), pem(p256.publicKey))).toBe(false);
});

test.each([
  ["", "nothing"],
  ["a.b.c", "garbage"],
  [`${Buffer.from("{").toString("base64url")}.x.y`, "a header that is no JSON"],
  [`${part({ alg: "none" })}.${part({})}.`, "no signature at all"],
  [`${part({ alg: "HS256" })}.${part({})}.AAAA`, "an algorithm that Kubernetes does not use"],
  [good.slice(0, -4), "a signature that is cut off"],
  [good.replace(/\.[^.]+\./, `.${part({ sub: "system:serviceaccount:kube-system:root" })}.`), "another payload"],
])("%j, %#: is no token that verifies", (text) => {
  expect(tokenVerifies(text, pem(rsa.publicKey))).toBe(false);
});

const TRUST = { saPub: pem(rsa.publicKey), caPem: "today's CA\n" };
const base64 = (text: string) => Buffer.from(text).toString("base64");
const secret = (text: string, ca = TRUST.caPem) => ({
  type: "kubernetes.io/service-account-token",
  data: { token: base64(text), "ca.crt": base64(ca) },
});

test("a Secret is current when its token verifies and its CA is today's", () => {
  const current = (object: object) => isCurrent({ metadata: { name: "s" }, ...object }, TRUST);
  expect(current(secret(good))).toBe(true);
  expect(current(secret(good, "another CA\n"))).toBe(false);
  expect(current(secret(token("RS256", otherRsa.privateKey)))).toBe(false);
  expect(current(secret(""))).toBe(false);
  expect(current({})).toBe(false);
});

test("renewTokens() writes only tokens that no longer verify, and leaves immutable ones", async () => {
  using _box = sandbox();
  const dead = token("RS256", otherRsa.privateKey);
  const of = (account: string) => ({ metadata: { annotations: { "kubernetes.io/service-account.name": account } } });
  using server = pretendApi({
    objects: {
      "/api/v1/namespaces/a/serviceaccounts/robot": { metadata: { uid: "1" } },
      "/api/v1/namespaces/b/serviceaccounts/robot": { metadata: { uid: "2" } },
      "/api/v1/namespaces/a/secrets/good": { ...secret(good), ...of("robot") },
      "/api/v1/namespaces/a/secrets/dead": { ...secret(dead), ...of("robot") },
      "/api/v1/namespaces/a/secrets/orphan": { ...secret(dead), ...of("gone") },
      "/api/v1/namespaces/b/secrets/stuck": { ...secret(dead), ...of("robot"), immutable: true },
      "/api/v1/namespaces/b/secrets/opaque": { type: "Opaque", data: { token: base64(dead) } },
    },
    on: ({ method, path, body }) => {
      if (path.endsWith("/tokenreviews")) return Response.json({ status: { authenticated: true, user: { username: "robot" } } });
      return method === "PATCH" ? Response.json({ metadata: { name: "dead", namespace: "a" }, data: body.data }) : undefined;
    },
  });
  const saKey = String(rsa.privateKey.export({ type: "pkcs1", format: "pem" }));
  const result = await renewTokens(new KubeApi({ server: server.url, ca: undefined }), { ...TRUST, saKey });
  expect(result).toEqual({ renewed: ["a/dead"], caOnly: [], stuck: ["b/stuck"], orphans: ["a/orphan"] });
  const patches = server.requests.filter(({ method }) => method === "PATCH");
  expect(patches.map(({ path }) => path)).toEqual(["/api/v1/namespaces/a/secrets/dead"]);
  expect(isCurrent({ metadata: { name: "dead" }, data: patches[0]?.body.data }, TRUST)).toBe(true);
});

test("namespacesWithOldCa() names active namespaces without today's CA", async () => {
  const map = (ca: string) => ({ data: { "ca.crt": ca } });
  using server = pretendApi({
    objects: {
      "/api/v1/namespaces/today": { status: { phase: "Active" } },
      "/api/v1/namespaces/old": { status: { phase: "Active" } },
      "/api/v1/namespaces/none": { status: { phase: "Active" } },
      "/api/v1/namespaces/going": { status: { phase: "Terminating" } },
      "/api/v1/namespaces/today/configmaps/kube-root-ca.crt": map("today's CA"),
      "/api/v1/namespaces/old/configmaps/kube-root-ca.crt": map("another"),
      "/api/v1/namespaces/none/configmaps/other": map("today's CA"),
    },
  });
  expect(await namespacesWithOldCa(new KubeApi({ server: server.url, ca: undefined }), TRUST.caPem)).toEqual(["old", "none"]);
});

test("reviewNewToken() says whose token it is, or nothing where the API does not accept it", async () => {
  let authenticated = true;
  using server = pretendApi({
    on: ({ path, body }) =>
      path.endsWith("/token")
        ? Response.json({ status: { token: "made" } })
        : Response.json({ status: authenticated && body.spec.token === "made" ? { authenticated, user: { username: "sa" } } : {} }),
  });
  const client = new KubeApi({ server: server.url, ca: undefined });
  expect(await reviewNewToken(client)).toBe("sa");
  authenticated = false;
  expect(await reviewNewToken(client)).toBe("");
});
