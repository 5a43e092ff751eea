# The resources of Route 53 Resolver, Route 53 and Profiles.

resolver, route53 = client("route53resolver"), client("route53")
GONE = ["ResourceNotFoundException"]
OWNER = {"OwnerId": "111122223333", "ShareStatus": "NOT_SHARED"}
TAGGED = {"Tags": pairs(Tags.FIRST)}
# The provider lists the tags of a resource by its ARN.
RESOLVER_TAGS = Tags(
    lambda made, found: mapping(resolver.list_tags_for_resource(ResourceArn=found["Arn"])["Tags"]),
    lambda made, found, tags: resolver.tag_resource(ResourceArn=found["Arn"], Tags=pairs(tags)),
    lambda made, found, keys: resolver.untag_resource(ResourceArn=found["Arn"], TagKeys=keys),
)
NAME_SERVERS = [name_server("192.0.2.10"), name_server("192.0.2.20")]


def target(number):
    return {"Ip": "127.0.0.1", "Port": NAME_SERVERS[number], "Protocol": "Do53"}


SUBNETS = [{"SubnetId": "subnet-a"}, {"SubnetId": "subnet-b"}]


def endpoint(request):
    return resolver.create_resolver_endpoint(
        CreatorRequestId=request, Direction="OUTBOUND", IpAddresses=SUBNETS, SecurityGroupIds=["sg-1"], Name="tf",
        Protocols=["Do53"], ResolverEndpointType="IPV4", **TAGGED,
    )["ResolverEndpoint"]["Id"]


def read_endpoint(id):
    found = resolver.get_resolver_endpoint(ResolverEndpointId=id)["ResolverEndpoint"]
    addresses = resolver.list_resolver_endpoint_ip_addresses(ResolverEndpointId=id)["IpAddresses"]
    assert all({"SubnetId", "Ip", "IpId"} <= set(address) for address in addresses), addresses
    return {**found, "SubnetIds": [address["SubnetId"] for address in addresses]}


sequence(
    "aws_route53_resolver_endpoint",
    lambda: endpoint("tf-r53-resolver-endpoint-1"),
    read_endpoint,
    ["Arn", "Direction", "HostVPCId", "Name", "Protocols", "ResolverEndpointType", "SecurityGroupIds"],
    lambda id: resolver.delete_resolver_endpoint(ResolverEndpointId=id),
    GONE,
    status=[("Status", ["CREATING", "UPDATING"], "OPERATIONAL")],
    defaults={
        "Direction": "OUTBOUND", "HostVPCId": "vpc-app", "IpAddressCount": 2, "Name": "tf", "Protocols": ["Do53"],
        "ResolverEndpointType": "IPV4", "SecurityGroupIds": ["sg-1"], "SubnetIds": ["subnet-a", "subnet-b"],
    },
    updates=[
        (lambda id: resolver.update_resolver_endpoint(ResolverEndpointId=id, Name="tf-2"), {"Name": "tf-2"}),
        (
            lambda id: resolver.associate_resolver_endpoint_ip_address(ResolverEndpointId=id, IpAddress={"SubnetId": "subnet-a"}),
            {"IpAddressCount": 3},
        ),
        (
            lambda id: resolver.disassociate_resolver_endpoint_ip_address(
                ResolverEndpointId=id,
                IpAddress={"IpId": resolver.list_resolver_endpoint_ip_addresses(ResolverEndpointId=id)["IpAddresses"][0]["IpId"]},
            ),
            {"IpAddressCount": 2},
        ),
    ],
    tags=RESOLVER_TAGS,
)

outbound = endpoint("tf-r53-resolver-endpoint-2")


def rule(request):
    return resolver.create_resolver_rule(
        CreatorRequestId=request, RuleType="FORWARD", DomainName="tf.example", Name="tf", ResolverEndpointId=outbound,
        TargetIps=[target(0)], **TAGGED,
    )["ResolverRule"]["Id"]


