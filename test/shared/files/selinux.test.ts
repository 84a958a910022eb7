import { expect, test } from "bun:test";
import { selinuxHint } from "../../../shared/files/selinux.ts";
import { write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

test("the hint of a container that does not start names SELinux's log, only where it enforces", () => {
  using box = sandbox();
  expect(selinuxHint()).toBe("");
  write(`${box.dir}/sys/fs/selinux/enforce`, "0");
  expect(selinuxHint()).toBe("");
  write(`${box.dir}/sys/fs/selinux/enforce`, "1");
  expect(selinuxHint()).toContain("ausearch -m avc -ts recent; restorecon -R /etc/kubernetes");
});
