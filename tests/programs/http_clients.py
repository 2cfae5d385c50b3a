"""Asks for `/ok/<library><n>` 25 times by each of three HTTP libraries: base URL. requests and httpx let OpenSSL have the
socket, aiohttp works on memory, several connections at a time."""

import asyncio
import sys

import aiohttp
import httpx
import requests

base, count = sys.argv[1], 25
requests.packages.urllib3.disable_warnings()

with requests.Session() as session:
    for n in range(count):
        assert session.get(f"{base}/ok/requests{n:02}", verify=False).status_code == 200
with httpx.Client(verify=False) as client:
    for n in range(count):
        assert client.get(f"{base}/ok/httpx{n:02}").status_code == 200


async def ask(session, n):
    async with session.get(f"{base}/ok/aiohttp{n:02}") as response:
        assert response.status == 200
        await response.read()


async def main():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False, limit=5)) as session:
        await asyncio.gather(*(ask(session, n) for n in range(count)))


asyncio.run(main())
