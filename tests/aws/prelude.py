"""The base of the scripts that call zonal with boto3: `sys.argv[1]` is the URL, `sys.argv[2]` the port for DNS. A script prints
one JSON value with `show`."""

import json
import re
import subprocess
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

# EC2 writes the states of endpoints with a small first letter, although its model does not.
NOT_CHECKED = {"VpcEndpoint.State", "VpcEndpointConnection.VpcEndpointState"}
# The secret of all access keys. A server without access keys takes any.
SECRET = "any-secret-of-all-accounts"
# Route 53 writes this member only if the request has it, although its model requires it.
NOT_REQUIRED = {"ListHostedZonesResponse.Marker", "ListHealthChecksResponse.Marker", "ListReusableDelegationSetsResponse.Marker"}


def conform(model, value, path):
    """Fails if a result does not follow the model: what a strict client would refuse."""
    match model.type_name:
        case "structure":
            for name in model.required_members:
                assert name in value or f"{model.name}.{name}" in NOT_REQUIRED, f"{path}: {name} is missing"
            for name, member in model.members.items():
                if name in value and f"{model.name}.{name}" not in NOT_CHECKED:
                    conform(member, value[name], f"{path}.{name}")
        case "list":
            for item in value:
                conform(model.member, item, f"{path}[]")
        case "string":
            if model.enum:
                assert value in model.enum, f"{path}: {value} is not one of {model.enum}"
            low, high = model.metadata.get("min", 0), model.metadata.get("max", 1 << 30)
            assert low <= len(value) <= high, f"{path}: the length of {value!r} is not from {low} to {high}"
            pattern = model.metadata.get("pattern", "").replace("\\u10000-\\u10FFFF", "")
            assert not pattern or re.fullmatch(pattern, value), f"{path}: {value!r} does not match {pattern}"


def check(parsed, model, **_):
    if "Error" not in parsed and model.output_shape:
        conform(model.output_shape, parsed, model.name)


def client(service, region="us-east-1", account="111122223333"):
    made = boto3.client(
        service,
        region_name=region,
        endpoint_url=sys.argv[1],
        aws_access_key_id=account,
        aws_secret_access_key=SECRET,
        config=Config(retries={"max_attempts": 0}),
    )
    made.meta.events.register("after-call.*.*", check)
    return made


def refused(call, **parameters):
    """Code and message of the error of a call."""
    try:
        result = call(**parameters)
    except ClientError as error:
        found = error.response["Error"]
        return [found["Code"], found.get("Message", "")]
    raise AssertionError(f"it is not refused: {result}")


def dig(name, rtype="A", server="127.0.0.1"):
    """The answer to the first query, by dig: its status, and the data of its records."""
    words = ["dig", "@" + server, "-p", sys.argv[2], "+tries=1", "+time=10", "+noall", "+comments", "+answer", name, rtype]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    records = [line.split(None, 4)[4] for line in text.splitlines() if line and not line.startswith(";")]
    return " ".join([re.search(r"status: (\w+)", text)[1], *sorted(records)])


def plain(result):
    return {name: value for name, value in result.items() if name != "ResponseMetadata"}


def show(value):
    print(json.dumps(value, default=str))
