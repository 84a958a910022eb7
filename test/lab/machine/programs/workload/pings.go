package main

import (
	"encoding/binary"
	"encoding/json"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	interval = 250 * time.Millisecond
	// A reply that comes later counts as none. Nobody sends one again, so one that waited for the processor of a busy machine is no loss.
	late = 3 * time.Second
	// A connection that takes longer has lost a packet: TCP sends it again after a second.
	slow = time.Second
	// How long a pod that was told to end still answers: as long as others may not know it.
	farewell = 3 * time.Second
)

// ping is a line of FOLDER/POD.log. What was asked is another pod, by its name, or "service" or "api".
type ping struct {
	T  int64  `json:"t"`
	To string `json:"to"`
	OK bool   `json:"ok"`
}

// pings asks others every quarter of a second: each pod of FOLDER/peers ("NAME IP" a line) by ICMP, the Service of all these pods and the API's
// Service by a new TCP connection. It says in FOLDER/POD.here that it runs: its IP, and since when.
func pings(folder string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	here := folder + "/" + name + ".here"
	if err := os.WriteFile(here, []byte(os.Getenv("POD_IP")+" "+time.Now().Format(time.RFC3339Nano)+"\n"), 0o644); err != nil {
		return err
	}
	go leaveOnTerm(here)
	go func() {
		log.Fatal(http.ListenAndServe(":8080", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	}()
	file, err := os.OpenFile(folder+"/"+name+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(file)
	answers := make(chan ping, 1000)
	icmp, err := newICMP(answers)
	if err != nil {
		return err
	}
	go func() {
		for tick := time.Tick(interval); ; <-tick {
			for _, line := range readLines(folder + "/peers") {
				if peer, ip, _ := strings.Cut(line, " "); peer != name {
					icmp.ask(peer, ip)
				}
			}
			go connect("service", os.Getenv("ECHO_SERVICE_HOST")+":80", answers)
			go connect("api", os.Getenv("KUBERNETES_SERVICE_HOST")+":443", answers)
			// Who stands still is not here.
			now := time.Now()
			os.Chtimes(here, now, now)
		}
	}()
	for answer := range answers {
		if err := lines.Encode(answer); err != nil {
			return err
		}
	}
	return nil
}

func leaveOnTerm(here string) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
	os.Remove(here)
	time.Sleep(farewell)
	os.Exit(0)
}

func readLines(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil // nobody is known yet
	}
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
}

func connect(to, address string, answers chan<- ping) {
	asked := time.Now()
	connection, err := net.DialTimeout("tcp", address, slow)
	if err == nil {
		connection.Close()
	}
	answers <- ping{asked.UnixMilli(), to, err == nil}
}

// icmp sends echo requests and waits for their replies.
type icmp struct {
	socket  net.PacketConn
	id      uint16
	answers chan<- ping
	mutex   sync.Mutex
	next    uint16
	waiting map[uint16]ping
}

func newICMP(answers chan<- ping) (*icmp, error) {
	socket, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return nil, err
	}
	pinger := &icmp{socket: socket, id: uint16(time.Now().UnixNano()), answers: answers, waiting: map[uint16]ping{}}
	go pinger.listen()
	return pinger, nil
}

func (pinger *icmp) ask(peer, ip string) {
	pinger.mutex.Lock()
	pinger.next++
	number := pinger.next
	pinger.waiting[number] = ping{time.Now().UnixMilli(), peer, false}
	pinger.mutex.Unlock()
	time.AfterFunc(late, func() { pinger.settle(number, false) })
	request := binary.BigEndian.AppendUint16([]byte{8, 0, 0, 0}, pinger.id)
	request = binary.BigEndian.AppendUint16(request, number)
	binary.BigEndian.PutUint16(request[2:], checksum(request))
	// An error (no route, no buffer) is a ping without a reply.
	pinger.socket.WriteTo(request, &net.IPAddr{IP: net.ParseIP(ip)})
}

func (pinger *icmp) listen() {
	packet := make([]byte, 1500)
	for {
		length, _, err := pinger.socket.ReadFrom(packet)
		if err != nil {
			log.Fatal(err)
		}
		if length >= 8 && packet[0] == 0 && binary.BigEndian.Uint16(packet[4:]) == pinger.id {
			pinger.settle(binary.BigEndian.Uint16(packet[6:]), true)
		}
	}
}

func (pinger *icmp) settle(number uint16, ok bool) {
	pinger.mutex.Lock()
	answer, isWaiting := pinger.waiting[number]
	delete(pinger.waiting, number)
	pinger.mutex.Unlock()
	if isWaiting {
		answer.OK = ok
		pinger.answers <- answer
	}
}

func checksum(packet []byte) uint16 {
	var sum uint32
	for i := 0; i < len(packet); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(packet[i:]))
	}
	return ^uint16(sum + sum>>16)
}
