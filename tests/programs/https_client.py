"""Fetches each URL of the command line with urllib and prints its status and the length of its body."""

import ssl
import sys
import urllib.error
import urllib.request

context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
for url in sys.argv[1:]:
    try:
        with urllib.request.urlopen(url, context=context) as response:
            print(response.status, len(response.read()))
    except urllib.error.HTTPError as error:
        print(error.code, len(error.read()))
