# The calls of Terraform's AWS provider for the resources of Route 53 Resolver, Route 53 and Profiles, in its order: create, wait, read twice,
# change, read, import by identifier, delete, and read until it is gone. The provider fails if a status is neither pending nor the
# target, if a member is missing, or if a second read differs.

resolver, route53 = client("route53resolver"), client("route53")
done = []


def waits(read, member, pending, target):
    """Reads until the status is the target."""
    for _ in range(10):
        status = read()[member]
        if status == target:
            return
        assert status in pending, f"{member}: unexpected state {status}, wanted {target}"
    raise AssertionError(f"{member} does not become {target}")


def is_gone(read, codes):
    found = refused(read)
    assert found[0] in codes, found


def sequence(name, create, read, fields, delete, gone, status=None, updates=(), tags=None):
    """Runs the calls for one resource. `updates` are pairs of a call and of the members that it changes."""
    made = create()
    for wait in status or []:
        waits(lambda: read(made), *wait)
    first = read(made)
    for field in fields:
        assert field in first, f"{name}: {field} is missing in {first}"
    assert read(made) == first, f"{name}: a second read differs"
    for change, expected in updates:
        change(made)
        for wait in status or []:
            waits(lambda: read(made), *wait)
        now = read(made)
        for member, value in expected.items():
            assert now.get(member) == value, f"{name}: {member} is {now.get(member)}, not {value}"
        assert read(made) == now
    if tags:
        arn = first["Arn"]
        resolver.tag_resource(ResourceArn=arn, Tags=[{"Key": "a", "Value": "b"}])
        assert {"Key": "a", "Value": "b"} in resolver.list_tags_for_resource(ResourceArn=arn)["Tags"]
        resolver.untag_resource(ResourceArn=arn, TagKeys=["a"])
        assert {"Key": "a", "Value": "b"} not in resolver.list_tags_for_resource(ResourceArn=arn)["Tags"]
    delete(made)
    is_gone(lambda: read(made), gone)
    done.append(name)


GONE = ["ResourceNotFoundException"]
SUBNETS = [{"SubnetId": "subnet-a"}, {"SubnetId": "subnet-b"}]


def endpoint(request):
    return resolver.create_resolver_endpoint(
        CreatorRequestId=request, Direction="OUTBOUND", IpAddresses=SUBNETS, SecurityGroupIds=["sg-1"], Name="tf",
        Protocols=["Do53"], ResolverEndpointType="IPV4",
    )["ResolverEndpoint"]["Id"]


def read_endpoint(id):
    found = resolver.get_resolver_endpoint(ResolverEndpointId=id)["ResolverEndpoint"]
    addresses = resolver.list_resolver_endpoint_ip_addresses(ResolverEndpointId=id)["IpAddresses"]
    assert all({"SubnetId", "Ip", "IpId"} <= set(address) for address in addresses), addresses
    return found


sequence(
    "aws_route53_resolver_endpoint",
    lambda: endpoint("tf-r53-resolver-endpoint-1"),
    read_endpoint,
    ["Arn", "Direction", "HostVPCId", "Name", "Protocols", "ResolverEndpointType", "SecurityGroupIds"],
    lambda id: resolver.delete_resolver_endpoint(ResolverEndpointId=id),
    GONE,
    status=[("Status", ["CREATING", "UPDATING"], "OPERATIONAL")],
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
    tags=True,
)

outbound = endpoint("tf-r53-resolver-endpoint-2")


def rule(request):
    return resolver.create_resolver_rule(
        CreatorRequestId=request, RuleType="FORWARD", DomainName="tf.example", Name="tf", ResolverEndpointId=outbound,
        TargetIps=[{"Ip": "192.0.2.53", "Port": 53, "Protocol": "Do53"}],
    )["ResolverRule"]["Id"]


sequence(
    "aws_route53_resolver_rule",
    lambda: rule("tf-r53-resolver-rule-1"),
    lambda id: resolver.get_resolver_rule(ResolverRuleId=id)["ResolverRule"],
    ["Arn", "DomainName", "Name", "OwnerId", "ResolverEndpointId", "RuleType", "ShareStatus", "TargetIps"],
    lambda id: resolver.delete_resolver_rule(ResolverRuleId=id),
    GONE,
    status=[("Status", ["UPDATING"], "COMPLETE")],
    updates=[
        (
            lambda id: resolver.update_resolver_rule(
                ResolverRuleId=id, Config={"Name": "tf-2", "ResolverEndpointId": outbound, "TargetIps": [{"Ip": "192.0.2.54", "Port": 53, "Protocol": "Do53"}]}
            ),
            {"Name": "tf-2", "TargetIps": [{"Ip": "192.0.2.54", "Port": 53, "Protocol": "Do53"}]},
        )
    ],
    tags=True,
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
)


