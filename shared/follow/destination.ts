/** The node that the operator names: a destination of ssh, with an address of IPv6 as ssh takes it, without brackets. */
import { isIP } from "node:net";
import { UsageError } from "../fail.ts";
import { isOnEachMachine } from "../pki/addresses.ts";
import { KIT_PLACE } from "../plan/kit-place.ts";
import { isUserName, ROOT } from "../plan/login.ts";
import type { Host } from "./host.ts";

/** "root@cp1", "fd00::11", "root@[fd00::11]". Errors: UsageError where it is no destination of ssh. */
export function sshHostOf(destination: string): Host {
  const [, user = ROOT, typed = ""] = /^(?:([^@]+)@)?([^@]+)$/.exec(destination) ?? [];
  const address = /^\[(.+)\]$/.exec(typed)?.[1] ?? typed;
  if (isIP(address) > 0 && !isOnEachMachine(address))
    throw new UsageError(`"${address}" means another machine on each link`, {
      hint: "name the node by an address without a zone, or by a name of your ssh configuration",
    });
  const isHost = typed === address ? isIP(address) > 0 || NAME.test(address) : isIP(address) === 6;
  if (isHost && isUserName(user)) return { name: address, address, user, kit: KIT_PLACE };
  throw new UsageError(`"${destination}" is no destination of ssh`, {
    hint: "name one control plane node: npm run repair -- root@ADDRESS",
  });
}

/** An option begins with a dash, and a colon is no port for ssh. */
const NAME = /^[A-Za-z0-9][\w.-]*$/;
