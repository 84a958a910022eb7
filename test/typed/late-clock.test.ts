/** 00-assess where the clock is wrong: the dates prove nothing, and no key is lost by them. */
import { expect, setDefaultTimeout, setSystemTime, test } from "bun:test";
import { rmSync } from "node:fs";
import { YEAR_MS } from "../pretend/expired.ts";
import { pretendNode } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const timeServer = (is: "yes" | "no") => [
  { command: "timedatectl show --property=NTPSynchronized --value", stdout: `${is}\n` },
];
const PLACES = "where the old keys may still be";

async function assessedLate(lose: (root: string) => void, is: "yes" | "no" = "no") {
  using node = here(await pretendNode({ kind: "healthy control plane node", commands: timeServer(is) }));
  lose(node.root);
  setSystemTime(new Date(Date.now() - YEAR_MS));
  try {
    return (await node.run("00-assess")).stdout;
  } finally {
    setSystemTime();
  }
}

test("a clock that is a year late: the clock comes first, and no place is named where keys may be", async () => {
  const stdout = await assessedLate(() => {});
  expect(stdout).toStartWith("verdict: first the clock: ");
  expect(stdout).not.toContain(PLACES);
});

test("a key that is gone is looked for, whatever the clock says", async () => {
  const stdout = await assessedLate((root) => rmSync(`${root}/etc/kubernetes/pki/ca.key`));
  expect(stdout).toStartWith("verdict: first the clock: ");
  expect(stdout).toContain(PLACES);
});

test("the same where a time server sets it: etcd and the certificates are later, both", async () => {
  const stdout = await assessedLate(() => {}, "yes");
  expect(stdout).toMatch(
    /^verdict: first the clock: .* before etcd's last write here, .*, and .* before the first day of /,
  );
  expect(stdout).not.toContain(PLACES);
});
