"""Many HTTPS connections of asyncio in one thread: port, connections, requests on each, and perhaps a folder. Each asks
for `/c<connection>/<request>` and prints that with its own port. With a folder it makes `ready` there when all have
had one answer, and goes on when somebody makes `go`."""

import asyncio
import os
import ssl
import sys

port, connections, requests = (int(word) for word in sys.argv[1:4])
folder = sys.argv[4] if len(sys.argv) > 4 else None
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE


async def ask(streams, path):
    reader, writer = streams
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    print(path, writer.get_extra_info("sockname")[1], flush=True)


async def main():
    opened = await asyncio.gather(
        *(asyncio.open_connection("127.0.0.1", port, ssl=context) for _ in range(connections))
    )
    first = 0
    if folder:
        await asyncio.gather(*(ask(streams, f"/c{n:03}/{0:03}") for n, streams in enumerate(opened)))
        open(os.path.join(folder, "ready"), "w").close()
        while not os.path.exists(os.path.join(folder, "go")):
            await asyncio.sleep(0.01)
        first = 1

    async def rest(n, streams):
        for request in range(first, requests):
            await ask(streams, f"/c{n:03}/{request:03}")
        streams[1].close()

    await asyncio.gather(*(rest(n, streams) for n, streams in enumerate(opened)))


asyncio.run(main())
