/** The certificate that a server shows. Nothing in it is believed before it is verified. */
import { connect } from "node:tls";

/** A control plane node that is only slow must not look like one that has lost its keys. */
const HANDSHAKE_MS = 10_000;

/** The certificate that a server shows, also where it then refuses us. Errors: the connection's own. */
export function servedPem(host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, rejectUnauthorized: false, timeout: HANDSHAKE_MS }, () => {
      resolve(socket.getPeerX509Certificate()!.toString());
      socket.destroy();
    });
    socket.on("error", reject);
    socket.on("timeout", () => socket.destroy(new Error(`${host}:${port} does not answer`)));
  });
}
