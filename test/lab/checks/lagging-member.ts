/**
 * All three have moved, and one was away for long before: it lacks more than its leader keeps of the log, so it gets a
 * snapshot, which the leader sends to its old address. Part 1 on that machine has to say that it goes on from the
 * other one, and there it does: all of it comes through the relay. Megabytes: SIZE (60).
 */
import { unlessSilent } from "../../../shared/etcd-location/client.ts";
import { Fail } from "../../../shared/fail.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import { run } from "../../../shared/run.ts";
import { testFacts } from "../../pretend/facts.ts";
import { onEachRelease } from "./etcd-releases.ts";
import * as members from "./moved-members.ts";

const { NAMES, NEW, OLD, START } = members;
const SIZE = Number(process.env.SIZE ?? 60);
const MEGABYTE = 1_000_000;

async function main() {
  await onEachRelease(async ({ etcd, folder, release }) => [await check(etcd, folder, release)]);
}

/** Its log is short, as that of a cluster which has written on for days. */
function flagsOf(release: string): string[] {
  const keeps = release.startsWith("3.5.") ? "experimental-snapshot" : "snapshot";
  return ["--snapshot-count=20", `--${keeps}-catchup-entries=5`, "--quota-backend-bytes=8000000000"];
}

async function check(etcd: string, folder: string, release: string): Promise<string> {
  const ca = await issueCa(certRow("etcd-ca"), testFacts());
  const tls = await members.issued(folder, ca, OLD);
  const more = flagsOf(release);
  const keys = await writeWithout(etcd, folder, { tls, more });
  await members.issued(folder, ca, NEW);
  for (const name of ["m1", "m2"]) members.sayMoved(folder, name);
  const started = ["m1", "m2"].map((name, i) => members.start(etcd, folder, { name, at: NEW[i]!, more }));
  try {
    const child = members.tellBeside(folder);
    const said = await members.saysUntil(child.stderr, "part 1 once more on m1");
    child.kill("SIGHUP");
    await child.exited;
    await members.tell(folder, "m1");
    const own = members.clientAt(NEW[1]!, tls);
    const hasAll = async () => {
      const there = await unlessSilent(() => own.keys());
      return there !== undefined && keys.every((key) => there.has(key));
    };
    await started[1]!.until("m2 to have all that it lacked", hasAll, START);
    const found = { said, alias: await members.hasAlias() };
    if (!Bun.deepEquals(found, { said: true, alias: false }))
      throw new Fail(`a member that was away: ${Bun.inspect(found)}`, { hint: "tell-members.ts" });
    return `a member that lacks ${SIZE} MB gets them through the relay, and part 1 says where`;
  } finally {
    await Promise.all(started.map((one) => one.kill()));
  }
}

/** m2 has ended before. Returns the keys. */
async function writeWithout(
  etcd: string,
  folder: string,
  { tls, more }: { tls: members.Tls; more: string[] },
): Promise<string[]> {
  const all = NAMES.map((name, i) => members.start(etcd, folder, { name, at: OLD[i]!, more }));
  try {
    const first = members.clientAt(OLD[0]!, tls);
    const agrees = async () => (await unlessSilent(() => first.members({ agreed: true }))) !== undefined;
    await all[0]!.until("etcd to have a leader", agrees, START);
    await all[1]!.kill();
    await all[0]!.until("the others to have one", agrees, START);
    const keys = Array.from({ length: SIZE }, (_, i) => `/registry/written-without/${i}`);
    for (const [i, key] of keys.entries()) await members.put(key, Buffer.alloc(MEGABYTE, i % 250), tls);
    return keys;
  } finally {
    await Promise.all(all.map((one) => one.kill()));
  }
}

if (import.meta.main) await run(main);