# A rule forwards when it is associated with a VPC.
RULE = [("www.tf.example",)]
sequence(
    "aws_route53_resolver_rule",
    lambda: rule("tf-r53-resolver-rule-1"),
    lambda id: resolver.get_resolver_rule(ResolverRuleId=id)["ResolverRule"],
    ["Arn", "DomainName", "Name", "OwnerId", "ResolverEndpointId", "RuleType", "ShareStatus", "TargetIps"],
    lambda id: resolver.delete_resolver_rule(ResolverRuleId=id),
    GONE,
    status=[("Status", ["UPDATING"], "COMPLETE")],
    defaults={
        **OWNER, "DomainName": "tf.example.", "Name": "tf", "ResolverEndpointId": outbound, "RuleType": "FORWARD", "TargetIps": [target(0)],
    },
    updates=[
        (
            lambda id: resolver.update_resolver_rule(
                ResolverRuleId=id, Config={"Name": "tf-2", "ResolverEndpointId": outbound, "TargetIps": [target(1)]}
            ),
            {"Name": "tf-2", "TargetIps": [target(1)]},
        )
    ],
    questions=RULE,
    answers=[["REFUSED"]] * 4,
    tags=RESOLVER_TAGS,
)

shared = rule("tf-r53-resolver-rule-2")
sequence(
    "aws_route53_resolver_rule_association",
    lambda: resolver.associate_resolver_rule(ResolverRuleId=shared, VPCId="vpc-app", Name="tf")["ResolverRuleAssociation"]["Id"],
    lambda id: resolver.get_resolver_rule_association(ResolverRuleAssociationId=id)["ResolverRuleAssociation"],
    ["Id", "Name", "ResolverRuleId", "VPCId"],
    lambda id: resolver.disassociate_resolver_rule(ResolverRuleId=shared, VPCId="vpc-app"),
    GONE,
    status=[("Status", ["CREATING"], "COMPLETE")],
    defaults={"Name": "tf", "ResolverRuleId": shared, "VPCId": "vpc-app"},
    updates=[
        (lambda _: resolver.update_resolver_rule(ResolverRuleId=shared, Config={"TargetIps": [target(1)]}), {}),
        (lambda _: resolver.update_resolver_rule(ResolverRuleId=shared, Config={"TargetIps": [target(0)]}), {}),
    ],
    questions=RULE,
    answers=[["REFUSED"], [["192.0.2.10"]], [["192.0.2.20"]], [["192.0.2.10"]], ["REFUSED"]],
)


def query_log(request):
    return resolver.create_resolver_query_log_config(CreatorRequestId=request, DestinationArn="arn:aws:s3:::tf", Name="tf", **TAGGED)[
        "ResolverQueryLogConfig"
    ]["Id"]


sequence(
    "aws_route53_resolver_query_log_config",
    lambda: query_log("tf-r53-rqlc-1"),
    lambda id: resolver.get_resolver_query_log_config(ResolverQueryLogConfigId=id)["ResolverQueryLogConfig"],
    ["Arn", "DestinationArn", "Name", "OwnerId", "ShareStatus"],
    lambda id: resolver.delete_resolver_query_log_config(ResolverQueryLogConfigId=id),
    GONE,
    status=[("Status", ["CREATING"], "CREATED")],
    defaults={**OWNER, "DestinationArn": "arn:aws:s3:::tf", "Name": "tf"},
    tags=RESOLVER_TAGS,
)

log = query_log("tf-r53-rqlc-2")
sequence(
    "aws_route53_resolver_query_log_config_association",
    lambda: resolver.associate_resolver_query_log_config(ResolverQueryLogConfigId=log, ResourceId="vpc-app")[
        "ResolverQueryLogConfigAssociation"
    ]["Id"],
    lambda id: resolver.get_resolver_query_log_config_association(ResolverQueryLogConfigAssociationId=id)[
        "ResolverQueryLogConfigAssociation"
    ],
    ["ResolverQueryLogConfigId", "ResourceId"],
    lambda id: resolver.disassociate_resolver_query_log_config(ResolverQueryLogConfigId=log, ResourceId="vpc-app"),
    GONE,
    status=[("Status", ["CREATING"], "ACTIVE")],
)

# Settings of a VPC: the provider finds them in lists.
def reverse(flag):
    return resolver.update_resolver_config(ResourceId="vpc-app", AutodefinedReverseFlag=flag)["ResolverConfig"]["Id"]


