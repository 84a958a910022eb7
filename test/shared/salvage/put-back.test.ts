/** What a salvage has found beside the keys: what is proved goes into its place, the rest is kept and named. */
import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { certInfo } from "../../../shared/pki/certificate.ts";
import type { ConfigFind } from "../../../shared/salvage/disk/pem-block.ts";
import { nothingFound } from "../../../shared/salvage/disk-search.ts";
import { FoundKeys } from "../../../shared/salvage/found-keys.ts";
import { type Brought, putBack } from "../../../shared/salvage/put-back.ts";
import { healthyCp, write } from "../../pretend/cluster.ts";
import { pretendData } from "../../pretend/control-plane-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { encryptionConfig, sealed } from "../../pretend/sealed.ts";

const { ca } = await healthyCp();
const RESCUE = "/root/kube-pki-repair-20260101T000000";
const PATH = "/etc/kubernetes/own/e.yaml";
const LOST = { path: PATH, namedBy: "--encryption-provider-config" };
const ETCD_KEY = "/registry/secrets/default/s";
const KEY = Buffer.alloc(32, 7);
const data = await pretendData((objects) =>
  Object.assign(objects, {
    "secrets/default/s": sealed("secretbox", Buffer.from('{"kind":"Secret"}'), KEY, ETCD_KEY),
  }),
);

const find = (text: string, offset = 0): ConfigFind => ({ kind: "config", text, offset });
const own = find(encryptionConfig("secretbox", KEY), 4096);
const other = find(encryptionConfig("secretbox", Buffer.alloc(32, 8)), 8192);
const providers = (...all: string[]) =>
  `kind: EncryptionConfiguration\nresources: [{resources: [secrets], providers: [${all.join(", ")}]}]\n`;
const keyOf = (name: string) => `{secretbox: {keys: [{name: ${name}, secret: ${KEY.toString("base64")}}]}}`;
const [first, second] = [find(providers(keyOf("key1"))), find(providers(keyOf("key2"), keyOf("key1")))];

interface More extends Partial<Brought["disk"]> {
  /** A lost file as the API server still has it mounted, and as the operator's own copy has it. */
  two?: { mounted?: string; copied: string };
}

function put(found: ConfigFind[], { two, ...more }: More = {}, configs: Brought["configs"] = [LOST]) {
  using box = sandbox();
  const lost = { path: PATH, inside: PATH, program: "kube-apiserver", kind: "file" };
  if (two) {
    if (two.mounted) write(`${box.dir}/proc/7/root${PATH}`, two.mounted);
    write(`${box.dir}/root/backup${PATH}`, two.copied);
  }
  const here = { certificatesDir: "/etc/kubernetes/pki", asideDir: `${RESCUE}/aside`, data };
  const question = putBack(
    {
      ...{ here: here as never, foundKeys: new FoundKeys([], { stash: false }), configs },
      files: (two ? [lost] : []) as Brought["files"],
      ...{ processes: { own: [{ pid: 7, name: "kube-apiserver" }], stopped: [] } as never },
      backup: two && "/root/backup",
      disk: { ...nothingFound(), path: "/dev/vda1", configs: found, ...more },
    },
    { moveToRescue: undefined },
  );
  const kept = `${box.dir}${RESCUE}/unproved`;
  return {
    placed: existsSync(box.dir + PATH) ? readFileSync(box.dir + PATH, "utf8") : undefined,
    kept: existsSync(kept) ? readdirSync(kept).sort() : [],
    question: question?.message,
    said: box.said,
  };
}

test("nothing was found", () => {
  const { placed, kept, question, said } = put([]);
  expect([placed, kept, question, said]).toEqual([undefined, [], undefined, ["nothing was found"]]);
});

test("the configuration that opens etcd's data goes into its place, and no other one is kept", () => {
  const { placed, kept, question } = put([other, own]);
  expect([placed, kept, question]).toEqual([own.text, [], undefined]);
});

test("what the API server still has mounted comes before the operator's own copy of it", () => {
  const { placed, said } = put([], { two: { mounted: own.text, copied: other.text } });
  expect(placed).toBe(own.text);
  expect(said.filter((line) => line.startsWith("wrote"))).toEqual([
    expect.stringContaining("still mounted in kube-apiserver (pid 7)"),
  ]);
  // of a copy that is not taken nobody says that it is
  expect(said.filter((line) => line.includes("used all the same"))).toEqual([]);
  expect(put([], { two: { copied: other.text } }).said.join()).toContain("It is used all the same");
});

test("one that opens nothing is kept, with its place, and not put to use", () => {
  const { placed, kept, question, said } = put([other]);
  expect([placed, question]).toEqual([undefined, undefined]);
  expect(kept).toEqual(["encryption-provider-config-1-e.yaml"]);
  expect(said).toContain("nothing is put back");
  expect(said.find((line) => line.startsWith(`${PATH}, 1 of 1 found: NOT put to use`))).toContain(
    "nothing proves it; it is from byte 8192 of /dev/vda1",
  );
});

test("several that open it are all kept, each with what it writes with, and a person is asked", () => {
  const { placed, kept, question, said } = put([first, second]);
  expect(placed).toBeUndefined();
  expect(kept).toEqual([1, 2].map((n) => `encryption-provider-config-${n}-e.yaml`));
  expect(question).toStartWith(`${PATH}: `);
  expect(said.filter((line) => line.includes(" of 2 found, writes with "))).toHaveLength(2);
});

test("a few of a stranger's configurations get a file of their own; so do CAs of which nothing is known", () => {
  const many = Array.from({ length: 7 }, (_, at) =>
    find(encryptionConfig("secretbox", Buffer.alloc(32, 20 + at))),
  );
  const info = certInfo(ca.cert);
  const cert = { kind: "certificate" as const, pem: ca.cert, info, offset: 1 };
  const key = { kind: "private key" as const, pem: ca.key, publicKeyHash: info.publicKeyHash, offset: 2 };
  const { kept, said } = put(many, { pairs: [{ name: "etcd/ca", cert, key }] });
  const half = info.publicKeyHash.slice(7, 15);
  expect(kept).toEqual(
    [
      ...[`etcd-ca-${half}.crt`, `etcd-ca-${half}.key`],
      ...[1, 2, 3, 4, 5].map((n) => `encryption-provider-config-${n}-e.yaml`),
    ].sort(),
  );
  expect(said.some((line) => line.startsWith(`${PATH}, 5 of 7 found: NOT put to use`))).toBe(true);
  expect(
    said.some(
      (line) => line.includes("install -D -m 644") && line.includes("/etc/kubernetes/pki/etcd/ca.crt"),
    ),
  ).toBe(true);
});
