"""The plug-in of pytest for `run_moto.py`: makes moto's tests use zonal."""

import json
import os
import time
import urllib.request

import botocore.client
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.models import ServerModeMockAWS
from prelude import check

# An account of AWS has a default VPC, which security groups without a VPC are in. zonal has none.
DEFAULT_VPC = "vpc-default"
MANIFEST = {"vpcs": {DEFAULT_VPC: {"region": "us-east-1", "cidr_blocks": ["172.31.0.0/16"]}}}

# The AZs of the Regions in which the tests of EC2 look for a default VPC.
ZONES = {
    "us-east-1": ("use1", "abcdef"),
    "us-west-1": ("usw1", "abc"),
    "us-west-2": ("usw2", "abcd"),
    "eu-west-1": ("euw1", "abc"),
}


def default_vpc(region):
    """The default VPC of a Region, with a subnet in each AZ."""
    short, letters = ZONES[region]
    zones = {region + letter: f"{short}-az{number}" for number, letter in enumerate(letters, 1)}
    subnet = lambda number, zone: {
        "availability_zone_id": zone,
        "cidr_blocks": [f"172.31.{16 * number}.0/20"],
        "aws": {"DefaultForAz": True},
    }
    return {
        "owner_id": DEFAULT_ACCOUNT_ID,
        "region": region,
        "cidr_blocks": ["172.31.0.0/16"],
        "availability_zones": zones,
        "subnets": {f"subnet-{zone}": subnet(number, zone) for number, zone in enumerate(zones.values())},
        "aws": {"IsDefault": True},
    }


def vpc(block, *subnets):
    """A VPC of the tests of Transit Gateways, which do not create it."""
    zone = {"availability_zone_id": "usw1-az1"}
    return {
        "owner_id": DEFAULT_ACCOUNT_ID,
        "region": "us-west-1",
        "cidr_blocks": [f"{block}.0.0/16"],
        "subnets": {id: {"cidr_blocks": [f"{block}.{number}.0/24"], **zone} for number, id in enumerate(subnets)},
    }


EC2_MANIFEST = {
    "vpcs": {
        **{f"vpc-default-{region}": default_vpc(region) for region in ZONES},
        "vpc-id": vpc("10.201", "sub1", "sub2", "sub3"),
        "vpc-id2": vpc("10.202", "sub4"),
    }
}


# The tests of DNSSEC settings do not create their VPCs.
DNSSEC_IDS = ["vpc-lifecycle-test", "vpc-A", "vpc-B", "vpc-C", *(f"vpc-page-{number}" for number in range(4))]
DNSSEC_MANIFEST = {"vpcs": {id: {"region": "us-east-1", "cidr_blocks": ["10.0.0.0/16"]} for id in DNSSEC_IDS}}


def reset(self):
    """Replaces the manifest."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "")
    of_test = EC2_MANIFEST if "test_ec2/" in test else DNSSEC_MANIFEST if "dnssec_config" in test else MANIFEST
    manifest = {"generation": time.time_ns() // 1000, **of_test}
    request = urllib.request.Request(
        os.environ["TEST_SERVER_MODE_ENDPOINT"] + "/v1/manifest",
        json.dumps(manifest).encode(),
        {"Content-Type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(request, timeout=30).read()


def with_account(init):
    """The key of the tests is an account, which zonal takes as the owner of what they create."""

    def wrapper(self, *arguments, **named):
        init(self, *arguments, **named)
        self._fake_creds["AWS_ACCESS_KEY_ID"] = DEFAULT_ACCOUNT_ID

    return wrapper


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Makes a test that is skipped fail: the list has tests that pass."""
    report = (yield).get_result()
    if report.skipped:
        report.outcome, report.longrepr = "failed", f"{item.nodeid} is skipped: {report.longrepr}"


def checked(call):
    """A call whose result is checked against the model."""

    def wrapper(self, operation, parameters):
        if operation == "CreateSecurityGroup" and "test_ec2/" not in os.environ.get("PYTEST_CURRENT_TEST", ""):
            parameters = {"VpcId": DEFAULT_VPC, **parameters}
        result = call(self, operation, parameters)
        check(parsed=result, model=self.meta.service_model.operation_model(operation))
        return result

    return wrapper


ServerModeMockAWS.__init__ = with_account(ServerModeMockAWS.__init__)
ServerModeMockAWS.reset = reset
botocore.client.BaseClient._make_api_call = checked(botocore.client.BaseClient._make_api_call)
