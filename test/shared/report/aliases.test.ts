/** Aliases for host names and addresses: the same everywhere, also in the middle of other words, and nothing else changes. */
import { expect, test } from "bun:test";
import { readCluster } from "../../../shared/facts/cluster.ts";
import { aliasesOf } from "../../../shared/report/aliases.ts";
import { pretendData } from "../../pretend/control-plane-node.ts";

const cluster = readCluster(await pretendData());

/** Of one text, in which the addresses are found. */
function aliased(text: string, others: string[] = []): string {
  return aliasesOf({ cluster, others }, [text])(text);
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
    "04-sa-tokens: done",
  ])
    expect(aliased(text)).toBe(text);
});

test("other names that are known are replaced, the longer one first", () => {
  expect(aliased("rack7.example.org and rack7", ["rack7", "rack7.example.org"])).toBe("host-2 and host-1");
});

test("a word without end takes no time", () => {
  const long = "m1-".repeat(200_000);
  expect(aliased(long)).toBe(long);
});
