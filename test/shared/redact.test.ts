/** The last guard before a text is kept or sent on. */
import { expect, test } from "bun:test";
import { newPassphrase } from "../../shared/prompt.ts";
import { redact } from "../../shared/redact.ts";

test("redact() knows keys, tokens and passphrases, and leaves hashes, names and UIDs alone", () => {
  const key = `-----BEGIN RSA ${"PRIVATE"} KEY-----\nMIIE\n-----END RSA ${"PRIVATE"} KEY-----`;
  expect(redact(`x\n${key}\ny`)).toEqual({ text: "x\n<a private key>\ny", what: "a private key" });
  expect(redact(`it is ${newPassphrase()}.`)).toEqual({ text: "it is <a passphrase>.", what: "a passphrase" });
  expect(redact(`client-key-data: ${btoa(key)}`).text).toBe("client-key-data: <a private key>");
  expect(redact(`${"a".repeat(6)}.${"b".repeat(16)}`).text).toBe("<a bootstrap token>");
  expect(redact(`AGE-SECRET-KEY-1${"Q".repeat(58)}`).text).toBe("<an age identity>");
  const uid = crypto.randomUUID();
  for (const text of ["sha256:7d1f".padEnd(75, "a"), "kube-system.svc.cluster.local", "abc123.local", uid, `pod ${uid}-abcd`])
    expect(redact(text)).toEqual({ text });
});
