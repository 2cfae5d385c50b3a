"""Fetches each URL of the command line by pycurl, whose wheel brings an OpenSSL of its own."""

import sys

import pycurl

for url in sys.argv[1:]:
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, url)
    curl.setopt(pycurl.SSL_VERIFYPEER, 0)
    curl.setopt(pycurl.SSL_VERIFYHOST, 0)
    curl.setopt(pycurl.WRITEFUNCTION, lambda received: None)
    curl.perform()
    print(curl.getinfo(pycurl.RESPONSE_CODE))
    curl.close()
