# Signs random requests with botocore. The arguments: the number of requests, a seed. Prints one JSON value a line.
import base64
import datetime
import json
import random
import sys
from urllib.parse import quote, urlsplit

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

count, seed = int(sys.argv[1]), int(sys.argv[2])
dice = random.Random(seed)
ALPHABET = "abcXYZ019-._~ !*'();:@&=+$,/?#[]%\\\"<>{}|^`äß€\u0301"


def text(longest):
    return "".join(dice.choice(ALPHABET) for _ in range(dice.randint(0, longest)))


def path():
    segments = []
    for _ in range(dice.randint(0, 5)):
        kind = dice.random()
        segments.append("" if kind < 0.1 else "." if kind < 0.2 else ".." if kind < 0.3 else quote(text(8), safe="~"))
    return "/" + "/".join(segments)


def query():
    pairs = [(text(6), text(8)) for _ in range(dice.randint(0, 6))]
    if pairs and dice.random() < 0.3:
        pairs.append((pairs[0][0], text(4)))
    return "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)


def header():
    return "".join(dice.choice("ab 01,;=\t-") for _ in range(dice.randint(0, 12)))


for number in range(count):
    form = "query" if dice.random() < 0.3 else "header"
    host = dice.choice(["localhost:9153", "127.0.0.1:4566", "ec2.us-east-1.amazonaws.com"])
    found = query()
    url = f"http://{host}{path()}" + (f"?{found}" if found else "")
    # botocore moves a body into the query when the signature goes there.
    body = b"" if form == "query" else bytes(dice.randrange(256) for _ in range(dice.randint(0, 40)))
    method = "GET" if form == "query" else dice.choice(["GET", "POST", "PUT", "DELETE"])
    request = AWSRequest(method=method, url=url, data=body)
    if form == "header":
        request.headers["Content-Type"] = dice.choice(["application/x-amz-json-1.1", "application/x-www-form-urlencoded; charset=utf-8"])
        request.headers["X-Amz-Target"] = "Route53Resolver.ListResolverRules"
        for name in dice.sample(["X-Custom", "X-Other", "Accept"], dice.randint(0, 3)):
            request.headers[name] = header() or "x"
        if dice.random() < 0.1:
            request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
    secret = "".join(dice.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/") for _ in range(40))
    token = "token/" + text(10).encode("ascii", "ignore").decode().strip() if dice.random() < 0.3 else None
    region, service = dice.choice(["us-east-1", "eu-west-3", "us-gov-west-1"]), dice.choice(["ec2", "route53", "route53resolver", "sts"])
    now = datetime.datetime(2026, 11, 30, 12, 0, 0) + datetime.timedelta(seconds=dice.randrange(10**7))
    botocore.auth.get_current_datetime = lambda *_, **__: now
    credentials = Credentials("AKIDTEST", secret, token)
    signer = (botocore.auth.SigV4QueryAuth if form == "query" else botocore.auth.SigV4Auth)(credentials, service, region)
    signer.add_auth(request)
    parts = urlsplit(request.url)
    # The path on the wire is that of the URL; urlsplit takes nothing away from it.
    wire = request.url[len(f"{parts.scheme}://{parts.netloc}"):]
    headers = [(name, value) for name, value in request.headers.items()]
    if not any(name.lower() == "host" for name, _ in headers):
        headers.append(("Host", host))
    print(json.dumps({
        "form": form, "method": method, "wire": wire, "headers": headers, "body": base64.b64encode(body).decode(),
        "secret": secret, "region": region, "service": service,
        "now": int(now.replace(tzinfo=datetime.timezone.utc).timestamp()),
    }))
