import { expect, test } from "bun:test";
import { withSelinux } from "../../../shared/files/file-system.ts";
import { write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

test("the hint of a container that does not start names SELinux's log, only where it enforces", () => {
  using box = sandbox();
  expect(withSelinux("see ps")).toBe("see ps");
  write(`${box.dir}/sys/fs/selinux/enforce`, "0");
  expect(withSelinux("see ps")).toBe("see ps");
  write(`${box.dir}/sys/fs/selinux/enforce`, "1");
  expect(withSelinux("see ps")).toContain(
    "see ps. SELinux enforces here: ausearch -m avc -ts recent; restorecon -R /etc/kubernetes",
  );
});
