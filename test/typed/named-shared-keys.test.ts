/**
 * A stranger's CA in a file that a flag names: 00-assess and 05-verify say who reads it and what fails, and no part
 * touches it. The kubelet's clientCAFile is part 1's.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { parse, stringify } from "yaml";
import { write } from "../pretend/cluster.ts";
import { nodeIn, serveIn } from "../pretend/layouts.ts";
import { strangersText } from "../pretend/strangers-folder.ts";
import { here, runsHere } from "../pretend/typed-here.ts";
import { type Unlike, unlike } from "../pretend/unlike.ts";
import { setFlags } from "../pretend/unlike-edits.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const CLIENTS = "/etc/kubernetes/pki/clients.crt";
const KUBELETS = "/etc/kubernetes/kubelet-ca.crt";

/** The flag is in the mirror pod, too: somebody has changed the file later. */
const row: Unlike = {
  name: "a stranger's client CAs",
  who: "a colleague who copies the files of a new CA over all others",
  change: (place) => {
    write(place.root + CLIENTS, strangersText("ca.crt"), 0o644);
    setFlags(place, "kube-apiserver", `--client-ca-file=${CLIENTS}`);
  },
};

test("a stranger's client CAs are named on both screens, and parts 1 and 2 change nothing", async () => {
  using cluster = await unlike(row, runsHere);
  const says = /kube-apiserver --client-ca-file names it, and its key is not the cluster's/;
  for (const script of ["00-assess", "05-verify"])
    expect({ script, ...(await cluster.run(script)) }).toMatchObject({
      ...{ script, exitCode: 2, stdout: expect.stringMatching(says) },
    });
  const { stdout } = await cluster.run("00-assess");
  expect(stdout).toMatch(
    /verdict: the files of this node are well, but a flag [\s\S]*\n {2}diff \S+clients\.crt /,
  );
  expect(stdout).not.toMatch(/scripts\/0[1-4]-/);
  for (const part of ["01-etcd", "02-control-plane"])
    expect(await cluster.run(part)).toMatchObject({ exitCode: 0, changed: [] });
});

test("a stranger's clientCAFile of the kubelet is named, part 1 mends it, and then all is well", async () => {
  using node = here(await nodeIn("kubeadm's default"));
  using _servers = serveIn("kubeadm's default", node);
  const path = `${node.root}/var/lib/kubelet/config.yaml`;
  const config = parse(readFileSync(path, "utf8"));
  config.authentication.x509.clientCAFile = KUBELETS;
  write(path, stringify(config));
  write(node.root + KUBELETS, strangersText("ca.crt"));
  const before = await node.run("00-assess");
  expect(before).toMatchObject({
    exitCode: 2,
    stdout: expect.stringMatching(/kubelet's clientCAFile names it/),
  });
  expect(await node.run("01-etcd")).toMatchObject({ exitCode: 0 });
  expect(await node.run("00-assess")).toMatchObject({ exitCode: 0 });
});
