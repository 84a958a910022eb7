/** The way to the nodes: by ssh's own program, and on this machine without it. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { carriedTo, type Host, MOST_OUTPUT } from "../../../shared/follow/host.ts";
import { Ssh } from "../../../shared/follow/ssh.ts";
import { sandbox } from "../../pretend/sandbox.ts";

setDefaultTimeout(300_000);

const here = (kit: string): Host => ({ name: "cp1", address: "", user: "root", isHere: true, kit });

/** Writes down its words, and does there what it is told; of a master it stays nothing. */
const SSH = `#!/bin/sh
printf '%s|' "$@" >> "$RAN"; echo >> "$RAN"
case " $* " in *" -G "*) printf 'port 2222\\nproxyjump bastion\\nuser x\\n'; exit 0;; *" -N "*|*" -O "*) exit 0;; esac
for word; do last=$word; done
exec sh -c "$last"`;

/** An ssh of the test's own, first on the path. Returns what it was called with. */
async function withSsh<T>(use: (ssh: Ssh, dir: string) => Promise<T>): Promise<{ value: T; ran: string[] }> {
  using box = sandbox();
  mkdirSync(`${box.dir}/bin`);
  writeFileSync(`${box.dir}/bin/ssh`, SSH);
  chmodSync(`${box.dir}/bin/ssh`, 0o755);
  const { PATH, RAN } = process.env;
  Object.assign(process.env, { PATH: `${box.dir}/bin:${PATH}`, RAN: `${box.dir}/ran` });
  try {
    using ssh = new Ssh(false);
    const value = await use(ssh, box.dir);
    return { value, ran: readFileSync(`${box.dir}/ran`, "utf8").trim().split("\n") };
  } finally {
    process.env.PATH = PATH;
    if (RAN === undefined) delete process.env.RAN;
  }
}

test("on this machine no ssh is needed: output, exit code, a pipe, and lines without control characters", async () => {
  using box = sandbox();
  using ssh = new Ssh(false);
  const host = here(box.dir);
  expect(await ssh.meet(host)).toBe(true);
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

test("a node that prints without end fills neither the memory nor a line", async () => {
  using ssh = new Ssh(false);
  const lines: string[] = [];
  const command = `head -c ${3 * MOST_OUTPUT} /dev/zero | tr '\\0' x; head -c 100000 /dev/zero | tr '\\0' y >&2`;
  const { stdout } = await ssh.run(here("/"), command, { onLine: (line) => void lines.push(line) });
  expect(stdout.length).toBe(MOST_OUTPUT);
  expect(lines.every(({ length }) => length <= 4096)).toBe(true);
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
