/** The checksum of etcd's logs and snapshots. Source: RFC 3720, B.4; Go's hash/crc32, Castagnoli. */
const CRC32C_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C (Castagnoli), continuing `crc`. */
export function crc32c(bytes: Uint8Array, crc: number): number {
  let sum = ~crc;
  for (let i = 0; i < bytes.length; i++) sum = CRC32C_TABLE[(sum ^ bytes[i]!) & 255]! ^ (sum >>> 8);
  return ~sum >>> 0;
}
