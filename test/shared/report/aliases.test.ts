/**
 * Aliases for host names and addresses: the same everywhere, also in the middle of other words, and nothing
 * else changes.
 */
import { expect, test } from "bun:test";
import { readCluster } from "../../../shared/facts/cluster.ts";
import { aliasesOf } from "../../../shared/report/aliases.ts";
import { pretendData } from "../../pretend/control-plane-node.ts";

const cluster = readCluster(await pretendData());

/** Of one text, in which the addresses are found. */
function aliased(text: string, names: string[] = []): string {
  return aliasesOf(cluster, { names, texts: [text] })(text);
}

test("names of nodes are replaced alone and behind a dash or a colon, in any case, and not within other words", () => {
  expect(aliased("m1: kube-apiserver-m1, CN=system:node:W1, m10, xm1, m1.yaml")).toBe(
    "control-plane-1: kube-apiserver-control-plane-1, CN=system:node:worker-1, m10, xm1, control-plane-1.yaml",
  );
});

test("addresses and hosts of URLs have aliases; times, versions, hashes and this machine's own loopback stay", () => {
  expect(aliased("10.1.2.3:2379 and 10.1.2.30/24, fd00::1, [fd00::1]:6443, https://db.example.org:1/x")).toBe(
    "address-1:2379 and address-2/24, address-3, [address-3]:6443, https://host-1:1/x",
  );
  for (const text of [
    "2026-05-01T10:00:00.000Z",
    "v1.34.4, etcd 3.6.5-0, 1.2.3",
    "sha256:7d1f",
    "127.0.0.1:2379 ::1 localhost",
    "--bind-address=0.0.0.0, it listens at [::]:10250",
    "CN=kubernetes, kubernetes.default.svc.cluster.local, /etc/kubernetes",
    "04-sa-tokens: done",
  ])
    expect(aliased(text)).toBe(text);
});

test("other names that are known are replaced, the longer one first", () => {
  expect(aliased("rack7.example.org and rack7", ["rack7", "rack7.example.org"])).toBe("host-2 and host-1");
});

test("a host's name may have an underscore, and a folder of logs has one before and behind a node's", () => {
  expect(aliased("CP_7: kube-system_etcd-m1_7d1f, https://db_2:6443", ["CP_7"])).toBe(
    "host-1: kube-system_etcd-control-plane-1_7d1f, https://host-2:6443",
  );
});

test("what only one node knows is replaced in its own texts alone, and has one alias", () => {
  const texts = ["error: w1 is at https://error and https://private, 10.9.9.9"];
  const renamed = aliasesOf(
    cluster,
    { names: ["rack7"], texts: [] },
    new Map([["w1", { names: ["a"], texts }]]),
  );
  expect(renamed("error: -----BEGIN RSA PRIVATE KEY-----, rack7, 10.9.9.9")).toBe(
    "error: -----BEGIN RSA PRIVATE KEY-----, host-3, 10.9.9.9",
  );
  expect(renamed(texts[0]!, "w1")).toBe(
    "host-1: worker-1 is at https://host-1 and https://host-2, address-1",
  );
  expect(renamed(texts[0]!, "w2")).toBe("error: worker-1 is at https://error and https://private, 10.9.9.9");
});

test("IPv6 addresses at the end of a sentence, and with an IPv4 address in them", () => {
  expect(aliased("dial fd00::1: refused. It is fd00::2. Or ::ffff:10.0.0.9, or fd00:: as such")).toBe(
    "dial address-4: refused. It is address-5. Or address-2, or address-3 as such",
  );
});

/** How often something is looked up by a name, or by a part of one. */
function lookUps(action: () => unknown): number {
  const { get } = Map.prototype;
  let count = 0;
  Map.prototype.get = function (key: unknown) {
    count++;
    return get.call(this, key);
  };
  try {
    action();
  } finally {
    Map.prototype.get = get;
  }
  return count;
}

/**
 * What a node may bring to make it slow: words without an end, a name that nearly fits everywhere, thousands
 * of names.
 */
test.each([
  ["m1-", []],
  ["a-", [`${"a-".repeat(120)}b`]],
  ["a.b:c-d ", []],
  ["https://h1.example.org ", []],
  ["::", []],
  ["1:", []],
] as [string, string[]][])("twice as much text of %j takes twice as many look-ups", (piece, names) => {
  const texts = [50_000, 100_000].map((length) => `${piece.repeat(length / piece.length)}g`);
  const [once, twice] = texts.map((text) => lookUps(() => aliased(text, names))) as [number, number];
  expect(twice).toBeLessThan(once * 2.1 + 100);
  expect(twice).toBeLessThan(100_000 * 256);
});
