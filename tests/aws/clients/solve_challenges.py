"""certbot's plugin for Route 53: `perform` or `cleanup`, and the texts of the challenges for pub.example."""

import sys
from unittest import mock

from certbot_dns_route53._internal.dns_route53 import Authenticator


def challenge(text):
    made = mock.MagicMock(domain="pub.example")
    made.identifier.value = "pub.example"
    made.validation_domain_name = lambda domain: f"_acme-challenge.{domain}"
    made.validation = lambda key: text
    return made


authenticator = Authenticator(mock.MagicMock(), "dns-route53")
challenges = [challenge(text) for text in sys.argv[1:]]
authenticator.perform(challenges)
# A test reads the records now.
print("ready", flush=True)
sys.stdin.readline()
authenticator.cleanup(challenges)
