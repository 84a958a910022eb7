// kmsplugin --key=FILE --listen=unix://SOCKET: a KMS v2 plugin, as people run one for their cloud's or their own key service. FILE holds 32
// bytes in base64; AES-GCM with them wraps what the API server makes its own keys of. It serves until it is told to end.
package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"k8s.io/kms/pkg/service"
)

type plugin struct {
	box   cipher.AEAD
	keyID string
}

var (
	keyFile = flag.String("key", "", "file of the key")
	listen  = flag.String("listen", "", "unix:// and the path of its socket")
)

func main() {
	flag.Parse()
	own, err := open(*keyFile)
	check(err)
	socket := strings.TrimPrefix(*listen, "unix://")
	// what a plugin that was killed has left: nobody can listen there
	if err := os.Remove(socket); !errors.Is(err, os.ErrNotExist) {
		check(err)
	}
	server := service.NewGRPCService(socket, 5*time.Second, own)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		server.Close()
	}()
	check(server.ListenAndServe())
}

func open(file string) (*plugin, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	box, err := cipher.NewGCM(block)
	sum := sha256.Sum256(key)
	return &plugin{box, hex.EncodeToString(sum[:8])}, err
}

func (p *plugin) Status(context.Context) (*service.StatusResponse, error) {
	return &service.StatusResponse{Version: "v2", Healthz: "ok", KeyID: p.keyID}, nil
}

func (p *plugin) Encrypt(_ context.Context, _ string, data []byte) (*service.EncryptResponse, error) {
	nonce := make([]byte, p.box.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return &service.EncryptResponse{Ciphertext: p.box.Seal(nonce, nonce, data, nil), KeyID: p.keyID}, nil
}

func (p *plugin) Decrypt(_ context.Context, _ string, request *service.DecryptRequest) ([]byte, error) {
	size := p.box.NonceSize()
	if len(request.Ciphertext) < size {
		return nil, errors.New("this is too short to be of this plugin")
	}
	return p.box.Open(nil, request.Ciphertext[:size], request.Ciphertext[size:], nil)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