def query_log(request):
    return resolver.create_resolver_query_log_config(CreatorRequestId=request, DestinationArn="arn:aws:s3:::tf", Name="tf")[
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
    tags=True,
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
config = resolver.update_resolver_config(ResourceId="vpc-app", AutodefinedReverseFlag="DISABLE")["ResolverConfig"]
listed = [found for found in resolver.list_resolver_configs()["ResolverConfigs"] if found["Id"] == config["Id"]]
assert listed == [config] and config["AutodefinedReverse"] == "DISABLED", listed
resolver.update_resolver_config(ResourceId="vpc-app", AutodefinedReverseFlag="ENABLE")
done.append("aws_route53_resolver_config")

config = resolver.update_resolver_dnssec_config(ResourceId="vpc-app", Validation="ENABLE")["ResolverDNSSECConfig"]
find = lambda: [found for found in resolver.list_resolver_dnssec_configs()["ResolverDnssecConfigs"] if found["Id"] == config["Id"]]
assert find()[0]["ValidationStatus"] == "ENABLED"
resolver.update_resolver_dnssec_config(ResourceId="vpc-app", Validation="DISABLE")
assert find()[0]["ValidationStatus"] == "DISABLED"
done.append("aws_route53_resolver_dnssec_config")

# Zones: the provider waits for the change, and looks for the NS records of private zones.
VPC = {"VPCRegion": "us-east-1", "VPCId": "vpc-app"}


def zone(name, **more):
    made = route53.create_hosted_zone(Name=name, CallerReference=f"terraform-{name}", HostedZoneConfig={"Comment": "Managed by Terraform"}, **more)
    waits(lambda: route53.get_change(Id=made["ChangeInfo"]["Id"])["ChangeInfo"], "Status", ["PENDING"], "INSYNC")
    return made["HostedZone"]["Id"]


def read_zone(id):
    found = route53.get_hosted_zone(Id=id)
    name = found["HostedZone"]["Name"]
    sets = route53.list_resource_record_sets(HostedZoneId=id, StartRecordName=name, StartRecordType="NS")["ResourceRecordSets"]
    assert sets[0]["Name"] == name and sets[0]["Type"] == "NS", sets
    route53.list_tags_for_resource(ResourceType="hostedzone", ResourceId=id.split("/")[-1])
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


def read_association(_):
    summaries = route53.list_hosted_zones_by_vpc(VPCId="vpc-far", VPCRegion="eu-west-1")["HostedZoneSummaries"]
    found = [one for one in summaries if one["HostedZoneId"] == home.split("/")[-1]]
    if not found:
        raise ClientError({"Error": {"Code": "NotFound"}}, "ListHostedZonesByVPC")
    return {**found[0], "OwningAccount": found[0]["Owner"]["OwningAccount"]}


far = {"VPCRegion": "eu-west-1", "VPCId": "vpc-far"}
sequence(
    "aws_route53_zone_association",
    lambda: route53.associate_vpc_with_hosted_zone(HostedZoneId=home, VPC=far),
    read_association,
    ["HostedZoneId", "OwningAccount"],
    lambda _: route53.disassociate_vpc_from_hosted_zone(HostedZoneId=home, VPC=far),
    ["NotFound"],
)

# DNS Firewall: the provider finds rules and the fail mode in lists.


def domain_list(name):
    id = resolver.create_firewall_domain_list(CreatorRequestId=f"tf-{name}", Name=name)["FirewallDomainList"]["Id"]
    resolver.update_firewall_domains(FirewallDomainListId=id, Operation="ADD", Domains=["bad.example"])
    return id


def read_domain_list(id):
    found = resolver.get_firewall_domain_list(FirewallDomainListId=id)["FirewallDomainList"]
    return {**found, "Domains": resolver.list_firewall_domains(FirewallDomainListId=id)["Domains"]}


def rule_group(name):
    return resolver.create_firewall_rule_group(CreatorRequestId=f"tf-{name}", Name=name)["FirewallRuleGroup"]["Id"]


def not_found():
    raise ClientError({"Error": {"Code": "NotFound"}}, "List")


sequence(
    "aws_route53_resolver_firewall_domain_list",
    lambda: domain_list("tf-1"),
    read_domain_list,
    ["Arn", "Name", "Domains"],
    lambda id: resolver.delete_firewall_domain_list(FirewallDomainListId=id),
    GONE,
    status=[("Status", ["UPDATING", "IMPORTING"], "COMPLETE")],
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
    tags=True,
)
sequence(
    "aws_route53_resolver_firewall_rule_group",
    lambda: rule_group("tf-1"),
    lambda id: resolver.get_firewall_rule_group(FirewallRuleGroupId=id)["FirewallRuleGroup"],
    ["Arn", "Name", "OwnerId", "ShareStatus"],
    lambda id: resolver.delete_firewall_rule_group(FirewallRuleGroupId=id),
    GONE,
    tags=True,
)

names, group = domain_list("tf-2"), rule_group("tf-2")
key = {"FirewallRuleGroupId": group, "FirewallDomainListId": names}


def read_firewall_rule(_):
    rules = resolver.list_firewall_rules(FirewallRuleGroupId=group)["FirewallRules"]
    return next((rule for rule in rules if rule["FirewallDomainListId"] == names), None) or not_found()


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
    updates=[
        (lambda _: resolver.update_firewall_rule(**key, Name="tf", Action="ALLOW", Priority=200), {"Action": "ALLOW", "Priority": 200}),
    ],
)
sequence(
    "aws_route53_resolver_firewall_rule_group_association",
    lambda: resolver.associate_firewall_rule_group(
        CreatorRequestId="tf-association", FirewallRuleGroupId=group, VpcId="vpc-app", Priority=101, Name="tf", MutationProtection="DISABLED"
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
    tags=True,
)

config = resolver.update_firewall_config(ResourceId="vpc-app", FirewallFailOpen="ENABLED")["FirewallConfig"]
assert [found for found in resolver.list_firewall_configs()["FirewallConfigs"] if found["Id"] == config["Id"]] == [config]
assert config["FirewallFailOpen"] == "ENABLED" and {"OwnerId", "ResourceId"} <= set(config), config
resolver.update_firewall_config(ResourceId="vpc-app", FirewallFailOpen="DISABLED")
done.append("aws_route53_resolver_firewall_config")


# Health checks.
def read_health_check(id):
    found = route53.get_health_check(HealthCheckId=id)["HealthCheck"]
    route53.list_tags_for_resource(ResourceType="healthcheck", ResourceId=id)
    return {**found, **found["HealthCheckConfig"]}


def health_check():
    config = {
        "Type": "HTTPS", "IPAddress": "127.0.0.1", "Port": 443, "ResourcePath": "/", "RequestInterval": 30, "FailureThreshold": 3,
        "MeasureLatency": False, "Inverted": False, "Disabled": True, "EnableSNI": True, "FullyQualifiedDomainName": "tf.example",
    }
    id = route53.create_health_check(CallerReference="tf-check", HealthCheckConfig=config)["HealthCheck"]["Id"]
    assert read_health_check(id)["HealthCheckConfig"] == config
    return id


sequence(
    "aws_route53_health_check",
    health_check,
    read_health_check,
    ["Id", "CallerReference", "HealthCheckVersion", "Type", "Port", "EnableSNI"],
    lambda id: route53.delete_health_check(HealthCheckId=id),
    ["NoSuchHealthCheck"],
    updates=[(lambda id: route53.update_health_check(HealthCheckId=id, FailureThreshold=5, EnableSNI=False), {"FailureThreshold": 5, "EnableSNI": False})],
)

# Profiles.
profiles = client("route53profiles")
PROFILE_STATUS = [("Status", ["CREATING", "UPDATING"], "COMPLETE")]


def profile(name):
    return profiles.create_profile(Name=name, ClientToken=f"tf-{name}")["Profile"]["Id"]


def read_profile(id):
    found = profiles.get_profile(ProfileId=id)["Profile"]
    assert profiles.list_tags_for_resource(ResourceArn=found["Arn"])["Tags"] == {}
    return found


sequence(
    "aws_route53profiles_profile",
    lambda: profile("tf-1"),
    read_profile,
    ["Arn", "OwnerId", "ShareStatus", "Status"],
    lambda id: profiles.delete_profile(ProfileId=id),
    GONE,
    status=PROFILE_STATUS,
)
base = profile("tf-2")
sequence(
    "aws_route53profiles_association",
    lambda: profiles.associate_profile(ProfileId=base, ResourceId="vpc-app", Name="tf")["ProfileAssociation"]["Id"],
    lambda id: profiles.get_profile_association(ProfileAssociationId=id)["ProfileAssociation"],
    ["Name", "OwnerId", "ProfileId", "ResourceId", "Status"],
    lambda id: profiles.disassociate_profile(ProfileId=base, ResourceId="vpc-app"),
    GONE,
    status=PROFILE_STATUS,
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
)
show(done)
