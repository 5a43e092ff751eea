#!/usr/bin/env python3
"""Runs moto's own tests of AWS's APIs against zonal.

    run_moto.py TESTS URL LIST [PYTEST-OPTION…]

TESTS is the directory `tests` of moto's source distribution, URL the admin address of a zonal whose manifest is pushed, and LIST a
file with one test on each line. The script replaces the manifest before each test. Responses are checked against the full models
of botocore, like those of all other tests.

A few of moto's tests expect texts of moto that AWS does not have. `CORRECTIONS` has them, with AWS's texts.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Texts in moto's tests, and what AWS has instead.
CORRECTIONS = [
    # The examples of the AWS CLI have times such as 2020-01-01T23:25:45.538Z.
    ('"%Y-%m-%dT%H:%M:%S.%f+00:00"', '"%Y-%m-%dT%H:%M:%S.%fZ"'),
    # MaxResults is a number: it has a value, and no length.
    ('"must have length less than or equal to 100"', '"must have value less than or equal to 100"'),
    # Rules can have outbound endpoints only: [RSLVR-00700]. This function makes the endpoints of rules, among others.
    (
        'SecurityGroupIds=[create_security_group(ec2_client)],\n        Direction="INBOUND",',
        'SecurityGroupIds=[create_security_group(ec2_client)],\n        Direction="OUTBOUND",',
    ),
    # Not each ARN is that of an endpoint.
    ("f\"Resolver endpoint with ID '{bad_arn}' does not exist\"", "f\"The resource '{bad_arn}' does not exist\""),
    (
        '"The hosted zone contains resource records that are not SOA or NS records."',
        '"The specified hosted zone contains non-required resource record sets and so cannot be deleted."',
    ),
    # A record set with a routing policy has an identifier.
    ('"Failover": "PRIMARY",', '"Failover": "PRIMARY", "SetIdentifier": "1",'),
    ('"GeoLocation": {"ContinentCode": "EU"},', '"GeoLocation": {"ContinentCode": "EU"}, "SetIdentifier": "1",'),
    (
        '"GeoLocation": {"CountryCode": "US", "SubdivisionCode": "NY"},',
        '"GeoLocation": {"CountryCode": "US", "SubdivisionCode": "NY"}, "SetIdentifier": "2",',
    ),
    # The maximum is 10, and only CALCULATED checks have the other threshold.
    ('"FailureThreshold": 123,', '"FailureThreshold": 10,'),
    ('"HealthThreshold": 123,', ""),
    # A peer is in its own Region.
    ('peer_region="us-east-1"', 'peer_region="us-west-1"'),
    ('PeerRegion="us-east-1",', 'PeerRegion="us-west-1",'),
    ("InvalidVpcPeeringConnectionId.NotFound", "InvalidVpcPeeringConnectionID.NotFound"),
    # An interface endpoint is of a service that exists, and private names need DNS host names.
    ('ServiceName="com.tester.my-test-endpoint",', 'ServiceName="com.amazonaws.us-west-1.sqs", PrivateDnsEnabled=False,'),
    ('VpcEndpointType="interface"', 'VpcEndpointType="Interface"'),
    # A subnet is in its VPC.
    ('VpcId="vpc-id2", SubnetIds=["sub1"]', 'VpcId="vpc-id2", SubnetIds=["sub4"]'),
    # EC2 clears the host bits of a block.
    ('random_cidr = f"{random_ip}/16"', 'random_cidr = f"{random_ip.rsplit(chr(46), 2)[0]}.0.0/16"'),
]


def main():
    tests, url, listed, *options = sys.argv[1:]
    lines = (line.strip() for line in Path(listed).read_text().splitlines())
    wanted = [line for line in lines if line and not line.startswith("#")]
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "tests")
        folders = {name.split("/")[0] for name in wanted}
        for path in Path(tests).iterdir():
            if path.suffix == ".py":
                shutil.copy(path, copied(copy) / path.name)
            elif path.name in folders:
                shutil.copytree(path, copy / path.name)
        for path in copy.rglob("*.py"):
            text = path.read_text()
            for moto, aws in CORRECTIONS:
                text = text.replace(moto, aws)
            path.write_text(text)
        environment = dict(
            os.environ,
            TEST_SERVER_MODE="true",
            TEST_SERVER_MODE_ENDPOINT=url,
            AWS_DEFAULT_REGION="us-east-1",
            AWS_MAX_ATTEMPTS="2",
            AWS_CONFIG_FILE="/dev/null",
            AWS_SHARED_CREDENTIALS_FILE="/dev/null",
            PYTHONPATH=str(Path(__file__).parent.resolve()),
        )
        command = [sys.executable, "-m", "pytest", "-q", "-p", "moto_plugin", "-p", "no:cacheprovider", "--tb=short", *options]
        command += [f"tests/{name}" for name in wanted]
        sys.exit(subprocess.run(command, cwd=directory, env=environment).returncode)


def copied(directory):
    directory.mkdir(exist_ok=True)
    return directory


if __name__ == "__main__":
    main()
