/**
 * The old sa.pub out of old tokens: the arithmetic, which key is looked for, and what is refused. Keys are
 * small here, to save time.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { gcd } from "../../../shared/old-sa-key/half-gcd.ts";
import { computeKey, copyOfKey, ecKeys, rsaKey } from "../../../shared/old-sa-key/old-sa-pub.ts";
import { type FoundToken, tokensOfLastKey } from "../../../shared/old-sa-key/old-tokens.ts";
import type { OldTokens } from "../../../shared/old-sa-key/tokens-of-one-key.ts";
import type { KeyPair } from "../../../shared/pki/keys.ts";
import { readJwt } from "../../../shared/pki/sa-keys.ts";
import { newKeyOf, type TokenOf, tokenBy } from "../../pretend/old-keys.ts";
import { sandbox } from "../../pretend/sandbox.ts";

/** Milliseconds. It takes a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const EXPONENT = 257;
const rsa = newKeyOf("RSA-1024", EXPONENT);
const otherRsa = newKeyOf("RSA-1024", EXPONENT);
const ec = { ES256: newKeyOf("ECDSA-P256"), ES384: newKeyOf("ECDSA-P384"), ES512: newKeyOf("ECDSA-P521") };
const CURVES = Object.entries(ec) as [string, KeyPair][];

function found(key: KeyPair, options: TokenOf, trusted = true): FoundToken {
  return { jwt: readJwt(tokenBy(key, options))!, isTrusted: trusted };
}

const proxy = (key: KeyPair, more: Partial<TokenOf> = {}) =>
  found(key, { alg: "RS256", of: "kube-system:kube-proxy", ...more });
const dns = (key: KeyPair, more: Partial<TokenOf> = {}) =>
  found(key, { alg: "RS256", of: "kube-system:coredns", ...more });
const compute = (tokens: FoundToken[], kid?: string) =>
  computeKey(tokensOfLastKey(tokens, kid), { exponent: EXPONENT });

test("gcd() is Euclid's, for numbers of all sizes and distances", () => {
  const euclid = (a: bigint, b: bigint): bigint => (b === 0n ? a : euclid(b, a % b));
  const random = numbers(1n);
  for (let i = 0; i < 200; i++) {
    const common = random(8 + i);
    const [a, b] = [random(100 + i * 40) * common, random(100 + i * (i % 3 === 0 ? 10 : 40)) * common];
    expect(gcd(a, b)).toBe(euclid(a, b));
  }
  expect([gcd(0n, 5n), gcd(5n, 0n), gcd(7n, 7n), gcd(1n, 12n)]).toEqual([5n, 5n, 7n, 1n]);
});

test("gcd() finds what two numbers of a million bits have in common, and reports how far it is", () => {
  const common = numbers(2n)(3000);
  let last = 0;
  const divisor = gcd(common * 3n ** 700_000n, common * 2n ** 1_100_000n, (bits) => {
    last = bits;
  });
  expect(divisor).toBe(common);
  expect(last).toBeGreaterThan(1_000_000);
});

test("an RSA key comes out of two tokens that it signed, and their kid proves it", () => {
  const key = compute([proxy(rsa), dns(rsa)]);
  expect(key.pem).toBe(rsa.pub);
  expect(key.proof).toBe("the tokens' kid names it, and 2 of 2 tokens verify");
});

test("without a kid the key has to have signed all of them", () => {
  expect(compute([proxy(rsa, { kid: "" }), dns(rsa, { kid: "" })])).toMatchObject({
    pem: rsa.pub,
    proof: "2 of 2 tokens verify",
  });
});

test("tokens of different keys, and a single one, are refused", () => {
  expect(() => compute([proxy(rsa, { kid: "" }), dns(otherRsa, { kid: "" })])).toThrow(
    "No single key has signed the 2 tokens without a kid",
  );
  expect(() => compute([proxy(rsa)])).toThrow("There is only one RS256 token of the key");
  expect(() => compute([proxy(rsa), proxy(rsa)])).toThrow("There is only one RS256 token of the key");
});

test("no key is looked for by signatures that are too short for SHA-256", () => {
  const short = { ...proxy(rsa).jwt, signature: Buffer.from([1, 2, 3]) };
  expect(rsaKey(short, short)).toEqual([]);
});

test("a damaged token among them does not keep the key from being found", () => {
  const damaged = proxy(otherRsa, { kid: tokensOfLastKey([proxy(rsa)]).kid });
  const [one, two] = [dns(rsa), proxy(rsa)];
  for (const tokens of [
    [damaged, one, two],
    [one, damaged, two],
    [one, two, damaged],
  ])
    expect(compute(tokens)).toMatchObject({
      pem: rsa.pub,
      proof: "the tokens' kid names it, and 2 of 3 tokens verify",
    });
  const cut = (signature: number) => ({
    ...one,
    jwt: { ...one.jwt, text: `${signature}`, signature: Buffer.alloc(signature, 1) },
  });
  expect(compute([cut(0), one, two]).pem).toBe(rsa.pub);
  expect(() => compute([cut(0), cut(1), cut(600)])).toThrow(
    "No single key has signed the 3 tokens that name the key ",
  );
});

test("memory is asked for what is computed, not for a long signature that a tenant has laid out", () => {
  using box = sandbox();
  mkdirSync(`${box.dir}/proc`);
  // RSA-1024 takes 790 kB here, RSA-4096 3.2 MB
  writeFileSync(`${box.dir}/proc/meminfo`, "MemAvailable: 1024 kB\nSwapFree: 0 kB\n");
  const planted = found(rsa, { alg: "RS256", of: "shop:cart" }, false);
  planted.jwt = { ...planted.jwt, signature: Buffer.alloc(512, 1), text: "planted" };
  expect(compute([proxy(rsa), dns(rsa), planted]).pem).toBe(rsa.pub);
  expect(() => compute([proxy(rsa), { ...planted, isTrusted: true }])).toThrow(
    "No single key has signed the 2 tokens",
  );
});

test.each(CURVES)("an %s key comes out of one token with its kid", (alg, key) => {
  expect(compute([proxy(key, { alg })]).pem).toBe(key.pub);
});

test.each(CURVES)("an %s token without a kid fits two keys, and a second one shows which", (alg, key) => {
  const one = proxy(key, { alg, kid: "" });
  expect(ecKeys(one.jwt)).toHaveLength(2);
  expect(() => compute([one])).toThrow(`Two keys fit this one ${alg} token`);
  expect(compute([one, dns(key, { alg, kid: "" })]).pem).toBe(key.pub);
});

test("a signature that is none of the curve's gives no key", () => {
  const { jwt } = proxy(ec.ES256, { alg: "ES256" });
  expect(ecKeys({ ...jwt, signature: Buffer.alloc(64) })).toEqual([]);
  expect(ecKeys({ ...jwt, signature: Buffer.alloc(64, 0xff) })).toEqual([]);
  expect(ecKeys({ ...jwt, signature: jwt.signature.subarray(1) })).toEqual([]);
});

test("the key looked for is that of kube-system's newest token, never one of a token that a tenant laid out", () => {
  const planted = found(
    ec.ES256,
    { alg: "ES256", of: "kube-system:kube-proxy", issuedAt: 2_000_000_000 },
    false,
  );
  const [older, newer] = [
    proxy(otherRsa, { issuedAt: 1_700_000_000 }),
    proxy(rsa, { issuedAt: 1_800_000_000 }),
  ];
  const ofTenant = found(rsa, { alg: "RS256", of: "shop:cart" }, false);
  const old = tokensOfLastKey([planted, older, newer, ofTenant]);
  expect(old.tokens).toEqual([newer.jwt, ofTenant.jwt]);
  expect(() => tokensOfLastKey([planted])).toThrow("There is no old token of kube-system");
  const unnamed = found(ec.ES256, { alg: "ES256", of: "shop:cart", kid: "" }, false);
  expect(tokensOfLastKey([unnamed, proxy(rsa, { kid: "" })]).tokens).toHaveLength(1);
});

test("where kube-system's tokens do not show which key was the last, a person has to say it", () => {
  const tokens = [proxy(rsa), dns(rsa), dns(otherRsa)];
  expect(() => tokensOfLastKey(tokens)).toThrow("The tokens of kube-system were signed by several keys");
  expect(compute(tokens, tokens[0]!.jwt.kid).pem).toBe(rsa.pub);
});

test("a kept copy counts only if it is the key that the tokens name", () => {
  const old: OldTokens = tokensOfLastKey([proxy(rsa)]);
  expect(copyOfKey(old, [otherRsa.pub + rsa.pub])?.pem).toBe(rsa.pub);
  expect(copyOfKey(old, [otherRsa.pub])).toBeUndefined();
});

test("what is no service-account token is none", () => {
  for (const text of ["", "a.b.c", "e30.e30.e30", tokenBy(rsa, { alg: "RS256", of: "x" }).slice(3)])
    expect(readJwt(text)).toBeUndefined();
});

/**
 * Numbers of so many bits, the same in every run: x² + 1 modulo a Mersenne prime, written one after the
 * other.
 */
function numbers(seed: bigint) {
  const prime = 2n ** 521n - 1n;
  let state = seed + 2n;
  return (bits: number): bigint => {
    let number = 1n;
    for (let length = 1; length < bits; length += 512) {
      state = (state * state + 1n) % prime;
      number = (number << 512n) | (state & (2n ** 512n - 1n));
    }
    return number >> BigInt(512 * Math.ceil((bits - 1) / 512) - (bits - 1));
  };
}
