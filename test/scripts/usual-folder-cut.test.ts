/**
 * A stranger's folder is moved aside, and power is lost before the link is made in its place: the next start of part 1
 * makes the link. Only the rescue folder says that kubeadm's usual folder was there.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { lstatSync, readlinkSync } from "node:fs";
import { cutAt } from "../pretend/cut-run.ts";
import { nodeIn, serveIn } from "../pretend/layouts.ts";
import { strangersFolder, USUAL } from "../pretend/strangers-folder.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

test.each([
  ["kubespray", "ssl"],
  ["certificatesDir elsewhere", "../../srv/pki"],
] as const)(
  "%s: part 1 is cut off right after the move, and its next start links",
  async (layout, target) => {
    using node = await nodeIn(layout);
    using _servers = serveIn(layout, node);
    strangersFolder(node.root);
    const child = node.start("01-etcd", cutAt(`renamed ${node.root}${USUAL} to `));
    const said = await new Response(child.stderr).text();
    await child.exited;
    expect({ signal: child.signalCode, said }).toMatchObject({ signal: "SIGKILL" });
    expect(lstatSync(node.root + USUAL, { throwIfNoEntry: false })).toBeUndefined();
    const assessed = await node.run("00-assess");
    expect(assessed).toMatchObject({
      exitCode: 0,
      stdout: expect.stringMatching(/has made no link in its place/),
    });
    const again = await node.run("01-etcd");
    expect(again).toMatchObject({ exitCode: 0, stderr: expect.stringContaining(`pointed ${USUAL} to `) });
    expect((await node.run("00-assess")).stdout).not.toContain("no link in its place");
    expect(readlinkSync(node.root + USUAL)).toBe(target);
  },
);
