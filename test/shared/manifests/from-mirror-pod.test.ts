import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { gunzipSync } from "node:zlib";
import { stringify } from "yaml";
import { type EtcdData, readEtcdData } from "../../../shared/etcd-data/data.ts";
import { flags, type HostFile, hostFiles } from "../../../shared/manifests/command.ts";
import { manifestFromMirrorPod } from "../../../shared/manifests/from-mirror-pod.ts";
import { findMirrorPods } from "../../../shared/manifests/mirror-pods.ts";
import type { Pod } from "../../../shared/objects/objects.ts";
import { decodeObject } from "../../../shared/objects/storage.ts";
import { registryPrefix } from "../../../shared/objects/stored.ts";

const FIXTURES = `${import.meta.dirname}/../../fixtures`;
const NODE = "m1.example";
const work = mkdtempSync(`${tmpdir()}/manifests-test-`);
afterAll(() => rmSync(work, { recursive: true }));

/**
 * A mirror pod made by the kubelet's own code from the .yaml beside it, and stored as kube-apiserver does
 * (mirror-pods/make.go.txt).
 */
function mirrorPod(name: string): Pod {
  return decodeObject(readFileSync(`${FIXTURES}/mirror-pods/${name}.bin`)) as Pod;
}

/**
 * The fixture of a killed etcd, in which kube-vip was deleted before it stopped, and kube-scheduler just
 * before it was killed.
 */
function killedEtcd(): EtcdData {
  for (const folder of ["snap", "wal"]) mkdirSync(`${work}/member/${folder}`, { recursive: true });
  for (const name of readdirSync(`${FIXTURES}/etcd/3.6.13`).filter((name) => name.endsWith(".gz"))) {
    const file = name.replace("_", "/").replace(/\.gz$/, "");
    writeFileSync(`${work}/member/${file}`, gunzipSync(readFileSync(`${FIXTURES}/etcd/3.6.13/${name}`)));
  }
  return readEtcdData(work);
}

describe("manifestFromMirrorPod()", () => {
  test.each(["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"])(
    "gives back %s.yaml, byte for byte as kubeadm 1.34 wrote it",
    (name) => {
      const manifest = manifestFromMirrorPod(mirrorPod(name), NODE);
      expect(stringify(manifest, { indentSeq: false, lineWidth: 0 })).toBe(
        readFileSync(`${FIXTURES}/mirror-pods/${name}.yaml`, "utf8"),
      );
    },
  );

  test("gives back a hand-written manifest with variables, hostAliases, tolerations and an init container", () => {
    const manifest = manifestFromMirrorPod(mirrorPod("kube-vip"), NODE);
    expect(stringify(manifest, { indentSeq: false, lineWidth: 0 })).toBe(
      readFileSync(`${FIXTURES}/mirror-pods/kube-vip.yaml`, "utf8"),
    );
  });

  test("keeps what is not exactly a default", () => {
    const pod = mirrorPod("kube-vip");
    Object.assign(pod.spec, {
      dnsPolicy: "Default",
      terminationGracePeriodSeconds: 0,
      securityContext: { runAsUser: 0 },
    });
    pod.spec.containers[0]!.terminationMessagePolicy = "FallbackToLogsOnError";
    const { spec } = manifestFromMirrorPod(pod, NODE);
    expect(spec).toMatchObject({
      dnsPolicy: "Default",
      terminationGracePeriodSeconds: 0,
      securityContext: { runAsUser: 0 },
    });
    expect(spec.containers[0]!.terminationMessagePolicy).toBe("FallbackToLogsOnError");
  });

  test("keeps the tolerations of the manifest, and leaves out the one that the kubelet adds", () => {
    const pod = mirrorPod("kube-vip");
    const own = [
      { key: "node-role.kubernetes.io/control-plane", effect: "NoSchedule" },
      { key: "example.org/gone", operator: "Exists", effect: "NoExecute" },
      { operator: "Exists", effect: "NoExecute", tolerationSeconds: 60 },
      { operator: "Exists" },
    ];
    pod.spec.tolerations = [...own, { operator: "Exists", effect: "NoExecute" }];
    expect(manifestFromMirrorPod(pod, NODE).spec.tolerations).toEqual(own);
  });

  test("keeps what a hardened API server has beside kubeadm's own: issuers, keys, a sidecar, an init container", () => {
    const pod = mirrorPod("kube-apiserver");
    const own = pod.spec.containers[0]!;
    const flags = [
      "--service-account-issuer=https://old.example",
      "--service-account-key-file=/etc/kubernetes/pki/before.pub",
    ];
    own.command!.push(...flags, "--kubelet-certificate-authority=/etc/kubernetes/pki/ca.crt");
    const sidecar = {
      name: "kms-plugin",
      image: "example.org/kms:v1",
      args: ["--listen", "unix:///var/run/kms/kms.sock", "yes"],
      volumeMounts: [{ name: "kms", mountPath: "/var/run/kms" }],
    };
    pod.spec.containers.push({
      ...sidecar,
      terminationMessagePath: "/dev/termination-log",
      terminationMessagePolicy: "File",
      resources: {},
    });
    pod.spec.initContainers = [
      { name: "wait", image: "example.org/wait:v1", restartPolicy: "Always", resources: {} },
    ];
    const { spec } = manifestFromMirrorPod(pod, NODE);
    expect(spec.containers[0]!.command).toEqual(own.command!);
    expect(spec.containers[1]).toEqual(sidecar);
    expect(spec.initContainers).toEqual([
      { name: "wait", image: "example.org/wait:v1", restartPolicy: "Always" },
    ]);
    expect(spec.containers.map(({ name }) => name)).toEqual(["kube-apiserver", "kms-plugin"]);
  });

  test("does not change the pod it was given", () => {
    const pod = mirrorPod("kube-apiserver");
    manifestFromMirrorPod(pod, NODE);
    expect(pod).toEqual(mirrorPod("kube-apiserver"));
  });

  test("refuses another node's pod, and one that is no mirror pod", () => {
    expect(() => manifestFromMirrorPod(mirrorPod("etcd"), "m2.example")).toThrow(
      'is not a mirror pod of node "m2.example"',
    );
    const pod = mirrorPod("etcd");
    delete pod.metadata.annotations!["kubernetes.io/config.mirror"];
    expect(() => manifestFromMirrorPod(pod, NODE)).toThrow("is not a mirror pod");
  });

  test("refuses a pod whose spec holds fields unknown to this kit, but not one whose status does", () => {
    const withField = (container: number[]) => {
      const bytes = readFileSync(`${FIXTURES}/mirror-pods/etcd.bin`);
      return decodeObject(appendToPod(bytes, container)) as Pod;
    };
    const field999 = [0xba, 0x3e, 1, 0x78];
    expect(() => manifestFromMirrorPod(withField([0x12, field999.length, ...field999]), NODE)).toThrow(
      'unknown to this kit: "spec.999"',
    );
    expect(() => manifestFromMirrorPod(withField([0x1a, field999.length, ...field999]), NODE)).not.toThrow(
      "unknown to this kit",
    );
  });
});

