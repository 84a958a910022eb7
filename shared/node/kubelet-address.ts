import { isEachAddress } from "../pki/addresses.ts";

/** A KubeletConfiguration of another node: the address at which its kubelet listens becomes this one. */
export function withAddress(text: string, nodeIp: string): string {
  return text.replace(/^address: *["']?([^"'\s]*).*$/m, (line, at) =>
    isEachAddress(at) ? line : `address: "${nodeIp}"`,
  );
}
