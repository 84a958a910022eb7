/** Service-account tokens: which of them today's keys sign, and renewing those that they do not. */
import { expect, test } from "bun:test";
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { tokenVerifier } from "../../../shared/pki/sa-keys.ts";
import { renewTokens } from "../../../shared/workloads/renew-tokens.ts";
import { namespacesWithOldCa } from "../../../shared/workloads/root-ca.ts";
import { isCurrent, reviewNewToken, type TokenSecret } from "../../../shared/workloads/token-secrets.ts";
import { type ApiRequest, NO_TLS, pretendApi, status } from "../../pretend/api.ts";
import { healthyCp } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const p256 = generateKeyPairSync("ec", { namedCurve: "P-256" });
const p384 = generateKeyPairSync("ec", { namedCurve: "P-384" });
const otherRsa = generateKeyPairSync("rsa", { modulusLength: 2048 });

const pem = (key: KeyObject) => String(key.export({ type: "spki", format: "pem" }));
const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

function token(alg: string, key: KeyObject): string {
  const signed = `${part({ alg, kid: "x" })}.${part({ sub: "system:serviceaccount:a:b" })}`;
  const hash = `sha${alg.slice(2)}`;
  return `${signed}.${sign(hash, Buffer.from(signed), { key, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
}

const tokenVerifies = (text: string, saPub: string) => tokenVerifier(saPub)(text);
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
  ["nothing", ""],
  ["garbage", "a.b.c"],
  ["a header that is no JSON", `${Buffer.from("{").toString("base64url")}.x.y`],
  ["a header that is null", `${Buffer.from("null").toString("base64url")}.x.y`],
  ["no signature at all", `${part({ alg: "none" })}.${part({})}.`],
  ["an algorithm that Kubernetes does not use", `${part({ alg: "HS256" })}.${part({})}.AAAA`],
  ["a signature that is cut off", good.slice(0, -4)],
  [
    "another payload",
    good.replace(/\.[^.]+\./, `.${part({ sub: "system:serviceaccount:kube-system:root" })}.`),
  ],
])("%s is no token that verifies", (_, text) => {
  expect(tokenVerifies(text, pem(rsa.publicKey))).toBe(false);
});

const TRUST = { saPub: pem(rsa.publicKey), caPem: (await healthyCp()).ca.cert };
const base64 = (text: string) => Buffer.from(text).toString("base64");
const secret = (text: string, ca = TRUST.caPem) => ({
  type: "kubernetes.io/service-account-token",
  data: { token: base64(text), "ca.crt": base64(ca) },
});

test("a Secret is current when its token verifies and its CA is today's, or when no controller has filled it yet", () => {
  const current = (object: object) => isCurrent({ metadata: { name: "s" }, ...object }, TRUST);
  expect(current(secret(good))).toBe(true);
  expect(current(secret(good, "another CA\n"))).toBe(false);
  expect(current(secret(token("RS256", otherRsa.privateKey)))).toBe(false);
  expect(current(secret(""))).toBe(true);
  expect(current({})).toBe(true);
});

const dead = token("RS256", otherRsa.privateKey);
const saKey = String(rsa.privateKey.export({ type: "pkcs1", format: "pem" }));
const of = (account: string, object: object) => ({
  ...object,
  metadata: {
    annotations: {
      "kubernetes.io/service-account.name": account,
      "kubernetes.io/service-account.uid": `uid-of-${account}`,
    },
  },
});
const accepts = ({ path }: ApiRequest) =>
  path.endsWith("/tokenreviews")
    ? Response.json({ status: { authenticated: true, user: { username: "sa" } } })
    : undefined;
const renew = (server: { url: string }) =>
  renewTokens(new KubeApi({ server: server.url, ca: NO_TLS }), { ...TRUST, saKey });

test("renewTokens() writes what is not current, and only that; what it cannot mend it names", async () => {
  using _box = sandbox();
  using server = pretendApi({
    objects: {
      "/api/v1/namespaces/a/serviceaccounts/app": {},
      "/api/v1/namespaces/a/secrets/good": of("app", secret(good)),
      "/api/v1/namespaces/a/secrets/dead": of("app", secret(dead)),
      "/api/v1/namespaces/a/secrets/note": of("app", secret("somebody's note")),
      "/api/v1/namespaces/a/secrets/old-ca": of("app", secret(good, "another CA\n")),
      "/api/v1/namespaces/a/secrets/orphan": of("gone", secret(dead)),
      "/api/v1/namespaces/a/secrets/stuck": of("app", { ...secret(dead), immutable: true }),
      "/api/v1/namespaces/a/secrets/opaque": { type: "Opaque", data: { token: base64(dead) } },
    },
    on: accepts,
  });
  expect(await renew(server)).toEqual({
    renewed: ["a/dead", "a/note"],
    caOnly: ["a/old-ca"],
    stuck: ["a/stuck"],
    orphans: ["a/orphan"],
    refused: new Map(),
  });
  const written = server.changes().filter((change) => !change.endsWith("/tokenreviews"));
  expect(written.sort()).toEqual(
    ["dead", "note", "old-ca"].map((name) => `PUT /api/v1/namespaces/a/secrets/${name}`),
  );
  for (const name of ["dead", "note", "old-ca"])
    expect(isCurrent(server.objects.get(`/api/v1/namespaces/a/secrets/${name}`), TRUST)).toBe(true);
});

test("where the moment of the list is forgotten, it is read anew, and what is done is not done again", async () => {
  using _box = sandbox();
  const names = Array.from({ length: 120 }, (_, i) => `s${i}`);
  let forgotten = false;
  using server = pretendApi({
    pageSize: 50,
    objects: {
      "/api/v1/namespaces/a/serviceaccounts/app": {},
      ...Object.fromEntries(
        names.map((name) => [`/api/v1/namespaces/a/secrets/${name}`, of("app", secret(dead))]),
      ),
    },
    on: (request) => {
      if (forgotten || !request.path.includes("continue=100")) return accepts(request);
      forgotten = true;
      return status(410, "The provided continue parameter is too old");
    },
  });
  expect((await renew(server)).renewed).toEqual(names.map((name) => `a/${name}`).sort());
  expect(forgotten).toBe(true);
  expect(server.changes().filter((change) => change.startsWith("PUT")).length).toBe(names.length);
});

const PATH = "/api/v1/namespaces/a/secrets/dead";
const stale = { "/api/v1/namespaces/a/serviceaccounts/app": {}, [PATH]: of("app", secret(dead)) };

/** Between our reading and our first writing somebody does `change`. */
function meanwhile(change: (objects: Map<string, TokenSecret>) => unknown) {
  let first = true;
  return pretendApi({
    objects: stale,
    on: (request, { objects }) => {
      if (request.method !== "PUT" || !first) return accepts(request);
      first = false;
      change(objects);
      return status(409, "the object has been modified");
    },
  });
}

test("all else of a Secret stays as it was read, and the write says which one that was", async () => {
  using _box = sandbox();
  const more = {
    data: { ...secret(dead).data, extra: "bm90ZQ==" },
    metadata: { labels: { team: "x" }, managedFields: [{ manager: "m" }] },
  };
  using server = pretendApi({
    objects: { ...stale, [PATH]: { ...of("app", secret(dead)), ...more } },
    on: accepts,
  });
  server.objects.get(PATH).metadata.annotations = { "kubernetes.io/service-account.name": "app" };
  expect((await renew(server)).renewed).toEqual(["a/dead"]);
  const { data, metadata } = server.objects.get(PATH);
  expect(data).toMatchObject({ extra: "bm90ZQ==", namespace: base64("a"), "ca.crt": base64(TRUST.caPem) });
  expect(metadata).toEqual({
    name: "dead",
    namespace: "a",
    uid: "uid-of-dead",
    resourceVersion: "1",
    labels: { team: "x" },
    annotations: {
      "kubernetes.io/service-account.name": "app",
      "kubernetes.io/service-account.uid": "uid-of-app",
    },
  });
});

test("what somebody else writes meanwhile is kept", async () => {
  using _box = sandbox();
  using server = meanwhile((objects) =>
    Object.assign(objects.get(PATH)!.metadata, { labels: { new: "label" }, resourceVersion: "2" }),
  );
  expect((await renew(server)).renewed).toEqual(["a/dead"]);
  expect(server.objects.get(PATH)).toMatchObject({
    metadata: { labels: { new: "label" }, resourceVersion: "2" },
  });
  expect(isCurrent(server.objects.get(PATH), TRUST)).toBe(true);
});

test.each([
  ["gone", (objects: Map<string, TokenSecret>) => objects.delete(PATH)],
  [
    "another of the same name",
    (objects: Map<string, TokenSecret>) => Object.assign(objects.get(PATH)!.metadata, { uid: "other" }),
  ],
])("a Secret that is %s meanwhile is left alone", async (_, change) => {
  using _box = sandbox();
  using server = meanwhile(change);
  expect(await renew(server)).toEqual({
    renewed: [],
    caOnly: [],
    stuck: [],
    orphans: [],
    refused: new Map(),
  });
  expect(server.changes()).toEqual([`PUT ${PATH}`]);
});

test.each([
  ["too large for a new token", 422, "data: Too long: may not be more than 1048576 bytes"],
  ["forbidden to be changed by a policy", 403, "admission denied it"],
  ["written to by somebody else all the time", 409, "modified"],
])("Secrets that are %s are named, however many, and end no other's renewal", async (_, code, message) => {
  using _box = sandbox();
  const names = Array.from({ length: 60 }, (_, i) => `s${i}`);
  const his = names.map(
    (name) => [`/api/v1/namespaces/0-team/secrets/${name}`, of("his", secret(dead))] as const,
  );
  using server = pretendApi({
    objects: { "/api/v1/namespaces/0-team/serviceaccounts/his": {}, ...Object.fromEntries(his), ...stale },
    on: (asked) =>
      asked.method === "PUT" && asked.path.includes("0-team") ? status(code, message) : accepts(asked),
  });
  const { renewed, refused } = await renew(server);
  expect(renewed).toEqual(["a/dead"]);
  expect([...refused.keys()].sort()).toEqual(names.map((name) => `0-team/${name}`).sort());
  const why = refused.get("0-team/s0")!;
  expect(why.message).toBe(`the API refuses to renew it: ${message}`);
  expect(why.hint).toContain(
    "kubectl -n 0-team describe secret s0. If nobody needs it: kubectl -n 0-team delete secret s0;",
  );
});

/** More than are written at the same time. */
const MANY = Array.from({ length: 90 }, (_, i) => i);

test.each([
  ["nothing was renewed before: the others are not tried", [], false],
  ["others were renewed: each is tried", MANY, true],
])("a webhook of one namespace does not answer, and %s", async (_, before, tried) => {
  using _box = sandbox();
  const of90 = (namespace: string, all: readonly number[]) => ({
    [`/api/v1/namespaces/${namespace}/serviceaccounts/app`]: {},
    ...Object.fromEntries(
      all.map((i) => [`/api/v1/namespaces/${namespace}/secrets/s${i}`, of("app", secret(dead))]),
    ),
  });
  using server = pretendApi({
    objects: { ...of90("a", before), ...of90("deaf", MANY), ...of90("z", [0]) },
    on: (asked) =>
      asked.method === "PUT" && asked.path.includes("/deaf/")
        ? status(500, 'Internal error occurred: failed calling webhook "guard.example": refused')
        : accepts(asked),
  });
  const { renewed, refused } = await renew(server);
  expect(renewed).toHaveLength(before.length + (tried ? 1 : 0));
  expect([renewed.includes("z/s0"), refused.has("z/s0")]).toEqual([tried, !tried]);
  expect(MANY.every((i) => refused.has(`deaf/s${i}`))).toBe(true);
});

test("a Secret that does not hold what was written ends it, and so does an API that takes nothing from us", async () => {
  using _box = sandbox();
  using strange = pretendApi({
    objects: stale,
    on: ({ method }) => (method === "PUT" ? status(401, "Unauthorized") : undefined),
  });
  await expect(renew(strange)).rejects.toThrow("Unauthorized");
  using changing = pretendApi({
    objects: stale,
    on: ({ method, body }) => (method === "PUT" ? Response.json({ ...body, ...secret(dead) }) : undefined),
  });
  await expect(renew(changing)).rejects.toThrow("a/dead does not have the token that was written to it");
});

test("namespacesWithOldCa() names active namespaces without the current CA", async () => {
  const map = (ca: string) => ({ data: { "ca.crt": ca } });
  using server = pretendApi({
    objects: {
      "/api/v1/namespaces/today": { status: { phase: "Active" } },
      "/api/v1/namespaces/old": { status: { phase: "Active" } },
      "/api/v1/namespaces/none": { status: { phase: "Active" } },
      "/api/v1/namespaces/going": { status: { phase: "Terminating" } },
      "/api/v1/namespaces/today/configmaps/kube-root-ca.crt": map(TRUST.caPem),
      "/api/v1/namespaces/old/configmaps/kube-root-ca.crt": map("another"),
      "/api/v1/namespaces/none/configmaps/other": map(TRUST.caPem),
    },
  });
  expect(await namespacesWithOldCa(new KubeApi({ server: server.url, ca: NO_TLS }), TRUST.caPem)).toEqual([
    "old",
    "none",
  ]);
});

test("reviewNewToken() says whose token it is, or nothing where the API does not accept it", async () => {
  let authenticated = true;
  using server = pretendApi({
    on: ({ path, body }) =>
      path.endsWith("/token")
        ? Response.json({ status: { token: "made" } })
        : Response.json({
            status:
              authenticated && body.spec.token === "made" ? { authenticated, user: { username: "sa" } } : {},
          }),
  });
  const client = new KubeApi({ server: server.url, ca: NO_TLS });
  expect(await reviewNewToken(client)).toBe("sa");
  authenticated = false;
  expect(await reviewNewToken(client)).toBe("");
});
