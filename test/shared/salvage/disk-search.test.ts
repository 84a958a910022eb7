/** What a search of a disk keeps: keys that are wanted, CAs of which nothing is known, encryption configurations; within limits. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { privateKeyOf, publicKeyHash } from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../../shared/pki/issue.ts";
import { nothingFound, searchDisk } from "../../../shared/salvage/disk-search.ts";
import { FoundKeys } from "../../../shared/salvage/found-keys.ts";
import type { WantedKey } from "../../../shared/salvage/wanted-keys.ts";
import { FACTS, write } from "../../pretend/cluster.ts";
import { layOut } from "../../pretend/lost-disk.ts";
import { sandbox } from "../../pretend/sandbox.ts";

setDefaultTimeout(300_000);

const [cluster, etcd, other] = [
  await issueCa(certRow("ca"), FACTS),
  await issueCa(certRow("etcd-ca"), FACTS),
  await issueCa(certRow("etcd-ca"), FACTS),
];
const leaf = await issueLeaf(certRow("etcd-server"), etcd, FACTS);
const CONFIG =
  "kind: EncryptionConfiguration\nresources: [{resources: [secrets], providers: [{identity: {}}]}]\n";

const wanted = (name: string, key?: string): WantedKey => {
  const hash = key && publicKeyHash(privateKeyOf(key));
  return {
    ...{ name, keyFile: `${name}.key`, publicFile: `${name}.crt`, shared: true, candidates: 1 },
    generations: hash ? [{ hash, kind: "P-256", from: ["a test"], tokens: [] }] : [],
  } as never;
};

const searched = async (
  files: Record<string, string>,
  keys: readonly WantedKey[],
  more: Parameters<typeof searchDisk>[3] = {},
) => {
  using box = sandbox();
  const image = `${box.dir}/disk.img`;
  write(image, layOut(files, 4096));
  const [foundKeys, found] = [new FoundKeys(keys, { stash: false }), nothingFound()];
  const trouble = await searchDisk(image, foundKeys, found, more).catch((err) => err.message as string);
  const said = box.said.map((line) => line.replaceAll(image, "DISK").replace(/[\d.]+ s,/, "SECONDS,"));
  return { found, foundKeys, said, trouble: trouble?.replaceAll(image, "DISK"), image };
};

test("a wanted key is taken, a CA of which nothing is known is kept with its key, configurations are kept; all is counted", async () => {
  const keys = [wanted("ca", cluster.key), wanted("etcd/ca")];
  const { found, foundKeys, said, image } = await searched(
    {
      ...{ "ca.key": cluster.key, "etcd.key": etcd.key, "etcd.crt": etcd.cert, "leaf.crt": leaf.cert },
      ...{ "enc.yaml": CONFIG, "etcd.yaml": "apiVersion: v1\nkind: Pod\n" },
    },
    keys,
  );
  expect(foundKeys.placeOf(keys[0]!)).toBe(`blocks of ${image}`);
  expect(found.pairs.map(({ name, cert, key }) => [name, cert.pem, key.pem])).toEqual([
    ["etcd/ca", etcd.cert, etcd.key],
  ]);
  expect(found.configs.map(({ text }) => text)).toEqual([CONFIG]);
  expect(said[0]).toBe("DISK: 0 MB to read, for 240 min at most");
  expect(said.at(-1)).toBe("DISK: read for SECONDS, 2 private keys, 2 certificates, 1 configuration");
});

test.each<[string, Record<string, string>, WantedKey[]]>([
  [
    "of a CA that the cluster knows",
    { "a.key": etcd.key, "a.crt": etcd.cert },
    [wanted("etcd/ca", etcd.key)],
  ],
  [
    "of another CA's name",
    { "a.key": etcd.key, "a.crt": etcd.cert },
    [wanted("ca"), wanted("front-proxy-ca")],
  ],
  ["with another CA's key", { "a.key": other.key, "a.crt": etcd.cert }, [wanted("etcd/ca")]],
  ["of a leaf", { "a.key": leaf.key, "a.crt": leaf.cert }, [wanted("etcd/ca")]],
  ["of a key that has no certificate", { "a.key": leaf.key }, [wanted("sa")]],
])("no pair is kept %s", async (_, files, keys) => {
  expect((await searched(files, keys)).found.pairs).toEqual([]);
});

test("nothing is found on an empty disk, and that is said", async () => {
  const { said, trouble } = await searched({}, [wanted("ca")], { minutes: 3 });
  expect([said, trouble]).toEqual([
    ["DISK: 0 MB to read, for 3 min at most", "DISK: read for SECONDS, nothing found"],
    undefined,
  ]);
});

test("what was found counts though the search has ended early", async () => {
  const stop = AbortSignal.abort();
  const { found, trouble } = await searched({ "a.key": etcd.key, "a.crt": etcd.cert }, [wanted("etcd/ca")], {
    stop,
  });
  expect([found.pairs.length, trouble]).toEqual([1, "The search of DISK ended early: it was interrupted"]);
});
