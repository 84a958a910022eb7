/** What the API server shows beside kubeadm's own certificate. */
import { expect, test } from "bun:test";
import { shownBeside } from "../../../shared/facts/signed-elsewhere.ts";
import { writeFile } from "../../../shared/files/files.ts";
import { mirrorPod } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const PKI = "/etc/kubernetes/pki";

test("the certificates that the API server's flags name are read, kubeadm's own and one that is gone are not", async () => {
  const pod = mirrorPod("kube-apiserver");
  pod.spec.containers[0]!.command!.push(
    `--tls-cert-file=${PKI}/apiserver.crt`,
    ...["one", "gone", "two"].map((name) => `--tls-sni-cert-key=${PKI}/${name}.crt,${PKI}/${name}.key`),
  );
  const data = await pretendData((objects) => {
    objects["pods/kube-system/kube-apiserver-m1"] = pod;
  });
  using _box = sandbox();
  expect(shownBeside(controlPlaneOf(data))).toBeUndefined();
  for (const name of ["apiserver", "one", "two"]) writeFile(`${PKI}/${name}.crt`, name);
  expect(shownBeside(controlPlaneOf(data))).toBe("one\ntwo");
});
