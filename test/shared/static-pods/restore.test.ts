/** Manifests come back as they were. The controller-manager runs reduced during the repair. */

import { expect, test } from "bun:test";
import { cpSync, rmSync, utimesSync } from "node:fs";
import { stringify } from "yaml";
import { readText, removeFile, writeFile } from "../../../shared/files/files.ts";
import { flags } from "../../../shared/manifests/command.ts";
import { manifestPath, manifestText, readManifest } from "../../../shared/manifests/on-disk.ts";
import {
  REDUCED,
  reduced,
  STAND_IN_MARK,
  withAllControllers,
} from "../../../shared/manifests/repair-changes.ts";
import { issueClient } from "../../../shared/pki/issue.ts";
import { keyPair } from "../../../shared/pki/keys.ts";
import { restoreManifests, restoreOthers } from "../../../shared/static-pods/restore.ts";
import { wantedManifests } from "../../../shared/static-pods/wanted-manifests.ts";
import {
  clusterObjects,
  FACTS,
  healthyCp,
  heardUntil,
  manifest,
  mirrorPod,
  otherCa,
} from "../../pretend/cluster.ts";
import { ofCompany } from "../../pretend/company-ca.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const KCM = manifest("kube-controller-manager");
const controllers = (of: typeof KCM) => flags(of.spec.containers[0]!.command!).get("controllers");
const written = (said: string[]) =>
  said
    .filter((line) => line.startsWith("wrote"))
    .map((line) => /(\S+?)(\.yaml)? /.exec(line.slice(6))![1]!.split("/").at(-1));

test.each([
  ["v1.27.16", "-nodelifecycle,-podgc,-endpoint,-endpointslice,-endpointslicemirroring"],
  [
    "v1.28.15",
    "-node-lifecycle-controller,-pod-garbage-collector-controller,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller",
  ],
  [
    "v1.29.0",
    "-node-lifecycle-controller,-taint-eviction-controller,-pod-garbage-collector-controller,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller",
  ],
  [
    "v1.34.4",
    "-node-lifecycle-controller,-taint-eviction-controller,-pod-garbage-collector-controller,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller",
  ],
])("the controller-manager of %s is reduced by the names that it knows", (version, off) => {
  expect(controllers(reduced(KCM, version))).toBe(`*,bootstrapsigner,tokencleaner,${off}`);
});

test("full() gives back what reduced() was given, and reducing twice is reducing once", () => {
  const once = reduced(KCM, "v1.34.4");
  expect(reduced(once, "v1.34.4")).toEqual(once);
  expect(manifestText(withAllControllers(once))).toBe(manifestText(KCM));
  expect(withAllControllers(KCM)).toBe(KCM);
});

test("the operator's own --controllers comes back, and so do other annotations", () => {
  const own = structuredClone(KCM);
  own.metadata.annotations = { "example/own": "1" };
  flags(own.spec.containers[0]!.command!).set("controllers", "*,-ttl-after-finished-controller");
  const less = reduced(own, "v1.34.4");
  expect(controllers(less)).toStartWith("*,-ttl-after-finished-controller,-node-lifecycle-controller");
  expect(less.metadata.annotations?.[REDUCED]).toBe("*,-ttl-after-finished-controller");
  expect(withAllControllers(less)).toEqual(own);
});

test("the limits on requests are raised; higher limits, and no limit at all, stay as they are", () => {
  const own = structuredClone(KCM);
  const command = flags(own.spec.containers[0]!.command!);
  command.set("kube-api-qps", "50");
  command.set("kube-api-burst", "-1");
  const now = flags(reduced(own, "v1.34.4").spec.containers[0]!.command!);
  expect([now.get("kube-api-qps"), now.get("kube-api-burst")]).toEqual(["1000", "-1"]);
  expect(withAllControllers(reduced(own, "v1.34.4"))).toEqual(own);
});

test("a controller-manager without the flag is reduced from kubeadm's own list", () => {
  const bare = structuredClone(KCM);
  flags(bare.spec.containers[0]!.command!).remove("controllers");
  expect(controllers(reduced(bare, "v1.34.4"))).toStartWith(
    "*,bootstrapsigner,tokencleaner,-node-lifecycle-controller",
  );
});

/**
 * A node after step 2.2: certificates and kubeconfigs are there, manifests and the audit policy are missing.
 */
async function issued() {
  const { root } = await healthyCp();
  const box = sandbox();
  cpSync(`${root}/etc`, `${box.dir}/etc`, { recursive: true });
  for (const lost of ["manifests", "audit"]) rmSync(`${box.dir}/etc/kubernetes/${lost}`, { recursive: true });
  return box;
}

test("restoreManifests() writes kube-apiserver last, puts a stand-in for the audit policy first, and keeps all of it next time", async () => {
  using box = await issued();
  const cp = controlPlaneOf(await pretendData());
  expect(restoreManifests(cp)).toBe(true);
  expect(written(box.said)).toEqual([
    "policy",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-apiserver",
  ]);
  expect(readText("/etc/kubernetes/audit/policy.yaml")).toStartWith(STAND_IN_MARK);
  expect(readManifest(manifestPath(cp, "kube-scheduler"))).toEqual(manifest("kube-scheduler"));
  expect(restoreManifests(cp)).toBe(false);
});

