// A go-libp2p peer that speaks AutoNAT v2, for the interoperability matrix and the laboratory of NATs.
//
// It takes one argument, a JSON object of options, and prints one JSON object a line. It ends when its time is over or
// its standard input is closed.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"
)

type options struct {
	Role     string   `json:"role"`
	Listen   []string `json:"listen"`
	Servers  []string `json:"servers"`
	Test     []string `json:"test"`
	Together bool     `json:"together"`
	// Server: requests a minute; go-libp2p's default if absent.
	Limit *int `json:"limit"`
	// A whole host with EnableAutoNATv2 and its address manager, as Kubo has it.
	Full bool `json:"full"`
	// Client: that host with all its defaults, which stays connected to its servers.
	Lab     bool `json:"lab"`
	Seconds int  `json:"seconds"`
}

var out sync.Mutex

// When the first connection was established.
var firstConnection time.Time

func emit(event map[string]any) {
	out.Lock()
	defer out.Unlock()
	now := time.Now()
	event["at"] = float64(now.UnixMicro()) / 1e6
	if event["event"] == "connected" && firstConnection.IsZero() {
		firstConnection = now
	}
	if !firstConnection.IsZero() {
		event["t"] = now.Sub(firstConnection).Seconds()
	}
	line, err := json.Marshal(event)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func fail(err error) {
	emit(map[string]any{"event": "error", "error": err.Error()})
	os.Exit(1)
}

func must[T any](value T, err error) T {
	if err != nil {
		fail(err)
	}
	return value
}

func main() {
	var opts options
	if len(os.Args) < 2 {
		fail(fmt.Errorf("no options given"))
	}
	if os.Args[1] == "version" {
		info, _ := debug.ReadBuildInfo()
		for _, dep := range info.Deps {
			if dep.Path == "github.com/libp2p/go-libp2p" {
				fmt.Println(dep.Version)
			}
		}
		return
	}
	if err := json.Unmarshal([]byte(os.Args[1]), &opts); err != nil {
		fail(err)
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	time.AfterFunc(time.Duration(opts.Seconds)*time.Second, func() { os.Exit(0) })

	switch opts.Role {
	case "server":
		server(opts)
	case "client":
		client(opts)
	default:
		fail(fmt.Errorf("no such role: %s", opts.Role))
	}
	select {}
}

// newHost makes a host with TCP and QUIC that dials from fresh ports, so that the kernel picks the source IP.
// Limits on connections and black hole detection judge by what a lone peer in a test network never sees.
func newHost(more ...libp2p.Option) host.Host {
	return must(libp2p.New(append([]libp2p.Option{
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		libp2p.Transport(quic.NewTransport),
		libp2p.QUICReuse(quicreuse.NewConnManager, quicreuse.DisableReuseport()),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.UDPBlackHoleSuccessCounter(nil),
		libp2p.IPv6BlackHoleSuccessCounter(nil),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
	}, more...)...))
}

func ready(h host.Host) {
	addrs := []string{}
	for _, addr := range h.Network().ListenAddresses() {
		addrs = append(addrs, addr.String())
	}
	emit(map[string]any{"event": "ready", "id": h.ID().String(), "addrs": addrs})
}

func server(opts options) {
	if opts.Full {
		ready(newHost(libp2p.ListenAddrStrings(opts.Listen...), libp2p.EnableAutoNATv2()))
		return
	}
	h := newHost(libp2p.ListenAddrStrings(opts.Listen...))
	dialer := newHost(libp2p.NoListenAddrs)
	var config []autonatv2.AutoNATOption
	if opts.Limit != nil {
		config = append(config, autonatv2.WithServerRateLimit(*opts.Limit, *opts.Limit, *opts.Limit, 2))
	}
	config = append(config, autonatv2.WithMetricsTracer(tracer{}))
	an := must(autonatv2.New(dialer, config...))
	if err := an.Start(tapped{h}); err != nil {
		fail(err)
	}
	ready(h)
}

// tapped is a host that tells what its streams are asked and what they answer: the tracer knows of no other address than
// the dialed one, and not of its index.
type tapped struct{ host.Host }

func (h tapped) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	h.Host.SetStreamHandler(id, func(s network.Stream) {
		if id != autonatv2.DialProtocol {
			handle(s)
			return
		}
		t := &tap{Stream: s}
		handle(t)
		t.tell()
	})
}

type tap struct {
	network.Stream
	read, written bytes.Buffer
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Stream.Read(p)
	t.read.Write(p[:n])
	return n, err
}

func (t *tap) Write(p []byte) (int, error) {
	n, err := t.Stream.Write(p)
	t.written.Write(p[:n])
	return n, err
}

func (t *tap) tell() {
	exchange := map[string]any{"event": "exchange"}
	var msg pb.Message
	if pbio.NewDelimitedReader(&t.read, 8192).ReadMsg(&msg) == nil {
		asked := []string{}
		for _, addr := range msg.GetDialRequest().GetAddrs() {
			asked = append(asked, must(ma.NewMultiaddrBytes(addr)).String())
		}
		exchange["asked"] = asked
	}
	written := pbio.NewDelimitedReader(&t.written, 8192)
	for written.ReadMsg(&msg) == nil {
		if response := msg.GetDialResponse(); response != nil {
			exchange["status"] = response.Status.String()
			exchange["index"] = response.AddrIdx
			exchange["dial_status"] = response.DialStatus.String()
		}
	}
	emit(exchange)
}

// tracer tells what the server did.
type tracer struct{}

func (tracer) CompletedRequest(e autonatv2.EventDialRequestCompleted) {
	served := map[string]any{
		"event":          "served",
		"status":         e.ResponseStatus.String(),
		"dial_status":    e.DialStatus.String(),
		"data_requested": e.DialDataRequired,
	}
	if e.Error != nil {
		served["error"] = e.Error.Error()
	}
	if e.DialedAddr != nil {
		served["tested"] = e.DialedAddr.String()
	}
	emit(served)
}

func (tracer) ClientCompletedRequest([]autonatv2.Request, autonatv2.Result, error) {}

func client(opts options) {
	listen := libp2p.ListenAddrStrings(opts.Listen...)
	if opts.Full || opts.Lab {
		var h host.Host
		if opts.Lab {
			h = must(libp2p.New(listen, libp2p.EnableAutoNATv2()))
			h.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
				emit(map[string]any{
					"event":  "connected",
					"peer":   c.RemotePeer().String(),
					"dialed": c.Stat().Direction == network.DirOutbound,
					"remote": c.RemoteMultiaddr().String(),
				})
			}})
		} else {
			h = newHost(listen, libp2p.EnableAutoNATv2())
		}
		sub := must(h.EventBus().Subscribe(new(event.EvtHostReachableAddrsChanged)))
		ready(h)
		for _, server := range opts.Servers {
			if opts.Lab {
				go stayConnected(h, server)
			} else {
				connect(h, server)
			}
		}
		for e := range sub.Out() {
			changed := e.(event.EvtHostReachableAddrsChanged)
			for verdict, addrs := range map[string][]ma.Multiaddr{
				"reachable": changed.Reachable, "unreachable": changed.Unreachable, "unknown": changed.Unknown,
			} {
				for _, addr := range addrs {
					emit(map[string]any{"event": "verdict", "addr": addr.String(), "verdict": verdict})
				}
			}
		}
		return
	}

	h := newHost(listen)
	dialer := newHost(libp2p.NoListenAddrs)
	ready(h)
	var requests [][]autonatv2.Request
	for _, test := range opts.Test {
		request := autonatv2.Request{Addr: must(ma.NewMultiaddr(test)), SendDialData: true}
		if opts.Together && len(requests) > 0 {
			requests[0] = append(requests[0], request)
		} else {
			requests = append(requests, []autonatv2.Request{request})
		}
	}
	id := connect(h, opts.Servers[0])
	for _, request := range requests {
		ask(h, dialer, id, request)
	}
}

