import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { EtcdData, KeyValue } from "../../../shared/etcd-data/data.ts";
import { Fail } from "../../../shared/fail.ts";
import { FIELDS } from "../../../shared/objects/fields.ts";
import type { ConfigMap, Secret, StoredObject } from "../../../shared/objects/objects.ts";
import { decodeObject, isObject, unknownFields } from "../../../shared/objects/storage.ts";
import { decodeStored } from "../../../shared/objects/stored.ts";

const FIXTURES = `${import.meta.dirname}/../../fixtures`;

/** Bodies that kubectl 1.32 posted, and mirror pods that Kubernetes 1.34 encoded: Go's own bytes. */
function decodeFixture(name: string): StoredObject {
  const decoded = decodeObject(readFileSync(`${FIXTURES}/${name}.bin`));
  if (!isObject(decoded)) throw new Error(`${name} was not decoded: ${JSON.stringify(decoded)}`);
  expect(unknownFields(decoded).filter((path) => !path.startsWith("status."))).toEqual([]);
  return decoded;
}

/** A field of bytes, in protobuf's wire format. */
function field(number: number, content: string | Uint8Array): Uint8Array {
  const bytes = Buffer.from(content);
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
}

function varint(value: number): Uint8Array {
  const bytes = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Uint8Array.from([...bytes, rest]);
    bytes.push((rest % 128) + 128);
  }
}

function stored(kind: string, message: Uint8Array, apiVersion = "v1"): Uint8Array {
  return Buffer.concat([
    Buffer.from("k8s\0"),
    field(1, Buffer.concat([field(1, apiVersion), field(2, kind)])),
    field(2, message),
  ]);
}