test("restoreManifests() starts nothing when one pod's file is lost, and names it with its flag", async () => {
  using box = await issued();
  const data = await pretendData((objects) => {
    const pod = objects["pods/kube-system/kube-apiserver-m1"] as typeof KCM;
    pod.spec.containers[0]!.command!.push("--oidc-ca-file=/etc/kubernetes/pki/oidc.pem");
  });
  expect(() => restoreManifests(controlPlaneOf(data))).toThrow(
    'Cannot start kube-apiserver: "/etc/kubernetes/pki/oidc.pem" (--oidc-ca-file)',
  );
  expect(written(box.said)).toEqual([]);
});

test("a static pod of others whose file is lost waits in the rescue folder, and the API starts; one that is on the disk stays there", async () => {
  using box = await issued();
  const lost = JSON.stringify(mirrorPod("kube-vip")).replaceAll(
    "kubernetes/admin.conf",
    "haproxy/haproxy.cfg",
  );
  const data = await pretendData((objects) => {
    objects["pods/kube-system/kube-vip-m1"] = JSON.parse(lost);
  });
  const cp = controlPlaneOf(data);
  const [waiting, place] = [`${cp.rescue.dir}/kube-vip.yaml`, manifestPath(cp, "kube-vip")];
  const unstarted = () => box.said.filter((line) => line.startsWith("kube-vip: NOT started"));
  expect(restoreManifests(cp)).toBe(true);
  expect(unstarted()).toEqual([
    `kube-vip: NOT started, it needs "/etc/haproxy/haproxy.cfg" (env KUBECONFIG). Put that back, then: mv ${waiting} ${place}`,
  ]);
  expect([readText(place), written(box.said).at(-1)]).toEqual([undefined, "kube-apiserver"]);
  writeFile(place, readText(waiting)!);
  box.said.length = 0;
  expect([restoreManifests(cp), unstarted()]).toEqual([false, []]);
});

test("a static pod of others comes back before a kubelet starts beside a living API, which would delete its mirror pod", async () => {
  using box = await issued();
  const data = await pretendData((objects) => {
    objects["pods/kube-system/kube-vip-m1"] = mirrorPod("kube-vip");
  });
  const cp = controlPlaneOf(data);
  restoreOthers(cp, wantedManifests(cp));
  expect(written(box.said)).toEqual([]);
  restoreManifests(cp);
  box.said.length = 0;
  restoreOthers(cp, wantedManifests(cp));
  // beside a living API, too, what is in place is no work of part 1
  expect(box.said).toEqual([]);
  for (const name of ["kube-vip", "kube-scheduler"]) removeFile(manifestPath(cp, name));
  writeFile(manifestPath(cp, "kube-apiserver"), "apiVersion: v1\nkind: [");
  box.said.length = 0;
  restoreOthers(cp, wantedManifests(cp));
  expect(written(box.said)).toEqual(["kube-vip"]);
});

test("the API server checks tokens by sa-old.pub as well for as long as it is there, whatever its mirror pod says", async () => {
  using _ = await issued();
  const fromMirror = controlPlaneOf(await pretendData());
  const path = manifestPath(fromMirror, "kube-apiserver");
  const keyFiles = () =>
    readManifest(path)!.spec.containers[0]!.command!.filter((word) =>
      word.startsWith("--service-account-key-file"),
    );
  const [today, old] = ["sa.pub", "sa-old.pub"].map(
    (file) => `--service-account-key-file=/etc/kubernetes/pki/${file}`,
  );
  restoreManifests(fromMirror);
  expect(keyFiles()).toEqual([today!]);

  writeFile("/etc/kubernetes/pki/sa-old.pub", (await keyPair("ECDSA-P256")).pub);
  expect(restoreManifests(fromMirror)).toBe(true);
  expect(keyFiles()).toEqual([today!, old!]);
  expect(restoreManifests(fromMirror)).toBe(false);

  const withFlag = await pretendData((objects) => {
    const command = (objects["pods/kube-system/kube-apiserver-m1"] as typeof KCM).spec.containers[0]!
      .command!;
    command.push(old!);
  });
  removeFile("/etc/kubernetes/pki/sa-old.pub");
  expect(restoreManifests(controlPlaneOf(withFlag))).toBe(true);
  expect(keyFiles()).toEqual([today!]);
  removeFile(path);
  expect(restoreManifests(controlPlaneOf(withFlag))).toBe(true);
  expect(keyFiles()).toEqual([today!]);
});

test("sa-old.pub that is today's key changes nothing, and one that holds no key is refused", async () => {
  using _ = await issued();
  const cp = controlPlaneOf(await pretendData());
  restoreManifests(cp);
  writeFile("/etc/kubernetes/pki/sa-old.pub", readText("/etc/kubernetes/pki/sa.pub")!);
  expect(restoreManifests(cp)).toBe(false);
  writeFile("/etc/kubernetes/pki/sa-old.pub", "");
  expect(() => restoreManifests(cp)).toThrow('There is no public key in "/etc/kubernetes/pki/sa-old.pub"');
});

