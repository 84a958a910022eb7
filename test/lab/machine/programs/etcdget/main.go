// etcdget PREFIX [REVISION]: what a living etcd says it holds, for tests that compare it with what we read out of its files.
// First line: the revision and cluster answered for. Then one JSON line per key.
package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"log"
	"os"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const pki = "/etc/kubernetes/pki/etcd/"

var (
	endpoint = flag.String("endpoint", "https://localhost:2379", "etcd's client URL; http needs no certificate")
	caFile   = flag.String("cacert", pki+"ca.crt", "CA of the server")
	certFile = flag.String("cert", pki+"server.crt", "client certificate")
	keyFile  = flag.String("key", pki+"server.key", "its key")
)

func main() {
	flag.Parse()
	options := []clientv3.OpOption{clientv3.WithPrefix()}
	if flag.NArg() > 1 {
		revision, err := strconv.ParseInt(flag.Arg(1), 10, 64)
		check(err)
		options = append(options, clientv3.WithRev(revision))
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}, TLS: tlsConfig(), DialTimeout: 5 * time.Second})
	check(err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	response, err := client.Get(ctx, flag.Arg(0), options...)
	check(err)
	print := json.NewEncoder(os.Stdout)
	check(print.Encode(map[string]any{"revision": response.Header.Revision, "clusterId": strconv.FormatUint(response.Header.ClusterId, 16), "count": response.Count}))
	for _, kv := range response.Kvs {
		sum := sha256.Sum256(kv.Value)
		check(print.Encode(map[string]any{
			"key": base64.StdEncoding.EncodeToString(kv.Key), "create": kv.CreateRevision, "mod": kv.ModRevision,
			"version": kv.Version, "lease": kv.Lease, "valueSha256": hex.EncodeToString(sum[:]),
		}))
	}
}

func tlsConfig() *tls.Config {
	if len(*endpoint) < 8 || (*endpoint)[:8] != "https://" {
		return nil
	}
	certificate, err := tls.LoadX509KeyPair(*certFile, *keyFile)
	check(err)
	ca, err := os.ReadFile(*caFile)
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &tls.Config{Certificates: []tls.Certificate{certificate}, RootCAs: roots}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
