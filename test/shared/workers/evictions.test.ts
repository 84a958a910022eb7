/**
 * When the taint of a silent node makes the controller-manager delete a pod: as pkg/controller/tainteviction
 * counts.
 */
import { expect, test } from "bun:test";
import { secondsTolerated } from "../../../shared/workers/evictions.ts";

const KEY = "node.kubernetes.io/unreachable";

test.each([
  ["none: at once", [], 0],
  [
    "one for another taint: at once",
    [
      {
        key: "node.kubernetes.io/not-ready",
        operator: "Exists",
        effect: "NoExecute",
        tolerationSeconds: 300,
      },
    ],
    0,
  ],
  ["that of admission", [{ key: KEY, operator: "Exists", effect: "NoExecute", tolerationSeconds: 300 }], 300],
  [
    "the shortest of two",
    [
      { key: KEY, operator: "Exists", tolerationSeconds: 60 },
      { operator: "Exists", tolerationSeconds: 300 },
    ],
    60,
  ],
  ["less than nothing is nothing", [{ key: KEY, operator: "Exists", tolerationSeconds: -5 }], 0],
  ["a DaemonSet's, without end", [{ key: KEY, operator: "Exists", effect: "NoExecute" }], undefined],
  ["a static pod's: everything that executes", [{ operator: "Exists", effect: "NoExecute" }], undefined],
  ["of another effect: at once", [{ key: KEY, operator: "Exists", effect: "NoSchedule" }], 0],
  ["Equal to no value, as the taint has", [{ key: KEY, effect: "NoExecute", tolerationSeconds: 10 }], 10],
  ["Equal to a value: at once", [{ key: KEY, operator: "Equal", value: "x", effect: "NoExecute" }], 0],
])("tolerations: %s", (_, tolerations, seconds) => {
  expect(secondsTolerated({ spec: { tolerations } })).toBe(seconds);
});
