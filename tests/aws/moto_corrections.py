"""Texts of moto's tests that contradict AWS, each with the text that replaces it in the copy that `run_moto.py` runs.

The order counts: a text is searched in the result of the replacements before it.
"""

# Each account has the rule of the internet resolver, and each VPC an association with it. Lists begin with them.
AUTODEFINED = "rslvr-autodefined-"


def without_autodefined(member):
    """The expression of the items that a test has created, in a response."""
    return f'[item for item in response["{member}"] if not item["Id"].startswith("{AUTODEFINED}")]'


# The tests that add an address create this endpoint in one VPC, and the subnet of the address in another one.
CREATE_ENDPOINT = """    # create resolver
    random_num = mock_random.get_random_hex(10)
    resolver = create_test_endpoint(client, ec2_client, name=f"A-{random_num}")
"""

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
    # Route 53 Resolver has a higher limit of addresses, and more directions and types of rules, than moto.
    ("for x in range(11)]", "for x in range(21)]"),
    ("enum value set: [INBOUND, OUTBOUND]", "enum value set: [INBOUND, OUTBOUND, INBOUND_DELEGATION]"),
    ("enum value set: [FORWARD, SYSTEM, RECURSIVE]", "enum value set: [FORWARD, SYSTEM, RECURSIVE, DELEGATE]"),
    # AWS names the wrong item of a list, and does not write lists in the way of Python.
    (
        """f"Value '{too_many_ip_addresses}' at 'ipAddresses' failed to satisfy "
        f"constraint: Member must have length less than or equal to 10\"""",
        """"at 'ipAddresses' failed to satisfy "
        f"constraint: Member must have length less than or equal to 20\"""",
    ),
    (
        "'{too_many_security_groups}' at 'securityGroupIds' failed",
        "'{too_many_security_groups[0]}' at 'securityGroupIds.1.member' failed",
    ),
    ("'{bad_target_ips[1]}' at 'targetIps.port' failed", "'700000' at 'targetIps.2.member.port' failed"),
    (
        "Value '{subnet_too_long}' at 'ipAddresses.subnetId' failed",
        "Value '{'a' * 33}' at 'ipAddresses.1.member.subnetId' failed",
    ),
    # The pattern of the model is another one.
    (
        """^(?!^[0-9]+$)([a-zA-Z0-9-_' ']+)$\"
    ) in err["Message"]

    subnet_too_long""",
        """(?!^[0-9]+$)([a-zA-Z0-9\\-_' ']+)\"
    ) in err["Message"]

    subnet_too_long""",
    ),
    # The model says that an endpoint has at least two addresses.
    (
        '[{"SubnetId": "a" * 33, "Ip": "1.2.3.4"}]',
        '[{"SubnetId": "a" * 33, "Ip": "1.2.3.4"}, {"SubnetId": "b", "Ip": "1.2.3.5"}]',
    ),
    (
        """assert err["Code"] == "InvalidRequestException"
    assert "Resolver endpoint needs to have at least 2 IP addresses" in err["Message"]""",
        """assert err["Code"] == "ValidationException"
    assert "Member must have length greater than or equal to 2" in err["Message"]""",
    ),
    # An address of a VPC is in use once.
    (
        """            {"SubnetId": subnet_ids[0], "Ip": "10.0.1.200"},
            {"SubnetId": subnet_ids[1], "Ip": "10.0.0.20"},
            {"SubnetId": subnet_ids[0], "Ip": ip0_values""",
        """            {"SubnetId": subnet_ids[0], "Ip": f"10.0.1.10{idx}"},
            {"SubnetId": subnet_ids[1], "Ip": f"10.0.0.10{idx}"},
            {"SubnetId": subnet_ids[0], "Ip": ip0_values""",
    ),
    # The addresses of an endpoint are in its VPC.
    (CREATE_ENDPOINT, ""),
    (
        """    # create subnet
    vpc_id = create_vpc(ec2_client)
""",
        CREATE_ENDPOINT + """    # create subnet
    vpc_id = resolver["HostVPCId"]
""",
    ),
    # A FORWARD rule has targets.
    (
        """DomainName=f"X{random_num}.com",
        ResolverEndpointId=endpoint["Id"],""",
        """DomainName=f"X{random_num}.com",
        TargetIps=[{"Ip": "192.0.2.1"}],
        ResolverEndpointId=endpoint["Id"],""",
    ),
    # AWS lets nobody create RECURSIVE rules: [RSLVR-00718]. Only FORWARD rules have targets.
    ('"FORWARD" if idx % 2 else "RECURSIVE"', '"FORWARD" if idx % 2 else "SYSTEM"'),
    (
        """TargetIps=[{"Ip": f"10.0.1.{idx}", "Port": 50 + idx}],
            ResolverEndpointId=endpoint1 if idx % 2 else endpoint2,""",
        """**({
                "TargetIps": [{"Ip": f"10.0.1.{idx}", "Port": 50 + idx}],
                "ResolverEndpointId": endpoint1 if idx == 1 else endpoint2,
            } if idx % 2 else {}),""",
    ),
    # Lists have the autodefined rule, and the autodefined association of each VPC. An account has a default VPC.
    (
        'len(response["ResolverRules"]) == 0\n    assert response["MaxResults"]',
        'len(response["ResolverRules"]) == 1\n    assert response["MaxResults"]',
    ),
    (' rules = response["ResolverRules"]\n', f' rules = {without_autodefined("ResolverRules")}\n'),
    ("list_resolver_rules(MaxResults=1)", "list_resolver_rules(MaxResults=2)"),
    (
        """assert response["MaxResults"] == 1
    assert "NextToken" in response
    assert rules[0]""",
        """assert response["MaxResults"] == 2
    assert "NextToken" in response
    assert rules[0]""",
    ),
    (
        """"Status", "Values": ["COMPLETE"]}]
    )
    assert len(response["ResolverRules"]) == 4""",
        """"Status", "Values": ["COMPLETE"]}]
    )
    assert len(response["ResolverRules"]) == 5""",
    ),
    (
        'len(response["ResolverRuleAssociations"]) == 0\n    assert response["MaxResults"]',
        'len(response["ResolverRuleAssociations"]) == 1\n    assert response["MaxResults"]',
    ),
    (
        ' associations = response["ResolverRuleAssociations"]\n',
        f' associations = {without_autodefined("ResolverRuleAssociations")}\n',
    ),
    ("list_resolver_rule_associations(MaxResults=1)", "list_resolver_rule_associations(MaxResults=6)"),
    (
        """assert response["MaxResults"] == 1
    assert "NextToken" in response
    assert associations[0]""",
        """assert response["MaxResults"] == 6
    assert "NextToken" in response
    assert associations[0]""",
    ),
    (
        """"VPCId", "Values": [vpc_id2]}]
    )
    assert len(response["ResolverRuleAssociations"]) == 2""",
        """"VPCId", "Values": [vpc_id2]}]
    )
    assert len(response["ResolverRuleAssociations"]) == 3""",
    ),
    (
        """"Status", "Values": ["COMPLETE"]}]
    )
    assert len(response["ResolverRuleAssociations"]) == 4""",
        """"Status", "Values": ["COMPLETE"]}]
    )
    assert len(response["ResolverRuleAssociations"]) == 7""",
    ),
    # The model has no pattern for the key of a tag. A key has at most 128 characters.
    ('Tags=[{"Key": "foo!", "Value": "bar"}]', 'Tags=[{"Key": "f" * 129, "Value": "bar"}]'),
    (
        """"1 validation error detected: Value 'foo!' at 'tags.1.member.key' "
        "failed to satisfy constraint: Member must satisfy regular "
        "expression pattern\"""",
        """f"1 validation error detected: Value '{'f' * 129}' at 'tags.1.member.key' "
        "failed to satisfy constraint: Member must have length less than or equal to 128\"""",
    ),
    # AWS does not say in which order tags are listed. Keys of equal length have the same order by key and by creation.
    (
        "for x in range(1, ResolverEndpoint.MAX_TAGS_PER_RESOLVER_ENDPOINT)",
        "for x in range(101, 100 + ResolverEndpoint.MAX_TAGS_PER_RESOLVER_ENDPOINT)",
    ),
    ('[{"Key": "1_k", "Value": "1_v"}]', '[{"Key": "101_k", "Value": "101_v"}]'),
    (
        '{"Key": f"{x}_k", "Value": f"{x}_v"} for x in range(2, 12)',
        '{"Key": f"{x}_k", "Value": f"{x}_v"} for x in range(102, 112)',
    ),
    # Not each ARN is that of an endpoint.
    ("f\"Resolver endpoint with ID '{bad_arn}' does not exist\"", "f\"The resource '{bad_arn}' does not exist\""),
    (
        '"The hosted zone contains resource records that are not SOA or NS records."',
        '"The specified hosted zone contains non-required resource record sets and so cannot be deleted."',
    ),
    # These are the name servers of moto.
    (
        """    assert "ns-2048.awsdns-64.com" in delegation["NameServers"]
    assert "ns-2049.awsdns-65.net" in delegation["NameServers"]
    assert "ns-2050.awsdns-66.org" in delegation["NameServers"]
    assert "ns-2051.awsdns-67.co.uk" in delegation["NameServers"]
""",
        '    assert all(name.endswith(".delegation.zonal.internal") for name in delegation["NameServers"])\n',
    ),
    # A zone of the same name has another caller reference.
    (
        'CallerReference=str(hash("bar")),\n        HostedZoneConfig={"PrivateZone": False, "Comment": "test org 2"},',
        'CallerReference=str(hash("bar 2")),\n        HostedZoneConfig={"PrivateZone": False, "Comment": "test org 2"},',
    ),
    ('["CallerReference"] == str(hash("bar"))', '["CallerReference"] in (str(hash("bar")), str(hash("bar 2")))'),
    (
        'Name=domain1,\n        CallerReference=str(hash("foo")),\n    )',
        'Name=domain1,\n        CallerReference=str(hash("foo 2")),\n    )',
    ),
    (
        'CallerReference=str(hash("foo")),\n        DelegationSetId="1",',
        'CallerReference=str(hash("foo 3")),\n        DelegationSetId=new_delegation_set(conn, "2"),',
    ),
    (
        'CallerReference=str(hash("bar")),\n        DelegationSetId="2",',
        'CallerReference=str(hash("bar 3")),\n        DelegationSetId=new_delegation_set(conn, "3"),',
    ),
    # ListHostedZonesByName begins at a name, and goes on with the names after it. It returns the name as it is given.
    ('by_name(DNSName="test.b.com.")\n    assert len(zones["', 'by_name(DNSName="test.b.com.", MaxItems="1")\n    assert len(zones["'),
    ('by_name(DNSName="my.test.net.")', 'by_name(DNSName="my.test.net.", MaxItems="1")'),
    ('by_name(DNSName="my.test.net")', 'by_name(DNSName="my.test.net.", MaxItems="1")'),
    # A delegation set exists before a zone has it.
    (
        """    delegation_set_id = "N10015061S366L6NMTRKQ"
    conn = boto3.client("route53", region_name="us-east-1")
""",
        """    new_delegation_set = lambda conn, reference: conn.create_reusable_delegation_set(CallerReference=reference)[
        "DelegationSet"
    ]["Id"].split("/")[-1]
    conn = boto3.client("route53", region_name="us-east-1")
    delegation_set_id = new_delegation_set(conn, "1")
""",
    ),
    (', DelegationSetId="string"', ""),
    # The messages of a batch are a list.
    (
        "\"Tried to create resource record set [name='test.cname.local.', type='CNAME'] but it already exists\"",
        "\"[Tried to create resource record set [name='test.cname.local.', type='CNAME'] but it already exists]\"",
    ),
    # AWS no longer has the words of its XML parser for a value that is not one of an enumeration.
    (
        "\"Invalid XML ; cvc-enumeration-valid: Value 'INVALID_ACTION' is not facet-valid with respect to enumeration "
        "'[CREATE, DELETE, UPSERT]'. It must be a value from the enumeration.\"",
        "\"1 validation error detected: Value 'INVALID_ACTION' at 'changeBatch.changes.1.member.action' failed to satisfy "
        "constraint: Member must satisfy enum value set: [CREATE, DELETE, UPSERT]\"",
    ),
    # A record set that is no alias has values and a TTL.
    ('"ResourceRecords": [{"Value": "1.2.3.4"}],', '"TTL": 60, "ResourceRecords": [{"Value": "1.2.3.4"}],'),
    ('"ResourceRecords": [{"Value": "example.com"}],', '"TTL": 60, "ResourceRecords": [{"Value": "example.com"}],'),
    (
        '"SetIdentifier": identifier,',
        '"SetIdentifier": identifier, "TTL": 60, "ResourceRecords": [{"Value": "example.com"}],',
    ),
    (
        '"SetIdentifier": "success-test-foo",\n                        "Weight": 50,',
        '"SetIdentifier": "success-test-foo", "Weight": 50, "TTL": 60, "ResourceRecords": [{"Value": "example.com"}],',
    ),
    # A name with a CNAME record has no other records, and the record's value is a name.
    ('        ("CNAME", "b.b.db."),\n', ""),
    (
        '"Type": rec_type,\n                        "TTL": 10,\n                        "ResourceRecords": [{"Value": "127.0.0.1"}],',
        '"Type": rec_type, "TTL": 10, "ResourceRecords": [{"Value": {"A": "127.0.0.1", "CNAME": "a.a.db"}[rec_type]}],',
    ),
    # An alias in a zone leads to a record set of the zone.
    (
        '"Changes": [\n                {\n                    "Action": "CREATE",\n                    "ResourceRecordSet": {\n'
        '                        "Name": "alias.db.",',
        '"Changes": [\n                {"Action": "CREATE", "ResourceRecordSet": {"Name": "target.db.", "Type": "A", "TTL": 60,'
        ' "ResourceRecords": [{"Value": "192.0.2.1"}]}},\n                {"Action": "CREATE", "ResourceRecordSet": {\n'
        '                        "Name": "alias.db.",',
    ),
    (
        'DNSName="db.")["HostedZones"][0][\n        "Id"\n    ]',
        'DNSName="db.")["HostedZones"][0]["Id"].split("/")[-1]',
    ),
    # A record set is deleted with its current values, and texts are in quotation marks.
    (
        '"Type": "TXT",\n                    "TTL": 10,\n                    "ResourceRecords": [{"Value": "SomeInitialValue"}],\n'
        "                },\n            }\n        ],\n    }\n    conn.change_resource_record_sets(",
        '"Type": "TXT",\n                    "TTL": 60,\n                    "ResourceRecords": [{"Value": "SomeInitialValue&NewValue"}],\n'
        "                },\n            }\n        ],\n    }\n    conn.change_resource_record_sets(",
    ),
    ('{"Value": "SomeInitialValue"}', "{\"Value\": '\"SomeInitialValue\"'}"),
    ('{"Value": "SomeInitialValue&NewValue"}', "{\"Value\": '\"SomeInitialValue&NewValue\"'}"),
    # A record set with a routing policy has an identifier.
    ('"Failover": "PRIMARY",', '"Failover": "PRIMARY", "SetIdentifier": "1",'),
    ('"GeoLocation": {"ContinentCode": "EU"},', '"GeoLocation": {"ContinentCode": "EU"}, "SetIdentifier": "1",'),
    (
        '"GeoLocation": {"CountryCode": "US", "SubdivisionCode": "NY"},',
        '"GeoLocation": {"CountryCode": "US", "SubdivisionCode": "NY"}, "SetIdentifier": "2",',
    ),
    # Only some types have a search string.
    (
        '''"Type": "HTTP",
            "ResourcePath": "/",
            "FullyQualifiedDomainName": "example.com",
            "SearchString": "a good response",''',
        '''"Type": "HTTP_STR_MATCH",
            "ResourcePath": "/",
            "FullyQualifiedDomainName": "example.com",
            "SearchString": "a good response",''',
    ),
    # A test sends nothing to the internet.
    ("93.184.216.34", "192.0.2.34"),
    # The maximum is 10, and only CALCULATED checks have the other threshold.
    ('"FailureThreshold": 123,', '"FailureThreshold": 10,'),
    ('"HealthThreshold": 123,', ""),
    # A peer is in its own Region.
    ('peer_region="us-east-1"', 'peer_region="us-west-1"'),
    ('PeerRegion="us-east-1",', 'PeerRegion="us-west-1",'),
    ("InvalidVpcPeeringConnectionId.NotFound", "InvalidVpcPeeringConnectionID.NotFound"),
    # An interface endpoint is of a service that exists, and private names need DNS host names.
    (
        'ServiceName="com.tester.my-test-endpoint",',
        'ServiceName="com.amazonaws.us-west-1.sqs", PrivateDnsEnabled=False,',
    ),
    ('VpcEndpointType="interface"', 'VpcEndpointType="Interface"'),
    # A subnet is in its VPC.
    ('VpcId="vpc-id2", SubnetIds=["sub1"]', 'VpcId="vpc-id2", SubnetIds=["sub4"]'),
    # EC2 clears the host bits of a block.
    ('random_cidr = f"{random_ip}/16"', 'random_cidr = f"{random_ip.rsplit(chr(46), 2)[0]}.0.0/16"'),
]