sequence(
    "aws_route53_resolver_config",
    lambda: reverse("DISABLE"),
    lambda id: only([found for found in resolver.list_resolver_configs()["ResolverConfigs"] if found["Id"] == id]),
    ["AutodefinedReverse", "OwnerId", "ResourceId"],
    # The provider has nothing to delete.
    lambda _: None,
    None,
    status=[("AutodefinedReverse", ["DISABLING"], "DISABLED")],
    defaults={"OwnerId": "111122223333", "ResourceId": "vpc-app"},
    questions=[("9.0.0.127.in-addr.arpa", "PTR")],
    answers=[[["ip-127-0-0-9.ec2.internal."]], ["REFUSED"], ["REFUSED"]],
)
reverse("ENABLE")
sees("aws_route53_resolver_config", [("9.0.0.127.in-addr.arpa", "PTR")], [["ip-127-0-0-9.ec2.internal."]], "ENABLE")


def validation(flag):
    return resolver.update_resolver_dnssec_config(ResourceId="vpc-app", Validation=flag)["ResolverDNSSECConfig"]["Id"]


def read_validation(id):
    found = only([found for found in resolver.list_resolver_dnssec_configs()["ResolverDnssecConfigs"] if found["Id"] == id])
    return found if found["ValidationStatus"] != "DISABLED" else not_found()


sequence(
    "aws_route53_resolver_dnssec_config",
    lambda: validation("ENABLE"),
    read_validation,
    ["ValidationStatus", "OwnerId", "ResourceId"],
    lambda _: validation("DISABLE"),
    ["NotFound"],
    status=[("ValidationStatus", ["ENABLING"], "ENABLED")],
    defaults={"OwnerId": "111122223333", "ResourceId": "vpc-app"},
)

# Zones: the provider waits for the change, and looks for the NS records of private zones.
VPC = {"VPCRegion": "us-east-1", "VPCId": "vpc-app"}


class Route53Tags(Tags):
    """Tags of Route 53: the provider changes them with one call for both."""

    def __init__(self, kind):
        bare = lambda id: {"ResourceType": kind, "ResourceId": id.split("/")[-1]}
        change = lambda id, **tags: route53.change_tags_for_resource(**bare(id), **tags)
        super().__init__(
            lambda id, found: mapping(route53.list_tags_for_resource(**bare(id))["ResourceTagSet"]["Tags"]),
            lambda id, found, tags: change(id, AddTags=pairs(tags)),
            lambda id, found, keys: change(id, RemoveTagKeys=keys),
        )

    def first(self, id):
        self.add(id, None, Tags.FIRST)
        return id


ZONE_TAGS, CHECK_TAGS = Route53Tags("hostedzone"), Route53Tags("healthcheck")


def zone(name, **more):
    made = route53.create_hosted_zone(Name=name, CallerReference=f"terraform-{name}", HostedZoneConfig={"Comment": "Managed by Terraform"}, **more)
    waits(lambda: route53.get_change(Id=made["ChangeInfo"]["Id"])["ChangeInfo"], "Status", ["PENDING"], "INSYNC")
    return ZONE_TAGS.first(made["HostedZone"]["Id"])


def read_zone(id):
    found = route53.get_hosted_zone(Id=id)
    name = found["HostedZone"]["Name"]
    sets = route53.list_resource_record_sets(HostedZoneId=id, StartRecordName=name, StartRecordType="NS")["ResourceRecordSets"]
    assert sets[0]["Name"] == name and sets[0]["Type"] == "NS", sets
    return {**found["HostedZone"], "VPCs": found.get("VPCs"), "Comment": found["HostedZone"]["Config"].get("Comment")}


def delete_zone(id):
    refused(route53.get_dnssec, HostedZoneId=id)
    sets = route53.list_resource_record_sets(HostedZoneId=id)["ResourceRecordSets"]
    others = [found for found in sets if found["Type"] not in ("NS", "SOA")]
    if others:
        changes = [{"Action": "DELETE", "ResourceRecordSet": found} for found in others]
        route53.change_resource_record_sets(HostedZoneId=id, ChangeBatch={"Changes": changes})
    made = route53.delete_hosted_zone(Id=id)["ChangeInfo"]
    waits(lambda: route53.get_change(Id=made["Id"])["ChangeInfo"], "Status", ["PENDING"], "INSYNC")


