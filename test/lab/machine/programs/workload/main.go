// workload is what runs in the lab's pods. Each mode is a program an operator has in production:
//
//	workload web               answers every HTTP request
//	workload caller HOST       calls a Service, by its address
//	workload asker             calls the API; reads its token and the CA again for each call
//	workload asker-cached      calls the API; read its token and the CA when it started, once
//	workload vip KUBECONFIG    a static pod as kube-vip is: read its kubeconfig once, and is ready as long as the API answers it
//	workload hook FOLDER       an admission webhook, which asks the API for each review: read its token and the CA when it started, once
//	workload pings FOLDER      asks other pods, a Service and the API's Service every quarter of a second; in pings.go
//	workload sleep             does nothing
//
// And programs that a tenant has who attacks, in hostile.go:
//
//	workload impostor TRICK    calls itself kube-controller-manager, holds the keys of /loot in memory, and lays fifo, links or sparse out as kubeconfigs
//	workload litter FILE DIR   writes the many files of one file into a folder, down to the disk
//	workload mirrors DIR       makes each pod of a folder, and again as soon as it is gone
//
// caller and asker write one JSON line per call to stdout and, so that it can be read while the API is down, to the file $HEARTBEAT.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: workload web|caller HOST|asker|asker-cached|vip KUBECONFIG|hook FOLDER|pings FOLDER|sleep|impostor TRICK|litter FILE DIR|mirrors DIR")
	}
	if os.Args[1] != "pings" {
		go exitOnTerm()
	}
	switch os.Args[1] {
	case "web":
		log.Fatal(http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })))
	case "caller":
		heartbeat(200*time.Millisecond, func() error {
			return get(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}, "http://"+net.JoinHostPort(os.Args[2], "80"), "")
		})
	case "asker":
		heartbeat(500*time.Millisecond, func() error {
			client, token, err := credentials()
			if err != nil {
				return err
			}
			return get(client, podsURL(), token)
		})
	case "asker-cached":
		client, token, err := credentials()
		if err != nil {
			log.Fatal(err)
		}
		heartbeat(500*time.Millisecond, func() error { return get(client, podsURL(), token) })
	case "vip":
		log.Fatal(vip(os.Args[2]))
	case "hook":
		log.Fatal(hook(os.Args[2]))
	case "pings":
		log.Fatal(pings(os.Args[2]))
	case "sleep":
		select {}
	case "impostor":
		log.Fatal(impostor(os.Args[2]))
	case "litter":
		log.Fatal(litter(os.Args[2], os.Args[3]))
	case "mirrors":
		log.Fatal(mirrors(os.Args[2]))
	default:
		log.Fatalf("no mode %q", os.Args[1])
	}
}

// exitOnTerm is needed as PID 1 has no default action for signals.
func exitOnTerm() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
	os.Exit(0)
}

type beat struct {
	T   int64  `json:"t"`
	OK  bool   `json:"ok"`
	Err string `json:"err,omitempty"`
}

func heartbeat(interval time.Duration, call func() error) {
	var out io.Writer = os.Stdout
	if path := os.Getenv("HEARTBEAT"); path != "" {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			log.Fatal(err)
		}
		out = io.MultiWriter(os.Stdout, file)
	}
	lines := json.NewEncoder(out)
	for tick := time.Tick(interval); ; <-tick {
		now := beat{T: time.Now().UnixMilli(), OK: true}
		if err := call(); err != nil {
			now.OK, now.Err = false, err.Error()
		}
		if err := lines.Encode(now); err != nil {
			log.Fatal(err)
		}
	}
}

// vip asks for what kube-vip's leader election asks for, and says on port 2112 whether it got it.
func vip(kubeconfig string) error {
	client, server, err := clientOf(kubeconfig)
	if err != nil {
		return err
	}
	var last atomic.Pointer[error]
	go func() {
		for tick := time.Tick(time.Second); ; <-tick {
			err := get(client, server+"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases?limit=1", "")
			last.Store(&err)
		}
	}()
	return http.ListenAndServe(":2112", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := last.Load(); err == nil || *err != nil {
			http.Error(w, "the API does not answer", http.StatusServiceUnavailable)
		}
	}))
}

// hook allows everything, as long as the API answers it. Its certificate and key are in folder.
func hook(folder string) error {
	client, token, err := credentials()
	if err != nil {
		return err
	}
	return http.ListenAndServeTLS(":8443", folder+"/tls.crt", folder+"/tls.key", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct{ Request struct{ UID string } }
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		} else if err := get(client, podsURL(), token); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		} else {
			fmt.Fprintf(w, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":%q,"allowed":true}}`, review.Request.UID)
		}
	}))
}

// clientOf reads a kubeconfig as kubeadm writes it.
func clientOf(kubeconfig string) (*http.Client, string, error) {
	text, err := os.ReadFile(kubeconfig)
	if err != nil {
		return nil, "", err
	}
	field := func(name string) []byte {
		found := regexp.MustCompile(name + `: (\S+)`).FindSubmatch(text)
		if found == nil {
			log.Fatalf("%s has no %s", kubeconfig, name)
		}
		return found[1]
	}
	pem := func(name string) []byte {
		value, err := base64.StdEncoding.DecodeString(string(field(name)))
		if err != nil {
			log.Fatal(err)
		}
		return value
	}
	pair, err := tls.X509KeyPair(pem("client-certificate-data"), pem("client-key-data"))
	if err != nil {
		return nil, "", err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem("certificate-authority-data"))
	config := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: timeout}, string(field("server")), nil
}

func podsURL() string {
	namespace, err := os.ReadFile(account + "namespace")
	if err != nil {
		log.Fatal(err)
	}
	server := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	return fmt.Sprintf("https://%s/api/v1/namespaces/%s/pods?limit=1", server, namespace)
}

func credentials() (*http.Client, string, error) {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return nil, "", err
	}
	ca, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return nil, "", err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	return &http.Client{Transport: transport, Timeout: timeout}, strings.TrimSpace(string(token)), nil
}

// How long the API may take; a Service that is called by its IP has longer, so that only a call nobody takes fails.
const timeout = 2 * time.Second

func get(client *http.Client, url, token string) error {
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %.120s", response.StatusCode, strings.ReplaceAll(string(body), "\n", " "))
	}
	return err
}
