/** The certificate that a server shows: nothing of it is believed before it is verified. */
import { connect } from "node:tls";

/** Another control plane node that is only slow must not be taken for one that has no keys any more. */
const HANDSHAKE_MS = 10_000;

/** The certificate that a server shows, whatever it then thinks of us. Errors: the connection's own. */
export function servedPem(host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, rejectUnauthorized: false, timeout: HANDSHAKE_MS }, () => {
      const { raw } = socket.getPeerCertificate();
      socket.destroy();
      resolve(
        `-----BEGIN CERTIFICATE-----\n${raw
          .toString("base64")
          .replace(/(.{64})/g, "$1\n")
          .trimEnd()}\n-----END CERTIFICATE-----\n`,
      );
    });
    socket.on("error", reject);
    socket.on("timeout", () => socket.destroy(new Error(`${host}:${port} does not answer`)));
  });
}
