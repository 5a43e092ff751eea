"""Generates requests and results from botocore's models, and compares what zonal makes of them with botocore.

    codec.py generate SEED    # reads {service: [operation]}; prints one case a line
    codec.py compare          # reads cases with zonal's part; prints what differs, one a line
"""

import base64
import json
import random
import re
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree
from datetime import datetime, timezone

import botocore.loaders
from botocore.awsrequest import HeadersDict, create_request_object, prepare_request_dict
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

LOADER = botocore.loaders.Loader()
MODELS = {}
RANDOM_VARIANTS = 6
MAX_DEPTH = 7
# Texts for patterns and minimum lengths. The first that fits is taken.
TEXTS = ["name-1", "arn:aws:ec2:eu-west-1:1:vpc/v", "7", "52.1", "10.0.0.7", "30m", "Mon:01:00-Tue:02:00", "2026-11-30",
         "01234567-0123-0123-0123-0123456789ab", "arn:aws:outposts:eu-west-1:111122223333:outpost/op-" + "0" * 17]
# Characters that each protocol has to escape in its own way.
SPECIAL = ["a b", "ü€", "<&>'\"", "50%", "a+b=c&d", "/x/", "a\nb", "*.a.example.", "{}[]", "~-._", "\\052", "😀"]


def model(service):
    if service not in MODELS:
        MODELS[service] = ServiceModel(LOADER.load_service_model(service, "service-2"), service)
    return MODELS[service]


class Generator:
    """Values of shapes. `share` is the probability of members that are not required."""

    def __init__(self, seed, share, is_request):
        self.random = random.Random(seed)
        self.share = share
        self.is_request = is_request

    def text(self, shape):
        data = shape.metadata
        if "enum" in data:
            return self.random.choice(data["enum"])
        low, high = data.get("min", 0), data.get("max", 1 << 20)
        pattern = re.compile(data["pattern"].replace("\\u10000-\\u10FFFF", "")) if "pattern" in data else None
        fits = lambda text: low <= len(text) <= high and (not pattern or pattern.fullmatch(text))
        if not pattern and fits("x" * 3):
            text = self.random.choice(SPECIAL) + str(self.random.randrange(100))
            if fits(text):
                return text
        for text in TEXTS + ["x" * low]:
            if fits(text):
                return text
        sys.exit(f"{shape.name}: no text fits {data}")

    def number(self, shape):
        low, high = shape.metadata.get("min", -5), shape.metadata.get("max", 1000)
        return self.random.randint(int(low), int(min(high, int(low) + 100000)))

    def value(self, shape, depth=0):
        match shape.type_name:
            case "structure":
                found = {}
                for name, member in shape.members.items():
                    is_needed = name in shape.required_members
                    if is_needed or (depth < MAX_DEPTH and self.random.random() < self.share):
                        found[name] = self.value(member, depth + 1)
                return found
            case "list":
                low = max(shape.metadata.get("min", 1), 1)
                count = min(low + self.random.randrange(3), shape.metadata.get("max", 100))
                return [self.value(shape.member, depth + 1) for _ in range(max(count, 1))]
            case "map":
                return {self.value(shape.key): self.value(shape.value, depth + 1) for _ in range(2)}
            case "string":
                return self.text(shape)
            case "boolean":
                return self.random.random() < 0.5
            case "integer" | "long":
                return self.number(shape)
            case "float" | "double":
                return self.random.randrange(100) + 0.5
            case "timestamp":
                return datetime.fromtimestamp(1.7e9 + self.random.randrange(10**8), timezone.utc)
            case other:
                sys.exit(f"{shape.name}: the type {other} is new")


def plain(value, drops_empty=False):
    """A value as zonal has it: times are texts. Forms cannot say that a structure is empty."""
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, list):
        return [plain(item, drops_empty) for item in value]
    if isinstance(value, dict):
        members = {name: plain(item, drops_empty) for name, item in value.items()}
        return {name: item for name, item in members.items() if item != {} or not drops_empty}
    return value


def is_form(service):
    return model(service).metadata["protocol"] in ("ec2", "query")


