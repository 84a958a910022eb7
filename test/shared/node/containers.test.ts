/** What crictl says of this node's containers, and what it means that it says nothing. */
import { expect, test } from "bun:test";
import { inspect } from "../../../shared/node/containers.ts";
import { type FakeCommand, programsHere } from "../../pretend/programs.ts";

const GONE =
  'level=fatal msg="getting the status of the container \\"c1\\": rpc error: code = NotFound desc = container \\"c1\\": not found"';

async function inspected(commands: FakeCommand[]): Promise<unknown> {
  using _programs = programsHere(commands);
  return await inspect("unix:///run/containerd.sock", "c1").catch((err: unknown) => err);
}

test("a container that is not found is no missing crictl", async () => {
  const crictl = { command: "crictl *", stderr: `${GONE}\n`, exit: 1 };
  expect(await inspected([crictl])).toMatchObject({
    message: `Cannot look at the containers through "unix:///run/containerd.sock": ${GONE}`,
    hint: expect.stringContaining("systemctl status containerd"),
  });
});

test("without crictl it is said what to install", async () => {
  expect(await inspected([])).toMatchObject({ message: "Cannot look at the containers: crictl is missing" });
});