/**
 * Appends a field to the stored pod: after typeMeta of a fixed length lies field 2, raw, with a length of two
 * bytes.
 */
function appendToPod(bytes: Buffer, field: number[]): Uint8Array {
  const raw = bytes.indexOf(0x12, 4 + 2 + bytes[5]!);
  const length = (bytes[raw + 1]! & 127) + bytes[raw + 2]! * 128;
  const longer = length + field.length;
  const head = [0x12, (longer % 128) + 128, longer >> 7];
  const end = raw + 3 + length;
  return Buffer.concat([
    bytes.subarray(0, raw),
    Buffer.from(head),
    bytes.subarray(raw + 3, end),
    Buffer.from(field),
    bytes.subarray(end),
  ]);
}

describe("findMirrorPods()", () => {
  const whole = killedEtcd();
  // what etcd holds under this name is no pod
  const isPod = (key: string) => !key.endsWith("/etcd-m1.example");
  const data: EtcdData = { ...whole, keys: (prefix) => whole.keys(prefix).filter(isPod) };

  test("finds a node's static pods, and those deleted a moment ago with their last content", () => {
    const found = findMirrorPods(data, NODE);
    expect(found.map(({ namespace, name, from }) => `${namespace}/${name} ${from}`)).toEqual([
      "kube-system/kube-apiserver live",
      "kube-system/kube-controller-manager live",
      "kube-system/kube-scheduler history",
      "kube-system/kube-vip history",
    ]);
    const scheduler = found.find((mirror) => mirror.name === "kube-scheduler")!;
    expect(manifestFromMirrorPod(scheduler.pod, NODE).spec.containers[0]!.command![0]).toBe("kube-scheduler");
  });

  test("finds nothing of another node", () => {
    expect(findMirrorPods(data, "example")).toEqual([]);
  });

  test("reads with the prefix the API server was given", () => {
    expect(registryPrefix(data)).toBe("/registry");
    const moved = (key: string) => key.replace("/registry", "/east/k8s");
    const original = (key: string) => key.replace("/east/k8s", "/registry");
    const elsewhere: EtcdData = {
      ...data,
      get: (key) => (key.startsWith("/east/") ? data.get(original(key)) : undefined),
      history: (key) => data.history(original(key)),
      keys: (prefix) => data.keys(original(prefix)).map(moved),
      deletedKeys: (prefix) => data.deletedKeys(original(prefix)).map(moved),
    };
    expect(registryPrefix(elsewhere)).toBe("/east/k8s");
    expect(findMirrorPods(elsewhere, NODE)).toHaveLength(4);
  });

  test("says so when the data is not a Kubernetes cluster's", () => {
    expect(() => registryPrefix({ ...data, keys: () => [], get: () => undefined })).toThrow(
      "No Kubernetes cluster in this etcd data",
    );
  });
});