test("a manifest that is empty, cut off or no YAML is moved aside and written again; a hand edit is kept and reported", async () => {
  using box = await issued();
  const cp = controlPlaneOf(await pretendData());
  restoreManifests(cp);
  const path = manifestPath(cp, "kube-scheduler");
  writeFile(path, "");
  expect(restoreManifests(cp, ["kube-scheduler"])).toBe(true);
  const whole = readText(path)!;
  for (const broken of ["{ x\n\t: [", whole.slice(0, whole.indexOf("hostNetwork"))]) {
    writeFile(path, broken);
    expect(restoreManifests(cp, ["kube-scheduler"])).toBe(true);
    expect([readText(path), readText(`${cp.asideDir}${path}`)]).toEqual([whole, broken]);
    rmSync(`${box.dir}${cp.asideDir}`, { recursive: true });
  }

  const edited = manifest("kube-scheduler");
  flags(edited.spec.containers[0]!.command!).set("v", "4");
  writeFile(path, manifestText(edited));
  expect(restoreManifests(cp, ["kube-scheduler"])).toBe(false);
  expect(box.said.at(-1)).toBe(`unchanged ${path}; it differs from the manifest before the repair: +--v=4`);
});

test("under a new CA a full controller-manager from before the repair is reduced; one that part 3 left is not", async () => {
  using box = await issued();
  const cp = controlPlaneOf(await pretendData());
  writeFile("/etc/kubernetes/pki/ca.crt", (await otherCa()).cert);
  const path = manifestPath(cp, "kube-controller-manager");
  writeFile(path, stringify(KCM));
  utimesSync(box.dir + path, new Date(0), new Date(0));
  expect(restoreManifests(cp, ["kube-controller-manager"])).toBe(true);
  expect(readManifest(path)?.metadata.annotations?.[REDUCED]).toBe("*,bootstrapsigner,tokencleaner");

  writeFile(path, stringify(KCM));
  utimesSync(box.dir + path, new Date(Date.now() + 5000), new Date(Date.now() + 5000));
  expect(restoreManifests(cp, ["kube-controller-manager"])).toBe(false);
});

test.each([
  ["a minute", 60_000],
  ["three days", 3 * 86_400_000],
])(
  "the same under the old CA where this kubelet's own certificate had expired, in a repair that began %s ago: the workers' may have expired, too",
  async (_, ago) => {
    const { ca } = await healthyCp();
    using box = await issued();
    const cp = controlPlaneOf(await pretendData());
    const path = manifestPath(cp, "kube-controller-manager");
    const restored = (written: number) => {
      writeFile(path, stringify(KCM));
      utimesSync(box.dir + path, new Date(written), new Date(written));
      return restoreManifests(cp, ["kube-controller-manager"]);
    };
    const client = async (now: Date) =>
      (await issueClient({ cn: "system:node:m1", o: "system:nodes" }, ca, FACTS, { now })).cert;
    const stamp = new Date(Date.now() - ago).toISOString().slice(0, 19).replace(/[-:]/g, "");
    const aside = `/root/kube-pki-repair-${stamp}/aside/var/lib/kubelet/pki/kubelet-client-2024-01-01-00-00-00.pem`;
    writeFile("/var/lib/kubelet/pki/kubelet-client-current.pem", await client(new Date()));
    writeFile(aside, await client(new Date(Date.now() - 3_600_000)));
    expect(restored(0)).toBe(false);
    writeFile(aside, await client(new Date("2024-01-01")));
    expect(restored(0)).toBe(true);
    expect(readManifest(path)?.metadata.annotations?.[REDUCED]).toBe("*,bootstrapsigner,tokencleaner");
    expect(restored(Date.now() + 5000)).toBe(false);
    writeFile(
      "/var/lib/kubelet/pki/kubelet-client-current.pem",
      await client(new Date(Date.now() + 200 * 86_400_000)),
    );
    expect(restored(0)).toBe(false);
  },
);

test("the same where the CA's certificate of before has expired, and this kubelet has not been heard since: the workers trust it", async () => {
  const { ca } = await healthyCp();
  const now = Date.now();
  const ended = await ofCompany(ca.cert, new Date(now - 3_600_000));
  for (const [heard, isReduced] of [
    [now - 3_590_000, true],
    [now - 600_000, false],
    [undefined, false],
  ] as const) {
    using box = await issued();
    const data = await pretendData((objects) =>
      Object.assign(
        objects,
        clusterObjects(ended),
        heard === undefined ? {} : heardUntil("m1", new Date(heard)),
      ),
    );
    const cp = controlPlaneOf(data);
    const path = manifestPath(cp, "kube-controller-manager");
    const restored = (written: number) => {
      writeFile(path, stringify(KCM));
      utimesSync(box.dir + path, new Date(written), new Date(written));
      return restoreManifests(cp, ["kube-controller-manager"]);
    };
    expect(restored(0)).toBe(isReduced);
    expect(restored(now - 60_000)).toBe(false);
  }
});
