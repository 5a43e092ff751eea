#!/usr/bin/env python3
"""One endpoint for tests: zonal answers the calls about DNS and networks, and moto or LocalStack answers all others.

    moto_and_zonal.py 127.0.0.1:4567 http://127.0.0.1:9153 http://127.0.0.1:5000

The arguments are the address to listen on, zonal's admin address, and the address of moto or LocalStack. Set
AWS_ENDPOINT_URL to the first one. The service of a call is in the scope of its signature, which goes on unchanged.
"""

import http.client
import re
import sys
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OF_ZONAL = {"ec2", "route53", "route53resolver", "route53profiles", "arc-zonal-shift"}
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade"}


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        scope = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", self.headers.get("Authorization", ""))
        target = zonal if scope and scope[1] in OF_ZONAL else other
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(target).netloc, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    listen, zonal, other = sys.argv[1:]
    host, port = listen.rsplit(":", 1)
    ThreadingHTTPServer((host, int(port)), Proxy).serve_forever()
