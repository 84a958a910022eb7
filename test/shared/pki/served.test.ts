/** shared/pki/served.ts: who answers at a place, told by the certificate that it shows. */
import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../../shared/pki/issue.ts";
import { fetchDirectly, trusting, whoAnswers } from "../../../shared/pki/served.ts";
import { pretendApi } from "../../pretend/api.ts";
import { FACTS } from "../../pretend/cluster.ts";
import { agedText } from "../../pretend/expired.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const [ca, other] = await Promise.all([issueCa(certRow("ca"), FACTS), issueCa(certRow("ca"), FACTS)]);
const here = { ...FACTS, advertiseAddress: "127.0.0.1" };
const server = await issueLeaf(certRow("apiserver"), ca, here);
const elsewhere = await issueLeaf(certRow("apiserver"), ca, { ...FACTS, advertiseAddress: "10.0.0.9" });
const client = await issueLeaf(certRow("apiserver-kubelet-client"), ca, here);

test.each([
  ["ours", server, ca, undefined],
  ["ours", elsewhere, ca, "kubernetes.default"],
  ["not for this name", elsewhere, ca, undefined],
  ["not for this name", server, ca, "example.org"],
  ["another", client, ca, undefined],
  ["another", server, other, undefined],
] as const)("%s", async (who, tls, trusted, name) => {
  using api = pretendApi({ tls });
  expect(await whoAnswers(api.url, trusted.cert, name)).toBe(who);
});

test("a server is trusted by a renewed CA, also where the one that has expired stands beside it, in any order", async () => {
  const ended = (await agedText(ca.cert, ca.key, 3651 * 86_400_000))!;
  using api = pretendApi({ tls: server });
  for (const text of [ended + ca.cert, ca.cert + ended, ca.cert])
    expect((await fetchDirectly(`${api.url}/readyz`, { tls: trusting(text) })).status).toBe(200);
  await expect(fetchDirectly(`${api.url}/readyz`, { tls: trusting(ended) })).rejects.toThrow(
    "certificate has expired",
  );
});

test("nobody", async () => {
  const api = pretendApi({ tls: server });
  api[Symbol.dispose]();
  expect(await whoAnswers(api.url, ca.cert)).toBe("nobody");
});

test.each(["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])(
  "a request goes to the server itself, whatever %s says, and programs have the variable as before",
  async (name) => {
    const before = process.env[name];
    process.env[name] = "http://proxy.example:3128";
    let during: string | undefined = "not asked";
    const spy = spyOn(globalThis, "fetch").mockImplementation((async () => {
      during = process.env[name];
      return new Response("ok");
    }) as never);
    try {
      await fetchDirectly("https://127.0.0.1:1", {});
      expect<(string | undefined)[]>([during, process.env[name]]).toEqual([
        undefined,
        "http://proxy.example:3128",
      ]);
    } finally {
      spy.mockRestore();
      if (before === undefined) delete process.env[name];
      else process.env[name] = before;
    }
  },
);
