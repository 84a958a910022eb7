/** The last guard before a text is kept or sent on. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Glob } from "bun";
import { redact } from "../../shared/plain.ts";
import { newPassphrase } from "../../shared/prompt.ts";

const HOME = join(import.meta.dir, "../..");
const random = (bytes: number) => Buffer.from(crypto.getRandomValues(new Uint8Array(bytes)));
/** A random one may have no digit, or no letter. */
const opaque = (length: number) =>
  `Aa1${random(length).toString("base64url").replaceAll(/[-_]/g, "x")}`.slice(0, length);
const jwt = () => `${["eyJhbGciOiJSUzI1NiJ9", `eyJ${opaque(40)}`, opaque(60)].join(".")}`;
const bootstrap = () => [random(3).toString("hex"), random(8).toString("hex")].join(".");

const key = `-----BEGIN RSA ${"PRIVATE"} KEY-----\n${random(48).toString("base64")}\n${random(30).toString("base64")}\n-----END RSA ${"PRIVATE"} KEY-----`;
const old = key.replace("-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n");

/** A text with a secret in it, by what it is. `§` stands for the secret. */
const FORMS: [what: string, text: string, secret: string][] = [
  ["a private key", "x §\ny", key],
  ["a private key", "§", old],
  ["a private key", "x §", key.slice(0, -60)],
  ["a private key", "client-key-data: §", btoa(key)],
  ["a private key", 'x {"client-key-data":"§","y":1}', random(40).toString("base64")],
  ["a private key", '"client-key-data" : "§"', random(40).toString("base64")],
  ["a private key", "data: {tls.key: §}", btoa(key)],
  ["an age identity", "§", `AGE-SECRET-KEY-1${"Q".repeat(58)}`],
  ["a service account token", "Authorization: Bearer §", jwt()],
  ["a service account token", "data: {token: §}", btoa(jwt())],
  ["a certificate key", "kubeadm join --certificate-key § --v=2", random(32).toString("hex")],
  ["a certificate key", "--certificate-key=§", random(32).toString("hex")],
  ["a certificate key", 'certificateKey: "§"', random(32).toString("hex")],
  ["a bootstrap token", "§", bootstrap()],
  ["a bootstrap token", 'token-secret: "§"', random(8).toString("hex")],
  ["a bootstrap token", "token-secret: §", btoa(random(8).toString("hex"))],
  ["a passphrase", "it is §.", newPassphrase()],
  ["an encryption key", "keys: [{name: key1, secret: §}]", random(32).toString("base64")],
  ["an encryption key", '"secret":"§"', random(16).toString("base64")],
  ["a token", "users: [{user: {token: §}}]", opaque(32)],
  ["a token", '{"refresh-token": "§"}', opaque(40)],
  ["a token", "curl --token §", crypto.randomUUID()],
  ["a token", "Authorization: Bearer §", opaque(24)],
  ["a password", "Authorization: Basic §", btoa(`admin:${opaque(12)}`)],
  ["a password", "bgp_peerpass=§", "summer2026"],
  ["a password", '"password": "§"', "w1nter!"],
  ["a password", "https://admin:§@registry.example.org/v2", "s3cret"],
  ["a password", "proxy http://ci:§@10.0.0.1:3128", "letmein"],
];

test.each(FORMS)("%s is known in: %s", (what, text, secret) => {
  const whole = text.replace("§", () => secret);
  expect(redact(whole)).toEqual({ text: text.replace("§", `<${what}>`), what });
});

test.each(FORMS)("%s is known in JSON, at the begin of a line, too: %s", (_what, text, secret) => {
  const json = JSON.stringify({ text: `before\n${text.replace("§", () => secret)}` });
  const { text: clean } = redact(json);
  expect(JSON.parse(clean).text).toStartWith("before\n");
  for (const line of secret.split("\n").filter((one) => !one.startsWith("-----")))
    expect(clean).not.toContain(line || "\u0000");
});

test("what was replaced is not replaced again", () => {
  for (const [, text, secret] of FORMS) {
    const once = redact(text.replace("§", () => secret)).text;
    expect(redact(once).text).toBe(once);
  }
});

test("hashes, names, UIDs and sentences stay as they are", () => {
  const uid = crypto.randomUUID();
  for (const text of [
    "sha256:7d1f".padEnd(75, "a"),
    "kube-system.svc.cluster.local",
    "abc123.local",
    uid,
    `pod ${uid}-abcd`,
    "a new token: accepted as system:serviceaccount:kube-system:default",
    "token: kube-system/default-token-x7k2p-of-2026",
    "token: /run/kube-pki-repair/token-2026-05-01T10",
    "each token: the-account-of-kube-system-is-new",
    "secret: kube-system/bootstrap-token-abc123",
    "token: kube-system/horizontalpodautoscaler",
    "passphrase: everybody who unpacks it needs it",
    "--passphrase-file=/root/passphrase1",
    "with the password: people fetch it",
    "Basic authentication-by-file",
    "https://[fd00::1]:6443/x, mail@example.org",
    "certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUM",
  ])
    expect(redact(text)).toEqual({ text });
});

test("nothing that scripts print, and nothing in the pages, looks like a secret", () => {
  const transcripts = [...new Glob("test/transcripts/**/*.{txt,yaml}").scanSync(HOME)].sort();
  const wrong = [
    ...transcripts,
    "README.md",
    "RUNBOOK.md",
    "RUNBOOK-MORE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
  ].flatMap((path) =>
    readFileSync(`${HOME}/${path}`, "utf8")
      .split("\n")
      .filter((line) => redact(line).what)
      .map((line) => `${path}: ${line}`),
  );
  expect(wrong).toEqual([]);
});

test("a text that is made to be slow is not: a pattern with a second loop would need hours", () => {
  const most = 1 << 20;
  for (const piece of [
    "eyJ-",
    "eyJa",
    "-----BEGIN ",
    `-----BEGIN A ${"PRIVATE"} KEY-----`,
    "a1b2-",
    "://a:",
    "token:",
    '\\"',
    "secret: ",
    "\n",
    " ",
    "ZXlK",
    "LS0tLS1CRUdJTiB",
  ]) {
    const text = piece.repeat(most / piece.length);
    expect(redact(`${text}!`).text).toEndWith("!");
  }
});
