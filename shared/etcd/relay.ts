/**
 * Puts another machine's old address on this machine's loopback for a while, and forwards connections to that
 * machine's new address. Others may see the address: Linux answers ARP for each of its addresses, whatever
 * the card and the scope (arp_ignore is 0 by default). So nobody else may have it (tell-members.ts asks
 * before), and connections from outside are refused: the far member knows this machine's address.
 */
import { connect, createServer, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import { $ } from "zx/core";
import { Fail } from "../fail.ts";
import { hostAddresses } from "../node/node.ts";
import { canonicalIp } from "../pki/addresses.ts";
import { act } from "../run.ts";
import { shell } from "../shell-line.ts";
import { leaves } from "../signals.ts";

export interface Relay {
  /** Bytes forwarded so far, both ways. */
  carried(): number;
  end(): Promise<void>;
}

/**
 * `from`: the address to take, with its port; `to`: the machine. Errors: Fail if the address cannot be taken.
 */
export async function startRelay(way: { from: string; to: string; port: number }): Promise<Relay> {
  const link = linkOf(way.from);
  const open = new Set<Socket>();
  let carried = 0;
  const server = createServer({ allowHalfOpen: true }, (near) => {
    if (!isOwn(near.remoteAddress, way.from)) return near.destroy();
    const far = connect({ port: way.port, host: way.to, allowHalfOpen: true });
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => open.delete(one));
      one.on("data", ({ length }) => {
        carried += length;
      });
      one.pipe(other);
    }
  });
  const end = async () => {
    server.close();
    for (const socket of open) socket.destroy();
    await giveBack(link);
    leaves("relay", undefined);
  };
  // scope host: programs that ask for this machine's addresses do not get it
  await act("add", `${link} to lo`, () => ip(["addr", "replace", link, "dev", "lo", "scope", "host"]));
  leaves("relay", `${link} is still on this machine's loopback: ip addr del ${link} dev lo`);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(way.port, way.from, resolve);
    });
  } catch (cause) {
    await end();
    throw new Fail(`Cannot listen on ${way.from}:${way.port}: ${(cause as Error).message}`, {
      hint: shell`see whether another program has that port: ss -ltnp sport = :${String(way.port)}`,
      cause,
    });
  }
  return { end, carried: () => carried };
}

/** A local sender to an own address has that address as its source, or has chosen another own one. */
function isOwn(remote: string | undefined, from: string): boolean {
  const addresses = Object.values(networkInterfaces()).flatMap((all = []) =>
    all.map(({ address }) => address),
  );
  return remote !== undefined && [from, ...addresses].map(canonicalIp).includes(canonicalIp(remote));
}

/** Removes addresses of members, in canonical form, that a killed run has left on loopback. */
export async function endLeftRelays(old: readonly string[]) {
  const addresses = (await hostAddresses()).map(canonicalIp);
  for (const address of new Set(old)) if (addresses.includes(address)) await giveBack(linkOf(address));
}

function linkOf(address: string): string {
  return `${address}/${address.includes(":") ? 128 : 32}`;
}

async function giveBack(link: string) {
  await act("remove", `${link} from lo`, () => ip(["addr", "del", link, "dev", "lo"]));
}

async function ip(words: readonly string[]) {
  const { exitCode, stderr } = await $({ quiet: true, nothrow: true })`ip ${words}`;
  if (exitCode === 0) return;
  throw new Fail(`ip ${words.join(" ")} exited ${exitCode}: ${stderr.trim()}`, {
    hint: "run this as root; see the addresses: ip addr show dev lo",
  });
}
