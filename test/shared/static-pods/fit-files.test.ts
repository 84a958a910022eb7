/**
 * A new CA in files of other places that flags name: the API server checks kubelets and its clients by them.
 */
import { expect, test } from "bun:test";
import { cpSync } from "node:fs";
import { readText, writeFile } from "../../../shared/files/files.ts";
import { certificatesIn } from "../../../shared/pki/certificate.ts";
import { CERTS } from "../../../shared/pki/certs.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import { fitNamedCas } from "../../../shared/static-pods/fit-files.ts";
import { FACTS, healthyCp, mirrorPod, otherCa } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const CA = "/etc/kubernetes/pki/ca.crt";
const COPY = "/etc/kubernetes/pki/kubelets.pem";

/** A control plane node whose API server checks kubelets by this file. */
async function checkingBy(path: string) {
  const { root, ca } = await healthyCp();
  const data = await pretendData((objects) => {
    const pod = mirrorPod("kube-apiserver");
    pod.spec.containers[0]!.command!.push(`--kubelet-certificate-authority=${path}`);
    objects["pods/kube-system/kube-apiserver-m1"] = pod;
  });
  const box = sandbox();
  cpSync(`${root}/etc`, `${box.dir}/etc`, { recursive: true });
  return { box, ca: ca.cert, cp: controlPlaneOf(data) };
}

test("a copy of the cluster's CA is renewed with it, other CAs of a bundle stay, and a second run changes nothing", async () => {
  const { box, ca: before, cp } = await checkingBy(COPY);
  using _ = box;
  const [now, other] = [(await otherCa()).cert, (await otherCa()).cert];
  writeFile(COPY, `${before}${other}`, { mode: 0o644 });
  expect(fitNamedCas(cp)).toEqual([]);
  writeFile(CA, now);
  expect(fitNamedCas(cp)).toEqual([COPY]);
  expect(certificatesIn(readText(COPY)!).map((pem) => pem.trim())).toEqual([now.trim(), other.trim()]);
  expect(readText(`${cp.asideDir}${COPY}`)).toBe(`${before}${other}`);
  expect(fitNamedCas(cp)).toEqual([]);
});

test("pki/ca.crt itself, another CA's file, and one that is lost are left alone", async () => {
  for (const [path, content] of [
    [CA, undefined],
    [COPY, (await otherCa()).cert],
    [COPY, undefined],
  ] as const) {
    const { box, cp } = await checkingBy(path);
    using _ = box;
    if (content) writeFile(COPY, content);
    writeFile(CA, (await otherCa()).cert);
    expect(fitNamedCas(cp)).toEqual([]);
    if (content) expect(readText(COPY)).toBe(content);
  }
});

/** A flag of this component names a file with this CA's old certificate and the company's. */
const OTHERS = "/etc/kubernetes/company/clients.crt";

test.each([
  ["kube-apiserver", "client-ca-file", "ca"],
  ["kube-apiserver", "etcd-cafile", "etcd/ca"],
  ["kube-apiserver", "requestheader-client-ca-file", "front-proxy-ca"],
  ["kube-controller-manager", "root-ca-file", "ca"],
  ["kube-controller-manager", "cluster-signing-cert-file", "ca"],
  ["kube-scheduler", "client-ca-file", "ca"],
  ["etcd", "trusted-ca-file", "etcd/ca"],
  ["etcd", "peer-trusted-ca-file", "etcd/ca"],
])(
  "%s --%s: today's CA takes the old one's place, the company's stays, and a second run changes nothing",
  async (name, flag, file) => {
    const { root } = await healthyCp();
    const data = await pretendData((objects) => {
      const pod = mirrorPod(name);
      const { command = [], volumeMounts = [] } = pod.spec.containers[0]!;
      pod.spec.containers[0]!.command = [
        ...command.filter((word) => !word.startsWith(`--${flag}=`)),
        `--${flag}=${OTHERS}`,
      ];
      pod.spec.containers[0]!.volumeMounts = [
        ...volumeMounts,
        { name: "company", mountPath: "/etc/kubernetes/company" },
      ];
      pod.spec.volumes = [
        ...(pod.spec.volumes ?? []),
        { name: "company", hostPath: { path: "/etc/kubernetes/company" } },
      ];
      objects[`pods/kube-system/${name}-m1`] = pod;
    });
    using box = sandbox();
    cpSync(`${root}/etc`, `${box.dir}/etc`, { recursive: true });
    const cp = {
      ...controlPlaneOf(data),
      rescue: { dir: "/root/kube-pki-repair-20260101T000000", made: new Date("2026-01-01T00:00:00Z") },
    };
    const row = CERTS.find((cert) => cert.file === file)!;
    const [made, company] = [
      await issueCa(row, FACTS),
      (await issueCa({ ...row, cn: "company" }, FACTS)).cert,
    ];
    const old = readText(`/etc/kubernetes/pki/${file}.crt`)!;
    const alone = flag === "cluster-signing-cert-file";
    writeFile(OTHERS, alone ? old : `${old}${company}`, { mode: 0o644 });
    const names = name === "etcd" ? ["etcd"] : undefined;
    expect(fitNamedCas(cp, names)).toEqual([]);
    writeFile(`/etc/kubernetes/pki/${file}.crt`, made.cert);
    writeFile(`/etc/kubernetes/pki/${file}.key`, made.key);
    expect(fitNamedCas(cp, names)).toEqual([OTHERS]);
    expect(certificatesIn(readText(OTHERS)!).map((pem) => pem.trim())).toEqual(
      [made.cert, ...(alone ? [] : [company])].map((pem) => pem.trim()),
    );
    expect(fitNamedCas(cp, names)).toEqual([]);
  },
);