describe("hostFiles()", () => {
  const bare = (files: HostFile[]) => files.map(({ inside: _, ...file }) => file);
  const named = (name: string) => bare(hostFiles(manifestFromMirrorPod(mirrorPod(name), NODE)));

  test("names each file with the flag, volume or variable that needs it", () => {
    expect(named("kube-scheduler")).toEqual([
      { path: "/etc/kubernetes/scheduler.conf", namedBy: "volume kubeconfig", type: "FileOrCreate" },
      { path: "/etc/kubernetes/scheduler.conf", namedBy: "--authentication-kubeconfig", type: "File" },
      { path: "/etc/kubernetes/scheduler.conf", namedBy: "--authorization-kubeconfig", type: "File" },
      { path: "/etc/kubernetes/scheduler.conf", namedBy: "--kubeconfig", type: "File" },
    ]);
    expect(named("kube-apiserver")).toContainEqual({
      path: "/etc/kubernetes/audit/policy.yaml",
      namedBy: "--audit-policy-file",
      type: "File",
    });
    expect(named("kube-apiserver")).toContainEqual({
      path: "/var/log/kubernetes/audit.log",
      namedBy: "--audit-log-path",
      type: "FileOrCreate",
    });
    expect(named("kube-vip")).toContainEqual({
      path: "/etc/kubernetes/admin.conf",
      namedBy: "env KUBECONFIG",
      type: "File",
    });
    expect(named("etcd")).toContainEqual({
      path: "/var/lib/etcd",
      namedBy: "--data-dir",
      type: "DirectoryOrCreate",
    });
  });

  test("translates a path in the container to the host's, through the innermost mount", () => {
    const volumeMounts = [
      { name: "outer", mountPath: "/etc/app" },
      { name: "inner", mountPath: "/etc/app/tls/", subPath: "sub" },
    ];
    const command = [
      "app",
      "--config=/etc/app/a.yaml",
      "--sni=/etc/app/tls/a.crt,/etc/app/tls/a.key:example.org",
      "--url=https://x/y",
    ];
    const args = ["-f", "/etc/app/b.cfg", "--lib=/usr/lib/x"];
    const volumes = [
      { name: "outer", hostPath: { path: "/srv/app" } },
      { name: "inner", hostPath: { path: "/srv/tls" } },
    ];
    const files = bare(
      hostFiles({ spec: { containers: [{ name: "app", command, args, volumeMounts }], volumes } }),
    );
    expect(files.slice(2)).toEqual([
      { path: "/srv/app/a.yaml", namedBy: "--config", type: "File" },
      { path: "/srv/tls/sub/a.crt", namedBy: "--sni", type: "File" },
      { path: "/srv/tls/sub/a.key", namedBy: "--sni", type: "File" },
      { path: "/srv/app/b.cfg", namedBy: "-f", type: "File" },
    ]);
  });
});

describe("flags()", () => {
  test("takes the names that every object has for flags like others", () => {
    const flag = flags(["x", "--constructor=a", "--__proto__=b"]);
    expect(["constructor", "__proto__", "toString"].map((name) => flag.get(name))).toEqual([
      "a",
      "b",
      undefined,
    ]);
  });

  test("a value may be a word of its own, also a number below nothing; what begins with a dash is the next flag", () => {
    const command = ["etcd", "--a", "1", "--bare", "--b", "-1", "--c=x", "--a", "2", "--last"];
    const flag = flags(command);
    expect(["a", "b", "bare", "c", "last"].map((name) => flag.get(name))).toEqual([
      ...["2", "-1", "true", "x", "true"],
    ]);
    expect([flag.all("a"), flag.all("bare")]).toEqual([["1", "2"], []]);
    flag.remove("a", "1");
    flag.set("b", "3");
    flag.remove("bare");
    flag.remove("last");
    expect(command).toEqual(["etcd", "--b=3", "--c=x", "--a", "2"]);
    flag.remove("a");
    expect(command).toEqual(["etcd", "--b=3", "--c=x"]);
  });

  test("reads, sets in place, appends and removes", () => {
    const command = ["kube-controller-manager", "--a=1", "--controllers=*,-x", "--bare", "--a=2"];
    const flag = flags(command);
    expect([flag.get("a"), flag.get("controllers"), flag.get("bare"), flag.get("contr")]).toEqual([
      "2",
      "*,-x",
      "true",
      undefined,
    ]);
    flag.set("controllers", "*,-node-lifecycle-controller");
    flag.set("a", "3");
    flag.set("new", "b=c");
    flag.remove("bare");
    expect(command).toEqual([
      "kube-controller-manager",
      "--a=3",
      "--controllers=*,-node-lifecycle-controller",
      "--new=b=c",
    ]);
    expect(flag.get("new")).toBe("b=c");
  });
});
