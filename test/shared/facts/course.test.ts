/** The course of a repair through RUNBOOK.md, for each beginning. */
import { expect, test } from "bun:test";
import { type Beginning, courseFrom } from "../../../shared/facts/course.ts";

/** [damage, the words of its fences, its parts]; alone, if not said otherwise. */
const ROWS: [Partial<Beginning>, tags: string, parts: string][] = [
  [{}, "old-cas", "0 1 2 3 5"],
  [{ others: ["m2"] }, "old-cas several-control-planes", "0 1 2 3 5"],
  [{ expired: "all" }, "old-cas join", "1 2 3 5"],
  [{ expired: "some" }, "old-cas join", "0 1 2 3 5"],
  [{ expired: "all", others: ["m2"] }, "old-cas join same-keys", "1 2 3 5"],
  [{ expired: "some", others: ["m2"] }, "old-cas join several-control-planes", "0 1 2 3 5"],
  [{ expired: "all", lost: ["sa"] }, "new-cas join", "0 1 2 3 4 5"],
  [{ expired: "all", found: true }, "salvage old-cas join", "0 1 2 3 5"],
  [{ lost: ["etcd-ca"] }, "new-internal-cas", "0 1 2 3 5"],
  [{ lost: ["etcd-ca", "front-proxy-ca"], others: ["m2"] }, "new-internal-cas several-control-planes", "0 1 2 3 5"],
  [{ lost: ["ca"] }, "new-cas join", "0 1 2 3 4 5"],
  [{ lost: ["sa"] }, "new-cas", "0 1 2 3 4 5"],
  [{ lost: ["sa", "etcd-ca"], others: ["m2"] }, "look-around new-cas several-control-planes", "0 1 2 3 4 5"],
  [{ lost: ["ca", "sa"], oldKey: "in tokens" }, "new-cas join old-tokens", "0 1 2 3 4 5"],
  [{ lost: ["sa"], oldKey: "here" }, "new-cas old-tokens", "0 1 2 3 4 5"],
  [{ lost: ["ca"], oldKey: "in tokens" }, "new-cas join", "0 1 2 3 4 5"],
  [{ lost: ["etcd-ca"], oldKey: "in tokens" }, "new-internal-cas", "0 1 2 3 5"],
  [{ lost: ["etcd-ca"], found: true }, "salvage new-internal-cas", "0 1 2 3 5"],
  [{ found: true, others: ["m2"] }, "salvage old-cas several-control-planes", "0 1 2 3 5"],
];

test.each(ROWS)("%j: %s", (beginning, tags, parts) => {
  const course = courseFrom({ others: [], ...beginning });
  expect([course.tags.join(" "), course.parts.join(" ")]).toEqual([tags, parts]);
});
