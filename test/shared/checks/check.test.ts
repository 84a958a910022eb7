/**
 * What becomes of a row: well, a warning, a failure with what still works and what mends it, an error that
 * says itself what is wrong.
 */
import { expect, test } from "bun:test";
import {
  type Check,
  type CheckRow,
  Checks,
  found,
  summaryOf,
  worstFirst,
} from "../../../shared/checks/check.ts";
import { checksAsJson, hintOf, stateWord } from "../../../shared/checks/print-checks.ts";

async function resultOf(look: CheckRow["look"]): Promise<Check[]> {
  const checks = new Checks();
  await checks.add([{ id: "token-secret", of: "shop/cart", look }]);
  return checks.all;
}

const works = "all but what uses this Secret";
const mend = "./bunw scripts/04-sa-tokens.ts renews it";
const bad = { severity: "outage", works, mend } as const;

test.each<[string, CheckRow["look"], Partial<Check>]>([
  ["well", async () => "verifies", { result: "ok", detail: "verifies" }],
  [
    "a difference",
    () => ({ differs: "to lb:6443", before: "kubectl edit" }),
    { result: "ok", detail: "to lb:6443", differs: "kubectl edit" },
  ],
  [
    "a difference that asks for nothing",
    () => ({ differs: "2 CAs" }),
    { result: "ok", detail: "2 CAs", differs: "" },
  ],
  ["a warning", () => ({ warning: "old" }), { result: "warning", detail: "old", ...bad, severity: "note" }],
  ["a failure", async () => ({ failed: "another CA" }), { result: "failed", detail: "another CA", ...bad }],
  [
    "an error",
    () => Promise.reject(new Error("No answer from m1")),
    { result: "failed", detail: "No answer from m1", ...bad },
  ],
])("a row that gives: %s", async (_, look, check) => {
  expect(await resultOf(look)).toEqual([
    { id: "token-secret", area: "tokens", what: "shop/cart", ...check } as Check,
  ]);
});

test("what cannot be asked does not work now, whatever it means where it answers", async () => {
  const checks = new Checks();
  const gone = () => Promise.reject(new Error("No answer"));
  await checks.add([
    { id: "kubelet-conf", look: gone },
    { id: "node-reached", look: gone },
  ]);
  expect(checks.all.map(({ severity }) => severity)).toEqual(["outage", "weakens"]);
});

test("rows that end in an error leave the results of those before", async () => {
  const checks = new Checks();
  const rows = async function* (): AsyncGenerator<CheckRow> {
    yield { id: "node-ready", of: "m1", look: () => "yes" };
    throw new Error("the API is gone");
  };
  await expect(checks.add(rows())).rejects.toThrow("the API is gone");
  expect(checks.all.map(({ what }) => what)).toEqual(["m1 is Ready"]);
});

test.each([
  ["certificate-apiserver", "missing", "soon"],
  ["certificate-apiserver", "expired", "outage"],
  ["certificate-apiserver", "not yet valid", "outage"],
  ["kubeconfig-admin", "expired", "weakens"],
] as const)("%s that is %s: %s", (id, state, severity) => {
  expect(found({ id }, { state, failed: "" })).toMatchObject({ result: "failed", state, severity });
});

test("the worst stands first, what failed before warnings, those of a kind together, and what is well last", () => {
  const checks = [
    found({ id: "clock" }, "right"),
    found({ id: "backup" }, { warning: "none" }),
    found({ id: "node-ready", of: "w1" }, { failed: "no" }),
    found({ id: "node-lease", of: "w1" }, { failed: "never" }),
    found({ id: "certificate-apiserver" }, { failed: "missing" }),
    found({ id: "node-ready", of: "w2" }, { failed: "no" }),
    found({ id: "pods-fresh" }, { warning: "not 3" }),
    found({ id: "api-token" }, "accepted"),
  ];
  expect(worstFirst(checks).map(({ what }) => what)).toEqual([
    ...["w1 renews its Lease", "w1 is Ready", "w2 is Ready", "apiserver.crt and .key"],
    ...["started after they could see today's CA", "backup", "clock", "a new token is signed and accepted"],
  ]);
  expect(summaryOf(checks)).toEqual({
    ...{ checks: 8, ok: 2, warnings: 2, failed: 4 },
    severities: { outage: 3, soon: 2, weakens: 1, note: 0 },
  });
});

test("a table shows in capitals what has failed; JSON has the word, and begins the detail with it", () => {
  const expired = found({ id: "certificate-ca" }, { state: "expired", failed: "in May" });
  const silent = found({ id: "node-lease", of: "w1" }, { failed: "never" });
  const known = found({ id: "backup" }, { warning: "none" });
  expect([expired, silent, known, found({ id: "clock" }, "right")].map(stateWord)).toEqual([
    "!EXPIRED!",
    "!FAILED!",
    "note",
    "ok",
  ]);
  expect(stateWord({ result: "ok", state: "kept" })).toBe("kept");
  const { checks } = checksAsJson([expired, silent, known]);
  expect(checks.map(({ state, detail }) => [state, detail])).toEqual([
    ["expired", "expired: in May"],
    [undefined, "never"],
    [undefined, "none"],
  ]);
});

test("the last line leads to a part of the repair where one mends it, else to what each check names", () => {
  const returned = found({ id: "node-returned", of: "m2" }, { state: "changed", failed: "" });
  const lost = found({ id: "certificate-apiserver" }, { failed: "missing" });
  expect(hintOf([found({ id: "backup" }, { warning: "none" })])).toBeUndefined();
  expect(hintOf([returned])).toBe("type what repairs each, then run this again");
  const sides = found({ id: "tokens-both-ways", of: "m2" }, { failed: "its sa.key is another" });
  expect(hintOf([sides])).toBe("type what repairs each, then run this again");
  expect(hintOf([returned, lost])).toBe(
    "./bunw scripts/00-assess.ts on that node says which part repairs it",
  );
});
