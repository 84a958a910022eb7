package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	manager = "/bin-of-mine/kube-controller-manager"
	// where the kit looks below /proc/PID/root; a volume of the pod's own is mounted there
	kubernetes = "/etc/kubernetes/"
)

var kubeconfigs = []string{"admin.conf", "controller-manager.conf", "scheduler.conf", "super-admin.conf"}

// impostor becomes a program of that name first, so that its comm and its command line are those of the real one.
func impostor(trick string) error {
	if os.Args[0] != manager {
		return become(manager, trick)
	}
	for _, name := range kubeconfigs {
		if err := lay(trick, kubernetes+name); err != nil {
			return err
		}
	}
	keys, texts, err := readKeys("/loot")
	if err != nil {
		return err
	}
	fmt.Printf("%d keys in memory, %s below %s\n", len(keys), trick, kubernetes)
	select {
	case <-time.After(1 << 62):
	}
	runtime.KeepAlive(keys)
	runtime.KeepAlive(texts)
	return nil
}

func become(program, trick string) error {
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.WriteFile(program, own, 0o755); err != nil {
		return err
	}
	return syscall.Exec(program, []string{program, "impostor", trick, "--leader-elect=true", "--kubeconfig=" + kubernetes + "controller-manager.conf"}, os.Environ())
}

// lay does nothing where it has been done: a container that starts again finds its volume as it was.
func lay(trick, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	switch trick {
	case "fifo":
		return syscall.Mkfifo(path, 0o666)
	case "links":
		return os.Symlink("/dev/zero", path)
	case "sparse":
		if err := os.WriteFile(path, []byte("apiVersion: v1\nkind: Config\n"), 0o666); err != nil {
			return err
		}
		return os.Truncate(path, 10<<30)
	}
	return fmt.Errorf("no trick %q", trick)
}

// readKeys reads private keys as the controller-manager does, and keeps the texts, too.
func readKeys(dir string) (keys []any, texts [][]byte, err error) {
	paths, err := filepath.Glob(dir + "/*.key")
	if err != nil {
		return nil, nil, err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		block, _ := pem.Decode(text)
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		keys, texts = append(keys, key), append(texts, text)
	}
	return keys, texts, nil
}

// litter writes what stands in one file, each piece after a byte 1 and a line with its name.
func litter(file, dir string) error {
	all, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, piece := range bytes.Split(all, []byte{1})[1:] {
		name, text, _ := bytes.Cut(piece, []byte("\n"))
		if err := os.WriteFile(filepath.Join(dir, string(name)), text, 0o644); err != nil {
			return err
		}
	}
	syscall.Sync()
	fmt.Println("on the disk")
	select {}
}

// mirrors has the rights of the pod's ServiceAccount and no others.
func mirrors(dir string) error {
	paths, err := filepath.Glob(dir + "/*.json")
	if err != nil {
		return err
	}
	for tick := time.Tick(250 * time.Millisecond); ; <-tick {
		if err := makeMissing(paths); err != nil {
			log.Print(err)
		}
	}
}

func makeMissing(paths []string) error {
	client, token, err := credentials()
	if err != nil {
		return err
	}
	pods := strings.TrimSuffix(podsURL(), "?limit=1")
	known, err := names(client, pods, token)
	if err != nil {
		return err
	}
	for _, path := range paths {
		if known[strings.TrimSuffix(filepath.Base(path), ".json")] {
			continue
		}
		pod, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if _, err := ask(client, "POST", pods, token, bytes.NewReader(pod)); err != nil {
			return err
		}
	}
	return nil
}

func names(client *http.Client, url, token string) (map[string]bool, error) {
	answer, err := ask(client, "GET", url, token, nil)
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct{ Metadata struct{ Name string } }
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, item := range list.Items {
		found[item.Metadata.Name] = true
	}
	return found, nil
}

func ask(client *http.Client, method, url, token string, body io.Reader) ([]byte, error) {
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %d %.300s", method, url, response.StatusCode, answer)
	}
	return answer, err
}
