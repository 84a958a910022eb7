/**
 * shared/old-sa-key/old-tokens.ts: which of a cluster's tokens are kept, and which key they show as the last
 * one.
 */
import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import type { EtcdData } from "../../../shared/etcd-data/data.ts";
import { failOf } from "../../../shared/fail.ts";
import { COLLECT, collectTokens, tokensOfLastKey } from "../../../shared/old-sa-key/old-tokens.ts";
import { serviceAccountKeyId } from "../../../shared/pki/sa-keys.ts";
import { newKeyOf, tokenBy } from "../../pretend/old-keys.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const [old, last] = [newKeyOf("ECDSA-P256"), newKeyOf("ECDSA-P256")];
const kid = (pair: typeof old) => serviceAccountKeyId(pair.pub);
const issued = (pair: typeof old, issuedAt: number, of = "kube-system:kube-proxy") =>
  tokenBy(pair, { alg: "ES256", of, issuedAt });

/** etcd's data with these tokens in Secrets: "kube-system/a" → the token. */
function dataOf(tokens: Record<string, string>): EtcdData {
  const objects = Object.entries(tokens).map(([name, token]) => {
    const secret = {
      apiVersion: "v1",
      kind: "Secret",
      type: "kubernetes.io/service-account-token",
      data: { token: btoa(token) },
    };
    return [`/registry/secrets/${name}`, Buffer.from(JSON.stringify(secret))] as const;
  });
  const all = new Map<string, Buffer>([["/registry/namespaces/kube-system", Buffer.from("{}")], ...objects]);
  return {
    keys: (prefix: string) => [...all.keys()].filter((key) => key.startsWith(prefix)),
    get: (key: string) => all.get(key) && { value: all.get(key)! },
    list: () => [].values(),
  } as unknown as EtcdData;
}

function collected(tokens: Record<string, string>) {
  using _ = sandbox();
  return collectTokens(dataOf(tokens), "/var/lib/kubelet/pods");
}

test("of a key's many tokens a few are kept, and the newest of kube-system whatever came before", () => {
  const many = Object.fromEntries(
    Array.from({ length: 9 }, (_, i) => [`kube-system/${i}`, issued(old, 1000 - i)]),
  );
  expect(collected(many).found).toHaveLength(5);
  const found = collected({
    ...many,
    "kube-system/x": issued(old, 2000),
    "kube-system/y": issued(old, 1500),
  }).found;
  expect(found.map(({ jwt }) => jwt.issuedAt)).toEqual([1000, 999, 998, 997, 996, 2000]);
});

test("a tenant's tokens are counted apart, and none of them is the newest", () => {
  const tenants = Object.fromEntries(
    Array.from({ length: 7 }, (_, i) => [`shop/${i}`, issued(old, 5000 + i, "shop:cart")]),
  );
  const { found, counts } = collected({ ...tenants, "kube-system/a": issued(old, 1000) });
  expect([
    found.filter(({ isTrusted }) => isTrusted).length,
    found.filter(({ isTrusted }) => !isTrusted).length,
    counts.secrets,
  ]).toEqual([1, 5, 8]);
});

test("the key that was in use last is that of kube-system's newest token; a tenant's newer one says nothing", () => {
  const { found } = collected({
    "kube-system/a": issued(old, 1000),
    "kube-system/b": issued(last, 2000),
    "shop/c": issued(old, 3000, "shop:cart"),
    "shop/d": issued(last, 1, "shop:cart"),
  });
  const { kid: shown, tokens } = tokensOfLastKey(found);
  expect([shown, tokens.map(({ issuedAt }) => issuedAt)]).toEqual([kid(last), [2000, 1]]);
  expect(tokensOfLastKey(found, kid(old)).tokens.map(({ issuedAt }) => issuedAt)).toEqual([1000, 3000]);
});

