"""The plug-in of pytest for `run_moto.py`: makes moto's tests use zonal."""

import json
import os
import time
import urllib.request

import botocore.client
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.models import ServerModeMockAWS
from prelude import check

# An account of AWS has a default VPC, which security groups without a VPC are in. zonal has none.
DEFAULT_VPC = "vpc-default"
MANIFEST = {"vpcs": {DEFAULT_VPC: {"region": "us-east-1", "cidr_blocks": ["172.31.0.0/16"]}}}


def reset(self):
    """Replaces the manifest."""
    manifest = {"generation": time.time_ns() // 1000, **MANIFEST}
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


def checked(call):
    """A call whose result is checked against the model."""

    def wrapper(self, operation, parameters):
        if operation == "CreateSecurityGroup":
            parameters = {"VpcId": DEFAULT_VPC, **parameters}
        result = call(self, operation, parameters)
        check(parsed=result, model=self.meta.service_model.operation_model(operation))
        return result

    return wrapper


ServerModeMockAWS.__init__ = with_account(ServerModeMockAWS.__init__)
ServerModeMockAWS.reset = reset
botocore.client.BaseClient._make_api_call = checked(botocore.client.BaseClient._make_api_call)