sequence(
    "aws_route53_zone",
    lambda: zone("tf-zone.example", VPC=VPC),
    read_zone,
    ["Id", "Name", "Config", "VPCs"],
    delete_zone,
    ["NoSuchHostedZone"],
    tags=ZONE_TAGS,
    defaults={
        "Name": "tf-zone.example.", "Config": {"Comment": "Managed by Terraform", "PrivateZone": True}, "VPCs": [VPC],
        "ResourceRecordSetCount": 2,
    },
    questions=[("none.tf-zone.example",)],
    answers=[["REFUSED"], *4 * [["NXDOMAIN"]], ["REFUSED"]],
    updates=[

        (lambda id: route53.update_hosted_zone_comment(Id=id, Comment="new"), {"Comment": "new"}),
        (
            lambda id: route53.associate_vpc_with_hosted_zone(HostedZoneId=id, VPC={"VPCRegion": "eu-west-1", "VPCId": "vpc-far"}),
            {"VPCs": [VPC, {"VPCRegion": "eu-west-1", "VPCId": "vpc-far"}]},
        ),
        (
            lambda id: route53.disassociate_vpc_from_hosted_zone(HostedZoneId=id, VPC={"VPCRegion": "eu-west-1", "VPCId": "vpc-far"}),
            {"VPCs": [VPC]},
        ),
    ],
)

home = zone("tf-records.example", VPC=VPC)


def change(action, values, ttl=300):
    record = {"Name": "*.tf-records.example", "Type": "TXT", "TTL": ttl, "ResourceRecords": [{"Value": value} for value in values]}
    batch = {"Comment": "Managed by Terraform", "Changes": [{"Action": action, "ResourceRecordSet": record}]}
    info = route53.change_resource_record_sets(HostedZoneId=home, ChangeBatch=batch)["ChangeInfo"]
    waits(lambda: route53.get_change(Id=info["Id"])["ChangeInfo"], "Status", ["PENDING"], "INSYNC")


def read_record(_):
    route53.get_hosted_zone(Id=home)
    sets = route53.list_resource_record_sets(
        HostedZoneId=home, StartRecordName="\\052.tf-records.example.", StartRecordType="TXT", MaxItems="1"
    )["ResourceRecordSets"]
    found = [one for one in sets if one["Name"] == "\\052.tf-records.example." and one["Type"] == "TXT"]
    if not found:
        raise ClientError({"Error": {"Code": "NotFound"}}, "ListResourceRecordSets")
    return found[0]


sequence(
    "aws_route53_record",
    lambda: change("CREATE", ['"a" "b"', '"c\\"d"']),
    read_record,
    ["Name", "Type", "TTL", "ResourceRecords"],
    lambda _: route53.change_resource_record_sets(
        HostedZoneId=home, ChangeBatch={"Changes": [{"Action": "DELETE", "ResourceRecordSet": read_record(None)}]}
    ),
    ["NotFound"],
    defaults={"TTL": 300, "ResourceRecords": [{"Value": '"a" "b"'}, {"Value": '"c\\"d"'}]},
    questions=[("any.tf-records.example", "TXT")],
    answers=[["NXDOMAIN"], [['"a" "b"', '"c\\"d"']], [['"new"']], ["NXDOMAIN"]],
    updates=[(lambda _: change("UPSERT", ['"new"'], 60), {"TTL": 60, "ResourceRecords": [{"Value": '"new"'}]})],
)

other = {"VPCRegion": "us-east-1", "VPCId": "vpc-other"}


def read_authorization(_):
    vpcs = route53.list_vpc_association_authorizations(HostedZoneId=home)["VPCs"]
    if other not in vpcs:
        raise ClientError({"Error": {"Code": "NotFound"}}, "ListVPCAssociationAuthorizations")
    return other


sequence(
    "aws_route53_vpc_association_authorization",
    lambda: route53.create_vpc_association_authorization(HostedZoneId=home, VPC=other),
    read_authorization,
    ["VPCId"],
    lambda _: route53.delete_vpc_association_authorization(HostedZoneId=home, VPC=other),
    ["NotFound"],
)


