/** An address of another machine on this one's loopback: what is sent there arrives, and nothing stays afterwards. */
import { expect, test } from "bun:test";
import { connect, createServer, type Server } from "node:net";
import { endLeftRelays, startRelay } from "../../../shared/etcd/tell-members.ts";
import { unfinishedActions } from "../../../shared/this-run.ts";
import { programsHere } from "../../pretend/programs.ts";

const [FROM, TO] = ["127.88.0.1", "127.88.0.2"];
const LINK = `${FROM}/32`;
const TAKE = `ip addr replace ${LINK} dev lo scope host`;
const GIVE = `ip addr del ${LINK} dev lo`;

/** Sends back all that it gets. */
async function echo(host: string): Promise<Server & { port: number }> {
  const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return Object.assign(server, { port: (server.address() as { port: number }).port });
}

/** What comes back of so many bytes. */
function through(port: number, bytes: Buffer, own?: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const got: Buffer[] = [];
    const way = { port, host: FROM, ...(own ? { localAddress: own } : {}) };
    const socket = connect(way, () => socket.end(bytes));
    socket.on("data", (piece) => got.push(Buffer.from(piece))).on("end", () => resolve(Buffer.concat(got)));
    socket.on("error", reject).on("close", () => resolve(Buffer.concat(got)));
  });
}

test("what is sent to the old address comes from the machine where it is now, megabytes too; then the address is given back", async () => {
  const machine = await echo(TO);
  using programs = programsHere([{ command: TAKE }, { command: GIVE }]);
  const relay = await startRelay({ from: FROM, to: TO, port: machine.port });
  expect(unfinishedActions()).toEqual([
    `${LINK} is still on this machine's loopback: ip addr del ${LINK} dev lo`,
  ]);
  const sent = Buffer.alloc(4 << 20, crypto.getRandomValues(new Uint8Array(65_537)));
  expect((await through(machine.port, sent)).equals(sent)).toBe(true);
  expect(relay.carried()).toBe(2 * sent.length);
  await relay.end();
  expect(programs.calls()).toEqual([TAKE, GIVE]);
  expect(unfinishedActions()).toEqual([]);
  await expect(through(machine.port, sent)).rejects.toThrow("ECONNREFUSED");
  machine.close();
});

test("who comes from another address than this machine's own gets nothing, and the other machine hears nothing", async () => {
  let heard = 0;
  const machine = await echo(TO);
  machine.on("connection", () => heard++);
  using _programs = programsHere([{ command: TAKE }, { command: GIVE }]);
  const relay = await startRelay({ from: FROM, to: TO, port: machine.port });
  const sent = Buffer.from("raft");
  for (const stranger of ["127.88.0.77", "127.99.0.1"])
    expect(await through(machine.port, sent, stranger).then(String, String)).not.toContain("raft");
  expect([heard, relay.carried()]).toEqual([0, 0]);
  for (const own of [FROM, "127.0.0.1"]) expect(String(await through(machine.port, sent, own))).toBe("raft");
  expect(heard).toBe(2);
  await relay.end();
  machine.close();
});

test("where the port is taken, the address is given back at once", async () => {
  const other = await echo(FROM);
  using programs = programsHere([{ command: TAKE }, { command: GIVE }]);
  await expect(startRelay({ from: FROM, to: TO, port: other.port })).rejects.toThrow(
    `Cannot listen on ${FROM}:${other.port}`,
  );
  expect(programs.calls()).toEqual([TAKE, GIVE]);
  other.close();
});

test("where the address cannot be taken, nothing listens there", async () => {
  using _programs = programsHere([
    { command: TAKE, exit: 2, stderr: "RTNETLINK answers: Operation not permitted" },
  ]);
  await expect(startRelay({ from: FROM, to: TO, port: 2380 })).rejects.toThrow("Operation not permitted");
  expect(unfinishedActions()).toEqual([]);
});

test("an address that a killed run has left is given back; a balancer's, and one that others reach, are not ours", async () => {
  const at = (local: string, scope: string) => ({ local, scope });
  const shown = [{ addr_info: [at(FROM, "host"), at("127.88.0.9", "host"), at(TO, "global")] }];
  const commands = [{ command: "ip -j addr", stdout: JSON.stringify(shown) }, { command: GIVE }];
  using programs = programsHere(commands);
  await endLeftRelays([FROM, FROM, TO]);
  expect(programs.calls()).toEqual(["ip -j addr", GIVE]);
});
