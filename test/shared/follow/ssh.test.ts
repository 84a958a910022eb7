/** The way to the nodes: by ssh's own program, and on this machine without it. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import type { Host } from "../../../shared/follow/host.ts";
import { Ssh } from "../../../shared/follow/ssh.ts";
import { carriedTo } from "../../../shared/plan/by-hand.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { withSsh } from "../../pretend/ssh-of-ours.ts";

setDefaultTimeout(300_000);

const here = (kit: string): Host => ({ name: "cp1", address: "", user: "root", isHere: true, kit });

test("on this machine no ssh is needed: output, exit code, a pipe, and lines without control characters", async () => {
  using box = sandbox();
  using ssh = new Ssh(false);
  const host = here(box.dir);
  expect(await ssh.meet(host)).toBeUndefined();
  const lines: string[] = [];
  const onLine = (line: string) => void lines.push(line);
  const output = await ssh.run(host, "printf 'a\\033[2Jb\\nc' >&2; cat; exit 7", {
    input: Buffer.from("in"),
    onLine,
  });
  expect(output).toMatchObject({ exitCode: 7, stdout: "in" });
  expect(lines).toEqual(["a\\u001b[2Jb", "c"]);
  writeFileSync(`${box.dir}/token`, "secret", { mode: 0o600 });
  mkdirSync(`${box.dir}/there`);
  const act = { do: "carry" as const, from: "cp1", to: ["w1"], files: ["token"], secret: true };
  const { pack, unpack } = carriedTo(act, host, here(`${box.dir}/there`));
  expect(await ssh.pipe(host, pack, host, unpack)).toBeUndefined();
  expect(readFileSync(`${box.dir}/there/token`, "utf8")).toBe("secret");
  expect(await ssh.pipe(host, "exit 3", host, "cat > /dev/null")).toMatch(/^exit codes 3 and 0/);
});

test("connections of a repair that was killed are closed by the next one, and those of one that lives are not", async () => {
  const folder = process.env.XDG_RUNTIME_DIR ?? tmpdir();
  // the number of a process that no kernel gives
  const [dead, alive] = [`${folder}/kpr-ssh-${2 ** 22 + 1}-x`, `${folder}/kpr-ssh-${process.pid}-x`];
  for (const dir of [dead, alive]) {
    mkdirSync(dir);
    writeFileSync(`${dir}/0`, "");
  }
  const { ran } = await withSsh(
    async (ssh) =>
      await ssh
        .run(here("/"), "true")
        .then(() => ssh.meet({ ...here("/k"), isHere: undefined, address: "cp1" })),
  );
  expect([existsSync(dead), existsSync(alive)]).toEqual([false, true]);
  expect(ran.filter((line) => line.includes("-O|exit") && line.includes(dead))).toHaveLength(1);
  rmSync(alive, { recursive: true });
});

test("each node is compared by its name, by the way of the first one; a command goes through the one connection, as root", async () => {
  const first: Host = { name: "cp1.example", address: "cp1.example", user: "ops", kit: "/k" };
  const worker: Host = { name: "w1", address: "10.0.0.21", user: "ops", alias: "w1", kit: "/k" };
  const { value, ran } = await withSsh(async (ssh) => {
    for (const host of [first, worker]) await ssh.meet(host);
    return await ssh.run(worker, "exit 5");
  });
  expect(value).toMatchObject({ exitCode: 5 });
  const [asked, master, other, typed] = ran.filter((line) => !line.includes("-O|exit"));
  expect(asked).toStartWith("-G|ops@cp1.example|");
  expect(master).toMatch(/^-M\|-N\|-f\|.*BatchMode=yes.*ops@cp1\.example\|$/);
  expect(master).not.toContain("HostKeyAlias");
  expect(other).toMatch(/-p\|2222\|-J\|bastion\|-o\|HostKeyAlias=w1\|ops@10\.0\.0\.21\|$/);
  expect(typed).toMatch(/^-T\|-o\|BatchMode=yes\|.*HostKeyAlias=w1\|ops@10\.0\.0\.21\|sudo -n sh -c /);
  expect(ran.join()).not.toContain("StrictHostKeyChecking=no");
});

test("each connection has a socket of its own: ssh makes none over one that a lost connection has left", async () => {
  const worker: Host = { name: "w1", address: "10.0.0.21", user: "ops", alias: "w1", kit: "/k" };
  const first: Host = { ...worker, name: "cp1", address: "cp1", alias: undefined };
  const { ran } = await withSsh(async (ssh) => {
    for (const host of [first, worker, worker, worker, first]) await ssh.meet(host);
  });
  const sockets = ran.flatMap((line) =>
    line.startsWith("-M|") ? (/ControlPath=([^|]+)/.exec(line)?.[1] ?? "none") : [],
  );
  expect(sockets).toHaveLength(5);
  expect(new Set(sockets).size).toBe(5);
});