# A VPC of another zone than the first one.
away = zone("tf-away.example", VPC={"VPCRegion": "eu-west-1", "VPCId": "vpc-far"})


def read_association(_):
    summaries = route53.list_hosted_zones_by_vpc(VPCId="vpc-app", VPCRegion="us-east-1")["HostedZoneSummaries"]
    found = only([one for one in summaries if one["HostedZoneId"] == away.split("/")[-1]])
    return {**found, "OwningAccount": found["Owner"]["OwningAccount"]}


def changes_association(call):
    info = call(HostedZoneId=away, VPC=VPC)["ChangeInfo"]
    waits(lambda: route53.get_change(Id=info["Id"])["ChangeInfo"], "Status", ["PENDING"], "INSYNC")


sequence(
    "aws_route53_zone_association",
    lambda: changes_association(route53.associate_vpc_with_hosted_zone),
    read_association,
    ["HostedZoneId", "OwningAccount"],
    lambda _: changes_association(route53.disassociate_vpc_from_hosted_zone),
    ["NotFound"],
    defaults={"OwningAccount": "111122223333"},
    questions=[("none.tf-away.example",)],
    answers=[["REFUSED"], ["NXDOMAIN"], ["REFUSED"]],
)

# A delegation set has no tags and no updates.
sequence(
    "aws_route53_delegation_set",
    lambda: route53.create_reusable_delegation_set(CallerReference="tf-set")["DelegationSet"]["Id"],
    lambda id: route53.get_reusable_delegation_set(Id=id)["DelegationSet"],
    ["Id", "CallerReference", "NameServers"],
    lambda id: route53.delete_reusable_delegation_set(Id=id),
    ["NoSuchDelegationSet"],
    defaults={"CallerReference": "tf-set"},
)

# DNS Firewall: the provider finds rules and the fail mode in lists.


def domain_list(name):
    id = resolver.create_firewall_domain_list(CreatorRequestId=f"tf-{name}", Name=name, **TAGGED)["FirewallDomainList"]["Id"]
    resolver.update_firewall_domains(FirewallDomainListId=id, Operation="ADD", Domains=["bad.example"])
    return id


def read_domain_list(id):
    found = resolver.get_firewall_domain_list(FirewallDomainListId=id)["FirewallDomainList"]
    return {**found, "Domains": resolver.list_firewall_domains(FirewallDomainListId=id)["Domains"]}


def rule_group(name):
    return resolver.create_firewall_rule_group(CreatorRequestId=f"tf-{name}", Name=name, **TAGGED)["FirewallRuleGroup"]["Id"]


sequence(
    "aws_route53_resolver_firewall_domain_list",
    lambda: domain_list("tf-1"),
    read_domain_list,
    ["Arn", "Name", "Domains"],
    lambda id: resolver.delete_firewall_domain_list(FirewallDomainListId=id),
    GONE,
    status=[("Status", ["UPDATING", "IMPORTING"], "COMPLETE")],
    defaults={"Name": "tf-1", "Domains": ["bad.example."], "DomainCount": 1},
    updates=[
        (
            lambda id: resolver.update_firewall_domains(FirewallDomainListId=id, Operation="REPLACE", Domains=["*.worse.example"]),
            {"Domains": ["*.worse.example."]},
        ),
        (
            lambda id: resolver.update_firewall_domains(FirewallDomainListId=id, Operation="REMOVE", Domains=["*.worse.example"]),
            {"Domains": []},
        ),
    ],
    tags=RESOLVER_TAGS,
)
sequence(
    "aws_route53_resolver_firewall_rule_group",
    lambda: rule_group("tf-1"),
    lambda id: resolver.get_firewall_rule_group(FirewallRuleGroupId=id)["FirewallRuleGroup"],
    ["Arn", "Name", "OwnerId", "ShareStatus"],
    lambda id: resolver.delete_firewall_rule_group(FirewallRuleGroupId=id),
    GONE,
    defaults={**OWNER, "Name": "tf-1", "RuleCount": 0},
    tags=RESOLVER_TAGS,
)