def has_empty(value):
    """Whether a list has a member that a form cannot have."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return any(child == {} and isinstance(value, list) or has_empty(child) for child in children)


def wire(service, operation, parameters):
    """The request, as botocore's client would send it."""
    serializer = create_serializer(model(service).metadata["protocol"])
    request = serializer.serialize_to_request(parameters, model(service).operation_model(operation))
    request["context"] = {}
    prepare_request_dict(request, endpoint_url="http://127.0.0.1:1")
    prepared = create_request_object(request).prepare()
    url = urllib.parse.urlsplit(prepared.url)
    body = prepared.body or b""
    target = prepared.headers.get("X-Amz-Target")
    target = target.decode() if isinstance(target, bytes) else target
    body = body if isinstance(body, bytes) else body.encode()
    return {"method": prepared.method, "path": url.path, "query": url.query, "target": target,
            "body": base64.b64encode(body).decode()}


def generate(seed):
    for service, operations in sorted(json.load(sys.stdin).items()):
        for operation in operations:
            found = model(service).operation_model(operation)
            for variant in range(2 + RANDOM_VARIANTS):
                share = {0: 0.0, 1: 1.0}.get(variant, 0.4)
                case = {"service": service, "operation": operation}
                parameters = {}
                if found.input_shape:
                    generator = Generator(f"{seed} {service} {operation} {variant} request", share, True)
                    parameters = generator.value(found.input_shape)
                if is_form(service) and has_empty(parameters):
                    continue
                case["request"] = wire(service, operation, parameters)
                case["parameters"] = plain(parameters, is_form(service))
                case["result"] = {}
                if found.output_shape:
                    generator = Generator(f"{seed} {service} {operation} {variant} result", share, False)
                    case["result"] = plain(generator.value(found.output_shape))
                case["errors"] = sorted(shape.name for shape in found.error_shapes)
                print(json.dumps(case))


def tree(text):
    """XML without the differences that mean nothing."""
    def node(element):
        children = [node(child) for child in element]
        return [element.tag, "" if children else element.text or "", children]
    return node(ElementTree.fromstring(text)) if text else None


def body(protocol, octets):
    match protocol:
        case "ec2" | "query":
            return sorted(urllib.parse.parse_qsl(octets.decode(), keep_blank_values=True))
        case "rest-xml":
            # botocore sends no body if no member of the body is given; zonal sends the root without members.
            found = tree(octets)
            return found if found and found[2] else None
        case _:
            return json.loads(octets) if octets else {}


def compare():
    count = 0
    for line in sys.stdin:
        case = json.loads(line)
        service, operation = case["service"], case["operation"]
        protocol = model(service).metadata["protocol"]
        found = model(service).operation_model(operation)

        def expect(what, expected, actual):
            if expected != actual:
                print(f"{service}:{operation}: {what}: expected {expected}, found {actual}")

        for_request = lambda request: {
            "method": request["method"],
            "path": request["path"],
            "query": sorted(urllib.parse.parse_qsl(request["query"], keep_blank_values=True)),
            "target": request["target"],
            "body": body(protocol, base64.b64decode(request["body"])),
        }
        expect("request", for_request(case["request"]), for_request(case["zonal_request"]))
        parser = create_parser(protocol)
        reply = lambda reply: {"status_code": reply["status"], "headers": HeadersDict(reply["headers"]),
                               "body": base64.b64decode(reply["body"])}
        parsed = parser.parse(reply(case["zonal_result"]), found.output_shape)
        expect("status", found.http.get("responseCode", 200), case["zonal_result"]["status"])
        expect("request id", "r1", parsed.pop("ResponseMetadata").get("RequestId"))
        expect("result", case["result"], plain(parsed))
        for error in found.error_shapes:
            written = case["zonal_errors"][error.name]
            parsed = parser.parse(reply(written), found.output_shape)["Error"]
            code = error.metadata.get("error", {}).get("code", error.name)
            expect(error.name, [code, "why <not> & \"more\""], [parsed["Code"], parsed["Message"]])
            expect(error.name, error.metadata.get("error", {}).get("httpStatusCode", 400), written["status"])
        count += 1
    print(count, file=sys.stderr)


match sys.argv[1:]:
    case ["generate", seed]:
        generate(seed)
    case ["compare"]:
        compare()
    case _:
        sys.exit(__doc__)
