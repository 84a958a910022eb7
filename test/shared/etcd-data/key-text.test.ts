import { expect, test } from "bun:test";
import { fromRaw, toRaw } from "../../../shared/etcd-data/key-text.ts";
import { random } from "../../pretend/damage.ts";

const latin1 = (text: string) => Buffer.from(text, "utf8").toString("latin1");

test.each([
  ["of Kubernetes", "/registry/pods/bank/api", "/registry/pods/bank/api"],
  ["beyond ASCII", latin1("/registry/clusterroles/grün 🔑"), "/registry/clusterroles/grün 🔑"],
  ["with one wrong byte", "/registry/con\xebigmaps/default/cm-24", "/registry/con\udcebigmaps/default/cm-24"],
  ["cut off inside a character", "gr\xc3", "gr\udcc3"],
  ["that has a surrogate's three bytes", "\xed\xb3\xab", "\udced\udcb3\udcab"],
])("a key %s has a text that leads back to it", (_what, raw, text) => {
  expect(fromRaw(raw)).toBe(text);
  expect(toRaw(text)).toBe(raw);
});

test("any bytes come back", () => {
  const pick = random(1);
  for (let i = 0; i < 2000; i++) {
    const raw = String.fromCharCode(...Array.from({ length: pick(12) }, () => pick(256)));
    expect(toRaw(fromRaw(raw))).toBe(raw);
  }
});
