/** A test without a root of its own writes nothing into this machine, also when it goes on after its end. */
import { expect, test } from "bun:test";
import { writeFile } from "../../shared/files/files.ts";
import { isElsewhere } from "../../shared/files/root.ts";
import { healthyCp } from "./cluster.ts";
import { sandbox } from "./sandbox.ts";

const write = () => writeFile("/etc/kubernetes/pki/ca.key", "a test's key");

test("before a test has a root", () => {
  expect(isElsewhere()).toBe(true);
  expect(write).toThrow("ENOTDIR");
});

test("while a node is made, the root of before is back at its end", async () => {
  using box = sandbox();
  await healthyCp();
  write();
  expect(await Bun.file(`${box.dir}/etc/kubernetes/pki/ca.key`).text()).toBe("a test's key");
});

test("after a sandbox", () => {
  sandbox()[Symbol.dispose]();
  expect(write).toThrow("ENOTDIR");
});
