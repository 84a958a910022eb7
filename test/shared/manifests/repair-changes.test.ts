import { expect, test } from "bun:test";
import { reduced, withAllControllers } from "../../../shared/manifests/repair-changes.ts";
import type { Manifest } from "../../../shared/objects/objects.ts";

function manifest(...flags: string[]): Manifest {
  const command = ["kube-controller-manager", "--controllers=*,bootstrapsigner,tokencleaner", ...flags];
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "kube-controller-manager" },
    spec: { containers: [{ name: "c", command }] },
  } as never;
}

const limitsOf = (pod: Manifest) =>
  pod.spec.containers[0]!.command!.filter((word) => word.startsWith("--kube-api"));

test.each([
  ["absent before", [], ["--kube-api-qps=1000", "--kube-api-burst=2000"]],
  [
    "lower before",
    ["--kube-api-qps=50", "--kube-api-burst=100", "--v=2"],
    ["--kube-api-qps=1000", "--kube-api-burst=2000"],
  ],
  [
    "higher or unlimited before",
    ["--kube-api-qps=-1", "--kube-api-burst=5000"],
    ["--kube-api-qps=-1", "--kube-api-burst=5000"],
  ],
])("reduced() raises the limits on requests, full() undoes this exactly: %s", (_, flags, limits) => {
  const before = manifest(...flags);
  const during = reduced(before, "v1.34.4");
  expect(limitsOf(during)).toEqual(limits);
  expect(reduced(during, "v1.34.4")).toEqual(during);
  expect(withAllControllers(during)).toEqual(before);
});
