/**
 * TLS options by which a client trusts what Go's programs trust: each certificate of the bundle by itself (crypto/x509, VerifyOptions.Roots).
 * kubeadm takes a CA that a company's root has signed (app/phases/certs, UsingExternalCA), and ca.crt mostly holds that one alone. Without
 * this OpenSSL wants its root as well: "unable to get issuer certificate". Dates and names are checked as always.
 */
export function trusting(ca: string) {
  return { ca, allowPartialTrustChain: true };
}
