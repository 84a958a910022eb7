/** kubectl logs and exec after a new CA: the API server checks kubelets by the file of --kubelet-certificate-authority. */
import { expect, test } from "bun:test";
import { cpSync } from "node:fs";
import { readText, writeFile } from "../../../shared/files/files.ts";
import { certificatesIn } from "../../../shared/pki/certificate.ts";
import { fitKubeletCa } from "../../../shared/static-pods/kubelet-ca.ts";
import { healthyCp, mirrorPod, otherCa } from "../../pretend/cluster.ts";
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
  expect(fitKubeletCa(cp)).toEqual([]);
  writeFile(CA, now);
  expect(fitKubeletCa(cp)).toEqual([COPY]);
  expect(certificatesIn(readText(COPY)!).map((pem) => pem.trim())).toEqual([now.trim(), other.trim()]);
  expect(readText(`${cp.asideDir}${COPY}`)).toBe(`${before}${other}`);
  expect(fitKubeletCa(cp)).toEqual([]);
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
    expect(fitKubeletCa(cp)).toEqual([]);
    if (content) expect(readText(COPY)).toBe(content);
  }
});
