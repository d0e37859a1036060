// A js-libp2p peer that speaks AutoNAT v2, for the interoperability matrix.
//
// It takes one argument, a JSON object of options, and prints one JSON object a line. It ends when its time is over or
// its standard input is closed. Its one service is client and server at once.

import { noise } from '@chainsafe/libp2p-noise'
import { quic } from '@chainsafe/libp2p-quic'
import { autoNATv2 } from '@libp2p/autonat-v2'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const emit = (event) => console.log(JSON.stringify(event))
const options = JSON.parse(process.argv[2])

setTimeout(() => process.exit(0), options.seconds * 1000)
process.stdin.on('end', () => process.exit(0)).resume()
process.on('unhandledRejection', (error) => emit({ event: 'unhandled', error: String(error) }))

const transports = [tcp(), quic()]
// A client that listens on WebSocket, which servers here can't dial. First, so that it is asked about first.
if (options.listen.some((addr) => addr.endsWith('/ws'))) {
  transports.unshift(webSockets())
}

const node = await createLibp2p({
  addresses: { listen: options.listen },
  transports,
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping(), autonat: autoNATv2() }
})

// It says nothing of dial-backs: as a server, its own connections are those.
node.addEventListener('connection:open', ({ detail }) => {
  emit({ event: 'connected', dialed: detail.direction === 'outbound', remote: detail.remoteAddr.toString() })
})

const listening = node.components.transportManager.getAddrs().map(String)
emit({ event: 'ready', id: node.peerId.toString(), addrs: listening })

if (options.role === 'client') {
  const confirmed = new Set()
  const rejected = new Set()
  // It has no event for that. Until it is judged, an address expired long ago.
  setInterval(() => {
    for (const { multiaddr, type, verified, expires } of node.components.addressManager.getAddressesWithMetadata()) {
      const addr = multiaddr.toString()
      if (verified && !confirmed.has(addr)) {
        confirmed.add(addr)
        emit({ event: 'verdict', addr, verdict: 'reachable', type })
      }
      if (!verified && expires > 0 && type === 'transport' && !rejected.has(addr)) {
        rejected.add(addr)
        emit({ event: 'verdict', addr, verdict: 'unreachable', type })
      }
    }
  }, 50).unref()

  for (const server of options.servers) {
    // It asks once for each connection.
    for (let i = 0; i < (options.connections ?? 1); i++) {
      const before = confirmed.size
      const connection = await node.dial(multiaddr(server), { signal: AbortSignal.timeout(10_000), force: true })
      if ((options.connections ?? 1) > 1) {
        // It takes five connections a second and resets more. Dial-backs count.
        await new Promise((resolve) => setTimeout(resolve, 300))
        const deadline = Date.now() + 5_000
        while (confirmed.size === before && Date.now() < deadline) {
          await new Promise((resolve) => setTimeout(resolve, 20))
        }
        await connection.close()
      }
    }
  }
}