names, group = domain_list("tf-2"), rule_group("tf-2")
guarded = resolver.associate_firewall_rule_group(
    CreatorRequestId="tf-0", FirewallRuleGroupId=group, VpcId="vpc-app", Priority=101, Name="tf"
)["FirewallRuleGroupAssociation"]["Id"]
# The name of the list, and the name of a private zone. A blocked name has an alias.
zone("bad.example", VPC=VPC)
BLOCKED, WALL = [("bad.example", "CNAME")], [["walled.example."]]
key = {"FirewallRuleGroupId": group, "FirewallDomainListId": names}


def read_firewall_rule(_):
    rules = resolver.list_firewall_rules(FirewallRuleGroupId=group)["FirewallRules"]
    return only([rule for rule in rules if rule["FirewallDomainListId"] == names])


sequence(
    "aws_route53_resolver_firewall_rule",
    lambda: resolver.create_firewall_rule(
        **key, CreatorRequestId="tf-rule", Name="tf", Action="BLOCK", BlockResponse="OVERRIDE", BlockOverrideDnsType="CNAME",
        BlockOverrideDomain="walled.example", BlockOverrideTtl=1, Priority=100, FirewallDomainRedirectionAction="INSPECT_REDIRECTION_DOMAIN",
    ),
    read_firewall_rule,
    ["FirewallRuleGroupId", "FirewallDomainListId", "Name", "Action", "BlockResponse", "BlockOverrideDomain", "BlockOverrideTtl", "Priority"],
    lambda _: resolver.delete_firewall_rule(**key),
    ["NotFound"],
    defaults={
        "Action": "BLOCK", "BlockOverrideDnsType": "CNAME", "BlockOverrideDomain": "walled.example", "BlockOverrideTtl": 1,
        "BlockResponse": "OVERRIDE", "FirewallDomainRedirectionAction": "INSPECT_REDIRECTION_DOMAIN", "Name": "tf", "Priority": 100,
    },
    updates=[
        (lambda _: resolver.update_firewall_domains(FirewallDomainListId=names, Operation="REPLACE", Domains=["x.example"]), {}),
        (lambda _: resolver.update_firewall_domains(FirewallDomainListId=names, Operation="REPLACE", Domains=["bad.example"]), {}),
        (lambda _: resolver.update_firewall_rule(**key, Name="tf", Action="ALLOW", Priority=200), {"Action": "ALLOW", "Priority": 200}),
        (
            lambda _: resolver.update_firewall_rule(**key, Name="tf", Action="BLOCK", BlockResponse="NXDOMAIN", Priority=200),
            {"Action": "BLOCK", "BlockResponse": "NXDOMAIN"},
        ),
    ],
    questions=BLOCKED,
    answers=[["NOERROR"], WALL, ["NOERROR"], WALL, ["NOERROR"], ["NXDOMAIN"], ["NOERROR"]],
)
resolver.disassociate_firewall_rule_group(FirewallRuleGroupAssociationId=guarded)
resolver.create_firewall_rule(**key, CreatorRequestId="tf-2", Name="tf", Action="BLOCK", BlockResponse="NXDOMAIN", Priority=100)
sequence(
    "aws_route53_resolver_firewall_rule_group_association",
    lambda: resolver.associate_firewall_rule_group(
        CreatorRequestId="tf-association", FirewallRuleGroupId=group, VpcId="vpc-app", Priority=101, Name="tf", MutationProtection="DISABLED", **TAGGED
    )["FirewallRuleGroupAssociation"]["Id"],
    lambda id: resolver.get_firewall_rule_group_association(FirewallRuleGroupAssociationId=id)["FirewallRuleGroupAssociation"],
    ["Arn", "FirewallRuleGroupId", "MutationProtection", "Name", "Priority", "VpcId"],
    lambda id: resolver.disassociate_firewall_rule_group(FirewallRuleGroupAssociationId=id),
    GONE,
    status=[("Status", ["UPDATING"], "COMPLETE")],
    updates=[
        (
            lambda id: resolver.update_firewall_rule_group_association(FirewallRuleGroupAssociationId=id, Name="tf-2", Priority=102),
            {"Name": "tf-2", "Priority": 102},
        )
    ],
    defaults={"FirewallRuleGroupId": group, "MutationProtection": "DISABLED", "Name": "tf", "Priority": 101, "VpcId": "vpc-app"},
    questions=BLOCKED,
    answers=[["NOERROR"], ["NXDOMAIN"], ["NXDOMAIN"], ["NOERROR"]],
    tags=RESOLVER_TAGS,
)