describe("decodeObject()", () => {
  test("shows a ConfigMap and a Secret as the JSON API does: text, and base64", () => {
    expect((decodeFixture("stored/post-1-configmaps") as ConfigMap).data).toEqual({ k: "v" });
    expect((decodeFixture("stored/post-0-secrets") as Secret).data).toEqual({ a: "Yg==", tok: "eHl6" });
  });

  test("reads every part of a pod that Go wrote", () => {
    const pod = decodeFixture("stored/post-3-pods");
    const [container] = pod.spec.containers;
    expect(pod.spec.volumes).toEqual([
      { name: "ca-certs", hostPath: { path: "/etc/ssl/certs", type: "DirectoryOrCreate" } },
      { name: "k8s-certs", hostPath: { path: "/etc/kubernetes/pki", type: "DirectoryOrCreate" } },
      { name: "tok", secret: { secretName: "s", defaultMode: 420 } },
      { name: "cm", configMap: { name: "kubeadm-config", defaultMode: 420 } },
      { name: "tmp", emptyDir: {} },
    ]);
    expect(container.livenessProbe).toEqual({
      httpGet: { path: "/livez", port: 6443, host: "10.0.0.1", scheme: "HTTPS" },
      initialDelaySeconds: 10,
      timeoutSeconds: 15,
      periodSeconds: 10,
      successThreshold: 1,
      failureThreshold: 8,
    });
    expect(container.readinessProbe.httpGet.port).toBe("https");
    expect(container.resources).toEqual({ requests: { cpu: "250m" } });
    expect(container.env[1]).toEqual({
      name: "POD_IP",
      valueFrom: { fieldRef: { apiVersion: "v1", fieldPath: "status.podIP" } },
    });
  });

  test("keeps a zero that was meant, and drops the zeros Go writes anyway", () => {
    const pod = decodeFixture("mirror-pods/kube-vip");
    const [container] = pod.spec.containers;
    expect(container.securityContext).toEqual({
      capabilities: { add: ["NET_ADMIN", "NET_RAW"] },
      privileged: false,
    });
    expect(pod.spec.volumes).toEqual([
      { name: "kubeconfig", hostPath: { path: "/etc/kubernetes/admin.conf", type: "" } },
      { name: "scratch", emptyDir: {} },
    ]);
    expect(Object.keys(container)).not.toContain("stdin");
  });

  test("shows times and managed fields as JSON does", () => {
    const { metadata } = decodeFixture("mirror-pods/etcd");
    expect(metadata.creationTimestamp).toBe("2026-01-02T03:04:05Z");
    expect(metadata.managedFields).toEqual([
      {
        manager: "kubelet",
        operation: "Update",
        apiVersion: "v1",
        fieldsType: "FieldsV1",
        fieldsV1: { "f:metadata": {} },
      },
    ]);
    const renewTime = Buffer.concat([varint(8), varint(1767323045), varint(16), varint(678901000)]);
    const lease = decodeObject(
      stored("Lease", field(2, field(4, renewTime)), "coordination.k8s.io/v1"),
    ) as StoredObject;
    expect(lease.spec.renewTime).toBe("2026-01-02T03:04:05.678901Z");
  });

  test("reads JSON as it is", () => {
    expect(
      decodeObject(Buffer.from('{"apiVersion":"a/v1","kind":"B","metadata":{"name":"c"}}')),
    ).toMatchObject({ kind: "B" });
  });

  test("says what is encrypted, with which provider and key, and what it cannot decode", () => {
    expect(decodeObject(Buffer.from("k8s:enc:aescbc:v1:key1:\0\x01"))).toEqual({
      encrypted: "aescbc:v1:key1",
    });
    expect(decodeObject(stored("Job", field(2, ""), "batch/v1"))).toEqual({ undecoded: "batch/v1 Job" });
    expect(decodeObject(Buffer.from("k8s:enc:kms:v2:vault:\0\x01"))).toEqual({ encrypted: "kms:v2:vault" });
    expect(decodeObject(Buffer.from("d9d9f7a1646b696e6461a0", "hex"))).toEqual({
      undecoded: "an object in CBOR",
    });
    expect(decodeObject(Buffer.from("something"))).toEqual({ undecoded: "" });
  });

  test("decodes no kind that nothing here reads, and of a Node what is read", () => {
    expect(decodeObject(readFileSync(`${FIXTURES}/stored/post-2-deployments.bin`))).toEqual({
      undecoded: "apps/v1 Deployment",
    });
    const address = Buffer.concat([field(1, "InternalIP"), field(2, "10.0.0.1")]);
    const status = Buffer.concat([field(3, "Running"), field(5, address)]);
    const node = decodeObject(stored("Node", field(3, status))) as StoredObject;
    expect(node.status).toEqual({ addresses: [{ type: "InternalIP", address: "10.0.0.1" }] });
    expect(unknownFields(node)).toEqual(["status.3"]);
  });

  test("keeps a ConfigMap's key that is called __proto__", () => {
    const entry = Buffer.concat([field(1, "__proto__"), field(2, "x")]);
    const { data } = decodeObject(stored("ConfigMap", field(2, entry))) as ConfigMap;
    expect(Object.entries(data!)).toEqual([["__proto__", "x"]]);
  });

  test("refuses bytes that are cut off anywhere, or reads less of them", () => {
    const value = readFileSync(`${FIXTURES}/mirror-pods/kube-apiserver.bin`);
    let refused = 0;
    for (let length = 4; length < value.length; length++) {
      try {
        decodeObject(value.subarray(0, length));
      } catch (err) {
        expect(err).toBeInstanceOf(Fail);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(value.length - 50);
  });
});

describe("unknownFields()", () => {
  const pod = (spec: Uint8Array) => decodeObject(stored("Pod", field(2, spec))) as StoredObject;

  test("names what a newer release stored, with its place", () => {
    expect(unknownFields(pod(field(2, Buffer.concat([field(1, "c"), field(999, "new")]))))).toEqual([
      "spec.containers.999",
    ]);
    expect(unknownFields(pod(Buffer.concat([varint(998 * 8), varint(1)])))).toEqual(["spec.998"]);
  });

  test("does not name one that holds a zero: Go writes those whether they were set or not", () => {
    expect(unknownFields(pod(Buffer.concat([field(999, ""), varint(998 * 8), varint(0)])))).toEqual([]);
  });
});

test.each([
  [{ metadata: {}, data: "a=b" }, "an object whose data has no fields"],
  [{ metadata: {}, spec: ["a"] }, "an object whose spec has no fields"],
  [{ metadata: {}, status: "Ready" }, "an object whose status has no fields"],
  [{ metadata: "m1", data: {} }, "an object without metadata"],
])("an object of which a part is no object is damaged, and nothing is read of it: %j", (object, what) => {
  const value = Buffer.from(JSON.stringify({ apiVersion: "v1", kind: "Node", ...object }));
  const of = { ...({} as KeyValue), key: "/registry/minions/m1", value };
  const read = () => decodeStored({} as EtcdData, of);
  expect(read).toThrow(`Cannot read "/registry/minions/m1": it is ${what}`);
});

test("the table of fields refers to no message it does not hold", () => {
  const lines = FIELDS.trim().split("\n");
  const messages = lines.map((line) => line.split(": ")[0]);
  const types = lines.flatMap((line) =>
    line
      .split(": ")[1]!
      .split(", ")
      .map((text) => (text.split(" ")[2] ?? "").replace(/\W+$/, "")),
  );
  expect(types.filter((type) => /^[A-Z]/.test(type) && !messages.includes(type))).toEqual([]);
  expect(new Set(messages).size).toBe(messages.length);
});