func connect(h host.Host, server string) peer.ID {
	info := must(peer.AddrInfoFromString(server))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := h.Connect(ctx, *info); err != nil {
		fail(err)
	}
	return info.ID
}

// stayConnected dials a server again whenever it is lost, as a node does with its bootstrap peers.
func stayConnected(h host.Host, server string) {
	info := must(peer.AddrInfoFromString(server))
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		// Connected already, or tried again.
		_ = h.Connect(ctx, *info)
		cancel()
		time.Sleep(5 * time.Second)
	}
}

// ask makes one request. A client asks one server once in two minutes, and that can't be set: each request has a client
// of its own, on the same host and connection.
func ask(h, dialer host.Host, server peer.ID, request []autonatv2.Request) {
	an := must(autonatv2.New(dialer))
	if err := an.Start(h); err != nil {
		fail(err)
	}
	// It learns of servers by events, and this connection's have passed.
	emitter := must(h.EventBus().Emitter(new(event.EvtPeerIdentificationCompleted)))
	defer emitter.Close()

	result := map[string]any{"event": "result", "server": server.String(), "addresses": len(request)}
	deadline := time.Now().Add(5 * time.Second)
	var answer autonatv2.Result
	var err error
	start := time.Now()
	for {
		if err = emitter.Emit(event.EvtPeerIdentificationCompleted{Peer: server}); err != nil {
			fail(err)
		}
		start = time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		answer, err = an.GetReachability(ctx, request)
		cancel()
		if err != autonatv2.ErrNoPeers || time.Now().After(deadline) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	result["millis"] = time.Since(start).Milliseconds()
	result["addr"] = request[0].Addr.String()
	switch {
	case err != nil:
		result["outcome"] = "none"
		result["detail"] = err.Error()
	case answer.AllAddrsRefused:
		result["outcome"] = "refused"
	case answer.Reachability == network.ReachabilityPublic:
		result["outcome"] = "reachable"
		result["addr"] = answer.Addr.String()
	case answer.Reachability == network.ReachabilityPrivate:
		result["outcome"] = "unreachable"
		result["addr"] = answer.Addr.String()
	default:
		result["outcome"] = "none"
		result["detail"] = answer.Reachability.String()
	}
	emit(result)
}