def fail_open(value):
    return resolver.update_firewall_config(ResourceId="vpc-app", FirewallFailOpen=value)["FirewallConfig"]["Id"]


def read_firewall_config(id):
    found = only([found for found in resolver.list_firewall_configs()["FirewallConfigs"] if found["Id"] == id])
    return found if found["FirewallFailOpen"] != "DISABLED" else not_found()


sequence(
    "aws_route53_resolver_firewall_config",
    lambda: fail_open("ENABLED"),
    read_firewall_config,
    ["FirewallFailOpen", "OwnerId", "ResourceId"],
    lambda _: fail_open("DISABLED"),
    ["NotFound"],
    defaults={"FirewallFailOpen": "ENABLED", "OwnerId": "111122223333", "ResourceId": "vpc-app"},
)


# Health checks.
def read_health_check(id):
    found = route53.get_health_check(HealthCheckId=id)["HealthCheck"]
    return {**found, **found["HealthCheckConfig"]}


def health_check():
    config = {
        "Type": "HTTPS", "IPAddress": "127.0.0.1", "Port": 443, "ResourcePath": "/", "RequestInterval": 30, "FailureThreshold": 3,
        "MeasureLatency": False, "Inverted": False, "Disabled": True, "EnableSNI": True, "FullyQualifiedDomainName": "tf.example",
    }
    id = CHECK_TAGS.first(route53.create_health_check(CallerReference="tf-check", HealthCheckConfig=config)["HealthCheck"]["Id"])
    assert read_health_check(id)["HealthCheckConfig"] == config
    return id


def fails_over(id, action="CREATE"):
    """Two records: the first one is answered with while the health check passes."""
    record = lambda side, address, **more: {
        "Name": "fail.tf-records.example", "Type": "A", "TTL": 0, "SetIdentifier": side, "Failover": side.upper(),
        "ResourceRecords": [{"Value": address}], **more,
    }
    records = [record("primary", "192.0.2.1", HealthCheckId=id), record("secondary", "192.0.2.2")]
    changes = [{"Action": action, "ResourceRecordSet": one} for one in records]
    route53.change_resource_record_sets(HostedZoneId=home, ChangeBatch={"Changes": changes})


# A disabled health check passes, so the provider's `invert_healthcheck` makes it fail.
sequence(
    "aws_route53_health_check",
    health_check,
    read_health_check,
    ["Id", "CallerReference", "HealthCheckVersion", "Type", "Port", "EnableSNI"],
    lambda id: route53.delete_health_check(HealthCheckId=id),
    ["NoSuchHealthCheck"],
    tags=CHECK_TAGS,
    updates=[
        (fails_over, {}),
        (lambda id: route53.update_health_check(HealthCheckId=id, FailureThreshold=5, EnableSNI=False), {"FailureThreshold": 5, "EnableSNI": False}),
        (lambda id: route53.update_health_check(HealthCheckId=id, Inverted=True), {"Inverted": True}),
        (lambda id: route53.update_health_check(HealthCheckId=id, Inverted=False), {"Inverted": False}),
        (lambda id: fails_over(id, "DELETE"), {}),
    ],
    questions=[("fail.tf-records.example",)],
    answers=[*2 * [["NXDOMAIN"]], *2 * [[["192.0.2.1"]]], [["192.0.2.2"]], [["192.0.2.1"]], *2 * [["NXDOMAIN"]]],
)

# Profiles.
profiles = client("route53profiles")
PROFILE_STATUS = [("Status", ["CREATING", "UPDATING"], "COMPLETE")]


PROFILE_TAGS = Tags(
    lambda made, found: profiles.list_tags_for_resource(ResourceArn=found["Arn"])["Tags"],
    lambda made, found, tags: profiles.tag_resource(ResourceArn=found["Arn"], Tags=tags),
    lambda made, found, keys: profiles.untag_resource(ResourceArn=found["Arn"], TagKeys=keys),
)


def profile(name):
    return profiles.create_profile(Name=name, ClientToken=f"tf-{name}", **TAGGED)["Profile"]["Id"]


