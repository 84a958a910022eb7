/** What is said of this cluster's release before it is repaired. */
import { expect, test } from "bun:test";
import { releaseNote } from "../../../shared/facts/releases.ts";

test.each([
  ["v1.23.17", "nothing is known of it"],
  ["v1.24.0", "1.24 and later with containerd or CRI-O seem to work"],
  ["v1.28.15", "1.24 and later with containerd or CRI-O seem to work"],
  ["v1.29.0", undefined],
])("before Kubernetes %s is repaired: %s", (version, known) => {
  expect(releaseNote(version)).toBe(
    (known &&
      `Kubernetes ${version}: releases before 1.29 are not rehearsed, but for one all-lost with 1.28.15; ${known}. Try --dry-run first`) as string,
  );
});
