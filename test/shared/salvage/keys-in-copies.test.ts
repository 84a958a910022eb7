/** Which of etcd's Secrets are looked into for lost keys: there may be gigabytes of others. */
import { expect, test } from "bun:test";
import { mayHoldKey } from "../../../shared/salvage/keys-in-copies.ts";

const KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n";
const stored = (text: string) => new Uint8Array(Buffer.from(text, "latin1"));
const asJson = (text: string) => stored(JSON.stringify({ kind: "Secret", data: { "tls.key": btoa(text) } }));

test.each(["", "a", "ab", "abc"])(
  "a private key is seen as it is stored, and in JSON, after %p",
  (before) => {
    expect(mayHoldKey(stored(`k8s\0\x0a\x0c${before}${KEY}`))).toBe(true);
    expect(mayHoldKey(asJson(before + KEY))).toBe(true);
  },
);

test("what is encrypted may hold one", () => {
  expect(mayHoldKey(stored("k8s:enc:secretbox:v1:key1:\x01\x02"))).toBe(true);
});

test("other Secrets, with certificates and public keys among them, are not decoded", () => {
  const others = [
    "H4sIAAAAAAAA/+x9",
    "-----BEGIN CERTIFICATE-----\nMIIC\n",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n",
    "",
  ];
  for (const text of others)
    for (const value of [stored(`k8s\0${text}`), asJson(text)]) expect(mayHoldKey(value)).toBe(false);
});

test("only its own part of a larger buffer is looked at", () => {
  const all = stored(`k8s\0nothing${KEY}`);
  expect([mayHoldKey(all.subarray(0, 11)), mayHoldKey(all)]).toEqual([false, true]);
});