def read_profile(id):
    return profiles.get_profile(ProfileId=id)["Profile"]


sequence(
    "aws_route53profiles_profile",
    lambda: profile("tf-1"),
    read_profile,
    ["Arn", "OwnerId", "ShareStatus", "Status"],
    lambda id: profiles.delete_profile(ProfileId=id),
    GONE,
    status=PROFILE_STATUS,
    tags=PROFILE_TAGS,
    defaults={**OWNER, "Name": "tf-1"},
)
base = profile("tf-2")
# The zone of another VPC, which the Profile brings into its VPCs.
zone_arn = "arn:aws:route53:::hostedzone/" + away.split("/")[-1]
to_zone = {"ProfileId": base, "ResourceArn": zone_arn}
profiles.associate_resource_to_profile(**to_zone, Name="zone")
PROFILE_QUESTIONS = [("none.tf-away.example",)]
def read_profile_association(id):
    found = profiles.get_profile_association(ProfileAssociationId=id)["ProfileAssociation"]
    # The provider makes this ARN by itself.
    return {**found, "Arn": f"arn:aws:route53profiles:us-east-1:111122223333:profile-association/{id}"}


sequence(
    "aws_route53profiles_association",
    lambda: profiles.associate_profile(ProfileId=base, ResourceId="vpc-app", Name="tf", **TAGGED)["ProfileAssociation"]["Id"],
    read_profile_association,
    ["Name", "OwnerId", "ProfileId", "ResourceId", "Status"],
    lambda id: profiles.disassociate_profile(ProfileId=base, ResourceId="vpc-app"),
    GONE,
    status=PROFILE_STATUS,
    tags=PROFILE_TAGS,
    defaults={"Name": "tf", "OwnerId": "111122223333", "ProfileId": base, "ResourceId": "vpc-app"},
    questions=PROFILE_QUESTIONS,
    answers=[["REFUSED"], ["NXDOMAIN"], ["REFUSED"]],
)
profiles.associate_profile(ProfileId=base, ResourceId="vpc-app", Name="tf")
profiles.disassociate_resource_from_profile(**to_zone)
sequence(
    "aws_route53profiles_resource_association (zone)",
    lambda: profiles.associate_resource_to_profile(**to_zone, Name="tf")["ProfileResourceAssociation"]["Id"],
    lambda id: profiles.get_profile_resource_association(ProfileResourceAssociationId=id)["ProfileResourceAssociation"],
    ["Name", "OwnerId", "ProfileId", "ResourceArn", "ResourceType", "Status"],
    lambda id: profiles.disassociate_resource_from_profile(**to_zone),
    GONE,
    status=PROFILE_STATUS,
    questions=PROFILE_QUESTIONS,
    answers=[["REFUSED"], ["NXDOMAIN"], ["REFUSED"]],
)
group_arn = resolver.get_firewall_rule_group(FirewallRuleGroupId=group)["FirewallRuleGroup"]["Arn"]
sequence(
    "aws_route53profiles_resource_association",
    lambda: profiles.associate_resource_to_profile(ProfileId=base, ResourceArn=group_arn, Name="tf", ResourceProperties='{"priority":102}')[
        "ProfileResourceAssociation"
    ]["Id"],
    lambda id: profiles.get_profile_resource_association(ProfileResourceAssociationId=id)["ProfileResourceAssociation"],
    ["Name", "OwnerId", "ProfileId", "ResourceArn", "ResourceProperties", "ResourceType", "Status"],
    lambda id: profiles.disassociate_resource_from_profile(ProfileId=base, ResourceArn=group_arn),
    GONE,
    status=PROFILE_STATUS,
    updates=[
        (
            lambda id: profiles.update_profile_resource_association(ProfileResourceAssociationId=id, ResourceProperties='{"priority":103}'),
            {"ResourceProperties": '{"priority":103}', "ResourceArn": group_arn},
        )
    ],
    defaults={"Name": "tf", "OwnerId": "111122223333", "ResourceProperties": '{"priority":102}'},
    questions=BLOCKED,
    answers=[["NOERROR"], ["NXDOMAIN"], ["NXDOMAIN"], ["NOERROR"]],
)
show(done)
