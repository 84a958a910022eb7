/** Keys that are made while something else is waited for: each goes to one who asks, and only for its kind. */

import { expect, test } from "bun:test";
import { createPrivateKey, createPublicKey, generateKeyPairSync } from "node:crypto";
import { keyPair, keyStock, makeKeysAhead, signingKey, signs } from "../../../shared/pki/keys.ts";

const kindOf = (pem: string) => createPrivateKey(pem).asymmetricKeyDetails;

/** What is ready now, without another turn of the event loop: a thread's answer comes with one. */
async function isReady(asked: Promise<unknown>) {
  let ready = false;
  void asked.then(() => {
    ready = true;
  });
  for (let turn = 0; turn < 50; turn++) await undefined;
  return ready;
}

test("each key goes to one who asks, also through a stock, and who asks for more gets more", async () => {
  makeKeysAhead("ECDSA-P256", 2);
  const take = keyStock("ECDSA-P256", 3);
  const pairs = await Promise.all([take(), take(), take(), keyPair("ECDSA-P256")]);
  expect(new Set(pairs.map(({ key }) => key)).size).toBe(4);
  for (const { key, pub } of pairs) expect(signs(createPrivateKey(key), createPublicKey(pub))).toBe(true);
});

test("who asks later does not wait, and who asks for another kind gets that", async () => {
  makeKeysAhead("ECDSA-P256", 1);
  // begun later, and a thousand times as much work
  const other = await keyPair("RSA-3072");
  expect(kindOf(other.key)?.modulusLength).toBe(3072);
  const asked = keyPair("ECDSA-P256");
  const never = new Promise(() => undefined);
  expect(await Promise.all([asked, never].map(isReady))).toEqual([true, false]);
  expect(kindOf((await asked).key)?.namedCurve).toBe("prime256v1");
});

test("a CA's key of a kind that Kubernetes cannot load signs nothing", async () => {
  const { privateKey } = generateKeyPairSync("ed25519");
  await expect(signingKey(privateKey)).rejects.toThrow('Cannot sign with a key of the kind "ed25519"');
});
