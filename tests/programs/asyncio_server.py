"""An HTTPS server of asyncio, where OpenSSL works on memory and never sees a socket: port, certificate, key."""

import asyncio
import ssl
import sys


async def handle(reader, writer):
    while await reader.readline():
        while (await reader.readline()) not in (b"\r\n", b""):
            pass
        await asyncio.sleep(0.01)
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
    writer.close()


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server = await asyncio.start_server(handle, "127.0.0.1", int(sys.argv[1]), ssl=context)
    await server.serve_forever()


asyncio.run(main())
