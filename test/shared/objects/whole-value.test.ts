/** What a value shows of itself: bytes that Go wrote are whole, each cut of them is not, and other users' keys are no fault. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Groups, lookAtValue, type ValueFinding } from "../../../shared/objects/whole-value.ts";
import { bytesField } from "../../../shared/restore/new-member.ts";

const FIXTURES = `${import.meta.dirname}/../../fixtures`;
const fixture = (name: string) => readFileSync(`${FIXTURES}/${name}.bin`);
const ETCD = fixture("mirror-pods/etcd");
const ETCD_KEY = "/registry/pods/kube-system/etcd-m1.example";

const text = (value: unknown) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
const faults = (findings: readonly ValueFinding[]) => findings.flatMap(({ fault }) => fault ?? []);
const looked = (key: string, value: Uint8Array) => faults(lookAtValue(key, value));

/** As Go's runtime.Unknown has it. */
const stored = (apiVersion: string, kind: string, raw: Uint8Array) =>
  Buffer.concat([
    ...[Buffer.from("k8s\0"), bytesField(1, Buffer.concat([bytesField(1, apiVersion), bytesField(2, kind)]))],
    ...[bytesField(2, raw), bytesField(3, ""), bytesField(4, "")],
  ]);
const named = (name: string, namespace = "") =>
  bytesField(1, Buffer.concat([bytesField(1, name), bytesField(3, namespace)]));
const widget = (name: string, more = {}) =>
  text({ apiVersion: "example.com/v1", kind: "Widget", metadata: { name, namespace: "a", ...more } });

test.each([
  ["a mirror pod that Go wrote", ETCD_KEY, ETCD],
  ["a Deployment, whose fields are not known here", "/registry/deployments/default/web", deployment()],
  [
    "a masterlease, with no name inside",
    "/registry/masterleases/10.0.0.1",
    stored("v1", "Endpoints", named("")),
  ],
  ["a range", "/registry/ranges/serviceips", stored("v1", "RangeAllocation", named(""))],
  ["an event", "/registry/events/a/web.17", stored("v1", "Event", named("web.17", "a"))],
  ["a custom resource", "/registry/example.com/widgets/a/one", widget("one")],
  ["a custom resource in CBOR", "/registry/example.com/widgets/a/one", Buffer.from("d9d9f7a16161f6", "hex")],
  ["an encrypted one", "/registry/secrets/a/s", text(`k8s:enc:aescbc:v1:key1:${"x".repeat(90)}`)],
  ["one by a KMS plugin", "/registry/secrets/a/s", text(`k8s:enc:kms:v2:vault:${"x".repeat(90)}`)],
])("whole: %s", (_, key, value) => {
  expect(looked(key, value)).toEqual([]);
});

function deployment() {
  return stored("apps/v1", "Deployment", Buffer.concat([named("web", "default"), bytesField(2, "\x08\x03")]));
}

test.each([
  ["a pod", ETCD_KEY, ETCD],
  ["a Deployment", "/registry/deployments/default/web", deployment()],
  ["JSON", "/registry/example.com/widgets/a/one", widget("one")],
])("%s that ends earlier, at any byte, is not whole", (_, key, value) => {
  const well = Array.from({ length: value.length - 4 }, (_, i) => i + 1).filter(
    (length) => looked(key, value.subarray(0, length)).length === 0,
  );
  // behind a whole field of runtime.Unknown Go's own decoder stops, too
  const ends = [value.length - 2, value.length - 4].filter((end) => value.subarray(end, end + 1)[0] !== 0);
  expect(well.filter((length) => !ends.includes(length))).toEqual([]);
});

const zeroed = (value: Buffer, at: number, length: number) => Buffer.from(value).fill(0, at, at + length);

test.each([
  ["its first sector is zeros", ETCD_KEY, zeroed(ETCD, 0, 512), "none of Kubernetes' formats"],
  ["a sector inside is", ETCD_KEY, zeroed(ETCD, 512, 512), "it does not end where its format says"],
  ["a few bytes inside are", ETCD_KEY, zeroed(ETCD, 1200, 9), "its v1 Pod is not whole"],
  [
    "the key has another letter",
    "/registry/pods/kube-system/etcd-m2.example",
    ETCD,
    "the object inside is kube-system/etcd-",
  ],
  [
    "the namespace is another",
    "/registry/pods/default/etcd-m1.example",
    ETCD,
    "the object inside is kube-system/etcd-",
  ],
  ["JSON with zeros", "/registry/e.com/w/a/one", zeroed(widget("one"), 40, 9), "it is no whole JSON"],
  ["JSON of another", "/registry/e.com/w/a/two", widget("one"), "the object inside is a/one"],
  [
    "CBOR that is cut",
    "/registry/e.com/w/a/one",
    Buffer.from("d9d9f7a16161", "hex"),
    "it does not end where its format says",
  ],
  [
    "an encrypted one with zeros",
    "/registry/secrets/a/s",
    zeroed(text(`k8s:enc:aescbc:v1:key1:${"x".repeat(900)}`), 300, 512),
    "zeros are in what is encrypted",
  ],
  [
    "an encrypted one whose head is",
    "/registry/secrets/a/s",
    text("k8s:enc:\0\0\0\0\0\0"),
    "head of its encryption",
  ],
])("not whole: %s", (_, key, value, why) => {
  expect(looked(key, value).join("; ")).toContain(why);
});

test.each([
  ["text at its own keys", "/coreos.com/network/config", "{{ no JSON }}"],
  ["bytes below /registry", "/registry/k/1", "v1"],
  ["the API server's own number", "compact_rev_key", "1234"],
  ["an aggregated API's, whose keys are not names", "/wardle/flunders/1a2b", widget("one").toString()],
])("no fault: %s", (_, key, value) => {
  const groups = new Groups();
  const found = [1, 2, 3].flatMap((n) => groups.note(lookAtValue(`${key}${n}`, text(value))));
  expect(found).not.toEqual([]);
  expect(found.filter((fault) => groups.isDamage(fault))).toEqual([]);
});

test("one of several that is not as the others is damage", () => {
  const groups = new Groups();
  const note = (key: string, value: Uint8Array) => groups.note(lookAtValue(key, value));
  for (const name of ["one", "two", "three"]) note(`/registry/example.com/widgets/a/${name}`, widget(name));
  const ghost = note("/registry/example.com/widgets/a/fouR", widget("four"));
  note(ETCD_KEY, ETCD);
  note("/registry/deployments/default/web", deployment());
  const cut = note(ETCD_KEY, ETCD.subarray(0, 900));
  expect([ghost, cut].map((found) => found.some((fault) => groups.isDamage(fault)))).toEqual([true, true]);
});
