/** What is said of a rescue folder before somebody removes it: what is really in it. */
import { expect, test } from "bun:test";
import { symlinkSync } from "node:fs";
import { writeFile } from "../../../shared/files/files.ts";
import { newRescue, rescueFolders } from "../../../shared/node/rescue-folder.ts";
import { keyPair } from "../../../shared/pki/keys.ts";
import { heldIn } from "../../../shared/workloads/left-to-do.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const DIR = "/root/kube-pki-repair-20260101T000000";
const held = () => rescueFolders().map(heldIn);

test("a folder with a public key alone holds no secret; keys, kubeconfigs and tokens are counted, and etcd's data is named", async () => {
  using box = sandbox();
  const { key, pub } = await keyPair("ECDSA-P256");
  writeFile(`${DIR}/aside/etc/kubernetes/pki/sa-old.pub`, pub);
  expect(held()).toEqual(["no key and no Secret, only sa-old.pub"]);
  symlinkSync(".", `${box.dir}${DIR}/aside/loop`);
  writeFile(`${DIR}/aside/etc/kubernetes/pki/sa.key`, key);
  expect(held()).toEqual(["1 file with a private key or a token, 1 without"]);
  writeFile(`${DIR}/aside/etc/kubernetes/admin.conf`, "users:\n- user:\n    client-key-data: S0VZ\n");
  writeFile(`${DIR}/aside/etc/kubernetes/bot.conf`, "users:\n- user:\n    token: abc\n");
  writeFile(`${DIR}/etcd/member/snap/db`, "Secrets");
  expect(held()).toEqual(["etcd's data with all Secrets, 3 files with a private key or a token, 1 without"]);
});

test("a file that is too large to be looked through counts as secret", () => {
  using _box = sandbox();
  writeFile(`${DIR}/aside/var/lib/large`, Buffer.alloc((1 << 20) + 1));
  expect(held()).toEqual(["1 file with a private key or a token"]);
});

test("etcd's data that is only linked there is said to be elsewhere", () => {
  using box = sandbox();
  writeFile("/mnt/member/snap/db", "Secrets");
  writeFile(`${DIR}/etcd/mark`, "");
  symlinkSync("/mnt/member", `${box.dir}${DIR}/etcd/member`);
  expect(held()).toEqual([
    `etcd's data with all Secrets (by links: ${box.dir}${DIR}/etcd/member -> ${box.dir}/mnt/member)`,
  ]);
});

test("runs of one second have a rescue folder each", () => {
  using _box = sandbox();
  const dirs = [1, 2, 3].map((run) => {
    const { dir, made } = newRescue();
    writeFile(`${dir}/of`, `run ${run}`);
    expect(rescueFolders()[0]).toEqual({ dir, made: new Date(Math.floor(made.getTime() / 1000) * 1000) });
    return dir;
  });
  expect(new Set(dirs).size).toBe(3);
});