test("without a token of kube-system, or with two newest, a person has to say which key", async () => {
  const none = collected({ "shop/c": issued(old, 3000, "shop:cart") }).found;
  expect(await failOf(async () => void tokensOfLastKey(none))).toMatchObject({
    hint: expect.stringContaining("--kid"),
  });
  expect(tokensOfLastKey(none, kid(old)).tokens).toHaveLength(1);
  const two = collected({ "kube-system/a": issued(old, 1000), "kube-system/b": issued(last, 1000) }).found;
  expect(await failOf(async () => void tokensOfLastKey(two))).toMatchObject({
    hint: expect.stringContaining("--kid KID"),
  });
});

test("tokens that the operator has brought name the key for a person, and prove nothing", async () => {
  using box = sandbox();
  const proxys = issued(old, 3000, "kube-system:kube-proxy");
  writeFileSync(`${box.dir}/tokens`, `${[proxys, issued(last, 4000, "shop:cart")].join("\n")}\n`);
  const { found } = collectTokens(dataOf({}), "/var/lib/kubelet/pods", "/tokens");
  const refused = await failOf(async () => void tokensOfLastKey(found));
  expect(refused?.message).toContain(`nothing here proves them: ${kid(old)}`);
  expect(refused?.hint).toMatch(new RegExp(`--kid[ =]${kid(old)}$`));
  expect(tokensOfLastKey(found, kid(old)).tokens.map(({ text }) => text)).toEqual([proxys]);
});

test("a worker's root may write any kid into a token: in the line to type it is one word to the shell", async () => {
  using box = sandbox();
  const head = Buffer.from(JSON.stringify({ alg: "ES256", kid: "$(touch /x);reboot" })).toString("base64url");
  const forged = issued(old, 3000).replace(/^[^.]+/, head);
  writeFileSync(`${box.dir}/tokens`, forged);
  const { found } = collectTokens(dataOf({}), "/var/lib/kubelet/pods", "/tokens");
  const refused = await failOf(async () => void tokensOfLastKey(found));
  expect(refused?.hint).toEndWith("--kid '$(touch /x);reboot'");
});

test.each<[string, string, string | undefined]>([
  ["/var/log/pods", "no configuration there", undefined],
  ["/var/log/pods", "a usual configuration", "staticPodPath: /etc/kubernetes/manifests\n"],
  ["/var/data/logs", "another folder of logs", "podLogsDir: /var/data/logs\nport: 1\n"],
  ["/var/data/logs", "the same in quotes", 'podLogsDir: "/var/data/logs" # ours\n'],
])(
  "what is collected on a worker is of kube-system's pods alone, in %s (%s): a tenant can lay out a file of that name in his own",
  (logs, _, config) => {
    using box = sandbox();
    mkdirSync(`${box.dir}/var/lib/kubelet`, { recursive: true });
    if (config)
      writeFileSync(`${box.dir}/var/lib/kubelet/config.yaml`, config.replace("/var/", `${box.dir}/var/`));
    const pod = (name: string, uid: string, token: string) => {
      const volume = `${box.dir}/var/lib/kubelet/pods/${uid}/volumes/kubernetes.io~projected/any`;
      for (const folder of [`${box.dir}${logs}/${name}_${uid}`, volume])
        mkdirSync(folder, { recursive: true });
      writeFileSync(`${volume}/token`, token);
    };
    const proxys = issued(old, 3000, "kube-system:kube-proxy");
    pod("kube-system_kube-proxy-x", "7d1f", proxys);
    pod("shop_kube-system", "8e2a", issued(last, 4000, "kube-system:kube-proxy"));
    mkdirSync(`${box.dir}${logs}/kube-system_without-a-token_9f3b`);
    const line = COLLECT.replaceAll("/var/", `${box.dir}/var/`);
    const { stdout, stderr } = Bun.spawnSync(["sh", "-c", line]);
    expect([stdout.toString().trim().split("\n"), stderr.toString()]).toEqual([[proxys], ""]);
  },
);
