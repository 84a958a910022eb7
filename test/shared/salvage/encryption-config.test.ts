/**
 * A lost encryption configuration is proved by what it opens: each provider, each form in which the API
 * server stores objects.
 */

import { describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { isCborMap } from "../../../shared/objects/storage.ts";
import { chooseConfig, opensNothing } from "../../../shared/salvage/disk/encryption-config.ts";
import { pretendData } from "../../pretend/control-plane-node.ts";
import { encryptionConfig, SEALS, sealed } from "../../pretend/sealed.ts";

const KEY = randomBytes(32);
const ETCD_KEY = "/registry/secrets/default/s";

const FORMS = {
  protobuf: readFileSync(`${import.meta.dir}/../../fixtures/stored/post-0-secrets.bin`),
  JSON: Buffer.from('{"kind":"Secret"}'),
  // {"kind": "Widget", "spec": {"size": 300, "on": true, "names": ["a"]}}
  CBOR: Buffer.from(
    "d9d9f7a2646b696e64665769646765746473706563a36473697a6519012c626f6ef5656e616d6573816161",
    "hex",
  ),
};

const config = (provider: string, key = KEY) => encryptionConfig(provider, key);
const find = (text: string) => ({ kind: "config", text, offset: 0 }) as const;

/** etcd's data with these values below /registry/. */
const data = (values: Record<string, Uint8Array>) => pretendData((objects) => Object.assign(objects, values));

describe.each(Object.keys(SEALS))("%s", (provider) => {
  test.each(Object.entries(FORMS))(
    "proves the configuration that opens an object in %s, and no other one",
    async (_, plain) => {
      const stored = await data({ "secrets/default/s": sealed(provider, plain, KEY, ETCD_KEY) });
      const [own, other] = [find(config(provider)), find(config(provider, randomBytes(32)))];
      expect(chooseConfig([other, own], stored)).toEqual({
        proved: own.text,
        rivals: [],
        unproved: [],
      });
      expect(chooseConfig([other], stored)).toEqual({
        proved: undefined,
        rivals: [],
        unproved: [other],
      });
    },
  );
});

test.each(["v1", "v2"])(
  "a KMS %s plugin is named by the configuration; that proves nothing without another provider",
  async (version) => {
    const byPlugin = { "secrets/default/k": Buffer.from(`k8s:enc:kms:${version}:vault:\0abc`) };
    const own = find(config("secretbox"));
    expect(chooseConfig([own], await data(byPlugin)).proved).toBeUndefined();
    const both = { ...byPlugin, "secrets/default/s": sealed("secretbox", FORMS.JSON, KEY, ETCD_KEY) };
    expect(chooseConfig([own], await data(both)).proved).toBe(own.text);
    const elsewhere = find(own.text.replace("vault", "other"));
    expect(chooseConfig([elsewhere], await data(both)).proved).toBeUndefined();
  },
);

test("of several configurations that open what etcd holds none is chosen, nor one that writes in clear; the same twice is one", async () => {
  const stored = await data({ "secrets/default/s": sealed("secretbox", FORMS.JSON, KEY, ETCD_KEY) });
  const versionOf = (...providers: string[]) =>
    find(
      `kind: EncryptionConfiguration\nresources: [{resources: [secrets], providers: [${providers.join(", ")}]}]\n`,
    );
  const [key1, key2] = ["key1", "key2"].map(
    (name) => `{secretbox: {keys: [{name: ${name}, secret: ${KEY.toString("base64")}}]}}`,
  );
  const [own, rotated, clear] = [
    versionOf(key1!, "{identity: {}}"),
    versionOf(key2!, key1!),
    versionOf("{identity: {}}", key1!),
  ];
  expect(chooseConfig([own, rotated], stored)).toEqual({
    proved: undefined,
    rivals: [own, rotated],
    unproved: [],
  });
  expect(chooseConfig([own, clear], stored)).toEqual({
    proved: undefined,
    rivals: [own, clear],
    unproved: [],
  });
  expect(chooseConfig([clear], stored)).toEqual({ proved: undefined, rivals: [clear], unproved: [] });
  expect(chooseConfig([own, find(`# a copy\n${own.text}`)], stored)).toEqual({
    proved: own.text,
    rivals: [],
    unproved: [],
  });
  const events = find(
    `${own.text.replace("]\n", "")}, {resources: [events], providers: [{identity: {}}]}]\n`,
  );
  expect(chooseConfig([events], stored).proved).toBe(events.text);
});

test("the operator's own copy is doubted where it does not open what etcd holds, and not where nothing is encrypted", async () => {
  const stored = await data({ "secrets/default/s": sealed("secretbox", FORMS.JSON, KEY, ETCD_KEY) });
  const doubted = [config("secretbox"), config("secretbox", randomBytes(32)), "a: [", ""].map((text) =>
    opensNothing(text, stored),
  );
  expect(doubted).toEqual([false, true, true, true]);
  expect(opensNothing("", await data({}))).toBe(false);
});

test("CBOR that is cut off, has more behind it, or is nested without end is no object", () => {
  expect(isCborMap(FORMS.CBOR)).toBe(true);
  for (let length = 0; length < FORMS.CBOR.length; length++)
    expect(isCborMap(FORMS.CBOR.subarray(0, length))).toBe(false);
  expect(isCborMap(Buffer.concat([FORMS.CBOR, Buffer.from([0])]))).toBe(false);
  expect(isCborMap(Buffer.from(`d9d9f7a1${"81".repeat(100_000)}`, "hex"))).toBe(false);
  expect(isCborMap(Buffer.from("d9d9f7bbffffffffffffffff", "hex"))).toBe(false);
});
