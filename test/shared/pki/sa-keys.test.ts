/** Minted tokens. That they equal the controller-manager's own is checked in the lab (checks/tokens.ts). */
import { expect, test } from "bun:test";
import { removeFile, writeFile } from "../../../shared/files/files.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import { keyPair } from "../../../shared/pki/keys.ts";
import {
  currentSaPub,
  legacyTokenSigner,
  serviceAccountKeyId,
  tokenVerifier,
} from "../../../shared/pki/sa-keys.ts";
import { testFacts } from "../../pretend/facts.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const CLAIMS = {
  namespace: "shop",
  secretName: "cart-token",
  serviceAccountName: "cart",
  serviceAccountUid: "1-2-3",
};

test.each(["RSA-2048", "ECDSA-P256", "ECDSA-P384"] as const)(
  "a %s token has the controller's claims in its order, and verifies",
  async (algorithm) => {
    const { key, pub } = await keyPair(algorithm);
    const token = await (await legacyTokenSigner(key))(CLAIMS);
    const [header, payload] = token.split(".").map((part) => Buffer.from(part, "base64url").toString());
    const alg = { "RSA-2048": "RS256", "ECDSA-P256": "ES256", "ECDSA-P384": "ES384" }[algorithm];
    expect(header).toBe(`{"alg":"${alg}","kid":"${serviceAccountKeyId(pub)}"}`);
    expect(payload).toBe(
      '{"iss":"kubernetes/serviceaccount","kubernetes.io/serviceaccount/namespace":"shop",' +
        '"kubernetes.io/serviceaccount/secret.name":"cart-token","kubernetes.io/serviceaccount/service-account.name":"cart",' +
        '"kubernetes.io/serviceaccount/service-account.uid":"1-2-3","sub":"system:serviceaccount:shop:cart"}',
    );
    expect(tokenVerifier(pub)(token)).toBe(true);
  },
);

test("a token of another key does not verify, nor does what is no token", async () => {
  const [own, other] = [await keyPair("ECDSA-P256"), await keyPair("RSA-2048")];
  const token = await (await legacyTokenSigner(own.key))(CLAIMS);
  expect(tokenVerifier(other.pub)(token)).toBe(false);
  expect(tokenVerifier(other.pub + own.pub)(token)).toBe(true);
  // as keyutil.ParsePublicKeysPEM: a key that is damaged is passed over, a certificate is taken
  expect(tokenVerifier(other.pub.replace(/MII.{40}/, "") + own.pub)(token)).toBe(true);
  const { cert } = await issueCa(certRow("ca"), testFacts(), { key: own });
  expect(tokenVerifier(cert)(token)).toBe(true);
  for (const text of ["", "a.b.c", "e30.e30.e30"]) expect(tokenVerifier(own.pub)(text)).toBe(false);
});

test("today's tokens are told by sa.pub, or by the public half of sa.key alone, and by no pair that does not match", async () => {
  using _box = sandbox();
  const [own, other] = [await keyPair("ECDSA-P256"), await keyPair("ECDSA-P256")];
  const DIR = "/etc/kubernetes/pki";
  const today = (files: Record<string, string>) => {
    for (const name of ["sa.key", "sa.pub"]) removeFile(`${DIR}/${name}`);
    for (const [name, text] of Object.entries(files)) writeFile(`${DIR}/${name}`, text);
    const pub = currentSaPub(DIR);
    return pub && serviceAccountKeyId(pub);
  };
  const kid = serviceAccountKeyId(own.pub);
  expect(today({ "sa.key": own.key, "sa.pub": own.pub })).toBe(kid);
  expect(today({ "sa.key": own.key })).toBe(kid);
  expect(today({ "sa.key": own.key, "sa.pub": other.pub })).toBeUndefined();
  expect(today({ "sa.pub": own.pub })).toBeUndefined();
  expect(today({})).toBeUndefined();
});
