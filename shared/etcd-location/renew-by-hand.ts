/** The lines that renew certificates on etcd's own hosts by hand: etcd there is not kubeadm's. */

export const BESIDE_CA =
  "in the folder with the key of etcd's CA (/etc/kubernetes/pki/etcd; in /etc/ssl/etcd/ssl they are NAME.pem, NAME-key.pem)";

/** All that end within 90 days, each with its own key and names: etcd reads them at the next handshake. */
export const RENEW_OWN =
  'for c in *.crt; do [ "$c" = ca.crt ] || openssl x509 -noout -checkend 7776000 -in "$c" || { ' +
  "{ printf 'keyUsage=critical,digitalSignature,keyEncipherment\\nextendedKeyUsage=serverAuth,clientAuth\\n'; " +
  "openssl x509 -noout -ext subjectAltName -in \"$c\" | sed -nE 's/IP Address/IP/g;s/ //g;s/^(DNS|IP):/subjectAltName=&/p'; } > ext; " +
  'openssl x509 -x509toreq -in "$c" -signkey "$(basename "$c" .crt).key" | ' +
  'openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -extfile ext -out new && cp new "$c"; }; done; rm -f ext new';

/** Any certificate of etcd's CA for clients will do; the subject is kubeadm's. */
export const MAKE_PAIR =
  "(umask 077; openssl req -new -newkey rsa:2048 -nodes -keyout client.key -out client.csr -subj /CN=kube-apiserver-etcd-client && " +
  "printf 'keyUsage=critical,digitalSignature,keyEncipherment\\nextendedKeyUsage=clientAuth\\n' > client.ext && " +
  "openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -extfile client.ext -out client.crt)";

/** Before it is too late: kubeadm certs renew leaves them out. */
export const RENEW_IN_TIME = `on etcd's hosts, ${BESIDE_CA}: ${RENEW_OWN}. A new pair of the API server's is made there: ${MAKE_PAIR}; bring client.crt and client.key to its place here. kubeadm certs renew leaves both out`;
